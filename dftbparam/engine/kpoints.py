"""Monkhorst-Pack meshes in DFTB+'s custom, for all engines; `embedded.kpoints` reduces them by symmetry.

A mesh of n1 x n2 x n3 divisions holds the fractional points k_i = (j + s_i) / n_i, j = 0 ... n_i - 1, with the shift
s_i = 1/2 for even and 0 for odd n_i (Monkhorst, Pack, Phys. Rev. B 13, 5188 (1976); DFTB+'s ``SupercellFolding``).
"""

from __future__ import annotations

from math import ceil, pi

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.engine.base import Settings
from dftbparam.errors import StructureError

_ROUND_OFF = 1e-8
"""Slack in counting divisions, so that rounding in a rotated cell adds none."""


def is_periodic(atoms: Atoms) -> bool:
    """Whether a structure is a crystal (True) or a molecule (False).

    Raises
    ------
    StructureError
        It is periodic in one or two directions only, which no engine here treats.
    """
    pbc = [bool(p) for p in atoms.pbc]
    if any(pbc) and not all(pbc):
        raise StructureError(f"pbc = {pbc}: a structure must be periodic in all three directions or in none")
    return all(pbc)


def divisions(atoms: Atoms, settings: Settings) -> tuple[int, int, int]:
    """Monkhorst-Pack divisions for one structure, by ``kpt_density`` if given, else ``kpts``; (1, 1, 1) for molecules.

    Raises
    ------
    StructureError
        A cell without volume, or mixed boundary conditions.
    """
    if not is_periodic(atoms):
        return (1, 1, 1)
    if settings.kpt_density is None:
        n1, n2, n3 = (int(n) for n in settings.kpts)
        return (n1, n2, n3)
    cell = np.array(atoms.cell.array)
    if abs(np.linalg.det(cell)) < 1e-6:
        raise StructureError(f"the cell {cell.tolist()} has no volume")
    lengths = 2.0 * pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    n1, n2, n3 = (max(1, ceil(settings.kpt_density * float(b) - _ROUND_OFF)) for b in lengths)
    return (n1, n2, n3)


def shifts(mesh: tuple[int, int, int]) -> tuple[float, float, float]:
    """Shift of the mesh along each direction in units of its step: 0.5 for even divisions, 0 for odd."""
    s1, s2, s3 = (0.0 if n % 2 else 0.5 for n in mesh)
    return (s1, s2, s3)


def time_reversed_mesh(mesh: tuple[int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a mesh with only k = -k merged, in DFTB+'s order (last index fastest, the first of a pair kept).

    Returns
    -------
    kpoints, weights
        (n_k, 3) fractional, within [0, 1), and (n_k,), sum 1.
    """
    # In units of half a step everything is an integer, so that -k is found without a tolerance.
    sizes = 2 * np.array(mesh)
    axes = [2 * np.arange(n) + (1 - n % 2) for n in mesh]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def key(p: NDArray[np.int64]) -> NDArray[np.int64]:
        out: NDArray[np.int64] = (p[:, 0] * sizes[1] + p[:, 1]) * sizes[2] + p[:, 2]
        return out

    here = key(points)
    there = key(-points % sizes)
    rank = np.arange(len(points))
    # Points come in ascending order of their key, so the smaller key is the one met first.
    kept = here <= there
    weights = np.where(here == there, 1.0, 2.0)[kept] / len(points)
    return points[rank[kept]] / sizes, weights
