"""Repulsive pair potentials as Slater-Koster files give them (see `dftbparam.skf.model`). Bohr and Hartree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numba import njit
from numpy.typing import NDArray

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry, Pairs, find_pairs, geometry, symbols_of
from dftbparam.engine.embedded.tables import PackedTables, pack
from dftbparam.skf.model import SKSet

Ints = NDArray[np.int64]


def repulsive_energy(tables: SKSet | Path, structures: Sequence[Atoms]) -> Array:
    """Repulsive energy (s,) of each structure in Hartree. Raises `InputError` for a bad structure or missing tables."""
    from dftbparam.engine.embedded.solver import load_tables

    elements = sorted({symbol for atoms in structures for symbol in symbols_of(atoms)})
    packed = pack(load_tables(tables, elements), elements)
    out = np.empty(len(structures))
    for s, atoms in enumerate(structures):
        structure = geometry(atoms)
        packed.require(structure.symbols)
        species = np.array([packed.index(symbol) for symbol in structure.symbols], dtype=np.int64)
        cutoff = float(packed.repulsion_cutoff[np.ix_(species, species)].max())
        out[s] = pair_terms(packed, species, find_pairs(structure, cutoff))[0].sum()
    return out


def pair_terms(tables: PackedTables, species: Ints, pairs: Pairs) -> tuple[Array, Array]:
    """Energy (p,) and derivative with distance (p,) of every pair."""
    energy, slope = np.zeros(len(pairs.first)), np.zeros(len(pairs.first))
    _terms(
        pairs.first, pairs.second, pairs.distance, species, tables.repulsion_values, tables.repulsion_offset,
        tables.repulsion_intervals, tables.repulsion_cutoff, energy, slope,
    )  # fmt: skip
    return energy, slope


def forces_and_virial(structure: Geometry, pairs: Pairs, slope: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) of pair energies with derivative ``slope`` (p,)."""
    gradient = pairs.vector * (slope / pairs.distance)[:, None]
    return collect(len(structure.symbols), pairs, gradient)


def collect(n_atoms: int, pairs: Pairs, gradient: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) from the energy's gradient (p, 3) with every pair's vector."""
    forces = np.zeros((n_atoms, 3))
    np.add.at(forces, pairs.first, gradient)
    np.subtract.at(forces, pairs.second, gradient)
    return forces, gradient.T @ pairs.vector


@njit(cache=True)
def _terms(
    first: Ints,
    second: Ints,
    distance: Array,
    species: Ints,
    values: Array,
    offset: Ints,
    intervals: Ints,
    cutoff: Array,
    energy: Array,
    slope: Array,
) -> None:
    n_species = cutoff.shape[0]
    for q in range(first.shape[0]):
        a, b = species[first[q]], species[second[q]]
        r = distance[q]
        if r >= cutoff[a, b]:
            continue
        p = a * n_species + b
        at, n = offset[p], intervals[p]
        if n < 0:
            x = cutoff[a, b] - r
            e, d = 0.0, 0.0
            for k in range(7, -1, -1):
                d = d * x + e
                e = e * x + values[at + k]
            energy[q] = e * x * x
            slope[q] = -(d * x * x + 2.0 * e * x)
        elif r < values[at + 3]:
            head = np.exp(-values[at] * r + values[at + 1])
            energy[q] = head + values[at + 2]
            slope[q] = -values[at] * head
        else:
            low, high = 0, n
            while high - low > 1:
                middle = (low + high) // 2
                if values[at + 3 + middle] <= r:
                    low = middle
                else:
                    high = middle
            x = r - values[at + 3 + low]
            base = at + 3 + n + 1 + 6 * low
            e, d = 0.0, 0.0
            for k in range(5, -1, -1):
                d = d * x + e
                e = e * x + values[base + k]
            energy[q] = e
            slope[q] = d
