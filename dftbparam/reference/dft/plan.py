"""From a request and what is finished to the calculations that can run now. Pure: it looks records up and runs nothing.

The unit is a compound (an element or a binary) with its prototypes. Curves come first; bands and displaced copies start
from the minima that the curves give. All calculations of a compound share one recipe, and all volumes of a curve one
mesh of k-points, so that differences of energies are differences of energies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import numpy as np

from dftbparam.elements import element
from dftbparam.errors import InputError, ParameterError
from dftbparam.reference.dft.curves import RATIO, CurveState, fit_curve, next_steps
from dftbparam.reference.dft.frames import displaced, repeated
from dftbparam.reference.dft.guess import guess_volume
from dftbparam.reference.dft.paths import band_path
from dftbparam.reference.dft.recipe import Recipe, recipe_for
from dftbparam.reference.dft.tasks import Task
from dftbparam.reference.eos_fit import EosFit
from dftbparam.reference.prototypes import Prototype, build, mesh, prototype, vacuum

PROPERTIES: Final = ("eos", "bands", "forces", "atoms", "convergence")
"""What can be asked for."""

BAND_CRYSTALS: Final = 2
"""Crystals of a compound with a band structure: the stable one and the next."""

CONVERGENCE_CRYSTALS: Final = ("fcc", "bcc", "sc")
"""Crystals, of one atom each, whose relative energies show how far an element's recipe is converged."""

CONVERGENCE_CHANGES: Final[Mapping[str, Mapping[str, float]]] = {
    "base": {},
    "cutoff": {"cutoff": 1.4},
    "kpoint_density": {"kpoint_density": 1.6},
    "smearing": {"smearing": 0.5, "kpoint_density": 1.6},
}
"""Factors on the recipe; half the smearing needs the denser mesh and is compared with that."""

LOW_DIMENSIONAL: Final = {1: 2.7, 2: 1.6}
"""Factors on the density of k-points in chains and layers, whose sums have fewer points to average over: a chain of
silicon at a density of 6 is off by 4 % in its "volume", at 16 converged."""

Lookup = Callable[[Task], Mapping[str, Any] | None]
"""Finds the record of a task; None where it has not been run."""


