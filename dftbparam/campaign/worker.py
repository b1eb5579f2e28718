"""What runs inside Dask's workers and its scheduler. Imported there, and by the driver when it needs Dask."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Final
from weakref import WeakKeyDictionary

from distributed import Scheduler, Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

import dftbparam
from dftbparam.campaign.executor import SINGLE_THREAD
from dftbparam.campaign.result import Evaluate, Outcome, run_one
from dftbparam.errors import EngineError

TRIAL_PREFIX: Final = "trial-dftbparam-"
"""Begins the keys of our tasks, by which the scheduler plugin knows them."""

_PLUGIN_PREFIX: Final = "dftbparam-evaluation-"


class EvaluationPlugin(WorkerPlugin):
    """Carries the evaluation and its context to every worker once, restarted and late ones included.

    Dask's own scattered data would be lost with the last worker that holds it.
    """

    def __init__(self, run: str, evaluate: Evaluate, context: Any) -> None:
        self.name = plugin_name(run)
        self.evaluate = evaluate
        self.context = context
        self.version = dftbparam.__version__
        self.pid = os.getpid()

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the worker starts or the plugin arrives."""
        if self.version != dftbparam.__version__:
            raise EngineError(
                f"the worker {worker.address} has dftbparam {dftbparam.__version__}, the driver {self.version}: their "
                "trials would differ; install the same version",
                worker=worker.address,
            )
        # Ctrl-C on a terminal reaches the whole process group. The driver decides what happens; a worker that died
        # of it would only be restarted. Signals can be set from the main thread alone, which Dask may not be in.
        if os.getpid() != self.pid:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            # Workers that somebody else started: programs that an evaluation starts inherit this.
            for name, number in SINGLE_THREAD.items():
                os.environ.setdefault(name, number)


_ONE_AT_A_TIME: WeakKeyDictionary[Worker, threading.Lock] = WeakKeyDictionary()
_PINNED: Final = os.environ.get("OMP_NUM_THREADS") == "1"
"""Whether this process was started with `SINGLE_THREAD`, as our own workers are."""


def plugin_name(run: str) -> str:
    """Name of the worker plugin of a run."""
    return _PLUGIN_PREFIX + run


def run_trial(run: str, parameters: dict[str, Any]) -> Outcome:
    """Evaluate one point with the evaluation that the plugin brought.

    Evaluations hold state of the whole process (thread numbers of BLAS, caches), so that a worker with several threads
    runs them one after the other all the same.
    """
    worker: Any = get_worker()
    plugin = worker.plugins.get(plugin_name(run))
    if not isinstance(plugin, EvaluationPlugin):
        return Outcome(
            fatal=EngineError(
                f"the worker {worker.address} has not taken up the evaluation: its log says why; most likely its "
                f"dftbparam is another version than the driver's",
                worker=worker.address,
            )
        )
    with _ONE_AT_A_TIME.setdefault(worker, threading.Lock()), contextlib.ExitStack() as stack:
        if not _PINNED:
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(limits=1))
        return run_one(plugin.evaluate, parameters, plugin.context)


class DeathLimit(SchedulerPlugin):
    """Makes Dask give up a trial of ours after ``limit`` workers have died under it, whatever the scheduler's setting.

    Dask counts, per task, the workers that died while they had it, and gives up once the count exceeds the scheduler's
    ``allowed-failures``. The setting belongs to all users of the scheduler; so the count of our tasks begins higher, or
    below zero, instead.
    """

    name = "dftbparam-deaths"
    idempotent = True

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def update_graph(self, scheduler: Scheduler, *, keys: set[Any], **_: Any) -> None:
        """Called by Dask when tasks arrive."""
        for key in keys:
            if isinstance(key, str) and key.startswith(TRIAL_PREFIX):
                scheduler.tasks[key].suspicious = scheduler.allowed_failures + 1 - self.limit
