"""Trust-region Bayesian optimisation (TuRBO) with BoTorch, for more than about six parameters.

Eriksson, Pearce, Gardner, Turner and Poloczek, NeurIPS 2019, arXiv:1910.01739, with one region (TuRBO-1). A Gaussian
process is fitted to the trials of a region; candidates lie in a box around its best point, whose sides go with the
model's lengths; Thompson samples choose among them. The box doubles after `SUCCESSES` rounds in a row that found
something better and halves after max(4, d) / count rounds that did not; below `LEAST_LENGTH` it is given up, and a new
one begins with a space-filling design. A round is ``count`` trials.

The region's state is not kept but made anew at every call, by replaying the finished trials in order of index
(`replay`). Trials that were proposed before a new region began (``pending`` says how far proposals run ahead of
results) belong to the old one and are left out.

Failures: a sample is drawn among the candidates whose probability of success exceeds a random share of the largest, as
one would with a sample of the border (compare SCBO, Eriksson and Poloczek, AISTATS 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

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
from dftbparam.propose.torch_model import Model, failures, require, tensor, torch_numbers

FIRST_LENGTH: Final = 0.8
"""Mean side of a new region in units of a range (the paper's value, like the next three)."""

LEAST_LENGTH: Final = 0.5**7
LARGEST_LENGTH: Final = 1.6
SUCCESSES: Final = 3

GAIN: Final = 1e-3
"""Share of the best objective by which a round must improve to count as a success."""

CANDIDATES: Final = 1000
"""Points a Thompson sample is drawn at; a joint sample costs the cube of their number."""

PERTURBED: Final = 20
"""Mean number of coordinates in which a candidate differs from the centre; all where there are fewer."""


@dataclass(frozen=True)
class Region:
    """A trust region.

    Attributes
    ----------
    first
        Index of the first trial that belongs to it.
    length
        Mean side, in units of a range.
    number
        How many regions there were before it.
    """

    first: int = 0
    length: float = FIRST_LENGTH
    number: int = 0


def design_size(d: int) -> int:
    """Trials that a new region begins with."""
    return 2 * d


def replay(y: Array, d: int, *, ahead: int, index: int, count: int) -> Region:
    """The region after trials with objectives y (n,), NaN for those that failed.

    Parameters
    ----------
    ahead, index, count
        Pending points, first trial and size of the block asked for: a block that began at trial s saw the results of
        the trials below s - ahead, and blocks begin at index - i count.
    """
    length, number, first = FIRST_LENGTH, 0, 0
    patience = math.ceil(max(4.0, d) / count)
    good = bad = 0
    k, best = design_size(d), _least(y[: design_size(d)])
    while k + count <= len(y):
        found = _least(y[k : k + count])
        better = found < best - GAIN * abs(best) if math.isfinite(best) else math.isfinite(found)
        good, bad = (good + 1, 0) if better else (0, bad + 1)
        best, k = min(best, found), k + count
        if good == SUCCESSES:
            length, good = min(2.0 * length, LARGEST_LENGTH), 0
        elif bad >= patience:
            length, bad = length / 2.0, 0
        if length < LEAST_LENGTH:
            number, length, good, bad = number + 1, FIRST_LENGTH, 0, 0
            first = k + ahead
            first += (index - first) % count
            k = first + design_size(d)
            best = _least(y[first:k])
    return Region(first, length, number)


def _least(y: Array) -> float:
    finite = y[np.isfinite(y)]
    return float(finite.min()) if len(finite) else math.inf


class TurboProposer:
    """TuRBO-1 with Thompson sampling.

    Raises
    ------
    EngineMissing
        BoTorch is not installed.
    """

    name = "turbo"
    version = "1"

    def __init__(self) -> None:
        require(self.name)

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`. Points of a Sobol sequence while a region has its design to do.

        The expected improvement is that over the best trial of all regions; None during a design.
        """
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        y = np.where(feasible, y, np.nan)
        n, d = X.shape
        region = replay(y, d, ahead=len(pending), index=index, count=count)
        # Each region has its own sequence, which goes on by index.
        stream = seed if region.number == 0 else int(generator(seed, region.number, stream=6).integers(2**31 - 1))
        points, improvement = sobol_points(max(index - region.first, 0), count, d, stream), None
        mine = feasible & (np.arange(n) >= region.first)
        if n - region.first >= design_size(d) and np.count_nonzero(mine) >= 2:
            with torch_numbers(int(generator(seed, index, stream=7).integers(2**31 - 1))):
                try:
                    points, improvement = _block(X, y, feasible, mine, region, index, seed, count)
                except failures():
                    # Numbers that no model can be made of have no better answer than an unprejudiced one.
                    pass
        return Proposal(make_all_new(points, np.vstack([X, pending]), seed, index), improvement)


def _block(
    X: Array, y: Array, feasible: Mask, mine: Mask, region: Region, index: int, seed: int, count: int
) -> tuple[Array, float]:
    """Points (count, d) of a region with the trials ``mine``, and the expected improvement at the first."""
    import torch

    good, objectives = X[mine], y[mine]
    transform = Transform.of(objectives)
    model = Model(good, transform(objectives))
    success = SuccessModel(X, feasible)
    rng = generator(seed, index, stream=8)
    centre = good[int(np.argmin(objectives))]
    candidates = _candidates(centre, model.lengths, region.length, rng)
    candidates = candidates[distances(candidates, X) >= SEPARATION]
    if len(candidates) < count:
        raise np.linalg.LinAlgError("the region holds no new points")
    likely = success(candidates)
    with torch.no_grad():
        samples = model.gp.posterior(tensor(candidates)).rsample(torch.Size([count])).squeeze(-1).numpy()
    taken: list[int] = []
    for sample, share in zip(samples, rng.random(count), strict=True):
        allowed = likely >= share * likely.max()
        order = np.lexsort((-sample, ~allowed))
        taken.append(next(int(j) for j in order if j not in taken))
    points = candidates[taken]
    improvement = model.improvement(points[0], transform, target=float(np.nanmin(y))) * float(likely[taken[0]])
    return points, improvement


def _candidates(centre: Array, lengths: Array, length: float, rng: np.random.Generator) -> Array:
    """Points (p, d) of the box around ``centre`` (d,), each moved in some coordinates."""
    d = len(centre)
    weights = lengths / np.exp(np.log(lengths).mean())
    low, high = (np.clip(centre + side * 0.5 * length * weights, 0.0, 1.0) for side in (-1.0, 1.0))
    inside = low + (high - low) * sobol_points(0, CANDIDATES, d, int(rng.integers(2**31 - 1)))
    moved = rng.random((CANDIDATES, d)) <= min(PERTURBED / d, 1.0)
    none = ~moved.any(axis=1)
    moved[none, rng.integers(d, size=CANDIDATES)[none]] = True
    return np.where(moved, inside, centre)
