"""Whether a structure is like those a model was trained on.

Three questions, any of which puts it outside: is an atom's descriptor farther from the inducing environments than
held-out structures were when the error bars were checked; are two atoms nearer than any two of these elements in the
training data; has an atom more or fewer neighbours than any of its element had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Domain:
    """Limits of the training data.

    Attributes
    ----------
    reach
        Per atomic number, largest distance to an inducing environment that counts as inside.
    closest
        Per pair of atomic numbers the shortest distance, Angstrom; only pairs that were neighbours.
    coordination
        Per atomic number the fewest and most neighbours within `NEIGHBOUR`.
    """

    reach: Mapping[int, float]
    closest: Mapping[tuple[int, int], float]
    coordination: Mapping[int, tuple[int, int]]

    def reasons(self, atoms: Atoms, nearest: Mapping[int, float]) -> tuple[str, ...]:
        """Say why a structure is outside; empty where it is inside.

        Parameters
        ----------
        nearest
            Per atomic number the largest distance of an atom to its nearest inducing environment.
        """
        from ase.data import chemical_symbols as names

        found = [
            f"{names[z]}: descriptor {distance:.2g} from the training data, {self.reach[z]:.2g} was checked"
            for z, distance in sorted(nearest.items())
            if distance > self.reach[z]
        ]
        closest, coordination = surroundings([atoms])
        for pair, distance in sorted(closest.items()):
            label = "-".join(names[z] for z in pair)
            if pair not in self.closest:
                found.append(f"{label} are neighbours, which none were in the training data")
            elif distance < CLOSER * self.closest[pair]:
                found.append(f"{label} at {distance:.3f} Angstrom, the training data begin at {self.closest[pair]:.3f}")
        for z, (fewest, most) in sorted(coordination.items()):
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
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Domain:
        """Read `record`'s JSON."""
        pairs = {key: tuple(int(z) for z in key.split("-")) for key in record["closest"]}
        return cls(
            {int(z): float(value) for z, value in record["reach"].items()},
            {(pairs[key][0], pairs[key][1]): float(value) for key, value in record["closest"].items()},
            {int(z): (int(low), int(high)) for z, (low, high) in record["coordination"].items()},
        )


def nearest_inducing(basis: Basis, local: Local) -> float:
    """Largest distance of the atoms of one element to their nearest inducing environment."""
    return float(np.sqrt(max(float(basis.squared_distances(local).min(axis=1).max()), 0.0)))


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
    square = (environments**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2.0 * (environments @ points.T)
    distances = np.sqrt(np.maximum(square, 0.0))
    cover = float(distances.min(axis=1).max())
    others = np.where(origins == folds[:, None], np.inf, distances).min(axis=1)
    others = others[np.isfinite(others)]
    checked = float(np.quantile(others, QUANTILE)) if len(others) else 0.0
    return max(checked, COVER * cover, 1e-3)
