"""The ask/tell state machine of a campaign: no cluster, no clock, no file in it.

Determinism under asynchrony
----------------------------
Trials run side by side and end in any order, workers die, drivers are killed. Were the next point chosen from "what is
known by now", every run would be its own. Here trial k is a *pure function* of

- the settings and the seed,
- the results of the trials 0 .. k-q, in order of index,
- the points (not the results) of the trials k-q+1 .. k-1, which count as pending *even if they have ended*,

where q, the in-flight depth, is part of the settings. Trial k is asked for as soon as the trials 0 .. k-q have ended,
whatever the others do. So the list (index, point, result) does not depend on timing, and a run that was killed at any
moment and resumed gives the list of an undisturbed run bit for bit: the same floating-point operations on the same
numbers (same versions of the libraries and the same kind of machine provided).

The price is that a proposal ignores up to q-1 results, and that a trial q-1 places ahead waits for the slowest one.
q = workers + 1 keeps a trial in every worker's reach while a proposal is computed.

The first ``n_initial`` trials need no results: the starting points in order, then a scrambled Sobol sequence.

Blocks
------
A model costs more than a point of it, and a cluster eats points faster than models can be fitted. So the trials after
the initial design may be proposed in blocks of ``batch`` consecutive indices, all from one call of the proposer: a
block that begins at trial s (s = n_initial, n_initial + batch, ...) sees the results of the trials 0 .. s-q, and the
trials s-q+1 .. s-1 as pending. Up to q-1+batch trials are then in flight. A block is always asked for whole, also where
the budget ends inside it, so that a bigger budget extends the list. With batch = 1 this is the rule above.

No improvement left
-------------------
With ``min_improvement``, a run ends before a block whose expected improvement, and that of the `LOW_PROPOSALS` - 1
blocks before it, lie below this number (in units of the objective). These are results of pure functions too: a resumed
run asks for them again where it needs them, and ends at the same trial.

Discrete parameters
-------------------
A point that was designed or proposed for trial k goes through ``place`` (`dftbparam.space.SearchSpace.place`) together
with the points of the trials 0 .. k-1: moved to what discrete parameters can take, and to another point where that one
is taken. A run whose space has no free point left ends. Both depend on the points of earlier trials alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError, StoreError
from dftbparam.propose.base import Proposal, Proposer
from dftbparam.propose.sobol import sobol_points

Array = NDArray[np.float64]

LOW_PROPOSALS: Final = 3
"""Blocks in a row that must promise less than ``min_improvement``: one alone may be a bad fit of the lengths."""

Place = Callable[[Array, Array], Array | None]
"""Of a point (d,) and all earlier ones (k, d) makes the point to evaluate, or None where there is no other left."""

Ending = Literal["evaluations", "patience", "improvement", "space"]
"""Why a run has no further trial: budget used, no better objective for long, no improvement expected, no point left."""


@dataclass(frozen=True)
class Finished:
    """A trial that has ended: its point (d,), and its objective, None where it failed."""

    x: tuple[float, ...]
    objective: float | None


class CampaignState:
    """Decides which trials exist and which may start now.

    Parameters
    ----------
    dimensions
        d, the number of parameters.
    proposer
        Chooses the points after the initial design.
    seed
        Seed of the run, >= 0.
    evaluations
        Number of trials the run is to have.
    in_flight
        q, at least 1 (see the module).
    n_initial
        Trials of the initial design; at least as many as there are starting points.
    starting_points
        (m, d), unit cube; evaluated first.
    patience
        End earlier, once this many trials in a row (by index) brought no better objective. The rule looks at the
        trials a block may see alone, so that it is as deterministic as the points.
    batch
        Trials a block, at least 1 (see the module).
    min_improvement
        End earlier, once the proposer expects less than this, in units of the objective, > 0 (see the module). Without
        effect where a proposer cannot say what it expects.
    place
        Where a point is evaluated instead (see the module); None: where it is.

    Raises
    ------
    ParameterError
        A number out of its range.
    """

    def __init__(
        self,
        dimensions: int,
        proposer: Proposer,
        *,
        seed: int,
        evaluations: int,
        in_flight: int,
        n_initial: int,
        starting_points: Sequence[Sequence[float]] | Array = (),
        patience: int | None = None,
        batch: int = 1,
        min_improvement: float | None = None,
        place: Place | None = None,
    ) -> None:
        for name, value, least in (
            ("number of parameters", dimensions, 1),
            ("seed", seed, 0),
            ("evaluations", evaluations, 1),
            ("in_flight", in_flight, 1),
            ("n_initial", n_initial, 1),
            ("patience", 1 if patience is None else patience, 1),
            ("batch", batch, 1),
        ):
            if value < least:
                raise ParameterError(f"{name} must be at least {least}, got {value}", **{"name": name, "value": value})
        if min_improvement is not None and not (np.isfinite(min_improvement) and min_improvement > 0.0):
            raise ParameterError(f"min_improvement must be above 0, got {min_improvement}", value=min_improvement)
        starts = np.asarray(starting_points, dtype=np.float64).reshape(-1, dimensions)
        if starts.size and not (starts.min() >= 0.0 and starts.max() <= 1.0):
            raise ParameterError(f"starting points must lie in the unit cube, got {starts.tolist()}")
        if n_initial < len(starts):
            raise ParameterError(f"n_initial must hold the {len(starts)} starting points, got {n_initial}")
        self.dimensions = dimensions
        self.proposer = proposer
        self.seed = seed
        self.evaluations = evaluations
        self.in_flight = in_flight
        self.n_initial = n_initial
        self.patience = patience
        self.batch = batch
        self.min_improvement = min_improvement
        self.place = place
        self._design = np.vstack([starts, sobol_points(0, n_initial - len(starts), dimensions, seed)])
        self._finished: dict[int, Finished] = {}
        self._started: dict[int, tuple[float, ...]] = {}
        self._blocks: dict[int, Proposal] = {}
        self._improvement: float | None = None
        self._prefix = 0
        self._asked = 0
        self._ended: Ending | None = None

    @property
    def finished(self) -> dict[int, Finished]:
        """Trials that have ended, by index in order."""
        return {index: self._finished[index] for index in sorted(self._finished)}

    @property
    def running(self) -> dict[int, tuple[float, ...]]:
        """Points that were handed out and not told yet, by index."""
        return dict(self._started)

    @property
    def most_in_flight(self) -> int:
        """Trials that may be in flight at once, q - 1 + batch."""
        return self.in_flight - 1 + self.batch

    @property
    def improvement(self) -> float | None:
        """Expected improvement of the latest block asked for, in units of the objective; None while unknown."""
        return self._improvement

    @property
    def ended(self) -> Ending | None:
        """Why `next_ready` will hand out no further trial; None while it may, or waits for results."""
        return self._ended

    def tell(self, index: int, x: Sequence[float], objective: float | None) -> None:
        """Take a trial that has ended, of this run or from the store.

        Raises
        ------
        StoreError
            The trial was told before, or differs in its point from the one handed out.
        """
        point = tuple(float(value) for value in x)
        if index < 0 or index in self._finished:
            raise StoreError(f"trial {index} has ended already; a result is never replaced", index=index)
        if len(point) != self.dimensions:
            raise StoreError(f"trial {index} has {len(point)} parameters, the space {self.dimensions}", index=index)
        if self._started.pop(index, point) != point:
            raise StoreError(f"trial {index} came back for another point than it was sent out with", index=index)
        self._finished[index] = Finished(point, objective)
        while self._prefix in self._finished:
            self._prefix += 1

    def next_ready(self) -> tuple[int, tuple[float, ...]] | None:
        """Hand out the next trial that may start now, or None: wait for a result, or the run is at its end.

        Trials that a killed run left open come first, in order of index.
        """
        while self._asked in self._finished:
            self._asked += 1
        k = self._asked
        if k >= self.evaluations:
            self._ended = "evaluations"
        if self._ended is not None or len(self._started) >= self.most_in_flight:
            return None
        if k < self.n_initial:
            x = self._design[k]
        else:
            start = k - (k - self.n_initial) % self.batch
            known = start - self.in_flight + 1
            if self._prefix < known:
                return None
            if self._stalled(known):
                self._ended = "patience"
            elif self._exhausted(start):
                self._ended = "improvement"
            if self._ended is not None:
                return None
            x = self._block(start).points[k - start]
        x = self._placed(k, x)
        if x is None:
            self._ended = "space"
            return None
        point = tuple(float(value) for value in x)
        self._started[k] = point
        self._asked = k + 1
        return k, point

    def next_block(self) -> list[tuple[int, tuple[float, ...]]]:
        """Hand out the next trials that may start now and need no more than one proposal, as (index, point)."""
        trials = []
        while (trial := self.next_ready()) is not None:
            trials.append(trial)
            later = self._asked - self.n_initial
            if later >= 0 and later % self.batch == 0:
                break
        return trials

    def ready(self) -> list[tuple[int, tuple[float, ...]]]:
        """Hand out every trial that may start now, as (index, point)."""
        trials = []
        while (trial := self.next_ready()) is not None:
            trials.append(trial)
        return trials

    def _block(self, start: int) -> Proposal:
        """The block that begins at trial ``start``; asked of the proposer once, and kept while it may be needed."""
        if start not in self._blocks:
            oldest = start - LOW_PROPOSALS * self.batch
            self._blocks = {s: block for s, block in self._blocks.items() if s > oldest}
            self._blocks[start] = self._propose(start)
        return self._blocks[start]

    def _propose(self, start: int) -> Proposal:
        """Points of the trials from ``start``: from the results of 0 .. start - q, and the points up to ``start``."""
        known = max(start - self.in_flight + 1, 0)
        past = [self._finished[i] for i in range(known)]
        X = np.array([trial.x for trial in past], dtype=np.float64).reshape(-1, self.dimensions)
        y = np.array([np.nan if trial.objective is None else trial.objective for trial in past], dtype=np.float64)
        pending = np.array([self._point(i) for i in range(known, start)], dtype=np.float64)
        proposal = self.proposer.propose(
            X, y, np.isfinite(y), pending.reshape(-1, self.dimensions), start, self.seed, self.batch
        )
        points = np.asarray(proposal.points, dtype=np.float64)
        if points.shape != (self.batch, self.dimensions):
            raise ParameterError(
                f"proposer {self.proposer.name!r} was asked for {self.batch} points of {self.dimensions} parameters, "
                f"and gave an array of shape {points.shape}"
            )
        if not (points.min() >= 0.0 and points.max() <= 1.0):
            raise ParameterError(f"proposer {self.proposer.name!r} left the unit cube: {points.tolist()}")
        return Proposal(points, proposal.improvement)

    def _exhausted(self, start: int) -> bool:
        """Whether the block at ``start`` and those before it promise less than ``min_improvement``."""
        self._improvement = self._block(start).improvement
        if self.min_improvement is None:
            return False
        for begin in range(start, start - LOW_PROPOSALS * self.batch, -self.batch):
            expected = self._block(begin).improvement if begin >= self.n_initial else None
            if expected is None or expected >= self.min_improvement:
                return False
        return True

    def _placed(self, k: int, x: Array) -> Array | None:
        """Where trial k is evaluated whose design or proposal is x; None where no point is left."""
        if self.place is None:
            return x
        return self.place(x, np.array([self._point(i) for i in range(k)], dtype=np.float64).reshape(-1, len(x)))

    def _point(self, index: int) -> tuple[float, ...]:
        return self._finished[index].x if index in self._finished else self._started[index]

    def _stalled(self, known: int) -> bool:
        """Whether the trials below ``known`` have run out of patience; never before one has succeeded."""
        if self.patience is None:
            return False
        best, at = np.inf, None
        for index in range(known):
            objective = self._finished[index].objective
            if objective is not None and objective < best:
                best, at = objective, index
        return at is not None and known - 1 - at >= self.patience
