"""Electrons in a given potential: eigenstates, filling, density, populations, bands and projections. Hartree and Bohr.

Spin channels come first in every array: one that stands for both spins (states hold up to two electrons), or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dftbparam.engine.base import Array, Settings
from dftbparam.engine.embedded.bloch import BlochSums, Matrix, Orbitals, inverse_factors, solve
from dftbparam.engine.embedded.filling import Filling, fill
from dftbparam.engine.embedded.kpoints import Mesh
from dftbparam.engine.embedded.neighbours import Geometry
from dftbparam.engine.embedded.pair_repulsion import collect
from dftbparam.engine.embedded.slater_koster import pair_gradients
from dftbparam.engine.embedded.tables import PackedTables
from dftbparam.errors import StructureError

OCCUPIED: Final = 1e-15
"""Size of the weight above which a state enters a density matrix."""


@dataclass(frozen=True)
class System:
    """What stays the same while the charges converge; ``reference`` (n, 4) are the neutral atoms' populations."""

    settings: Settings
    structure: Geometry
    basis: Orbitals
    mesh: Mesh
    sums: BlochSums
    electrons: float
    reference: Array

    @property
    def spins(self) -> int:
        """Number of spin channels."""
        return 1 if self.settings.spin is None else 2


Piece = tuple[slice, Matrix, Matrix, Matrix | None]
"""k-points, H0 and S at them, (k, n, n) each, and the factors of S if it is to be used again and again."""


def pieces(system: System, *, again: bool = False) -> Iterator[Piece]:
    """H0 and S, chunk by chunk of k-points; ``again`` adds what pays if they are diagonalised more than once."""
    points = system.mesh.points
    for chunk in system.sums.chunks(len(points)):
        H0, S = system.sums.sums(points[chunk])
        yield chunk, H0, S, inverse_factors(S) if again else None


@dataclass
class Solution:
    """States of one potential.

    ``eigenvalues`` and ``occupations`` (spin, k, bands); ``levels`` per spin; ``entropy`` is TS; ``states`` holds
    eigenvectors per chunk of k-points and spin (empty if they were not asked for); ``band_energy`` is Tr(P H0);
    ``populations`` (spin, n, 4) per shell, None without states.
    """

    eigenvalues: Array
    occupations: Array
    levels: tuple[float, ...]
    entropy: float
    states: list[list[Matrix]]
    band_energy: float
    populations: Array | None


def diagonalise(system: System, matrices: list[Piece] | None, shift: Array, vectors: bool) -> Solution:
    """Solve for shifts (spin, n, 4) of the shells; ``matrices`` is None where they need not be kept."""
    points, weights = system.mesh.points, system.mesh.weights
    eigenvalues = np.empty((system.spins, len(points), system.basis.total))
    states: list[list[Matrix]] = []
    local = shift.reshape(system.spins, -1)[:, system.basis.shell]
    for chunk, H0, S, factors in pieces(system) if matrices is None else matrices:
        found: list[Matrix] = []
        for spin in range(system.spins):
            values, vectors_k = solve(shifted(H0, S, local[spin]), S, points[chunk], vectors, factors)
            eigenvalues[spin, chunk] = values
            if vectors_k is not None:
                found.append(vectors_k)
        if vectors:
            states.append(found)
    filled = _fill(system, eigenvalues, weights)
    occupations = np.stack([f.occupations for f in filled])
    entropy = sum(f.entropy for f in filled)
    levels = tuple(f.level for f in filled)
    if len(levels) == 2 and filled[0].whole != filled[1].whole:
        # a channel that is empty or full has no level of its own
        levels = (levels[filled[0].whole],) * 2
    band = float((weights[:, None] * occupations * eigenvalues).sum())
    if not vectors or matrices is None:
        # only where the shift is the same on every orbital, so that populations are not needed to take it out
        return Solution(eigenvalues, occupations, levels, entropy, states, band - system.electrons * local[0, 0], None)
    populations = np.zeros((system.spins, system.basis.total))
    for (chunk, _, S, _), found in zip(matrices, states, strict=True):
        for spin in range(system.spins):
            P = density(found[spin], weights[chunk, None] * occupations[spin, chunk])
            populations[spin] += (P.real * S.real).sum(axis=(0, 2))
            if np.iscomplexobj(P):
                populations[spin] += (P.imag * S.imag).sum(axis=(0, 2))
    band -= float((populations * local).sum())
    n_atoms = len(system.reference)
    per_shell = np.empty((system.spins, n_atoms, 4))
    for spin in range(system.spins):
        shells = np.bincount(system.basis.shell, populations[spin], 4 * n_atoms).astype(np.float64)
        per_shell[spin] = system.mesh.symmetry.average_scalars(shells.reshape(n_atoms, 4))
    return Solution(eigenvalues, occupations, levels, entropy, states, band, per_shell)


