"""`DaskPool`: the workers of a Dask scheduler, shared by executors in turns.

What runs in which thread
-------------------------
Every run's thread calls its executor. Outcomes arrive in the thread of Dask's event loop, as events that the workers
send: so they are here as soon as there are any, with no question back to the worker, and an outcome is not lost with a
worker that dies a moment later. A coroutine a trial waits for how its task ends, in case there is no outcome. The same
thread hands out trials, all that it can at a time: a message for each would be most of a scheduler's work. A thread of
the pool itself, the keeper, looks every second how many workers there are, and takes up a lost connection again. All of
them share what the pool's lock guards; nobody waits for Dask while holding it.

What the pool hands out
-----------------------
As many trials as there are workers, and half as many again that wait at the scheduler, so that a worker goes on while
the driver hears of what has ended. Not more, because a run that comes late waits behind them. Nothing waits before Dask
knows our tasks for many of a kind, of which it keeps what is too much at the scheduler; few of a kind would wait behind
others on workers.

A lost connection
-----------------
Dask forgets the work of a client that it lost. The pool tries for `RECONNECT_SECONDS` to connect again, brings the
evaluations to the workers (the scheduler may be a new one at the same address) and hands out again every trial whose
outcome it does not have. Where no scheduler answers in that time, every executor's `collect` first returns what had
ended, then raises `EngineError`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import pickle
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from dftbparam.campaign.clock_watch import ClockWatch
from dftbparam.campaign.dask_executor import DaskExecutor
from dftbparam.campaign.dask_services import Service, close_quietly
from dftbparam.campaign.executor import Closing, checked_share
from dftbparam.campaign.result import Outcome, error_record
from dftbparam.errors import DftbparamError, EngineError

ALLOWED_DEATHS: Final = 3
"""A trial that has taken this many workers with it has failed: one death is the machine's doing (memory, a node that is
taken away), three are the trial's."""

WORKERS_SECONDS: Final = 300.0
"""How long a scheduler may be without workers before the runs end, where workers are not ours to ask for."""

RECONNECT_SECONDS: Final = 60.0
"""How long to look for a scheduler that was lost: a network that is away for half a minute, a scheduler that its
supervisor starts again."""

GATHER_SECONDS: Final = 0.005
"""How long trials are gathered to be handed out together."""

POLL_SECONDS: Final = 1.0
"""How often the keeper looks how many workers there are."""

_LOG = logging.getLogger(__name__)


