"""Coulomb interaction of the charge fluctuations: gamma of DFTB2, periodic by Ewald summation. Hartree and Bohr.

gamma_ab(r) = 1/r - S_ab(r), S the short-ranged correction of two exponential charge clouds with tau = 16/5 U
(Elstner et al., Phys. Rev. B 58, 7260 (1998)); gamma_aa(0) = U_a. In a crystal the 1/r part is summed with a
neutralising background for charged cells, as DFTB+ does. One U per atom: the s shell's.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry

EWALD_SPLIT: Final = 2.5
"""Ewald parameter times the cube root of the volume: moves work from the real sum to the reciprocal one, which is a
matrix product."""

REAL_LIMIT: Final = 5.4
"""erfc(5.4) = 2e-14: the real sum ends at this over the Ewald parameter."""

RECIPROCAL_LIMIT: Final = 5.5
"""exp(-5.5^2) = 7e-14: the reciprocal sum ends at |G| = 2 * 5.5 times the Ewald parameter."""

SHORT_LIMIT: Final = 34.0
"""tau r beyond which S is below 1e-12 Hartree."""

EQUAL_U: Final = 5e-4
"""Relative difference of two U below which they count as equal. The formula for unequal U loses digits with the cube
of the difference; at this value both formulas err by less than 1e-6 of S."""


def gamma_matrix(structure: Geometry, hubbard: Array) -> Array:
    """Matrix gamma (n, n) for atoms with Hubbard parameters ``hubbard`` (n,)."""
    out: Array = _real_matrix(_real_lattice(structure, hubbard), hubbard)
    if not structure.periodic:
        return out
    alpha = _alpha(structure)
    G, factor = _reciprocal(structure, alpha)
    angle = structure.positions @ G.T
    cosine, sine = np.cos(angle), np.sin(angle)
    out += (cosine * factor) @ cosine.T + (sine * factor) @ sine.T
    out -= math.pi / (structure.volume * alpha**2)
    out[np.diag_indices_from(out)] -= 2.0 * alpha / math.sqrt(math.pi)
    return out


def gamma_forces(structure: Geometry, hubbard: Array, charges: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) of 1/2 sum gamma_ab q_a q_b at fixed charges."""
    forces, virial = _real_forces(_real_lattice(structure, hubbard), hubbard, charges)
    if not structure.periodic:
        return forces, virial
    alpha = _alpha(structure)
    G, factor = _reciprocal(structure, alpha)
    angle = structure.positions @ G.T
    cosine, sine = np.cos(angle), np.sin(angle)
    real, imaginary = charges @ cosine, charges @ sine
    forces += charges[:, None] * ((sine * (factor * real) - cosine * (factor * imaginary)) @ G)
    power = 0.5 * factor * (real**2 + imaginary**2)
    square = (G**2).sum(axis=1)
    virial += (G.T * (power * 2.0 * (1.0 / square + 0.25 / alpha**2))) @ G
    background = 0.5 * math.pi * charges.sum() ** 2 / (structure.volume * alpha**2)
    virial += np.eye(3) * (background - power.sum())
    return forces, virial


def _alpha(structure: Geometry) -> float:
    return EWALD_SPLIT / math.cbrt(structure.volume)


def _reciprocal(structure: Geometry, alpha: float) -> tuple[Array, Array]:
    """Half of the reciprocal vectors (g, 3) within the limit, and 2 * 4 pi / V exp(-G^2 / 4 alpha^2) / G^2."""
    limit = 2.0 * alpha * RECIPROCAL_LIMIT
    basis = 2.0 * math.pi * np.linalg.inv(structure.cell).T
    reach = np.floor(limit * np.linalg.norm(structure.cell, axis=1) / (2.0 * math.pi)).astype(int)
    a, b, c = (np.arange(-n, n + 1) for n in reach)
    index = np.stack(np.meshgrid(a[a >= 0], b, c, indexing="ij"), axis=-1).reshape(-1, 3)
    upper = (index[:, 0] > 0) | (index[:, 1] > 0) | ((index[:, 1] == 0) & (index[:, 2] > 0))
    G = index[upper] @ basis
    square = (G**2).sum(axis=1)
    inside = square < limit**2
    G, square = G[inside], square[inside]
    return G, 8.0 * math.pi / structure.volume * np.exp(-square / (4.0 * alpha**2)) / square


class _Lattice(NamedTuple):
    """What the real-space sums need of a structure; ``alpha`` = 0 stands for a molecule."""

    positions: Array
    fractional: Array
    cell: Array
    heights: Array
    alpha: float
    reach: float


