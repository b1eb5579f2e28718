"""Runs the standard list through two engines and judges."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.kpoints import divisions
from dftbparam.engine.validation.compare import TOLERANCES, differences
from dftbparam.engine.validation.systems import System, standard_systems
from dftbparam.errors import DftbparamError, EngineMissing, InputError, ParameterError, ScfNotConverged
from dftbparam.skf.model import SKSet
from dftbparam.skf.read import find_files


class Verdict(StrEnum):
    """What became of one system."""

    agree = "agree"
    disagree = "disagree"
    refused = "both refuse"
    unproven = "unproven"
    """One engine's charges converge, the other's do not: a matter of the search, not of the numbers."""


@dataclass(frozen=True)
class Comparison:
    """One system in two engines.

    Attributes
    ----------
    differences
        Largest absolute difference per quantity in atomic units, the energy per atom; empty without two results.
    iterations
        SCC iterations of the first and of the second engine; None for one that gave no result.
    reason
        What an engine said, or which quantities are too far apart; empty if all is well.
    scratch
        Folders an engine left of it, kept where the verdict is ``disagree`` or ``unproven``.
    """

    system: System
    verdict: Verdict
    differences: Mapping[str, float]
    iterations: tuple[int | None, int | None]
    reason: str = ""
    scratch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Validation:
    """All comparisons of a set, with what they were made from.

    Attributes
    ----------
    elements, pairs
        What was covered.
    missing
        Pairs of these elements that the set has no tables for; they are in no system.
    folders
        Where the files are from: the set's folder, then its bases.
    checksums
        SHA-256 of each file by name; ``checksum`` is that of all of them.
    engines
        Versions of both engines by their names.
    """

    comparisons: tuple[Comparison, ...]
    tolerances: Mapping[str, float]
    elements: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    full: bool
    engines: Mapping[str, Mapping[str, str]]
    checksums: Mapping[str, str]
    folders: tuple[str, ...] = ()

    @property
    def compared(self) -> int:
        """Systems that both engines gave a result for."""
        return sum(bool(one.differences) for one in self.comparisons)

    @property
    def agree(self) -> bool:
        """Whether something was compared, and nothing disagrees; what is unproven does not count."""
        return self.compared > 0 and all(one.verdict is not Verdict.disagree for one in self.comparisons)

    def count(self, verdict: Verdict) -> int:
        """Systems with this verdict."""
        return sum(one.verdict is verdict for one in self.comparisons)

    @property
    def worst_systems(self) -> dict[str, Comparison]:
        """Per quantity the system with the largest difference; one that is not a number is larger than any."""
        out: dict[str, Comparison] = {}
        for one in self.comparisons:
            for name, value in one.differences.items():
                if name not in out or not value <= out[name].differences[name]:
                    out[name] = one
        return out

    @property
    def worst(self) -> dict[str, float]:
        """Largest difference per quantity."""
        return {name: one.differences[name] for name, one in self.worst_systems.items()}

    @property
    def checksum(self) -> str:
        """SHA-256 of the names and checksums of all files."""
        text = "".join(f"{name} {value}\n" for name, value in sorted(self.checksums.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Everything as plain values for JSON; settings that are not the defaults stand with each system."""
        return {
            "agree": self.agree,
            "compared": self.compared,
            "verdicts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "units": "Hartree, Bohr, elementary charges; energies per atom; structures in Angstrom",
            "tolerances": dict(self.tolerances),
            "worst": _finite(self.worst),
            "worst_systems": {name: one.system.name for name, one in self.worst_systems.items()},
            "default_settings": asdict(Settings()),
            "folders": list(self.folders),
            "elements": list(self.elements),
            "pairs": [f"{a}-{b}" for a, b in self.pairs],
            "pairs_without_tables": [f"{a}-{b}" for a, b in self.missing],
            "full": self.full,
            "engines": {name: dict(versions) for name, versions in self.engines.items()},
            "checksum": self.checksum,
            "files": dict(self.checksums),
            "systems": [_as_record(one) for one in self.comparisons],
        }


