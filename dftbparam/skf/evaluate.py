"""What DFTB+ makes of the numbers in a Slater-Koster file, distance by distance: a clear reference, not a fast one.

Notation: r distance, h grid step, n number of rows, row i (1-based) at r = i h. Bohr and Hartree throughout.

Repulsion (``dftb/repulsive/splinerep.F90``, ``polyrep.F90``): exp(-a1 r + a2) + a3 below the first knot, a polynomial
per interval, zero from the cutoff on; or sum_i c_i (rcut - r)^i.

Tables (``dftb/slakoeqgrid.F90``, the default method): the polynomial of 7th order through 8 rows, four on either side
where the table has them, else the first or last eight (also below the first row, where DFTB+ itself reads outside its
array: no atoms come that close). Past the last row a polynomial of 5th
order runs to zero over `TAIL` with value, slope and curvature continuous at both ends; value, slope and curvature at
the last row are those of the polynomial through the last eight rows. DFTB+ takes the latter two by finite differences
(displacement 1e-5 Bohr); here they are exact, which differs by less than 1e-6 of the last row.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dftbparam.skf.model import Array, PolynomialRepulsion, Repulsion, SKFile, SplineRepulsion

TAIL: Final = 1.0
"""Length in Bohr over which DFTB+ takes a table to zero past its last row (``distFudge``)."""

POINTS: Final = 8
"""Rows that one interpolating polynomial of DFTB+ runs through."""


def repulsion_values(repulsion: Repulsion | None, r: ArrayLike) -> tuple[Array, Array, Array]:
    """Repulsive energy of a pair of atoms with its first and second derivative.

    Parameters
    ----------
    repulsion
        None is zero everywhere.
    r
        Distances in Bohr, any shape.

    Returns
    -------
    V, dV/dr, d2V/dr2
        Hartree and Bohr, the shape of ``r``.
    """
    x = np.asarray(r, dtype=np.float64)
    if repulsion is None:
        return np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    if isinstance(repulsion, SplineRepulsion):
        return _spline_values(repulsion, x)
    return _polynomial_values(repulsion, x)


def _spline_values(spline: SplineRepulsion, x: Array) -> tuple[Array, Array, Array]:
    interval = np.clip(np.searchsorted(spline.knots, x, side="right") - 1, 0, len(spline.coefficients) - 1)
    c = spline.coefficients[interval]
    d = x - spline.knots[interval]
    value = ((((c[..., 5] * d + c[..., 4]) * d + c[..., 3]) * d + c[..., 2]) * d + c[..., 1]) * d + c[..., 0]
    first = (((5.0 * c[..., 5] * d + 4.0 * c[..., 4]) * d + 3.0 * c[..., 3]) * d + 2.0 * c[..., 2]) * d + c[..., 1]
    second = ((20.0 * c[..., 5] * d + 12.0 * c[..., 4]) * d + 6.0 * c[..., 3]) * d + 2.0 * c[..., 2]
    a1, a2, a3 = spline.exponential
    head = x < spline.knots[0]
    exponential = np.exp(np.where(head, -a1 * x + a2, -np.inf))
    value = np.where(head, exponential + a3, value)
    first = np.where(head, -a1 * exponential, first)
    second = np.where(head, a1 * a1 * exponential, second)
    beyond = x >= spline.cutoff
    zero = np.zeros_like(x)
    return np.where(beyond, zero, value), np.where(beyond, zero, first), np.where(beyond, zero, second)


def _polynomial_values(polynomial: PolynomialRepulsion, x: Array) -> tuple[Array, Array, Array]:
    d = np.where(x < polynomial.cutoff, polynomial.cutoff - x, 0.0)
    value, first, second = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for power, c in enumerate(polynomial.coefficients.tolist(), start=2):
        value += c * d**power
        first -= c * power * d ** (power - 1)
        if power > 2:
            second += c * power * (power - 1) * d ** (power - 2)
        else:
            second += np.where(x < polynomial.cutoff, 2.0 * c, 0.0)
    return value, first, second


def table_cutoff(file: SKFile) -> float:
    """Distance in Bohr from which H and S are zero: the last row plus `TAIL`."""
    return len(file.hamiltonian) * file.grid_step + TAIL


def table_values(file: SKFile, r: ArrayLike) -> tuple[Array, Array]:
    """H and S as DFTB+ interpolates them.

    Parameters
    ----------
    r
        Distances in Bohr, shape (k,) or a number.

    Returns
    -------
    hamiltonian, overlap
        Shape (k, columns) (Hartree and dimensionless), columns as in ``file.columns``.
    """
    both = np.concatenate([file.hamiltonian, file.overlap], axis=1)
    values = interpolate(both, file.grid_step, r)
    n = file.hamiltonian.shape[1]
    return values[:, :n], values[:, n:]


def interpolate(table: Array, grid_step: float, r: ArrayLike) -> Array:
    """Interpolate columns of a table, shape (n, m), row i at (i + 1) * grid_step; returns (k, m)."""
    x = np.atleast_1d(np.asarray(r, dtype=np.float64))
    n = len(table)
    out = np.zeros((len(x), table.shape[1]))
    for i, distance in enumerate(x.tolist()):
        # In units of the grid step, so that row numbers (1-based) are the nodes.
        t = distance / grid_step
        cell = int(np.floor(t))
        if distance >= n * grid_step + TAIL:
            continue
        if cell < n:
            last = max(min(n, cell + POINTS // 2), POINTS)
            weights, _, _ = _lagrange(t - (last - POINTS + 1))
            out[i] = weights @ table[last - POINTS : last]
        else:
            out[i] = _tail(table, grid_step, distance - n * grid_step)
    return out


def _tail(table: Array, grid_step: float, beyond: float) -> Array:
    """Value at ``beyond`` Bohr past the last row, shape (m,): quintic in s, which runs from 1 there to 0 at its end."""
    w0, w1, w2 = _lagrange(float(POINTS - 1))
    rows = table[-POINTS:]
    y0, y1, y2 = w0 @ rows, w1 @ rows / grid_step, w2 @ rows / grid_step**2
    s = 1.0 - beyond / TAIL
    # Derivatives with respect to s at s = 1; the cubic factor makes value, slope and curvature vanish at s = 0.
    d1, d2 = -TAIL * y1, TAIL * TAIL * y2
    c3 = 10.0 * y0 - 4.0 * d1 + 0.5 * d2
    c4 = -15.0 * y0 + 7.0 * d1 - d2
    c5 = 6.0 * y0 - 3.0 * d1 + 0.5 * d2
    result: Array = s**3 * (c3 + s * (c4 + s * c5))
    return result


def _lagrange(t: float) -> tuple[Array, Array, Array]:
    """Weights (8,) of the nodes 0..7 for value, first and second derivative of the interpolating polynomial at t."""
    nodes = np.arange(POINTS, dtype=np.float64)
    w0, w1, w2 = np.empty(POINTS), np.empty(POINTS), np.empty(POINTS)
    for j in range(POINTS):
        others: NDArray[np.float64] = np.delete(nodes, j)
        scale = float(np.prod(nodes[j] - others))
        factors = t - others
        w0[j] = np.prod(factors) / scale
        w1[j] = sum(float(np.prod(np.delete(factors, a))) for a in range(POINTS - 1)) / scale
        w2[j] = (
            sum(
                float(np.prod(np.delete(factors, [a, b])))
                for a in range(POINTS - 1)
                for b in range(POINTS - 1)
                if a != b
            )
            / scale
        )
    return w0, w1, w2
