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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError, StoreError
from dftbparam.propose.base import Proposer
from dftbparam.propose.sobol import sobol_points

Array = NDArray[np.float64]


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
        trials 0 .. k-q alone, so that it is as deterministic as the points.

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
    ) -> None:
        for name, value, least in (
            ("number of parameters", dimensions, 1),
            ("seed", seed, 0),
            ("evaluations", evaluations, 1),
            ("in_flight", in_flight, 1),
            ("n_initial", n_initial, 1),
            ("patience", 1 if patience is None else patience, 1),
        ):
            if value < least:
                raise ParameterError(f"{name} must be at least {least}, got {value}", **{"name": name, "value": value})
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
        self._design = np.vstack([starts, sobol_points(0, n_initial - len(starts), dimensions, seed)])
        self._finished: dict[int, Finished] = {}
        self._started: dict[int, tuple[float, ...]] = {}
        self._prefix = 0
        self._asked = 0

    @property
    def finished(self) -> dict[int, Finished]:
        """Trials that have ended, by index in order."""
        return {index: self._finished[index] for index in sorted(self._finished)}

    @property
    def running(self) -> dict[int, tuple[float, ...]]:
        """Points that were handed out and not told yet, by index."""
        return dict(self._started)

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
        if k >= self.evaluations or len(self._started) >= self.in_flight:
            return None
        if k < self.n_initial:
            x = self._design[k]
        else:
            known = k - self.in_flight + 1
            if self._prefix < known or self._stalled(known):
                return None
            x = self._propose(k, known)
        point = tuple(float(value) for value in x)
        self._started[k] = point
        self._asked = k + 1
        return k, point

    def ready(self) -> list[tuple[int, tuple[float, ...]]]:
        """Hand out every trial that may start now, as (index, point)."""
        trials = []
        while (trial := self.next_ready()) is not None:
            trials.append(trial)
        return trials

    def _propose(self, k: int, known: int) -> Array:
        """The point of trial k from the results of the trials below ``known`` = k - q + 1, and the points up to k."""
        past = [self._finished[i] for i in range(known)]
        X = np.array([trial.x for trial in past], dtype=np.float64).reshape(-1, self.dimensions)
        y = np.array([np.nan if trial.objective is None else trial.objective for trial in past], dtype=np.float64)
        pending = np.array([self._point(i) for i in range(max(known, 0), k)], dtype=np.float64)
        x = self.proposer.propose(X, y, np.isfinite(y), pending.reshape(-1, self.dimensions), k, self.seed)
        x = np.asarray(x, dtype=np.float64)
        if x.shape != (self.dimensions,) or not (x.min() >= 0.0 and x.max() <= 1.0):
            raise ParameterError(f"proposer {self.proposer.name!r} left the unit cube: {x.tolist()}")
        return x

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
