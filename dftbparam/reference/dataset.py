"""Reads reference data sets: a folder with ``dataset.toml`` and ``data.csv`` (layout: ``references/README.md``).

Optional files: the points behind E(V) curves in ``points.csv``, band structures in ``bands.jsonl``, isolated atoms in
``atoms.csv``, structures with forces in ``frames.extxyz``; a folder that has these may do without ``data.csv``.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import ValidationError

from dftbparam.elements import all_symbols, element
from dftbparam.errors import FileFormatError, InputError, ReferenceDataError
from dftbparam.reference.prototypes import prototype
from dftbparam.reference.records import AtomReference, BandReference, CrystalReference, Dataset, PointsReference
from dftbparam.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

DEFAULT_DATASET: Final = "acwf-unaries-pbe"
"""The set that covers H to Cm with four crystals each."""

FORMAT_VERSION: Final = 2
"""Raised when a data set folder can no longer be read by the previous code. Version 1 has the elemental crystals sc,
bcc, fcc and diamond alone; it is read as before."""

PLAUSIBLE: Final = (0.5, 4.0)
"""Nearest-neighbour distances in units of two covalent radii (Cordero's, at least 1 Bohr). The shipped crystals have
0.60 (Eu, diamond) to 2.80 (Ne, fcc); volumes per cell instead of per atom, or in Bohr^3, mostly fall outside."""

_NUMBERS: Final = ("volume", "bulk_modulus", "bulk_modulus_derivative", "energy", "energy_spread", "n_codes")
_COLUMNS: Final = ("symbol", "prototype", *_NUMBERS)
_OPTIONAL: Final = ("partner",)
DESCRIPTION_FILE: Final = "dataset.toml"
CRYSTALS_FILE: Final = "data.csv"
POINTS_FILE: Final = "points.csv"
BANDS_FILE: Final = "bands.jsonl"
ATOMS_FILE: Final = "atoms.csv"
FRAMES_FILE: Final = "frames.extxyz"
POINTS_COLUMNS: Final = ("symbol", "partner", "prototype", "volume", "energy", "energy_free")


def reference_root() -> Path:
    """Folder that holds the data sets: the installed package's own, else the checkout's ``references/``.

    Raises
    ------
    ReferenceDataError
        Neither exists: the installation is incomplete.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here / "data", here.parents[1] / "references"):
        if (candidate / DEFAULT_DATASET / "dataset.toml").is_file():
            return candidate
    raise ReferenceDataError(
        f"the reference data sets are missing: neither {here / 'data'} nor {here.parents[1] / 'references'} holds "
        f"{DEFAULT_DATASET!r}; reinstall the package, or name a folder of your own"
    )


def list_datasets() -> tuple[str, ...]:
    """Names of the data sets that come with the package."""
    names = (file.parent.name for file in reference_root().glob("*/dataset.toml"))
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_DATASET, name)))


def load_dataset(name_or_dir: str | Path = DEFAULT_DATASET) -> Dataset:
    """Load a data set that comes with the package, or one of the user's in the same layout.

    Raises
    ------
    ReferenceDataError
        Neither a known name nor a folder, or a file of the folder is missing.
    FileFormatError
        A malformed file; says file and line, the offending value and what would be right.
    """
    folder = dataset_folder(name_or_dir)
    framed = (folder / FRAMES_FILE).is_file()
    for name in (DESCRIPTION_FILE, CRYSTALS_FILE):
        if not (folder / name).is_file() and not (name == CRYSTALS_FILE and framed):
            raise ReferenceDataError(
                f"{folder} has no {name}: a data set folder holds dataset.toml and data.csv (or {FRAMES_FILE} alone)",
                path=str(folder / name),
            )
    description = _description(folder / DESCRIPTION_FILE)
    digest = hashlib.sha256()
    more: dict[str, Any] = {"crystals": ()}
    readers = (
        (CRYSTALS_FILE, "crystals", partial(_crystals, empty=framed)),
        (BANDS_FILE, "bands", _bands),
        (ATOMS_FILE, "atoms", _atoms),
        (FRAMES_FILE, "frames", count_frames),
    )
    for name, field, read in readers:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(content)
            more[field] = read(content, str(folder / name))
    try:
        return Dataset.model_validate({**description, "checksum": digest.hexdigest(), **more})
    except ValidationError as error:
        raise FileFormatError(_first(error), path=str(folder / DESCRIPTION_FILE)) from None


