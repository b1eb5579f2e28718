"""Score Slater-Koster tables on an element's reference crystals: the fixed report card.

Every crystal is scanned from 0.6 to 1.6 of its reference volume; around the minimum nearest the reference seven volumes
within 6 % of it are computed anew and fitted by Birch-Murnaghan's equation of state, as the reference was. The k-point
mesh is that of the reference volume at all volumes, so that no energy step comes from a change of mesh. Energies are
extrapolated to zero electronic temperature, as the reference's are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.errors import DftbparamError, InputError, NoMinimum, StructureError
from dftbparam.reference import CrystalReference, Dataset, EosFit, fit_birch_murnaghan, locate_minimum
from dftbparam.score import ReportCard, build_card
from dftbparam.score.short_range import DISTANCES, contact_distance
from dftbparam.skf import SKSet, read_set
from dftbparam.units import BOHR, HARTREE

Array = NDArray[np.float64]

TRAINING_SCAN: Final = (0.45, 0.50, 0.55)
"""Relative volumes that a fit looks at beside `SCAN`, so that no deeper well waits just outside the card's window."""

SCAN: Final = (
    0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.88, 0.91, 0.94, 0.97, 1.00,
    1.03, 1.06, 1.09, 1.12, 1.16, 1.20, 1.25, 1.30, 1.40, 1.50, 1.60,
)  # fmt: skip
"""Relative volumes of the scan: dense where minima lie, to the ends of the soundness window."""

REFINEMENT: Final = (0.94, 0.96, 0.98, 1.00, 1.02, 1.04, 1.06)
"""Volumes of the final fit relative to the minimum found: the range of the reference's own fits."""

KPT_DENSITY: Final = 3.0
"""k-point divisions per 2 pi/Angstrom: with shifted even meshes and 1000 K phase energies of metals hold to 5 meV/atom
against a density of 6."""

TEMPERATURE: Final = 1000.0
"""Electronic temperature in kelvin."""

Curves = dict[str, tuple[Array, Array]]
"""By name of the crystal: volumes (n,) in Angstrom^3/atom, energies (n,) in eV/atom, NaN where a calculation failed."""


def crystal_settings(reference: CrystalReference, density: float = KPT_DENSITY) -> Settings:
    """Engine settings for one crystal at every volume: mesh of the reference volume."""
    return Settings(kpts=reference.mesh(reference.volume, density), temperature=TEMPERATURE)


def energy_curves(
    tables: SKSet | Path,
    references: Sequence[CrystalReference],
    engine: Engine,
    volumes: Mapping[str, ArrayLike],
    *,
    repulsion: bool = True,
) -> tuple[Curves, list[DftbparamError]]:
    """Compute E(V) of several crystals in one call of the engine.

    Parameters
    ----------
    volumes
        Per crystal, by its name (n,), Angstrom^3/atom; crystals it does not name are left out.
    repulsion
        False gives electronic energies alone.

    Returns
    -------
    curves, errors
        NaN where a structure failed, and why, one error per failure.
    """
    structures: list[Atoms] = []
    settings: list[Settings] = []
    slices: list[tuple[CrystalReference, Array]] = []
    for reference in references:
        if reference.name not in volumes:
            continue
        points = np.asarray(volumes[reference.name], dtype=np.float64)
        one = replace(crystal_settings(reference), repulsion=repulsion)
        structures += [reference.atoms(float(v)) for v in points]
        settings += [one] * len(points)
        slices.append((reference, points))
    results = engine.compute(tables, structures, settings)
    for result in results:
        # Bad tables or settings are wrong for every structure; atoms too close for the engine are a matter of this one.
        if isinstance(result, InputError) and not isinstance(result, StructureError):
            raise result
    energies = [
        result.extrapolated_energy * HARTREE / len(atoms) if isinstance(result, Result) else np.nan
        for result, atoms in zip(results, structures, strict=True)
    ]
    curves: Curves = {}
    at = 0
    for reference, points in slices:
        curves[reference.name] = (points, np.array(energies[at : at + len(points)]))
        at += len(points)
    return curves, [result for result in results if not isinstance(result, Result)]


def scan_volumes(references: Sequence[CrystalReference]) -> dict[str, Array]:
    """Volumes of the scan per crystal, Angstrom^3/atom."""
    return {reference.name: reference.volume * np.array(SCAN) for reference in references}


def dimer_curve(tables: SKSet | Path, symbol: str, engine: Engine, *, repulsion: bool = True) -> Array:
    """Energies (n,) of the dimer at `short_range.DISTANCES`, eV; NaN where the calculation failed."""
    contact = contact_distance(symbol) * BOHR
    structures = [Atoms([symbol, symbol], positions=[(0, 0, 0), (0, 0, x * contact)]) for x in DISTANCES]
    results = engine.compute(tables, structures, Settings(temperature=TEMPERATURE, repulsion=repulsion))
    return np.array(
        [result.extrapolated_energy * HARTREE if isinstance(result, Result) else np.nan for result in results]
    )


def score_tables(tables: SKSet | Path, symbol: str, references: Dataset, engine: Engine) -> ReportCard:
    """Make the report card of an element.

    Raises
    ------
    InputError
        The dataset has no crystal of the element, or the tables lack it.
    EngineError
        The engine is missing. What single structures end in is in the card.
    """
    crystals = references.crystals_of(symbol)
    if isinstance(tables, Path):
        tables = read_set(tables, [symbol])
    if (symbol, symbol) not in tables.files:
        known = ", ".join(sorted(a for a, b in tables.files if a == b)) or "none"
        raise InputError(f"the tables have no element {symbol}; they have: {known}", symbol=symbol)
    scans, _ = energy_curves(tables, crystals, engine, scan_volumes(crystals))
    fits: dict[str, EosFit | DftbparamError] = {}
    minima: dict[str, float] = {}
    for crystal in crystals:
        v, e = scans[crystal.name]
        good = np.isfinite(e)
        try:
            if good.sum() < len(v) // 2:
                raise NoMinimum(f"{int((~good).sum())} of {len(v)} points of the scan failed", symbol=symbol)
            minima[crystal.name] = locate_minimum(v[good], e[good], crystal.volume)
        except NoMinimum as error:
            fits[crystal.name] = error
    windows = {prototype: v0 * np.array(REFINEMENT) for prototype, v0 in minima.items()}
    refined, _ = energy_curves(tables, crystals, engine, windows) if windows else ({}, [])
    for prototype, (v, e) in refined.items():
        try:
            fits[prototype] = fit_birch_murnaghan(v, e)
        except NoMinimum as error:
            fits[prototype] = error
    provenance: dict[str, Any] = {
        "dataset": references.name,
        "dataset_checksum": references.checksum,
        "engine": engine.name,
        "engine_versions": engine.versions(),
        "kpt_density": KPT_DENSITY,
        "temperature_K": TEMPERATURE,
        "scan": list(SCAN),
        "refinement": list(REFINEMENT),
    }
    return build_card(symbol, crystals, scans, fits, provenance)
