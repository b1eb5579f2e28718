"""Checks a reference set for what would spoil a fit without a word: see `check_dataset`.

Limits were set on the E(V) points of the ACWF verification (2,300 curves of three codes) and on the shipped set of 96
elements, such that sound data stay below them; each says what it was measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError, NoMinimum
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
from dftbparam.reference.eos_fit import EosFitter, fit_birch_murnaghan
from dftbparam.reference.importers.assemble import FIT_RANGE, MIN_POINTS, SAME_ENERGY, SAME_VOLUME
from dftbparam.reference.importers.frame import Frame, check_frame, closest_pair, listed, symbols_of
from dftbparam.reference.importers.identify import identify
from dftbparam.reference.importers.settings import Setting, contradictions, same_functional, settings_from
from dftbparam.reference.prototypes import prototype
from dftbparam.reference.records import CrystalReference, Dataset, PointsReference

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]
Severity = Literal["error", "warning"]

KINK: Final = (1e-3, 3e-4)
"""Distance of a point from a smooth curve that is an error, a warning; eV/atom. All-electron codes stay below 1e-4 on
elements and oxides, plane-wave codes below 1.3e-4 but for three oxides with a kink (5e-4)."""

KINK_PART: Final = 0.03
"""It must also be this part of the energy range of the curve: soft crystals (He, Ar) have little more than noise."""

FORCE: Final = 50.0
"""eV/Angstrom; a bond at half its length pushes less."""

NET_FORCE: Final = 0.1
"""eV/Angstrom per atom; forces on all atoms together must vanish but for the noise of a grid."""

CLOSE: Final = 0.5
"""Atoms nearer than this part of their covalent radii are worth a look; the shipped crystals begin at 0.60."""

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
"""eV/atom from the median of an element's crystals: the shipped set stays below half of the smaller."""

OUTLIER: Final = (5.0, 1.0)
"""eV/atom from the median of a composition, and `SPREADS` robust standard deviations: error, warning."""

SPREADS: Final = 8.0
FEW: Final = 5
"""Fewer structures have no spread to compare with."""

OTHER_ZERO: Final = 20.0
"""eV/atom between an element's structures and its crystals: no structure is that far from a crystal, another energy
zero is."""

BINDING: Final = (-20.0, 15.0)
"""Energies relative to the offsets, eV/atom; carbon binds with 9 (PBE: -7.9 eV/atom), nothing with more than twice."""

SAME_PLACE: Final = 2e-3
"""Angstrom; structures whose distances all agree to this are the same."""

VIEW: Final = 5.0
"""Distances up to this, Angstrom, are compared to tell structures apart."""

