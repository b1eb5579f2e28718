"""Checks of the structures of a reference set: `frame_findings`, a part of `dftbparam.reference.check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import InputError
from dftbparam.reference.dataset import FRAMES_FILE
from dftbparam.reference.eos_fit import EosFitter
from dftbparam.reference.findings import BINDING, Finding, crystal_label, error_at, graded, warning_at
from dftbparam.reference.importers.assemble import MIN_POINTS
from dftbparam.reference.importers.frame import Frame, check_frame, closest_pair, symbols_of
from dftbparam.reference.importers.settings import (
    Setting,
    contradictions,
    functional_name,
    same_functional,
    settings_from,
)
from dftbparam.reference.prototypes import prototype
from dftbparam.reference.records import Dataset

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]

FORCE: Final = 50.0
"""eV/Angstrom; a bond at half its length pushes less."""

NET_FORCE: Final = 0.1
"""eV/Angstrom per atom; forces on all atoms together must vanish but for the noise of a grid."""

CLOSE: Final = 0.5
"""Atoms nearer than this part of their covalent radii are worth a look; the shipped crystals begin at 0.60."""

OUTLIER: Final = (5.0, 1.0)
"""eV/atom from the median of a composition, and `SPREADS` robust standard deviations: error, warning."""

SPREADS: Final = 8.0

FEW: Final = 5
"""Fewer structures have no spread to compare with."""

OTHER_ZERO: Final = 20.0
"""eV/atom between an element's structures and its crystals: no structure is that far from a crystal, another energy
zero is."""

SAME_PLACE: Final = 2e-3
"""Angstrom; structures whose distances all agree to this are the same."""

VIEW: Final = 5.0
"""Distances up to this, Angstrom, are compared to tell structures apart."""

SLOPE: Final = (0.4, 2.5)
"""Stress over the slope of E(V): 1 but for an incomplete basis; minus 1 is another sign, 160 are GPa, 1/10 kbar."""


def frame_findings(dataset: Dataset, images: Sequence[Atoms]) -> Iterator[Finding]:
    """Yield what is wrong with structures, alone and among each other; see `dftbparam.reference.check`."""
    frames: list[Frame] = []
    for index, atoms in enumerate(images, start=1):
        label = str(atoms.info.get("name") or f"#{index}")
        results: dict[str, Any] = {} if atoms.calc is None else atoms.calc.results
        if not isinstance(results.get("energy"), float | int | np.number):
            yield error_at("energies", label, "no energy")
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
            yield error_at("structure", label, error.message.removeprefix(f"{label}: "))
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
        yield warning_at(
            "structure", frame.source, f"{close[2][0]} and {close[2][1]} lie {close[1]:.3g} Angstrom apart"
        )
    if frame.forces is None:
        return
    largest = float(np.linalg.norm(frame.forces, axis=1).max())
    if largest > FORCE:
        yield error_at(
            "outlier", frame.source, f"a force of {largest:.3g} eV/Angstrom; more than {FORCE:g} is implausible"
        )
    net = float(np.linalg.norm(np.sum(frame.forces, axis=0))) / len(frame.atoms)
    if net > NET_FORCE:
        yield warning_at(
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
                    yield error_at(
                        "outlier", frame.source,
                        f"{frame.energy_per_atom:.6g} eV/atom; {crystal_label(stable)} has {stable.energy:.6g}",
                    )  # fmt: skip
    for frame in frames:
        if id(frame) in told or len(frame.elements) < 2 or not set(frame.elements) <= dataset.offsets.keys():
            continue
        bound = frame.energy_per_atom - float(np.mean([dataset.offset(s) for s in symbols_of(frame.atoms)]))
        if not BINDING[0] <= bound <= BINDING[1]:
            yield error_at("outlier", frame.source, f"{bound:.4g} eV/atom relative to the offsets: another energy zero")


def _far(group: Sequence[Frame], energies: Sequence[float], what: str, told: set[int]) -> Iterator[Finding]:
    values = np.array(energies)
    middle = float(np.median(values))
    spread = 1.4826 * float(
        np.median(np.abs(values - middle))
    )  # the standard deviation, if it were a normal distribution
    for frame, value in zip(group, values, strict=True):
        if abs(value - middle) <= SPREADS * spread:
            continue
        for finding in graded(
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
        if name == "cutoff" and not _contradicted_within_elements(name, frames):
            # A cutoff by elements, as this package has it: energies of a compound are of one kind.
            mild, shown = True, f"{shown}: energies of compounds of different cutoffs cannot be compared"
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
            if not same_functional(functional, functional_name(dataset.functional)):
                yield error_at("settings", where, f"functional {functional}; the set says {dataset.functional}")
                break


def _contradicted_within_elements(name: str, frames: Sequence[Frame]) -> bool:
    """Say whether structures of the same elements differ in a setting."""
    groups: dict[tuple[str, ...], list[tuple[dict[str, Setting], str]]] = {}
    for frame in frames:
        groups.setdefault(tuple(sorted(frame.elements)), []).append((dict(frame.settings), frame.source))
    return any(name in contradictions(stated) for stated in groups.values())


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
            yield error_at("stress", crystal, f"stress is {ratio:.3g} times the slope of E(V): {hint}, or it is wrong")


def _slope(v: Array, e: Array) -> Array | None:
    """dE/dV of a smooth curve through the points, eV/Angstrom^3; None where there are too few."""
    try:
        EosFitter(v)
    except InputError:
        return None
    x = np.cbrt(v.mean() / v) ** 2 - 1.0
    polynomial = np.polynomial.Polynomial.fit(x, e, 3)
    return np.asarray(polynomial.deriv()(x) * (-2.0 / 3.0) * (x + 1.0) / v)
