"""Run a campaign: the loop that joins state machine, executor and store.

The trial list is a pure function of space, settings and seed, however the evaluations are timed and however often the
run is killed and resumed; `dftbparam.campaign.state` says how. Every finished trial is committed to the store before
the next one is asked for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import platform
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import FrameType
from typing import Any, Final, Self

import numpy as np

import dftbparam
from dftbparam.campaign.executor import Executor, SerialExecutor
from dftbparam.campaign.result import Evaluate, Outcome
from dftbparam.campaign.state import CampaignState
from dftbparam.errors import ParameterError
from dftbparam.propose import Proposer
from dftbparam.propose import proposer as make_proposer
from dftbparam.propose.base import SEPARATION
from dftbparam.space.parameters import SearchSpace
from dftbparam.store import Run, Trial, TrialStore, differing_settings, settings_hash
from dftbparam.store.records import plain

POLL_SECONDS: Final = 0.5
"""How often the loop looks up from waiting, to see whether somebody pressed Ctrl-C."""

LONGEST_VALUE: Final = 60
"""Characters of a setting that an error message spells out; of a longer one it only says that it differs."""

_LOG = logging.getLogger(__name__)


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
    """

    done: int
    total: int
    failed: int
    best: Trial | None
    latest: Trial | None
    trial_seconds: float
    elapsed: float
    remaining: float | None


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
        In-flight depth q of `dftbparam.campaign.state`; default the stored one when resuming, else workers + 1.
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
            in_flight = int(before["in_flight"]) if "in_flight" in before else place.workers + 1
        if n_initial is None:
            n_initial = int(before["n_initial"]) if "n_initial" in before else len(starts) + 2 * len(space) + 2
        state = CampaignState(
            len(space),
            chosen,
            seed=seed,
            evaluations=evaluations,
            in_flight=in_flight,
            n_initial=n_initial,
            starting_points=starts,
            patience=patience,
        )
        all_settings = {
            "campaign": {
                "proposer": chosen.name,
                "proposer_version": chosen.version,
                "seed": seed,
                "in_flight": in_flight,
                "n_initial": n_initial,
                "starting_points": [list(point) for point in starts],
            },
            "space": {
                p.name: {"low": p.low, "high": p.high, "scale": p.scale, "unit": p.unit} for p in space.parameters
            },
            # A list beside the mapping: the order of the parameters decides what the numbers of a point mean.
            "parameters": list(space.names),
            "evaluation": dict(settings or {}),
        }
        run = _begin(store, stored, run_id, all_settings, {"evaluations": evaluations, "patience": patience})
        return _Loop(space, evaluate, context, store, run, state, place, on_progress).run()


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
        place: Executor,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.space, self.evaluate, self.context = space, evaluate, context
        self.store, self.record, self.state, self.place = store, run, state, place
        self.on_progress = on_progress
        self.hash = settings_hash(run.settings)
        self.trials: dict[int, Trial] = {}
        self.points: dict[int, tuple[float, ...]] = {}
        self.begun = time.monotonic()
        self.evaluated = 0
        self.first_start: float | None = None

    def run(self) -> CampaignOutcome:
        for trial in self.store.trials(self.record.run_id):
            self.state.tell(trial.index, trial.x, trial.objective)
            self.trials[trial.index] = trial
        self._report(None)
        with _Interrupt() as interrupt:
            try:
                self._loop(interrupt)
            except KeyboardInterrupt:
                interrupt.requested = True
            # Inside, so that an impatient second Ctrl-C cannot leave workers behind.
            self.place.close()
        trials = [self.trials[index] for index in sorted(self.trials)]
        failures: dict[str, int] = {}
        for trial in trials:
            if trial.error is not None:
                kind = str(trial.error["type"])
                failures[kind] = failures.get(kind, 0) + 1
        return CampaignOutcome(
            run=self.record,
            trials=trials,
            best=best_trial(trials),
            interrupted=interrupt.requested,
            seconds=time.monotonic() - self.begun,
            evaluated=self.evaluated,
            failures=failures,
        )

    def _loop(self, interrupt: _Interrupt) -> None:
        started = False
        while True:
            # Results first: a trial that has ended is stored before the next is asked for.
            for index, outcome in self.place.collect(0.0) if self.points else []:
                self._finish(index, outcome)
            if interrupt.requested:
                return
            trial = self.state.next_ready()
            if trial is not None:
                if not started:
                    self.place.start(self.evaluate, self.context)
                    self.first_start = time.monotonic()
                    started = True
                index, x = trial
                self.points[index] = x
                self.place.submit(index, self.space.from_unit(x))
            elif self.points:
                for index, outcome in self.place.collect(POLL_SECONDS):
                    self._finish(index, outcome)
            else:
                return

    def _finish(self, index: int, outcome: Outcome) -> None:
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
        self.state.tell(index, x, trial.objective)
        self.trials[index] = trial
        self.evaluated += 1
        self._report(trial)

    def _report(self, latest: Trial | None) -> None:
        if self.on_progress is None:
            return
        trials = list(self.trials.values())
        total, done = self.state.evaluations, len(trials)
        remaining: float | None = 0.0 if done >= total else None
        if self.evaluated and self.first_start is not None and done < total:
            remaining = (time.monotonic() - self.first_start) / self.evaluated * (total - done)
        self.on_progress(
            Progress(
                done=done,
                total=max(total, done),
                failed=sum(trial.status == "failed" for trial in trials),
                best=best_trial(trials),
                latest=latest,
                trial_seconds=sum(trial.seconds for trial in trials) / done if done else 0.0,
                elapsed=time.monotonic() - self.begun,
                remaining=remaining,
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