def _real_lattice(structure: Geometry, hubbard: Array) -> _Lattice:
    heights = np.ones(3)
    alpha, reach = 0.0, 0.0
    if structure.periodic:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
        alpha = _alpha(structure)
        reach = max(REAL_LIMIT / alpha, SHORT_LIMIT / (3.2 * float(hubbard.min())))
    return _Lattice(structure.positions, structure.fractional, structure.cell, heights, alpha, reach)


@njit(cache=True)
def _one_side(r: float, a: float, b: float) -> tuple[float, float]:
    """Half of S for unequal exponents, and its derivative."""
    difference = a * a - b * b
    p = 0.5 * b**4 * a / difference**2
    q = (b**6 - 3.0 * b**4 * a * a) / difference**3
    decay = math.exp(-a * r)
    value = decay * (p - q / r)
    return value, -a * value + decay * q / (r * r)


@njit(cache=True)
def _short(r: float, u_a: float, u_b: float) -> tuple[float, float]:
    """S(r) and its derivative."""
    a, b = 3.2 * u_a, 3.2 * u_b
    if abs(a - b) < EQUAL_U * (a + b) * 0.5:
        t = 0.5 * (a + b)
        decay = math.exp(-t * r)
        series = 1.0 / r + t * (11.0 / 16.0 + t * r * (3.0 / 16.0 + t * r / 48.0))
        slope = -1.0 / (r * r) + t * t * (3.0 / 16.0 + t * r / 24.0)
        return decay * series, decay * (slope - t * series)
    v1, d1 = _one_side(r, a, b)
    v2, d2 = _one_side(r, b, a)
    return v1 + v2, d1 + d2


@njit(cache=True)
def _pair(r: float, u_a: float, u_b: float, alpha: float) -> tuple[float, float]:
    """Real-space part of gamma at one distance, and its derivative; alpha = 0 stands for a molecule."""
    value, slope = 1.0 / r, -1.0 / (r * r)
    if alpha > 0.0:
        x = alpha * r
        if x < REAL_LIMIT:
            value = math.erfc(x) / r
            slope = -value / r - 2.0 * alpha / math.sqrt(math.pi) * math.exp(-x * x) / r
        else:
            value, slope = 0.0, 0.0
    if 3.2 * min(u_a, u_b) * r < SHORT_LIMIT:
        s, ds = _short(r, u_a, u_b)
        value -= s
        slope -= ds
    return value, slope


@njit(cache=True)
def _images(lattice: _Lattice, i: int, j: int) -> tuple[Array, int]:
    """Vectors (m, 3) from atom i to the images of atom j within reach, itself left out, and their number."""
    low, high = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    periodic = lattice.alpha > 0.0
    room = 1
    for c in range(3):
        if periodic:
            difference = lattice.fractional[j, c] - lattice.fractional[i, c]
            low[c] = int(np.ceil(-lattice.reach / lattice.heights[c] - difference))
            high[c] = int(np.floor(lattice.reach / lattice.heights[c] - difference))
        room *= high[c] - low[c] + 1
    out = np.empty((max(room, 0), 3))
    count = 0
    for a in range(low[0], high[0] + 1):
        for b in range(low[1], high[1] + 1):
            for c in range(low[2], high[2] + 1):
                if i == j and a == 0 and b == 0 and c == 0:
                    continue
                square = 0.0
                for d in range(3):
                    x = lattice.positions[j, d] - lattice.positions[i, d]
                    x += a * lattice.cell[0, d] + b * lattice.cell[1, d] + c * lattice.cell[2, d]
                    out[count, d] = x
                    square += x * x
                if not periodic or square < lattice.reach * lattice.reach:
                    count += 1
    return out, count


@njit(cache=True)
def _real_matrix(lattice: _Lattice, hubbard: Array) -> Array:
    n = hubbard.shape[0]
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            total = hubbard[i] if i == j else 0.0
            vectors, count = _images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                total += _pair(r, hubbard[i], hubbard[j], lattice.alpha)[0]
            out[i, j] = total
            out[j, i] = total
    return out


@njit(cache=True)
def _real_forces(lattice: _Lattice, hubbard: Array, charges: Array) -> tuple[Array, Array]:
    n = hubbard.shape[0]
    forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
    for i in range(n):
        for j in range(i, n):
            weight = charges[i] * charges[j] * (0.5 if i == j else 1.0)
            if weight == 0.0:
                continue
            vectors, count = _images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                slope = weight * _pair(r, hubbard[i], hubbard[j], lattice.alpha)[1] / r
                for d in range(3):
                    if i != j:
                        forces[i, d] += slope * v[d]
                        forces[j, d] -= slope * v[d]
                    for e in range(3):
                        virial[d, e] += slope * v[d] * v[e]
    return forces, virial
