"""Coulomb interaction of the charge fluctuations: gamma of DFTB2, periodic by Ewald summation. Hartree and Bohr.

gamma_ab(r) = 1/r - h S_ab(r), S the short-ranged correction of two exponential charge clouds with tau = 16/5 U
(Elstner et al., Phys. Rev. B 58, 7260 (1998)). In a crystal the 1/r part is summed with a neutralising background for
charged cells, as DFTB+ does.

Charges sit on *sites*: one per atom with the U of its s shell, or one per shell with its own U. Two sites of one atom
interact by the limit r -> 0: U for equal U, else 1/2 [ab/(a+b) + (ab)^2/(a+b)^3] with a, b = tau.

h = exp(-[(U_a + U_b)/2]^zeta r^2) damps S for pairs with hydrogen if DFTB3 asks for it, else it is 1 (Yang et al.,
J. Phys. Chem. A 111, 10861 (2007)).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry
from dftbparam.engine.embedded.tables import Ints

EWALD_SPLIT: Final = 2.5
"""Ewald parameter times the cube root of the volume: moves work from the real sum to the reciprocal one, which is a
matrix product."""

REAL_LIMIT: Final = 5.4
"""erfc(5.4) = 2e-14: the real sum ends at this over the Ewald parameter."""

RECIPROCAL_LIMIT: Final = 5.5
"""exp(-5.5^2) = 7e-14: the reciprocal sum ends at |G| = 2 * 5.5 times the Ewald parameter."""

SHORT_LIMIT: Final = 34.0
"""tau r beyond which S is below 1e-12 Hartree."""

EQUAL_U: Final = 1e-2
"""Relative difference of two U below which S is expanded in it. The formula for unequal U loses digits with the cube of
the difference, its derivative with U with the fourth power; here expansion and formula agree to 1e-9 and 1e-7."""

TAU: Final = 3.2
"""tau over U, 16/5."""


class Sites(NamedTuple):
    """Where charges sit. ``start`` (n + 1,) first site of each atom; ``atom`` (s,); ``hubbard`` (s,) in Hartree.

    ``damped`` (n,) marks the atoms whose pairs are damped with the exponent ``zeta``.
    """

    start: Ints
    atom: Ints
    hubbard: Array
    damped: NDArray[np.bool_]
    zeta: float


def gamma_matrix(structure: Geometry, sites: Sites) -> Array:
    """Matrix gamma (s, s) between all sites."""
    out: Array = _real_matrix(real_lattice(structure, sites), sites)
    if not structure.periodic:
        return out
    alpha = _alpha(structure)
    G, factor = _reciprocal(structure, alpha)
    angle = structure.positions @ G.T
    cosine, sine = np.cos(angle), np.sin(angle)
    long = (cosine * factor) @ cosine.T + (sine * factor) @ sine.T
    long -= math.pi / (structure.volume * alpha**2)
    long[np.diag_indices_from(long)] -= 2.0 * alpha / math.sqrt(math.pi)
    out += long[sites.atom[:, None], sites.atom[None, :]]
    return out


def gamma_forces(structure: Geometry, sites: Sites, charges: Array) -> tuple[Array, Array]:
    """Forces (n, 3) and dE/d(strain) (3, 3) of 1/2 sum gamma_ij q_i q_j at fixed charges (s,)."""
    forces, virial = _real_forces(real_lattice(structure, sites), sites, charges)
    if not structure.periodic:
        return forces, virial
    per_atom = np.add.reduceat(charges, sites.start[:-1])
    alpha = _alpha(structure)
    G, factor = _reciprocal(structure, alpha)
    angle = structure.positions @ G.T
    cosine, sine = np.cos(angle), np.sin(angle)
    real, imaginary = per_atom @ cosine, per_atom @ sine
    forces += per_atom[:, None] * ((sine * (factor * real) - cosine * (factor * imaginary)) @ G)
    power = 0.5 * factor * (real**2 + imaginary**2)
    square = (G**2).sum(axis=1)
    virial += (G.T * (power * 2.0 * (1.0 / square + 0.25 / alpha**2))) @ G
    background = 0.5 * math.pi * per_atom.sum() ** 2 / (structure.volume * alpha**2)
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


class Lattice(NamedTuple):
    """What sums in real space need of a structure; ``alpha`` = 0 stands for a molecule."""

    positions: Array
    fractional: Array
    cell: Array
    heights: Array
    alpha: float
    reach: float


def real_lattice(structure: Geometry, sites: Sites, *, short: bool = False) -> Lattice:
    """Lattice for the real-space part of gamma, or for sums that reach as far as S does (``short``)."""
    heights = np.ones(3)
    alpha, reach = 0.0, 0.0
    if structure.periodic:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
        alpha = _alpha(structure)
        reach = SHORT_LIMIT / (TAU * float(sites.hubbard.min()))
        if not short:
            reach = max(REAL_LIMIT / alpha, reach)
    return Lattice(structure.positions, structure.fractional, structure.cell, heights, alpha, reach)


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
def nearly_equal(a: float, b: float) -> bool:
    """Whether S of two exponents is to be expanded in their difference."""
    return abs(a - b) < EQUAL_U * (a + b) * 0.5


@njit(cache=True)
def short_range(r: float, u_a: float, u_b: float) -> tuple[float, float]:
    """S(r) and its derivative.

    For exponents t + d and t - d, S = e^(-t r) [1/r + 11/16 t + 3/16 t^2 r + t^3 r^2/48
    + d^2 (3/(8 t) + 3/8 r + 5/32 t r^2 + t^2 r^3/32 + t^3 r^4/480)] + O(d^4): the series of the formula for unequal U.
    """
    a, b = TAU * u_a, TAU * u_b
    if nearly_equal(a, b):
        t, d = 0.5 * (a + b), 0.5 * (a - b)
        x = t * r
        decay = math.exp(-x)
        series = 1.0 / r + t * (11.0 / 16.0 + x * (3.0 / 16.0 + x / 48.0))
        slope = -1.0 / (r * r) + t * t * (3.0 / 16.0 + x / 24.0)
        series += d * d / t * (3.0 / 8.0 + x * (3.0 / 8.0 + x * (5.0 / 32.0 + x * (1.0 / 32.0 + x / 480.0))))
        slope += d * d * (3.0 / 8.0 + x * (5.0 / 16.0 + x * (3.0 / 32.0 + x / 120.0)))
        return decay * series, decay * (slope - t * series)
    v1, d1 = _one_side(r, a, b)
    v2, d2 = _one_side(r, b, a)
    return v1 + v2, d1 + d2


@njit(cache=True)
def damping(r: float, u_a: float, u_b: float, zeta: float) -> tuple[float, float]:
    """The factor h and its derivative with r."""
    strength = (0.5 * (u_a + u_b)) ** zeta
    h = math.exp(-strength * r * r)
    return h, -2.0 * strength * r * h


@njit(cache=True)
def _on_site(u_a: float, u_b: float) -> float:
    """Interaction of two sites of one atom."""
    a, b = TAU * u_a, TAU * u_b
    share = a * b / (a + b)
    return 0.5 * (share + share * share / (a + b))


@njit(cache=True)
def _long(r: float, alpha: float) -> tuple[float, float]:
    """Real-space part of 1/r and its derivative; alpha = 0 stands for a molecule."""
    if alpha == 0.0:
        return 1.0 / r, -1.0 / (r * r)
    x = alpha * r
    if x >= REAL_LIMIT:
        return 0.0, 0.0
    value = math.erfc(x) / r
    return value, -value / r - 2.0 * alpha / math.sqrt(math.pi) * math.exp(-x * x) / r


@njit(cache=True)
def _short(r: float, u_a: float, u_b: float, damped: bool, zeta: float) -> tuple[float, float]:
    """Return h S and its derivative, zero where it is negligible."""
    if TAU * min(u_a, u_b) * r >= SHORT_LIMIT:
        return 0.0, 0.0
    s, ds = short_range(r, u_a, u_b)
    if damped:
        h, dh = damping(r, u_a, u_b, zeta)
        s, ds = h * s, h * ds + dh * s
    return s, ds


@njit(cache=True)
def images(lattice: Lattice, i: int, j: int) -> tuple[Array, int]:
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
def _real_matrix(lattice: Lattice, sites: Sites) -> Array:
    total = sites.hubbard.shape[0]
    u = sites.hubbard
    out = np.zeros((total, total))
    n = sites.start.shape[0] - 1
    for i in range(n):
        for j in range(i, n):
            damped = sites.damped[i] or sites.damped[j]
            vectors, count = images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                long = _long(r, lattice.alpha)[0]
                for p in range(sites.start[i], sites.start[i + 1]):
                    for q in range(sites.start[j], sites.start[j + 1]):
                        out[p, q] += long - _short(r, u[p], u[q], damped, sites.zeta)[0]
            for p in range(sites.start[i], sites.start[i + 1]):
                for q in range(sites.start[j], sites.start[j + 1]):
                    if i == j:
                        out[p, q] += _on_site(u[p], u[q])
                    else:
                        out[q, p] = out[p, q]
    return out


@njit(cache=True)
def _real_forces(lattice: Lattice, sites: Sites, charges: Array) -> tuple[Array, Array]:
    n = sites.start.shape[0] - 1
    u = sites.hubbard
    forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
    for i in range(n):
        for j in range(i, n):
            damped = sites.damped[i] or sites.damped[j]
            vectors, count = images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                long = _long(r, lattice.alpha)[1]
                slope = 0.0
                for p in range(sites.start[i], sites.start[i + 1]):
                    for q in range(sites.start[j], sites.start[j + 1]):
                        weight = charges[p] * charges[q]
                        if weight != 0.0:
                            slope += weight * (long - _short(r, u[p], u[q], damped, sites.zeta)[1])
                slope *= (0.5 if i == j else 1.0) / r
                add_pair(i, j, v, slope, forces, virial)
    return forces, virial


@njit(cache=True)
def add_pair(i: int, j: int, v: Array, slope: float, forces: Array, virial: Array) -> None:
    """Add what a pair energy with dE/dr = ``slope`` * r does, v being the vector from i to j (or an image of i)."""
    for d in range(3):
        if i != j:
            forces[i, d] += slope * v[d]
            forces[j, d] -= slope * v[d]
        for e in range(3):
            virial[d, e] += slope * v[d] * v[e]
