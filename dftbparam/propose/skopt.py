"""Bayesian optimisation with scikit-optimize's Gaussian process: expected improvement, blocks, failures as infeasible.

Notation as in `dftbparam.propose.posterior`. Nothing is remembered between calls:

1. *Transform* of the objectives, `posterior.Transform`.
2. *Fit.* skopt fits constant * Matern-5/2 (one length per dimension) + white noise by maximum likelihood, on at most
   `FIT_POINTS` trials (the better half of them, and the rest spread evenly over the others). The posterior then uses at
   most `POSTERIOR_POINTS`, chosen alike. Both bound the time of a proposal, however long the campaign.
3. *Pending and failed points*, and those of the block chosen so far, are taken into account as a kriging believer does.
4. *Failures* stay out of the regression. EI is multiplied with the probability of success P of
   `dftbparam.propose.success`.
5. *Choice.* log EI + log P is maximised over a Sobol cloud and clouds around the best trials. The first `REFINED`
   points of a block are refined around the leaders; the others are the best of the clouds, whose variances are
   corrected after every choice.

The expected improvement reported is that of the first point in units of y times P there: `Transform.improvement`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize

from dftbparam.errors import ParameterError
from dftbparam.propose.base import (
    SEPARATION,
    Array,
    Mask,
    Proposal,
    check_arrays,
    distances,
    generator,
    make_all_new,
    single_thread,
)
from dftbparam.propose.posterior import Candidates, Kernel, Posterior, Transform, evenly, subset
from dftbparam.propose.sobol import sobol_points
from dftbparam.propose.success import SuccessModel

FIT_POINTS: Final = 100
"""Trials the hyperparameters are fitted to; a likelihood costs the cube of this number."""

POSTERIOR_POINTS: Final = 300
"""Successful trials the posterior is made of; choosing from p candidates costs p times the square of this number."""

FAILED_POINTS: Final = 60
"""Failed trials that are believed, evenly spread over all; the probability of success looks at more of them."""

ROUGH_FROM: Final = 40
"""Trials from which the likelihood is climbed from one start only: with that many it has one top in practice."""

ITERATIONS: Final = 30
"""Steps of one climb. Lengths of dimensions that do not matter go on growing for ever at no gain."""

LENGTH_BOUNDS: Final = (0.05, 10.0)
"""Length scales of the Matern kernel in units of a range: below 0.05 a hundred points say nothing about each other,
above 10 a dimension does not matter."""

NOISE_BOUNDS: Final = (1e-8, 1e-1)
"""Noise variance relative to that of t. Evaluations are deterministic, but an inner fit that ends early or a curve
that changes its minimum looks like noise."""

REFINED: Final = 2
"""Points of a block that are refined: each costs as much as eight or more of the others."""


class SkoptProposer:
    """Gaussian process with expected improvement (scikit-optimize).

    Parameters
    ----------
    candidates
        Points of the Sobol cloud the acquisition is searched on.
    restarts
        Random restarts of the likelihood fit, beside the default start, while there are few trials.
    """

    name = "skopt"
    version = "2"

    def __init__(self, candidates: int = 1024, restarts: int = 1) -> None:
        if candidates < 1 or restarts < 0:
            raise ParameterError(f"candidates must be >= 1 and restarts >= 0, got {candidates} and {restarts}")
        self.candidates = candidates
        self.restarts = restarts

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`. Falls back to Sobol points while fewer than two trials succeeded."""
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        known = np.vstack([X, pending])
        points, improvement = sobol_points(index, count, X.shape[1], seed), None
        if np.count_nonzero(feasible) >= 2:
            with single_thread():
                try:
                    points, improvement = self._model_based(X, y, feasible, pending, known, index, seed, count)
                except np.linalg.LinAlgError:
                    # A singular covariance (many all but equal points) has no better answer than an unprejudiced one.
                    pass
        return Proposal(make_all_new(points, known, seed, index), improvement)

    def _model_based(
        self, X: Array, y: Array, feasible: Mask, pending: Array, known: Array, index: int, seed: int, count: int
    ) -> tuple[Array, float]:
        """Points (count, d) and the expected improvement at the first."""
        good, objectives = X[feasible], y[feasible]
        transform = Transform.of(objectives)
        t = transform(objectives)
        kernel = self._fit(good, t, generator(seed, index, stream=1))
        rows = subset(t, POSTERIOR_POINTS)
        failed = X[evenly(np.flatnonzero(~feasible), FAILED_POINTS)]
        posterior = Posterior(kernel, good[rows], t[rows], pending, failed, room=count)
        search = _Search(posterior, SuccessModel(X, feasible), known, generator(seed, index, stream=2))
        leaders = good[np.argsort(objectives, kind="stable")[:4]]
        return search.block(self.candidates, leaders, count, transform)

    def _fit(self, good: Array, t: Array, rng: np.random.Generator) -> Kernel:
        """Fit skopt's model to points (n, d) and transformed objectives (n,), or to some of them."""
        from skopt.learning import GaussianProcessRegressor
        from skopt.learning.gaussian_process import kernels

        d = good.shape[1]
        kernel = kernels.ConstantKernel(1.0, (1e-2, 1e2)) * kernels.Matern(
            length_scale=np.full(d, 0.5), length_scale_bounds=[LENGTH_BOUNDS] * d, nu=2.5
        ) + kernels.WhiteKernel(1e-4, NOISE_BOUNDS)
        rows = subset(t, FIT_POINTS)
        model = GaussianProcessRegressor(
            kernel=kernel,
            alpha=1e-10,
            normalize_y=True,
            noise="gaussian",
            optimizer=_climb,
            n_restarts_optimizer=self.restarts if len(rows) < ROUGH_FROM else 0,
            random_state=int(rng.integers(2**31 - 1)),
        )
        model.fit(good[rows], t[rows])
        parts = model.kernel_.get_params()
        return Kernel(
            amplitude=float(parts["k1__k1__constant_value"]),
            lengths=np.broadcast_to(np.asarray(parts["k1__k2__length_scale"], dtype=np.float64), (d,)).copy(),
            # skopt moves the noise out of its kernel.
            noise=float(model.noise_) if model.noise_ is not None else NOISE_BOUNDS[0],
        )


