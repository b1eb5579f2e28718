"""DFTB+ as an engine: one scratch folder and one process per structure.

Figures on its behaviour are those of the project's notes on DFTB+: errors come on standard output with exit code 1,
a late failure leaves an empty results.tag, NaN in a table gives a NaN energy with exit code 0, and two OpenMP threads
on busy cores can be many times slower than one. So nothing is believed before it has been looked at, and one thread
is used.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms

from dftbparam.engine.base import Array, Result, Settings, settings_per_structure
from dftbparam.engine.dftbplus_input import (
    OLDEST_RELEASE,
    REGION,
    Release,
    input_text,
    parse_release,
    refuse,
)
from dftbparam.engine.dftbplus_output import error_text, parse_results_tag, read_eigenvalues, read_result
from dftbparam.engine.dftbplus_process import (
    INSTALL_HINT,
    NO_ROOM,
    check_exit,
    check_fresh,
    find_command,
    is_full,
    make_scratch,
    read_fresh,
    read_output,
    run_process,
)
from dftbparam.engine.hamiltonian import initial_moments
from dftbparam.errors import (
    DftbparamError,
    ElementError,
    EngineError,
    EngineMissing,
    InputError,
    ParameterError,
)
from dftbparam.skf.model import SKFile, SKSet, SplineRepulsion
from dftbparam.skf.read import find_files, infer_max_angular, read_skf
from dftbparam.skf.write import write_skf

PROBE_TIMEOUT = 30.0
"""Seconds to wait for the first lines of output that tell the release; they take 20 ms on an idle core."""

MESSAGE_LIMIT = 2000
"""Characters of an error's message: what a broken file holds may be repeated in it."""

HYDROGEN_MASS = 3.5
"""Atomic mass units. DFTB+ takes every element whose table names a smaller mass for hydrogen when it damps gamma."""

Keep = Literal["never", "failed", "always"]


