"""Neighbour lists under periodic boundary conditions, and none. Bohr.

A pair (i, j, n) joins atom i to the image of atom j in cell n (integers along the cell vectors). Each pair is listed
once: i < j with every n, or i = j with n in the upper half space; it stands for its reverse too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms
from numba import njit

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.tables import Ints
from dftbparam.engine.kpoints import is_periodic
from dftbparam.errors import ParameterError, StructureError
from dftbparam.units import BOHR

MIN_DISTANCE: Final = 0.4 / BOHR
"""Closest approach in Bohr (0.4 Å). Tables start near here; DFTB+ would extrapolate them and report nonsense."""

MIN_VOLUME: Final = 1e-3
"""Bohr^3 per atom below which a cell counts as flat."""


@dataclass(frozen=True)
class Geometry:
    """A structure in Bohr, its atoms moved into the home cell.

    ``positions`` (n, 3); ``cell`` (3, 3) with rows as cell vectors, the zero matrix for a molecule; ``fractional``
    (n, 3), zeros for a molecule.
    """

    symbols: tuple[str, ...]
    positions: Array
    cell: Array
    fractional: Array
    periodic: bool

    @property
    def volume(self) -> float:
        """Volume in Bohr^3 (0 for a molecule)."""
        return abs(float(np.linalg.det(self.cell))) if self.periodic else 0.0


@dataclass(frozen=True)
class Pairs:
    """Pairs within the cutoff, sorted by (i, j).

    ``first`` and ``second`` (p,) atom numbers; ``image`` (p, 3) cell of the second; ``vector`` (p, 3) from first to
    second; ``distance`` (p,).
    """

    first: Ints
    second: Ints
    image: Ints
    vector: Array
    distance: Array


def geometry(atoms: Atoms) -> Geometry:
    """Convert and check a structure; raises `StructureError`."""
    if len(atoms) == 0:
        raise StructureError("the structure has no atoms")
    positions = np.asarray(atoms.positions, dtype=np.float64)
    cell = np.asarray(atoms.cell.array, dtype=np.float64)
    if not np.isfinite(positions).all():
        bad = int(np.nonzero(~np.isfinite(positions).all(axis=1))[0][0])
        raise StructureError(f"position of atom {bad} is not finite: {positions[bad].tolist()}", atom=bad)
    symbols = symbols_of(atoms)
    if not is_periodic(atoms):
        zero = np.zeros((len(atoms), 3))
        return Geometry(symbols, positions / BOHR, np.zeros((3, 3)), zero, False)
    if not np.isfinite(cell).all():
        raise StructureError(f"cell is not finite: {cell.tolist()}")
    volume = abs(float(np.linalg.det(cell))) / BOHR**3
    if volume < MIN_VOLUME * len(atoms):
        raise StructureError(f"cell volume is {volume * BOHR**3:.3g} Å^3 for {len(atoms)} atoms: the cell is flat")
    fractional = np.linalg.solve(cell.T, positions.T).T
    fractional = fractional - np.floor(fractional)
    return Geometry(symbols, fractional @ cell / BOHR, cell / BOHR, fractional, True)


def symbols_of(atoms: Atoms) -> tuple[str, ...]:
    """Element symbol of each atom."""
    return tuple(str(atom) for atom in atoms.symbols)


def find_pairs(structure: Geometry, cutoff: float) -> Pairs:
    """All pairs closer than ``cutoff`` (Bohr); `StructureError` if two atoms are closer than `MIN_DISTANCE`."""
    heights = np.zeros(3)
    if structure.periodic:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    cutoff = max(cutoff, MIN_DISTANCE)
    arguments = (structure.positions, structure.cell, structure.fractional, heights, structure.periodic, cutoff)
    none = np.zeros((0, 3), dtype=np.int64)
    count = _search(*arguments, none[:, 0], none[:, 0], none, np.zeros((0, 3)), np.zeros(0), False)
    first, second = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    image, vector, distance = np.empty((count, 3), dtype=np.int64), np.empty((count, 3)), np.empty(count)
    _search(*arguments, first, second, image, vector, distance, True)
    if count and distance.min() < MIN_DISTANCE:
        worst = int(distance.argmin())
        i, j = int(first[worst]), int(second[worst])
        far = f"{distance[worst] * BOHR:.2f} Å apart; at least {MIN_DISTANCE * BOHR:.1f} Å is needed"
        who = f"atoms {i} and {j} are" if i != j else f"atom {i} and its periodic image are"
        raise StructureError(f"{who} {far}", atoms=(i, j), distance=float(distance[worst] * BOHR))
    return Pairs(first, second, image, vector, distance)


def neighbour_shells(
    atoms: Atoms, cutoff: float, pair: tuple[str, str] | None = None, tolerance: float = 1e-6
) -> tuple[Array, Array]:
    """Distances at which atoms have neighbours, and how many: what a pair repulsion needs of a structure.

    Parameters
    ----------
    atoms
        The structure (Å).
    cutoff
        In Bohr.
    pair
        Count only neighbours of these two elements (in either order); None counts all.
    tolerance
        Distances closer than this (Bohr) make one shell.

    Returns
    -------
    distances, multiplicities
        Both (s,), distances in Bohr and increasing; multiplicities are neighbours per atom *of the structure*
        (directed pairs over the number of atoms), so that a pair potential V gives 0.5 * multiplicities @ V(distances)
        per atom.
    """
    if not cutoff > 0.0:
        raise ParameterError(f"cutoff is {cutoff}; it must be positive (Bohr)")
    structure = geometry(atoms)
    pairs = find_pairs(structure, cutoff)
    distance = pairs.distance[pairs.distance < cutoff]
    if pair is not None:
        symbols = np.array(structure.symbols)
        a, b = symbols[pairs.first], symbols[pairs.second]
        chosen = ((a == pair[0]) & (b == pair[1])) | ((a == pair[1]) & (b == pair[0]))
        distance = pairs.distance[chosen & (pairs.distance < cutoff)]
    if not distance.size:
        return np.zeros(0), np.zeros(0)
    distance = np.sort(distance)
    starts = np.concatenate([[0], np.nonzero(np.diff(distance) > tolerance)[0] + 1])
    counts = np.diff(np.append(starts, distance.size)).astype(np.float64)
    means = np.add.reduceat(distance, starts) / counts
    return means, 2.0 * counts / len(atoms)


@njit(cache=True)
def _search(
    positions: Array,
    cell: Array,
    fractional: Array,
    heights: Array,
    periodic: bool,
    cutoff: float,
    first: Ints,
    second: Ints,
    image: Ints,
    vector: Array,
    distance: Array,
    fill: bool,
) -> int:
    """Count the pairs, or fill the arrays that have room for them."""
    n = positions.shape[0]
    limit = cutoff * cutoff
    low = np.zeros(3, dtype=np.int64)
    high = np.zeros(3, dtype=np.int64)
    count = 0
    for i in range(n):
        for j in range(i, n):
            dx0 = positions[j, 0] - positions[i, 0]
            dy0 = positions[j, 1] - positions[i, 1]
            dz0 = positions[j, 2] - positions[i, 2]
            if periodic:
                for c in range(3):
                    difference = fractional[j, c] - fractional[i, c]
                    low[c] = int(np.ceil(-cutoff / heights[c] - difference))
                    high[c] = int(np.floor(cutoff / heights[c] - difference))
            for a in range(low[0], high[0] + 1):
                for b in range(low[1], high[1] + 1):
                    xab = dx0 + a * cell[0, 0] + b * cell[1, 0]
                    yab = dy0 + a * cell[0, 1] + b * cell[1, 1]
                    zab = dz0 + a * cell[0, 2] + b * cell[1, 2]
                    for c in range(low[2], high[2] + 1):
                        if i == j and (a < 0 or (a == 0 and (b < 0 or (b == 0 and c <= 0)))):
                            continue
                        x = xab + c * cell[2, 0]
                        y = yab + c * cell[2, 1]
                        z = zab + c * cell[2, 2]
                        square = x * x + y * y + z * z
                        if square < limit:
                            if fill:
                                first[count] = i
                                second[count] = j
                                image[count, 0] = a
                                image[count, 1] = b
                                image[count, 2] = c
                                vector[count, 0] = x
                                vector[count, 1] = y
                                vector[count, 2] = z
                                distance[count] = np.sqrt(square)
                            count += 1
    return count
