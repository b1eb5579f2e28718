"""Posterior, marginal likelihood and cross-validation of the linear model, all from triangular factors.

Levels of theory t share latent functions l through a mixing matrix: f_t = Σ_l C_tl g_l, with independent g_l of unit
variance and the same kernel. One level has C = (s). The observations y of level t then have the rows [C_t0 A, C_t1 A,
..., τ n_t], where n_t counts elements and τ is the prior width of each level's offsets; the prior of all weights is
normal, of unit variance. The offsets are a part of the model, so that their uncertainty is in the error bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy.linalg import solve_triangular

from dftbparam.delta.descriptors import Array, Integers
from dftbparam.delta.kernels import gpytorch_modules
from dftbparam.delta.statistics import Statistics

OFFSET_WIDTH: Final = 10.0
"""Prior width of elemental offsets, eV, around their least-squares values: wider than any energy per atom that
chemistry decides, so that data decide them; where they do not (an element seen in one composition only), the error bar
of another composition says so."""

PRIOR_WIDTH: Final = 2.0
"""Standard deviation of the normal priors of logarithms of scales, and of the entries of W."""

RATIO_WIDTH: Final = 0.3
"""Standard deviation of the prior of ρ around 1: levels of theory describe the same energy, and few structures of the
higher one must not be enough to deny that."""

NOISE: Final[Mapping[str, tuple[float, float, float]]] = {
    "energy": (1e-4, 2e-3, 0.02),
    "forces": (0.03, 0.05, 2.0),
    "stress": (0.015, 0.03, 1.0),
}
"""Noise of a kind of data, eV/atom, eV/Angstrom, eV/atom: least, usual, most. Noise stands for what descriptors cannot
resolve as well. The least of energies is what DFT with converged settings reproduces. That of forces and stress is what
local energies of a finite range leave: allowed less, the marginal likelihood fits forces to 0.001 eV/Angstrom where
there are inducing environments enough, and energies of other crystals become worse (48 structures of silicon, median of
five seeds: 107 meV/atom with 250 inducing environments and 21 with 46; with this least 21 for either). It is also what
limits forces: better descriptors would deserve a smaller one. The upper ends matter where there are few structures: the
marginal likelihood then has a second maximum at which energies are noise altogether and forces alone are learnt, so
that nothing ties crystals together."""

NOISE_WIDTH: Final = 1.0
"""Standard deviation of the logarithm of noise around the usual one."""

Structure = Literal["single", "autoregressive", "coregional"]


@dataclass(frozen=True)
class Hyperparameters:
    """What is fitted before the weights.

    Attributes
    ----------
    mixing
        (levels, latent functions), eV per atom of local energy.
    noise
        Standard deviation for each (level, kind of data): eV/atom, eV/Angstrom, eV/atom.
    evidence
        Log marginal likelihood at these values.
    """

    mixing: Array
    noise: Mapping[tuple[int, str], float]
    evidence: float = float("nan")


@dataclass(frozen=True)
class Posterior:
    """Normal distribution of the weights: mean (d,), and the triangle R (d, d) with covariance R⁻¹ R⁻ᵀ."""

    mean: Array
    triangle: Array

    def variance(self, rows: Array) -> Array:
        """Variance of rows · weights, (n,) for (n, d)."""
        half = solve_triangular(self.triangle, rows.T, trans="T", check_finite=False)
        found: Array = np.einsum("dn,dn->n", half, half)
        return found

    def covariance(self, first: Array, second: Array) -> Array:
        """Covariance of two tables of rows, (n, m)."""
        a = solve_triangular(self.triangle, first.T, trans="T", check_finite=False)
        b = solve_triangular(self.triangle, second.T, trans="T", check_finite=False)
        found: Array = a.T @ b
        return found


def expand(rows: Array, level: int, elements: int, mixing: Array) -> Array:
    """Rows [A | counts] of one level as rows of the whole model, (n, latent m + levels elements)."""
    features, counts = rows[:, : rows.shape[1] - elements], rows[:, rows.shape[1] - elements :]
    parts = [mixing[level, latent] * features for latent in range(mixing.shape[1])]
    for other in range(len(mixing)):
        parts.append(OFFSET_WIDTH * counts if other == level else np.zeros_like(counts))
    return np.concatenate(parts, axis=1)


def posterior(statistics: Statistics, hyper: Hyperparameters) -> Posterior:
    """Weights given all observations, by QR of their rows over their noise with the prior's below them."""
    return _solve(list(_scaled(statistics, hyper).values()), _size(statistics, hyper))


