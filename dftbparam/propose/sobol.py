"""Space-filling points: scrambled Sobol sequence (Owen, J. Complexity 14, 466 (1998)) and plain random numbers."""

from __future__ import annotations

import numpy as np

from dftbparam.errors import ParameterError
from dftbparam.propose.base import Array, Mask, Proposal, check_arrays, generator, make_all_new

MAX_DIMENSIONS = 21201
"""Dimensions for which scipy holds Sobol direction numbers (Joe and Kuo, SIAM J. Sci. Comput. 30, 2635 (2008))."""


def sobol_points(first: int, count: int, dimensions: int, seed: int) -> Array:
    """Return the points ``first`` to ``first + count - 1`` of the scrambled sequence of ``seed``, (count, d)."""
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ParameterError(f"a Sobol sequence has 1 to {MAX_DIMENSIONS} dimensions, not {dimensions}")
    # Imported here, because scipy.stats takes half a second.
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if first:
        sequence.fast_forward(first)
    # In two parts: scipy warns at first counts that are not powers of two, which here are the rule.
    points = [sequence.random(part) for part in (min(count, 1), max(count - 1, 0))]
    return np.vstack(points).astype(np.float64).reshape(count, dimensions)


class SobolProposer:
    """Every trial's own point of the scrambled Sobol sequence; looks at no result."""

    name = "sobol"
    version = "1"

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`."""
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        points = sobol_points(index, count, X.shape[1], seed)
        return Proposal(make_all_new(points, np.vstack([X, pending]), seed, index))


class RandomProposer:
    """Uniform random points: the yardstick every other proposer must beat."""

    name = "random"
    version = "1"

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`."""
        X, y, feasible, pending = check_arrays(X, y, feasible, pending, count)
        points = np.array([generator(seed, index + j, stream=0).random(X.shape[1]) for j in range(count)])
        return Proposal(make_all_new(points, np.vstack([X, pending]), seed, index))
