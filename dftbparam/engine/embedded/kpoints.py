"""Reduction of k-point meshes by symmetry.

Meshes are those of `dftbparam.engine.kpoints` (DFTB+'s custom). Time reversal makes -k equal to k always. Of the space
group only operations that map the mesh to itself may be used; a quantity summed over the reduced mesh is then completed
by averaging over the same operations, which makes it equal to the sum over the full mesh for any density matrix,
converged or not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import spglib
from numba import njit

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry
from dftbparam.engine.embedded.tables import Ints
from dftbparam.engine.kpoints import shifts

_SPGLIB_FAILURE: Final = getattr(spglib, "SpglibError", RuntimeError)  # the class is younger than our oldest spglib

SYMMETRY_TOLERANCE: Final = 4e-7
"""By how much an atom may miss its image under an operation, in units of (volume per atom)^(1/3): about 1e-6 Å. Tight,
because energies must not jump by more than a force times this when a structure is distorted slowly."""

KEY_DIGITS: Final = 10
"""Decimals of scaled coordinates that the symmetry search sees: far below the tolerance, far above rounding errors."""


@dataclass(frozen=True)
class Symmetry:
    """Operations that map structure and mesh to themselves; always holds the identity.

    ``rotations`` (g, 3, 3) integers acting on fractional coordinates (columns), ``permutations`` (g, n): operation g
    takes atom a to the place of atom ``permutations[g, a]``; ``cartesian`` (g, 3, 3) the rotations in space.
    """

    rotations: Ints
    permutations: Ints
    cartesian: Array

    @property
    def all_equivalent(self) -> bool:
        """Whether the operations carry every atom to every other."""
        return bool(len(np.unique(self.permutations[:, 0])) == self.permutations.shape[1])

    def average_scalars(self, values: Array) -> Array:
        """Average a quantity per atom (n, ...) over the operations."""
        out = np.zeros_like(values)
        for permutation in self.permutations:
            out[permutation] += values
        return out / len(self.permutations)

    def average_vectors(self, values: Array) -> Array:
        """Average vectors per atom (n, 3) over the operations."""
        out = np.zeros_like(values)
        for permutation, rotation in zip(self.permutations, self.cartesian, strict=True):
            out[permutation] += values @ rotation.T
        return out / len(self.permutations)

    def average_tensor(self, tensor: Array) -> Array:
        """Average a Cartesian tensor (3, 3) over the operations."""
        total: Array = np.einsum("gab,bc,gdc->ad", self.cartesian, tensor, self.cartesian)
        return total / len(self.cartesian)


@dataclass(frozen=True)
class Mesh:
    """Reduced mesh: ``points`` (k, 3) fractional, ``weights`` (k,) with sum 1, and the symmetry used."""

    points: Array
    weights: Array
    symmetry: Symmetry


def identity(n_atoms: int) -> Symmetry:
    """No symmetry but the identity."""
    one = np.eye(3, dtype=np.int64)[None]
    return Symmetry(one, np.arange(n_atoms, dtype=np.int64)[None], one.astype(np.float64))


def reduced_mesh(structure: Geometry, size: tuple[int, int, int], moments: Array | None = None) -> Mesh:
    """Reduced k-points of a structure for a mesh of these divisions; Gamma for a molecule.

    With ``moments`` (n,) only operations that carry atoms to atoms of the same moment are used.
    """
    n_atoms = len(structure.symbols)
    if not structure.periodic:
        return Mesh(np.zeros((1, 3)), np.ones(1), identity(n_atoms))
    if size == (1, 1, 1) and n_atoms > 1:
        return Mesh(np.zeros((1, 3)), np.ones(1), identity(n_atoms))
    symmetry = identity(n_atoms) if size == (1, 1, 1) else _symmetry(structure, size, moments)
    points, weights = _reduce(size, np.ascontiguousarray(symmetry.rotations).tobytes())
    return Mesh(points, weights, symmetry)


def _symmetry(structure: Geometry, size: tuple[int, int, int], moments: Array | None) -> Symmetry:
    labels = (
        [f"{symbol} {moment}" for symbol, moment in zip(structure.symbols, moments, strict=True)]
        if (moments is not None)
        else list(structure.symbols)
    )
    numbers = np.unique(np.array(labels), return_inverse=True)[1].astype(np.int64)
    spacing = (structure.volume / len(numbers)) ** (1.0 / 3.0)
    cell = np.round(structure.cell / spacing, KEY_DIGITS) + 0.0  # + 0.0 turns -0.0 into 0.0
    fractional = np.round(structure.fractional, KEY_DIGITS) + 0.0
    rotations, permutations = _operations(cell.tobytes(), fractional.tobytes(), numbers.tobytes(), size)
    basis = structure.cell.T
    return Symmetry(rotations, permutations, basis @ rotations @ np.linalg.inv(basis))


@lru_cache(maxsize=512)
def _operations(
    cell_key: bytes, fractional_key: bytes, numbers_key: bytes, size: tuple[int, int, int]
) -> tuple[Ints, Ints]:
    """Rotations and permutations for a scaled structure.

    A fit asks for the same crystals at many volumes again and again, and this search costs more than their electronic
    structure; the keys are all it depends on, so that remembering an answer never changes one.
    """
    cell = np.frombuffer(cell_key).reshape(3, 3)
    fractional = np.frombuffer(fractional_key).reshape(-1, 3)
    numbers = np.frombuffer(numbers_key, dtype=np.int64)
    crystal = (cell.tolist(), fractional.tolist(), numbers.tolist())
    with warnings.catch_warnings():
        # spglib 2.6 and later announce with every call that failures will become exceptions; both are handled here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            dataset = spglib.get_symmetry_dataset(crystal, symprec=SYMMETRY_TOLERANCE)
        except _SPGLIB_FAILURE:
            dataset = None
    n_atoms = len(numbers)
    none = identity(n_atoms)
    if dataset is None:
        return none.rotations, none.permutations
    chosen, permutations = [], []
    for rotation, translation in zip(dataset.rotations, dataset.translations, strict=True):
        whole = np.asarray(rotation, dtype=np.int64)
        if not _keeps_mesh(whole, size):
            continue
        permutation = _permutation(cell, fractional, numbers, whole, np.asarray(translation, dtype=np.float64))
        if permutation is not None:
            chosen.append(whole)
            permutations.append(permutation)
    if not chosen:
        return none.rotations, none.permutations
    found = np.array(chosen), np.array(permutations, dtype=np.int64)
    for array in found:
        array.setflags(write=False)  # shared by every later call
    return found


def _permutation(cell: Array, fractional: Array, numbers: Ints, rotation: Ints, translation: Array) -> Ints | None:
    """Where an operation takes each atom; None if it misses the structure by twice the tolerance."""
    n = len(numbers)
    if n == 1:
        return np.zeros(1, dtype=np.int64)
    moved = fractional @ rotation.T + translation
    difference = moved[:, None, :] - fractional[None, :, :]
    difference -= np.round(difference)
    far = np.linalg.norm(difference @ cell, axis=2)
    far[numbers[:, None] != numbers[None, :]] = np.inf
    target: Ints = far.argmin(axis=1).astype(np.int64)
    good = far[np.arange(n), target].max() < 2.0 * SYMMETRY_TOLERANCE and len(np.unique(target)) == n
    return target if good else None


def _reciprocal(rotation: Ints) -> Ints:
    """How a rotation of positions acts on fractional k (columns): its inverse, transposed."""
    return np.rint(np.linalg.inv(rotation)).astype(np.int64).T


def _twice_shift(size: tuple[int, int, int]) -> Ints:
    return np.rint(2.0 * np.array(shifts(size))).astype(np.int64)


def _keeps_mesh(rotation: Ints, size: tuple[int, int, int]) -> bool:
    n = np.array(size)
    scaled = _reciprocal(rotation) * n[:, None]
    if (scaled % n[None, :]).any():
        return False
    on_mesh = scaled // n[None, :]
    twice_shift = _twice_shift(size)
    return not ((on_mesh @ twice_shift - twice_shift) % 2).any()


@lru_cache(maxsize=256)
def _reduce(size: tuple[int, int, int], rotations: bytes) -> tuple[Array, Array]:
    n = np.array(size, dtype=np.int64)
    matrices = np.frombuffer(rotations, dtype=np.int64).reshape(-1, 3, 3)
    on_mesh = np.array([_reciprocal(m) * n[:, None] // n[None, :] for m in matrices], dtype=np.int64)
    counts = _orbits(n, _twice_shift(size), np.unique(on_mesh, axis=0))
    kept = np.nonzero(counts)[0]
    index = np.stack(np.unravel_index(kept, size), axis=1)
    points = (index + np.array(shifts(size))) / n
    points = points - np.round(points)
    weights = counts[kept] / counts.sum()
    points.setflags(write=False)
    weights.setflags(write=False)
    return points, weights


@njit(cache=True)
def _orbits(n: Ints, shift: Ints, matrices: Ints) -> Ints:
    """Number of mesh points in the orbit of each point, counted at the orbit's lowest index, else 0.

    ``shift`` is twice the shift of the mesh, so that everything is a whole number.
    """
    total = n[0] * n[1] * n[2]
    counts = np.zeros(total, dtype=np.int64)
    twice = np.zeros(3, dtype=np.int64)
    for index in range(total):
        twice[0] = 2 * (index // (n[1] * n[2])) + shift[0]
        twice[1] = 2 * ((index // n[2]) % n[1]) + shift[1]
        twice[2] = 2 * (index % n[2]) + shift[2]
        lowest = index
        for g in range(matrices.shape[0]):
            forward = 0
            backward = 0
            for row in range(3):
                image = 0
                for column in range(3):
                    image += matrices[g, row, column] * twice[column]
                forward = forward * n[row] + ((image - shift[row]) // 2) % n[row]
                backward = backward * n[row] + ((-image - shift[row]) // 2) % n[row]
            lowest = min(lowest, forward, backward)
        counts[lowest] += 1
    return counts