def _climb(loss: Callable[[Array], Any], start: Array, bounds: Array) -> tuple[Array, float]:
    """Maximise the likelihood: what sklearn calls with loss(theta) -> (value, gradient)."""
    limits = [(float(low), float(high)) for low, high in bounds]
    found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=limits, options={"maxiter": ITERATIONS})
    return found.x, float(found.fun)


class _Search:
    """Chooses points of the largest log EI + log P."""

    def __init__(self, posterior: Posterior, success: SuccessModel, known: Array, rng: np.random.Generator) -> None:
        self.posterior, self.success, self.known, self.rng = posterior, success, known, rng

    def block(self, candidates: int, leaders: Array, count: int, transform: Transform) -> tuple[Array, float]:
        """Choose ``count`` points; ``leaders`` (k, d) are the best trials."""
        d, rng = leaders.shape[1], self.rng
        clouds = [sobol_points(0, candidates, d, int(rng.integers(2**31 - 1)))]
        clouds += [np.clip(x + w * rng.standard_normal((64, d)), 0, 1) for x in leaders for w in (0.15, 0.03)]
        cloud = self.posterior.candidates(np.vstack(clouds), room=count)
        log_success = np.log(self.success(cloud.points))
        points, improvement = np.empty((0, d)), 0.0
        for j in range(count):
            values = self.posterior.log_improvement(cloud) + log_success
            chosen = self._refine(cloud, values) if j < REFINED else cloud
            if chosen is not cloud:
                values = self._values(chosen)
            best = self._best_new(chosen, values, points)
            if j == 0:
                here = chosen.points[best : best + 1]
                improvement = transform.improvement(*self.posterior.of_t(chosen, best)) * float(self.success(here)[0])
            points = np.vstack([points, chosen.points[best]])
            self.posterior.choose(chosen, best, cloud)
        return points, improvement

    def _values(self, cloud: Candidates) -> Array:
        value: Array = self.posterior.log_improvement(cloud) + np.log(self.success(cloud.points))
        return value

    def _refine(self, cloud: Candidates, values: Array) -> Candidates:
        """Look closer around the leaders among the candidates, four times; the last look, leaders included."""
        points = cloud.points
        for width in (0.05, 0.02, 0.007, 0.002):
            top = points[np.argsort(-values, kind="stable")[:4]]
            around = [np.clip(x + width * self.rng.standard_normal((32, len(x))), 0, 1) for x in top]
            near = self.posterior.candidates(np.vstack([top, *around]))
            points, values = near.points, self._values(near)
        return near

    def _best_new(self, cloud: Candidates, values: Array, points: Array) -> int:
        """Index of the best candidate that is neither known nor among ``points``; the best of all where none is new."""
        known = np.vstack([self.known, points])
        for j in np.argsort(-values, kind="stable"):
            if distances(cloud.points[j : j + 1], known)[0] >= SEPARATION:
                return int(j)
        return int(np.argmax(values))
