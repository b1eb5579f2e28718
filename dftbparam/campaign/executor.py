"""Where evaluations run: in this process, in local worker processes, or on a Dask cluster.

The campaign sees only the `Executor` protocol; Dask is imported here and in `dftbparam.campaign.worker`, nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import uuid
from collections import deque
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self

from dftbparam.campaign.result import Evaluate, Outcome, error_record, run_one
from dftbparam.errors import EngineError, EngineMissing, ParameterError

ALLOWED_DEATHS: Final = 3
"""How many workers may die under a trial before it counts as failed: one death is the machine's doing (memory, a node
that is taken away), four are the trial's."""

CONNECT_SECONDS: Final = 15.0
"""How long to wait for a scheduler to answer."""

WORKERS_SECONDS: Final = 300.0
"""How long to wait for the first worker of a scheduler: batch systems start jobs in minutes."""

POLL_SECONDS: Final = 1.0
"""How often a wait looks up to see whether the scheduler is still there."""

SINGLE_THREAD: Final = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
"""Environment of a worker: parallel over trials, one thread within each."""

_LOG = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs evaluations. One thread uses it: ``start``, then ``submit`` and ``collect`` in any order, then ``close``.

    Contract: every submitted index comes back from `collect` exactly once, in any order; evaluations that fail come
    back as an `Outcome` with an error. ``close`` may be called at any time, more than once, ends what still runs and
    leaves no process behind. `EngineError` is raised where the service itself is gone.
    """

    @property
    def workers(self) -> int:
        """Evaluations that can run at the same time; may start the workers to find out."""
        ...

    def start(self, evaluate: Evaluate, context: Any) -> None:
        """Bring the evaluation and its context (both picklable) to the workers."""
        ...

    def submit(self, index: int, parameters: dict[str, Any]) -> None:
        """Queue one evaluation."""
        ...

    def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
        """Return what has ended; wait for at least one, but no longer than ``timeout`` seconds (None: without end).

        Returns an empty list at once where nothing was submitted.
        """
        ...

    def close(self) -> None:
        """End everything."""
        ...


class _Closing:
    """``with executor:`` closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


class SerialExecutor(_Closing):
    """Evaluations one after the other in this process; `collect` runs the oldest one."""

    workers = 1

    def __init__(self) -> None:
        self._queue: deque[tuple[int, dict[str, Any]]] = deque()
        self._evaluate: Evaluate | None = None
        self._context: Any = None

    def start(self, evaluate: Evaluate, context: Any) -> None:
        """See `Executor`."""
        self._evaluate, self._context = evaluate, context

    def submit(self, index: int, parameters: dict[str, Any]) -> None:
        """See `Executor`."""
        self._queue.append((index, parameters))

    def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
        """See `Executor`; with ``timeout`` 0 nothing is run."""
        if self._evaluate is None or not self._queue or timeout == 0.0:
            return []
        index, parameters = self._queue[0]
        outcome = run_one(self._evaluate, parameters, self._context)
        self._queue.popleft()
        return [(index, outcome)]

    def close(self) -> None:
        """See `Executor`."""
        self._queue.clear()
        self._evaluate = self._context = None


