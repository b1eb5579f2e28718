"""Result files of the ACWF verification: E(V) points of elements and oxides, JSON.

Layout (github aiidateam/acwf-verification-scripts): ``eos_data`` maps ``Si-X/Diamond`` or ``Mg-XO`` to [volume, energy]
pairs in Angstrom^3 and eV per cell, ``num_atoms_in_sim_cell`` says how many atoms a cell has, ``BM_fit_data`` holds the
fits of its makers. Structures are not in the file; the names stand for these prototypes (space groups and numbers of
atoms of the study's cells are those of ours):

======== ============ ======== ======================================
X/SC     sc           XO       rocksalt
X/BCC    bcc          XO2      fluorite
X/FCC    fcc          X2O      antifluorite
X/Diamond diamond     XO3      reo3
======== ============ ======== ======================================

X2O3 and X2O5, cubic with 10 and 14 atoms, are none of the prototypes and are skipped, by name.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from dftbparam.elements import all_symbols
from dftbparam.errors import FileFormatError, ReferenceDataError
from dftbparam.reference.importers.frame import Curve, Intake, ReadOptions, Source
from dftbparam.reference.importers.settings import Setting, functional_name
from dftbparam.reference.prototypes import PROTOTYPES

STRUCTURES: Final = {
    "X/SC": "sc",
    "X/BCC": "bcc",
    "X/FCC": "fcc",
    "X/Diamond": "diamond",
    "XO": "rocksalt",
    "XO2": "fluorite",
    "X2O": "antifluorite",
    "XO3": "reo3",
}
"""The study's names of structures, and ours."""

FIT_TOLERANCE: Final = 5e-3
"""Relative difference of V0 between our fit and that in the file that is worth a note; fits with other weights or
points left out differ by less."""

_KEY: Final = re.compile(r"(?P<symbol>[A-Z][a-z]?)-(?P<structure>X.*)")


def is_acwf(value: Any) -> bool:
    """Whether JSON is a result file of the study."""
    return isinstance(value, dict) and ("eos_data" in value or "BM_fit_data" in value)


def read_acwf(path: Path, value: Any, options: ReadOptions) -> Source:
    """Take the E(V) curves out of a result file.

    Raises
    ------
    FileFormatError
        Not the layout above, or without energies: the file of averages has volumes and bulk moduli alone.
    ReferenceDataError
        Points that are not numbers.
    """
    if not isinstance(value.get("eos_data"), dict) or not value["eos_data"]:
        raise FileFormatError(
            "no E(V) points ('eos_data'): a file of fits alone has no energies between crystals, import that of a code",
            path=str(path),
        )
    atoms = value.get("num_atoms_in_sim_cell")
    if not isinstance(atoms, dict):
        raise FileFormatError(
            "no 'num_atoms_in_sim_cell': volumes per cell cannot be made those per atom", path=str(path)
        )
    settings = _settings(path, value)
    fits = value.get("BM_fit_data") if isinstance(value.get("BM_fit_data"), dict) else {}
    intake = Intake(options)
    skipped: dict[str, list[str]] = {}
    curves = []
    for key, points in value["eos_data"].items():
        reason = _why_not(key)
        if reason is not None:
            skipped.setdefault(reason, []).append(key)
            continue
        curve = intake.take(partial(_curve, path, key, points, atoms.get(key), settings))
        if curve is not None:
            curves.append(curve)
            _compare(curve, key, (fits or {}).get(key), intake)
    notes = [f"{path.name}: skipped, {reason}: {' '.join(keys)}" for reason, keys in skipped.items()]
    for name in ("completely_off", "failed_wfs"):
        if value.get(name):
            notes.append(f"{path.name}: the file lists as {name}: {' '.join(map(str, value[name]))}")
    if not curves:
        raise FileFormatError("none of its structures is a known prototype", path=str(path))
    return Source(str(path), "ACWF results", curves=tuple(curves), notes=(*notes, *intake.notes))


def _why_not(key: str) -> str | None:
    """Why a structure cannot be taken, or None."""
    match = _KEY.fullmatch(key)
    if match is None or match["symbol"] not in all_symbols():
        return "no element from H to Cm with a structure"
    if match["structure"] not in STRUCTURES:
        return f"{match['structure']} is no known prototype"
    if match["symbol"] == "O" and PROTOTYPES[STRUCTURES[match["structure"]]].binary:
        return "oxygen as an oxide of itself"
    return None


def _curve(path: Path, key: str, points: Any, atoms: Any, settings: dict[str, Setting]) -> Curve:
    where = f"{path.name}#{key}"
    match = _KEY.fullmatch(key)
    assert match is not None  # `_why_not` has asked
    name = STRUCTURES[match["structure"]]
    expected = len(PROTOTYPES[name].positions)
    # A conventional cell would do as well; a number that is no multiple belongs to another structure.
    if isinstance(atoms, bool) or not isinstance(atoms, int) or atoms < 1 or atoms % expected:
        raise ReferenceDataError(f"{where}: {atoms!r} atoms in the cell; {name} has {expected}", source=where)
    try:
        table = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or table.shape[1] != 2 or not np.isfinite(table).all() or (table[:, 0] <= 0.0).any():
        raise ReferenceDataError(f"{where}: eos_data must be [volume, energy] pairs of numbers", source=where)
    table = table[np.argsort(table[:, 0])] / atoms
    partner = "O" if PROTOTYPES[name].binary else None
    return Curve(match["symbol"], name, partner, table[:, 0], table[:, 1], where, settings=settings)


def _compare(curve: Curve, key: str, fit: Any, intake: Intake) -> None:
    """Note where our fit and that of the file put the minimum at different volumes."""
    from dftbparam.errors import InputError, NoMinimum
    from dftbparam.reference.eos_fit import fit_birch_murnaghan

    if not isinstance(fit, dict) or not isinstance(fit.get("min_volume"), int | float):
        return
    cell = float(fit["min_volume"])
    try:
        ours = fit_birch_murnaghan(curve.volumes, curve.energies, extrapolate=True).v0
    except (InputError, NoMinimum):
        return
    atoms = round(cell / ours)
    if atoms > 0 and abs(cell / atoms / ours - 1.0) > FIT_TOLERANCE:
        intake.notes.append(f"{key}: the file's fit has V0 = {cell / atoms:.4g}, ours {ours:.4g} Angstrom^3/atom")


def _settings(path: Path, value: dict[str, Any]) -> dict[str, Setting]:
    """Functional and code, which stand in the name of the set and of the file."""
    settings: dict[str, Setting] = {}
    names = (str(value.get("set_name", "")), path.name)
    functional = next((m[1] for name in names if (m := re.search(r"verification-([A-Za-z0-9]+)-v\d", name))), None)
    if functional is not None:
        settings["functional"] = functional_name(functional)
    code = re.search(r"verification-[A-Za-z0-9]+-v\d+-(.+?)\.json", path.name)
    if code is not None:
        settings["code"] = code[1]
    return settings
