"""Extended xyz files and ASE databases: energies (eV), forces (eV/Angstrom), stress (eV/Angstrom^3, ASE's sign)."""

from __future__ import annotations

import io
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dftbparam.errors import FileFormatError, ReferenceDataError
from dftbparam.reference.dataset import count_frames
from dftbparam.reference.importers.files import as_text, read_bytes
from dftbparam.reference.importers.frame import Frame, Intake, ReadOptions, Source, check_frame
from dftbparam.reference.importers.settings import settings_from

if TYPE_CHECKING:
    from ase import Atoms

NAME_KEYS: Final = ("name", "label", "config_type")
"""Where files have a name of a structure, in this order."""

SQLITE: Final = b"SQLite format 3\x00"


def read_extxyz(path: Path, options: ReadOptions) -> Source:
    """Read an extended xyz file.

    Raises
    ------
    FileFormatError
        Not an extended xyz file, or truncated.
    ReferenceDataError
        A structure without energy; the message names keys that look like one.
    StructureError
        See `check_frame`.
    """
    from ase.io import read

    content = read_bytes(path)
    text = as_text(content, path)
    if not count_frames(content, str(path)):
        raise FileFormatError("the file holds no structure", path=str(path))
    try:
        images: Any = read(io.StringIO(text), index=":", format="extxyz")
    except Exception as error:  # ASE's reader raises whatever it stumbles over
        reason = str(error).removeprefix("ase.io.extxyz: ") or type(error).__name__
        raise FileFormatError(f"not an extended xyz file ({reason})", path=str(path)) from None
    intake = Intake(options)
    rows = [_Row(atoms, f"{path.name}#{index}", atoms.info) for index, atoms in enumerate(images, start=1)]
    return _source(path, "extended xyz", rows, intake)


def read_database(path: Path, options: ReadOptions) -> Source:
    """Read an ASE database, SQLite (``.db``) or JSON; the file is not changed.

    Raises
    ------
    FileFormatError
        Not an ASE database, or damaged.
    ReferenceDataError
        A structure without energy.
    StructureError
        See `check_frame`.
    """
    try:
        rows = list(_database_rows(path))
    except FileFormatError:
        raise
    except Exception as error:  # sqlite, JSON, and ASE's decoder raise whatever they stumble over
        raise FileFormatError(
            f"not a readable ASE database ({type(error).__name__}: {error})", path=str(path)
        ) from None
    if not rows:
        raise FileFormatError("the database holds no structure", path=str(path))
    return _source(path, "ASE database", rows, Intake(options))


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    with path.open("rb") as handle:
        return handle.read(len(SQLITE)) == SQLITE


class _Row:
    """A structure with a calculator that holds its results, and what else the file says about it."""

    def __init__(self, atoms: Atoms, source: str, info: Mapping[str, Any]) -> None:
        self.atoms, self.source, self.info = atoms, source, info

    @property
    def results(self) -> Mapping[str, Any]:
        calculator = self.atoms.calc
        return {} if calculator is None else calculator.results


def _database_rows(path: Path) -> Iterator[_Row]:
    from ase.db import connect

    if path.stat().st_size == 0:
        raise FileFormatError("the file is empty", path=str(path))
    sqlite = is_sqlite(path)
    if sqlite:
        # ASE adds its tables to a database that has none; a user's file is not to be changed.
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
        if "systems" not in tables:
            raise FileFormatError("an SQLite database, but not one of ASE: it has no table 'systems'", path=str(path))
    open_database: Any = connect  # ASE's is untyped
    database = open_database(str(path), type="db" if sqlite else "json", use_lock_file=False)
    for row in database.select():
        info = dict(row.key_value_pairs)
        parameters = row.get("calculator_parameters", {})
        if isinstance(parameters, dict):
            info = {**parameters, **info}
        if isinstance(row.get("calculator"), str) and row.calculator != "unknown":
            info.setdefault("code", row.calculator)
        if isinstance(row.get("data"), dict):
            info = {**{key: value for key, value in row.data.items() if key not in info}, **info}
        yield _Row(row.toatoms(), f"{path.name}#{row.id}", info)


def _source(path: Path, kind: str, rows: Sequence[_Row], intake: Intake) -> Source:
    options = intake.options
    if not any(_energy(row, options) is not None for row in rows):
        keys = _alike(rows, r"energ|etot")
        hint = f"; it has {', '.join(keys)}: say --energy-key {keys[0]} if that is the one" if keys else ""
        wanted = options.energy_key or "energy"
        raise ReferenceDataError(f"{path}: no structure has an energy ({wanted!r}){hint}", path=str(path))
    frames = [frame for row in rows if (frame := intake.take(partial(_frame, row, options))) is not None]
    if not any(frame.forces is not None for frame in frames):
        for key in _alike(rows, r"forc"):
            intake.notes.append(f"{path.name}: {key!r} is not read as forces; --forces-key {key} would do that")
    if not any(frame.stress is not None for frame in frames):
        for key in _alike(rows, r"stress|virial"):
            # Its sign and unit differ between programs that write it: a guess would be wrong half of the time.
            intake.notes.append(
                f"{path.name}: {key!r} is not read as stress; the key must be 'stress', in eV/Angstrom^3"
            )
    return Source(str(path), kind, tuple(frames), notes=tuple(intake.notes))


def _alike(rows: Sequence[_Row], pattern: str) -> list[str]:
    """Keys of the file whose name looks like what was not found."""
    names = {str(key) for row in rows for key in (*row.info, *row.atoms.arrays)}
    return sorted(name for name in names if re.search(pattern, name, re.IGNORECASE))


def _energy(row: _Row, options: ReadOptions) -> Any:
    if options.energy_key is not None:
        return row.info.get(options.energy_key, row.results.get(options.energy_key))
    return row.results.get("energy")


def _frame(row: _Row, options: ReadOptions) -> Frame:
    from ase import Atoms

    energy = _number(_energy(row, options), "energy", row)
    if energy is None:
        raise ReferenceDataError(f"{row.source}: no energy", source=row.source)
    forces = row.results.get("forces")
    if options.forces_key is not None:
        forces = row.atoms.arrays.get(options.forces_key, row.info.get(options.forces_key))
        if forces is None:
            raise ReferenceDataError(f"{row.source}: no forces ({options.forces_key!r})", source=row.source)
    atoms, info = row.atoms, row.info
    name = next((str(info[key]) for key in NAME_KEYS if info.get(key) not in (None, "")), "")
    stress = _array(row.results.get("stress"), "stress", row)
    if stress is not None and stress.size == 9:
        stress = stress.reshape(9)[[0, 4, 8, 5, 2, 1]]
    # With a key of one's own for the energy the file's other energies come from somewhere else.
    free = None if options.energy_key is not None else _number(row.results.get("free_energy"), "free energy", row)
    return check_frame(
        Frame(
            atoms=Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
            energy=energy,
            source=row.source,
            name=name,
            free_energy=None if free == energy else free,
            forces=_array(forces, "forces", row),
            stress=stress,
            magnetic_moment=_number(row.results.get("magmom"), "magnetic moment", row),
            settings=settings_from(info),
        )
    )


def _number(value: Any, what: str, row: _Row) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ReferenceDataError(f"{row.source}: {what} {value!r} is not a number", source=row.source) from None


def _array(value: Any, what: str, row: _Row) -> np.ndarray | None:
    if value is None:
        return None
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReferenceDataError(f"{row.source}: {what} are not all numbers", source=row.source) from None
