"""What models learn from: reference structures, the base calculation, and their differences.

The base is DFTB with a frozen set of Slater-Koster files; its energy is the Mermin free energy, of which its forces and
stress are derivatives. A model without a base (direct learning) learns the reference itself, by the same code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from dftbparam.delta.basis import VOIGT
from dftbparam.delta.descriptors import Array
from dftbparam.delta.inputs import BaseFeatures
from dftbparam.delta.statistics import Sample
from dftbparam.engine.base import Engine, Settings
from dftbparam.engine.factory import make_engine
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
from dftbparam.errors import DftbparamError, ElementError, ParameterError, ReferenceDataError
from dftbparam.reference import dataset_folder, list_datasets, load_dataset, load_frames, load_points
from dftbparam.reference.importers import Frame, ReadOptions, check_frame, identify, read_source
from dftbparam.reference.importers.frame import symbols_of
from dftbparam.reference.importers.settings import contradictions, settings_from
from dftbparam.skf.read import find_files
from dftbparam.units import HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

if TYPE_CHECKING:
    from ase import Atoms

COMPARED: Final = ("functional", "code", "cutoff", "spin", "hubbard", "potentials")
"""Settings that energies of one level must share. Smearing and k-points converge to the same numbers."""

BATCH: Final = 32
"""Structures in one call of an engine."""

MOST_FAILED: Final = 0.5
"""Where the base fails for more than this part of the structures, something else is wrong than the structures."""

GroupBy = Literal["crystal", "composition"]


@dataclass(frozen=True)
class Base:
    """The calculation that is corrected: a folder of Slater-Koster files, an engine and its settings.

    Attributes
    ----------
    settings
        k-points, temperature and the parts of the Hamiltonian; forces and stress are asked for as needed.
    """

    folder: Path
    settings: Settings = field(default_factory=lambda: Settings(kpt_density=3.0))
    engine: str | Engine = "embedded"
    command: str | None = None

    def record(self, symbols: Iterable[str]) -> dict[str, Any]:
        """Describe the base for a model's file: checksums of the files of these elements, engine, settings."""
        engine = make_engine(self.engine, command=self.command)
        return {
            "name": self.folder.resolve().name,
            "skf_sha256": skf_checksums(self.folder, symbols),
            "engine": engine.name,
            "versions": engine.versions(),
            "settings": settings_record(self.settings),
            "energy": "Mermin free energy",
        }

    def compute(
        self, structures: Sequence[Atoms], *, derivatives: bool = False, tell: Callable[[int], None] | None = None
    ) -> list[BaseResult | DftbparamError]:
        """Compute structures, in portions; one entry each, the error it ended in where it failed.

        Parameters
        ----------
        tell
            Called with the number of structures that are done.

        Raises
        ------
        ElementError
            An element without tables.
        """
        engine = make_engine(self.engine, command=self.command)
        tables = self._tables(structures, engine)
        found: list[BaseResult | DftbparamError] = []
        for start in range(0, len(structures), BATCH):
            some = structures[start : start + BATCH]
            settings = [
                replace(self.settings, forces=derivatives, stress=derivatives and bool(atoms.pbc.all()))
                for atoms in some
            ]
            for outcome in engine.compute(tables, some, settings):
                if isinstance(outcome, DftbparamError):
                    found.append(outcome)
                    continue
                found.append(
                    BaseResult(
                        outcome.free_energy * HARTREE,
                        None if outcome.forces is None else outcome.forces * HARTREE_PER_BOHR,
                        None if outcome.stress is None else outcome.stress[VOIGT] * HARTREE_PER_BOHR3,
                        BaseFeatures.of(outcome),
                    )
                )
            if tell is not None:
                tell(len(found))
        return found

    def _tables(self, structures: Sequence[Atoms], engine: Engine) -> Any:
        symbols = sorted({symbol for atoms in structures for symbol in symbols_of(atoms)})
        skf_checksums(self.folder, symbols)
        if engine.name != "embedded":
            return self.folder
        from dftbparam.engine.embedded import load_tables

        return load_tables(self.folder, symbols)


@dataclass(frozen=True)
class BaseResult:
    """Energy (eV), forces (eV/Angstrom) and stress (Voigt, eV/Angstrom^3, ASE's sign) of the base calculation.

    ``features`` are results that a model can take as inputs.
    """

    energy: float
    forces: Array | None
    stress: Array | None
    features: BaseFeatures | None = None


def settings_record(settings: Settings) -> dict[str, Any]:
    """Settings that decide energies, as JSON."""
    left_out = {"forces", "stress", "eigenvalues", "band_points", "projections", "reuse_charges"}
    values = {key: value for key, value in asdict(settings).items() if key not in left_out}
    values["kpts"] = list(settings.kpts)
    return values


def settings_from_record(record: Mapping[str, Any]) -> Settings:
    """Read `settings_record`'s JSON."""
    values = dict(record)
    values["kpts"] = tuple(values["kpts"])
    for name, kind in (("spin", Spin), ("third_order", ThirdOrder), ("dispersion", Dispersion)):
        if isinstance(values.get(name), dict):
            values[name] = kind(**values[name])
    return Settings(**values)


