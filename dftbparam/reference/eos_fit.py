"""Minima and Birch-Murnaghan fits of E(V) curves given as points.

With x = (V_r/V)**(2/3) and V_r any volume, the third-order Birch-Murnaghan energy is a cubic polynomial in x. A fit is
therefore linear least squares, and the minimum is the root of a quadratic (as in the verification studies of Lejaeghere
et al., Science 351, aad3000 (2016), and Bosoni et al., Nat. Rev. Phys. 6, 45 (2024)). With y = x - 1:

    B0 = 4/9 E_yy x^2 / V,    B0' = 4 + 2/3 x E_yyy / E_yy    at the minimum, where dE/dy = 0.

Units: Angstrom^3/atom, eV/atom, eV/Angstrom^3.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError, NoMinimum
from dftbparam.reference.eos import birch_murnaghan

Array = NDArray[np.float64]


class EosFit(BaseModel):
    """A Birch-Murnaghan fit. ``rms``: root mean square of its residuals, eV/atom."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    v0: float
    e0: float
    b0: float
    b0_prime: float
    rms: float = 0.0

    def energies(self, volumes: ArrayLike) -> Array:
        """Energies of the fit in eV/atom, any shape."""
        return birch_murnaghan(volumes, self.e0, self.v0, self.b0, self.b0_prime)


class EosFits(NamedTuple):
    """Fits of many curves, arrays of one shape.

    ``valid``: the fit has a minimum with B0 > 0; elsewhere the numbers are NaN. ``inside``: valid, and the minimum
    lies between the smallest and the largest fitted volume; a minimum outside is an extrapolation.
    """

    v0: Array
    e0: Array
    b0: Array
    b0_prime: Array
    rms: Array
    valid: NDArray[np.bool_]
    inside: NDArray[np.bool_]


MAX_EXTRAPOLATION: Final = 10.0
"""A minimum farther than this factor from the fitted volumes says nothing about them and counts as none."""


class EosFitter:
    """Birch-Murnaghan fits of many curves on the same volumes: the pseudo-inverse is computed once.

    Parameters
    ----------
    volumes
        (n,), or (m, n) for m curves with volumes of their own; at least four different positive volumes a curve.
    """

    def __init__(self, volumes: ArrayLike) -> None:
        v = np.array(volumes, dtype=np.float64)
        if v.ndim not in (1, 2) or not np.all(np.isfinite(v)) or np.any(v <= 0.0):
            raise InputError(f"volumes must be positive numbers of shape (n,) or (m, n), got {volumes!r}")
        if min(len(set(row)) for row in v.reshape(-1, v.shape[-1])) < 4:
            raise InputError(f"a Birch-Murnaghan fit needs four or more different volumes, got {volumes!r}")
        self._low, self._high = v.min(axis=-1), v.max(axis=-1)
        self._unit = v.mean(axis=-1)
        y = np.cbrt(self._unit[..., None] / v) ** 2 - 1.0
        self._basis = y[..., None] ** np.arange(4)
        self._inverse = np.linalg.pinv(self._basis)
        self._shape = v.shape

    def rows(self, index: NDArray[np.intp]) -> EosFitter:
        """Return the fitter of some rows (k,) of volumes (m, n), without computing a pseudo-inverse again."""
        if len(self._shape) != 2:
            raise InputError("only a fitter of several rows of volumes has rows to choose from")
        part = object.__new__(EosFitter)
        part._low, part._high, part._unit = self._low[index], self._high[index], self._unit[index]
        part._basis, part._inverse = self._basis[index], self._inverse[index]
        part._shape = (len(index), self._shape[1])
        return part

    def fit(self, energies: ArrayLike) -> EosFits:
        """Fit curves; ``energies`` is (..., n) or (..., m, n) and the result (...) or (..., m).

        A curve with an energy that is not finite is not valid.
        """
        e = np.asarray(energies, dtype=np.float64)
        if e.shape[-len(self._shape) :] != self._shape:
            raise InputError(f"energies of shape {e.shape} do not fit volumes of shape {self._shape}")
        # Relative to one point, so that a large constant in the energies costs no digits.
        zero = e[..., 0]
        relative = e - zero[..., None]
        if len(self._shape) == 1:
            c = relative @ self._inverse.T
            fitted = c @ self._basis.T
        else:
            c = np.einsum("mkn,...mn->...mk", self._inverse, relative)
            fitted = np.einsum("mnk,...mk->...mn", self._basis, c)
        rms = np.sqrt(np.mean((fitted - relative) ** 2, axis=-1))
        c0, c1, c2, c3 = c[..., 0], c[..., 1], c[..., 2], 3.0 * c[..., 3]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            # Of the two roots of c3 y^2 + 2 c2 y + c1 = 0 the one with E_yy = 2 root > 0, in its two equivalent forms:
            # neither loses digits to cancellation where it is used.
            root = np.sqrt(c2 * c2 - c3 * c1)
            y = np.where(c2 >= 0.0, -c1 / (c2 + root), (root - c2) / c3)
            x = 1.0 + y
            v0 = self._unit / (x * np.sqrt(x))
            b0 = 8.0 / 9.0 * root * x * x / v0
            b0_prime = 4.0 + 2.0 / 3.0 * x * c3 / root
            e0 = zero + c0 + y * (c1 + y * (c2 + y * (c3 / 3.0)))
            valid = np.isfinite(v0) & np.isfinite(e0) & np.isfinite(b0_prime) & (b0 > 0.0)
            # A nearly quadratic curve without a minimum has its second root at infinity, give or take rounding.
            valid &= (v0 > self._unit / MAX_EXTRAPOLATION) & (v0 < self._unit * MAX_EXTRAPOLATION)
            inside = valid & (v0 >= self._low) & (v0 <= self._high)
        v0, e0, b0, b0_prime = (np.where(valid, a, np.nan) for a in (v0, e0, b0, b0_prime))
        return EosFits(v0, e0, b0, b0_prime, rms, valid, inside)


