"""Where evaluations run: in this process, in local worker processes, or on a Dask cluster.

A `Pool` owns the workers; an `Executor` is one run's view of it. Many runs, each in a thread of its own, share the
workers of one pool. The campaign sees these two protocols only; Dask is imported in the modules ``dask_*``,
``cluster_*`` and ``worker`` of this package, nowhere else.

How a pool shares
-----------------
Whenever a worker falls free, the executor furthest behind its share is served. Its share of the workers, rounded down,
comes first: below it the one with the fewest running trials per share. What is left over goes to the one that has had
the least worker time per share, so that three runs take turns on two workers. Runs of equal share get equal worker time
however long their evaluations take; a run that has nothing to submit leaves its workers to the others and gains no
claim by it; and a run that comes late is served with the next worker that falls free, because nothing waits in a queue
before it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Final, Protocol, Self

from dftbparam.campaign.result import Evaluate, Outcome, run_one
from dftbparam.errors import ParameterError
from dftbparam.propose.base import TURN

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


class Executor(Protocol):
    """Runs evaluations. One thread uses it: ``start``, then ``submit`` and ``collect`` in any order, then ``close``.

    Contract: every submitted index comes back from `collect` exactly once, in any order; evaluations that fail come
    back as an `Outcome` with an error. The death of a worker is not the trial's failure: the trial is run again, until
    it has taken `ALLOWED_DEATHS <dftbparam.campaign.dask_pool.ALLOWED_DEATHS>` workers with it. ``close`` may be called
    at any time, more than once, and ends what still runs; the executor that `executor` returned leaves no process
    behind, one of a pool leaves the pool open. `EngineError` is raised where the service itself is gone.
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


class Pool(Protocol):
    """Workers that several runs share. A context manager; leaving it ends the workers it started.

    Contract: `executor` may be called from any thread, and each executor used in a thread of its own. Workers are
    started with the first executor that starts, or when somebody asks how many there are.
    """

    @property
    def workers(self) -> int:
        """Evaluations that can run at the same time in all; may start the workers to find out."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's dashboard; None where there is none. May start the workers to find out."""
        ...

    def executor(self, share: float = 1.0) -> Executor:
        """Return a new executor on these workers.

        Parameters
        ----------
        share
            Its weight among the executors of the pool, > 0: one of share 2 gets twice the workers of one of share 1
            while both have enough to do.

        Raises
        ------
        ParameterError
            The share is not a positive number.
        """
        ...

    def close(self) -> None:
        """End the workers; whoever still waits in `Executor.collect` gets what has ended, then nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """``with thing:`` closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        raise NotImplementedError


def checked_share(share: float) -> float:
    """Return the share; `ParameterError` where it is not a positive number."""
    if not 0.0 < share < float("inf"):
        raise ParameterError(f"the share of a run must be a positive number, got {share}", share=share)
    return share


class SerialPool(Closing):
    """Evaluations one after the other in this process: each executor runs its own in its own thread, in turns.

    Only one runs at a time, because evaluations use libraries with state of the whole process (thread numbers of BLAS).
    """

    workers = 1
    dashboard = None

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._busy = False
        self._waiting: dict[SerialExecutor, float] = {}

    def executor(self, share: float = 1.0) -> SerialExecutor:
        """See `Pool`."""
        return SerialExecutor(self, checked_share(share))

    def take_turn(self, who: SerialExecutor, used: float, timeout: float | None) -> bool:
        """Wait until nothing runs and ``who`` has had the least, ``used`` seconds per share, of all that wait.

        Returns False, and no turn, after ``timeout`` seconds.
        """
        with self._turn:
            self._waiting[who] = used
            try:
                mine = self._turn.wait_for(
                    lambda: not self._busy and min(self._waiting, key=lambda other: self._waiting[other]) is who,
                    timeout,
                )
                self._busy = self._busy or mine
                return mine
            finally:
                del self._waiting[who]
                self._turn.notify_all()

    def end_turn(self) -> None:
        """Let the next one run."""
        with self._turn:
            self._busy = False
            self._turn.notify_all()

    def close(self) -> None:
        """See `Pool`; there is nothing to end."""


class SerialExecutor(Closing):
    """Evaluations one after the other in this process; `collect` runs the oldest one."""

    workers = 1

    def __init__(self, pool: SerialPool | None = None, share: float = 1.0) -> None:
        self._pool = SerialPool() if pool is None else pool
        self._share = share
        self._used = 0.0
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
        if not self._pool.take_turn(self, self._used / self._share, timeout):
            return []
        from threadpoolctl import threadpool_limits

        begun = time.monotonic()
        try:
            index, parameters = self._queue[0]
            # As in a worker process; proposals of other runs in this process set the number of threads, too.
            with TURN, threadpool_limits(limits=1):
                outcome = run_one(self._evaluate, parameters, self._context)
        finally:
            self._used += time.monotonic() - begun
            self._pool.end_turn()
        self._queue.popleft()
        return [(index, outcome)]

    def close(self) -> None:
        """See `Executor`."""
        self._queue.clear()
        self._evaluate = self._context = None


def pool(
    workers: int = 1, *, scheduler: str | None = None, cluster: str | None = None, dashboard_address: str | None = None
) -> Pool:
    """Return the pool for what the command line gives.

    Parameters
    ----------
    workers
        Worker processes to start on this machine; 0 for none: evaluations run in this process. Ignored where
        ``scheduler`` or ``cluster`` is given.
    scheduler
        Address of a running Dask scheduler (``tcp://host:8786``), or the path of its scheduler file.
    cluster
        Name or path of a cluster profile, see `dftbparam.campaign.cluster`.
    dashboard_address
        Where local workers show Dask's dashboard, e.g. ``":8787"``; None for nowhere.

    Raises
    ------
    ParameterError
        ``workers`` < 0, both ``scheduler`` and ``cluster`` are given, or the profile is missing or wrong.
    EngineMissing
        The profile needs a library that is not installed.
    """
    if scheduler is not None and cluster is not None:
        raise ParameterError(
            f"a scheduler ({scheduler}) has workers of its own, a cluster profile ({cluster}) starts others; give one"
        )
    if scheduler is None and cluster is None and workers == 0:
        return SerialPool()
    from dftbparam.campaign.dask_pool import DaskPool
    from dftbparam.campaign.dask_services import LocalService, SchedulerService

    if cluster is not None:
        from dftbparam.campaign.cluster import load_profile
        from dftbparam.campaign.cluster_services import profile_service

        return DaskPool(profile_service(load_profile(cluster)))
    if scheduler is not None:
        return DaskPool(SchedulerService(scheduler))
    return DaskPool(LocalService(workers, dashboard_address))


def executor(
    workers: int = 1, *, scheduler: str | None = None, cluster: str | None = None, dashboard_address: str | None = None
) -> Executor:
    """Return the only executor of a pool of its own, which ends with it; see `pool` for what is given."""
    own = pool(workers, scheduler=scheduler, cluster=cluster, dashboard_address=dashboard_address)
    if isinstance(own, SerialPool):
        return own.executor()
    from dftbparam.campaign.dask_pool import DaskPool

    assert isinstance(own, DaskPool)
    return own.executor(owner=True)
