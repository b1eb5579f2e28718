"""Probability that an evaluation succeeds, from the trials that did and did not.

Least-squares classification (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, section 6.5): a
Gaussian process through the labels +1 (success) and -1 (failure), P = Phi(mean / deviation). Its one length scale is
that of the largest marginal likelihood among `SUCCESS_LENGTHS`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from dftbparam.propose.base import Array, Mask
from dftbparam.propose.posterior import evenly

SUCCESS_LENGTHS: Final = (0.1, 0.2, 0.4)
"""Length scales the probability of success is fitted with, times sqrt(d), in units of a range."""

SUCCESS_NOISE: Final = 0.05
"""Noise variance of the labels +1 (success) and -1 (failure): the border between them is not sharp."""

SUCCESS_FLOOR: Final = 1e-6
"""No point is ever quite impossible; keeps the logarithm finite."""

SUCCESS_POINTS: Final = 120
"""Trials of either kind that are looked at, evenly spread over all; a factorisation costs the cube of their number."""


class SuccessModel:
    """The model for trials at X (n, d).

    Attributes
    ----------
    certain
        Nothing has failed yet: P is 1 everywhere, and the other attributes are not set.
    points, width, factor, weights
        Points (k, d) looked at; covariance is exp(-|x - x'|^2 / width); its Cholesky factor (k, k) with noise, and
        factor^-1 times the labels (k,).
    prior
        Mean of the labels far from every trial.
    """

    def __init__(self, X: Array, feasible: Mask) -> None:
        self.certain = bool(feasible.all())
        if self.certain:
            return
        rows = np.sort(np.concatenate([evenly(np.flatnonzero(kind), SUCCESS_POINTS) for kind in (feasible, ~feasible)]))
        # The overall rate is what is believed far from every trial; a failure or two must not condemn the whole cube.
        overall = (np.count_nonzero(feasible) + 1.0) / (len(feasible) + 2.0)
        self.prior = 2.0 * overall - 1.0
        self.points = X[rows]
        labels = np.where(feasible[rows], 1.0, -1.0) - self.prior
        squares = cdist(self.points, self.points, "sqeuclidean")
        best = -np.inf
        for length in SUCCESS_LENGTHS:
            width = 2.0 * X.shape[1] * length**2
            covariance = np.exp(-squares / width)
            covariance[np.diag_indices(len(rows))] += SUCCESS_NOISE
            factor = cholesky(covariance, lower=True, check_finite=False)
            weights = solve_triangular(factor, labels, lower=True, check_finite=False)
            likelihood = -0.5 * float(weights @ weights) - float(np.log(np.diag(factor)).sum())
            if likelihood > best:
                best, self.width, self.factor, self.weights = likelihood, width, factor, weights

    def __call__(self, points: Array) -> Array:
        """Probability of success at points (p, d), in (0, 1]; (p,)."""
        if self.certain:
            return np.ones(len(points))
        across = np.exp(-cdist(self.points, points, "sqeuclidean") / self.width)
        half = solve_triangular(self.factor, across, lower=True, check_finite=False)
        mean = self.prior + half.T @ self.weights
        variance = 1.0 + SUCCESS_NOISE - np.einsum("ij,ij->j", half, half)
        probability: Array = ndtr(mean / np.sqrt(np.maximum(variance, SUCCESS_NOISE)))
        return np.maximum(probability, SUCCESS_FLOOR)