class DaskExecutor(_Closing):
    """Evaluations on Dask workers: processes of this machine, or those of a scheduler somewhere.

    Parameters
    ----------
    workers
        Number of worker processes to start here, one thread each.
    scheduler
        Address of a running scheduler (``tcp://host:8786``), or the path of its JSON scheduler file, instead.
    dashboard_address
        Where local workers show Dask's dashboard, e.g. ``":8787"``; None for nowhere.

    Raises
    ------
    ParameterError
        Neither or both of ``workers`` and ``scheduler`` are given, or ``workers`` < 1.
    """

    def __init__(
        self, workers: int | None = None, *, scheduler: str | None = None, dashboard_address: str | None = None
    ) -> None:
        if (workers is None) == (scheduler is None):
            raise ParameterError("give either a number of workers or the address of a scheduler, not both or neither")
        if workers is not None and workers < 1:
            raise ParameterError(f"workers must be at least 1, got {workers}", workers=workers)
        self._count = workers
        self._scheduler = scheduler
        self._dashboard = dashboard_address
        self._cluster: Any = None
        self._client: Any = None
        self._plugin = ""
        self._futures: dict[int, Any] = {}
        self._active: set[int] = set()
        self._backlog: deque[tuple[int, dict[str, Any]]] = deque()
        self._lock = threading.RLock()
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    @property
    def workers(self) -> int:
        """See `Executor`; asks the scheduler where one was given."""
        if self._count is None:
            self._connect()
            self._count = max(sum(self._client.nthreads().values()), 1)
        return self._count

    def start(self, evaluate: Evaluate, context: Any) -> None:
        """See `Executor`."""
        self._connect()
        from dftbparam.campaign.worker import EvaluationPlugin

        self._plugin = f"dftbparam-{uuid.uuid4().hex}"
        try:
            self._client.register_plugin(EvaluationPlugin(self._plugin, evaluate, context), name=self._plugin)
        except Exception as error:
            raise EngineError(
                f"the workers cannot take up the evaluation {getattr(evaluate, '__qualname__', evaluate)!r} "
                f"({type(error).__name__}: {error}); it must be importable by name there, with the same dftbparam",
                evaluation=str(evaluate),
            ) from error

    def submit(self, index: int, parameters: dict[str, Any]) -> None:
        """See `Executor`."""
        with self._lock:
            self._backlog.append((index, parameters))
        self._feed()

    def _feed(self) -> None:
        """Hand trials to Dask; called from this thread and, when one has ended, from Dask's.

        Local workers never get a second trial to queue: Dask blames the death of a worker on everything that waits
        there, and a deadly trial would take its neighbours with it.
        """
        from dftbparam.campaign.worker import run_trial

        with self._lock:
            while self._client is not None and self._backlog:
                if self._cluster is not None and len(self._active) >= (self._count or 1):
                    return
                index, parameters = self._backlog.popleft()
                key = f"trial-{self._plugin}-{index}"
                future = self._client.submit(run_trial, self._plugin, parameters, key=key, pure=False, priority=-index)
                self._active.add(index)
                self._futures[index] = future
                # Dask's own blocking `wait` would need a process-wide default client.
                future.add_done_callback(partial(self._done, index))

    def _done(self, index: int, _future: Any) -> None:
        with self._lock:
            self._active.discard(index)
        try:
            self._feed()
        finally:
            self._ended.put(index)

    def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
        """See `Executor`."""
        waited = 0.0
        while self._futures or self._backlog:
            # Sorted by index, so that trials found ended together are stored in the same order every time.
            ended = sorted(self._drain())
            if ended:
                return [(index, self._outcome(self._futures.pop(index))) for index in ended]
            if timeout is not None and waited >= timeout:
                return []
            step = POLL_SECONDS if timeout is None else min(POLL_SECONDS, timeout - waited)
            with contextlib.suppress(queue.Empty):
                self._ended.put(self._ended.get(timeout=step))
            waited += step
            if self._client.status not in ("running", "connecting"):
                self._lost()
        return []

    def _drain(self) -> set[int]:
        """Indices that Dask has reported as ended since the last call."""
        ended: set[int] = set()
        with contextlib.suppress(queue.Empty):
            while True:
                ended.add(self._ended.get_nowait())
        return ended & set(self._futures)

    def _outcome(self, future: Any) -> Outcome:
        import distributed

        if future.status == "finished":
            outcome: Outcome = future.result()
            future.release()
            return outcome
        if future.status == "error":
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                return Outcome(
                    error=error_record(
                        "WorkerDied",
                        f"{ALLOWED_DEATHS + 1} workers died while they evaluated this trial (out of memory?)",
                        last_worker=str(error.last_worker),
                    )
                )
            raise error
        self._lost()
        raise AssertionError("unreachable")

    def _lost(self) -> None:
        where = self._scheduler or "the local scheduler"
        raise EngineError(
            f"lost the connection to {where}; every finished trial is stored, go on with --resume", scheduler=where
        )

    def _connect(self) -> None:
        if self._client is not None:
            return
        try:
            import dask
            import distributed as dask_distributed
        except ImportError as error:
            raise EngineMissing(
                f"parallel evaluation needs dask and distributed ({error}); pip install 'dask[distributed]'"
            ) from None
        # Dask annotates some of its calls only.
        distributed: Any = dask_distributed
        if self._scheduler is None:
            # Memory limits are left to the operating system: Dask's own pause workers on a busy machine.
            with dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_DEATHS}):
                self._cluster = distributed.LocalCluster(
                    n_workers=self._count,
                    threads_per_worker=1,
                    processes=True,
                    # Without a dashboard Dask still opens a port for its status: any free one, seen from here only.
                    dashboard_address=self._dashboard or "127.0.0.1:0",
                    scheduler_kwargs={"dashboard": self._dashboard is not None},
                    memory_limit=None,
                    silence_logs=logging.CRITICAL,
                    env=dict(SINGLE_THREAD),
                    death_timeout=60,
                )
                self._client = distributed.Client(self._cluster, set_as_default=False)
            return
        try:
            if os.path.isfile(self._scheduler):
                client = distributed.Client(
                    scheduler_file=self._scheduler, timeout=CONNECT_SECONDS, set_as_default=False
                )
            else:
                client = distributed.Client(self._scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise EngineError(
                f"no Dask scheduler answers at {self._scheduler!r} ({error}); start one with 'dask scheduler'",
                scheduler=self._scheduler,
            ) from None
        except ValueError as error:
            raise ParameterError(
                f"{self._scheduler!r} is neither an address like tcp://host:8786 nor a scheduler file ({error})",
                scheduler=self._scheduler,
            ) from None
        self._client = client
        try:
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except TimeoutError:
            self.close()
            raise EngineError(
                f"the scheduler at {self._scheduler!r} has no workers after {WORKERS_SECONDS:.0f} s; start some with "
                f"'dask worker {self._scheduler}'",
                scheduler=self._scheduler,
            ) from None

    def close(self) -> None:
        """See `Executor`. Workers of a scheduler that was given are left running, without our trials."""
        with self._lock:
            client, cluster, self._client, self._cluster = self._client, self._cluster, None, None
            futures, self._futures = list(self._futures.values()), {}
            self._backlog.clear()
            self._active.clear()
        if client is not None:
            # What is closed here may be gone already; there is nothing to be done about it.
            try:
                if self._scheduler is not None and self._plugin:
                    client.cancel(futures, force=True)
                    client.unregister_worker_plugin(self._plugin)
                client.close(timeout=5)
            except Exception:
                _LOG.debug("closing the Dask client", exc_info=True)
        if cluster is not None:
            try:
                cluster.close(timeout=10)
            except Exception:
                _LOG.debug("closing the Dask cluster", exc_info=True)


def executor(workers: int = 1, *, scheduler: str | None = None, dashboard_address: str | None = None) -> Executor:
    """Return the executor for what the command line gives.

    ``scheduler`` given: that cluster, and ``workers`` is ignored. ``workers`` 0: this process. Otherwise that many
    worker processes.
    """
    if scheduler is not None:
        return DaskExecutor(scheduler=scheduler)
    if workers == 0:
        return SerialExecutor()
    return DaskExecutor(workers, dashboard_address=dashboard_address)
