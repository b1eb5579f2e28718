"""Bayesian optimisation with scikit-optimize: Gaussian process, expected improvement, failures as infeasible.

Notation: t = transformed objectives of the feasible trials, m(x) and s(x) the mean and standard deviation of the
Gaussian process, t* = min t. Expected improvement EI(x) = s h(z), z = (t* - m)/s, h(z) = phi(z) + z Phi(z)
(Jones, Schonlau and Welch, J. Global Optim. 13, 455 (1998)); its logarithm is used, which does not underflow far from
the optimum (Ament et al., NeurIPS 2023).

One call is one tell and one ask of a fresh `skopt.Optimizer`, so that nothing is remembered between calls:

1. *Transform.* t = log(1 + (y - min y) / (median y - min y)): linear among the better half of the trials, logarithmic
   above, so that a score of a thousand times the median bends the model no more than one of seven units.
2. *Tell.* skopt fits constant * Matern-5/2 (one length per dimension) + white noise by maximum likelihood, on at most
   `FIT_POINTS` trials (the better half of them, and the rest spread evenly over the others), which bounds the time of
   a proposal. The posterior then uses all trials.
3. *Pending and failed points* are taken into account as a kriging believer does (Ginsbourger et al. 2010): they are
   added with their predicted mean, which leaves m(x) as it is and takes the uncertainty away around them.
4. *Failures* stay out of the regression. EI is multiplied with the probability of success P, which comes from a second
   Gaussian process through successes and failures.
5. *Ask.* log EI + log P is maximised over skopt's own answer, a Sobol cloud and clouds around the best trials, and
   refined around the leaders.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import erfcx, ndtr

from dftbparam.errors import ParameterError
from dftbparam.propose.base import (
    SEPARATION,
    Array,
    Indices,
    Mask,
    Proposal,
    check_arrays,
    distances,
    generator,
    make_new,
)
from dftbparam.propose.sobol import sobol_points

FIT_POINTS: Final = 100
"""Trials the hyperparameters are fitted to; a likelihood costs the cube of this number."""

LENGTH_BOUNDS: Final = (0.05, 10.0)
"""Length scales of the Matern kernel in units of a range: below 0.05 a hundred points say nothing about each other,
above 10 a dimension does not matter."""

NOISE_BOUNDS: Final = (1e-8, 1e-1)
"""Noise variance relative to that of t. Evaluations are deterministic, but an inner fit that ends early or a curve
that changes its minimum looks like noise."""

SUCCESS_LENGTHS: Final = (0.1, 0.2, 0.4)
"""Length scales the probability of success is fitted with, times sqrt(d), in units of a range."""

SUCCESS_NOISE: Final = 0.05
"""Noise variance of the labels +1 (success) and -1 (failure): the border between them is not sharp."""

SUCCESS_FLOOR: Final = 1e-6
"""No point is ever quite impossible; keeps the logarithm finite."""


class SkoptProposer:
    """Gaussian process with expected improvement (scikit-optimize).

    Parameters
    ----------
    candidates
        Points of the Sobol cloud the acquisition is searched on.
    restarts
        Random restarts of the likelihood fit, beside the default start.
    """

    name = "skopt"
    version = "1"

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
        points = np.empty((0, X.shape[1]))
        for j in range(count):
            x = self._one(X, y, feasible, np.vstack([pending, points]), index + j, seed)
            points = np.vstack([points, x])
        return Proposal(points)

    def _one(self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int) -> Array:
        """See `dftbparam.propose.base.Proposer`. Falls back to a Sobol point while fewer than two trials succeeded."""
        known = np.vstack([X, pending])
        if np.count_nonzero(feasible) < 2:
            return make_new(sobol_points(index, 1, X.shape[1], seed)[0], known, seed, index)

        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Fits that end on a bound and sklearn's deprecations are no news to the caller.
            warnings.simplefilter("ignore")
            good = X[feasible]
            t = transform(y[feasible])
            try:
                kernel, own_answer = self._tell_and_ask(good, t, generator(seed, index, stream=1))
                surrogate = _Surrogate(kernel, good, t, np.vstack([pending, X[~feasible]]))
                x = self._maximise(surrogate, X, y, feasible, own_answer, known, seed, index)
            except np.linalg.LinAlgError:
                # A singular covariance (many all but equal points) has no better answer than an unprejudiced one.
                x = sobol_points(index, 1, X.shape[1], seed)[0]
        return make_new(x, known, seed, index)

    def _tell_and_ask(self, good: Array, t: Array, rng: np.random.Generator) -> tuple[Any, Array]:
        """Fit skopt's model; return its kernel (with noise) and its own answer (d,)."""
        from skopt import Optimizer
        from skopt.learning import (
            GaussianProcessRegressor,
        )
        from skopt.learning.gaussian_process import (
            kernels,
        )

        d = good.shape[1]
        kernel = kernels.ConstantKernel(1.0, (1e-2, 1e2)) * kernels.Matern(
            length_scale=np.full(d, 0.5), length_scale_bounds=[LENGTH_BOUNDS] * d, nu=2.5
        ) + kernels.WhiteKernel(1e-4, NOISE_BOUNDS)
        model = GaussianProcessRegressor(
            kernel=kernel,
            alpha=1e-10,
            normalize_y=True,
            noise="gaussian",
            n_restarts_optimizer=self.restarts,
            random_state=int(rng.integers(2**31 - 1)),
        )
        optimizer = Optimizer(
            dimensions=[(0.0, 1.0)] * d,
            base_estimator=model,
            n_initial_points=0,
            acq_func="EI",
            acq_optimizer="lbfgs",
            acq_optimizer_kwargs={"n_points": 256, "n_restarts_optimizer": 2, "n_jobs": 1},
            random_state=int(rng.integers(2**31 - 1)),
        )
        rows = fit_subset(t)
        optimizer.tell(good[rows].tolist(), t[rows].tolist())
        fitted = optimizer.models[-1]
        # skopt zeroes the noise in its kernel for prediction; the covariance of the data needs it back.
        noise = float(fitted.noise_) if fitted.noise_ is not None else NOISE_BOUNDS[0]
        answer = np.clip(np.array(optimizer.ask(), dtype=np.float64), 0.0, 1.0)
        return (fitted.kernel_, noise), answer

    def _maximise(
        self,
        surrogate: _Surrogate,
        X: Array,
        y: Array,
        feasible: Mask,
        own_answer: Array,
        known: Array,
        seed: int,
        index: int,
    ) -> Array:
        """Return the best new point (d,) found for log EI + log P."""
        rng = generator(seed, index, stream=2)
        d = X.shape[1]

        def score(points: Array) -> Array:
            value = surrogate.log_improvement(points) + np.log(success_probability(points, X, feasible))
            value[distances(points, known) < SEPARATION] = -np.inf
            return value

        leaders = X[feasible][np.argsort(y[feasible], kind="stable")[:4]]
        clouds = [own_answer[None, :], sobol_points(0, self.candidates, d, int(rng.integers(2**31 - 1)))]
        clouds += [np.clip(leader + w * rng.standard_normal((64, d)), 0, 1) for leader in leaders for w in (0.15, 0.03)]
        points = np.vstack(clouds)
        values = score(points)
        for width in (0.05, 0.02, 0.007, 0.002):
            top = np.argsort(-values, kind="stable")[:4]
            around = [np.clip(points[i] + width * rng.standard_normal((32, d)), 0, 1) for i in top]
            points = np.vstack([points[top], *around])
            values = np.concatenate([values[top], score(points[len(top) :])])
        best: Array = points[int(np.argmax(values))]
        return best


