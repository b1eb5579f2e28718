r"""Radial equation of the scalar-relativistic atom on a logarithmic grid, compiled.

Koelling and Harmon's equation, J. Phys. C 10, 3107 (1977), without spin-orbit coupling, as a first-order system for
the large component P = r R and Q = (P' - P/r) / (2 M)::

    P' =  P/r + 2 M Q
    Q' = -Q/r + [l(l+1) / (2 M r^2) + V - E] P,      M = 1 + (E - V) / (2 c^2)

Written this way the derivative of the potential is not needed. On r = r_0 exp(x) with equal steps in x it is integrated
by the implicit five-step Adams-Moulton formula (sixth order locally), outwards from the nucleus and inwards from a hard
wall or from deep in the forbidden region, and matched at the outermost classical turning point. A hard wall at the end
of the grid means that every shell has a solution, bound or not.

Units: Bohr, Hartree. Only the large component enters norm and density, as is usual for scalar-relativistic
pseudo-atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RadialGrid:
    """Logarithmic grid r_i = r_0 exp(i h): ``r`` (n,), ``step`` h, ``weights`` (n,) of the integral over r."""

    r: Array
    step: float
    weights: Array

    @classmethod
    def make(cls, r_min: float, r_max: float, points: int) -> RadialGrid:
        """Make a grid from ``r_min`` to ``r_max`` (Bohr); weights are the end-corrected trapezoid (Gregory)."""
        x = np.linspace(np.log(r_min), np.log(r_max), points)
        step = float(x[1] - x[0])
        r = np.exp(x)
        weights = np.full(points, step)
        for i, w in enumerate((3.0 / 8.0, 7.0 / 6.0, 23.0 / 24.0)):
            weights[i] *= w
            weights[-1 - i] *= w
        return cls(r, step, weights * r)


@njit(cache=True)
def _outward(r, v, energy, l, z, half_alpha2, h, last, p, q):  # type: ignore[no-untyped-def]
    """Integrate from the nucleus to index ``last``; return the number of nodes of P."""
    ll = l * (l + 1.0)
    if half_alpha2 > 0.0:
        gamma = np.sqrt(ll + 1.0 - 2.0 * half_alpha2 * z * z)
    else:
        gamma = l + 1.0
    fp = np.empty(4)
    fq = np.empty(4)
    for i in range(4):
        m = 1.0 + half_alpha2 * (energy - v[i])
        p[i] = (r[i] / r[3]) ** gamma * 1e-8
        if half_alpha2 > 0.0 and l == 0:
            # Near a point nucleus M ~ Z/(2 c^2 r): Q = (gamma - 1) P / (2 r M) stays finite.
            q[i] = (gamma - 1.0) * p[i] / (2.0 * m * r[i])
        elif l == 0:
            q[i] = -0.5 * z * p[i]  # Kato's cusp: (P/r)' = -Z P/r at the nucleus
        else:
            q[i] = (gamma - 1.0) * p[i] / (2.0 * m * r[i])
        fp[i] = p[i] + 2.0 * m * r[i] * q[i]
        fq[i] = -q[i] + r[i] * (ll / (2.0 * m * r[i] * r[i]) + v[i] - energy) * p[i]
    nodes = 0
    c0 = 251.0 / 720.0 * h
    for i in range(4, last + 1):
        m = 1.0 + half_alpha2 * (energy - v[i])
        sp = p[i - 1] + h / 720.0 * (646.0 * fp[3] - 264.0 * fp[2] + 106.0 * fp[1] - 19.0 * fp[0])
        sq = q[i - 1] + h / 720.0 * (646.0 * fq[3] - 264.0 * fq[2] + 106.0 * fq[1] - 19.0 * fq[0])
        a12 = 2.0 * m * r[i]
        a21 = r[i] * (ll / (2.0 * m * r[i] * r[i]) + v[i] - energy)
        # Solve (1 - c0 A) y = s with A = [[1, a12], [a21, -1]].
        det = (1.0 - c0) * (1.0 + c0) - c0 * c0 * a12 * a21
        p[i] = ((1.0 + c0) * sp + c0 * a12 * sq) / det
        q[i] = (c0 * a21 * sp + (1.0 - c0) * sq) / det
        if p[i] * p[i - 1] < 0.0:
            nodes += 1
        fp[0], fp[1], fp[2] = fp[1], fp[2], fp[3]
        fq[0], fq[1], fq[2] = fq[1], fq[2], fq[3]
        fp[3] = p[i] + a12 * q[i]
        fq[3] = a21 * p[i] - q[i]
        if abs(p[i]) > 1e150:  # rescale before it overflows; the norm is set later
            for j in range(i + 1):
                p[j] *= 1e-150
                q[j] *= 1e-150
            for j in range(4):
                fp[j] *= 1e-150
                fq[j] *= 1e-150
    return nodes


@njit(cache=True)
def _inward(r, v, energy, l, half_alpha2, h, first, start, p, q):  # type: ignore[no-untyped-def]
    """Integrate inwards from index ``start`` to ``first``; return the number of nodes of P."""
    ll = l * (l + 1.0)
    n = r.shape[0]
    wall = start == n - 1
    fp = np.empty(4)
    fq = np.empty(4)
    for k in range(4):
        i = start - k
        m = 1.0 + half_alpha2 * (energy - v[i])
        kinetic = ll / (2.0 * m * r[i] * r[i]) + v[i] - energy
        if wall:
            # P = 0 at the wall, slope -1: P'' is negligible over three steps of a fine grid only if we follow it,
            # so use the local solution with wave number k^2 = 2 M kinetic.
            d = r[start] - r[i]
            k2 = 2.0 * m * kinetic
            if k2 > 0.0:
                root = np.sqrt(k2)
                p[i] = np.sinh(root * d) / root
                slope = -np.cosh(root * d)
            elif k2 < 0.0:
                root = np.sqrt(-k2)
                p[i] = np.sin(root * d) / root
                slope = -np.cos(root * d)
            else:
                p[i] = d
                slope = -1.0
        else:
            root = np.sqrt(max(2.0 * m * kinetic, 1e-10))
            if k == 0:
                p[i] = 1e-30
            else:
                p[i] = p[i + 1] * np.exp(root * (r[i + 1] - r[i]))
            slope = -root * p[i]
        q[i] = (slope - p[i] / r[i]) / (2.0 * m)
        fp[k] = p[i] + 2.0 * m * r[i] * q[i]
        fq[k] = -q[i] + r[i] * kinetic * p[i]
    nodes = 0
    c0 = -251.0 / 720.0 * h
    for i in range(start - 4, first - 1, -1):
        m = 1.0 + half_alpha2 * (energy - v[i])
        sp = p[i + 1] - h / 720.0 * (646.0 * fp[3] - 264.0 * fp[2] + 106.0 * fp[1] - 19.0 * fp[0])
        sq = q[i + 1] - h / 720.0 * (646.0 * fq[3] - 264.0 * fq[2] + 106.0 * fq[1] - 19.0 * fq[0])
        a12 = 2.0 * m * r[i]
        a21 = r[i] * (ll / (2.0 * m * r[i] * r[i]) + v[i] - energy)
        det = (1.0 - c0) * (1.0 + c0) - c0 * c0 * a12 * a21
        p[i] = ((1.0 + c0) * sp + c0 * a12 * sq) / det
        q[i] = (c0 * a21 * sp + (1.0 - c0) * sq) / det
        if p[i] * p[i + 1] < 0.0:
            nodes += 1
        fp[0], fp[1], fp[2] = fp[1], fp[2], fp[3]
        fq[0], fq[1], fq[2] = fq[1], fq[2], fq[3]
        fp[3] = p[i] + a12 * q[i]
        fq[3] = a21 * p[i] - q[i]
        if abs(p[i]) > 1e150:
            for j in range(i, start + 1):
                p[j] *= 1e-150
                q[j] *= 1e-150
            for j in range(4):
                fp[j] *= 1e-150
                fq[j] *= 1e-150
    return nodes


@njit(cache=True)
def solve_shell(r, weights, v, l, nodes, guess, z, half_alpha2, h, p, q):  # type: ignore[no-untyped-def]
    """Find the state with ``nodes`` nodes of P; fills ``p`` and ``q`` (normalised), returns (energy, ok).

    ``guess`` starts the search. The bracket is kept by the node theorem; inside it the energy moves by the first-order
    correction from the mismatch of Q at the matching point, or by bisection where that leaves the bracket.
    """
    n = r.shape[0]
    low = 1e300
    for i in range(n):
        low = min(low, v[i] + l * (l + 1.0) / (2.0 * r[i] * r[i]))
    if low < -1.2 * z * z:
        low = -1.2 * z * z - 1.0
    high = 1e4
    energy = guess
    if energy <= low:
        energy = low + 0.05 * abs(low)
    for _ in range(300):
        # Outermost classical turning point, kept away from the ends.
        match = -1
        for i in range(n - 1, -1, -1):
            if v[i] + l * (l + 1.0) / (2.0 * r[i] * r[i]) < energy:
                match = i
                break
        if match < 0:
            low = max(low, energy)
            energy = energy + 0.5 * max(1e-3, min(abs(energy), high - energy))
            continue
        start = n - 1
        if match > n - 40:
            match = n - 40  # allowed up to the wall: match anywhere inside
        action = 0.0
        for i in range(match + 1, n):
            decay = np.sqrt(max(2.0 * (v[i] + l * (l + 1.0) / (2.0 * r[i] * r[i]) - energy), 0.0))
            action += decay * (r[i] - r[i - 1])
            # Stop where the state has decayed, or where the potential is too steep for the step: the multistep
            # formula then loses its sign, and what lies beyond is under exp(-10) of the maximum anyway.
            if action > 60.0 or (h * r[i] * decay > 0.8 and i > match + 12):
                start = i
                break
        if start - match < 10:
            match = start - 10
        found = _outward(r, v, energy, l, z, half_alpha2, h, match, p, q)
        p_out, q_out = p[match], q[match]
        found += _inward(r, v, energy, l, half_alpha2, h, match, start, p, q)
        p_in, q_in = p[match], q[match]
        if p_out == 0.0 or p_in == 0.0:
            energy = energy * (1.0 + 1e-10) + 1e-12
            continue
        if found > nodes:
            high = min(high, energy)
            if low > -1e290:
                energy = 0.5 * (low + high)
            continue
        if found < nodes:
            low = max(low, energy)
            if high > 9e3:
                energy = energy + 0.5 * max(abs(energy), 0.1)
            else:
                energy = 0.5 * (low + high)
            continue
        scale = p_out / p_in
        for i in range(match, start + 1):
            p[i] *= scale
            q[i] *= scale
        for i in range(start + 1, n):
            p[i] = 0.0
            q[i] = 0.0
        norm = 0.0
        for i in range(n):
            norm += weights[i] * p[i] * p[i]
        shift = (q_out - q_in * scale) * p_out / norm
        if shift > 0.0:
            low = max(low, energy)
        else:
            high = min(high, energy)
        if abs(shift) < 1e-11 * max(1.0, abs(energy)) or high - low < 1e-13 * max(1.0, abs(energy)):
            factor = 1.0 / np.sqrt(norm)
            if p[5] < 0.0:
                factor = -factor
            for i in range(n):
                p[i] *= factor
                q[i] *= factor
            return energy, True
        new = energy + shift
        if new <= low or new >= high:
            new = 0.5 * (low + high) if high < 9e3 else energy + 0.1 * abs(energy)
        energy = new
    return energy, False


@njit(cache=True)
def hartree_potential(r, h, charge, v):  # type: ignore[no-untyped-def]
    """Fill ``v`` with the potential of the radial charge density ``charge`` = 4 pi r^2 n (n,), by fourth-order sums."""
    n = r.shape[0]
    inner = charge[0] * r[0] / 3.0
    v[0] = 0.0
    enclosed = np.empty(n)
    enclosed[0] = inner
    for i in range(n - 1):
        a = charge[max(i - 1, 0)] * r[max(i - 1, 0)]
        b = charge[i] * r[i]
        c = charge[i + 1] * r[i + 1]
        d = charge[min(i + 2, n - 1)] * r[min(i + 2, n - 1)]
        if i == 0 or i == n - 2:
            inner += 0.5 * h * (b + c)
        else:
            inner += h / 24.0 * (13.0 * (b + c) - a - d)
        enclosed[i + 1] = inner
    outer = 0.0
    v[n - 1] = enclosed[n - 1] / r[n - 1]
    for i in range(n - 2, -1, -1):
        if i == 0 or i == n - 2:
            outer += 0.5 * h * (charge[i] + charge[i + 1])
        else:
            outer += h / 24.0 * (13.0 * (charge[i] + charge[i + 1]) - charge[i - 1] - charge[i + 2])
        v[i] = enclosed[i] / r[i] + outer


@njit(cache=True)
def accumulate_density(r, v, dv, l, energy, occupation, half_alpha2, p, q, n0, n1, n2):  # type: ignore[no-untyped-def]
    """Add a shell's density and its first two radial derivatives to ``n0``, ``n1``, ``n2`` (n,).

    The derivatives follow from the radial equation itself, so no numerical differentiation is needed for GGA.
    ``dv`` is dV/dr, which only enters through the slow variation of M.
    """
    f = occupation / (4.0 * np.pi)
    ll = l * (l + 1.0)
    for i in range(r.shape[0]):
        m = 1.0 + half_alpha2 * (energy - v[i])
        dm = -half_alpha2 * dv[i]
        g = p[i] / r[i]
        g1 = 2.0 * m * q[i] / r[i]
        dq = -q[i] / r[i] + (ll / (2.0 * m * r[i] * r[i]) + v[i] - energy) * p[i]
        g2 = 2.0 * dm * q[i] / r[i] + 2.0 * m * dq / r[i] - 2.0 * m * q[i] / (r[i] * r[i])
        n0[i] += f * g * g
        n1[i] += 2.0 * f * g * g1
        n2[i] += 2.0 * f * (g1 * g1 + g * g2)


def log_derivative(grid: RadialGrid, values: Array) -> Array:
    """Return d(values)/dr on the grid by fourth-order central differences in ln r, shape (n,)."""
    d = np.empty_like(values)
    d[2:-2] = (values[:-4] - 8.0 * values[1:-3] + 8.0 * values[3:-1] - values[4:]) / (12.0 * grid.step)
    d[:2] = np.gradient(values[:4], grid.step)[:2]
    d[-2:] = np.gradient(values[-4:], grid.step)[-2:]
    result: Any = d / grid.r
    return np.asarray(result)
