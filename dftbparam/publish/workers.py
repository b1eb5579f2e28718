"""Worker processes of `publish`: started afresh, gone when their parent is gone, with little queued at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeVar

from dftbparam.errors import EngineError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

QUEUED: Final = 4
"""Tasks per worker that are submitted ahead: none waits, and thousands of tasks and answers are never held at once."""


def processors() -> int:
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(function: Callable[[Task], Answer], tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Answer]]:
    """Yield every task with its answer as it is done, from ``workers`` processes; one means this process.

    Errors of ``function`` come through. ``function`` is a module's function, tasks and answers are picklable.

    Raises
    ------
    EngineError
        A worker was killed, e.g. because memory ran out.
    """
    if workers <= 1:
        for task in tasks:
            yield task, function(task)
        return
    # Forking a process that holds threads and compiled code is unsafe; a fresh one costs a second, once.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)
    waiting: dict[Future[Any], Task] = {}
    queue = iter(tasks)
    try:
        while True:
            for task in queue:
                waiting[pool.submit(function, task)] = task
                if len(waiting) >= QUEUED * workers:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                task = waiting.pop(future)
                yield task, future.result()
    except BrokenProcessPool:
        raise EngineError(
            "a worker process was killed, perhaps because memory ran out; go on with --resume and fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Prepare a worker: one thread in numerical libraries, and no life after its parent's."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    # A pool's workers wait for ever on a queue that nobody writes to when their parent is killed.
    parent.join()
    os._exit(1)
