"""How campaigns stand, from the store alone: no file, no driver and no worker is asked.

It costs one row a run, and of runs that go on the times of their last trials: whatever the number of trials is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dftbparam.store import RunOverview, TrialStore

RECENT: Final = 50
"""Trials whose times give the rate: enough to even out, few enough to follow a change in the number of workers."""

PAUSE: Final = 60.0
PAUSE_TRIALS: Final = 5.0
"""Seconds, and evaluations' mean times, without any trial that make a pause, when nobody worked on the run."""

GONE: Final = "its driver is gone; trials are kept"

WRITING: Final = "writing the result"
"""Message of a run whose search is over."""

State = Literal["waiting", "running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class RunStatus:
    """How one run stands.

    Attributes
    ----------
    campaign, name
        Run ``CAMPAIGN/NAME``; of a run that belongs to no campaign ``campaign`` is empty.
    state
        ``interrupted`` where nobody works on it and it has neither ended nor failed, also where its driver has died.
    message
        Why it failed, what it waits for, why it ended early.
    done, failed, evaluations
        Trials that have ended, failed ones among them, and the budget; None where it is not known.
    best_objective, best_trial
        None where no trial succeeded.
    trial_seconds
        Mean time of an evaluation; None where there was none.
    seconds
        Time of all evaluations together: what the search has cost, on one core each.
    per_minute, seconds_left
        Trials a minute of late, and what remains at that rate, of runs that go on; None where it cannot be told.
    driver, updated
        Who said so last (host and process), and when.
    """

    campaign: str
    name: str
    state: State
    message: str
    done: int
    failed: int
    evaluations: int | None
    best_objective: float | None
    best_trial: int | None
    trial_seconds: float | None
    seconds: float
    per_minute: float | None
    seconds_left: float | None
    driver: str
    updated: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run_statuses(store: TrialStore, campaign: str | None = None, now: datetime | None = None) -> list[RunStatus]:
    """Return how the runs of a campaign, or all runs of a store, stand; sorted by name.

    Raises
    ------
    StoreError
        The store cannot be used.
    """
    found = store.overview("" if campaign is None else f"{campaign}/")
    # The record of a campaign is a run of its name, without trials; its state says where Dask's dashboard is.
    campaigns = {one.run_id.rpartition("/")[0] for one in found}
    moment = datetime.now(UTC) if now is None else now
    return [_status(store, one, moment) for one in found if one.run_id not in campaigns]


def totals(statuses: Sequence[RunStatus]) -> dict[str, Any]:
    """Numbers of all runs: elements by state, trials, time, rate, seconds left (of the slowest that goes on)."""
    states = [one.state for one in statuses]
    rates = [one.per_minute for one in statuses if one.per_minute is not None]
    left = [one.seconds_left for one in statuses if one.seconds_left is not None]
    return {
        "elements": {state: states.count(state) for state in dict.fromkeys(states)},
        "done": sum(one.done for one in statuses),
        "failed": sum(one.failed for one in statuses),
        "seconds": sum(one.seconds for one in statuses),
        "per_minute": sum(rates) if rates else None,
        "seconds_left": max(left) if left else None,
    }


def _status(store: TrialStore, known: RunOverview, now: datetime) -> RunStatus:
    campaign, _, name = known.run_id.rpartition("/")
    done = known.finished + known.failed
    state, message = _state(known, done)
    goes_on = state == "running" and message != WRITING
    rate = _per_minute(store.latest_times(known.run_id, RECENT), now) if goes_on and done else None
    remaining = None if known.evaluations is None else max(known.evaluations - done, 0)
    return RunStatus(
        campaign=campaign,
        name=name,
        state=state,
        message=message,
        done=done,
        failed=known.failed,
        evaluations=known.evaluations,
        best_objective=known.best_objective,
        best_trial=known.best_index,
        trial_seconds=known.seconds / done if done else None,
        seconds=known.seconds,
        per_minute=rate,
        seconds_left=None if rate is None or remaining is None else 60.0 * remaining / rate,
        driver=known.driver,
        updated=known.updated,
    )


def _state(known: RunOverview, done: int) -> tuple[State, str]:
    """What is said of a run, put right by whether anybody holds it."""
    if known.held and known.state in ("running", "waiting", "interrupted", "failed", ""):
        # Who takes a run up again says so a moment later.
        return "running", known.message if known.state == "running" else ""
    if known.state == "":
        # Runs of `dftbparam fit`, which say nothing of themselves.
        complete = known.evaluations is not None and done >= known.evaluations
        return ("finished", "") if complete else ("interrupted", "")
    if known.state == "running" and known.held is False:
        return "interrupted", GONE
    states: dict[str, State] = {
        "waiting": "waiting",
        "running": "running",
        "finished": "finished",
        "failed": "failed",
        "interrupted": "interrupted",
    }
    return states[known.state], known.message


def _per_minute(times: list[tuple[str, str]], now: datetime) -> float | None:
    """Trials a minute: of those stored last, from the first one's beginning until now; none from before a pause."""
    moments = sorted((a, b) for started, finished in times if (a := _parsed(started)) and (b := _parsed(finished)))
    if not moments:
        return None
    mean = sum((b - a).total_seconds() for a, b in moments) / len(moments)
    first, busy_until = 0, moments[0][1]
    for i, (begun, ended) in enumerate(moments):
        if (begun - busy_until).total_seconds() > max(PAUSE, PAUSE_TRIALS * mean):
            first = i
        busy_until = max(busy_until, ended)
    seconds = (now - moments[first][0]).total_seconds()
    return 60.0 * (len(moments) - first) / seconds if seconds > 0.0 else None


def _parsed(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
