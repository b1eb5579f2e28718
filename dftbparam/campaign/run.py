"""Run a campaign: `run_campaign` joins state machine, executor and store.

The trial list is a pure function of space, settings and seed, however the evaluations are timed and however often the
run is killed and resumed; `dftbparam.campaign.state` says how. Every finished trial is committed to the store before
the next one is asked for.

The loop itself is `dftbparam.campaign.loop`; here settings are settled, and compared with those of a stored run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import numpy as np

import dftbparam
from dftbparam.campaign.executor import Executor, SerialExecutor
from dftbparam.campaign.loop import CampaignOutcome, Loop, Progress, TimedProposer, best_trial
from dftbparam.campaign.result import Evaluate
from dftbparam.campaign.state import CampaignState
from dftbparam.errors import DftbparamError, ParameterError, StoreError
from dftbparam.propose import Proposer
from dftbparam.propose import proposer as make_proposer
from dftbparam.propose.base import SEPARATION
from dftbparam.space.parameters import SearchSpace
from dftbparam.store import Run, TrialStore, differing_settings

__all__ = [
    "CampaignOutcome",
    "Progress",
    "best_trial",
    "default_batch",
    "default_in_flight",
    "provenance_of_trials",
    "run_campaign",
]

LONGEST_VALUE: Final = 60
"""Characters of a setting that an error message spells out; of a longer one it only says that it differs."""

_LOG = logging.getLogger(__name__)

MANY_WORKERS: Final = 32
"""From here on proposals are made in larger blocks."""


def default_in_flight(workers: int) -> int:
    """Trials under way at once, unless something else is asked for: two a worker.

    One more than workers would do if trials ended in order. They do not: trial k waits for the slowest of those up to
    k - q. Where times of evaluations differ by 30 %, two workers are busy for 98 % of the time with q = 3, and for
    99.9 % with q = 4; sixteen for 75 % with q = 17, 84 % with q = 20, and 99 % with q = 32 (benchmarks/in_flight.py).
    """
    return 2 * workers


def default_batch(workers: int) -> int:
    """Trials proposed at once, unless something else is asked for: one for every four workers, from 32 on every two.

    The proposer keeps up where a proposal takes a quarter of an evaluation's time, with many workers half of it, or
    less; a block of 128 takes little longer than one of 16, and keeps 256 workers busy that need a second an evaluation
    (benchmarks/utilisation.py). A search with that many workers has about twice as many results outstanding at each
    proposal anyway, so that blocks cost it little.
    """
    return workers // 2 if workers >= MANY_WORKERS else max(1, workers // 4)


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
    held: bool = False,
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
        Go on with the run where the store has it, else begin it. Without it, a run of this name that has trials is an
        error.
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
    held
        Whether the caller holds `TrialStore.exclusive` of the run already, and says how it stands
        (`TrialStore.set_state`); both are done here otherwise.

    Returns
    -------
    `CampaignOutcome`. Ctrl-C and SIGTERM end the workers and give ``interrupted=True``; nothing stored is lost.

    Raises
    ------
    ParameterError
        Numbers out of range; the run has trials and ``resume`` is False; it was begun with other settings (each
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
        if not held:
            stack.enter_context(store.exclusive(run_id))
        stored = store.load_run(run_id) if store.has_run(run_id) else None
        # One that has no trial yet, because its workers never came, is begun again like a new one.
        if stored is not None and not resume and _present(store, run_id):
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
        timed = TimedProposer(chosen)
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
            place=space.place if space.discrete else None,
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
            "space": space.settings(),
            # A list beside the mapping: the order of the parameters decides what the numbers of a point mean.
            "parameters": list(space.names),
            "evaluation": dict(settings or {}),
        }
        budget: dict[str, Any] = {"evaluations": evaluations, "patience": patience}
        if min_improvement is not None:
            budget["min_improvement"] = min_improvement
        run = _begin(store, stored, run_id, all_settings, budget)
        if held:
            return Loop(space, evaluate, context, store, run, state, timed, place, on_progress, stop).run()
        me = f"{socket.gethostname()}:{os.getpid()}"
        store.set_state(run_id, "running", "", me)
        try:
            outcome = Loop(space, evaluate, context, store, run, state, timed, place, on_progress, stop).run()
        except DftbparamError as error:
            if not isinstance(error, StoreError):
                store.set_state(run_id, "failed", error.message, me)
            raise
        store.set_state(run_id, "interrupted" if outcome.interrupted else "finished", outcome.why, me)
        return outcome


def _begin(store: TrialStore, stored: Run | None, run_id: str, settings: dict[str, Any], budget: dict[str, Any]) -> Run:
    """Create the run, or check that the stored one is the same and take over the new budget."""
    provenance = provenance_of_trials()
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
    present, asked = _present(store, run_id), budget["evaluations"]
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


def _present(store: TrialStore, run_id: str) -> int:
    """Number of trials of a run, from the store's totals."""
    return sum(one.finished + one.failed for one in store.overview(run_id) if one.run_id == run_id)


def _difference(name: str, old: Any, new: Any) -> str:
    """One line on a setting that differs; long values are not spelt out."""
    was, now = repr(old), repr(new)
    return f"{name} differs" if max(len(was), len(now)) > LONGEST_VALUE else f"{name}: was {was}, now {now}"


def provenance_of_trials() -> dict[str, Any]:
    """Versions that can change a trial in its last digits."""
    versions: dict[str, Any] = {"dftbparam": dftbparam.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "scikit-optimize", "cmaes", "torch", "botorch", "gpytorch"):
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
            if parameter.name not in values:
                continue
            try:
                parameter.check(values[parameter.name])
            except ParameterError as error:
                raise ParameterError(f"starting point: {error.message}", **error.data) from None
        x = np.clip(space.to_unit(values), 0.0, 1.0)
        if all(np.abs(x - np.array(other)).max() >= SEPARATION for other in starts):
            starts.append(tuple(float(v) for v in x))
    return starts
