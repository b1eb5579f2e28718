"""Whether a structure is like those a model was trained on, for each level of theory by the data of that level.

Three questions, any of which puts it outside: is an atom's descriptor farther from the inducing environments than
held-out structures were when the error bars were checked; are two atoms nearer than any two of these elements in the
training data; has an atom more or fewer neighbours than any of its element had.

Inducing environments are those of all levels together. A level counts those near which it has data itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import Array, Integers
from dftbparam.delta.features import Local
from dftbparam.elements import element
from dftbparam.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

NEIGHBOUR: Final = 1.3
"""Atoms are neighbours up to this many sums of their covalent radii: the bonds of dense crystals, no second shell."""

CLOSER: Final = 0.97
"""Distances may be this much shorter than the shortest of the training data: less than thermal motion adds."""

QUANTILE: Final = 0.95
"""Part of the held-out environments that counts as inside."""

COVER: Final = 1.5
"""The limit is at least so many times the distance at which inducing environments cover the training data."""


Surroundings = tuple[Mapping[tuple[int, int], float], Mapping[int, tuple[int, int]]]
"""What `surroundings` finds: shortest distances, and fewest and most neighbours."""


@dataclass(frozen=True)
class Environments:
    """Different training environments of one element.

    Attributes
    ----------
    x
        (n, q), coordinates.
    folds, levels
        (n,), the fold and the level of the structure that each is from.
    """

    x: Array
    folds: Integers
    levels: Integers

    def take(self, rows: Integers) -> Environments:
        """Some of them, by their rows."""
        return Environments(np.ascontiguousarray(self.x[rows]), self.folds[rows], self.levels[rows])


@dataclass(frozen=True)
class Domain:
    """Limits of the training data of one level.

    Attributes
    ----------
    reach
        Per atomic number, largest distance to an inducing environment that counts as inside; elements that the level
        has no data of are missing.
    closest
        Per pair of atomic numbers the shortest distance, Angstrom; only pairs that were neighbours.
    coordination
        Per atomic number the fewest and most neighbours within `NEIGHBOUR`.
    places
        Per atomic number the inducing environments that the level has data near, as their places; all where missing.
    """

    reach: Mapping[int, float]
    closest: Mapping[tuple[int, int], float]
    coordination: Mapping[int, tuple[int, int]]
    places: Mapping[int, Integers] = field(default_factory=dict)

    def nearest(self, number: int, squared: Array) -> float:
        """Largest distance of some atoms of an element to their nearest inducing environment of this level.

        Parameters
        ----------
        squared
            (n, m), squared distances to all inducing environments of the element.
        """
        if number in self.places:
            squared = squared[:, self.places[number]]
        if not squared.shape[1]:
            return float("inf")
        return float(np.sqrt(max(float(squared.min(axis=1).max()), 0.0)))

    def reasons(self, nearest: Mapping[int, float], around: Surroundings) -> tuple[str, ...]:
        """Say why a structure is outside; empty where it is inside.

        Parameters
        ----------
        nearest
            Per atomic number of the structure what `nearest` gives.
        around
            What `surroundings` finds in the structure.
        """
        from ase.data import chemical_symbols as names

        found = []
        for z, distance in sorted(nearest.items()):
            if z not in self.reach:
                found.append(f"{names[z]}: no training data")
            elif distance > self.reach[z]:
                found.append(
                    f"{names[z]}: descriptor {distance:.2g} from the training data, {self.reach[z]:.2g} was checked"
                )
        closest, coordination = around
        for pair, shortest in sorted(closest.items()):
            label = "-".join(names[z] for z in pair)
            if not set(pair) <= set(self.reach):
                continue
            if pair not in self.closest:
                found.append(f"{label} are neighbours, which none were in the training data")
            elif shortest < CLOSER * self.closest[pair]:
                found.append(f"{label} at {shortest:.3f} Angstrom, the training data begin at {self.closest[pair]:.3f}")
        for z, (fewest, most) in sorted(coordination.items()):
            if z not in self.coordination:
                continue
            low, high = self.coordination[z]
            if fewest < low - 1 or most > high + 1:
                found.append(f"{names[z]} with {fewest} to {most} neighbours, the training data have {low} to {high}")
        return tuple(found)

    def record(self) -> dict[str, Any]:
        """Return JSON; keys are atomic numbers."""
        return {
            "reach": {str(z): value for z, value in self.reach.items()},
            "closest": {f"{a}-{b}": value for (a, b), value in self.closest.items()},
            "coordination": {str(z): list(value) for z, value in self.coordination.items()},
            "places": {str(z): [int(place) for place in value] for z, value in self.places.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Domain:
        """Read `record`'s JSON, with ``places`` or without."""
        pairs = {key: tuple(int(z) for z in key.split("-")) for key in record["closest"]}
        return cls(
            {int(z): float(value) for z, value in record["reach"].items()},
            {(pairs[key][0], pairs[key][1]): float(value) for key, value in record["closest"].items()},
            {int(z): (int(low), int(high)) for z, (low, high) in record["coordination"].items()},
            {int(z): np.array(value, dtype=np.int64) for z, value in record.get("places", {}).items()},
        )


