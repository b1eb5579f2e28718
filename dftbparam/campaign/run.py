"""Run a campaign: the loop that joins state machine, executor and store.

The trial list is a pure function of space, settings and seed, however the evaluations are timed and however often the
run is killed and resumed; `dftbparam.campaign.state` says how. Every finished trial is committed to the store before
the next one is asked for.

Proposals are computed in a thread of their own, so that results which come in meanwhile are stored at once. The state
machine takes note of them afterwards: it is never used by two threads at a time, and what it hands out does not depend
on which results it had seen a moment earlier.
"""

from __future__ import annotations

import contextlib
import logging
import math
import platform
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from importlib import metadata
from types import FrameType
from typing import Any, Final, Self

import numpy as np

import dftbparam
from dftbparam.campaign.executor import Executor, SerialExecutor
from dftbparam.campaign.result import Evaluate, Outcome
from dftbparam.campaign.state import CampaignState, Ending
from dftbparam.errors import ParameterError
from dftbparam.propose import Proposer
from dftbparam.propose import proposer as make_proposer
from dftbparam.propose.base import SEPARATION, Array, Mask, Proposal
from dftbparam.space.parameters import SearchSpace
from dftbparam.store import Run, Trial, TrialStore, differing_settings, settings_hash
from dftbparam.store.records import plain

POLL_SECONDS: Final = 0.5
"""How often the loop looks up from waiting, to see whether somebody pressed Ctrl-C."""

KEEP_SECONDS: Final = 0.05
"""How often results are looked for while a proposal is computed."""

LONGEST_VALUE: Final = 60
"""Characters of a setting that an error message spells out; of a longer one it only says that it differs."""

_LOG = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.Lock()
"""Proposers set the number of threads of numerical libraries and the warning filters, which belong to the process. Two
of them at once would undo each other's settings, and a sum in another order is another trial."""


