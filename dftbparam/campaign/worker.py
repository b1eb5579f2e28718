"""What runs inside Dask's workers and its scheduler. Imported there, and by the driver when it needs Dask."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from typing import Any, Final
from weakref import WeakKeyDictionary

from distributed import Scheduler, Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

import dftbparam
from dftbparam.campaign.clock_watch import ClockWatch
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
        if worker not in _WATCHES:
            _WATCHES[worker] = watch = ClockWatch(
                lambda: [worker.batched_stream], lambda: list(worker.periodic_callbacks.values())
            )
            worker.loop.add_callback(watch.start)


_ONE_AT_A_TIME: WeakKeyDictionary[Worker, threading.Lock] = WeakKeyDictionary()
_WATCHES: WeakKeyDictionary[Worker, ClockWatch] = WeakKeyDictionary()
_PINNED: Final = os.environ.get("OMP_NUM_THREADS") == "1"
"""Whether this process was started with `SINGLE_THREAD`, as our own workers are."""


def plugin_name(run: str) -> str:
    """Name of the worker plugin of a run."""
    return _PLUGIN_PREFIX + run


def topic_name(run: str) -> str:
    """Name of the Dask topic under which the workers send the outcomes of a run."""
    return f"dftbparam-outcomes-{run}"


def run_trial(run: str, parameters: dict[str, Any], key: str) -> Outcome:
    """Evaluate one point with the evaluation that the plugin brought; send the outcome, and return it.

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
        outcome = run_one(plugin.evaluate, parameters, plugin.context)
    # Before Dask says that the task has ended, on the same connection.
    worker.log_event(topic_name(run), [key, pickle.dumps(outcome)])
    return outcome


class DeathLimit(SchedulerPlugin):
    """Makes Dask give up a trial of ours after ``limit`` workers have died under it, whatever the scheduler's setting.

    Dask counts, per task, the workers that died while they had it, and gives up once the count (``suspicious``) exceeds
    the scheduler's ``allowed-failures``. The setting belongs to all users of the scheduler; so the count of our tasks
    begins higher, or below zero, instead. And Dask blames a death on every task that the worker had, also on those that
    waited there behind the one that was run; of ours, a task that waits stands one lower, so that a death leaves it
    where it was. Workers run tasks in the order in which they get them. (A task that had ended milliseconds before, and
    whose message died with the worker, takes the blame of the one that ran next.)
    """

    name = "dftbparam-deaths"
    idempotent = True

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.scheduler: Any = None
        # By worker: the keys of our tasks that it has, in order. By key: deaths, and the worker that has it.
        self.queues: dict[str, list[str]] = {}
        self.deaths: dict[str, int] = {}
        self.places: dict[str, str] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Called by Dask when the plugin arrives."""
        self.scheduler = scheduler
        watch = ClockWatch(
            lambda: [*scheduler.stream_comms.values(), *scheduler.client_comms.values()],
            lambda: list(scheduler.periodic_callbacks.values()),
        )
        watch.start()

    def update_graph(self, scheduler: Scheduler, *, keys: set[Any], **_: Any) -> None:
        """Called by Dask when tasks arrive."""
        for key in keys:
            if isinstance(key, str) and key.startswith(TRIAL_PREFIX):
                self.deaths[key] = 0
                self._set(key)

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Called by Dask when a task changes its state."""
        if key not in self.deaths:
            return
        if finish == "processing":
            worker = self.scheduler.tasks[key].processing_on
            if worker is not None:
                self.places[key] = worker.address
                self.queues.setdefault(worker.address, []).append(key)
                self._set(key)
        elif start == "processing" and (address := self.places.pop(key, None)) is not None:
            self._leave(key, address)
        if finish == "forgotten":
            del self.deaths[key]

    def _leave(self, key: str, address: str) -> None:
        queue = self.queues[address]
        first = queue[0] == key
        queue.remove(key)
        if address not in self.scheduler.workers:
            # Nobody moves up: those behind leave next, with one more in Dask's count, which is what they lacked.
            if first and key in self.scheduler.tasks:
                self.deaths[key] = self.scheduler.tasks[key].suspicious - self._base()
                queue.insert(0, "")
            if not any(queue):
                del self.queues[address]
        elif not queue:
            del self.queues[address]
        elif first:
            self._set(queue[0])

    def _base(self) -> int:
        """Dask's count for a task under which no worker has died."""
        return int(self.scheduler.allowed_failures) + 1 - self.limit

    def _set(self, key: str) -> None:
        """Set Dask's count for a task."""
        task = self.scheduler.tasks.get(key)
        if task is not None:
            queue = self.queues.get(self.places.get(key, ""), [])
            waits = bool(queue) and queue[0] != key
            task.suspicious = self._base() + self.deaths[key] - waits