class _Surrogate:
    """Gaussian process posterior with believed points: mean from the data, deviation from data and believed points."""

    def __init__(self, kernel_and_noise: tuple[Any, float], good: Array, t: Array, believed: Array) -> None:
        self.kernel, noise = kernel_and_noise
        self.shift, spread = float(t.mean()), float(t.std())
        self.spread = spread if spread > 0.0 else 1.0
        self.good = good
        self.all = np.vstack([good, believed])
        self.best = (float(t.min()) - self.shift) / self.spread
        # The jitter keeps repeated rows from making the matrix singular.
        jitter = noise + 1e-8
        data = self.kernel(good) + jitter * np.eye(len(good))
        self.weights = cho_solve((cholesky(data, lower=True), True), (t - self.shift) / self.spread)
        self.factor = cholesky(self.kernel(self.all) + jitter * np.eye(len(self.all)), lower=True)

    def log_improvement(self, points: Array) -> Array:
        """Logarithm of the expected improvement (in units of the spread of t) at points (p, d); (p,)."""
        mean = self.kernel(points, self.good) @ self.weights
        half = solve_triangular(self.factor, self.kernel(self.all, points), lower=True)
        variance = np.maximum(self.kernel.diag(points) - np.einsum("ij,ij->j", half, half), 1e-14)
        deviation = np.sqrt(variance)
        value: Array = np.log(deviation) + log_h((self.best - mean) / deviation)
        return value


