"""From an analytic repulsion to the spline that DFTB+ reads.

The spline is the clamped cubic one (value at every knot, slope at the first and the last but one), the last interval a
quintic that meets the cubic with value, slope and curvature and ends with all three zero: C2 throughout.

Knots: a cubic spline errs by 5/384 h^4 |V''''| (Hall & Meyer, J. Approx. Theory 16, 105 (1976)); intervals are laid out
so that this is the same everywhere relative to the tolerance, and their number grows until the tolerance is met.

Below the first knot r0 DFTB+ takes exp(-a1 r + a2) + a3. The spline's value V, slope V' and curvature V'' at r0 give
a1 = -V''/V', exp(-a1 r0 + a2) = V'^2/V'' and a3 = V - V'^2/V'': C2 there, too. The head falls with distance and stays
above V for any falling, convex potential; where V'' is not positive, a3 = 0 and value and slope are met alone.
"""

from __future__ import annotations

from math import ceil, exp, log
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from dftbparam.errors import ParameterError
from dftbparam.skf import SplineRepulsion, repulsion_values

Array = NDArray[np.float64]

TOLERANCE: Final = 1e-6
"""Hartree: largest deviation from the analytic potential, up to `ABSOLUTE_BELOW`."""

ABSOLUTE_BELOW: Final = 10.0
"""Hartree: where the potential exceeds this, the allowed deviation grows with it. Atoms that close are not met, and a
deviation of 1e-6 Hartree would double the number of intervals for heavy elements."""

MAX_INTERVALS: Final = 400
"""A limit against potentials that no spline follows; the published PTBP curves need 40 to 190."""

FIRST_KNOT: Final = (0.6, 1.0)
"""Bohr: the first knot lies in this range, where `HEAD_ENERGY` is reached."""

HEAD_ENERGY: Final = 30.0
"""Hartree: pairs this deep in the wall never occur, and an exponential serves as well as anything."""

_MIN_INTERVALS: Final = 12
_SAMPLES: Final = 4001
_PER_INTERVAL: Final = 16
_CLOSEST: Final = 0.1
_TAIL_RELATIVE: Final = 0.02
_ROUNDING: Final = 1e-12


class RadialPotential(Protocol):
    """What can be made a spline: `evaluate` gives V, V', V'' (Hartree, Bohr) for an array of distances."""

    @property
    def cutoff(self) -> float:
        """Distance in Bohr from which the potential is zero."""
        ...

    def evaluate(self, r: Array) -> tuple[Array, Array, Array]:
        """V, dV/dr, d2V/dr2."""
        ...