SLOPE: Final = (0.4, 2.5)
"""Stress over the slope of E(V): 1 but for an incomplete basis; minus 1 is another sign, 160 are GPa, 1/10 kbar."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Record):
    """Something wrong. ``kind`` is a word to sort by, ``subject`` the crystal, structure or file."""

    severity: Severity
    kind: str
    subject: str
    message: str


class CheckReport(_Record):
    """What was found in a set, and how much was looked at. No finding: nothing wrong was seen."""

    name: str
    checksum: str
    crystals: int
    points: int
    frames: int
    bands: int
    atoms: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the set unfit for use."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


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
        *_frames(dataset, frames),
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


def _graded(value: float, limits: tuple[float, float], kind: str, subject: str, message: str) -> Iterator[Finding]:
    """One finding if the value is above the limits for an error or a warning."""
    if value > limits[1]:
        yield Finding(severity="error" if value > limits[0] else "warning", kind=kind, subject=subject, message=message)


def _error(kind: str, subject: str, message: str) -> Finding:
    return Finding(severity="error", kind=kind, subject=subject, message=message)


def _warning(kind: str, subject: str, message: str) -> Finding:
    return Finding(severity="warning", kind=kind, subject=subject, message=message)


# --- files


def _files(folder: Path, dataset: Dataset, points: Sequence[PointsReference]) -> Iterator[Finding]:
    if not (folder / "README.md").is_file():
        yield _warning("files", "README.md", "missing: nothing says where the numbers come from")
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
            yield _error("files", name, "listed in dataset.toml, and missing")
            continue
        if name in rows and rows[name] != stated.rows:
            yield _error("files", name, f"holds {rows[name]} rows; dataset.toml says {stated.rows}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != stated.sha256:
            yield _error("files", name, "its checksum is not that of dataset.toml: it changed after it was written")
    if dataset.files:
        for name in rows:
            if name not in dataset.files and (folder / name).is_file():
                yield _warning("files", name, "not listed in dataset.toml, which lists others")


# --- rows


def _label(crystal: Any) -> str:
    return f"{crystal.compound} {crystal.prototype}"


def _crystals(dataset: Dataset) -> Iterator[Finding]:
    """Compare the crystals of each element or compound with each other."""
    groups: dict[str, list[CrystalReference]] = {}
    for crystal in dataset.crystals:
        groups.setdefault(crystal.compound, []).append(crystal)
        if not DERIVATIVE[0] <= crystal.bulk_modulus_derivative <= DERIVATIVE[1]:
            yield _warning("outlier", _label(crystal), f"B0' = {crystal.bulk_modulus_derivative:.3g}")
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
            yield _error(
                "outlier", _label(crystal), f"{bound:.4g} eV/atom relative to the offsets: the two have different zeros"
            )


def _group(group: Sequence[CrystalReference]) -> Iterator[Finding]:
    distances = np.log([c.structure.neighbour_distance(c.volume) for c in group])
    energies = np.array([c.energy for c in group])
    solid = [c.structure.dimensions == 3 for c in group]
    stiffness = np.log([c.bulk_modulus for c in group])
    for index, crystal in enumerate(group):
        others = f"other crystals of {crystal.compound}"
        away = abs(distances[index] - np.median(distances))
        yield from _graded(
            away, LENGTH, "outlier", _label(crystal),
            f"V0 = {crystal.volume:.4g} Angstrom^3/atom has neighbours {np.exp(distances[index]):.3g} Angstrom apart; "
            f"the median of the {others} is {np.exp(np.median(distances)):.3g}",
        )  # fmt: skip
        if solid[index] and sum(solid) >= 3:
            middle = float(np.median(stiffness[solid]))
            yield from _graded(
                abs(stiffness[index] - middle), STIFFNESS, "outlier", _label(crystal),
                f"B0 = {crystal.bulk_modulus:.3g} eV/Angstrom^3; the median of the {others} is {np.exp(middle):.3g}",
            )  # fmt: skip
        yield from _graded(
            float(abs(energies[index] - np.median(energies))), PHASE, "outlier", _label(crystal),
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
            subject=_label(crystal),
            message=f"the same crystal as {_label(other)}, {'with other' if differs else 'with the same'} numbers",
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
            yield from _graded(
                abs(float(np.log(mine / theirs))), limits, "outlier", _label(crystal),
                f"{what} = {mine:.4g} {unit}; {DEFAULT_DATASET} has {theirs:.4g}",
            )  # fmt: skip


# --- points


def check_points(curve: PointsReference) -> Iterator[Finding]:
    """Look at one E(V) curve: double volumes, kinks and jumps, a minimum that is not inside.

    A kink is a point away from the Birch-Murnaghan curve through the points around the minimum, or from the cubic
    through its four neighbours, by more than `KINK` and `KINK_PART`.
    """
    label = _label(curve)
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
        yield _warning("minimum", label, f"{len(v)} points; a curve needs {MIN_POINTS} or more")
        return
    lowest = int(np.argmin(e))
    if lowest in (0, len(v) - 1):
        yield _error(
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
        label, row = _label(curve), rows.get((curve.symbol, curve.structure.name, curve.partner))
        if row is None:
            yield _warning("minimum", label, f"has points and no row in {CRYSTALS_FILE}")
            continue
        v, e = np.array(curve.volumes), np.array(curve.energies)
        if not v[0] <= row.volume <= v[-1]:
            yield _error(
                "minimum", label, f"V0 = {row.volume:.6g} of its row lies outside its points, {v[0]:.6g} to {v[-1]:.6g}"
            )
            continue
        near = np.abs(v / row.volume - 1.0) <= FIT_RANGE
        if near.sum() < MIN_POINTS:
            continue
        try:
            fit = fit_birch_murnaghan(v[near], e[near], extrapolate=True)
        except (InputError, NoMinimum) as error:
            yield _error("minimum", label, f"its points have no minimum: {error.message}")
            continue
        depth = max(0.05 * float(np.ptp(e[near])), 2e-3)
        if abs(fit.v0 / row.volume - 1.0) > 0.02 or abs(fit.e0 - row.energy) > depth:
            yield _error(
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
        yield _error(
            "offsets", "dataset.toml",
            f"no energy offset of {listed(missing)}: energies of different elements cannot be compared",
        )  # fmt: skip


def _bands(dataset: Dataset) -> Iterator[Finding]:
    seen = set()
    for bands in dataset.bands:
        key = (bands.symbol, bands.structure.name, bands.partner, round(bands.volume, 4))
        if key in seen:
            yield _warning("duplicate", _label(bands), f"two band structures at {bands.volume:.6g} Angstrom^3/atom")
        seen.add(key)


# --- structures


def _frames(dataset: Dataset, images: Sequence[Atoms]) -> Iterator[Finding]:
    frames: list[Frame] = []
    for index, atoms in enumerate(images, start=1):
        label = str(atoms.info.get("name") or f"#{index}")
        results: dict[str, Any] = {} if atoms.calc is None else atoms.calc.results
        if not isinstance(results.get("energy"), float | int | np.number):
            yield _error("energies", label, "no energy")
            continue
        frame = Frame(
            atoms=atoms,
            energy=float(results["energy"]),
            source=label,
            forces=results.get("forces"),
            stress=results.get("stress"),
            settings=settings_from(atoms.info),
        )
        try:
            check_frame(frame)
        except InputError as error:
            yield _error("structure", label, error.message.removeprefix(f"{label}: "))
            continue
        frames.append(frame)
        yield from _frame(frame)
    yield from _same_frames(frames)
    yield from _energies(dataset, frames)
    yield from _settings(dataset, frames)
    yield from _stress(frames)


def _frame(frame: Frame) -> Iterator[Finding]:
    close = closest_pair(frame.atoms, CLOSE)
    if close is not None:
        yield _warning("structure", frame.source, f"{close[2][0]} and {close[2][1]} lie {close[1]:.3g} Angstrom apart")
    if frame.forces is None:
        return
    largest = float(np.linalg.norm(frame.forces, axis=1).max())
    if largest > FORCE:
        yield _error(
            "outlier", frame.source, f"a force of {largest:.3g} eV/Angstrom; more than {FORCE:g} is implausible"
        )
    net = float(np.linalg.norm(np.sum(frame.forces, axis=0))) / len(frame.atoms)
    if net > NET_FORCE:
        yield _warning(
            "outlier", frame.source, f"forces do not add up to zero: {net:.3g} eV/Angstrom per atom are left"
        )


def _same_frames(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Find structures that are the same but for rotation, translation and order of atoms."""
    groups: dict[tuple[tuple[str, int], ...], list[Frame]] = {}
    for frame in frames:
        symbols = symbols_of(frame.atoms)
        groups.setdefault(tuple((s, symbols.count(s)) for s in frame.elements), []).append(frame)
    for group in groups.values():
        if len(group) < 2:
            continue
        views = [_view(frame.atoms) for frame in group]
        # Structures that are the same have the same sum, so that only neighbours in its order need comparing.
        sums = np.array([float(np.exp(-view[:, -1]).sum()) for view in views])
        order = np.argsort(sums, kind="stable")
        for place, one in enumerate(order):
            for two in order[place + 1 :]:
                if sums[two] - sums[one] > SAME_PLACE * (1.0 + sums[one]):
                    break
                if _same_view(group[one], group[two], views[one], views[two]):
                    yield _duplicate(group[min(one, two)], group[max(one, two)])
                    break


