r"""Two-centre integrals of Hamiltonian and overlap, compiled.

Atom 1 at the origin, atom 2 at z = R; both atoms' axes point along +z. With real spherical harmonics an integral
depends on (l1, l2, m) only::

    S = int R1 T1 R2 T2 dA,     dA = rho drho dz,  T_lm normalised so that int T^2 sin(theta) dtheta = 1
    H = 1/2 int (phi1 [T phi2] + [T phi1] phi2) + int phi1 V phi2

V is, in density superposition, the electrostatic potential of both neutral atoms plus v_xc of the summed densities
n = n1 + n2, with its gradient terms in the weak form (integrated by parts)::

    <phi1 | v_xc | phi2> = int [ f_n phi1 phi2 + 2 f_sigma grad(n) . grad(phi1 phi2) ]

because the potential itself has a sharp ridge where the gradient vanishes between the atoms, which no quadrature of
reasonable size resolves; in potential superposition the sum of both atoms' effective potentials without confinement.
The kinetic operator is the non-relativistic one, symmetrised, acting on the scalar-relativistic orbitals: [T phi] is
known from the radial equation without differentiation. This is the convention of hotcent, whose tables are among the
oracles.

Quadrature is in prolate spheroidal coordinates xi = cosh(mu), eta = cos(nu), Gauss-Legendre in mu and nu: points
cluster quadratically at both nuclei and the volume element cancels the 1/r of the potential there. Radial functions are
tabulated on a grid uniform in sqrt(r), which does the same for their interpolation (cubic Hermite with exact
derivatives where they are known).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from dftbparam.slako.xc import xc_point

Array = NDArray[np.float64]

ROOT_STEP: Final = 0.004
"""Step of the interpolation grid in sqrt(r), Bohr^(1/2): cubic interpolation errors stay below 1e-8."""

N_DENSITY: Final = 3
"""Leading rows of a radial table: n and n' of the density and r times the neutral-atom potential."""

NEAR: Final = 6.0
"""Distance in Bohr below which the finer quadrature is used: there the cores overlap with valence tails."""

POINTS_NEAR: Final = (72, 104)
POINTS_FAR: Final = (56, 80)
"""Gauss-Legendre points in mu and nu (the latter even).

Against (300, 400) points they leave in H, from 1.5 Bohr on: 1e-5 Hartree or less for most elements, 7e-5 for lead; the
worst are Ar, Kr and Xe with 1-2e-4 in dd-sigma between 5.7 and 9 Bohr. Overlaps are exact to 1e-8.
"""


@dataclass(frozen=True)
class RadialTables:
    """A pseudo-atom as the integrator needs it.

    ``coefficients`` (k, rows, 4): cubic polynomials on a uniform grid in sqrt(r) with ``ROOT_STEP``; rows are the
    density n, n', r V_na (electrostatic) or r V_eff, then per shell R = P/r, r [T R] and R'.
    ``angular`` (shells,) holds l; ``reach`` is the distance in Bohr from which all orbitals are negligible.
    """

    coefficients: Array
    angular: NDArray[np.int64]
    reach: float

    @classmethod
    def make(cls, r: Array, rows: Array, angular: list[int], reach: float) -> RadialTables:
        """Interpolate ``rows`` (n_rows, n) given on ``r`` (n,) onto the sqrt grid by cubic splines in ln r."""
        end = min(float(r[-1]), reach + 0.5)
        knots = np.arange(int(np.ceil(np.sqrt(end) / ROOT_STEP)) + 2) * ROOT_STEP
        knots[0] = np.sqrt(r[0])
        spline = CubicSpline(np.log(r), rows, axis=1)
        radius = np.clip(knots**2, r[0], r[-1])
        values = spline(np.log(radius))
        uniform = np.arange(len(knots)) * ROOT_STEP
        table = CubicSpline(uniform, values, axis=1)
        return cls(np.ascontiguousarray(table.c.transpose(1, 2, 0)), np.array(angular, dtype=np.int64), reach)