def to_spline(
    potential: RadialPotential,
    cutoff: float | None = None,
    *,
    r_min: float | None = None,
    tolerance: float = TOLERANCE,
    max_intervals: int = MAX_INTERVALS,
) -> SplineRepulsion:
    """Make the spline of a falling, repulsive potential.

    Parameters
    ----------
    potential
        Falls monotonically to zero.
    cutoff
        Where the spline ends, Bohr; by default where the potential does. It ends earlier where nothing worth a
        hundredth of the tolerance is left. A potential that is cut while it is larger than the tolerance is refused.
    r_min
        First knot in Bohr; by default where the potential reaches `HEAD_ENERGY`, but within `FIRST_KNOT`.
    tolerance
        Largest deviation between ``r_min`` and the cutoff: ``tolerance * max(1, V / ABSOLUTE_BELOW)`` Hartree. At the
        first knot value and slope are exact.
    max_intervals
        Refuse rather than write more.

    Returns
    -------
    SplineRepulsion
        C2 from zero to beyond the cutoff, nowhere negative, falling throughout. The same potential always gives the
        same numbers.

    Raises
    ------
    ParameterError
        The potential does not fall, is not repulsive, is cut too early, or needs more intervals.
    """
    end = potential.cutoff if cutoff is None else min(cutoff, potential.cutoff)
    end = _last_knot(potential, end, tolerance)
    start = _first_knot(potential, end) if r_min is None else r_min
    if not 0.0 < start < end:
        raise ParameterError(f"the first knot ({start} Bohr) must lie between 0 and the end ({end:.4g} Bohr)")
    r = np.linspace(start, end, _SAMPLES)
    value, slope, curvature = potential.evaluate(r)
    if not (np.isfinite(value).all() and value.min() >= 0.0 and slope.max() <= 0.0):
        worst = float(r[int(np.argmax(slope))])
        raise ParameterError(f"a repulsion must be positive and fall with distance; it does not near {worst:.4g} Bohr")

    demand = _interval_demand(r, value, curvature, tolerance)
    n = max(_MIN_INTERVALS, ceil(float(demand[-1])))
    while n <= max_intervals:
        # The last interval is the quintic's.
        knots = np.interp(np.linspace(0.0, float(demand[-1]), n + 1), demand, r)
        spline = _build(potential, knots)
        if _follows(spline, potential, tolerance):
            return spline
        n = ceil(1.1 * n)
    raise ParameterError(
        f"a spline of at most {max_intervals} intervals cannot follow the potential to {tolerance:.1e} from "
        f"{start:.3g} Bohr on ({n} would be needed); raise r_min or the tolerance"
    )


def _first_knot(potential: RadialPotential, end: float) -> float:
    low, high = FIRST_KNOT
    # Short potentials keep at least half of their range for the spline.
    low, high = min(low, 0.5 * end), min(high, 0.5 * end)
    r = np.linspace(low, high, 81)
    steep = potential.evaluate(r)[0] > HEAD_ENERGY
    return float(r[steep][-1]) if steep.any() else low


def _last_knot(potential: RadialPotential, end: float, tolerance: float) -> float:
    first = min(_CLOSEST, 0.5 * end)
    r = np.linspace(first, end, _SAMPLES)
    # Just inside the end, because a potential is zero there by definition.
    r[-1] = np.nextafter(end, 0.0)
    value = potential.evaluate(r)[0]
    if value[-1] > tolerance:
        raise ParameterError(
            f"the potential is still {value[-1]:.2e} Hartree at the cutoff of {end:.4g} Bohr; "
            f"choose a longer one (below {tolerance:.0e})"
        )
    alive = np.flatnonzero(value > 0.01 * tolerance)
    if not len(alive):
        raise ParameterError(f"the potential is zero (below {0.01 * tolerance:.0e} Hartree) from {first:.4g} Bohr on")
    last = int(alive[-1]) + 1
    return end if last >= _SAMPLES - 1 else float(r[last])


def _interval_demand(r: Array, value: Array, curvature: Array, tolerance: float) -> Array:
    """Number of intervals needed between r[0] and each r, shape as ``r``; strictly increasing from 0."""
    h = r[1] - r[0]
    fourth = np.zeros_like(r)
    fourth[1:-1] = np.abs(curvature[2:] - 2.0 * curvature[1:-1] + curvature[:-2]) / h**2
    fourth[0], fourth[-1] = fourth[1], fourth[-2]
    allowed = _allowed(value, tolerance)
    density = (5.0 / 384.0 * fourth / allowed) ** 0.25
    # Neighbouring intervals must not differ too much in length, nor any be a large part of the range.
    density = np.maximum(density, np.maximum(0.2 * density.mean(), 0.5 * _MIN_INTERVALS / (r[-1] - r[0])))
    steps = 0.5 * (density[1:] + density[:-1]) * h
    return np.concatenate([[0.0], np.cumsum(steps)])


