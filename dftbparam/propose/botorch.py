"""Bayesian optimisation with BoTorch: log expected improvement, its noisy form for pending points and blocks.

The model is that of `dftbparam.propose.torch_model`, on objectives transformed by `posterior.Transform`.

- One point with nothing pending: log expected improvement (Ament et al., NeurIPS 2023, arXiv:2310.20708), maximised by
  gradient from several starts.
- Otherwise qLogNEI, the noisy form by Monte Carlo over the values at known points (Letham et al., Bayesian Anal. 14,
  495 (2019); Balandat et al., NeurIPS 2020, arXiv:1910.06403). Pending points, and those of the block chosen so far,
  are part of its baseline: in every sample a point must improve on the best of these, too. That is the expectation
  that BoTorch's ``X_pending`` stands for, at a cost that does not grow with the square of their number.
- Failures: the logarithm of the probability of success (`dftbparam.propose.success`) is added, gradient included.

The first `REFINED` points of a block are found by gradient. The others are chosen from a Sobol cloud and clouds around
the best trials by the same criterion, with samples that are drawn once, jointly at all of these points: then a point
more costs no model at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from dftbparam.propose.base import (
    SEPARATION,
    Array,
    Mask,
    Proposal,
    check_arrays,
    distances,
    generator,
    make_all_new,
)
from dftbparam.propose.posterior import Transform
from dftbparam.propose.sobol import sobol_points
from dftbparam.propose.success import SuccessModel
from dftbparam.propose.torch_model import Model, failures, log_success, require, tensor, torch_numbers

SAMPLES: Final = 128
"""Monte Carlo samples of qLogNEI (a Sobol sequence)."""

CLOUD_SAMPLES: Final = 256
"""Samples at the cloud; cheaper than the others by far."""

BASELINE: Final = 100
"""Known points of the largest means that samples at the cloud are compared with; others are the best in none."""

SOFTNESS: Final = 0.01
"""Width, in standard deviations of the objectives, over which a sample's improvement sets in: where no sample improves,
the nearest to it counts most."""

RESTARTS: Final = 4
"""Starts of the search by gradient, the best of `RAW_SAMPLES` points and of their neighbourhood."""

RAW_SAMPLES: Final = 256
"""Points of which the starts are chosen."""

STEPS: Final = 60
"""Steps of the search by gradient."""

CANDIDATES: Final = 256
"""Points of the Sobol cloud the later points of a block are chosen from; clouds around the best trials double it."""

REFINED: Final = 2
"""Points of a block that are found by gradient: each costs as much as several of the others."""


class BotorchProposer:
    """Gaussian process with (noisy) log expected improvement (BoTorch).

    Raises
    ------
    EngineMissing
        BoTorch is not installed.
    """

    name = "botorch"
    version = "1"

    def __init__(self) -> None:
        require(self.name)

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`. Falls back to Sobol points while fewer than two trials succeeded."""
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        known = np.vstack([X, pending])
        points, improvement = sobol_points(index, count, X.shape[1], seed), None
        if np.count_nonzero(feasible) >= 2:
            with torch_numbers(int(generator(seed, index, stream=4).integers(2**31 - 1))):
                try:
                    points, improvement = _block(X, y, feasible, pending, index, seed, count)
                except failures():
                    # Numbers that no model can be made of have no better answer than an unprejudiced one.
                    pass
        return Proposal(make_all_new(points, known, seed, index), improvement)


def _block(
    X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int
) -> tuple[Array, float]:
    """Points (count, d) and the expected improvement at the first."""
    transform = Transform.of(y[feasible])
    model = Model(X[feasible], transform(y[feasible]))
    success = SuccessModel(X, feasible)
    log_p = log_success(success)
    d, rng = X.shape[1], generator(seed, index, stream=5)
    leaders = X[feasible][np.argsort(y[feasible], kind="stable")[:4]]
    points = np.empty((0, d))
    for _ in range(min(count, REFINED)):
        points = np.vstack([points, _climb(_acquisition(model, np.vstack([pending, points])), log_p, d)])
    if count > REFINED:
        clouds = [sobol_points(0, CANDIDATES, d, int(rng.integers(2**31 - 1)))]
        clouds += [np.clip(x + w * rng.standard_normal((32, d)), 0, 1) for x in leaders for w in (0.15, 0.03)]
        cloud = np.vstack(clouds)
        cloud = cloud[distances(cloud, np.vstack([X, pending, points])) >= SEPARATION]
        more = _from_cloud(model, np.vstack([pending, points]), cloud, success(cloud), count - REFINED)
        points = np.vstack([points, more])
    here = float(success(points[:1])[0])
    return points, model.improvement(points[0], transform) * here


def _acquisition(model: Model, taken: Array) -> Any:
    """Log expected improvement where nothing is pending (``taken`` (m, d) empty), else its noisy form."""
    if len(taken) == 0:
        from botorch.acquisition import LogExpectedImprovement

        return LogExpectedImprovement(model.gp, best_f=model.best)
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    return qLogNoisyExpectedImprovement(
        model.gp,
        X_baseline=torch.cat([model.points, tensor(taken)]),
        sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=0),
        prune_baseline=True,
    )


def _climb(score: Any, log_p: Callable[[Any], Any], d: int) -> Array:
    """The best point (d,) found by gradient."""
    import torch
    from botorch.acquisition import AcquisitionFunction
    from botorch.optim import optimize_acqf

    class Weighted(AcquisitionFunction):  # type: ignore[misc, unused-ignore]
        """Acquisition value plus log P; X has shape (b, 1, d)."""

        def __init__(self) -> None:
            super().__init__(model=score.model)

        def forward(self, X: Any) -> Any:
            return score(X) + log_p(X).squeeze(-1)

    bounds = torch.stack([torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64)])
    found, _ = optimize_acqf(
        Weighted(), bounds, q=1, num_restarts=RESTARTS, raw_samples=RAW_SAMPLES, options={"maxiter": STEPS}
    )
    x: Array = np.clip(found.detach().numpy()[0], 0.0, 1.0)
    return x


def _from_cloud(model: Model, taken: Array, cloud: Array, success: Array, count: int) -> Array:
    """Choose ``count`` points (count, d) of ``cloud`` (p, d), each for its noisy expected improvement over the others.

    ``taken`` (m, d) are points without a result; ``success`` (p,) the probability of success.
    """
    import torch

    if len(cloud) < count:
        raise np.linalg.LinAlgError("too few new points near the best trials")
    with torch.no_grad():
        best_known = model.points[torch.argsort(-model.gp.posterior(model.points).mean[:, 0])[:BASELINE]]
        everything = torch.cat([best_known, tensor(taken), tensor(cloud)])
        samples = model.gp.posterior(everything).rsample(torch.Size([CLOUD_SAMPLES])).squeeze(-1).numpy()
    first = len(everything) - len(cloud)
    best, values = samples[:, :first].max(axis=1), samples[:, first:]
    chosen: list[int] = []
    for _ in range(count):
        gain = (values - best[:, None]) / SOFTNESS
        soft = np.where(gain > -30.0, np.log(np.logaddexp(0.0, np.maximum(gain, -30.0))), gain)
        score = np.logaddexp.reduce(soft, axis=0) + np.log(success)
        score[chosen] = -np.inf
        chosen.append(int(np.argmax(score)))
        best = np.maximum(best, values[:, chosen[-1]])
    found: Array = cloud[chosen]
    return found
