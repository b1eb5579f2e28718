"""The loop of a campaign: ask the state machine, submit to the executor, store what ends, again.

Every finished trial is committed to the store before the next one is asked for. Proposals are computed in a thread of
their own, so that results which come in meanwhile are stored at once. The state machine takes note of them afterwards:
it is never used by two threads at a time, and what it hands out does not depend on what it had seen a moment earlier.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Self

from dftbparam.campaign.executor import Executor
from dftbparam.campaign.result import Evaluate, Outcome
from dftbparam.campaign.state import CampaignState, Ending
from dftbparam.propose import Proposer
from dftbparam.propose.base import TURN, Array, Mask, Proposal
from dftbparam.space.parameters import SearchSpace
from dftbparam.store import Run, Trial, TrialStore, settings_hash
from dftbparam.store.records import plain

POLL_SECONDS: Final = 0.5
"""How often the loop looks up from waiting, to see whether somebody pressed Ctrl-C."""

KEEP_SECONDS: Final = 0.05
"""How often results are looked for while a proposal is computed."""

EARLY: Final = {
    "patience": "no better trial for long",
    "improvement": "no improvement expected",
    "space": "no point is left",
}
"""What to say of runs that ended before their budget."""


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

    @property
    def why(self) -> str:
        """Why it ended before its budget; empty where it did not."""
        return EARLY.get(str(self.ended), "")


class TimedProposer:
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
        # The time of waiting for one's turn is not that of a proposal.
        with TURN:
            begun = time.perf_counter()
            proposal = self.proposer.propose(X, y, feasible, pending, index, seed, count)
            self.seconds += time.perf_counter() - begun
        self.calls += 1
        return proposal


class Loop:
    """The loop itself; one object a run, so that its parts can share what they know. Closes its executor."""

    def __init__(
        self,
        space: SearchSpace,
        evaluate: Evaluate,
        context: Any,
        store: TrialStore,
        run: Run,
        state: CampaignState,
        timed: TimedProposer,
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
        """Go on from what is stored to the end, or to an interruption."""
        for trial in self.store.trials(self.record.run_id):
            self.state.tell(trial.index, trial.x, trial.objective)
            self._count(trial)
        self._report(None)
        asker = futures.ThreadPoolExecutor(1, thread_name_prefix="proposer")
        with Interrupt() as interrupt:
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

    def _stopping(self, interrupt: Interrupt) -> bool:
        return interrupt.requested or (self.stop is not None and self.stop.is_set())

    def _loop(self, interrupt: Interrupt, asker: futures.Executor) -> None:
        started = False
        while True:
            # Results first: a trial that has ended is stored before the next is asked for.
            self._take(self._keep(0.0))
            if self._stopping(interrupt):
                return
            # A block at a time: each change of threads costs as much as storing a trial.
            asked = asker.submit(self.state.next_block)
            meanwhile: list[Trial] = []
            while not futures.wait([asked], KEEP_SECONDS).done:
                meanwhile += self._keep(0.0)
                if self._stopping(interrupt):
                    return
            trials = asked.result()
            self._take(meanwhile)
            if trials and not started:
                self.place.start(self.evaluate, self.context)
                self.first_start = time.monotonic()
                started = True
            for index, x in trials:
                self.points[index] = x
                self.place.submit(index, self.space.from_unit(x))
            if trials or meanwhile:
                continue
            if not self.points:
                return
            self._take(self._keep(POLL_SECONDS))

    def _keep(self, timeout: float) -> list[Trial]:
        """Store what has ended, or ends within ``timeout`` seconds."""
        if not self.points:
            return []
        ended = self.place.collect(timeout)
        trials = [self._trial(index, outcome) for index, outcome in ended if outcome.fatal is None]
        self.store.append_all(trials)
        for trial in trials:
            del self.points[trial.index]
            self._count(trial)
            self.evaluated += 1
            self._report(trial)
        for _, outcome in ended:
            if outcome.fatal is not None:
                raise outcome.fatal
        return trials

    def _take(self, trials: Iterable[Trial]) -> None:
        """Let the state machine know of trials that have been stored."""
        for trial in trials:
            self.state.tell(trial.index, trial.x, trial.objective)

    def _trial(self, index: int, outcome: Outcome) -> Trial:
        x = self.points[index]
        result = outcome.result
        failed = outcome.error is not None or result is None or result.objective is None
        return Trial(
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


class Interrupt:
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
