"""Checks a reference set for what would spoil a fit without a word: see `check_dataset`.

Limits were set on the E(V) points of the ACWF verification (2,200 curves of four codes) and on the shipped set of 96
elements, such that sound data stay below them; each says what it was measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import InputError, NoMinimum
from dftbparam.reference.check_frames import frame_findings
from dftbparam.reference.dataset import (
    ATOMS_FILE,
    BANDS_FILE,
    CRYSTALS_FILE,
    DEFAULT_DATASET,
    FRAMES_FILE,
    POINTS_FILE,
    dataset_folder,
    list_datasets,
    load_dataset,
    load_frames,
    load_points,
)
from dftbparam.reference.eos_fit import fit_birch_murnaghan
from dftbparam.reference.findings import (
    BINDING,
    CheckReport,
    Finding,
    crystal_label,
    error_at,
    graded,
    warning_at,
)
from dftbparam.reference.importers.assemble import FIT_RANGE, MIN_POINTS, SAME_ENERGY, SAME_VOLUME
from dftbparam.reference.importers.frame import listed, symbols_of
from dftbparam.reference.importers.identify import identify
from dftbparam.reference.records import CrystalReference, Dataset, PointsReference

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]

KINK: Final = (1e-3, 3e-4)
"""Distance of a point from a smooth curve that is an error, a warning; eV/atom. All-electron codes stay below 1e-4 on
elements and oxides, plane-wave codes below 1.3e-4 but for three oxides with a kink (5e-4)."""

KINK_PART: Final = 0.03
"""It must also be this part of the energy range of the curve: soft crystals (He, Ar) have little more than noise."""


LENGTH: Final = (0.5, 0.32)
"""|ln(d/median)| of the nearest-neighbour distances of one element's crystals that is an error, a warning. The shipped
set reaches 0.30 (Dy, diamond)."""

STIFFNESS: Final = (4.0, 2.1)
"""|ln(B/median)| of the bulk moduli, likewise; the shipped set reaches 1.82 (Er, diamond); GPa taken for eV/Angstrom^3
are 5.1."""

DERIVATIVE: Final = (0.0, 15.0)
"""B0' of the shipped set lies between 0.4 (Hg) and 12.1 (Y)."""

AGAINST_DEFAULT: Final = ((0.47, 0.22), (2.3, 1.1))
"""|ln V0| and |ln B0| against the same crystal of the default set, error and warning: other functionals and magnetism
move volumes by up to a tenth and bulk moduli by half."""

PHASE: Final = (12.0, 6.0)
"""eV/atom from the median of an element's crystals: the shipped set reaches 3.4 (C, diamond)."""


def check_dataset(name_or_dir: str | Path) -> CheckReport:
    """Look for defects of a set that its loader cannot see.

    Looked for are: duplicates (same structure, with equal or different energies), outliers (energies, forces, volumes
    and bulk moduli far from those around them), kinks and jumps in E(V), minima outside the points, rows that do not
    belong to their points, stress that does not belong to E(V), missing energies, missing energy offsets, different
    settings mixed, atoms on top of each other, files that changed after they were written.

    Raises
    ------
    ReferenceDataError, FileFormatError
        The set cannot be loaded at all.
    """
    folder = dataset_folder(name_or_dir)
    dataset = load_dataset(name_or_dir)
    points = load_points(name_or_dir)
    frames = load_frames(name_or_dir)
    findings = [
        *_files(folder, dataset, points),
        *_crystals(dataset),
        *_against_default(dataset),
        *(finding for curve in points for finding in check_points(curve)),
        *_rows_and_points(dataset, points),
        *_offsets(dataset, frames),
        *_bands(dataset),
        *frame_findings(dataset, frames),
    ]
    findings.sort(key=lambda finding: finding.severity)
    return CheckReport(
        name=dataset.name,
        checksum=dataset.checksum,
        crystals=len(dataset.crystals),
        points=sum(len(curve.volumes) for curve in points),
        frames=len(frames),
        bands=len(dataset.bands),
        atoms=len(dataset.atoms),
        findings=tuple(findings),
    )


