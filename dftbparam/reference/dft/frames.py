"""Displaced and strained copies of a crystal: structures with forces and stress, for delta models and for tests.

Every copy is the crystal at a volume drawn from `VOLUMES`, under a random symmetric strain, with random displacements.
The draws follow from the name of the crystal and a seed, so that a set can be extended without changing its beginning.
"""

from __future__ import annotations

import hashlib
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

VOLUMES: Final = (0.90, 1.12)
"""Relative volumes of the copies."""

STRAIN: Final = 0.03
"""Standard deviation of the strain's components."""

DISPLACEMENTS: Final = (0.01, 0.04)
"""Standard deviation of the displacements, in units of the nearest-neighbour distance: about the thermal amplitude at
room temperature up to that near melting (Lindemann)."""

ATOMS: Final = 2
"""A copy has at least this many atoms; a primitive cell of one is doubled along its shortest vector, because a crystal
of one atom has no forces."""


def displaced(crystal: Any, name: str, index: int, neighbour: float, seed: int = 0) -> Atoms:
    """Make one copy.

    Parameters
    ----------
    crystal
        ASE's atoms: the primitive cell at rest.
    name, index, seed
        Decide the draws.
    neighbour
        Nearest-neighbour distance, Angstrom.
    """
    digest = hashlib.sha256(f"{name}/{index}/{seed}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    atoms: Any = repeated(crystal)
    strain = rng.normal(0.0, STRAIN, (3, 3))
    strain = 0.5 * (strain + strain.T)
    strain -= np.eye(3) * np.trace(strain) / 3.0
    scale = rng.uniform(*VOLUMES) ** (1.0 / 3.0)
    deformation = scale * (np.eye(3) + strain)
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    amplitude = rng.uniform(*DISPLACEMENTS) * neighbour
    atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
    atoms.wrap()
    return cast("Atoms", atoms)


def repeated(crystal: Any) -> Atoms:
    """Copy a crystal (ASE's atoms), doubled where it has fewer atoms than `ATOMS`."""
    atoms: Any = crystal.copy()
    if len(atoms) < ATOMS:
        repeat = [1, 1, 1]
        repeat[int(np.argmin(atoms.cell.lengths()))] = ceil(ATOMS / len(atoms))
        atoms = atoms.repeat(repeat)
    return cast("Atoms", atoms)
