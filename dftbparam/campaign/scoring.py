"""Score Slater-Koster tables on the reference data of an element or of a binary: the fixed report card.

Every crystal is scanned from 0.6 to 1.6 of its reference volume; around the minimum nearest the reference seven volumes
within 6 % of it are computed anew and fitted by Birch-Murnaghan's equation of state, as the reference was. The k-point
mesh is that of the reference volume at all volumes, so that no energy step comes from a change of mesh. Energies are
extrapolated to zero electronic temperature, as the reference's are.

Dimers, chains and layers take the same way. Their volume is the cube of the nearest-neighbour distance, so that the
scan goes from 0.84 to 1.17 of the bond length and the fit over 2 % of it; their images stay at a fixed distance.

What else the card holds is computed in `dftbparam.campaign.target_scoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from dftbparam.campaign.target_scoring import (
    BAND_KPT_DENSITY,
    Bands,
    Failures,
    checked,
    compute_bands,
    formation_scores,
    frames_of,
    gap_scores,
    score_frames,
    stable_elements,
)
from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.errors import DftbparamError, InputError, NoMinimum, ParameterError, ReferenceDataError
from dftbparam.reference import (
    BandReference,
    CrystalReference,
    Dataset,
    EosFit,
    fit_birch_murnaghan,
    locate_minimum,
)
from dftbparam.score import SECTIONS, ReportCard, Sections, build_card
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
    results = checked(engine.compute(tables, structures, settings))
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


def fit_crystals(
    tables: SKSet | Path, crystals: Sequence[CrystalReference], engine: Engine
) -> tuple[Curves, dict[str, EosFit | DftbparamError]]:
    """Scan crystals and fit their minima: what `dftbparam.score.build_card` is made from.

    Returns
    -------
    scans, fits
        By name of the crystal. A fit is the error where there is none.
    """
    scans, _ = energy_curves(tables, crystals, engine, scan_volumes(crystals))
    fits: dict[str, EosFit | DftbparamError] = {}
    minima: dict[str, float] = {}
    for crystal in crystals:
        v, e = scans[crystal.name]
        good = np.isfinite(e)
        try:
            if good.sum() < len(v) // 2:
                raise NoMinimum(f"{int((~good).sum())} of {len(v)} points of the scan failed", symbol=crystal.compound)
            minima[crystal.name] = locate_minimum(v[good], e[good], crystal.volume)
        except NoMinimum as error:
            fits[crystal.name] = error
    windows = {name: v0 * np.array(REFINEMENT) for name, v0 in minima.items()}
    refined, _ = energy_curves(tables, crystals, engine, windows) if windows else ({}, [])
    for name, (v, e) in refined.items():
        try:
            fits[name] = fit_birch_murnaghan(v, e)
        except NoMinimum as error:
            fits[name] = error
    return scans, fits


def elements_of(symbol: str) -> tuple[str, ...]:
    """Elements of what a card is called: one of ``Si``, two of ``Mg-O``; `ParameterError` for anything else."""
    parts = tuple(symbol.split("-"))
    if len(parts) > 2 or not all(parts) or len(set(parts)) < len(parts):
        raise ParameterError(f"{symbol!r} is neither an element, Si, nor a binary, Mg-O", symbol=symbol)
    return parts


def crystals_of(symbol: str, references: Dataset) -> tuple[CrystalReference, ...]:
    """Crystals of an element or of a binary, in either order of the two; empty where the set has none."""
    return tuple(c for c in references.crystals if set(c.symbols) == set(elements_of(symbol)))


def bands_of(symbol: str, references: Dataset) -> tuple[BandReference, ...]:
    """Band structures of an element or of a binary, in either order of the two; empty where the set has none."""
    return tuple(b for b in references.bands if set(b.symbols) == set(elements_of(symbol)))


def available_targets(symbol: str, references: Dataset, frames: Sequence[Atoms] = ()) -> tuple[str, ...]:
    """What a data set has of an element or of a binary, of `dftbparam.score.SECTIONS`.

    Parameters
    ----------
    frames
        The set's structures with forces, from `dftbparam.reference.load_frames`.
    """
    crystals = crystals_of(symbol, references)
    results = [set(atoms.calc.results) for atoms in frames_of(elements_of(symbol), frames) if atoms.calc is not None]
    has = {
        "eos": bool(crystals),
        "bands": bool(bands_of(symbol, references)),
        "gaps": bool(bands_of(symbol, references)),
        "formation": len(elements_of(symbol)) == 2 and bool(crystals),
        "forces": any("forces" in found for found in results),
        "stress": any("stress" in found for found in results),
    }
    return tuple(name for name in SECTIONS if has[name])


def choose_targets(
    symbol: str, references: Dataset, targets: Sequence[str] | None, frames: Sequence[Atoms] = ()
) -> tuple[str, ...]:
    """Check the targets asked for against what a data set has; None asks for all of it.

    Raises
    ------
    ParameterError
        A target that is unknown, or named twice, or none at all.
    ReferenceDataError
        The set does not have one that was asked for, or has nothing of the element or binary.
    """
    has = available_targets(symbol, references, frames)
    if not has:
        what = "element" if len(elements_of(symbol)) == 1 else "binary"
        raise ReferenceDataError(
            f"reference set {references.name!r} has no {what} {symbol!r}; it has: {references.alternatives(symbol)}",
            symbol=symbol,
            dataset=references.name,
        )
    if targets is None:
        return has
    if unknown := [name for name in targets if name not in SECTIONS]:
        raise ParameterError(f"unknown target {unknown[0]!r}; targets are {', '.join(SECTIONS)}", target=unknown[0])
    if not targets or len(set(targets)) < len(targets):
        raise ParameterError(f"targets {', '.join(targets) or 'none'}: name at least one, and each once")
    if lost := [name for name in targets if name not in has]:
        raise ReferenceDataError(
            f"reference set {references.name!r} has nothing of {symbol} for the target {' and '.join(lost)}; "
            f"it has: {', '.join(has)}",
            symbol=symbol,
            dataset=references.name,
        )
    return tuple(name for name in SECTIONS if name in targets or (name == "eos" and "formation" in targets))


def score_tables(
    tables: SKSet | Path,
    symbol: str,
    references: Dataset,
    engine: Engine,
    *,
    targets: Sequence[str] | None = None,
    frames: Sequence[Atoms] = (),
) -> ReportCard:
    """Make the report card of an element, ``Si``, or of a binary, ``Mg-O``, in either order of the two.

    Parameters
    ----------
    tables
        All ordered pairs of the elements, in memory or in a folder.
    targets
        Of `dftbparam.score.SECTIONS`; None scores all that the set has. Formation energies bring E(V) with them.
    frames
        The set's structures with forces and stress, from `dftbparam.reference.load_frames`.

    Raises
    ------
    ParameterError
        An unknown target.
    ReferenceDataError
        The dataset has nothing of the element or binary, or not a target that was asked for.
    InputError
        The tables lack an element.
    EngineError
        The engine is missing. What single structures end in is in the card.
    """
    chosen = choose_targets(symbol, references, targets, frames)
    elements = elements_of(symbol)
    if isinstance(tables, Path):
        tables = read_set(tables, elements)
    for one in elements:
        if (one, one) not in tables.files:
            known = ", ".join(sorted(a for a, b in tables.files if a == b)) or "none"
            raise InputError(f"the tables have no element {one}; they have: {known}", symbol=one)
    crystals = crystals_of(symbol, references) if "eos" in chosen else ()
    scans, fits = fit_crystals(tables, crystals, engine) if crystals else ({}, {})
    parts: dict[str, Any] = {}
    missing: Failures = {}
    if "bands" in chosen or "gaps" in chosen:
        found, failed = compute_bands(tables, bands_of(symbol, references), engine)
        scores = [one.score for one in found]
        gaps, gapless = gap_scores(scores)
        for name, section, lost in (("bands", scores, failed), ("gaps", gaps, {**failed, **gapless})):
            if name in chosen:
                parts[name] = tuple(section)
                missing |= {f"{name} {crystal}": why for crystal, why in lost.items()}
    if "formation" in chosen:
        stable = stable_elements(crystals, references)
        # One by one, because crystals of two elements may share their name.
        by_symbol = {one: fit_crystals(tables, [crystal], engine)[1][crystal.name] for one, crystal in stable.items()}
        formed, failed = formation_scores(crystals, stable, fits, by_symbol, references)
        parts["formation"] = tuple(formed)
        missing |= {f"formation {crystal}": why for crystal, why in failed.items()}
    if "forces" in chosen or "stress" in chosen:
        parts["forces"], parts["stress"], failed = score_frames(
            tables,
            frames_of(elements, frames),
            engine,
            forces="forces" in chosen,
            stress="stress" in chosen,
            kpt_density=KPT_DENSITY,
            temperature=TEMPERATURE,
        )
        missing |= failed
    return build_card(
        symbol, crystals, scans, fits, scoring_provenance(references, engine), Sections(**parts, missing=missing)
    )


def scoring_provenance(references: Dataset, engine: Engine) -> dict[str, Any]:
    """What a card's numbers depend on beside the tables, as JSON."""
    return {
        "dataset": references.name,
        "dataset_checksum": references.checksum,
        "engine": engine.name,
        "engine_versions": engine.versions(),
        "kpt_density": KPT_DENSITY,
        "band_kpt_density": BAND_KPT_DENSITY,
        "temperature_K": TEMPERATURE,
        "scan": list(SCAN),
        "refinement": list(REFINEMENT),
    }


def band_structures(
    tables: SKSet | Path, symbol: str, references: Dataset, engine: Engine
) -> tuple[list[Bands], Failures]:
    """Compute the bands of an element or of a binary that the data set has, with their scores, for plots.

    Raises
    ------
    InputError
        See `score_tables`.
    """
    if isinstance(tables, Path):
        tables = read_set(tables, elements_of(symbol))
    return compute_bands(tables, bands_of(symbol, references), engine)