# --- files


def _files(folder: Path, dataset: Dataset, points: Sequence[PointsReference]) -> Iterator[Finding]:
    if not (folder / "README.md").is_file():
        yield warning_at("files", "README.md", "missing: nothing says where the numbers come from")
    rows = {
        CRYSTALS_FILE: len(dataset.crystals),
        POINTS_FILE: sum(len(curve.volumes) for curve in points),
        BANDS_FILE: len(dataset.bands),
        ATOMS_FILE: len(dataset.atoms),
        FRAMES_FILE: dataset.frames,
    }
    for name, stated in dataset.files.items():
        path = folder / name
        if not path.is_file():
            yield error_at("files", name, "listed in dataset.toml, and missing")
            continue
        if name in rows and rows[name] != stated.rows:
            yield error_at("files", name, f"holds {rows[name]} rows; dataset.toml says {stated.rows}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != stated.sha256:
            yield error_at("files", name, "its checksum is not that of dataset.toml: it changed after it was written")
    if dataset.files:
        for name in rows:
            if name not in dataset.files and (folder / name).is_file():
                yield warning_at("files", name, "not listed in dataset.toml, which lists others")


# --- rows


def _crystals(dataset: Dataset) -> Iterator[Finding]:
    """Compare the crystals of each element or compound with each other."""
    groups: dict[str, list[CrystalReference]] = {}
    for crystal in dataset.crystals:
        groups.setdefault(crystal.compound, []).append(crystal)
        if not DERIVATIVE[0] <= crystal.bulk_modulus_derivative <= DERIVATIVE[1]:
            yield warning_at("outlier", crystal_label(crystal), f"B0' = {crystal.bulk_modulus_derivative:.3g}")
    for group in groups.values():
        if len(group) >= 3:
            yield from _group(group)
    yield from _same_crystals(dataset.crystals)
    for crystal in dataset.crystals:
        if crystal.partner is None or not set(crystal.symbols) <= dataset.offsets.keys():
            continue
        names = crystal.structure.species(crystal.symbol, crystal.partner)
        bound = crystal.energy - sum(dataset.offset(name) for name in names) / len(names)
        if not BINDING[0] <= bound <= BINDING[1]:
            yield error_at(
                "outlier",
                crystal_label(crystal),
                f"{bound:.4g} eV/atom relative to the offsets: the two have different zeros",
            )


def _group(group: Sequence[CrystalReference]) -> Iterator[Finding]:
    distances = np.log([c.structure.neighbour_distance(c.volume) for c in group])
    energies = np.array([c.energy for c in group])
    solid = [c.structure.dimensions == 3 for c in group]
    stiffness = np.log([c.bulk_modulus for c in group])
    for index, crystal in enumerate(group):
        others = f"other crystals of {crystal.compound}"
        away = abs(distances[index] - np.median(distances))
        yield from graded(
            away, LENGTH, "outlier", crystal_label(crystal),
            f"V0 = {crystal.volume:.4g} Angstrom^3/atom has neighbours {np.exp(distances[index]):.3g} Angstrom apart; "
            f"the median of the {others} is {np.exp(np.median(distances)):.3g}",
        )  # fmt: skip
        if solid[index] and sum(solid) >= 3:
            middle = float(np.median(stiffness[solid]))
            yield from graded(
                abs(stiffness[index] - middle), STIFFNESS, "outlier", crystal_label(crystal),
                f"B0 = {crystal.bulk_modulus:.3g} eV/Angstrom^3; the median of the {others} is {np.exp(middle):.3g}",
            )  # fmt: skip
        yield from graded(
            float(abs(energies[index] - np.median(energies))), PHASE, "outlier", crystal_label(crystal),
            f"energy {energies[index]:.6g} eV/atom; the median of the {others} is {np.median(energies):.6g}",
        )  # fmt: skip


def _same_crystals(crystals: Sequence[CrystalReference]) -> Iterator[Finding]:
    """Find one crystal under two names: another name of the prototype, or the two elements the other way around."""
    seen: dict[tuple[str, str, str | None], CrystalReference] = {}
    for crystal in crystals:
        name = crystal.structure.name
        key = (crystal.symbol, name, crystal.partner)
        if crystal.partner is not None:
            identity = identify(crystal.atoms(crystal.volume))
            if identity is not None:
                key = (identity.symbol, identity.prototype, identity.partner)
        if key not in seen:
            seen[key] = crystal
            continue
        other = seen[key]
        differs = abs(crystal.energy - other.energy) > SAME_ENERGY or abs(crystal.volume / other.volume - 1.0) > 1e-4
        yield Finding(
            severity="error" if differs else "warning",
            kind="duplicate",
            subject=crystal_label(crystal),
            message=f"the same crystal as {crystal_label(other)}, with {'other' if differs else 'the same'} numbers",
        )


def _against_default(dataset: Dataset) -> Iterator[Finding]:
    """Compare with the same crystals of the default set, which 17 codes agree on."""
    if DEFAULT_DATASET not in list_datasets():
        return
    default = load_dataset(DEFAULT_DATASET)
    if default.checksum == dataset.checksum:
        return
    known = {(c.symbol, c.structure.name): c for c in default.crystals if c.partner is None}
    for crystal in dataset.crystals:
        other = known.get((crystal.symbol, crystal.structure.name)) if crystal.partner is None else None
        if other is None:
            continue
        for what, mine, theirs, limits, unit in (
            ("V0", crystal.volume, other.volume, AGAINST_DEFAULT[0], "Angstrom^3/atom"),
            ("B0", crystal.bulk_modulus, other.bulk_modulus, AGAINST_DEFAULT[1], "eV/Angstrom^3"),
        ):
            yield from graded(
                abs(float(np.log(mine / theirs))), limits, "outlier", crystal_label(crystal),
                f"{what} = {mine:.4g} {unit}; {DEFAULT_DATASET} has {theirs:.4g}",
            )  # fmt: skip


# --- points


def check_points(curve: PointsReference) -> Iterator[Finding]:
    """Look at one E(V) curve: double volumes, kinks and jumps, a minimum that is not inside.

    A kink is a point away from the Birch-Murnaghan curve through the points around the minimum, or from the cubic
    through its four neighbours, by more than `KINK` and `KINK_PART`.
    """
    label = crystal_label(curve)
    v, e = np.array(curve.volumes), np.array(curve.energies)
    double = np.flatnonzero(np.diff(v) <= SAME_VOLUME * v[:-1])
    for index in double:
        differs = abs(e[index + 1] - e[index]) > SAME_ENERGY
        yield Finding(
            severity="error" if differs else "warning",
            kind="duplicate",
            subject=label,
            message=f"two points at {v[index]:.6g} Angstrom^3/atom with {'different' if differs else 'equal'} energies",
        )
    keep = np.setdiff1d(np.arange(len(v)), double + 1)
    v, e = v[keep], e[keep]
    if len(v) < MIN_POINTS:
        yield warning_at("minimum", label, f"{len(v)} points; a curve needs {MIN_POINTS} or more")
        return
    lowest = int(np.argmin(e))
    if lowest in (0, len(v) - 1):
        yield error_at(
            "minimum",
            label,
            f"lowest at the end of its points, {v[lowest]:.6g} Angstrom^3/atom: the minimum lies outside",
        )
    worst, where = _roughness(v, e)
    if worst > KINK[1]:
        yield Finding(
            severity="error" if worst > KINK[0] else "warning",
            kind="kink",
            subject=label,
            message=f"kink or jump at {where:.6g} Angstrom^3/atom: {1e3 * worst:.2g} meV/atom off a smooth curve",
        )


def _roughness(v: Array, e: Array) -> tuple[float, float]:
    """Largest distance of a point from a smooth curve that is also a part of the energy range, and its volume."""
    away = np.zeros(len(v))
    near = np.abs(v / v[int(np.argmin(e))] - 1.0) <= FIT_RANGE
    if near.sum() > MIN_POINTS:
        # Birch-Murnaghan with a minimum anywhere: a kinked curve may have none.
        x = np.cbrt(v[near].mean() / v[near]) ** 2
        basis = np.vander(x - x.mean(), 4)
        rest = e[near] - e[near].mean()
        residual = np.abs(rest - basis @ np.linalg.lstsq(basis, rest, rcond=None)[0])
        away[near] = np.where(residual > KINK_PART * np.ptp(e[near]), residual, 0.0)
    x = v ** (-2.0 / 3.0)
    for i in range(2, len(v) - 2):
        others = np.array([i - 2, i - 1, i + 1, i + 2])
        t = (x[others] - x[i]) / (x[i + 1] - x[i - 1])
        # Value at t = 0 of the cubic through the four neighbours.
        expected = np.linalg.solve(np.vander(t, 4), e[others] - e[i])[-1]
        if abs(expected) > KINK_PART * np.ptp(e[i - 2 : i + 3]):
            away[i] = max(away[i], abs(expected))
    worst = int(np.argmax(away))
    return float(away[worst]), float(v[worst])


def _rows_and_points(dataset: Dataset, points: Sequence[PointsReference]) -> Iterator[Finding]:
    """Compare rows with fits of their points."""
    rows = {(c.symbol, c.structure.name, c.partner): c for c in dataset.crystals}
    for curve in points:
        label, row = crystal_label(curve), rows.get((curve.symbol, curve.structure.name, curve.partner))
        if row is None:
            yield warning_at("minimum", label, f"has points and no row in {CRYSTALS_FILE}")
            continue
        v, e = np.array(curve.volumes), np.array(curve.energies)
        if not v[0] <= row.volume <= v[-1]:
            yield error_at(
                "minimum", label, f"V0 = {row.volume:.6g} of its row lies outside its points, {v[0]:.6g} to {v[-1]:.6g}"
            )
            continue
        near = np.abs(v / row.volume - 1.0) <= FIT_RANGE
        if near.sum() < MIN_POINTS:
            continue
        try:
            fit = fit_birch_murnaghan(v[near], e[near], extrapolate=True)
        except (InputError, NoMinimum) as error:
            yield error_at("minimum", label, f"its points have no minimum: {error.message}")
            continue
        depth = max(0.05 * float(np.ptp(e[near])), 2e-3)
        if abs(fit.v0 / row.volume - 1.0) > 0.02 or abs(fit.e0 - row.energy) > depth:
            yield error_at(
                "minimum", label,
                f"its row has V0 = {row.volume:.6g}, E0 = {row.energy:.6g}; its points give {fit.v0:.6g}, {fit.e0:.6g}",
            )  # fmt: skip


# --- the set


def _offsets(dataset: Dataset, frames: Sequence[Atoms]) -> Iterator[Finding]:
    """Find elements that meet others without an energy zero."""
    groups = [c.symbols for c in dataset.crystals if c.partner is not None]
    groups += [tuple(kinds) for frame in frames if len(kinds := set(symbols_of(frame))) > 1]
    missing = sorted({symbol for group in groups for symbol in group} - dataset.offsets.keys())
    if missing:
        yield error_at(
            "offsets", "dataset.toml",
            f"no energy offset of {listed(missing)}: energies of different elements cannot be compared",
        )  # fmt: skip


def _bands(dataset: Dataset) -> Iterator[Finding]:
    seen = set()
    for bands in dataset.bands:
        key = (bands.symbol, bands.structure.name, bands.partner, round(bands.volume, 4))
        if key in seen:
            yield warning_at(
                "duplicate", crystal_label(bands), f"two band structures at {bands.volume:.6g} Angstrom^3/atom"
            )
        seen.add(key)