def outside(basis: Basis, domains: Sequence[Domain], atoms: Atoms, local: Sequence[Local]) -> list[tuple[str, ...]]:
    """Say for each level why a structure is outside the domain of its data; ``local`` are its coordinates."""
    around = surroundings([atoms])
    nearest: list[dict[int, float]] = [{} for _ in domains]
    for one in local:
        squared = basis.squared_distances(one)
        for domain, found in zip(domains, nearest, strict=True):
            found[one.number] = domain.nearest(one.number, squared)
    return [domain.reasons(found, around) for domain, found in zip(domains, nearest, strict=True)]


def domain_of(
    level: int,
    points: Mapping[int, Array],
    origins: Mapping[int, Environments],
    environments: Mapping[int, Environments],
    structures: Sequence[Atoms],
) -> Domain:
    """Find the limits of the data of one level.

    Parameters
    ----------
    points, origins
        Inducing environments of each element, and where they are from.
    environments
        Training environments of each element, of all levels.
    structures
        Those of the level.
    """
    reach, places = {}, {}
    for number, table in environments.items():
        own = table.take(np.flatnonzero(table.levels == level))
        if not len(own.x):
            continue
        # No training environment is farther from the inducing ones than this: so near, they stand for each other.
        cover = float(_distances(table.x, points[number]).min(axis=1).max())
        apart = _distances(own.x, points[number])
        mine = origins[number].levels == level
        # The one that an environment of this level is nearest to is always among them, whatever rounding does.
        nearest = np.isin(np.arange(len(points[number])), apart.argmin(axis=1))
        near = np.flatnonzero(mine | nearest | (apart.min(axis=0) <= cover + 1e-9))
        folds = np.where(mine, origins[number].folds, own.folds[apart.argmin(axis=0)])
        reach[number] = reach_of(points[number][near], folds[near], own.x, own.folds)
        if len(near) < len(points[number]):
            places[number] = near
    return Domain(reach, *surroundings(structures), places)


def surroundings(
    structures: Sequence[Atoms],
) -> tuple[dict[tuple[int, int], float], dict[int, tuple[int, int]]]:
    """Shortest distance of every pair of elements that are neighbours; fewest and most neighbours of each element."""
    from ase.data import chemical_symbols as names
    from ase.neighborlist import neighbor_list

    list_neighbours: Any = neighbor_list  # ASE's is untyped
    closest: dict[tuple[int, int], float] = {}
    coordination: dict[int, tuple[int, int]] = {}
    for atoms in structures:
        numbers = np.asarray(atoms.numbers)
        radii = np.zeros(int(numbers.max()) + 1)
        for z in np.unique(numbers):
            radii[z] = NEIGHBOUR * BOHR * max(element(names[z]).covalent_radius, 1.0)
        i, j, d = list_neighbours("ijd", atoms, 2.0 * float(radii.max()))
        near = d < radii[numbers[i]] + radii[numbers[j]]
        i, j, d = i[near], j[near], d[near]
        first, second = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
        for a, b in np.unique(np.stack([first, second], axis=1), axis=0):
            shortest = float(d[(first == a) & (second == b)].min())
            pair = (int(a), int(b))
            closest[pair] = min(shortest, closest.get(pair, np.inf))
        neighbours = np.bincount(i, minlength=len(numbers))
        for z in np.unique(numbers):
            mine = neighbours[numbers == z]
            low, high = coordination.get(int(z), (int(mine.min()), int(mine.max())))
            coordination[int(z)] = (min(low, int(mine.min())), max(high, int(mine.max())))
    return closest, coordination


def reach_of(points: Array, origins: Integers, environments: Array, folds: Integers) -> float:
    """Distance to inducing environments up to which predictions were checked, for one element.

    Parameters
    ----------
    points, origins
        (m, q) inducing environments, and the fold that each comes from.
    environments, folds
        (n, q) training environments, and their folds.
    """
    distances = _distances(environments, points)
    cover = float(distances.min(axis=1).max())
    others = np.where(origins == folds[:, None], np.inf, distances).min(axis=1)
    others = others[np.isfinite(others)]
    checked = float(np.quantile(others, QUANTILE)) if len(others) else 0.0
    return max(checked, COVER * cover, 1e-3)


def _distances(first: Array, second: Array) -> Array:
    """Distances of the rows of two tables, (n, m)."""
    square = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2.0 * (first @ second.T)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))