class DftbPlusEngine:
    """The `Engine` that runs the DFTB+ program.

    Parameters
    ----------
    command
        Program, with arguments if need be; a string is split as a shell would, but no shell is used. None: the
        environment variable ``DFTBPLUS_COMMAND``, else ``dftb+`` on the PATH.
    timeout
        Wall time in seconds for one structure; then its process group is killed.
    scratch
        Folder under which scratch folders are made; None: the system's temporary folder.
    keep
        Which scratch folders to leave behind: those of ``"failed"`` structures (renamed to ``failed-...`` and named
        in the error as its ``scratch``), ``"always"`` or ``"never"``.

    Raises
    ------
    EngineMissing
        No such program, at construction; or a release older than 22.1, at the first use.
    ParameterError
        A timeout that is not positive, or an unknown ``keep``.
    """

    name = "dftb+"

    def __init__(
        self,
        command: str | Sequence[str] | None = None,
        *,
        timeout: float = 3600.0,
        scratch: str | Path | None = None,
        keep: Keep = "failed",
    ) -> None:
        if not timeout > 0.0:
            raise ParameterError(f"timeout = {timeout}: must be a positive number of seconds")
        if keep not in ("never", "failed", "always"):
            raise ParameterError(f"keep = {keep!r}: must be 'never', 'failed' or 'always'")
        self.command = find_command(command)
        self.timeout = timeout
        self.scratch = None if scratch is None else Path(scratch)
        self.keep = keep
        self._release: Release | None = None

    def versions(self) -> dict[str, str]:
        """The DFTB+ release and the parser version that inputs are written for."""
        release = self.release()
        return {"dftb+": release.name, "dftb+ parser": str(release.parser)}

    def release(self) -> Release:
        """Release of the program, asked once.

        Raises
        ------
        EngineMissing
            The program does not start, is not DFTB+, or is older than 22.1.
        EngineTimeout
            It says nothing.
        """
        if self._release is None:
            # Every release prints its banner before it looks for an input; in an empty folder that is all it does.
            folder = make_scratch(self.scratch)
            try:
                run_process([*self.command, "--version"], folder, min(PROBE_TIMEOUT, self.timeout))
                banner = read_output(folder / "stdout")
                if not banner:
                    # A full disk swallows what is printed; it, not the program, is to be named then.
                    (folder / "room").write_bytes(bytes(NO_ROOM))
            except OSError as error:
                raise EngineError(f"scratch folder {folder}: {error}") from None
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            found = parse_release(banner)
            if found is None:
                raise EngineMissing(
                    f"{shlex.join(self.command)} does not print a DFTB+ release, but {banner[:80]!r}; {INSTALL_HINT}",
                    command=self.command,
                )
            if found.parser == 0:
                raise EngineMissing(
                    f"DFTB+ {found.name} is too old: {OLDEST_RELEASE[0]}.{OLDEST_RELEASE[1]} or newer is needed; "
                    f"{INSTALL_HINT}",
                    command=self.command,
                )
            self._release = found
        return self._release

    def compute(
        self, tables: SKSet | Path, structures: Sequence[Atoms], settings: Settings | Sequence[Settings]
    ) -> list[Result | DftbparamError]:
        """Run DFTB+ on every structure; see `Engine.compute`.

        In-memory tables are written once per call; a folder of files is used as it is (without repulsion, as copies).
        The result's ``details`` hold ``eigenvalue_sum`` (DFTB+'s band energy: with the SCC shifts, unlike
        ``band_energy``); with Methfessel-Paxton filling ``mermin_energy``, DFTB+'s own free energy, whose entropy is
        not the one that belongs to the forces; and, where it was kept, the ``scratch`` folder.

        Bands take a second run, of one diagonalisation, in the folder ``bands`` below the first one's.
        """
        per_structure = settings_per_structure(settings, len(structures), self.name)
        for one in per_structure:
            refuse(one)
        source = _Tables(tables)
        source.load(structures)
        release = self.release()
        root, memory = make_scratch(self.scratch), _Memory()
        try:
            return [
                self._one(source, root, i, atoms, chosen, release, memory)
                for i, (atoms, chosen) in enumerate(zip(structures, per_structure, strict=True))
            ]
        finally:
            if self.keep == "never" or not any(root.glob("*-*")):
                shutil.rmtree(root, ignore_errors=True)

    def _one(
        self,
        source: _Tables,
        root: Path,
        number: int,
        atoms: Atoms,
        settings: Settings,
        release: Release,
        memory: _Memory,
    ) -> Result | DftbparamError:
        folder = root / f"{number:04d}"
        try:
            _check_structure(atoms, settings)
            folder.mkdir()
            result = self._run_one(source, folder, atoms, settings, release, memory)
        except (EngineMissing, KeyboardInterrupt):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except DftbparamError as error:
            return self._failed(folder, error)
        except OSError as error:
            return self._failed(folder, EngineError(f"scratch folder {folder}: {error}"))
        if self.keep == "always":
            return replace(result, details={**result.details, "scratch": str(_renamed(folder, "done"))})
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def _failed(self, folder: Path, error: DftbparamError) -> DftbparamError:
        message, data = error.message, error.data
        if len(message) > MESSAGE_LIMIT:
            message = message[:MESSAGE_LIMIT] + " ..."
        if isinstance(error, EngineError) and is_full(folder):
            message += "; the disk is full"
        # os.path.exists, unlike that of Path, raises nothing where the folder cannot be looked into.
        if os.path.exists(folder / "dftb_in.hsd") and self.keep != "never":
            kept = str(_renamed(folder, "failed"))
            message, data = f"{message} (scratch folder: {kept})", {**data, "scratch": kept}
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return error if message == error.message else type(error)(message, **data)

    def _run_one(
        self, source: _Tables, folder: Path, atoms: Atoms, settings: Settings, release: Release, memory: _Memory
    ) -> Result:
        symbols = sorted(set(atoms.symbols))
        files, max_angular = source.records(symbols, settings)
        if settings.hydrogen_damping is not None:
            _check_masses(files)
        # A short relative prefix: DFTB+ cuts long file names, and the folder can be moved and run again.
        source.provide(folder.parent, folder / "skf", files, repulsion=settings.repulsion)
        spin = settings.spin
        magnetic = None if spin is None else (spin.unpaired, tuple(initial_moments(atoms).tolist()))
        key = (
            tuple(atoms.symbols), tuple(max_angular[symbol] for symbol in symbols), settings.charge, magnetic,
            settings.shell_resolved,
        )  # fmt: skip
        reused = settings.scc and settings.reuse_charges and memory.key == key
        charges = folder / "charges.bin"
        if reused:
            charges.write_bytes(memory.charges)
            os.utime(charges, (0, 0))  # so that it shows if the run leaves it as it is

        def text(*, read_charges: bool, bands: bool) -> str:
            return input_text(
                atoms,
                settings,
                release=release,
                max_angular=max_angular,
                polynomial_pairs=_polynomial_pairs(files, settings.repulsion),
                read_charges=read_charges,
                bands=bands,
            )

        begin = time.monotonic()
        tag = self._execute(folder, text(read_charges=reused, bands=False))
        projected = None
        if settings.projections:
            projected = {
                (a, l): read_fresh(folder / f"{REGION}{a + 1}.{l + 1}.out", folder / "dftb_in.hsd")
                for a, symbol in enumerate(atoms.symbols)
                for l in range(max_angular[symbol] + 1)
            }
        detailed = read_fresh(folder / "detailed.out", folder / "dftb_in.hsd")
        result = read_result(tag, detailed, atoms, settings, max_angular, projected=projected)
        if settings.band_points is not None:
            if any(atoms.pbc):
                below = folder / "bands"
                below.mkdir()
                (below / "skf").symlink_to(Path("..") / "skf", target_is_directory=True)
                if settings.scc:
                    check_fresh(charges, folder / "dftb_in.hsd")
                    shutil.copyfile(charges, below / "charges.bin")
                spent = time.monotonic() - begin
                tag = self._execute(below, text(read_charges=settings.scc, bands=True), spent)
            result = replace(result, bands=_bands(tag, settings, periodic=any(atoms.pbc)))
        # Where only one iteration is allowed, DFTB+ leaves no charges, although they may be converged.
        if settings.scc and settings.reuse_charges and settings.max_scc_iterations > 1:
            check_fresh(charges, folder / "dftb_in.hsd")
            memory.key, memory.charges = key, charges.read_bytes()
        return result

    def _execute(self, folder: Path, text: str, spent: float = 0.0) -> str:
        """Run DFTB+ in a folder and return its results.tag; ``spent`` seconds of the time limit are gone already."""
        start = folder / "dftb_in.hsd"
        start.write_text(text, encoding="ascii")
        code = run_process(self.command, folder, self.timeout, spent)
        output = read_output(folder / "stdout")
        if not folder.is_dir():
            raise EngineError(f"the scratch folder {folder} vanished during the run")
        said = error_text(output)
        if said is not None and "compiled without" in said:
            raise EngineMissing(
                f"DFTB+ says: {said}; three-body terms of D3(BJ) need a DFTB+ built with -DWITH_SDFTD3=ON, "
                "or the embedded engine",
                command=self.command,
            )
        convergent = "ConvergentSCCOnly = Yes" in text
        check_exit(code, output, read_output(folder / "stderr"), convergent=convergent)
        return read_fresh(folder / "results.tag", start)


