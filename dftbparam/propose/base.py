"""What a proposer is: arrays in, points out.

Notation: n finished trials X, shape (n, d), in the unit cube [0, 1]^d with objectives y, shape (n,), to be minimised;
m trials without a result yet, ``pending``, shape (m, d).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

SEPARATION: Final = 1e-6
"""Largest coordinate difference (unit cube) below which two points count as one: a millionth of a range is far below
what any parameter of a table can be told apart by, and far above rounding."""

TURN: Final = threading.RLock()
"""Held by whoever sets what belongs to the whole process: threads of numerical libraries, warning filters. Two at once
would undo each other's settings, and a sum in another order is another trial."""


@dataclass(frozen=True)
class Proposal:
    """What a proposer answers.

    Attributes
    ----------
    points
        Points to evaluate (count, d), unit cube, in order of index.
    improvement
        Expected improvement at the first point over the best objective known, in units of y, >= 0; None where the
        proposer cannot say. The failures a proposer foresees are in it: a point that is likely to fail promises little.
    """

    points: Array
    improvement: float | None = None


@runtime_checkable
class Proposer(Protocol):
    """Chooses the next points of the unit cube.

    Contract, held by tests/contract/test_proposer_contract.py for every registered proposer:

    - *pure*: the answer depends on the arguments alone. No state is kept between calls, no clock, no global random
      numbers; numerical libraries are held to one thread, since the order of a threaded sum is not fixed. A campaign
      that was killed asks again and must get the same points, bit for bit.
    - *in the cube*: every coordinate lies in [0, 1] and is finite.
    - *new*: each point differs by at least `SEPARATION` in some coordinate from every row of X and ``pending`` and from
      the others of the answer.
    - *total*: any n >= 0 and m >= 0, all-infeasible data, repeated rows and objectives of any size are answered, not
      refused.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def version(self) -> str:
        """Raised whenever the same arguments give another point.

        A campaign is resumed only by the version it began with.
        """
        ...

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """Propose the points of the trials ``index`` to ``index + count - 1``.

        Parameters
        ----------
        X
            Finished points (n, d), unit cube, in order of index.
        y
            Their objectives (n,), smaller is better; ignored (may be NaN) where ``feasible`` is False.
        feasible
            Whether the evaluation gave an objective, (n,).
        pending
            Points that are being evaluated (m, d).
        index
            Number of the first trial to propose, from 0.
        seed
            Seed of the campaign.
        count
            Number of points, >= 1, to be evaluated side by side. Another count may give another first point.

        Raises
        ------
        ParameterError
            Shapes that do not fit together, points outside the cube, ``count`` < 1.
        """
        ...


def check_arrays(
    X: Array, y: Array, feasible: Mask, pending: Array, count: int = 1
) -> tuple[Array, Array, Mask, Array]:
    """Check shapes and ranges and return them as arrays.

    Objectives that are not finite count as infeasible.

    Raises
    ------
    ParameterError
        Shapes that do not fit together, points outside the unit cube, or no point asked for.
    """
    if count < 1:
        raise ParameterError(f"at least one point must be asked for, got count = {count}", count=count)
    X = np.asarray(X, dtype=np.float64)
    pending = np.asarray(pending, dtype=np.float64)
    if X.ndim != 2 or X.shape[1] < 1:
        raise ParameterError(f"finished points must have shape (n, d) with d >= 1, got {X.shape}; use (0, d) for none")
    if pending.ndim != 2 or pending.shape[1] != X.shape[1]:
        raise ParameterError(f"pending points must have shape (m, {X.shape[1]}), got {pending.shape}")
    y = np.asarray(y, dtype=np.float64)
    feasible = np.asarray(feasible, dtype=np.bool_)
    if y.shape != (len(X),) or feasible.shape != (len(X),):
        raise ParameterError(f"{len(X)} points need as many objectives and flags, got {y.shape} and {feasible.shape}")
    for points in (X, pending):
        if points.size and not (points.min() >= 0.0 and points.max() <= 1.0):
            raise ParameterError(f"points must lie in the unit cube, got [{points.min()}, {points.max()}]")
    return X, y, feasible & np.isfinite(y), pending


@contextmanager
def single_thread() -> Iterator[None]:
    """Hold numerical libraries to one thread and keep their warnings from the caller; one proposal at a time.

    The order of a threaded sum is not fixed, and threads of BLAS are a setting of the whole process: campaigns that
    run side by side in threads of one process therefore take turns.
    """
    from threadpoolctl import threadpool_limits

    with TURN, threadpool_limits(limits=1), warnings.catch_warnings():
        # Fits that end on a bound and deprecations inside libraries are no news to the caller.
        warnings.simplefilter("ignore")
        yield


def distances(points: Array, known: Array) -> Array:
    """Largest coordinate difference of each of ``points`` (p, d) to its nearest of ``known`` (k, d); (p,).

    Infinite where nothing is known.
    """
    if len(known) == 0:
        return np.full(len(points), np.inf)
    nearest: Array = np.abs(points[:, None, :] - known[None, :, :]).max(axis=2).min(axis=1)
    return nearest


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """Random numbers of one trial: the same for the same seed and index, unrelated for others.

    ``stream`` separates uses that must not share numbers.
    """
    return np.random.default_rng([seed, index, stream])


def make_new(x: Array, known: Array, seed: int, index: int) -> Array:
    """Return x (d,) if it is new, else the first new one of a fixed random sequence, shape (d,)."""
    rng = generator(seed, index, stream=99)
    while distances(x[None, :], known)[0] < SEPARATION:
        x = rng.random(len(x))
    return x


def make_all_new(points: Array, known: Array, seed: int, index: int) -> Array:
    """`make_new` for each of ``points`` (count, d), which count as known to those after them; (count, d)."""
    known = np.asarray(known, dtype=np.float64).reshape(-1, points.shape[1])
    for j, x in enumerate(points):
        known = np.vstack([known, make_new(x, known, seed, index + j)])
    return known[len(known) - len(points) :]
