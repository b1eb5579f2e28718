"""Drive a campaign: many elements at once, on the workers of one pool, with one store.

Every element that may run has a thread: it takes the run's lock, searches, and has the result written in a process of
its own. The main thread starts them as their turn comes, takes signals, and shows events. A failure ends its element
and those that need it; only a lost pool or store ends the campaign.

Several drivers
---------------
Drivers of one campaign share the store and the folder of the results, nothing else. Whoever holds the lock of an
element works on it. The others go on with what is free, and look now and then at what the store says: an element that
has been finished by another driver is done, one whose driver died is free again.

An element is done when its run has all its trials and its folder is complete. Nothing else is remembered, so that a
driver may be killed at any moment: the next one finds all trials, and writes what is not there.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from dftbparam.campaign.child import run_in_child
from dftbparam.campaign.executor import Executor, Pool
from dftbparam.campaign.loop import CampaignOutcome, Interrupt, Progress
from dftbparam.campaign.status import WRITING, State
from dftbparam.errors import CalculationError, DftbparamError, EngineError, StoreError
from dftbparam.store import RunOverview, TrialStore

POLL_SECONDS: Final = 0.2
"""How often the main thread looks up, to see whether somebody pressed Ctrl-C."""

ELSEWHERE_SECONDS: Final = 2.0
"""How often the store is asked how elements stand that other drivers work on."""

LEAST_SHARE: Final = 4
"""Workers an element counts on at least, if there are so many: when the others are done it has them for itself."""

_LOG = logging.getLogger(__name__)


class Job(Protocol):
    """One element of a campaign, as the driver sees it.

    Attributes
    ----------
    symbol, run_id
        Its name, and that of its run in the store.
    needs, replaceable
        Elements to be done before, and those among them that it can do without should they fail.
    share
        Weight when the workers are shared.
    """

    symbol: str
    run_id: str
    needs: tuple[str, ...]
    replaceable: frozenset[str]
    share: float

    def search(
        self,
        store: TrialStore,
        executor: Executor,
        workers: int,
        done: Collection[str],
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> CampaignOutcome:
        """Search, or go on with it, as `dftbparam.campaign.run.run_campaign` does; the driver holds the run's lock.

        Called in a thread. ``workers`` is the element's part of the workers, for defaults of a new run; ``done`` are
        the elements of ``needs`` that have a result.
        """
        ...

    def is_published(self, trials: int) -> bool:
        """Whether the result of a search of so many trials is written completely."""
        ...

    def publication(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """What to call, and with what, to write the result: in another process, both picklable."""
        ...


@dataclass(frozen=True)
class ElementResult:
    """How an element stands: at the end, or at an event.

    Attributes
    ----------
    message
        Why it failed, or what it waits for.
    trials, evaluated
        Trials of its run, and those among them that this driver evaluated.
    elsewhere
        Whether another driver has it, or had it.
    proposal_seconds
        Mean time of a proposal in this driver; None where there was none.
    """

    symbol: str
    state: State = "waiting"
    message: str = ""
    trials: int = 0
    evaluated: int = 0
    best_objective: float | None = None
    elsewhere: bool = False
    proposals: int = 0
    proposal_seconds: float | None = None


@dataclass(frozen=True)
class Event:
    """Something to show: a new state of an element, or progress of its search."""

    result: ElementResult
    progress: Progress | None = None


@dataclass(frozen=True)
class CampaignResult:
    """How a campaign ended: its elements by symbol, and whether Ctrl-C or SIGTERM ended it."""

    elements: dict[str, ElementResult] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def failed(self) -> list[ElementResult]:
        """Elements that failed."""
        return [one for one in self.elements.values() if one.state == "failed"]


def drive(
    jobs: Sequence[Job],
    store: TrialStore,
    pool: Pool,
    *,
    at_once: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> CampaignResult:
    """Run all jobs that can be run, each after those it needs.

    Parameters
    ----------
    jobs
        In an order in which each comes after those it needs.
    at_once
        Elements at the same time; default as many as there are workers, at least two. Those that another driver works
        on do not count.
    on_event
        Called in this thread. Must be quick.

    Raises
    ------
    EngineError
        The workers are missing, or were lost for good. Every finished trial is stored.
    StoreError
        The store cannot be used any more.
    """
    return _Driver(jobs, store, pool, at_once, on_event).run()


class _Driver:
    """One call of `drive`. All but `_work` and what it calls runs in the main thread."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: TrialStore,
        pool: Pool,
        at_once: int | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self.jobs = {job.symbol: job for job in jobs}
        self.store, self.pool, self.on_event = store, pool, on_event
        self.results = {symbol: ElementResult(symbol) for symbol in self.jobs}
        self.before = self._overviews()
        self.threads: dict[str, threading.Thread] = {}
        self.events: queue.SimpleQueue[Event | DftbparamError] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.lost: DftbparamError | None = None
        self.asked = 0.0
        self.me = f"{socket.gethostname()}:{os.getpid()}"
        # Report cards take a core each, beside the workers.
        self.writers = threading.BoundedSemaphore(max(1, min(4, (os.cpu_count() or 1) // 2)))
        # Nobody is asked how many workers there are where nothing is left to be evaluated.
        open_ = any(self._known(symbol).state != "finished" for symbol in self.jobs)
        self.workers = pool.workers if open_ else 1
        self.at_once = max(2, self.workers) if at_once is None else at_once
        together = max(1, min(self.at_once, len(self.jobs)))
        self.part = max(math.ceil(self.workers / together), min(self.workers, LEAST_SHARE))

    def run(self) -> CampaignResult:
        with Interrupt() as interrupt:
            try:
                self._say_waiting()
                while self._open() and not self.stop.is_set():
                    self._start_ready()
                    self._ask_elsewhere()
                    self._wait(interrupt)
                while any(thread.is_alive() for thread in self.threads.values()):
                    self._wait(interrupt)
            except KeyboardInterrupt:
                # The second Ctrl-C: threads end with the process, and their runs are free then.
                interrupt.requested = True
                self.stop.set()
            self._drain()
        if self.lost is not None:
            raise self.lost
        if interrupt.requested:
            self._say_not_begun()
        return CampaignResult(self.results, interrupted=interrupt.requested)

    # --- what to do next ------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        return any(one.state in ("waiting", "running") for one in self.results.values())

    def _start_ready(self) -> None:
        """Start what may run, in order, and give up what can never run."""
        for symbol, job in self.jobs.items():
            mine = [one for one in self.results.values() if one.state == "running" and not one.elsewhere]
            if self.results[symbol].state != "waiting":
                continue
            needed = {name: self.results[name] for name in job.needs}
            failed = [one for one in needed.values() if one.state == "failed" and one.symbol not in job.replaceable]
            if failed:
                why = "; ".join(f"{one.symbol} failed: {one.message}" for one in failed)
                self._tell(replace(self.results[symbol], state="failed", message=why))
                self._say(job, "failed", why)
            elif len(mine) < self.at_once and all(one.state in ("finished", "failed") for one in needed.values()):
                self._tell(replace(self.results[symbol], state="running", message=""))
                self.threads[symbol] = threading.Thread(
                    target=self._work, args=(job,), name=f"dftbparam {symbol}", daemon=True
                )
                self.threads[symbol].start()

    def _ask_elsewhere(self) -> None:
        """Look how elements stand that other drivers hold."""
        if time.monotonic() < self.asked + ELSEWHERE_SECONDS:
            return
        away = [one for one in self.results.values() if one.elsewhere and one.state == "running"]
        if not away:
            return
        self.asked = time.monotonic()
        now = self._overviews()
        for one in away:
            found = now.get(self.jobs[one.symbol].run_id)
            if found is not None and not found.held:
                # Ended, or its driver is gone; whoever takes the lock next sees which.
                self._tell(replace(one, state="waiting", elsewhere=False))

    def _wait(self, interrupt: Interrupt) -> None:
        """Wait for an event, and look whether somebody wants to stop."""
        try:
            self._show(self.events.get(timeout=POLL_SECONDS))
        except queue.Empty:
            pass
        self._drain()
        if interrupt.requested or self.lost is not None:
            self.stop.set()

    def _drain(self) -> None:
        while True:
            try:
                self._show(self.events.get_nowait())
            except queue.Empty:
                return

    def _show(self, event: Event | DftbparamError) -> None:
        if isinstance(event, DftbparamError):
            self.lost = self.lost or event
            return
        if event.progress is None:
            self.results[event.result.symbol] = event.result
        if self.on_event is not None:
            self.on_event(event)

    def _tell(self, result: ElementResult) -> None:
        self._show(Event(result))

    # --- the store ------------------------------------------------------------------------------------------------

    def _overviews(self) -> dict[str, RunOverview]:
        """What the store knows of our runs."""
        names = {job.run_id for job in self.jobs.values()}
        if not names:
            return {}
        first, last = min(names), max(names)
        same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        prefix = first[:same]
        return {one.run_id: one for one in self.store.overview(prefix) if one.run_id in names}

    def _known(self, symbol: str) -> RunOverview:
        run_id = self.jobs[symbol].run_id
        return self.before.get(run_id, RunOverview(run_id))

    def _say(self, job: Job, state: State, message: str = "") -> None:
        self.store.set_state(job.run_id, state, message, self.me)

    def _say_waiting(self) -> None:
        for symbol, job in self.jobs.items():
            known = self._known(symbol)
            if known.state != "finished" and not known.held:
                needs = [name for name in job.needs if self._known(name).state != "finished"]
                self._say(job, "waiting", f"needs {', '.join(needs)}" if needs else "")

    def _say_not_begun(self) -> None:
        """Nobody waits any more for what this driver has not come to."""
        now = self._overviews()
        for symbol, job in self.jobs.items():
            known = now.get(job.run_id)
            if self.results[symbol].state == "waiting" and known is not None and not known.held:
                if known.state == "waiting" and known.driver == self.me:
                    self._say(job, "interrupted", "not begun")

    # --- one element, in its thread -------------------------------------------------------------------------------

    def _work(self, job: Job) -> None:
        result = ElementResult(job.symbol, "running")
        try:
            with self.store.exclusive(job.run_id):
                try:
                    result = self._element(job)
                    if result.state != "running" and not result.elsewhere:
                        self._say(job, result.state, result.message)
                except Exception as error:
                    result = self._failed(job, result, error)
        except StoreError as error:
            if error.data.get("held"):
                result = replace(result, elsewhere=True)
            else:
                self.events.put(error)
                result = replace(result, state="interrupted", message=error.message)
        except Exception as error:
            _LOG.exception("%s ended with an unexpected error", job.run_id)
            result = replace(result, state="failed", message=f"unexpected {type(error).__name__}: {error}")
        self.events.put(Event(result))

    def _failed(self, job: Job, result: ElementResult, error: Exception) -> ElementResult:
        """Say that an element failed, or find that more than this element is lost."""
        if isinstance(error, StoreError) and error.data.get("held"):
            # Another driver took the run over; its state is that one's to say.
            raise error
        if isinstance(error, EngineError) and self._pool_is_lost():
            self.events.put(error)
            self._say(job, "interrupted", error.message)
            return replace(result, state="interrupted", message=error.message)
        if isinstance(error, DftbparamError):
            message = error.message
        else:
            _LOG.error("%s ended with an unexpected error", job.run_id, exc_info=error)
            message = f"unexpected {type(error).__name__}: {error}; this is a defect of dftbparam"
        # Where the store is what is lost, this raises, and the campaign ends.
        self._say(job, "failed", message)
        return replace(result, state="failed", message=message)

    def _pool_is_lost(self) -> bool:
        try:
            return self.pool.workers < 1
        except DftbparamError:
            return True

    def _element(self, job: Job) -> ElementResult:
        """Search and publish."""
        now = {one.run_id: one for one in self.store.overview(job.run_id)}.get(job.run_id, RunOverview(job.run_id))
        before = self._known(job.symbol)
        if now.state in ("finished", "failed") and (now.state, now.updated) != (before.state, before.updated):
            return ElementResult(
                job.symbol,
                now.state,  # type: ignore[arg-type]
                now.message,
                trials=now.finished + now.failed,
                best_objective=now.best_objective,
                elsewhere=True,
            )
        said = False

        def on_progress(progress: Progress) -> None:
            nonlocal said
            if not said and (progress.latest is not None or before.state != "finished"):
                self._say(job, "running")
                said = True
            self.events.put(Event(ElementResult(job.symbol, "running"), progress))

        done = [name for name in job.needs if self.results[name].state == "finished"]
        with_executor = self.pool.executor(job.share)
        try:
            outcome = job.search(self.store, with_executor, self.part, done, on_progress, self.stop)
        finally:
            with_executor.close()
        result = ElementResult(
            job.symbol,
            "interrupted",
            trials=len(outcome.trials),
            evaluated=outcome.evaluated,
            best_objective=None if outcome.best is None else outcome.best.objective,
            proposals=outcome.proposals,
            proposal_seconds=outcome.proposal_seconds,
        )
        if outcome.interrupted:
            return result
        if outcome.best is None:
            kinds = ", ".join(f"{n} {name}" for name, n in outcome.failures.items())
            raise CalculationError(f"none of {len(outcome.trials)} trials succeeded ({kinds})")
        if not job.is_published(len(outcome.trials)):
            self._say(job, "running", WRITING)
            if not self._publish(job):
                return result
        return replace(result, state="finished", message=outcome.why)

    def _publish(self, job: Job) -> bool:
        """Have the result written; False where the campaign is to stop."""
        while not self.writers.acquire(timeout=POLL_SECONDS):
            if self.stop.is_set():
                return False
        try:
            return run_in_child(*job.publication(), self.stop)
        finally:
            self.writers.release()
