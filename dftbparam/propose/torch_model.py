"""What the proposers with PyTorch share: the Gaussian process, the probability of success, and how torch is held still.

Torch, GPyTorch and BoTorch are imported inside functions: they take seconds, and few campaigns use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from dftbparam.errors import EngineMissing
from dftbparam.propose.base import Array, single_thread
from dftbparam.propose.posterior import LEAST_VARIANCE, Transform, subset
from dftbparam.propose.success import SUCCESS_NOISE, SuccessModel

FIT_POINTS: Final = 100
"""Trials the hyperparameters are fitted to; a likelihood costs the cube of this number."""

POSTERIOR_POINTS: Final = 300
"""Successful trials the posterior is made of."""

ITERATIONS: Final = 60
"""Steps of the fit; the prior on the lengths makes it well posed, and twenty to forty are usual."""


def require(name: str) -> None:
    """Raise `EngineMissing` with the line that installs it where BoTorch is missing; imports nothing."""
    if find_spec("torch") is None or find_spec("botorch") is None or find_spec("gpytorch") is None:
        raise EngineMissing(
            f"proposer {name!r} needs BoTorch, which is not installed; install it: pip install 'dftbparam[bo]'"
        )


@contextmanager
def torch_numbers(seed: int) -> Iterator[None]:
    """One thread, torch's random numbers from ``seed``, exact linear algebra; all are given back as they were."""
    with single_thread():
        import torch
        from gpytorch.settings import fast_computations, max_cholesky_size

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with (
                torch.random.fork_rng(devices=[]),
                fast_computations(covar_root_decomposition=False, log_prob=False, solves=False),
                max_cholesky_size(10_000),
            ):
                torch.manual_seed(seed)
                yield
        finally:
            torch.set_num_threads(threads)


def failures() -> tuple[type[Exception], ...]:
    """Errors by which torch's linear algebra and BoTorch's fits say that the numbers do not do."""
    from botorch.exceptions import ModelFittingError
    from gpytorch.utils.errors import NanError, NotPSDError

    return (np.linalg.LinAlgError, RuntimeError, ModelFittingError, NotPSDError, NanError)


def tensor(values: Array) -> Any:
    """Double-precision tensor of an array; the array is copied."""
    import torch

    return torch.tensor(values, dtype=torch.float64)


class Model:
    """Gaussian process through v = -z, to be maximised as BoTorch does; z = t without mean and over its deviation.

    Matern-5/2 with a length per dimension, whose log-normal prior grows with the number of dimensions (Hvarfner,
    Hellsten and Nardi, ICML 2024, arXiv:2402.02229), and noise, both by maximum a posteriori on at most `FIT_POINTS`
    trials; the posterior uses at most `POSTERIOR_POINTS`.

    Parameters
    ----------
    good, t
        Points (n, d) and transformed objectives (n,), n >= 2.

    Attributes
    ----------
    gp
        BoTorch's ``SingleTaskGP``.
    points
        Points behind the posterior (k, d), a tensor.
    best
        Largest v.
    """

    def __init__(self, good: Array, t: Array) -> None:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
        from gpytorch.mlls import ExactMarginalLogLikelihood

        self.shift, spread = float(t.mean()), float(t.std())
        self.spread = spread if spread > 0.0 else 1.0
        v = (self.shift - t) / self.spread
        few, many = subset(t, FIT_POINTS), subset(t, POSTERIOR_POINTS)
        self.gp = SingleTaskGP(
            tensor(good[few]),
            tensor(v[few, None]),
            covar_module=get_covar_module_with_dim_scaled_prior(ard_num_dims=good.shape[1], use_rbf_kernel=False),
            outcome_transform=None,
        )
        likelihood = ExactMarginalLogLikelihood(self.gp.likelihood, self.gp)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": ITERATIONS}})
        self.points = tensor(good[many])
        if len(many) > len(few):
            self.gp.set_train_data(self.points, tensor(v[many]), strict=False)
        self.gp.eval()
        self.best = float(v.max())

    @property
    def lengths(self) -> Array:
        """Length scales (d,), in units of a range."""
        values: Array = self.gp.covar_module.lengthscale.detach().numpy().reshape(-1)
        return values

    def improvement(self, x: Array, transform: Transform, target: float | None = None) -> float:
        """Expected improvement at x (d,) over ``target`` (default: the best of the model's trials), in units of y."""
        import torch

        with torch.no_grad():
            posterior = self.gp.posterior(tensor(x[None, :]))
            v, variance = float(posterior.mean[0, 0]), float(posterior.variance[0, 0])
        deviation = self.spread * max(variance, LEAST_VARIANCE) ** 0.5
        return transform.improvement(self.shift - self.spread * v, deviation, target)


def log_success(model: SuccessModel) -> Callable[[Any], Any]:
    """The logarithm of `SuccessModel` for tensors (..., d), with gradient; (...)."""
    import torch

    if model.certain:
        return lambda X: torch.zeros(X.shape[:-1], dtype=X.dtype)
    points, factor, weights = tensor(model.points), tensor(model.factor), tensor(model.weights)

    def logarithm(X: Any) -> Any:
        flat = X.reshape(-1, X.shape[-1])
        squares = ((points[:, None, :] - flat[None, :, :]) ** 2).sum(-1)
        half = torch.linalg.solve_triangular(factor, torch.exp(-squares / model.width), upper=False)
        mean = model.prior + half.T @ weights
        variance = (1.0 + SUCCESS_NOISE - (half**2).sum(0)).clamp_min(SUCCESS_NOISE)
        return torch.special.log_ndtr(mean / variance.sqrt()).reshape(X.shape[:-1])

    return logarithm