def _size(statistics: Statistics, hyper: Hyperparameters) -> int:
    return int(hyper.mixing.shape[1]) * statistics.weights + statistics.level_count * statistics.elements


def _scaled(statistics: Statistics, hyper: Hyperparameters) -> dict[int, Array]:
    """Rows [A/σ | y/σ] of each fold, all levels and kinds together, as a triangle."""
    found = {}
    for fold in sorted({key[0] for key in statistics.factors}):
        stack = []
        for (level, kind), (triangle, _) in statistics.triangles(fold).items():
            rows = expand(triangle[:, :-1], level, statistics.elements, hyper.mixing)
            stack.append(np.concatenate([rows, triangle[:, -1:]], axis=1) / hyper.noise[level, kind])
        whole = np.concatenate(stack)
        found[fold] = np.asarray(np.linalg.qr(whole, mode="r")) if len(whole) > whole.shape[1] else whole
    return found


def _solve(parts: Sequence[Array], size: int) -> Posterior:
    whole: Array = np.asarray(np.linalg.qr(np.concatenate([*parts, np.eye(size, size + 1)]), mode="r"))
    triangle, right = whole[:size, :size], whole[:size, size]
    # Rows of R are defined up to their sign; positive diagonals make files of the same data the same.
    sign = np.where(np.diag(triangle) < 0.0, -1.0, 1.0)[:, None]
    triangle, right = sign * triangle, sign[:, 0] * right
    return Posterior(solve_triangular(triangle, right, check_finite=False), triangle)


def maximise(statistics: Statistics, structure: Structure = "single", *, steps: int = 60) -> Hyperparameters:
    """Maximise the marginal likelihood over mixing and noise, with weak log-normal priors.

    Parameters
    ----------
    structure
        ``single``: one level. ``autoregressive``: f_t = ρ_t f_(t−1) + s_t g_t (M. C. Kennedy, A. O'Hagan, Biometrika
        87, 1 (2000)); data need not be nested, because the levels are fitted together. ``coregional``: the covariance
        of levels is a matrix B = W Wᵀ + diag(v), as that of gpytorch's IndexKernel, times that of structures; C is its
        Cholesky factor.
    steps
        Iterations of L-BFGS at most.
    """
    torch, _ = gpytorch_modules()
    from scipy.optimize import minimize

    problem = _Problem(statistics, structure)

    def value_and_slope(theta: Array) -> tuple[float, Array]:
        point = torch.from_numpy(theta.copy()).requires_grad_(True)
        value = -problem.objective(point)
        (slope,) = torch.autograd.grad(value, point)
        return float(value.detach()), slope.numpy()

    found = minimize(
        value_and_slope, problem.start, jac=True, method="L-BFGS-B", bounds=problem.bounds, options={"maxiter": steps}
    )
    with torch.no_grad():
        point = torch.from_numpy(np.asarray(found.x))
        mixing = problem.mixing(point).numpy()
        noise = {key: float(np.exp(found.x[problem.noise_at[key]])) for key in problem.keys}
        evidence = float(problem.evidence(point))
    return Hyperparameters(mixing, noise, evidence)