def channels(angular1: tuple[int, ...], angular2: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return (shell index 1, shell index 2, m) of every integral between two atoms."""
    return [(i, j, m) for i, l1 in enumerate(angular1) for j, l2 in enumerate(angular2) for m in range(min(l1, l2) + 1)]


@njit(cache=True)
def _legendre(l, m, c, s):  # type: ignore[no-untyped-def]
    """Normalised associated Legendre function of cos(theta) = c, sin(theta) = s, and its derivative by theta.

    Without the Condon-Shortley sign, as in the real harmonics of the Slater-Koster convention.
    """
    if l == 0:
        return 0.7071067811865476, 0.0
    if l == 1:
        if m == 0:
            return 1.224744871391589 * c, -1.224744871391589 * s
        return 0.8660254037844386 * s, 0.8660254037844386 * c
    if l == 2:
        if m == 0:
            return 0.7905694150420949 * (3.0 * c * c - 1.0), -4.743416490252569 * c * s
        if m == 1:
            return 1.9364916731037085 * s * c, 1.9364916731037085 * (c * c - s * s)
        return 0.9682458365518543 * s * s, 1.9364916731037085 * s * c
    if m == 0:
        return 0.9354143466934853 * c * (5.0 * c * c - 3.0), -2.806243040080456 * s * (5.0 * c * c - 1.0)
    if m == 1:
        f = 0.8100925872740129
        return f * s * (5.0 * c * c - 1.0), f * c * (5.0 * c * c - 1.0 - 10.0 * s * s)
    if m == 2:
        return 2.5617376914898995 * s * s * c, 2.5617376914898995 * s * (2.0 * c * c - s * s)
    return 1.0458250331675945 * s * s * s, 3.1374750995027835 * s * s * c


@njit(cache=True)
def _lookup(coefficients, root_step, reach, r, values):  # type: ignore[no-untyped-def]
    """Interpolate all rows at ``r``; orbital rows are zero beyond the reach."""
    t = np.sqrt(r) / root_step
    i = int(t)
    n = coefficients.shape[0]
    if i >= n:
        for k in range(coefficients.shape[1]):
            values[k] = 0.0
        return
    d = (t - i) * root_step
    for k in range(coefficients.shape[1]):
        c = coefficients[i, k]
        values[k] = ((c[0] * d + c[1]) * d + c[2]) * d + c[3]


@njit(cache=True)
def integrate(  # type: ignore[no-untyped-def]
    distances,
    coef1,
    ang1,
    reach1,
    coef2,
    ang2,
    reach2,
    chan,
    root_step,
    x_mu,
    w_mu,
    x_nu,
    w_nu,
    density,
    gga,
    same,
    out,
):
    """Fill ``out`` (n_R, 2, n_channels) with H and S for every distance.

    ``same`` says that both atoms are the same element: only half the points are visited, and the mirror point is the
    integral with the atoms exchanged.
    """
    n_chan = chan.shape[0]
    k1, k2 = coef1.shape[1], coef2.shape[1]
    v1, v2 = np.empty(k1), np.empty(k2)
    s1, s2 = ang1.shape[0], ang2.shape[0]
    a1, a2 = np.empty((s1, 4)), np.empty((s2, 4))
    t1, t2 = np.empty((s1, 4)), np.empty((s2, 4))
    n_nu = x_nu.shape[0] // 2 if same else x_nu.shape[0]
    reach = max(reach1, reach2)
    for ir in range(distances.shape[0]):
        distance = distances[ir]
        half = 0.5 * distance
        for c in range(n_chan):
            out[ir, 0, c] = 0.0
            out[ir, 1, c] = 0.0
        if distance >= reach1 + reach2:
            continue
        top = (reach1 + reach2) / distance
        mu_max = np.log(top + np.sqrt(top * top - 1.0))
        for i in range(x_mu.shape[0]):
            mu = 0.5 * mu_max * (x_mu[i] + 1.0)
            xi, sh = np.cosh(mu), np.sinh(mu)
            sh2 = 2.0 * np.sinh(0.5 * mu) ** 2  # xi - 1 without cancellation
            for j in range(n_nu):
                nu = 0.5 * np.pi * (x_nu[j] + 1.0)
                sn = np.sin(nu)
                co2, si2 = 2.0 * np.cos(0.5 * nu) ** 2, 2.0 * np.sin(0.5 * nu) ** 2  # 1 + eta and 1 - eta
                r1, r2 = half * (sh2 + co2), half * (sh2 + si2)
                if r1 > reach1 or r2 > reach2:
                    if not same or r1 > reach or r2 > reach:
                        continue
                weight = 0.25 * mu_max * np.pi * w_mu[i] * w_nu[j] * half**3 * (sh * sh + sn * sn) * sh * sn
                rho = half * sh * sn
                c1 = half * (xi * co2 - sh2) / r1
                c2 = half * (sh2 - xi * si2) / r2
                e1, e2 = rho / r1, rho / r2
                _lookup(coef1, root_step, reach1, r1, v1)
                _lookup(coef2, root_step, reach2, r2, v2)
                potential = v1[2] / r1 + v2[2] / r2
                gr1 = gt1 = gr2 = gt2 = 0.0
                if density:
                    n = v1[0] + v2[0]
                    gz = v1[1] * c1 + v2[1] * c2
                    gr = v1[1] * e1 + v2[1] * e2
                    sigma = gz * gz + gr * gr
                    _, f_n, f_s, _, _ = xc_point(n, sigma, gga)
                    potential += f_n
                    if gga:
                        # 2 f_s grad(n) . grad(phi1 phi2), shared out to both orbitals, halved below.
                        f4 = 4.0 * f_s
                        gr1, gt1 = f4 * (gz * c1 + gr * e1), f4 * (gr * c1 - gz * e1) / r1
                        gr2, gt2 = f4 * (gz * c2 + gr * e2), f4 * (gr * c2 - gz * e2) / r2
                for a in range(s1):
                    for m in range(ang1[a] + 1):
                        y, dy = _legendre(ang1[a], m, c1, e1)
                        k = N_DENSITY + 3 * a
                        a1[a, m] = y * v1[k]
                        t1[a, m] = y * (v1[k + 1] / r1 + gr1 * v1[k + 2]) + gt1 * dy * v1[k]
                for b in range(s2):
                    for m in range(ang2[b] + 1):
                        y, dy = _legendre(ang2[b], m, c2, e2)
                        k = N_DENSITY + 3 * b
                        a2[b, m] = y * v2[k]
                        t2[b, m] = y * (v2[k + 1] / r2 + gr2 * v2[k + 2]) + gt2 * dy * v2[k]
                for c in range(n_chan):
                    a, b, m = chan[c, 0], chan[c, 1], chan[c, 2]
                    p = a1[a, m] * a2[b, m]
                    out[ir, 1, c] += weight * p
                    out[ir, 0, c] += weight * (potential * p + 0.5 * (a1[a, m] * t2[b, m] + t1[a, m] * a2[b, m]))
                    if same:
                        # Mirror point: atoms change places and z its sign, (-1)^(l+m) per harmonic.
                        sign = 1.0 if (ang1[a] + ang1[b]) % 2 == 0 else -1.0
                        p = sign * a1[b, m] * a2[a, m]
                        out[ir, 1, c] += weight * p
                        out[ir, 0, c] += weight * (
                            potential * p + 0.5 * sign * (a1[b, m] * t2[a, m] + t1[b, m] * a2[a, m])
                        )


@lru_cache(maxsize=8)
def _quadrature(points: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Return nodes and weights on [-1, 1] in mu and in nu, drawn towards the nuclei.

    mu = mu_max t^2 and nu = pi (1 + y (3 - y^2) / 2) / 2 with Gauss-Legendre points t in [0, 1] and y in [-1, 1]: the
    nodes of heavy atoms' valence orbitals lie within 0.1 Bohr of the nucleus.
    """
    x, w = np.polynomial.legendre.leggauss(points[0])
    t = 0.5 * (x + 1.0)
    y, v = np.polynomial.legendre.leggauss(points[1])
    return 2.0 * t * t - 1.0, 2.0 * w * t, 0.5 * y * (3.0 - y * y), 1.5 * v * (1.0 - y * y)


def two_centre_integrals(
    distances: Array,
    first: RadialTables,
    second: RadialTables,
    *,
    density: bool = True,
    gga: bool = True,
    points: tuple[int, int] | None = None,
) -> tuple[list[tuple[int, int, int]], Array, Array]:
    """Return channels (shell of atom 1, shell of atom 2, m) and H and S, each (n_R, n_channels), in Hartree.

    ``distances`` (n_R,) in Bohr; ``points`` overrides the number of quadrature points in mu and nu (the latter even).
    """
    chan = channels(tuple(first.angular.tolist()), tuple(second.angular.tolist()))
    distances = np.ascontiguousarray(distances, dtype=np.float64)
    out = np.zeros((len(distances), 2, len(chan)))
    near = distances < NEAR
    for part, number in ((near, POINTS_NEAR), (~near, POINTS_FAR)):
        if not part.any():
            continue
        values = np.empty((int(part.sum()), 2, len(chan)))
        integrate(
            distances[part],
            first.coefficients, first.angular, first.reach,
            second.coefficients, second.angular, second.reach,
            np.array(chan, dtype=np.int64), ROOT_STEP, *_quadrature(points or number), density, gga, first is second,
            values,
        )  # fmt: skip
        out[part] = values
    return chan, out[:, 0], out[:, 1]
