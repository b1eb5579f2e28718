"""Repulsive energies of structures, and sums of pair terms in general. Bohr and Hartree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry, Pairs, find_pairs, geometry, symbols_of
from dftbparam.engine.embedded.tables import Ints, PackedTables, pack
from dftbparam.skf.evaluate import repulsion_values
from dftbparam.skf.model import SKSet


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
    kind = species[pairs.first] * len(tables.species) + species[pairs.second]
    for p in np.unique(kind):
        here = np.nonzero(kind == p)[0]
        energy[here], slope[here], _ = repulsion_values(tables.repulsion[p], pairs.distance[here])
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