def default_in_flight(workers: int) -> int:
    """Trials under way at once, unless something else is asked for; see docs/campaigns.md for the measurement.

    One trial more than workers would do if trials ended in order. They do not: trial k waits for the slowest of those
    below k - q. Two more keep two workers busy, and of many workers a quarter more.
    """
    return workers + max(2, workers // 4)


def default_batch(workers: int) -> int:
    """Trials proposed at once, unless something else is asked for: 1 up to 16 workers, then one for every 16 workers.

    Each proposal then keeps a sixteenth of the workers busy, and has 1/16 of an evaluation's time to be made in.
    """
    return max(1, workers // 16)


@dataclass(frozen=True)
class Progress:
    """State of a campaign, for a progress display.

    Attributes
    ----------
    done, total, failed
        Trials that have ended (failed ones among them), the budget, and those that failed.
    best
        The trial with the smallest objective so far, or None.
    latest
        The trial that has just ended; None in the first event, which tells what a resumed run starts with.
    trial_seconds
        Mean wall time of one evaluation so far; 0 where nothing has ended.
    elapsed, remaining
        Seconds since this process took the campaign up, and an estimate of what is left; None while unknown.
    proposal_seconds
        Mean time of a proposal (of ``batch`` trials) in this process; None while none has been made.
    """

    done: int
    total: int
    failed: int
    best: Trial | None
    latest: Trial | None
    trial_seconds: float
    elapsed: float
    remaining: float | None
    proposal_seconds: float | None = None


@dataclass(frozen=True)
class CampaignOutcome:
    """How a campaign ended.

    ``trials`` in order of index; ``best`` the one of the smallest objective (the earliest among equals), None where
    none succeeded; ``interrupted`` True after Ctrl-C or SIGTERM, when resuming goes on; ``run`` with its settings.
    """

    run: Run
    trials: list[Trial]
    best: Trial | None
    interrupted: bool
    seconds: float = 0.0
    evaluated: int = 0
    """Trials this process evaluated; the others came from the store."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failed trials by type of error."""
    proposals: int = 0
    """Proposals this process computed."""
    proposal_seconds: float | None = None
    """Mean time of one, None where there was none."""
    ended: Ending | None = None
    """Why there are no further trials; None after an interruption."""


def run_campaign(
    space: SearchSpace,
    evaluate: Evaluate,
    context: Any,
    *,
    store: TrialStore,
    run_id: str,
    proposer: str | Proposer = "skopt",
    seed: int = 0,
    evaluations: int = 100,
    in_flight: int | None = None,
    n_initial: int | None = None,
    starting_points: Sequence[Mapping[str, float]] = (),
    settings: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    patience: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    batch: int | None = None,
    min_improvement: float | None = None,
    stop: threading.Event | None = None,
) -> CampaignOutcome:
    """Minimise ``evaluate`` over ``space``.

    Parameters
    ----------
    evaluate, context
        See `dftbparam.campaign.result`: called as ``evaluate(parameters, context)``; both picklable, ``evaluate``
        importable by name. The context goes to each worker once.
    store, run_id
        Where trials are kept, and under which name.
    proposer
        Name in `dftbparam.propose.proposer_names`, or a proposer.
    evaluations
        Number of trials the run is to have in all; may be raised when resuming.
    in_flight
        In-flight depth q of `dftbparam.campaign.state`; default the stored one when resuming, else 1 where evaluations
        run in this process, else `default_in_flight`.
    n_initial
        Trials of the initial design, starting points included; default the stored one when resuming, else
        2 d + 2 more than there are starting points.
    starting_points
        Named values to evaluate first (published radii, say). One that repeats an earlier one is left out.
    settings
        What else decides the results (element, references, engine, weights): JSON values, compared when resuming.
    executor
        Where to evaluate; default in this process. It is started and closed here.
    resume
        Go on with the run where the store has it, else begin it. Without it, a run of this name is an error.
    patience
        End early; see `dftbparam.campaign.state.CampaignState`.
    on_progress
        Called once at the beginning and after every trial that ends, in this thread. Must be quick.
    batch
        Trials a proposal, see `dftbparam.campaign.state`; default the stored number when resuming, else
        `default_batch`.
    min_improvement
        End early; see `dftbparam.campaign.state.CampaignState`.
    stop
        Once set, the run ends as after Ctrl-C; looked at twice a second. For runs in other threads than the main one,
        which signals do not reach.

    Returns
    -------
    `CampaignOutcome`. Ctrl-C and SIGTERM end the workers and give ``interrupted=True``; nothing stored is lost.

    Raises
    ------
    ParameterError
        Numbers out of range; the run exists and ``resume`` is False; it was begun with other settings (each
        differing one is named); or it has more trials than ``evaluations``.
    StoreError
        The store is locked, or another process works on it.
    EngineError
        The scheduler is missing or was lost.
    DftbparamError
        Whatever ends a campaign by the table in `dftbparam.campaign.result`, as the evaluation raised it.
    """
    chosen = make_proposer(proposer) if isinstance(proposer, str) else proposer
    starts = _unit_starts(space, starting_points)
    place = SerialExecutor() if executor is None else executor
    with contextlib.ExitStack() as stack:
        stack.callback(place.close)
        stack.enter_context(store.exclusive(run_id))
        stored = store.load_run(run_id) if store.has_run(run_id) else None
        if stored is not None and not resume:
            raise ParameterError(
                f"{store.where} holds a run {run_id!r} already; go on with it (--resume), or choose another --out",
                run_id=run_id,
            )
        before = {} if stored is None else stored.settings.get("campaign", {})
        if in_flight is None:
            if "in_flight" in before:
                in_flight = int(before["in_flight"])
            else:
                # In this process nothing waits for a proposal, so that every one may see all results.
                in_flight = 1 if isinstance(place, SerialExecutor) else default_in_flight(place.workers)
        if batch is None:
            batch = default_batch(place.workers) if stored is None else int(before.get("batch", 1))
        if n_initial is None:
            n_initial = int(before["n_initial"]) if "n_initial" in before else len(starts) + 2 * len(space) + 2
        timed = _Timed(chosen)
        state = CampaignState(
            len(space),
            timed,
            seed=seed,
            evaluations=evaluations,
            in_flight=in_flight,
            n_initial=n_initial,
            starting_points=starts,
            patience=patience,
            batch=batch,
            min_improvement=min_improvement,
        )
        # Whatever has its default is left out of what came later, so that older runs can be resumed.
        all_settings = {
            "campaign": {
                "proposer": chosen.name,
                "proposer_version": chosen.version,
                "seed": seed,
                "in_flight": in_flight,
                "n_initial": n_initial,
                "starting_points": [list(point) for point in starts],
                **({} if batch == 1 else {"batch": batch}),
            },
            "space": {
                p.name: {"low": p.low, "high": p.high, "scale": p.scale, "unit": p.unit} for p in space.parameters
            },
            # A list beside the mapping: the order of the parameters decides what the numbers of a point mean.
            "parameters": list(space.names),
            "evaluation": dict(settings or {}),
        }
        budget: dict[str, Any] = {"evaluations": evaluations, "patience": patience}
        if min_improvement is not None:
            budget["min_improvement"] = min_improvement
        run = _begin(store, stored, run_id, all_settings, budget)
        return _Loop(space, evaluate, context, store, run, state, timed, place, on_progress, stop).run()


class _Timed:
    """A proposer whose time is taken, and of which one at a time runs in this process."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.name, self.version = proposer.name, proposer.version
        self.calls, self.seconds = 0, 0.0

    @property
    def mean(self) -> float | None:
        """Seconds a proposal; None where there was none."""
        return self.seconds / self.calls if self.calls else None

    def propose(
        self, X: Array, y: Array, feasible: Mask, pending: Array, index: int, seed: int, count: int = 1
    ) -> Proposal:
        """See `dftbparam.propose.base.Proposer`."""
        with _ONE_AT_A_TIME:
            begun = time.perf_counter()
            proposal = self.proposer.propose(X, y, feasible, pending, index, seed, count)
            self.seconds += time.perf_counter() - begun
        self.calls += 1
        return proposal


class _Loop:
    """The loop itself; one object a call, so that its parts can share what they know."""

    def __init__(
        self,
        space: SearchSpace,
        evaluate: Evaluate,
        context: Any,
        store: TrialStore,
        run: Run,
        state: CampaignState,
        timed: _Timed,
        place: Executor,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> None:
        self.space, self.evaluate, self.context = space, evaluate, context
        self.store, self.record, self.state, self.place = store, run, state, place
        self.timed, self.on_progress, self.stop = timed, on_progress, stop
        self.hash = settings_hash(run.settings)
        self.trials: dict[int, Trial] = {}
        self.points: dict[int, tuple[float, ...]] = {}
        self.best: Trial | None = None
        self.seconds, self.failures = 0.0, Counter[str]()
        self.begun = time.monotonic()
        self.evaluated = 0
        self.first_start: float | None = None

    def run(self) -> CampaignOutcome:
        for trial in self.store.trials(self.record.run_id):
            self.state.tell(trial.index, trial.x, trial.objective)
            self._count(trial)
        self._report(None)
        asker = futures.ThreadPoolExecutor(1, thread_name_prefix="proposer")
        with _Interrupt() as interrupt:
            try:
                self._loop(interrupt, asker)
            except KeyboardInterrupt:
                interrupt.requested = True
            finally:
                asker.shutdown(wait=False, cancel_futures=True)
            # Inside, so that an impatient second Ctrl-C cannot leave workers behind.
            self.place.close()
        interrupted = self._stopping(interrupt)
        return CampaignOutcome(
            run=self.record,
            trials=[self.trials[index] for index in sorted(self.trials)],
            best=self.best,
            interrupted=interrupted,
            seconds=time.monotonic() - self.begun,
            evaluated=self.evaluated,
            failures=dict(self.failures),
            proposals=self.timed.calls,
            proposal_seconds=self.timed.mean,
            ended=None if interrupted else self.state.ended,
        )

    def _stopping(self, interrupt: _Interrupt) -> bool:
        return interrupt.requested or (self.stop is not None and self.stop.is_set())

    def _loop(self, interrupt: _Interrupt, asker: futures.Executor) -> None:
        started = False
        while True:
            # Results first: a trial that has ended is stored before the next is asked for.
            self._take(self._keep(0.0))
            if self._stopping(interrupt):
                return
            asked = asker.submit(self.state.next_ready)
            meanwhile: list[Trial] = []
            while not futures.wait([asked], KEEP_SECONDS).done:
                meanwhile += self._keep(0.0)
                if self._stopping(interrupt):
                    return
            trial = asked.result()
            self._take(meanwhile)
            if trial is not None:
                if not started:
                    self.place.start(self.evaluate, self.context)
                    self.first_start = time.monotonic()
                    started = True
                index, x = trial
                self.points[index] = x
                self.place.submit(index, self.space.from_unit(x))
            elif meanwhile:
                continue
            elif self.points:
                self._take(self._keep(POLL_SECONDS))
            else:
                return

    def _keep(self, timeout: float) -> list[Trial]:
        """Store what has ended, or ends within ``timeout`` seconds."""
        if not self.points:
            return []
        return [self._finish(index, outcome) for index, outcome in self.place.collect(timeout)]

    def _take(self, trials: Iterable[Trial]) -> None:
        """Let the state machine know of trials that have been stored."""
        for trial in trials:
            self.state.tell(trial.index, trial.x, trial.objective)

    def _finish(self, index: int, outcome: Outcome) -> Trial:
        if outcome.fatal is not None:
            raise outcome.fatal
        x = self.points[index]
        result = outcome.result
        failed = outcome.error is not None or result is None or result.objective is None
        trial = Trial(
            run_id=self.record.run_id,
            index=index,
            x=x,
            parameters=self.space.from_unit(x),
            status="failed" if failed else "finished",
            objective=None if failed or result is None or result.objective is None else float(result.objective),
            # As the store gives them back, so that a resumed run holds the same records as an undisturbed one.
            metrics={} if result is None else plain(result.metrics),
            details={} if result is None else plain(result.details),
            error=plain(outcome.error),
            seconds=outcome.seconds,
            worker=outcome.worker,
            started=outcome.started,
            finished=outcome.finished,
            settings_hash=self.hash,
        )
        self.store.append(trial)
        del self.points[index]
        self._count(trial)
        self.evaluated += 1
        self._report(trial)
        return trial

    def _count(self, trial: Trial) -> None:
        self.trials[trial.index] = trial
        self.seconds += trial.seconds
        self.best = best_trial([trial] if self.best is None else [self.best, trial])
        if trial.status == "failed":
            self.failures[str((trial.error or {}).get("type", "unknown"))] += 1

    def _report(self, latest: Trial | None) -> None:
        if self.on_progress is None:
            return
        total, done = self.state.evaluations, len(self.trials)
        remaining: float | None = 0.0 if done >= total else None
        if self.evaluated and self.first_start is not None and done < total:
            remaining = (time.monotonic() - self.first_start) / self.evaluated * (total - done)
        self.on_progress(
            Progress(
                done=done,
                total=max(total, done),
                failed=self.failures.total(),
                best=self.best,
                latest=latest,
                trial_seconds=self.seconds / done if done else 0.0,
                elapsed=time.monotonic() - self.begun,
                remaining=remaining,
                proposal_seconds=self.timed.mean,
            )
        )


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the smallest objective, the earliest among equals; None where none succeeded."""
    good = [trial for trial in trials if trial.objective is not None]
    return min(good, key=lambda trial: (trial.objective, trial.index), default=None)


def _begin(store: TrialStore, stored: Run | None, run_id: str, settings: dict[str, Any], budget: dict[str, Any]) -> Run:
    """Create the run, or check that the stored one is the same and take over the new budget."""
    provenance = _provenance()
    if stored is None:
        return store.create_run(Run(run_id=run_id, settings=settings, budget=budget, provenance=provenance))
    differing = differing_settings(stored.settings, settings)
    if differing:
        # What was asked for comes before what follows from it: another element explains all the rest.
        differing.sort(key=lambda entry: entry[0].split(".")[-1] != "symbol")
        listed = "".join(f"\n  {_difference(*entry)}" for entry in differing)
        raise ParameterError(
            f"{store.where}: run {run_id!r} was begun with other settings; resume it with those, or choose another "
            f"--out:{listed}",
            run_id=run_id,
            differing=[name for name, _, _ in differing],
        )
    present, asked = len(store.trials(run_id)), budget["evaluations"]
    if asked < present:
        raise ParameterError(
            f"{store.where}: run {run_id!r} has {present} trials already, more than the {asked} asked for; give "
            f"--evaluations {present} or more, or choose another --out",
            run_id=run_id,
            present=present,
        )
    for name, old, new in differing_settings(stored.provenance, provenance):
        _LOG.warning(
            "run %r was begun with %s %s, now %s: trials may differ in the last digits", run_id, name, old, new
        )
    if stored.budget != budget:
        store.set_budget(run_id, budget)
    return store.load_run(run_id)


def _difference(name: str, old: Any, new: Any) -> str:
    """One line on a setting that differs; long values are not spelt out."""
    was, now = repr(old), repr(new)
    return f"{name} differs" if max(len(was), len(now)) > LONGEST_VALUE else f"{name}: was {was}, now {now}"


def _provenance() -> dict[str, Any]:
    """Versions that can change a trial in its last digits."""
    versions: dict[str, Any] = {"dftbparam": dftbparam.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "scikit-optimize"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    versions["machine"] = platform.machine()
    return versions


def _unit_starts(space: SearchSpace, starting_points: Sequence[Mapping[str, float]]) -> list[tuple[float, ...]]:
    """Starting points in the unit cube, each once; `ParameterError` for one that is not in the space."""
    starts: list[tuple[float, ...]] = []
    for values in starting_points:
        unknown = sorted(set(values) - set(space.names))
        if unknown:
            raise ParameterError(
                f"starting point names {', '.join(unknown)}, which the space lacks; it has: {', '.join(space.names)}"
            )
        for parameter in space.parameters:
            value = values.get(parameter.name, parameter.low)
            if not (math.isfinite(value) and parameter.low <= value <= parameter.high):
                raise ParameterError(
                    f"starting point: {parameter.name} = {value} {parameter.unit} lies outside "
                    f"[{parameter.low}, {parameter.high}]; widen the range or leave the point out",
                    name=parameter.name,
                    value=value,
                )
        x = np.clip(space.to_unit(values), 0.0, 1.0)
        if all(np.abs(x - np.array(other)).max() >= SEPARATION for other in starts):
            starts.append(tuple(float(v) for v in x))
    return starts


class _Interrupt:
    """Takes note of Ctrl-C and SIGTERM (a batch system's time limit) while a campaign runs in the main thread.

    The first one is noted only, and the loop ends at its next turn: an exception in the middle of a commit, or of a
    library that swallows it, helps nobody. The second one raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