def validate(
    tables_dir: str | Path,
    elements: Sequence[str] | None = None,
    full: bool = False,
    *,
    base: str | Path | Sequence[str | Path] = (),
    tolerance: float = TOLERANCES["energy"],
    engines: tuple[Engine, Engine] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Validation:
    """Run the embedded engine and DFTB+ over `standard_systems` of a folder of Slater-Koster files.

    Parameters
    ----------
    tables_dir
        Folder with X-Y.skf files. DFTB+ reads the files themselves, not what this package read from them.
    elements
        Elements to look at; None: all that have a homonuclear file.
    full
        Every pair of elements in every kind of system.
    base
        Folder of the set that this one extends or modifies, or several: files that ``tables_dir`` lacks are taken from
        the first that has them.
    tolerance
        Largest difference allowed in the energy, Hartree per atom; ten times that in everything else, atomic units.
    engines
        Two engines other than `default_engines`. Scratch folders that they name (``scratch`` in a result's details or
        in an error's data) are removed but for systems that disagree or are unproven.
    tell
        Called after each system with its name.

    Raises
    ------
    InputError
        No folder, no homonuclear file in it, one of the two files of a pair missing.
    ElementError
        An element that the set has no tables for.
    FileFormatError
        A malformed file.
    EngineMissing
        DFTB+ is not installed; the message says how to install it.
    """
    if not 0.0 < tolerance < 1.0:
        raise ParameterError(f"tolerance is {tolerance}; it must be a small positive number of Hartree per atom")
    bases = [Path(base)] if isinstance(base, str | Path) else [Path(one) for one in base]
    found = files_of(Path(tables_dir), *bases)
    systems = standard_systems(found, elements, full)
    symbols = list(dict.fromkeys(s for system in systems for s in system.elements))
    used = {(a, b): path for (a, b), path in found.items() if a in symbols and b in symbols}
    _check_partners(used)
    first, second = default_engines() if engines is None else engines
    scale = tolerance / TOLERANCES["energy"]
    tolerances = {name: value * scale for name, value in TOLERANCES.items()}
    with _one_folder(used) as folder:
        # Read once, and before anything is computed: a malformed file of the last pair shows at once.
        loaded = _load(used)
        comparisons = []
        for system in systems:
            comparisons.append(_compare(system, first, second, loaded, folder, tolerances))
            if tell is not None:
                tell(system.name)
        versions = {engine.name: engine.versions() for engine in (first, second)}
    pairs = {pair for system in systems for pair in _pairs(system.elements)}
    return Validation(
        comparisons=tuple(comparisons),
        tolerances=tolerances,
        elements=tuple(symbols),
        pairs=tuple(sorted(pairs)),
        missing=tuple((a, b) for i, a in enumerate(symbols) for b in symbols[i + 1 :] if (a, b) not in used),
        full=full,
        engines=versions,
        checksums={f"{a}-{b}": hashlib.sha256(path.read_bytes()).hexdigest() for (a, b), path in sorted(used.items())},
        folders=(str(tables_dir), *map(str, bases)),
    )


def default_engines(command: str | None = None) -> tuple[Engine, Engine]:
    """Return the embedded engine and DFTB+: ``command``, or as `DftbPlusEngine` finds it.

    Raises
    ------
    EngineMissing
        There is no such program, or it is not DFTB+.
    """
    from dftbparam.engine.dftbplus import DftbPlusEngine
    from dftbparam.engine.embedded import EmbeddedEngine

    other = DftbPlusEngine(command, keep="always")
    other.release()
    return EmbeddedEngine(), other


def files_of(folder: Path, *bases: Path) -> dict[tuple[str, str], Path]:
    """Files of a set by ordered pair, those it lacks from its bases; `InputError` where no element has any."""
    found = find_files(folder)
    if not found:
        raise InputError(f"{folder}: no Slater-Koster file (X-Y.skf) here", path=str(folder))
    for base in bases:
        found = {**find_files(base), **found}
    if not any(a == b for a, b in found):
        raise InputError(
            f"{folder}: no homonuclear Slater-Koster file (X-X.skf) here; if the set extends another, name that one "
            "as the base",
            path=str(folder),
        )
    return found


def _check_partners(used: Mapping[tuple[str, str], Path]) -> None:
    for (a, b), path in used.items():
        if (b, a) not in used:
            raise InputError(
                f"{path}: its partner {b}-{a}.skf is missing; DFTB+ needs both. If it is in the set that this one "
                "extends, name that one as the base",
                pair=(b, a),
            )


def _load(used: Mapping[tuple[str, str], Path]) -> SKSet:
    from dftbparam.skf.read import infer_max_angular, read_skf

    files = {(a, b): read_skf(path, heteronuclear=a != b) for (a, b), path in used.items()}
    return SKSet(files=files, max_angular={a: infer_max_angular(file) for (a, b), file in files.items() if a == b})


@contextmanager
def _one_folder(used: Mapping[tuple[str, str], Path]) -> Iterator[Path]:
    """Folder with a link to every file, under one kind of name."""
    with tempfile.TemporaryDirectory(prefix="dftbparam-validate-") as name:
        for (a, b), path in used.items():
            (Path(name) / f"{a}-{b}.skf").symlink_to(path.resolve())
        yield Path(name)


def _compare(
    system: System, first: Engine, second: Engine, loaded: SKSet, folder: Path, tolerances: Mapping[str, float]
) -> Comparison:
    outcomes = []
    for engine, tables in ((first, loaded), (second, folder)):
        try:
            outcomes.append(engine.compute(tables, [system.atoms], system.settings)[0])
        except EngineMissing:
            raise
        except DftbparamError as error:
            # Tables and settings are those of one system here: what concerns the call concerns this system.
            outcomes.append(error)
    judged = _judge(system, (first.name, second.name), (outcomes[0], outcomes[1]), tolerances)
    scratch = [left for left in map(_scratch, outcomes) if left is not None]
    if judged.verdict in (Verdict.disagree, Verdict.unproven):
        return replace(judged, scratch=tuple(scratch))
    for left in scratch:
        _remove(Path(left))
    return judged


Outcome = Result | DftbparamError


def _judge(
    system: System, names: tuple[str, str], outcomes: tuple[Outcome, Outcome], tolerances: Mapping[str, float]
) -> Comparison:
    ours, theirs = outcomes
    iterations = tuple(x.scc_iterations if isinstance(x, Result) else None for x in outcomes)
    if isinstance(ours, Result) and isinstance(theirs, Result):
        n_points = 1
        for n in divisions(system.atoms, system.settings):
            n_points *= n
        found = differences(ours, theirs, system.settings, n_points)
        # "not <=", so that NaN is a disagreement
        far = [name for name, value in found.items() if not value <= tolerances.get(name, tolerances["charges"])]
        verdict = Verdict.disagree if far else Verdict.agree
        return Comparison(system, verdict, found, (iterations[0], iterations[1]), ", ".join(far))
    failed = [x for x in outcomes if isinstance(x, DftbparamError)]
    said = [
        # Folders stand in the record of their own; those that are removed are not to be named.
        f"{name}: {type(x).__name__}: {x.message.replace(f' (scratch folder: {_scratch(x)})', '')}"
        for name, x in zip(names, outcomes, strict=True)
        if isinstance(x, DftbparamError)
    ]
    if len(failed) == 2 and type(ours) is type(theirs):
        verdict = Verdict.refused
    elif len(failed) == 1 and isinstance(failed[0], ScfNotConverged):
        verdict = Verdict.unproven
    else:
        verdict = Verdict.disagree
    return Comparison(system, verdict, {}, (iterations[0], iterations[1]), "; ".join(said))


def _scratch(outcome: Outcome) -> str | None:
    """Return the folder that an engine left behind, if it says so."""
    found = (outcome.details if isinstance(outcome, Result) else outcome.data).get("scratch")
    return None if found is None else str(found)


def _remove(folder: Path) -> None:
    """Remove a structure's scratch folder, and that of its call, which holds links to the tables, with the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    call = folder.parent
    if call.name.startswith("dftbparam-") and not any(call.glob("*-*")):
        shutil.rmtree(call, ignore_errors=True)


def _pairs(symbols: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(symbols) for b in symbols[i:]]


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON knows neither NaN nor infinity."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _as_record(one: Comparison) -> dict[str, Any]:
    atoms, default = one.system.atoms, asdict(Settings())
    return {
        "name": one.system.name,
        "verdict": one.verdict.value,
        "reason": one.reason,
        "differences": _finite(one.differences),
        "iterations": list(one.iterations),
        "scratch": list(one.scratch),
        "settings": {k: v for k, v in asdict(one.system.settings).items() if v != default[k]},
        "structure": {
            "symbols": [str(s) for s in atoms.symbols],
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist() if atoms.pbc.any() else None,
        },
    }