def load_points(name_or_dir: str | Path) -> tuple[PointsReference, ...]:
    """Read the E(V) points behind the rows of a data set: ``points.csv``.

    Returns
    -------
    One record a crystal; empty where the set has no such file.

    Raises
    ------
    ReferenceDataError
        Neither a known name nor a folder.
    FileFormatError
        A malformed file; says file and line, the offending value and what would be right.
    """
    path = dataset_folder(name_or_dir) / POINTS_FILE
    if not path.is_file():
        return ()
    crystals: dict[tuple[str, str, str | None], list[tuple[float, float, float | None]]] = {}
    header: list[str] | None = None
    for number, fields in _rows(_text(path.read_bytes(), str(path))):
        if header is None:
            header = fields
            missing = [name for name in POINTS_COLUMNS[:-1] if name not in fields]
            if missing or len(set(fields)) != len(fields) or not set(fields) <= set(POINTS_COLUMNS):
                raise FileFormatError(
                    f"columns {','.join(fields)}; right would be {','.join(POINTS_COLUMNS)}",
                    path=str(path),
                    line=number,
                )
            continue
        if len(fields) != len(header):
            raise FileFormatError(f"{len(fields)} values for {len(header)} columns", path=str(path), line=number)
        row = dict(zip(header, fields, strict=True))
        try:
            free = float(row["energy_free"]) if row.get("energy_free") else None
            point = (float(row["volume"]), float(row["energy"]), free)
        except ValueError as error:
            raise FileFormatError(f"{error} in {','.join(fields)}", path=str(path), line=number) from None
        crystals.setdefault((row["symbol"], row["prototype"], row["partner"] or None), []).append(point)
    found = []
    for (symbol, name, partner), points in crystals.items():
        points.sort(key=lambda point: point[:2])
        volumes, energies, free_energies = zip(*points, strict=True)
        try:
            found.append(
                PointsReference(
                    symbol=symbol,
                    prototype=name,
                    partner=partner,
                    volumes=volumes,
                    energies=energies,
                    energies_free=free_energies if any(value is not None for value in free_energies) else (),
                )
            )
        except ValidationError as error:
            label = f"{symbol}{f'-{partner}' if partner else ''} {name}"
            raise FileFormatError(f"{label}: {_first(error)}", path=str(path)) from None
    return tuple(found)


def load_frames(name_or_dir: str | Path) -> list[Atoms]:
    """Read the structures with energies (eV), forces (eV/Angstrom) and stress (eV/Angstrom^3) of a data set.

    Returns
    -------
    Each with a calculator that holds its numbers, and its ``info`` from the file; empty where the set has none.

    Raises
    ------
    ReferenceDataError
        Neither a known name nor a folder.
    FileFormatError
        Not an extended xyz file.
    """
    path = dataset_folder(name_or_dir) / FRAMES_FILE
    if not path.is_file():
        return []
    from ase.io import read

    try:
        frames = cast("list[Atoms]", read(path, index=":", format="extxyz"))
    except Exception as error:  # ASE's reader raises whatever it stumbles over
        raise FileFormatError(f"not an extended xyz file ({type(error).__name__}: {error})", path=str(path)) from None
    return frames