def transform(y: Array) -> Array:
    """Map objectives (n,) to what the Gaussian process sees (n,): order kept, tail compressed; see the module."""
    # The bound keeps differences finite.
    above = np.clip(y, -1e150, 1e150)
    above = above - above.min()
    scale = float(np.median(above))
    if scale <= 0.0:
        # Half of the trials share the best value: fall back on the mean of the others, or on anything where all do.
        scale = float(above.mean()) or 1.0
    t: Array = np.log1p(above / scale)
    return t


def fit_subset(t: Array) -> Indices:
    """Rows the hyperparameters are fitted to: all, or `FIT_POINTS` of them, half the best, half spread evenly."""
    if len(t) <= FIT_POINTS:
        return np.arange(len(t))
    order = np.argsort(t, kind="stable")
    half = FIT_POINTS // 2
    rest = np.sort(order[half:])
    spread = rest[np.linspace(0, len(rest) - 1, FIT_POINTS - half).round().astype(np.intp)]
    return np.sort(np.concatenate([order[:half], spread]))


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


def success_probability(points: Array, X: Array, feasible: Mask) -> Array:
    """Probability that an evaluation at points (p, d) succeeds, given the trials X (n, d), in (0, 1]; (p,).

    Least-squares classification (Rasmussen and Williams, *Gaussian Processes for Machine Learning*, section 6.5): a
    Gaussian process through the labels +1 and -1, P = Phi(mean / deviation). Its one length scale is that of the
    largest marginal likelihood among `SUCCESS_LENGTHS`.
    """
    if feasible.all():
        return np.ones(len(points))
    # The overall rate is what is believed far from every trial; a failure or two must not condemn the whole cube.
    overall = (np.count_nonzero(feasible) + 1.0) / (len(feasible) + 2.0)
    labels = np.where(feasible, 1.0, -1.0) - (2.0 * overall - 1.0)
    between, to_points = _squares(X, X), _squares(X, points)
    best, mean, variance = -np.inf, np.zeros(len(points)), np.ones(len(points))
    for length in SUCCESS_LENGTHS:
        width = 2.0 * X.shape[1] * length**2
        factor = cholesky(np.exp(-between / width) + SUCCESS_NOISE * np.eye(len(X)), lower=True)
        whitened = solve_triangular(factor, labels, lower=True)
        likelihood = -0.5 * float(whitened @ whitened) - float(np.log(np.diag(factor)).sum())
        if likelihood > best:
            best = likelihood
            half = solve_triangular(factor, np.exp(-to_points / width), lower=True)
            mean = 2.0 * overall - 1.0 + half.T @ whitened
            variance = 1.0 + SUCCESS_NOISE - np.einsum("ij,ij->j", half, half)
    probability: Array = ndtr(mean / np.sqrt(np.maximum(variance, SUCCESS_NOISE)))
    return np.maximum(probability, SUCCESS_FLOOR)


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of rows a (m, d) and b (n, d), (m, n)."""
    squares: Array = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return squares