def shifted(H0: Matrix, S: Matrix, local: Array) -> Matrix:
    """H of orbitals with shifts (n,): H0 + S (v_i + v_j) / 2."""
    if not local.any():
        return H0
    H: Matrix = H0 + 0.5 * S * (local[:, None] + local[None, :])
    return H


def _fill(system: System, eigenvalues: Array, weights: Array) -> list[Filling]:
    """Fill both spins, or each with electrons of its own."""
    settings, electrons = system.settings, system.electrons
    if settings.spin is None:
        return [fill(eigenvalues[0], weights, electrons, settings)]
    if settings.spin.unpaired is not None:
        unpaired, orbitals = settings.spin.unpaired, eigenvalues.shape[2]
        each = (0.5 * (electrons + unpaired), 0.5 * (electrons - unpaired))
        if min(each) < -1e-10 or max(each) > orbitals + 1e-10:
            raise StructureError(
                f"unpaired = {unpaired:g}: of {electrons:g} electrons in {orbitals} orbitals at most "
                f"{min(electrons, 2 * orbitals - electrons):g} can be unpaired",
                unpaired=unpaired,
            )
        return [fill(eigenvalues[spin], weights, each[spin], settings, capacity=1) for spin in range(2)]
    both = fill(np.concatenate(list(eigenvalues), axis=1), weights, electrons, settings, capacity=1)
    half = both.occupations.shape[1] // 2
    parts = (both.occupations[:, :half], both.occupations[:, half:])
    return [Filling(part, both.level, 0.5 * both.entropy) for part in parts]


def density(states: Matrix, occupations: Array) -> Matrix:
    """sum_n f_n c_n c_n^H per k, (k, n, n), for any weights f of the states."""
    used = int(np.nonzero((np.abs(occupations) > OCCUPIED).any(axis=0))[0].max(initial=-1)) + 1
    occupied = states[:, :, :used]
    return (occupied * occupations[:, None, :used]) @ occupied.conj().swapaxes(1, 2)


def derivatives(tables: PackedTables, system: System, solution: Solution, shift: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) of the band energy at fixed shifts (spin, n, 4)."""
    weights = np.zeros_like(system.sums.blocks)
    points = system.mesh.points
    local = shift.reshape(system.spins, -1)[:, system.basis.shell]
    for chunk, found in zip(system.sums.chunks(len(points)), solution.states, strict=True):
        for_hamiltonian: Any = np.zeros_like(found[0])
        for_overlap: Any = np.zeros_like(found[0])
        for spin in range(system.spins):
            occupations = solution.occupations[spin, chunk]
            P = density(found[spin], occupations)
            for_hamiltonian += P
            for_overlap += P * (0.5 * (local[spin][:, None] + local[spin][None, :]))
            for_overlap -= density(found[spin], occupations * solution.eigenvalues[spin, chunk])
        system.sums.pull_back(points[chunk], system.mesh.weights[chunk], for_hamiltonian, for_overlap, weights)
    gradient = pair_gradients(tables, system.basis.species, system.sums.pairs, system.sums.offsets, weights)
    return collect(len(system.reference), system.sums.pairs, gradient)


def bands(system: System, shift: Array) -> Array:
    """Eigenvalues (spin, points, bands) at the settings' ``band_points`` for shifts (spin, n, 4)."""
    points = np.array(system.settings.band_points)
    out = np.empty((system.spins, len(points), system.basis.total))
    local = shift.reshape(system.spins, -1)[:, system.basis.shell]
    for chunk in system.sums.chunks(len(points)):
        H0, S = system.sums.sums(points[chunk])
        for spin in range(system.spins):
            out[spin, chunk] = solve(shifted(H0, S, local[spin]), S, points[chunk], False)[0]
    return out


def projections(system: System, solution: Solution, matrices: list[Piece]) -> Array:
    """Mulliken weight (spin, k, bands, n, 4) of each state on each shell of each atom."""
    n_atoms, total = len(system.reference), system.basis.total
    out = np.zeros((system.spins, len(system.mesh.points), total, 4 * n_atoms))
    first = np.nonzero(np.diff(system.basis.shell, prepend=-1))[0]
    present = system.basis.shell[first]
    for (chunk, _, S, _), found in zip(matrices, solution.states, strict=True):
        for spin, c in enumerate(found):
            weight = (c.conj() * (S @ c)).real
            out[spin, chunk][..., present] = np.add.reduceat(weight, first, axis=1).swapaxes(1, 2)
    shaped = out.reshape(*out.shape[:3], n_atoms, 4)
    permutations = system.mesh.symmetry.permutations
    averaged = np.zeros_like(shaped)
    for permutation in permutations:
        averaged[..., permutation, :] += shaped
    return averaged / len(permutations)
