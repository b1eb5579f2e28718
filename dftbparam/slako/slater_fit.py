r"""Radial functions as sums of Slater functions, for programs that want them so (DFTB+'s waveplot).

    R(r) = sum_i sum_j c_ij r^(l + j - 1) exp(-a_i r),     i = 1..n_exponents, j = 1..n_powers

The exponents are chosen geometrically between a diffuse and a tight one, the coefficients by linear least squares in
the norm of the orbital, so that the error is the square root of the integral of (R - fit)^2 r^2. Powers of r let the
sum follow a confined function, which falls faster than any exponential.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError

Array = NDArray[np.float64]

POWERS: Final = 3
"""Powers of r per exponent, as in the coefficients that come with published sets."""

EXPONENTS: Final = 8
"""Exponents per orbital: the cores' nodes of heavy atoms take up about half of them."""

DIFFUSE: Final = 6.0
"""The most diffuse exponent is this over the radius that holds the orbital (1/Bohr): the last functions end with it."""

TIGHT: Final = 1.0
"""The tightest exponent is this times the nuclear charge (1/Bohr): that of a hydrogen-like 1s, the shape at a cusp."""

SMALL: Final = 1e-5
"""The orbital ends where 4 pi r^2 R^2 falls below this (1/Bohr), as waveplot's manual advises."""

CONDITION: Final = 1e-11
"""Relative size below which a direction of the least-squares problem is left out, so that coefficients stay finite."""


@dataclass(frozen=True)
class SlaterFit:
    """The fit of one orbital.

    Attributes
    ----------
    exponents
        (n_exponents,), 1/Bohr.
    coefficients
        (n_exponents, n_powers).
    cutoff
        Bohr; the orbital is taken as zero beyond.
    error
        Norm of the difference within the cutoff; an orbital has norm 1.
    """

    angular: int
    exponents: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    cutoff: float
    error: float

    def evaluate(self, r: Array) -> Array:
        """R (n,) at ``r`` (n,) in Bohr, zero beyond the cutoff."""
        basis = _basis(r, self.angular, np.array(self.exponents), len(self.coefficients[0]))
        return np.where(r <= self.cutoff, basis @ np.array(self.coefficients).ravel(), 0.0)


def fit_slater(
    r: Array, weights: Array, p: Array, angular: int, number: int, *, exponents: int = EXPONENTS, powers: int = POWERS
) -> SlaterFit:
    """Fit P(r) = r R(r).

    Parameters
    ----------
    r, weights, p
        (n,): radial grid in Bohr, its weights for an integral over r, and the orbital, normalised.
    number
        Nuclear charge: the tightest exponent goes with it.

    Raises
    ------
    ParameterError
        The orbital is zero, or the numbers of functions are not positive.
    """
    if exponents < 2 or powers < 1:
        raise ParameterError(f"{exponents} exponents and {powers} powers; at least 2 and 1 are needed")
    alive = np.nonzero(4.0 * np.pi * p * p > SMALL)[0]
    if not len(alive):
        raise ParameterError("the orbital is zero everywhere")
    cutoff = float(np.ceil(10.0 * r[min(alive[-1] + 1, len(r) - 1)]) / 10.0)
    a = np.geomspace(DIFFUSE / cutoff, max(TIGHT * number, 4.0 * DIFFUSE / cutoff), exponents)
    inside = r <= cutoff
    root = np.sqrt(weights[inside])
    functions = _basis(r[inside], angular, a, powers) * (r[inside] * root)[:, None]
    scale = np.linalg.norm(functions, axis=0)
    target = p[inside] * root
    solution = np.linalg.lstsq(functions / scale, target, rcond=CONDITION)[0]
    fitted = (functions / scale) @ solution
    norm = float(np.linalg.norm(fitted))
    coefficients = (solution / scale / norm).reshape(exponents, powers)
    return SlaterFit(
        angular=angular,
        exponents=tuple(a.tolist()),
        coefficients=tuple(tuple(row) for row in coefficients.tolist()),
        cutoff=cutoff,
        error=float(np.linalg.norm(fitted / norm - target)),
    )


def _basis(r: Array, angular: int, exponents: Array, powers: int) -> Array:
    """Functions (n, n_exponents * n_powers), powers running fastest."""
    radial = r[:, None] ** (angular + np.arange(powers))
    decay = np.exp(-np.outer(r, exponents))
    return np.asarray((decay[:, :, None] * radial[:, None, :]).reshape(len(r), -1))