def _duplicate(first: Frame, second: Frame) -> Finding:
    differ = abs(first.energy_per_atom - second.energy_per_atom)
    known = differ > 1e-3
    return Finding(
        severity="error" if known else "warning",
        kind="duplicate",
        subject=second.source,
        message=f"the same structure as {first.source}, "
        + (f"and {1e3 * differ:.3g} meV/atom away in energy" if known else "with the same energy"),
    )


def _view(atoms: Atoms) -> Array:
    """Return (pairs, 3): both atomic numbers and the distance of all pairs in view, sorted."""
    from ase.neighborlist import neighbor_list as ase_neighbor_list

    neighbor_list: Any = ase_neighbor_list  # ASE's is untyped
    first, second, distance = neighbor_list("ijd", atoms, VIEW)
    table = np.column_stack([atoms.numbers[first], atoms.numbers[second], distance]).astype(np.float64)
    return table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))].reshape(-1, 3)


def _same_view(one: Frame, two: Frame, first: Array, second: Array) -> bool:
    if one.atoms.pbc.all() and two.atoms.pbc.all():
        volumes = one.atoms.cell.volume, two.atoms.cell.volume
        if abs(volumes[0] / volumes[1] - 1.0) > 1e-4:
            return False
    if len(one.atoms) == 1 and not len(first) and not len(second):
        return True  # isolated atoms
    # A pair at the edge of the view may be in one list and not in the other.
    first, second = (view[view[:, 2] < VIEW - 2.0 * SAME_PLACE] for view in (first, second))
    return first.shape == second.shape and bool(np.abs(first - second).max(initial=0.0) < SAME_PLACE)


