"""The physics gate: what an element's tables have to pass before they are published.

==============  ========================================================================================================
check           fails where
==============  ========================================================================================================
lint, cutoff,   `dftbparam.publish.pair_gate`: continuity and sign of the repulsion, decay of the tables, cutoffs,
overlap         positive definite overlap of two atoms; for every pair
hubbard         U of a shell is not between `U_RANGE`
spin            W of an occupied shell is not between `W_RANGE`, or another W is beyond
on-site         p lies below s, or an empty shell below the highest occupied one
crystal         sc, bcc, fcc or diamond has an overlap that is not positive definite, or no energy, at one of
                `RELATIVE_VOLUMES`
implosion       on compression from its lowest minimum beyond 0.75 of the reference volume (or, without one, from that
                volume itself) such a crystal comes to lie lower than there
dimer           its energy falls on the way inwards from 0.6 of contact (`dftbparam.score.short_range`)
dftb+           DFTB+ cannot read the tables, or finds another energy for the dimer than the embedded engine
==============  ========================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError, DftbparamError, EngineMissing, ReferenceDataError
from dftbparam.publish.element_data import ElementData
from dftbparam.publish.pair_gate import pair_defects
from dftbparam.publish.pairs import Grid
from dftbparam.reference import load_dataset, mesh
from dftbparam.reference.prototypes import build, prototype
from dftbparam.score.short_range import DISTANCES, contact_distance, wall_violation
from dftbparam.skf import Defect, SKSet, read_set
from dftbparam.slako.build import build_pair
from dftbparam.slako.tabulated import TabulatedAtom
from dftbparam.space import ParameterSet
from dftbparam.units import BOHR, HARTREE

Array = NDArray[np.float64]

U_RANGE: Final = (0.02, 2.0)
"""Hartree. Occupied shells of the free atoms have 0.1 (caesium 6s) to 0.75 (helium); empty ones may have less."""

W_RANGE: Final = (-0.15, -0.002)
"""Hartree. Published ones lie between -0.072 (H) and -0.01."""

CRYSTALS: Final = ("sc", "bcc", "fcc", "diamond")

RELATIVE_VOLUMES: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6)
"""Relative to the reference; 0.5 is a factor of 0.79 in distance."""

DEEPER: Final = 0.002
"""eV/atom below its minimum that a compressed crystal may come to lie: rounding, and noise of k-points."""

NEAREST: Final = 0.75
"""Relative volume from which a minimum is that of the crystal, and not the well it falls into."""

WALL: Final = 0.02
"""eV of `wall_violation` that are noise."""

AGREEMENT: Final = 1e-5
"""Hartree/atom between DFTB+ and the embedded engine: ten times what `validate` asks, as this is a check of reading."""

KPT_DENSITY: Final = 3.0
"""k-point divisions per 2 pi/Angstrom, those of the reference volume at all volumes, and energies extrapolated to zero
electronic temperature, as in fits and report cards: a mesh that changes along a curve makes wells of 40 meV/atom."""


@dataclass(frozen=True)
class GateTask:
    """What a worker is told of an element: its parameters, data, where its atom is, and reference volumes."""

    symbol: str
    parameters: ParameterSet
    data: ElementData
    build: Path
    volumes: Mapping[str, float]
    grid: Grid
    dftbplus: bool


@dataclass(frozen=True)
class GateOutcome:
    """Sentences on what failed; none where the element passed."""

    symbol: str
    defects: tuple[str, ...]


def dftbplus_available() -> bool:
    """Whether DFTB+ can be asked to read the tables."""
    try:
        make_engine("dftb+")
    except EngineMissing:
        return False
    return True


def reference_volumes(symbols: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return volumes in Angstrom^3/atom of `CRYSTALS` by element: of the default reference set, else from radii."""
    known: dict[tuple[str, str], float] = {}
    try:
        dataset = load_dataset()
        known = {(c.symbol, c.prototype): c.volume for c in dataset.crystals if c.partner is None}
    except ReferenceDataError:
        # An installation without reference data: covalent radii will do for a gate.
        pass
    return {
        symbol: {
            name: known.get((symbol, name)) or prototype(name).volume(contact_distance(symbol) * BOHR)
            for name in CRYSTALS
        }
        for symbol in symbols
    }


