"""Writes the folder of a reference set (layout: ``references/README.md``); it appears whole or not at all."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dftbparam.errors import InputError, ParameterError
from dftbparam.reference.dataset import (
    ATOMS_FILE,
    CRYSTALS_FILE,
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    FRAMES_FILE,
    POINTS_COLUMNS,
    POINTS_FILE,
    load_dataset,
    load_frames,
    load_points,
)
from dftbparam.reference.importers.assemble import Collection
from dftbparam.reference.importers.frame import Curve, Frame
from dftbparam.reference.layout import CRYSTAL_COLUMNS, UNITS, VOLUME_RANGE, checksums, table, toml
from dftbparam.reference.records import CrystalReference, Dataset

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names of sets: they are folders, and stand in command lines."""

README_FILE: Final = "README.md"


@dataclass(frozen=True)
class Provenance:
    """What a set says about itself: texts of dataset.toml. ``energy_zero`` empty: made from the offsets."""

    name: str
    title: str
    source: str
    licence: str
    doi: str = ""
    version: str = "1"
    energy_zero: str = ""


def check_target(folder: Path, name: str) -> None:
    """Raise `ParameterError` where the folder exists or cannot be made, or the name is none."""
    if not NAME.fullmatch(name):
        raise ParameterError(f"name {name!r}: letters, digits and . _ + - only, e.g. my-set", name=name)
    if folder.exists() or folder.is_symlink():
        raise ParameterError(
            f"{str(folder)!r} exists; an import makes a new folder: choose another --out", path=str(folder)
        )
    parent = folder.parent
    if parent.exists() and not parent.is_dir():
        raise ParameterError(f"{str(parent)!r} is no folder; choose another --out", path=str(folder))


def write_dataset(folder: Path, collection: Collection, provenance: Provenance) -> Dataset:
    """Write a set and read it back.

    Raises
    ------
    ParameterError
        The folder exists, or cannot be written.
    InputError
        What was written does not read back: a defect of the data that nothing before has found.
    """
    check_target(folder, provenance.name)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, collection, provenance)
        try:
            load_points(temporary)
            load_frames(temporary)
            dataset = load_dataset(temporary)
        except InputError as error:
            raise InputError(error.message.replace(f"{temporary}{os.sep}", "what was imported: ")) from None
        os.rename(temporary, folder)
    except OSError as error:
        raise ParameterError(
            f"output folder {str(folder)!r} cannot be written ({error.strerror}); choose another --out",
            path=str(folder),
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return dataset


def _write(folder: Path, collection: Collection, provenance: Provenance) -> None:
    files: dict[str, tuple[bytes, int]] = {}
    if collection.crystals:
        files[CRYSTALS_FILE] = _crystals(collection.crystals), len(collection.crystals)
        files[POINTS_FILE] = _points(collection.curves), sum(len(curve.volumes) for curve in collection.curves)
    if collection.atoms:
        rows = [atom.model_dump() for atom in collection.atoms]
        files[ATOMS_FILE] = table(tuple(rows[0]), rows), len(rows)
    if collection.frames:
        files[FRAMES_FILE] = _frames(collection.frames), len(collection.frames)
    for name, (content, _) in files.items():
        _put(folder / name, content)
    zero = provenance.energy_zero or (
        "total energies; [offsets] has the zero of each element" if collection.offsets else "total energies of the code"
    )
    description: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "name": provenance.name,
        "title": provenance.title,
        "source": provenance.source,
        "doi": provenance.doi,
        "licence": provenance.licence,
        "functional": collection.functional,
        "spin": collection.spin,
        "energy_zero": zero,
        "version": provenance.version,
        "units": UNITS,
        "volume_range": VOLUME_RANGE,
        "settings": dict(collection.settings),
        "offsets": dict(collection.offsets),
        "files": checksums(files),
    }
    _put(folder / DESCRIPTION_FILE, toml(description).encode())
    _put(folder / README_FILE, _readme(collection, provenance, zero).encode())


def _put(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _crystals(crystals: Sequence[CrystalReference]) -> bytes:
    rows = []
    for crystal in crystals:
        row: dict[str, Any] = crystal.model_dump()
        # Digits beyond those that a fit of E(V) points can mean.
        for name, digits in (("volume", 6), ("bulk_modulus", 6), ("bulk_modulus_derivative", 4), ("energy", 6)):
            row[name] = round(row[name], digits)
        rows.append(row)
    return table(CRYSTAL_COLUMNS, rows)


def _points(curves: Sequence[Curve]) -> bytes:
    rows = []
    for curve in curves:
        free = curve.energies_free if curve.energies_free is not None else np.full(len(curve.volumes), np.nan)
        for volume, energy, other in zip(curve.volumes, curve.energies, free, strict=True):
            values = (
                curve.symbol, curve.partner, curve.prototype, round(float(volume), 9), round(float(energy), 9),
                round(float(other), 9) if np.isfinite(other) else None,
            )  # fmt: skip
            rows.append(dict(zip(POINTS_COLUMNS, values, strict=True)))
    return table(POINTS_COLUMNS, rows)


def _frames(frames: Sequence[tuple[Frame, str]]) -> bytes:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    images = []
    for index, (frame, crystal) in enumerate(frames, start=1):
        atoms: Any = frame.atoms
        atoms = atoms.copy()
        atoms.info = {
            "name": _text(frame.name or f"{atoms.get_chemical_formula()}-{index}"),
            "source": _text(frame.source),
        }
        if crystal:
            atoms.info["crystal"] = crystal
        atoms.info.update({k: _text(v) if isinstance(v, str) else v for k, v in frame.settings.items()})
        results = {
            "energy": frame.energy,
            "free_energy": frame.free_energy,
            "forces": frame.forces,
            "stress": frame.stress,
            "magmom": frame.magnetic_moment,
        }
        calculator: Any = SinglePointCalculator
        atoms.calc = calculator(atoms, **{key: value for key, value in results.items() if value is not None})
        images.append(atoms)
    buffer = io.StringIO()
    write(buffer, images, format="extxyz")
    return buffer.getvalue().encode()


def _text(value: str) -> str:
    """One line without the quotes and brackets that the comment line of an xyz file could be broken with."""
    return re.sub(r"[\s\"'\\{}\[\]=]+", " ", value).strip()


def _readme(collection: Collection, provenance: Provenance, zero: str) -> str:
    counts = (
        (
            len(collection.crystals),
            "E(V) rows in `data.csv`, made by Birch–Murnaghan fits of the points in `points.csv`",
        ),
        (len(collection.frames), "structures with energies in `frames.extxyz`"),
        (len(collection.atoms), "isolated atoms in `atoms.csv`"),
    )
    lines = [f"# {provenance.name}", "", f"{provenance.title}.", "", f"- Source: {provenance.source}"]
    if provenance.doi:
        lines.append(f"- DOI: {provenance.doi}")
    lines += [
        f"- Licence: {provenance.licence}",
        f"- Functional: {collection.functional}; spin: {collection.spin}",
        f"- Energies: {zero}",
        *(f"- {count} {what}" for count, what in counts if count),
    ]
    settings = {k: v for k, v in collection.settings.items() if k != "mixed"}
    if settings:
        lines += ["", "Settings, as the source states them:", "", *(f"- {k}: {v}" for k, v in settings.items())]
    if collection.notes:
        lines += ["", "Notes of the import:", "", *(f"- {note}" for note in collection.notes)]
    return "\n".join([*lines, "", "Units and layout: see `references/README.md` of dftbparam.", ""])
