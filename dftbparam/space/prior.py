"""Priors: where a good value of a parameter is believed to be.

Notation: t in [0, 1] the place of a value on the parameter's own scale (linear, or logarithmic); x in [0, 1] its
coordinate in the unit cube that proposers see. Without a prior x = t.

A prior of centre c and width w (both on the scale of t) is a change of variable and nothing else: x is the cumulative
probability at t of the density

    p(t) = (1 - u) N(t; c, w) / (Phi((1 - c)/w) - Phi(-c/w)) + u,    u = `UNIFORM_SHARE`,

a normal distribution truncated to the range, mixed with a little of the uniform one. So a uniform or Sobol design of
the cube follows the prior, a stretch of the range that is believed in takes more room in the cube, and a proposer need
not know of any of it. The uniform share keeps the tails within reach: no stretch of the range takes less than u times
its length of the cube, however wrong the prior is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt
from typing import Final

UNIFORM_SHARE: Final = 0.1
"""Share of the uniform distribution in a prior: a wrong one then costs a uniform search at most a factor of ten."""

NARROWEST: Final = 1e-3
"""Narrowest prior, in ranges: a narrower one fixes the parameter, and its peak would be lost in rounding."""

WIDEST: Final = 10.0
"""Widest prior, in ranges: beyond, it differs from none by less than a hundredth."""


@dataclass(frozen=True)
class Prior:
    """Where a good value is believed to be: a truncated normal distribution on the parameter's own scale.

    Attributes
    ----------
    centre
        In the parameter's unit, inside its range.
    width
        One standard deviation: in the parameter's unit on a linear scale, a factor above 1 on a log scale (1.5: from
        centre / 1.5 to centre times 1.5).
    """

    centre: float
    width: float


@dataclass(frozen=True)
class Bell:
    """A prior on the scale of t: ``centre`` in [0, 1], ``width`` above 0. See the module for the density."""

    centre: float
    width: float

    def cumulative(self, t: float) -> float:
        """Probability below t, in [0, 1]; strictly rising between t = 0 and 1."""
        t = min(max(t, 0.0), 1.0)
        below, here, whole = (erf((end - self.centre) / (self.width * sqrt(2.0))) for end in (0.0, t, 1.0))
        x = UNIFORM_SHARE * t + (1.0 - UNIFORM_SHARE) * (here - below) / (whole - below)
        return min(max(x, 0.0), 1.0)

    def quantile(self, x: float) -> float:
        """The t below which the probability is x; 0 and 1 at the ends.

        By bisection down to neighbouring floating-point numbers: deterministic, and safe in the tails.
        """
        if x <= 0.0 or x >= 1.0:
            return 0.0 if x <= 0.0 else 1.0
        low, high = 0.0, 1.0
        while low < (middle := 0.5 * (low + high)) < high:
            if self.cumulative(middle) < x:
                low = middle
            else:
                high = middle
        return high