def gate_element(task: GateTask) -> GateOutcome:
    """Check an element alone: its data, its homonuclear tables, crystals, dimer; runs in a worker."""
    found = data_defects(task.data)
    atom = TabulatedAtom.load(task.build / f"{task.symbol}.npz")
    if atom is None:
        return GateOutcome(task.symbol, ("its radial tables are missing [atom]",))
    try:
        files = build_pair(
            task.parameters, {task.symbol: atom}, task.symbol, task.symbol,
            grid_step=task.grid.grid_step, cutoff=task.grid.cutoff,
        )  # fmt: skip
    except CalculationError as error:
        return GateOutcome(task.symbol, (*found, f"{error.message} [tables]"))
    found += pair_defects(files)
    tables = SKSet(files, {task.symbol: task.parameters.element(task.symbol).max_angular})
    found += physics_defects(tables, task.symbol, task.volumes, dftbplus=task.dftbplus)
    return GateOutcome(task.symbol, tuple(found))


def gate_folder(folder: Path, *, dftbplus: bool = False) -> list[Defect]:
    """Check a folder of tables from anybody: all of the gate but what is not in the files (spin constants).

    Raises
    ------
    InputError
        No such folder, or no tables in it.
    FileFormatError
        A malformed file.
    """
    tables = read_set(folder)
    volumes = reference_volumes(sorted(tables.max_angular))
    found = []
    for (a, b), file in tables.files.items():
        path = file.path or f"{a}-{b}"
        if (b, a) not in tables.files or (b, a) < (a, b):
            continue
        found += [(path, text) for text in pair_defects({(a, b): file, (b, a): tables.files[b, a]})]
        if a != b:
            continue
        if file.on_site is not None:
            low, high = U_RANGE
            for l in range(tables.max_angular[a] + 1):
                if not low <= (u := float(file.on_site.hubbard[l])) <= high:
                    found.append((path, f"U of {'spdf'[l]} is {u:.4g} Hartree, not between {low} and {high} [hubbard]"))
        alone = SKSet({(a, a): file}, {a: tables.max_angular[a]})
        found += [(path, text) for text in physics_defects(alone, a, volumes[a], dftbplus=dftbplus)]
    return [Defect("error", "gate-" + text.rpartition("[")[2].rstrip("]"), text, path) for path, text in found]


def data_defects(data: ElementData) -> list[str]:
    """Check U, W and the order of levels."""
    found = []
    low, high = U_RANGE
    for shell, u in zip(data.shells, data.hubbard, strict=True):
        if not low <= u <= high:
            found.append(f"U of {shell} is {u:.4g} Hartree, not between {low} and {high} [hubbard]")
    low, high = W_RANGE
    occupied = [i for i, electrons in enumerate(data.occupations) if electrons > 0.0]
    for i, row in enumerate(data.spin):
        for j, w in enumerate(row):
            if (i == j and i in occupied and not low <= w <= high) or not low <= w <= -low:
                found.append(
                    f"W of {data.shells[i]}, {data.shells[j]} is {w:.4g} Hartree, not between {low} and {high} [spin]"
                )
    levels = dict(zip(data.shells, data.levels, strict=True))
    letters = {shell[-1]: shell for shell in data.shells}
    if "s" in letters and "p" in letters and levels[letters["p"]] <= levels[letters["s"]]:
        found.append(f"{letters['p']} lies below {letters['s']} [on-site]")
    top = max((levels[data.shells[i]] for i in occupied), default=-np.inf)
    for i, shell in enumerate(data.shells):
        if i not in occupied and levels[shell] <= top:
            found.append(
                f"empty shell {shell} lies below an occupied one: {levels[shell]:.3f} and {top:.3f} Hartree [on-site]"
            )
    return found