def _energies(dataset: Dataset, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Compare energies per atom within compositions, and relative to offsets and crystals."""
    same: dict[tuple[tuple[str, float], ...], list[Frame]] = {}
    for frame in frames:
        symbols = symbols_of(frame.atoms)
        key = tuple((s, round(symbols.count(s) / len(symbols), 6)) for s in frame.elements)
        same.setdefault(key, []).append(frame)
    told: set[int] = set()
    for key, group in same.items():
        if len(group) >= FEW:
            what = "of this composition"
            yield from _far(group, [f.energy_per_atom for f in group], what, told)
        if len(key) == 1 and key[0][0] in dataset.symbols:
            stable = dataset.stable(key[0][0])
            for frame in group:
                if id(frame) not in told and abs(frame.energy_per_atom - stable.energy) > OTHER_ZERO:
                    told.add(id(frame))
                    yield _error(
                        "outlier", frame.source,
                        f"{frame.energy_per_atom:.6g} eV/atom; {_label(stable)} has {stable.energy:.6g}: another zero",
                    )  # fmt: skip
    for frame in frames:
        if id(frame) in told or len(frame.elements) < 2 or not set(frame.elements) <= dataset.offsets.keys():
            continue
        bound = frame.energy_per_atom - float(np.mean([dataset.offset(s) for s in symbols_of(frame.atoms)]))
        if not BINDING[0] <= bound <= BINDING[1]:
            yield _error("outlier", frame.source, f"{bound:.4g} eV/atom relative to the offsets: another energy zero")


def _far(group: Sequence[Frame], energies: Sequence[float], what: str, told: set[int]) -> Iterator[Finding]:
    values = np.array(energies)
    middle = float(np.median(values))
    spread = 1.4826 * float(
        np.median(np.abs(values - middle))
    )  # the standard deviation, if it were a normal distribution
    for frame, value in zip(group, values, strict=True):
        if abs(value - middle) <= SPREADS * spread:
            continue
        for finding in _graded(
            float(abs(value - middle)), OUTLIER, "outlier", frame.source,
            f"{value:.6g} eV/atom; the median {what} is {middle:.6g}, the spread {spread:.2g}",
        ):  # fmt: skip
            told.add(id(frame))
            yield finding


def _settings(dataset: Dataset, frames: Sequence[Frame]) -> Iterator[Finding]:
    """Find structures that were computed differently, as far as they say how."""
    stated: list[tuple[dict[str, Setting], str]] = [(dict(f.settings), f.source) for f in frames if f.settings]
    known: set[str] = set()
    for name, values in contradictions(stated).items():
        known.add(name)
        shown = ", ".join(f"{value} ({where})" for value, where in values)
        # Another width or kind of smearing moves energies by little; everything else is another method.
        mild = name in ("smearing", "scheme", "version")
        yield Finding(
            severity="warning" if mild else "error", kind="settings", subject=FRAMES_FILE, message=f"{name} is {shown}"
        )
    mixed = dataset.settings.get("mixed", {})
    for name, found in mixed.items() if isinstance(mixed, dict) else ():
        if name not in known:
            mild = name in ("smearing", "scheme", "version")
            shown = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
            yield Finding(
                severity="warning" if mild else "error", kind="settings", subject="dataset.toml",
                message=f"{name} is {shown}",
            )  # fmt: skip
    if "functional" not in known:
        for settings, where in stated:
            functional = str(settings.get("functional", dataset.functional))
            if not same_functional(functional, dataset.functional):
                yield _error("settings", where, f"functional {functional}; the set says {dataset.functional}")
                break


def _stress(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Compare the stress of a crystal's structures with the slope of their E(V), which it is but for its unit."""
    curves: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.stress is not None and frame.atoms.pbc.all() and frame.atoms.info.get("crystal"):
            curves.setdefault(str(frame.atoms.info["crystal"]), []).append(frame)
    for crystal, group in curves.items():
        v = np.array([f.atoms.cell.volume / len(f.atoms) for f in group])
        e = np.array([f.energy_per_atom for f in group])
        symbol, _, name = crystal.partition(" ")
        try:
            solid = prototype(name, symbol.split("-")[0]).dimensions == 3
        except InputError:
            solid = False
        if not solid or len(np.unique(np.round(v, 6))) < MIN_POINTS:
            continue
        # A constant in the stress comes from a basis that does not follow the cell; the slope is what counts.
        pressure = np.array([float(np.mean(f.stress[:3])) for f in group if f.stress is not None])
        slope = _slope(v, e)
        if slope is None or float(np.ptp(slope)) < 1e-3:
            continue
        ratio = float(np.polyfit(slope, pressure, 1)[0])
        if not SLOPE[0] <= ratio <= SLOPE[1]:
            hint = "its sign is the other one" if ratio < 0.0 else "its unit is another one"
            yield _error("stress", crystal, f"stress is {ratio:.3g} times the slope of E(V): {hint}, or it is wrong")


def _slope(v: Array, e: Array) -> Array | None:
    """dE/dV of a smooth curve through the points, eV/Angstrom^3; None where there are too few."""
    try:
        EosFitter(v)
    except InputError:
        return None
    x = np.cbrt(v.mean() / v) ** 2 - 1.0
    polynomial = np.polynomial.Polynomial.fit(x, e, 3)
    return np.asarray(polynomial.deriv()(x) * (-2.0 / 3.0) * (x + 1.0) / v)
