"""Third order of DFTB3 (Gaus, Cui, Elstner, J. Chem. Theory Comput. 7, 931 (2011)). Hartree and Bohr.

E3 = 1/3 sum_ab q_a^2 q_b Gamma_ab with q in excess electrons, Gamma_ab = dgamma_ab/dU_a U'_a between different atoms
(and images), Gamma_aa = U'_a / 2. Only the short-ranged part of gamma depends on U, so that Gamma is short-ranged:

    dgamma_ab/dU_a = -(tau dS/da h + S dh/dU_a),   a = tau U_a.

Between atoms of one U, DFTB3 as implemented in DFTB+ (and as the set 3ob is used) takes for dS/da the derivative of
S(a, a), in which both exponents change: twice the limit of unequal ones. That convention is kept here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.gamma import (
    SHORT_LIMIT,
    TAU,
    Lattice,
    Sites,
    add_pair,
    damping,
    images,
    nearly_equal,
    real_lattice,
    short_range,
)
from dftbparam.engine.embedded.neighbours import Geometry

SAME_U: Final = 3.125e-6
"""Hartree. Two U closer than this count as one (DFTB+'s ``minHubDiff``)."""


@dataclass(frozen=True)
class ThirdOrderMatrix:
    """Gamma (n, n) of a structure; row a holds the derivatives with respect to U_a."""

    structure: Geometry
    sites: Sites
    derivatives: Array
    matrix: Array
    full: bool

    def energy(self, charges: Array) -> float:
        """E3 for excess electrons (n,)."""
        return float(charges**2 @ self.matrix @ charges) / 3.0

    def shift(self, charges: Array) -> Array:
        """dE3/dq (n,)."""
        out: Array = (2.0 * charges * (self.matrix @ charges) + self.matrix.T @ charges**2) / 3.0
        return out

    def forces(self, charges: Array) -> tuple[Array, Array]:
        """Forces (n, 3) and dE3/d(strain) (3, 3) at fixed charges."""
        n = len(charges)
        if not self.full:
            return np.zeros((n, 3)), np.zeros((3, 3))
        lattice = real_lattice(self.structure, self.sites, short=True)
        forces, virial = _forces(lattice, self.sites, self.derivatives, charges)
        return forces, virial


def third_order_matrix(structure: Geometry, sites: Sites, derivatives: Array, full: bool) -> ThirdOrderMatrix:
    """Gamma for sites that are the atoms, with Hubbard derivatives (n,); the on-site part alone if not ``full``."""
    matrix = np.diag(0.5 * derivatives)
    if full:
        matrix = matrix + _matrix(real_lattice(structure, sites, short=True), sites) * derivatives[:, None]
    return ThirdOrderMatrix(structure, sites, derivatives, matrix, full)


@njit(cache=True)
def _half(r: float, a: float, b: float) -> tuple[float, float, float, float]:
    """Derivatives of one half of S, f(a, b) = e^(-a r) (p - q/r): df/da, d2f/da dr, df/db, d2f/db dr."""
    D = a * a - b * b
    p = 0.5 * b**4 * a / D**2
    q = (b**6 - 3.0 * b**4 * a * a) / D**3
    p_a = 0.5 * b**4 / D**2 - 2.0 * a * a * b**4 / D**3
    p_b = 2.0 * b**3 * a / D**2 + 2.0 * b**5 * a / D**3
    q_a = -6.0 * a * b**4 / D**3 - 6.0 * a * (b**6 - 3.0 * b**4 * a * a) / D**4
    q_b = (6.0 * b**5 - 12.0 * b**3 * a * a) / D**3 + 6.0 * b * (b**6 - 3.0 * b**4 * a * a) / D**4
    decay = math.exp(-a * r)
    by_a = decay * (p_a + q - r * p - q_a / r)
    by_b = decay * (p_b - q_b / r)
    return by_a, -a * by_a + decay * (q_a / (r * r) - p), by_b, -a * by_b + decay * q_b / (r * r)


@njit(cache=True)
def _short_by_exponent(r: float, a: float, b: float) -> tuple[float, float]:
    """dS/da and d2S/da dr for exponents a, b; near a = b from the series in `gamma.short_range`."""
    if not nearly_equal(a, b):
        by_a, by_a_r, _, _ = _half(r, a, b)
        _, _, by_b, by_b_r = _half(r, b, a)
        return by_a + by_b, by_a_r + by_b_r
    t, d = 0.5 * (a + b), 0.5 * (a - b)
    x = t * r
    decay = math.exp(-x)
    # S = e^-x (P + d^2 Q): dS/da = 1/2 dS/dt + 1/2 dS/dd, with dP/dt = P_t, dQ/dt = Q_t, and the same by r
    P = 1.0 / r + t * (11.0 / 16.0 + x * (3.0 / 16.0 + x / 48.0))
    P_t = 11.0 / 16.0 + x * (3.0 / 8.0 + x / 16.0)
    P_r = -1.0 / (r * r) + t * t * (3.0 / 16.0 + x / 24.0)
    P_tr = t * (3.0 / 8.0 + x / 8.0)
    Q = (3.0 / 8.0 + x * (3.0 / 8.0 + x * (5.0 / 32.0 + x * (1.0 / 32.0 + x / 480.0)))) / t
    Q_t = (-3.0 / 8.0 + x * x * (5.0 / 32.0 + x * (1.0 / 16.0 + x / 160.0))) / (t * t)
    Q_r = 3.0 / 8.0 + x * (5.0 / 16.0 + x * (3.0 / 32.0 + x / 120.0))
    Q_tr = x * (5.0 / 16.0 + x * (3.0 / 16.0 + x / 40.0)) / t
    dd = d * d
    value = 0.5 * (P_t + dd * Q_t - r * (P + dd * Q)) + d * Q
    slope = 0.5 * (P_tr + dd * Q_tr - (P + dd * Q) - r * (P_r + dd * Q_r)) + d * Q_r
    return decay * value, decay * (slope - t * value)


@njit(cache=True)
def gamma_by_hubbard(r: float, u_a: float, u_b: float, damped: bool, zeta: float) -> tuple[float, float]:
    """dgamma_ab/dU_a at distance r > 0 (for one U: see the module), and its derivative with r."""
    if TAU * min(u_a, u_b) * r >= SHORT_LIMIT:
        return 0.0, 0.0
    by_u, by_u_r = _short_by_exponent(r, TAU * u_a, TAU * u_b)
    factor = 2.0 * TAU if abs(u_a - u_b) < SAME_U else TAU
    by_u, by_u_r = factor * by_u, factor * by_u_r
    if damped:
        s, s_r = short_range(r, u_a, u_b)
        h, h_r = damping(r, u_a, u_b, zeta)
        k = -0.5 * zeta * (0.5 * (u_a + u_b)) ** (zeta - 1.0)  # dh/dU = k r^2 h
        h_u, h_u_r = k * r * r * h, k * (2.0 * r * h + r * r * h_r)
        by_u_r = by_u_r * h + by_u * h_r + s_r * h_u + s * h_u_r
        by_u = by_u * h + s * h_u
    return -by_u, -by_u_r


@njit(cache=True)
def _matrix(lattice: Lattice, sites: Sites) -> Array:
    n = sites.hubbard.shape[0]
    u = sites.hubbard
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            damped = sites.damped[i] or sites.damped[j]
            vectors, count = images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                out[i, j] += gamma_by_hubbard(r, u[i], u[j], damped, sites.zeta)[0]
                if i != j:
                    out[j, i] += gamma_by_hubbard(r, u[j], u[i], damped, sites.zeta)[0]
    return out


@njit(cache=True)
def _forces(lattice: Lattice, sites: Sites, derivatives: Array, q: Array) -> tuple[Array, Array]:
    n = q.shape[0]
    u = sites.hubbard
    forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
    for i in range(n):
        for j in range(i, n):
            damped = sites.damped[i] or sites.damped[j]
            vectors, count = images(lattice, i, j)
            for v in vectors[:count]:
                r = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                slope = q[i] * q[i] * q[j] * derivatives[i] * gamma_by_hubbard(r, u[i], u[j], damped, sites.zeta)[1]
                if i != j:
                    slope += (
                        q[j] * q[j] * q[i] * derivatives[j] * gamma_by_hubbard(r, u[j], u[i], damped, sites.zeta)[1]
                    )
                add_pair(i, j, v, slope / (3.0 * r), forces, virial)
    return forces, virial