@dataclass(frozen=True)
class System:
    """A compound with the prototypes to compute. ``symbol``, ``partner`` as in `CrystalReference`."""

    symbol: str
    partner: str | None
    prototypes: tuple[str, ...]

    def __post_init__(self) -> None:
        for symbol in self.symbols:
            element(symbol)
        for name in self.prototypes:
            prototype(name, self.symbol).species(self.symbol, self.partner)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The one or two elements."""
        return (self.symbol,) if self.partner is None else (self.symbol, self.partner)

    @property
    def name(self) -> str:
        """``Si`` or ``Mg-O``."""
        return "-".join(self.symbols)


@dataclass(frozen=True)
class Request:
    """What to compute.

    Attributes
    ----------
    properties
        Of `PROPERTIES`.
    changes
        Settings of `Recipe` that differ from the element's default.
    frames
        Displaced and strained copies per compound.
    bands_of
        Crystals per compound with a band structure, in order of energy.
    tasks
        Further calculations, as they are: structures of the user's (`structure_tasks`).
    """

    systems: Sequence[System]
    properties: Sequence[str] = ("eos",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 8
    bands_of: int = BAND_CRYSTALS
    seed: int = 0
    tasks: Sequence[Task] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in self.properties if name not in PROPERTIES]:
            raise ParameterError(f"unknown property {unknown[0]!r}; there are: {', '.join(PROPERTIES)}")
        if not (self.systems or self.tasks):
            raise ParameterError("nothing to compute: no element, no binary and no structure was given")
        recipe_for((), **self.changes)


@dataclass
class Progress:
    """Where a compound stands: tasks that can run now, curves by prototype, what else has been found."""

    tasks: list[Task] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    bands: dict[str, Task] = field(default_factory=dict)
    frames: list[Task] = field(default_factory=list)
    atoms: dict[str, Task] = field(default_factory=dict)
    convergence: dict[tuple[str, str], Task] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """One E(V) curve. ``points``: finished calculations by grid point; ``fit``: where it is done and has a minimum."""

    state: CurveState
    points: Mapping[int, tuple[float, Mapping[str, Any]]]
    kpts: tuple[int, int, int]
    fit: EosFit | None = None
    reason: str = ""


class Plan:
    """The state of a request.

    Parameters
    ----------
    request
        What to compute.
    lookup
        Finds finished calculations.
    """

    def __init__(self, request: Request, lookup: Lookup) -> None:
        self.request = request
        self._lookup = lookup

    def recipe(self, system: System) -> Recipe:
        """Settings of all calculations of a compound."""
        return recipe_for(system.symbols, **self.request.changes)

    def progress(self, system: System) -> Progress:
        """Where a compound stands, and what can run now."""
        found = Progress()
        wanted = set(self.request.properties)
        if wanted & {"eos", "bands", "forces"}:
            for name in system.prototypes:
                found.curves[name] = self._curve(system, name, found.tasks)
        if wanted & {"bands", "forces"} and all(c.state.status != "searching" for c in found.curves.values()):
            self._from_minima(system, wanted, found)
        if "atoms" in wanted:
            for symbol in system.symbols:
                found.atoms[symbol] = self._atom(symbol, self.recipe(system))
                self._need(found.atoms[symbol], found.tasks)
        if "convergence" in wanted and system.partner is None:
            for change, factors in CONVERGENCE_CHANGES.items():
                for name in CONVERGENCE_CRYSTALS:
                    task = self._converged(system, name, change, factors)
                    found.convergence[change, name] = task
                    self._need(task, found.tasks)
        return found

    def _need(self, task: Task, tasks: list[Task]) -> Mapping[str, Any] | None:
        record = self._lookup(task)
        if record is None:
            tasks.append(task)
        return record

    def _curve(self, system: System, name: str, tasks: list[Task]) -> Curve:
        crystal = prototype(name, system.symbol)
        recipe = self.recipe(system)
        guess = guess_volume(name, system.symbol, system.partner)
        kpts = kpoints(crystal, build(name, system.symbol, guess, system.partner).cell.array, recipe.kpoint_density)
        energies: dict[int, float | None] = {}
        points: dict[int, tuple[float, Mapping[str, Any]]] = {}
        while True:
            state = next_steps(energies)
            if not state.steps:
                break
            missing: list[Task] = []
            for k in state.steps:
                volume = guess * RATIO**k
                atoms = build(name, system.symbol, volume, system.partner)
                label = f"{system.name}/{name}/eos/{k:+03d}"
                task = Task.of(label, "energy", recipe, atoms, kpts, details={"volume": volume, "grid": k})
                record = self._need(task, missing)
                if record is not None:
                    result = record.get("result")
                    energies[k] = None if result is None else float(result["energy"]) / len(atoms)
                    points[k] = (volume, record)
            if missing:
                tasks += missing
                return Curve(state, points, kpts)
        curve = fit_curve({k: volume for k, (volume, _) in points.items()}, energies)
        return Curve(curve.state, points, kpts, curve.fit, curve.reason)

    def _from_minima(self, system: System, wanted: set[str], found: Progress) -> None:
        """Bands and displaced copies, once every curve of the compound is finished."""
        recipe = self.recipe(system)
        crystals = [
            (curve.fit.e0, name, curve)
            for name, curve in found.curves.items()
            if curve.fit is not None and prototype(name, system.symbol).dimensions == 3
        ]
        ordered = sorted(crystals, key=lambda entry: entry[:2])
        # hcp with its own c/a and with the ideal one are one crystal where "the next one" is asked for.
        different: dict[tuple[int, int], tuple[float, str, Curve]] = {}
        for entry in ordered:
            crystal = prototype(entry[1], system.symbol)
            different.setdefault((crystal.spacegroup_number, crystal.coordination), entry)
        for _, name, curve in list(different.values())[: self.request.bands_of] if "bands" in wanted else ():
            assert curve.fit is not None
            atoms = build(name, system.symbol, curve.fit.v0, system.partner)
            path = band_path(atoms)
            details = {"volume": curve.fit.v0, "labels": path.labels, "breaks": list(path.breaks)}
            task = Task.of(
                f"{system.name}/{name}/bands", "bands", recipe, atoms, curve.kpts, path=path.points, details=details
            )
            found.bands[name] = task
            self._need(task, found.tasks)
        for _, name, curve in ordered[:1] if "forces" in wanted else ():
            assert curve.fit is not None
            crystal = prototype(name, system.symbol)
            rest = build(name, system.symbol, curve.fit.v0, system.partner)
            near = crystal.neighbour_distance(curve.fit.v0)
            # One mesh for all copies, so that energies have no steps from one to the next.
            kpts = mesh(repeated(rest).cell.array, recipe.kpoint_density)
            for i in range(self.request.frames):
                atoms = displaced(rest, f"{system.name}/{name}", i, near, self.request.seed)
                label = f"{system.name}/{name}/frames/{i:03d}"
                details = {"prototype": name, "index": i, "seed": self.request.seed}
                task = Task.of(label, "forces", recipe, atoms, kpts, details=details)
                found.frames.append(task)
                self._need(task, found.tasks)

    def _atom(self, symbol: str, recipe: Recipe) -> Task:
        from ase import Atoms

        # Three different edges: an open shell settles in one orientation instead of wavering between equal ones.
        box = vacuum(symbol) + np.array([0.0, 0.25, 0.5])
        atoms = Atoms(symbol, positions=[0.5 * box], cell=box, pbc=True)
        return Task.of(f"{symbol}/atom", "atom", recipe, atoms, (1, 1, 1))

    def _converged(self, system: System, name: str, change: str, factors: Mapping[str, float]) -> Task:
        recipe = self.recipe(system)
        changed = recipe.model_copy(update={k: getattr(recipe, k) * factor for k, factor in factors.items()})
        volume = guess_volume(name, system.symbol)
        atoms = build(name, system.symbol, volume)
        kpts = kpoints(prototype(name), atoms.cell.array, changed.kpoint_density)
        label = f"{system.name}/{name}/convergence/{change}"
        return Task.of(label, "energy", changed, atoms, kpts, details={"volume": volume, "change": change})


def kpoints(crystal: Prototype, cell: np.ndarray[Any, Any], density: float) -> tuple[int, int, int]:
    """Mesh of a prototype's cell (3, 3) in Angstrom.

    Primitive cells whose vectors have one length (fcc, bcc, white tin ...) get one number of divisions in all three
    directions: others would break the crystal's symmetry, and cost more points for less.
    """
    divisions = mesh(cell, density * LOW_DIMENSIONAL.get(crystal.dimensions, 1.0), crystal.periodic)
    lengths = np.linalg.norm(cell, axis=1)
    if crystal.dimensions == 3 and np.ptp(lengths) < 1e-6 * lengths.mean():
        n = ceil(float(np.prod(divisions)) ** (1.0 / 3.0) - 1e-6)
        return n, n, n
    return divisions


def parse_system(text: str, prototypes: Sequence[str] | None = None) -> System:
    """Read ``Si`` or ``Mg-O``; `InputError` says what is wrong with it.

    Parameters
    ----------
    prototypes
        None: every prototype of that number of elements.
    """
    from dftbparam.reference.prototypes import GROUND_STATE, binary_prototypes, elemental_prototypes, ground_state

    symbols = text.split("-")
    if len(symbols) > 2:
        raise InputError(f"{text!r} is neither an element, e.g. Si, nor a binary, e.g. Mg-O")
    for symbol in symbols:
        element(symbol)
    partner = symbols[1] if len(symbols) == 2 else None
    if partner == symbols[0]:
        raise InputError(f"{text!r} names one element twice; a binary has two, e.g. Mg-O")
    if prototypes is None:
        if partner is not None:
            names = binary_prototypes()
        else:
            own = (GROUND_STATE,) if ground_state(symbols[0]) is not None else ()
            names = (*elemental_prototypes(), *own)
    else:
        names = tuple(dict.fromkeys(name if name == GROUND_STATE else prototype(name).name for name in prototypes))
    return System(symbols[0], partner, tuple(names))