class _Problem:
    """Marginal likelihood as a function of a vector of hyperparameters, differentiable by torch."""

    def __init__(self, statistics: Statistics, structure: Structure) -> None:
        self.torch, gpytorch = gpytorch_modules()
        torch = self.torch
        self.structure: Structure = structure
        self.levels, self.m, self.elements = statistics.level_count, statistics.weights, statistics.elements
        parts = statistics.triangles()
        self.keys = list(parts)
        self.grams, self.counts = {}, {}
        for key, (triangle, count) in parts.items():
            self.grams[key] = torch.from_numpy(triangle.T @ triangle)
            self.counts[key] = count
        spread = max(float(np.std(statistics.energies)), 0.01)
        start: list[float] = []
        bounds: list[tuple[float, float]] = []
        if structure == "coregional":
            # B = W Wᵀ + diag(v): W (levels, levels) and log v.
            shared = np.zeros((self.levels, self.levels))
            shared[:, 0] = 0.9
            start += list(spread * (shared + 0.1 * np.eye(self.levels)).ravel())
            bounds += [(-100.0, 100.0)] * self.levels**2
            start += [2.0 * np.log(0.3 * spread)] * self.levels
            bounds += [(-18.0, 9.0)] * self.levels
        else:
            for level in range(self.levels):
                start.append(float(np.log(spread if level == 0 else 0.2 * spread)))
                bounds.append((float(np.log(1e-4)), float(np.log(1e3))))
            start += [1.0] * (self.levels - 1)
            bounds += [(-3.0, 3.0)] * (self.levels - 1)
        self.shape_size = len(start)
        self.noise_at = {}
        for key in self.keys:
            least, usual, most = NOISE[key[1]]
            self.noise_at[key] = len(start)
            start.append(float(np.log(usual)))
            bounds.append((float(np.log(least)), float(np.log(most))))
        self.start, self.bounds = np.array(start), bounds
        widths = np.full(len(start), PRIOR_WIDTH)
        widths[self.shape_size :] = NOISE_WIDTH
        if structure == "autoregressive":
            widths[self.levels : self.shape_size] = RATIO_WIDTH
        self.prior = gpytorch.priors.NormalPrior(torch.from_numpy(self.start), torch.from_numpy(widths))

    def mixing(self, theta: Any) -> Any:
        """(levels, latent functions)."""
        torch = self.torch
        n = self.levels
        if self.structure == "coregional":
            factor = theta[: n * n].reshape(n, n)
            matrix = factor @ factor.T + torch.diag(torch.exp(theta[n * n : n * n + n]))
            return torch.linalg.cholesky(matrix)
        scales = torch.exp(theta[:n])
        rows = []
        row = torch.zeros(n, dtype=torch.float64)
        for level in range(n):
            unit = torch.zeros(n, dtype=torch.float64)
            unit[level] = 1.0
            row = (row * theta[n + level - 1] if level else row) + unit * scales[level]
            rows.append(row)
        return torch.stack(rows)

    def evidence(self, theta: Any) -> Any:
        """Log marginal likelihood."""
        torch, m = self.torch, self.m
        mixing = self.mixing(theta)
        latent, levels, elements = mixing.shape[1], self.levels, self.elements
        size = latent * m + levels * elements
        precision = torch.eye(size, dtype=torch.float64)
        right = torch.zeros(size, dtype=torch.float64)
        constant = torch.zeros((), dtype=torch.float64)
        for key in self.keys:
            level = key[0]
            log_noise = theta[self.noise_at[key]]
            gram = self.grams[key] * torch.exp(-2.0 * log_noise)
            pieces = [mixing[level, one] * torch.eye(1, dtype=torch.float64) for one in range(latent)]
            at = latent * m + level * elements
            weight = torch.cat([p.reshape(1) for p in pieces])
            features = torch.kron(torch.outer(weight, weight), gram[:m, :m])
            cross = OFFSET_WIDTH * torch.kron(weight.reshape(-1, 1), gram[:m, m:-1])
            corner = OFFSET_WIDTH**2 * gram[m:-1, m:-1]
            whole = torch.zeros(size, size, dtype=torch.float64)
            whole[: latent * m, : latent * m] = features
            whole[: latent * m, at : at + elements] = cross
            whole[at : at + elements, : latent * m] = cross.T
            whole[at : at + elements, at : at + elements] = corner
            precision = precision + whole
            target = torch.zeros(size, dtype=torch.float64)
            target[: latent * m] = torch.kron(weight, gram[:m, -1])
            target[at : at + elements] = OFFSET_WIDTH * gram[m:-1, -1]
            right = right + target
            constant = constant + gram[-1, -1] + self.counts[key] * (2.0 * log_noise + float(np.log(2.0 * np.pi)))
        factor = torch.linalg.cholesky(precision)
        half = torch.linalg.solve_triangular(factor, right[:, None], upper=False)[:, 0]
        return -0.5 * (constant - half @ half + 2.0 * torch.log(torch.diagonal(factor)).sum())

    def objective(self, theta: Any) -> Any:
        """Log marginal likelihood plus log prior of the hyperparameters."""
        return self.evidence(theta) + self.prior.log_prob(theta).sum()


@dataclass(frozen=True)
class HeldOut:
    """Predictions of energies by models that never saw their fold; per structure, eV/atom.

    Attributes
    ----------
    errors
        Prediction minus reference.
    variances
        Of the model alone, without noise or calibration.
    """

    errors: Array
    variances: Array
    folds: Integers
    levels: Integers


