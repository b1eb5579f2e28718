"""Gaussian process posterior that takes points in one by one, and the expected improvement under it.

Notation: objectives y of n successful trials, to be minimised; t = transformed objectives (`Transform`); z = t without
its mean and over its standard deviation; k(x, x') the kernel of z; L L^T = K + noise, the Cholesky factor over data and
believed points; m(x) and s(x) mean and standard deviation of the posterior of z; z* = min z.

*Expected improvement* EI(x) = s h(u), u = (z* - m)/s, h(u) = phi(u) + u Phi(u) (Jones, Schonlau and Welch, J. Global
Optim. 13, 455 (1998)); its logarithm is used, which does not underflow far from the optimum (Ament et al., NeurIPS
2023).

*Believed points* (pending and failed trials, points of the block that is being chosen) are added with their predicted
mean, as a kriging believer does (Ginsbourger, Le Riche and Carraro, in *Computational Intelligence in Expensive
Optimization Problems*, p. 131 (2010)): that leaves m(x) as it is and takes uncertainty away around them. A believed
value that is better than z* takes its place; otherwise all points of a block would crowd around the first. A block
costs one factorisation: a point more is one row more of L, and one row more of L^-1 k(X, candidates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import erfcx, log_ndtr, ndtr

from dftbparam.propose.base import Array, Indices

JITTER: Final = 1e-8
"""Added to the diagonal, relative to the variance of z: keeps repeated rows from making the matrix singular."""

LEAST_VARIANCE: Final = 1e-14
"""Below this a variance is rounding."""


@dataclass(frozen=True)
class Transform:
    """t = log(1 + (y - low) / scale), low = min y, scale = median y - min y.

    Linear among the better half of the trials, logarithmic above, so that a score of a thousand times the median bends
    a model no more than one of seven units.
    """

    low: float
    scale: float

    @classmethod
    def of(cls, y: Array) -> Self:
        """The transform that fits objectives (n,), n >= 1."""
        above = _bounded(y) - _bounded(y).min()
        scale = float(np.median(above))
        if scale <= 0.0:
            # Half of the trials share the best value: fall back on the mean of the others, or on anything where all do.
            scale = float(above.mean()) or 1.0
        return cls(float(_bounded(y).min()), scale)

    def __call__(self, y: Array) -> Array:
        """Transformed objectives, shape kept; 0 at the best."""
        t: Array = np.log1p((_bounded(y) - self.low) / self.scale)
        return t

    def improvement(self, mean: float, deviation: float, target: float | None = None) -> float:
        """Expected improvement over ``target`` in units of y, where t is normal with ``mean`` and ``deviation``.

        ``target`` is at most ``low``, which it is by default. With y - low = scale (e^t - 1) and
        b = 1 + (target - low) / scale, the expectation of max(target - y, 0) is that of a log-normal variable below b:
        scale [b Phi(a) - exp(mean + deviation^2 / 2) Phi(a - deviation)], a = (log b - mean) / deviation (the formula
        of a put option). It never exceeds b ``scale``: the model in t knows of no objective below low - scale.
        """
        b = 1.0 if target is None else 1.0 + (max(target, -1e150) - self.low) / self.scale
        if b <= 0.0:
            return 0.0
        deviation = max(deviation, LEAST_VARIANCE**0.5)
        a = (np.log(b) - mean) / deviation
        value = float(b * ndtr(a) - np.exp(mean + 0.5 * deviation**2 + log_ndtr(a - deviation)))
        return self.scale * max(value, 0.0)


def _bounded(y: Array) -> Array:
    """Objectives within bounds that keep their differences finite."""
    return np.clip(y, -1e150, 1e150)


@dataclass(frozen=True)
class Kernel:
    """Matern-5/2: k = amplitude (1 + r + r^2 / 3) e^-r, r^2 = 5 sum_i (x_i - x'_i)^2 / lengths_i^2; noise of the data.

    ``lengths`` (d,) in units of a range; ``amplitude`` and ``noise`` relative to the variance of t.
    """

    amplitude: float
    lengths: Array
    noise: float

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariance of points a (m, d) and b (n, d), (m, n)."""
        r = np.sqrt(5.0) * cdist(a / self.lengths, b / self.lengths)
        value: Array = self.amplitude * (1.0 + r + r * r / 3.0) * np.exp(-r)
        return value


class Posterior:
    """Mean from the data, deviation from data and believed points.

    Parameters
    ----------
    good, t
        Points (n, d) and transformed objectives (n,), n >= 1.
    pending, failed
        Points (m, d) and (l, d) without an objective, which are believed; no failed one is taken for the best.
    room
        Number of points that `choose` may add.

    Raises
    ------
    numpy.linalg.LinAlgError
        The covariance is singular.
    """

    def __init__(self, kernel: Kernel, good: Array, t: Array, pending: Array, failed: Array, room: int = 0) -> None:
        self.kernel = kernel
        self.shift, spread = float(t.mean()), float(t.std())
        self.spread = spread if spread > 0.0 else 1.0
        self._noise = kernel.noise + JITTER
        self._good = good
        self._room = room
        n, self._n = len(good), len(good) + len(pending) + len(failed)
        self._points = np.vstack([good, pending, failed, np.zeros((room, good.shape[1]))])
        covariance = kernel(self._points[: self._n], self._points[: self._n])
        covariance[np.diag_indices(self._n)] += self._noise
        self._factor = np.zeros((self._n + room, self._n + room))
        self._factor[: self._n, : self._n] = cholesky(covariance, lower=True, check_finite=False)
        # The leading block of the factor is the factor of the data alone.
        data = self._factor[:n, :n]
        z = (t - self.shift) / self.spread
        self._weights = cho_solve((data, True), z, check_finite=False)
        expected = kernel(pending, good) @ self._weights
        self.best = float(min(z.min(), *expected)) if len(pending) else float(z.min())

    def candidates(self, points: Array, room: int = 0) -> Candidates:
        """Posterior at points (p, d), to choose from; ``room`` for as many choices after which it is to hold still."""
        n = self._n
        half = np.empty((n + room, len(points)))
        across = self.kernel(self._points[:n], points)
        half[:n] = solve_triangular(self._factor[:n, :n], across, lower=True, check_finite=False)
        mean = self._weights @ across[: len(self._good)]
        variance = self.kernel.amplitude - np.einsum("ij,ij->j", half[:n], half[:n])
        return Candidates(points, mean, variance, half, n)

    def choose(self, chosen: Candidates, j: int, keep: Candidates) -> None:
        """Believe point j of ``chosen``, and correct the variances of ``keep`` for it, in O(n p).

        Both must hold for the points believed so far.
        """
        n, x, row = self._n, chosen.points[j], chosen.half[: self._n, j].copy()
        # Not below the noise: a point that is all but known leaves nothing but noise.
        pivot = float(np.sqrt(max(chosen.variance[j] + self._noise, self._noise)))
        against = self.kernel(x[None, :], keep.points)[0]
        keep.add((against - row @ keep.half[:n]) / pivot)
        self._points[n] = x
        self._factor[n, :n], self._factor[n, n] = row, pivot
        self.best = min(self.best, float(chosen.mean[j]))
        self._n = n + 1

    def log_improvement(self, cloud: Candidates) -> Array:
        """Logarithm of the expected improvement of z at each of the candidates; (p,)."""
        deviation = np.sqrt(np.maximum(cloud.variance, LEAST_VARIANCE))
        value: Array = np.log(deviation) + log_h((self.best - cloud.mean) / deviation)
        return value

    def of_t(self, cloud: Candidates, j: int) -> tuple[float, float]:
        """Mean and standard deviation of t at candidate j."""
        deviation = float(np.sqrt(max(cloud.variance[j], LEAST_VARIANCE)))
        return self.shift + self.spread * float(cloud.mean[j]), self.spread * deviation


class Candidates:
    """Points (p, d); mean and variance (p,) of z there; L^-1 k(X, points) in the first ``n`` rows of ``half``."""

    def __init__(self, points: Array, mean: Array, variance: Array, half: Array, n: int) -> None:
        self.points, self.mean, self.variance, self.half, self._n = points, mean, variance, half, n

    def add(self, row: Array) -> None:
        """Take in the row (p,) that a believed point adds to ``half``."""
        self.half[self._n] = row
        self._n += 1
        self.variance = self.variance - row * row


def subset(t: Array, limit: int) -> Indices:
    """At most ``limit`` rows of t (n,): all, or half of them the best, the others spread evenly over the rest."""
    if len(t) <= limit:
        return np.arange(len(t))
    order = np.argsort(t, kind="stable")
    half = limit // 2
    return np.sort(np.concatenate([order[:half], evenly(np.sort(order[half:]), limit - half)]))


def evenly(rows: Indices, limit: int) -> Indices:
    """At most ``limit`` of ``rows``, evenly spread over them."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.intp)]


def log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z)) for any z, shape kept; erfcx where the two terms cancel, their asymptote beyond."""
    with np.errstate(all="ignore"):
        log_phi = -0.5 * z * z - 0.5 * np.log(2.0 * np.pi)
        plain = np.log(np.exp(log_phi) + z * ndtr(z))
        scaled = log_phi + np.log1p(z * np.sqrt(0.5 * np.pi) * erfcx(-z / np.sqrt(2.0)))
        far = log_phi - 2.0 * np.log(np.abs(z))
    # 1 - |z| sqrt(pi/2) erfcx(|z|/sqrt 2) = z^-2 - 3 z^-4 ...: beyond 1e3 the first term is good to 3e-6, the bracket
    # itself loses all digits.
    value: Array = np.where(z > -1.0, plain, np.where(z > -1e3, scaled, far))
    return value