@dataclass
class _Memory:
    """The charges.bin of the structure before in a call, and what a structure that can start from it looks like."""

    key: object = None
    charges: bytes = b""


class _Tables:
    """The tables of one call: read on demand, laid out in scratch folders."""

    def __init__(self, tables: SKSet | Path) -> None:
        self._set = tables if isinstance(tables, SKSet) else None
        self._found = {} if isinstance(tables, SKSet) else find_files(tables)
        if self._set is None and not self._found:
            raise InputError(f"{tables}: no Slater-Koster file (X-Y.skf) here", path=str(tables))
        self._records: dict[tuple[str, str], SKFile] = {}

    def load(self, structures: Sequence[Atoms]) -> None:
        """Read what the structures need and the folder has: a malformed file concerns the whole call."""
        groups = [set(atoms.symbols) for atoms in structures] if self._set is None else []
        for a, b in sorted({(a, b) for group in groups for a in group for b in group} & set(self._found)):
            self._record(a, b)

    def records(
        self, symbols: Sequence[str], settings: Settings
    ) -> tuple[dict[tuple[str, str], SKFile], dict[str, int]]:
        """Files of all ordered pairs of these elements, and the highest angular momentum of each."""
        files: dict[tuple[str, str], SKFile] = {}
        have = self._found if self._set is None else self._set.files
        for symbol in symbols:
            if (symbol, symbol) not in have:
                known = ", ".join(a for a, b in have if a == b) or "none"
                raise ElementError(
                    f"the Slater-Koster tables have no element {symbol!r} (needs {symbol}-{symbol}.skf); "
                    f"they have: {known}",
                    symbol=symbol,
                )
        for a in symbols:
            for b in symbols:
                if (a, b) not in have:
                    raise InputError(f"the Slater-Koster tables lack {a}-{b}.skf", pair=(a, b))
                files[a, b] = self._record(a, b)
        asked = {**(self._set.max_angular if self._set is not None else {}), **(settings.max_angular or {})}
        max_angular: dict[str, int] = {}
        for symbol in symbols:
            homonuclear = files[symbol, symbol]
            l = asked[symbol] if symbol in asked else infer_max_angular(homonuclear)
            if not 0 <= l <= 3:
                raise InputError(f"highest angular momentum of {symbol} is {l}; it must be 0 (s) to 3 (f)")
            if l == 3 and not homonuclear.extended:
                raise InputError(
                    f"{symbol}-{symbol}: f orbitals need an extended ('@') file, this one is in the simple format",
                    symbol=symbol,
                )
            max_angular[symbol] = l
        return files, max_angular

    def _record(self, a: str, b: str) -> SKFile:
        if self._set is not None:
            return self._set.files[a, b]
        if (a, b) not in self._records:
            self._records[a, b] = read_skf(self._found[a, b], heteronuclear=a != b)
        return self._records[a, b]

    def provide(self, root: Path, link: Path, files: Mapping[tuple[str, str], SKFile], *, repulsion: bool) -> None:
        """Put the files into a folder of this call, each once, and make ``link`` point there."""
        folder = root / ("skf" if repulsion else "skf_without_repulsion")
        folder.mkdir(exist_ok=True)
        for (a, b), file in files.items():
            target = folder / f"{a}-{b}.skf"
            if target.is_symlink() or target.exists():
                continue
            if repulsion and self._set is None:
                target.symlink_to(self._found[a, b].resolve())
            else:
                try:
                    write_skf(target, file if repulsion else replace(file, repulsion=None))
                except InputError as error:
                    if isinstance(error.__context__, OSError):  # the disk's fault, not the table's
                        raise EngineError(f"scratch folder: {error.message}") from None
                    raise
        link.symlink_to(Path("..") / folder.name, target_is_directory=True)