class DaskPool(Closing):
    """Workers of a Dask service, shared by executors in turns; see `dftbparam.campaign.executor.Pool` and the module.

    Parameters
    ----------
    service
        Where the workers come from; closed with the pool.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._opening = threading.Lock()
        self.lock = threading.Condition()
        # All below is guarded by the lock.
        self.client: Any = None
        self.views: list[DaskExecutor] = []
        self._slots = 0
        self._threads = 0
        self._sent = 0
        self._feeding = False
        self._watches: list[tuple[Any, ClockWatch]] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._suspect = False
        self.lost: DftbparamError | None = None
        self.closed = False
        self._blames_exactly = True
        self._warned = False
        self._without_workers_since: float | None = None
        self._attention = threading.Event()
        self._keeper: threading.Thread | None = None

    @property
    def workers(self) -> int:
        """See `Pool`: of a running scheduler those it has now, of an elastic cluster those it may have."""
        self.open()
        return self.service.limit(self._slots)

    @property
    def dashboard(self) -> str | None:
        """See `Pool`."""
        if not self.service.dashboard:
            return None
        try:
            link = self.connected().dashboard_link
        except (AttributeError, KeyError, OSError, ValueError):
            # A scheduler that was started without one.
            return None
        return str(link) if link else None

    def executor(self, share: float = 1.0, *, owner: bool = False) -> DaskExecutor:
        """See `Pool`; closing an ``owner`` closes the pool."""
        return DaskExecutor(self, checked_share(share), owner)

    def close(self) -> None:
        """See `Pool`."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            client, self.client = self.client, None
            views, self.views = list(self.views), []
        self._attention.set()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join(timeout=30)
        for view in views:
            view.leave(client)
        self._end_watches()
        close_quietly(client, timeout=5)
        self.service.close()

    def _end_watches(self) -> None:
        for client, watch in self._watches:
            with contextlib.suppress(RuntimeError):  # its event loop is closed
                client.loop.add_callback(watch.stop)
        self._watches.clear()

    # --- executors call these -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the workers, where that has not been done.

        Raises
        ------
        EngineError
            They do not start, or the pool was lost or closed.
        """
        with self._opening:
            if self.lost is not None:
                raise self.lost
            if self.closed:
                raise EngineError("this pool of workers was closed")
            if self.client is not None or self._keeper is not None:
                return
            try:
                client = self.service.connect()
                self._prepare(client)
                if not self.service.elastic:
                    self._wait_for_workers(client)
            except BaseException:
                self.service.close()
                raise
            with self.lock:
                self.client = client
                self.lock.notify_all()
            self._refresh(client)
            self._keeper = threading.Thread(target=self._keep, name="dftbparam-pool", daemon=True)
            self._keeper.start()

    def connected(self) -> Any:
        """Return the client; wait for it while the connection is looked for."""
        self.open()
        with self.lock:
            self.lock.wait_for(lambda: self.client is not None or self.lost is not None or self.closed)
            if self.lost is not None:
                raise self.lost
            return self.client

    def _prepare(self, client: Any) -> None:
        """Make a scheduler count deaths as we do, and watch the clock here."""
        from dftbparam.campaign.worker import DeathLimit

        watch = ClockWatch(
            lambda: [client.scheduler_comm], lambda: [*client._periodic_callbacks.values(), *self.service.callbacks()]
        )
        client.loop.add_callback(watch.start)
        self._watches.append((client, watch))

        try:
            client.register_plugin(DeathLimit(ALLOWED_DEATHS))
        except Exception as error:
            self._blames_exactly = False
            _LOG.warning(
                "the scheduler at %s cannot load dftbparam (%s: %s); how many workers a trial may take with it is its "
                "own setting, distributed.scheduler.allowed-failures, then",
                self.service.where,
                type(error).__name__,
                error,
            )

    def _wait_for_workers(self, client: Any) -> None:
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError:
            close_quietly(client, timeout=5)
            raise self._no_workers() from None

    def _no_workers(self) -> EngineError:
        where = self.service.where
        return EngineError(
            f"the scheduler at {where!r} has no workers after {WORKERS_SECONDS:.0f} s; start some with "
            f"'dask worker {where} --nthreads 1'",
            scheduler=where,
        )

    def feed(self) -> None:
        """Have trials handed to Dask, soon; called from any thread."""
        with self.lock:
            self.service.want(sum(len(view.active) + len(view.backlog) for view in self.views))
            client = self.client
            if client is None or self._feeding or not any(view.backlog for view in self.views):
                return
            self._feeding = True
            client.loop.asyncio_loop.call_soon_threadsafe(self._feed_after, client)

    def _feed_after(self, client: Any) -> None:
        client.loop.asyncio_loop.call_later(GATHER_SECONDS, self._hand_out, client)

    def _hand_out(self, client: Any) -> None:
        """Hand trials to Dask while there is room, in the thread of its event loop."""
        with self.lock:
            self._feeding = False
            if client is not self.client:
                return
            room = self._room() - sum(len(view.active) for view in self.views)
            chosen: list[tuple[DaskExecutor, int, dict[str, Any]]] = []
            while len(chosen) < room and (view := self._furthest_behind()) is not None:
                index, parameters = view.backlog.popleft()
                view.active[index] = parameters
                chosen.append((view, index, parameters))
            if chosen:
                self._send(client, chosen)

    def _room(self) -> int:
        """Trials that Dask may have; the number from which it queues is of its `Scheduler.is_rootish`."""
        return self._slots + (self._slots // 2 if self._sent > 2 * self._threads else 0)

    def _furthest_behind(self) -> DaskExecutor | None:
        """Return whom the next free worker serves, by the rule of `dftbparam.campaign.executor`; None if none waits."""
        hungry = [view for view in self.views if view.backlog]
        if len(hungry) < 2:
            return hungry[0] if hungry else None
        shares = sum(view.share for view in self.views if view.backlog or view.active)
        below = [view for view in hungry if len(view.active) + 1 <= self._slots * view.share / shares]
        if below:
            return min(below, key=lambda view: len(view.active) / view.share)
        return min(hungry, key=DaskExecutor.served)

    def _send(self, client: Any, chosen: Sequence[tuple[DaskExecutor, int, dict[str, Any]]]) -> None:
        from dftbparam.campaign.worker import TRIAL_PREFIX, run_trial

        keys = [f"{TRIAL_PREFIX}{view.run}-{index}-{self._generation}" for view, index, _ in chosen]
        runs, parameters = [view.run for view, *_ in chosen], [one for *_, one in chosen]
        futures = client.map(run_trial, runs, parameters, keys, key=keys, pure=False)
        self._sent += len(chosen)
        loop = client.loop.asyncio_loop
        for (view, index, _), future in zip(chosen, futures, strict=True):
            view.futures[index] = future
            self._watching.add(task := loop.create_task(self._watch(view, index, future, self._generation)))
            task.add_done_callback(self._watching.discard)

    def hear(self, view: DaskExecutor, event: tuple[float, Any]) -> None:
        """Take an outcome that a worker sent, in the thread of Dask's event loop."""
        key, pickled = event[1]
        index = int(key.rsplit("-", 2)[1])
        outcome = pickle.loads(pickled)
        assert isinstance(outcome, Outcome)
        self._end(view, index, outcome)

    def _end(self, view: DaskExecutor, index: int, outcome: Outcome | Exception) -> None:
        with self.lock:
            if view.active.pop(index, None) is None:
                return
            view.futures.pop(index, None)
            if isinstance(outcome, Outcome):
                view.seconds += outcome.seconds
                view.count += 1
            view.ended.put((index, outcome))
            self.feed()

    async def _watch(self, view: DaskExecutor, index: int, future: Any, generation: int) -> None:
        """Wait for how a trial's task ends, in the thread of Dask's event loop."""
        import distributed

        outcome: Outcome | Exception
        try:
            error = await future.exception()
            if index not in view.active or generation != self._generation:
                return
            if isinstance(error, distributed.KilledWorker):
                deaths = ALLOWED_DEATHS if self._blames_exactly else error.allowed_failures + 1
                outcome = Outcome(
                    error=error_record(
                        "WorkerDied",
                        f"{deaths} workers died while they evaluated this trial (out of memory?)",
                        last_worker=str(error.last_worker),
                    )
                )
            elif error is not None:
                outcome = error
            elif future.cancelled():
                self._attention.set()
                return
            else:
                outcome = await future
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            # The connection was lost, or the executor closed; the keeper finds out.
            self._attention.set()
            return
        except Exception:
            # The outcome could not be fetched: the connection was lost just then.
            _LOG.debug("fetching trial %d", index, exc_info=True)
            with self.lock:
                self._suspect = self._suspect or generation == self._generation
            self._attention.set()
            return
        if generation == self._generation:
            self._end(view, index, outcome)

    # --- the keeper -----------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            self._attention.wait(POLL_SECONDS)
            self._attention.clear()
            with self.lock:
                client = self.client
                if self.closed or self.lost is not None or client is None:
                    return
                suspect = self._suspect or any(
                    future.cancelled() for view in self.views for future in view.futures.values()
                )
            try:
                if suspect or client.status != "running" or not self._refresh(client):
                    self._take_up(client)
                elif (trouble := self.service.trouble()) is not None:
                    self._lose(EngineError(trouble, scheduler=self.service.where))
            except DftbparamError as error:
                self._lose(error)
            except Exception as error:
                # Else the runs would wait for ever.
                _LOG.debug("keeper", exc_info=True)
                self._lose(EngineError(f"{self.service.where}: {type(error).__name__}: {error}"))

    def _refresh(self, client: Any) -> bool:
        """Take note of how many workers there are, and feed them; False where the scheduler does not answer."""
        try:
            threads = client.sync(client.scheduler.ncores, callback_timeout=RECONNECT_SECONDS)
        except Exception:
            _LOG.debug("the scheduler does not answer", exc_info=True)
            return False
        now = time.monotonic()
        with self.lock:
            self._slots, self._threads = len(threads), sum(threads.values())
            if threads or self.service.elastic:
                self._without_workers_since = None
            elif self._without_workers_since is None:
                self._without_workers_since = now
            elif now - self._without_workers_since > WORKERS_SECONDS:
                self._lose(self._no_workers())
        many = sorted(address for address, count in threads.items() if count > 1)
        if many and not self._warned:
            self._warned = True
            _LOG.warning(
                "%d of %d workers at %s have several threads, of which evaluations use one; start them with "
                "--nthreads 1 and more processes",
                len(many),
                len(threads),
                self.service.where,
            )
        self.feed()
        return True

    def _take_up(self, lost: Any) -> None:
        """Connect again, and hand out again what was under way."""
        with self.lock:
            if self.closed:
                return
            self.client = None
            self._generation += 1
            self._suspect = self._feeding = False
            self._sent = 0
            for view in self.views:
                view.backlog.extendleft((index, view.active[index]) for index in sorted(view.active, reverse=True))
                view.active.clear()
                view.futures.clear()
        _LOG.warning("lost the connection to %s; looking for it again", self.service.where)
        self._end_watches()
        close_quietly(lost, timeout=5)
        deadline = time.monotonic() + RECONNECT_SECONDS
        while (client := self._try_again()) is None:
            if self._is_closed():
                return
            if time.monotonic() > deadline:
                where = self.service.where
                raise EngineError(
                    f"lost the connection to {where}; every finished trial is stored: go on with --resume, or "
                    "'campaign resume'",
                    scheduler=where,
                )
            self._attention.wait(POLL_SECONDS)
        with self.lock:
            if self._is_closed():
                close_quietly(client, timeout=5)
                return
            self.client = client
            self._without_workers_since = None
            self.lock.notify_all()
        _LOG.warning("connected to %s again", self.service.where)
        if self._refresh(client) and not (self._slots or self.service.elastic):
            _LOG.warning("it has no workers; those of a scheduler that ended have ended with it, start new ones")

    def _is_closed(self) -> bool:
        return self.closed

    def _try_again(self) -> Any:
        """Return a client to which every run has brought its evaluation, or None."""
        client = None
        try:
            client = self.service.connect()
            self._prepare(client)
            with self.lock:
                views = list(self.views)
            for view in views:
                view.bring(client)
        except Exception:
            _LOG.debug("connecting again", exc_info=True)
            close_quietly(client, timeout=5)
            return None
        return client

    def _lose(self, error: DftbparamError) -> None:
        with self.lock:
            self.lost = error
            self.lock.notify_all()
            for view in self.views:
                view.ended.put(None)