def dataset_folder(name_or_dir: str | Path) -> Path:
    """Folder of a data set that comes with the package, or the user's own; `ReferenceDataError` if neither."""
    if isinstance(name_or_dir, str) and name_or_dir in list_datasets():
        return reference_root() / name_or_dir
    path = Path(name_or_dir)
    if path.is_dir():
        return path
    known = list_datasets()
    near = difflib.get_close_matches(str(name_or_dir), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ReferenceDataError(
        f"{str(name_or_dir)!r} is neither a reference set nor a folder; {hint}known sets: {', '.join(known)}",
        name=str(name_or_dir),
    )


def _description(path: Path) -> dict[str, Any]:
    """Read dataset.toml, whose ``format`` must be ours."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise FileFormatError(f"not TOML: {error}", path=str(path), line=int(line[1]) if line else None) from None
    except UnicodeDecodeError as error:
        raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
    version = table.pop("format", None)
    if isinstance(version, bool) or version not in range(1, FORMAT_VERSION + 1):
        raise FileFormatError(
            f"format = {version!r}; this version reads format = 1 to {FORMAT_VERSION}", path=str(path)
        )
    for reserved in ("checksum", "crystals", "bands", "atoms", "frames"):
        if reserved in table:
            raise FileFormatError(f"{reserved!r} is read from the data files and must not be given", path=str(path))
    return table


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FileFormatError(f"not UTF-8 text ({error.reason})", path=path, line=line) from None


def _bands(content: bytes, path: str) -> tuple[BandReference, ...]:
    """Read band structures, one JSON object a line."""
    bands = []
    for number, raw in enumerate(_text(content, path).splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            bands.append(BandReference.model_validate(json.loads(raw)))
        except json.JSONDecodeError as error:
            raise FileFormatError(f"not JSON: {error}", path=path, line=number) from None
        except ValidationError as error:
            raise FileFormatError(_first(error), path=path, line=number) from None
    return tuple(bands)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of a table's lines; comments and blank lines are left out."""
    for number, raw in enumerate(text.splitlines(), start=1):
        if raw.strip() and not raw.lstrip().startswith("#"):
            yield number, [field.strip() for field in next(csv.reader([raw]))]


def count_frames(content: bytes, path: str) -> int:
    """Count the structures of an extended xyz file by its lines alone, which needs no ASE and little time."""
    lines = content.splitlines()
    count = position = 0
    while position < len(lines):
        if not lines[position].strip() and not any(line.strip() for line in lines[position:]):
            break
        try:
            atoms = int(lines[position])
        except ValueError:
            atoms = -1
        if atoms < 0 or position + 2 + atoms > len(lines):
            shown = lines[position][:40].decode(errors="replace")
            wrong = "is no number of atoms" if atoms < 0 else f"is more than the {len(lines)} lines of the file hold"
            raise FileFormatError(f"not an extended xyz file: {shown!r} {wrong}", path=path, line=position + 1)
        position += 2 + atoms
        count += 1
    return count


def _atoms(content: bytes, path: str) -> tuple[AtomReference, ...]:
    """Read isolated atoms: a table with the columns of `AtomReference`."""
    atoms: list[AtomReference] = []
    header: list[str] | None = None
    for number, fields in _rows(_text(content, path)):
        if header is None:
            header = fields
            continue
        if len(fields) != len(header):
            raise FileFormatError(f"{len(fields)} values for {len(header)} columns", path=path, line=number)
        try:
            atoms.append(AtomReference.model_validate(dict(zip(header, fields, strict=True))))
        except ValidationError as error:
            raise FileFormatError(_first(error), path=path, line=number) from None
    return tuple(atoms)


def _crystals(content: bytes, path: str, *, empty: bool = False) -> tuple[CrystalReference, ...]:
    """Read the crystals; none are fine where ``empty``."""
    header: list[str] | None = None
    seen: dict[tuple[str, str], int] = {}
    crystals = []
    for number, fields in _rows(_text(content, path)):
        if header is None:
            header = _header(fields, path, number)
            continue
        crystal = _crystal(fields, header, path, number)
        key = (crystal.compound, crystal.prototype)
        if key in seen:
            raise FileFormatError(
                f"{crystal.compound} {crystal.prototype} was already given on line {seen[key]}", path=path, line=number
            )
        seen[key] = number
        crystals.append(crystal)
    if not crystals and not empty:
        raise FileFormatError("no data: a header line and at least one crystal are needed", path=path)
    return tuple(crystals)


def _header(fields: list[str], path: str, line: int) -> list[str]:
    missing = [name for name in _COLUMNS if name not in fields]
    unknown = [name for name in fields if name not in (*_COLUMNS, *_OPTIONAL)]
    double = sorted({name for name in fields if fields.count(name) > 1})
    for names, complaint in ((missing, "missing"), (unknown, "unknown"), (double, "double")):
        if names:
            raise FileFormatError(
                f"{complaint} column {', '.join(map(repr, names))}; the columns are {','.join(_COLUMNS)}"
                f" and, where there are binaries, {','.join(_OPTIONAL)}",
                path=path,
                line=line,
            )
    return fields


def _crystal(fields: list[str], header: list[str], path: str, line: int) -> CrystalReference:
    if len(fields) != len(header):
        raise FileFormatError(f"{len(fields)} values for {len(header)} columns", path=path, line=line)
    row: dict[str, Any] = dict(zip(header, fields, strict=True))
    row["partner"] = row.get("partner") or None
    for name in (row["symbol"], row["partner"]):
        if name is not None and name not in all_symbols():
            near = difflib.get_close_matches(name.capitalize(), all_symbols(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "known are H to Cm"
            raise FileFormatError(f"unknown element {name!r}; {hint}", path=path, line=line)
    try:
        prototype(row["prototype"], row["symbol"]).species(row["symbol"], row["partner"])
    except InputError as error:
        raise FileFormatError(error.message, path=path, line=line) from None
    for name in _NUMBERS:
        try:
            row[name] = int(row[name]) if name == "n_codes" else float(row[name])
        except ValueError:
            kind = "a whole number" if name == "n_codes" else "a number"
            raise FileFormatError(f"{name} {row[name]!r} is not {kind}", path=path, line=line) from None
    try:
        crystal = CrystalReference.model_validate(row)
    except ValidationError as error:
        raise FileFormatError(_first(error), path=path, line=line) from None
    problem = implausible_distance(crystal)
    if problem is not None:
        raise FileFormatError(problem, path=path, line=line)
    return crystal


def implausible_distance(crystal: CrystalReference) -> str | None:
    """Say what is wrong with a volume that puts neighbours inside each other, or out of each other's reach."""
    distance = crystal.structure.neighbour_distance(crystal.volume)
    radii = [max(element(symbol).covalent_radius, 1.0) for symbol in crystal.symbols]
    contact = 2.0 * BOHR * sum(radii) / len(radii)
    low, high = (factor * contact for factor in PLAUSIBLE)
    if low <= distance <= high:
        return None
    return (
        f"volume {crystal.volume:g} Angstrom^3/atom puts neighbours of {crystal.compound} {crystal.prototype} "
        f"{distance:.3g} Angstrom apart; plausible would be {low:.2f} to {high:.2f} Angstrom"
    )


def _first(error: ValidationError) -> str:
    """One line about the first thing pydantic found."""
    detail = error.errors()[0]
    place = ".".join(str(part) for part in detail["loc"]) or "dataset"
    given = "" if detail["type"] == "missing" else f" (given: {str(detail['input'])[:60]!r})"
    return f"{place}: {detail['msg']}{given}"