def _renamed(folder: Path, head: str) -> Path:
    """Rename a scratch folder to ``head-...``; what cannot be renamed is kept under its own name."""
    try:
        return folder.rename(folder.parent / f"{head}-{folder.name}")
    except OSError:
        return folder


def _polynomial_pairs(files: Mapping[tuple[str, str], SKFile], repulsion: bool) -> list[tuple[str, str]]:
    """Ordered pairs for which no file has a spline: DFTB+ stops where it looks for one in vain."""

    def spline(a: str, b: str) -> bool:
        return repulsion and isinstance(files[a, b].repulsion, SplineRepulsion)

    return [(a, b) for a, b in files if not spline(a, b) and not spline(b, a)]


def _bands(tag: str, settings: Settings, *, periodic: bool) -> Array:
    """Eigenvalues (n, bands) or (2, n, bands) at the band points from the results.tag of a run at them.

    That of a molecule is of its one and only point, which then stands for all.
    """
    points = len(settings.band_points or ())
    found = read_eigenvalues(parse_results_tag(tag), 1 if settings.spin is None else 2, points if periodic else 1)
    if not periodic:
        found = np.repeat(found, points, axis=1)
    return found if settings.spin is not None else found[0]


def _check_masses(files: Mapping[tuple[str, str], SKFile]) -> None:
    """Damping of gamma for hydrogen goes by the masses in the tables: refuse those that would mislead DFTB+."""
    for (a, b), file in files.items():
        if a == b and (file.mass < HYDROGEN_MASS) != (a == "H"):
            raise InputError(
                f"{a}-{a}.skf names a mass of {file.mass:g}: DFTB+ would {'not ' if a == 'H' else ''}damp gamma as for "
                f"hydrogen there; write the mass of {a} into the file, or take the embedded engine",
                symbol=a,
            )


def _check_structure(atoms: Atoms, settings: Settings) -> None:
    """Refuse what DFTB+ would compute nonsense for in silence; distances by the measure of the embedded engine."""
    from dftbparam.engine.embedded.neighbours import MIN_DISTANCE, find_pairs, geometry

    structure = geometry(atoms)
    find_pairs(structure, MIN_DISTANCE)
    if structure.periodic and settings.stress and settings.charge:
        # Its energy holds the neutralising background, its stress (25.1) does not: 1e-4 atomic units in NaCl+.
        raise ParameterError(
            f"charge = {settings.charge:g} in a periodic cell: DFTB+ leaves the neutralising background out of the "
            "stress; ask for forces alone, or take the embedded engine"
        )
    if structure.periodic and settings.dispersion is not None and settings.dispersion.model == "d4":
        # Measured with 25.1, and the code is the same in all releases: its energy changes with EwaldParameter and is
        # not twice as large in twice the cell, already without three-body terms (which have the same fault in bcc Fe).
        raise ParameterError(
            "dispersion 'd4' in a periodic cell: DFTB+ adds up the charges and three-body terms of the images wrongly "
            "there; 'd3bj', or the embedded engine would be right",
            name="dispersion",
        )