def _build(potential: RadialPotential, knots: Array) -> SplineRepulsion:
    value, slope, _ = potential.evaluate(knots[:-1])
    coefficients = np.zeros((len(knots) - 1, 6))
    coefficients[:-1, :4], bend = _clamped_cubic(knots[:-1], value, float(slope[0]), float(slope[-1]))
    h = float(knots[-1] - knots[-2])
    y0, y1, y2 = float(value[-1]), float(slope[-1]), bend
    coefficients[-1] = [
        y0,
        y1,
        0.5 * y2,
        -(10.0 * y0 + 6.0 * y1 * h + 1.5 * y2 * h * h) / h**3,
        (15.0 * y0 + 8.0 * y1 * h + 1.5 * y2 * h * h) / h**4,
        -(6.0 * y0 + 3.0 * y1 * h + 0.5 * y2 * h * h) / h**5,
    ]
    # The spline's own curvature, which differs a little from the potential's.
    head = _head(float(knots[0]), float(value[0]), float(slope[0]), 2.0 * float(coefficients[0, 2]))
    return SplineRepulsion(knots=knots, coefficients=coefficients, exponential=head)


def _clamped_cubic(x: Array, y: Array, first_slope: float, last_slope: float) -> tuple[Array, float]:
    """Coefficients (n-1, 4) in powers of r - x_i of the clamped spline through n points, and the last curvature."""
    h = np.diff(x)
    n = len(x)
    # Unknowns are the slopes s_i: continuity of the curvature gives one equation for each inner knot.
    bands = np.zeros((3, n))
    right = np.empty(n)
    bands[1, 0] = bands[1, -1] = 1.0
    right[0], right[-1] = first_slope, last_slope
    secant = np.diff(y) / h
    bands[2, :-2] = h[1:]
    bands[1, 1:-1] = 2.0 * (h[:-1] + h[1:])
    bands[0, 2:] = h[:-1]
    right[1:-1] = 3.0 * (h[1:] * secant[:-1] + h[:-1] * secant[1:])
    s = solve_banded((1, 1), bands, right)
    c2 = (3.0 * secant - 2.0 * s[:-1] - s[1:]) / h
    c3 = (s[:-1] + s[1:] - 2.0 * secant) / h**2
    return np.stack([y[:-1], s[:-1], c2, c3], axis=1), float(2.0 * c2[-1] + 6.0 * c3[-1] * h[-1])


def _head(r0: float, value: float, slope: float, curvature: float) -> tuple[float, float, float]:
    """(a1, a2, a3) of the exponential head."""
    if slope >= 0.0 or value <= 0.0:
        raise ParameterError(f"the potential must be positive and fall at the first knot ({r0:.4g} Bohr)")
    a1 = -curvature / slope if curvature > 0.0 else -slope / value
    amplitude = -slope / a1
    a2 = log(amplitude) + a1 * r0
    # From the rounded a2, so that the value at the first knot is met to the last digit.
    return a1, a2, value - exp(-a1 * r0 + a2)


def _allowed(value: Array, tolerance: float) -> Array:
    """Deviation to aim at: in the tail less than the tolerance, so that the spline stays positive and falling."""
    wall = tolerance * np.maximum(1.0, value / ABSOLUTE_BELOW)
    return np.minimum(wall, np.maximum(_TAIL_RELATIVE * value, 1e-3 * tolerance))


def _follows(spline: SplineRepulsion, potential: RadialPotential, tolerance: float) -> bool:
    """Whether the spline keeps to the tolerance, is nowhere negative, and falls everywhere."""
    fractions = np.arange(_PER_INTERVAL) / _PER_INTERVAL
    r = (spline.knots[:-1, None] + np.diff(spline.knots)[:, None] * fractions).ravel()
    exact = potential.evaluate(r)[0]
    value, slope, _ = repulsion_values(spline, r)
    close = np.abs(value - exact) <= tolerance * np.maximum(1.0, exact / ABSOLUTE_BELOW)
    # The last digit of a slope that reaches zero may be of either sign.
    return bool(close.all()) and float(value.min()) >= -_ROUNDING and float(slope.max()) <= _ROUNDING
