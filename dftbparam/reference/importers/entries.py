"""pymatgen's ``ComputedStructureEntry`` as JSON: one entry, a list, or a table of them under any names.

The layout is plain (energy, structure, parameters), and reading it needs no pymatgen. That is on purpose: pymatgen's
own decoder imports and runs whatever class the file names. Energies are the computed ones in eV per structure; the
corrections that databases add to them (``energy_adjustments``, ``correction``) are not applied, because they depend on
the composition in steps that no potential can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from dftbparam.errors import FileFormatError, ReferenceDataError, StructureError
from dftbparam.reference.importers.frame import Frame, Intake, ReadOptions, Source, check_frame
from dftbparam.reference.importers.settings import Setting, functional_name, settings_from

CORRECTED: Final = 1e-6
"""Corrections above this, eV, are mentioned."""


def is_entries(value: Any) -> bool:
    """Whether JSON holds entries: something with a structure and an energy."""
    return next(_entries(value), None) is not None


def read_entries(path: Path, value: Any, options: ReadOptions) -> Source:
    """Take structures and energies out of entries.

    Raises
    ------
    ReferenceDataError
        An entry without energy.
    StructureError
        An entry without structure, with partly occupied sites, or see `check_frame`.
    """
    intake = Intake(options)
    frames, corrected = [], 0
    for label, entry in _entries(value):
        frame = intake.take(partial(_frame, f"{path.name}#{label}", entry))
        if frame is not None:
            frames.append(frame)
            corrected += abs(_correction(entry)) > CORRECTED
    if not frames:
        raise FileFormatError("no entry is left to import", path=str(path))
    if corrected:
        intake.notes.append(
            f"{path.name}: {corrected} of {len(frames)} entries carry corrections; energies are taken without them"
        )
    return Source(str(path), "computed entries", tuple(frames), notes=tuple(intake.notes))


def _entries(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Entries with a label each: their id, or place."""
    if isinstance(value, dict):
        if "structure" in value or str(value.get("@class", "")).endswith("Entry"):
            yield str(value.get("entry_id") or 1), value
            return
        if isinstance(value.get("entries"), list | dict):
            yield from _entries(value["entries"])
            return
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else ()
    for label, part in parts:
        if isinstance(part, dict) and ("structure" in part or "energy" in part):
            yield str(part.get("entry_id") or label), part


def _correction(entry: Mapping[str, Any]) -> float:
    value = entry.get("correction")
    if isinstance(value, int | float):
        return float(value)
    parts = entry.get("energy_adjustments")
    if not isinstance(parts, list):
        return 0.0
    # Adjustments are given as a value, or as one per atom and a number of atoms.
    total = 0.0
    for part in (part for part in parts if isinstance(part, dict)):
        number = part.get("value", part.get("adj_per_atom"))
        total += float(number) if isinstance(number, int | float) else 0.0
    return total


def _frame(where: str, entry: Mapping[str, Any]) -> Frame:
    energy = entry.get("energy")
    if isinstance(energy, bool) or not isinstance(energy, int | float):
        raise ReferenceDataError(f"{where}: no energy", source=where)
    return check_frame(
        Frame(
            atoms=_atoms(where, entry.get("structure")),
            energy=float(energy),
            source=where,
            name=str(entry.get("entry_id") or ""),
            settings=_settings(entry),
        )
    )


def _atoms(where: str, structure: Any) -> Any:
    """Build ASE's structure from pymatgen's: a lattice matrix, and sites with species and fractional coordinates."""
    from ase import Atoms

    if not isinstance(structure, dict):
        raise StructureError(f"{where}: no structure", source=where)
    try:
        lattice = structure["lattice"]
        cell = np.array(lattice["matrix"], dtype=np.float64)
        symbols, places = [], []
        for site in structure["sites"]:
            species = site["species"]
            if len(species) != 1 or abs(float(species[0].get("occu", 1.0)) - 1.0) > 1e-6:
                raise StructureError(
                    f"{where}: a site is partly occupied; every atom must be one element", source=where
                )
            # pymatgen writes the oxidation state of a site beside its element; deuterium is hydrogen to DFT.
            symbol = str(species[0]["element"])
            symbols.append({"D": "H", "T": "H"}.get(symbol, symbol))
            places.append([float(x) for x in site["abc"]])
        if cell.shape != (3, 3) or not places or {len(place) for place in places} != {3}:
            raise ValueError("a cell of three vectors and sites with three coordinates are needed")
        return Atoms(symbols, scaled_positions=places, cell=cell, pbc=lattice.get("pbc", True))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        shown = f"no {error}" if isinstance(error, KeyError) else error
        raise StructureError(f"{where}: not a structure of pymatgen ({shown})", source=where) from None


def _settings(entry: Mapping[str, Any]) -> dict[str, Setting]:
    """Read the entry's parameters: ``run_type``, ``functional``, ``potcar_symbols``, ``hubbards`` ..."""
    given = entry.get("parameters")
    parameters: Mapping[str, Any] = given if isinstance(given, dict) else {}
    settings = settings_from(parameters)
    potentials = _potentials(parameters)
    if potentials:
        settings["potentials"] = ",".join(potentials)
    hubbards = parameters.get("hubbards")
    if isinstance(hubbards, dict) and any(hubbards.values()):
        settings["hubbard"] = ",".join(sorted(f"{s}:{float(u):g}" for s, u in hubbards.items() if u))
    run_type = parameters.get("run_type")
    if "functional" not in settings and isinstance(run_type, str) and run_type:
        # "GGA" is the family; the potentials say which, if all of them say the same.
        head, plus, tail = run_type.partition("+")
        families = {p.split()[0].removeprefix("PAW_") for p in potentials}
        if head == "GGA" and families == {"PBE"}:
            head = "PBE"
        settings["functional"] = functional_name(head + plus + tail)
    elif "functional" in settings and "hubbard" in settings and "+U" not in str(settings["functional"]):
        settings["functional"] = f"{settings['functional']}+U"
    return settings


def _potentials(parameters: Mapping[str, Any]) -> list[str]:
    """Names of the potentials: ``PAW_PBE Ti_pv`` from a title, ``PBE Ti_pv`` from a symbol."""
    names = set()
    specs = parameters.get("potcar_spec")
    for spec in specs if isinstance(specs, list) else ():
        title = spec.get("titel") if isinstance(spec, dict) else None
        if isinstance(title, str) and len(title.split()) >= 2:
            names.add(" ".join(title.split()[:2]))
    symbols = parameters.get("potcar_symbols")
    if not names and isinstance(symbols, list):
        names = {str(symbol).strip() for symbol in symbols if len(str(symbol).split()) == 2}
    return sorted(names)
