"""Covariance matrix adaptation: the evolution strategy CMA-ES of the library ``cmaes``, with restarts.

Hansen, *The CMA evolution strategy: a tutorial*, arXiv:1604.00772; restarts with populations twice as large: Auger and
Hansen, IEEE Congress on Evolutionary Computation 2005, p. 1769. It builds no model of the objective and looks at ranks
only: the peer that Bayesian optimisation must beat where evaluations are dear.

The strategy has a state, a proposer must have none. So the state is made anew at every call, by replaying the finished
trials in order of index: `population` trials at a time are one generation, whoever proposed them. The first generations
are the campaign's initial design, which is spread over the cube as the first distribution is (mean 0.5, standard
deviation `SIGMA`). Trials that were in flight when a generation was complete come from the distribution before it, and
are taken for a sample of the new one: asynchrony costs some speed, not correctness, because selection looks at where
points lie and not at who drew them. Failed trials are the worst of their generation.

After a restart, the trials that were proposed before it (they are known: ``pending`` says how far proposals run ahead
of results) would draw the new search to the old optimum; they are left out.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np

from dftbparam.errors import EngineMissing
from dftbparam.propose.base import Array, Mask, Proposal, check_arrays, generator, make_all_new, single_thread

if TYPE_CHECKING:
    import cmaes

SIGMA: Final = 0.3
"""Standard deviation of the first distribution in units of a range: about that of the uniform one, 0.29."""

LEAST_STEP: Final = 1e-5
"""A search whose standard deviations all are below this has nothing left to find, and begins anew."""


class CmaesProposer:
    """CMA-ES on the history so far. Says nothing about expected improvement.

    Raises
    ------
    EngineMissing
        The library ``cmaes`` is not installed.
    """

    name = "cmaes"
    version = "1"

    def __init__(self) -> None:
        if find_spec("cmaes") is None:
            raise EngineMissing("proposer 'cmaes' needs the library cmaes; install it: pip install cmaes")

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`."""
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        with single_thread():
            strategy = replay(X, np.where(feasible, y, np.nan), ahead=len(pending), index=index, count=count)
            # The trial's own numbers: which of its generation it is does not matter.
            points = []
            for j in range(count):
                strategy._rng = np.random.RandomState(generator(seed, index + j, stream=3).integers(2**31 - 1))
                points.append(np.clip(strategy.ask(), 0.0, 1.0))
        return Proposal(make_all_new(np.array(points), np.vstack([X, pending]), seed, index))


def replay(X: Array, y: Array, *, ahead: int, index: int, count: int) -> cmaes.CMA:
    """The strategy after the trials at X (n, d) with objectives y (n,), NaN for those that failed.

    ``ahead``, ``index`` and ``count`` (pending points, first trial and size of the block asked for) tell which trials
    of the past were proposed before a restart.
    """
    n, d = X.shape
    population = 4 + math.floor(3 * math.log(d))
    strategy, begin = _fresh(d, population), 0
    while begin + population <= n:
        rows = slice(begin, begin + population)
        begin += population
        strategy.tell(_ranked(X[rows], y[rows]))
        if _spent(strategy):
            population *= 2
            strategy = _fresh(d, population)
            # Blocks begin at index - i count; the first that saw this generation begins at begin + ahead or after.
            begin += ahead
            begin += (index - begin) % count
    return strategy


def _fresh(d: int, population: int) -> cmaes.CMA:
    import cmaes

    bounds = np.tile([0.0, 1.0], (d, 1))
    # The seed is of no account: `propose` gives every trial its own numbers.
    return cmaes.CMA(np.full(d, 0.5), SIGMA, bounds=bounds, population_size=population, seed=0)


def _ranked(X: Array, y: Array) -> list[tuple[Array, float]]:
    """A generation with its ranks for objectives, which are finite whatever the objectives are."""
    order = np.argsort(np.where(np.isnan(y), np.inf, y), kind="stable")
    return [(X[i], float(rank)) for rank, i in enumerate(order)]


def _spent(strategy: cmaes.CMA) -> bool:
    """Whether a search has converged or gone wrong."""
    mean, sigma, covariance = strategy.mean, strategy._sigma, strategy._C
    if not (np.isfinite(mean).all() and np.isfinite(sigma) and np.isfinite(covariance).all()):
        return True
    deviations = sigma * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return bool(deviations.max() < LEAST_STEP or deviations.max() > 1e3 or strategy.should_stop())