def skf_checksums(folder: Path, symbols: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files of all ordered pairs of elements, ``{"Si-O": ...}``.

    Raises
    ------
    ElementError
        A pair without file.
    """
    files = find_files(folder)
    names = sorted(set(symbols))
    pairs = [(a, b) for a in names for b in names]
    missing = [f"{a}-{b}" for a, b in pairs if (a, b) not in files]
    if missing:
        have = sorted(a for a, b in files if a == b)
        raise ElementError(
            f"{folder} has no Slater-Koster file for {', '.join(missing[:6])}; it has the elements "
            f"{', '.join(have) or 'none'}",
            missing=missing,
            available=have,
        )
    return {f"{a}-{b}": hashlib.sha256(Path(files[a, b]).read_bytes()).hexdigest() for a, b in pairs}


@dataclass(frozen=True)
class ReferenceFrame:
    """A structure with its reference energy, and the crystal and composition that it belongs to."""

    frame: Frame
    crystal: str
    composition: str


def composition_of(atoms: Atoms) -> str:
    """Reduced formula, elements in alphabetical order: ``Si``, ``O2Ti``."""
    symbols = symbols_of(atoms)
    counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    divisor = int(np.gcd.reduce(list(counts.values())))
    return "".join(f"{s}{n // divisor if n > divisor else ''}" for s, n in counts.items())


def read_reference(
    source: str | Path, *, group_key: str | None = None, options: ReadOptions | None = None
) -> list[ReferenceFrame]:
    """Read structures with energies: a reference set (its E(V) points and frames), or whatever can be imported.

    Parameters
    ----------
    source
        Name or folder of a reference set, extended xyz file, ASE database, VASP runs.
    group_key
        For extended xyz: the key of the comment line that names the crystal a structure was made from. Without it,
        the crystal is what `dftbparam.reference.importers.identify` recognises, else the structure's name, else its
        composition.

    Raises
    ------
    ReferenceDataError, FileFormatError, StructureError
        See `dftbparam.reference.importers.read_source`; NaN are refused there.
    """
    path = Path(source)
    if str(source) in list_datasets() or (path.is_dir() and (path / "dataset.toml").is_file()):
        return _of_dataset(source)
    found = read_source(path, options)
    if not found.frames:
        raise ReferenceDataError(f"{source}: no structures with energies", path=str(source))
    names = _group_names(path, group_key) if group_key else {}
    return [_grouped(frame, names.get(frame.source)) for frame in found.frames]


def without_number(name: str) -> str:
    """A name without the number at its end that tells copies of one crystal apart."""
    return re.sub(r"[\s_#.-]*\d+$", "", name)


def _grouped(frame: Frame, crystal: str | None = None) -> ReferenceFrame:
    composition = composition_of(frame.atoms)
    if crystal is None:
        identity = identify(frame.atoms)
        # Names that differ in a number at their end alone, "Si diamond 0007", are copies of one crystal.
        name = without_number(frame.name)
        if name.split()[:1] != [composition]:
            name = f"{composition} {name}".strip()
        crystal = identity.name if identity is not None else name
    return ReferenceFrame(frame, crystal, composition)


def _group_names(path: Path, key: str) -> dict[str, str]:
    """Crystal of each structure of an extended xyz file by its place, ``si.extxyz#3``."""
    from ase.io import read

    images: Any = read(path, index=":", format="extxyz")
    names = {}
    for index, atoms in enumerate(images, start=1):
        if key not in atoms.info:
            known = ", ".join(sorted(map(str, atoms.info))) or "none"
            raise ReferenceDataError(f"{path.name}#{index}: no {key!r} to group by; it has the keys {known}")
        names[f"{path.name}#{index}"] = f"{composition_of(atoms)} {atoms.info[key]}"
    return names


def _of_dataset(source: str | Path) -> list[ReferenceFrame]:
    from ase import Atoms

    dataset = load_dataset(source)
    found = []
    for points in load_points(source):
        # Differences between cutoffs are differences between energies; see the set's README.
        cutoff = dataset.cutoff(points.compound)
        settings: dict[str, Any] = {"functional": dataset.functional, "spin": dataset.spin}
        settings |= {} if cutoff is None else {"cutoff": cutoff}
        name = f"{points.compound} {points.prototype}"
        for index, (volume, energy) in enumerate(zip(points.volumes, points.energies, strict=True), start=1):
            atoms = points.atoms(volume)
            free = points.energies_free[index - 1] if points.energies_free else None
            frame = Frame(
                atoms=atoms,
                energy=energy * len(atoms),
                source=f"{dataset.name}/{name}#{index}",
                name=name,
                free_energy=None if free is None else free * len(atoms),
                settings=settings,
            )
            found.append(ReferenceFrame(check_frame(frame), name, composition_of(atoms)))
    folder = dataset_folder(source)
    for index, image in enumerate(load_frames(source), start=1):
        results = {} if image.calc is None else image.calc.results
        if "energy" not in results:
            raise ReferenceDataError(f"{folder.name}/frames.extxyz#{index}: no energy")
        frame = Frame(
            atoms=Atoms(image.numbers, positions=image.positions, cell=image.cell, pbc=image.pbc),
            energy=float(results["energy"]),
            source=f"{folder.name}/frames.extxyz#{index}",
            name=str(image.info.get("name", "")),
            free_energy=results.get("free_energy"),
            forces=results.get("forces"),
            stress=results.get("stress"),
            settings={"functional": dataset.functional, "spin": dataset.spin} | settings_from(image.info),
        )
        crystal = image.info.get("crystal")
        found.append(_grouped(check_frame(frame), None if crystal is None else str(crystal)))
    if not found:
        raise ReferenceDataError(f"reference set {dataset.name!r} holds no E(V) points and no structures")
    return found


def check_settings(frames: Sequence[ReferenceFrame]) -> None:
    """Raise `ReferenceDataError` where structures of one level were computed differently."""
    tables = [({k: v for k, v in f.frame.settings.items() if k in COMPARED}, f.frame.source) for f in frames]
    for name, values in contradictions(tables).items():
        shown = " and ".join(f"{value} ({where})" for value, where in values[:3])
        raise ReferenceDataError(
            f"mixed settings: {name} is {shown}; energies of one level must be computed alike: choose structures that "
            "are, or say that the difference does not matter (--allow-mixed)",
            setting=name,
        )


@dataclass(frozen=True)
class Differences:
    """What can be trained on: samples, and why structures were left out."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def differences(
    frames: Sequence[ReferenceFrame],
    base: Base | None,
    *,
    level: int = 0,
    group_by: GroupBy = "crystal",
    require: Sequence[str] = (),
    energies_only: bool = False,
    free_energy: bool = False,
    allow_mixed: bool = False,
    tell: Callable[[int], None] | None = None,
) -> Differences:
    """Subtract the base from the reference.

    Parameters
    ----------
    base
        None: learn the reference itself.
    group_by
        What cross-validation holds out together.
    require
        ``forces`` or ``stress``: structures without are refused instead of being used for what they have.
    energies_only
        Leave forces and stress out, and save the base their computation.
    free_energy
        Take the reference's Mermin free energy, of which its forces are derivatives, instead of the energy that is
        extrapolated to zero width; it must be known of all structures.
    allow_mixed
        Do not refuse structures that were computed differently.

    Raises
    ------
    ReferenceDataError
        Mixed settings; forces, stress or free energies that are missing; the base failed for most structures.
    ElementError
        An element without tables.
    """
    if not frames:
        raise ReferenceDataError("no structures with reference energies")
    if group_by not in ("crystal", "composition"):
        raise ParameterError(f"group_by is {group_by!r}; it must be 'crystal' or 'composition'")
    if not allow_mixed:
        check_settings(frames)
    for one in frames:
        for name in require:
            if getattr(one.frame, name) is None:
                raise ReferenceDataError(f"{one.frame.source}: no {name}, though asked for", source=one.frame.source)
        if free_energy and one.frame.free_energy is None:
            raise ReferenceDataError(f"{one.frame.source}: no free energy", source=one.frame.source)
    notes: list[str] = []
    outcomes: list[BaseResult | DftbparamError | None] = [None] * len(frames)
    if base is not None:
        wanted = [
            not energies_only and (one.frame.forces is not None or one.frame.stress is not None) for one in frames
        ]
        done = 0
        for derivatives in (False, True):
            mine = [index for index, value in enumerate(wanted) if value == derivatives]

            def count(number: int, before: int = done) -> None:
                if tell is not None:
                    tell(before + number)

            found = base.compute([frames[i].frame.atoms for i in mine], derivatives=derivatives, tell=count)
            for index, result in zip(mine, found, strict=True):
                outcomes[index] = result
            done += len(mine)
    samples = []
    for one, outcome in zip(frames, outcomes, strict=True):
        if isinstance(outcome, DftbparamError):
            notes.append(f"{one.frame.source} left out: {outcome.message}")
            continue
        samples.append(_sample(one, outcome, level, group_by, energies_only, free_energy))
    if len(notes) > MOST_FAILED * len(frames):
        raise ReferenceDataError(
            f"DFTB failed for {len(notes)} of {len(frames)} structures; the first: {notes[0]}", notes=notes
        )
    return Differences(tuple(samples), tuple(notes))


def _sample(
    one: ReferenceFrame,
    base: BaseResult | None,
    level: int,
    group_by: GroupBy,
    energies_only: bool,
    free_energy: bool,
) -> Sample:
    frame = one.frame
    reference = frame.free_energy if free_energy and frame.free_energy is not None else frame.energy
    forces = None if energies_only else frame.forces
    stress = None if energies_only or not frame.atoms.pbc.all() else frame.stress
    group = one.crystal if group_by == "crystal" else one.composition
    if base is None:
        return Sample(frame.atoms, reference, forces, stress, level, group, frame.source)
    return Sample(
        frame.atoms,
        reference - base.energy,
        None if forces is None or base.forces is None else forces - base.forces,
        None if stress is None or base.stress is None else stress - base.stress,
        level,
        group,
        frame.source,
        base.energy,
        base.forces,
        base.stress,
        base.features,
    )