def cross_validate(statistics: Statistics, hyper: Hyperparameters) -> HeldOut:
    """Predict the energies of each fold from all others.

    The model of the others has their inducing environments alone: those of the fold itself would let forces of the
    others be fitted more closely than any model could that has never seen the fold, with larger errors and smaller
    error bars (`Statistics.subspace`).
    """
    errors = np.zeros(len(statistics.energies))
    variances = np.zeros_like(errors)
    scaled = _scaled(statistics, hyper)
    for fold in sorted(scaled):
        without = _Without(statistics, hyper, fold)
        solved = without.solve([without.project(part) for other, part in scaled.items() if other != fold])
        for level in range(statistics.level_count):
            mine = np.flatnonzero((statistics.folds == fold) & (statistics.levels == level))
            if len(mine):
                rows, unexplained = without.energy_rows(mine, level)
                errors[mine] = rows @ solved.mean - statistics.energies[mine]
                prior = float((hyper.mixing[level] ** 2).sum())
                variances[mine] = solved.variance(rows) + prior * unexplained
    return HeldOut(errors, variances, statistics.folds, statistics.levels)


class _Without:
    """The model as it is without the inducing environments of one fold."""

    def __init__(self, statistics: Statistics, hyper: Hyperparameters, fold: int) -> None:
        self.statistics, self.hyper = statistics, hyper
        self.space = None if statistics.subspace is None else statistics.subspace(fold)
        latent, m = int(hyper.mixing.shape[1]), statistics.weights
        lost = 0 if self.space is None else m - self.space.shape[1]
        self.size = _size(statistics, hyper) - latent * lost

    def project(self, part: Array) -> Array:
        """Scaled rows of a fold, see `_scaled`, as rows of this model."""
        if self.space is None:
            return part
        latent, m = int(self.hyper.mixing.shape[1]), self.statistics.weights
        blocks = [part[:, k * m : (k + 1) * m] @ self.space for k in range(latent)]
        return np.concatenate([*blocks, part[:, latent * m :]], axis=1)

    def solve(self, parts: Sequence[Array]) -> Posterior:
        """Weights given projected rows."""
        return _solve(parts, self.size)

    def energy_rows(self, mine: Integers, level: int) -> tuple[Array, Array]:
        """Rows of energies, and the variance that these inducing environments do not span."""
        statistics, m = self.statistics, self.statistics.weights
        rows, unexplained = statistics.energy_rows[mine], statistics.unexplained[mine]
        if self.space is not None:
            own = rows[:, :m] @ self.space
            unexplained = unexplained + np.maximum((rows[:, :m] ** 2).sum(axis=1) - (own**2).sum(axis=1), 0.0)
            rows = np.concatenate([own, rows[:, m:]], axis=1)
        return expand(rows, level, statistics.elements, self.hyper.mixing), unexplained


def learning_curve(statistics: Statistics, hyper: Hyperparameters) -> list[list[tuple[float, float]]]:
    """Predict the energies of each fold from few of the others, and from more and more of them.

    Hyperparameters stay those of all data, inducing environments those of all folds but the one that is predicted: what
    grows is the number of observations.

    Returns
    -------
    Per level rows (structures of the level trained on, root mean square error in eV/atom), means over the folds, each
    of which is predicted from 1, 2, 4 ... folds behind it. Numbers of folds are left out in which some fold would have
    to be predicted without any structure of the level.
    """
    scaled = _scaled(statistics, hyper)
    folds = sorted(scaled)
    most = len(folds) - 1
    counts = sorted({*(2**k for k in range(most) if 2**k < most), most}) if most else []
    squares: dict[tuple[int, int], list[Array]] = {}
    sizes: dict[tuple[int, int], list[int]] = {}
    for place, fold in enumerate(folds):
        without = _Without(statistics, hyper, fold)
        mine = {
            level: np.flatnonzero((statistics.folds == fold) & (statistics.levels == level))
            for level in range(statistics.level_count)
        }
        rows = {level: without.energy_rows(some, level)[0] for level, some in mine.items() if len(some)}
        parts: list[Array] = []
        before = 0
        for count in counts:
            chosen = [folds[(place + step) % len(folds)] for step in range(1, count + 1)]
            parts += [without.project(scaled[other]) for other in chosen[before:]]
            before = count
            solved = without.solve(parts)
            for level, own in rows.items():
                errors = own @ solved.mean - statistics.energies[mine[level]]
                known = np.isin(statistics.folds, chosen) & (statistics.levels == level)
                squares.setdefault((level, count), []).append(errors**2)
                sizes.setdefault((level, count), []).append(int(np.count_nonzero(known)))
    return [
        [
            (float(np.mean(sizes[level, count])), float(np.sqrt(np.mean(np.concatenate(squares[level, count])))))
            for count in counts
            if (level, count) in sizes and min(sizes[level, count]) > 0
        ]
        for level in range(statistics.level_count)
    ]