def fit_birch_murnaghan(volumes: ArrayLike, energies: ArrayLike, *, extrapolate: bool = False) -> EosFit:
    """Fit one curve, arrays (n,) with n >= 4. Points whose energy is not finite (failed ones) are left out.

    Raises
    ------
    NoMinimum
        Fewer than four points have an energy, the fit has no minimum with B0 > 0, or (unless ``extrapolate``) the
        minimum lies outside the fitted volumes: points around it are needed then, see `locate_minimum`.
    InputError
        Shapes differ, or volumes are not four or more different positive numbers.
    """
    v, e = _curve(volumes, energies)
    known = np.isfinite(e)
    if len(set(v[known])) < 4 <= len(set(v)):
        raise NoMinimum(f"only {known.sum()} of {len(v)} points have an energy; a fit needs four", points=len(v))
    fits = EosFitter(v[known]).fit(e[known])
    if not fits.valid:
        raise NoMinimum(f"the fit of {known.sum()} points from {v.min():.6g} to {v.max():.6g} A^3/atom has no minimum")
    if not (fits.inside or extrapolate):
        raise NoMinimum(
            f"the minimum of the fit, {fits.v0:.6g} A^3/atom, lies outside the fitted volumes "
            f"{v[known].min():.6g} to {v[known].max():.6g}",
            v0=float(fits.v0),
        )
    return EosFit(
        v0=float(fits.v0),
        e0=float(fits.e0),
        b0=float(fits.b0),
        b0_prime=float(fits.b0_prime),
        rms=float(fits.rms),
    )


def locate_minimum(volumes: ArrayLike, energies: ArrayLike, reference_volume: float) -> float:
    """Volume of the local minimum nearest to a reference, from a scan.

    A minimum is a point of the scan below both of its neighbours; an end of the scan is none. It is refined with the
    polynomial in ln V through it, its neighbours, and the next points out where these belong to the same well, that
    is, lie higher still. Nearest means smallest |ln(V/V_ref)|.

    Parameters
    ----------
    volumes, energies
        (n,) in any order; points whose energy is not finite are left out.

    Raises
    ------
    NoMinimum
        No local minimum inside; says where the curve is lowest.
    """
    v, e = _curve(volumes, energies)
    if not reference_volume > 0.0:
        raise InputError(f"reference volume {reference_volume} must be positive")
    known = np.isfinite(e)
    v, e = v[known], e[known]
    if len(v) < 3:
        raise NoMinimum(f"only {len(v)} of {len(known)} points of the scan have an energy; three are needed")
    order = np.argsort(v)
    v, e = v[order], e[order]
    inner = np.flatnonzero((e[1:-1] < e[:-2]) & (e[1:-1] <= e[2:])) + 1
    if not len(inner):
        lowest = int(np.argmin(e))
        raise NoMinimum(
            f"no minimum between {v[0]:.6g} and {v[-1]:.6g} A^3/atom (relative volumes "
            f"{v[0] / reference_volume:.3f} to {v[-1] / reference_volume:.3f}): the curve is lowest at "
            f"{v[lowest] / reference_volume:.3f}",
            lowest_relative_volume=float(v[lowest] / reference_volume),
        )
    minima = np.array([_refine(v, e, int(i)) for i in inner])
    return float(minima[np.argmin(np.abs(np.log(minima / reference_volume)))])


def _curve(volumes: ArrayLike, energies: ArrayLike) -> tuple[Array, Array]:
    v, e = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if v.ndim != 1 or v.shape != e.shape:
        raise InputError(f"a curve needs as many volumes as energies, got shapes {v.shape} and {e.shape}")
    if not np.all(np.isfinite(v)) or np.any(v <= 0.0):
        raise InputError(f"volumes must be positive numbers, got {v.tolist()}")
    return v, e


def _refine(v: Array, e: Array, i: int) -> float:
    """Minimum of the interpolating polynomial around the lowest point i of a well, between its neighbours."""
    first, last = i - 1, i + 1
    if first > 0 and e[first - 1] >= e[first]:
        first -= 1
    if last < len(v) - 1 and e[last + 1] >= e[last]:
        last += 1
    unit = np.log(v[i + 1] / v[i - 1])
    t = np.log(v[first : last + 1] / v[i]) / unit
    polynomial = np.polynomial.Polynomial(np.linalg.solve(np.vander(t, increasing=True), e[first : last + 1] - e[i]))
    roots = polynomial.deriv().roots()
    low, high = np.log(v[i - 1] / v[i]) / unit, np.log(v[i + 1] / v[i]) / unit
    real = roots[np.abs(roots.imag) < 1e-9].real
    candidates = np.append(real[(real > low) & (real < high)], 0.0)
    return float(v[i] * np.exp(unit * candidates[np.argmin(polynomial(candidates))]))