def physics_defects(
    tables: SKSet, symbol: str, volumes: Mapping[str, float], *, dftbplus: bool = False, engine: Engine | None = None
) -> list[str]:
    """Check crystals and the dimer of an element.

    Parameters
    ----------
    tables
        With the element's own file at least.
    volumes
        Angstrom^3/atom by crystal.
    dftbplus
        Whether DFTB+ is asked, too.
    engine
        The embedded one unless given.
    """
    engine = engine or EmbeddedEngine()
    settings = Settings(max_angular=dict(tables.max_angular))
    found = []
    for name, volume in volumes.items():
        structures = [build(name, symbol, x * volume) for x in RELATIVE_VOLUMES]
        kpts = mesh(build(name, symbol, volume).cell.array, KPT_DENSITY)
        results = engine.compute(tables, structures, replace(settings, kpts=kpts))
        energies = np.array(
            [_energy(result) / len(one) for result, one in zip(results, structures, strict=True)], dtype=np.float64
        )
        found += _curve_defects(name, energies, results)
    contact = contact_distance(symbol)
    dimers = [_dimer(symbol, x * contact * BOHR) for x in DISTANCES]
    results = engine.compute(tables, dimers, settings)
    energies = np.array([_energy(result) for result in results])
    if not np.isfinite(energies).all():
        bad = int(np.nonzero(~np.isfinite(energies))[0][-1])
        found.append(f"no energy of the dimer at {DISTANCES[bad] * contact:.2f} Bohr: {_reason(results[bad])} [dimer]")
    elif (violation := wall_violation(DISTANCES, energies)) > WALL:
        found.append(f"two atoms fall into each other: the wall of the dimer lacks {violation:.2f} eV [dimer]")
    if dftbplus:
        found += _dftbplus_defects(tables, _dimer(symbol, contact * BOHR), settings, engine)
    return found


def _dimer(symbol: str, distance: float) -> Atoms:
    return Atoms([symbol, symbol], [(0.0, 0.0, 0.0), (0.0, 0.0, distance)])


def _energy(result: Result | DftbparamError) -> float:
    """eV, or NaN."""
    return result.extrapolated_energy * HARTREE if isinstance(result, Result) else float("nan")


def _reason(result: Result | DftbparamError) -> str:
    return "" if isinstance(result, Result) else f"{type(result).__name__}: {result}"


def _curve_defects(name: str, energies: Array, results: Sequence[Result | DftbparamError]) -> list[str]:
    """Judge E (n,) in eV/atom over `RELATIVE_VOLUMES`."""
    failed = np.nonzero(~np.isfinite(energies))[0]
    if len(failed):
        worst = int(failed[-1])
        return [f"{name} has no energy at {RELATIVE_VOLUMES[worst]:g} V0: {_reason(results[worst])} [crystal]"]
    inner = (energies[1:-1] < energies[:-2]) & (energies[1:-1] < energies[2:])
    minima = np.nonzero(inner)[0] + 1
    middle = RELATIVE_VOLUMES.index(1.0)
    near = [int(i) for i in minima if RELATIVE_VOLUMES[i] >= NEAREST]
    # A curve may have two shallow minima near the reference: the lower one counts.
    start = min(near, key=lambda i: energies[i]) if near else middle
    depth = (_bottom(energies, start) if near else energies[start]) - energies[:start]
    if len(depth) and depth.max() > DEEPER:
        at = int(depth.argmax())
        return [
            f"{name} implodes: at {RELATIVE_VOLUMES[at]:g} V0 it lies {depth[at]:.2f} eV/atom below "
            f"{RELATIVE_VOLUMES[start]:g} V0 [implosion]"
        ]
    return []


def _bottom(energies: Array, i: int) -> float:
    """Energy of the minimum around point i: of the parabola through it and its neighbours, which miss it."""
    x, e = np.array(RELATIVE_VOLUMES[i - 1 : i + 2]) - RELATIVE_VOLUMES[i], energies[i - 1 : i + 2]
    a, b, c = np.polyfit(x, e, 2)
    return float(c - b * b / (4.0 * a))


def _dftbplus_defects(tables: SKSet, dimer: Atoms, settings: Settings, engine: Engine) -> list[str]:
    (ours,) = engine.compute(tables, [dimer], settings)
    (theirs,) = make_engine("dftb+", keep="never").compute(tables, [dimer], settings)
    if not isinstance(theirs, Result):
        return [f"DFTB+ does not compute the dimer: {theirs} [dftb+]"]
    if isinstance(ours, Result) and abs(ours.free_energy - theirs.free_energy) > AGREEMENT * len(dimer):
        return [
            f"DFTB+ finds {theirs.free_energy:.6f} Hartree for the dimer, the embedded engine {ours.free_energy:.6f} "
            "[dftb+]"
        ]
    return []
