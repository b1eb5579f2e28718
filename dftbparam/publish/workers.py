"""Worker processes of `publish`: started afresh, gone when their parent is gone, with one task each at a time.

Each worker has a pipe of its own to the parent and shares no lock or queue with others, so that it can be killed at any
moment without leaving anybody to wait for what it held.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Final, TypeVar

from dftbparam.errors import DftbparamError, EngineError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

GRACE_SECONDS: Final = 2.0
"""Time that workers have to leave of their own accord: to end programs that they started, to remove temporary files."""


def processors() -> int:
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[[Task], Answer], tasks: Iterable[Task], workers: int
) -> Generator[tuple[Task, Answer], None, None]:
    """Yield every task with its answer as it is done, from ``workers`` processes; one means this process.

    Errors of ``function`` come through. ``function`` is a module's function, tasks and answers are picklable. However
    the generator ends (close it where the loop over it may be left early), no worker is left within `GRACE_SECONDS`.

    Raises
    ------
    EngineError
        A worker was killed, e.g. because memory ran out.
    """
    if workers <= 1:
        for task in tasks:
            yield task, function(task)
        return
    queue = iter(tasks)
    crew: dict[Any, _Worker] = {}
    try:
        for task in queue:
            worker = _Worker(function)
            crew[worker.pipe] = worker
            worker.give(task)
            if len(crew) == workers:
                break
        while busy := [pipe for pipe, worker in crew.items() if worker.busy]:
            failed: Exception | None = None
            for pipe in wait(busy):
                worker = crew[pipe]
                done = worker.task
                try:
                    answer = worker.answer()
                except Exception as error:
                    # What others have done by now is not lost with it.
                    failed = failed or error
                    continue
                for task in () if failed else queue:
                    worker.give(task)
                    break
                yield done, answer
            if failed is not None:
                raise failed
    finally:
        with _without_interrupts():
            _stop(list(crew.values()))


class _Worker:
    """A process, our end of its pipe, and the task that it has."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # Forking a process that holds threads and compiled code is unsafe; a fresh one costs a second, once.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.task: Any = None
        self.busy = False
        # The tracker of shared memory is started with the first process, and unblocks the signal for good.
        resource_tracker.ensure_running()
        # A new process inherits the mask: Ctrl-C, which reaches the whole process group, must not end it half-way
        # through its start.
        with _without_interrupts():
            self.process.start()
        theirs.close()

    def give(self, task: Any) -> None:
        self.task, self.busy = task, True
        try:
            self.pipe.send(task)
        except OSError:
            raise self._killed() from None

    def answer(self) -> Any:
        """Receive it; what went wrong is raised."""
        try:
            fine, value = self.pipe.recv()
        except (EOFError, OSError):
            raise self._killed() from None
        self.task, self.busy = None, False
        if not fine:
            raise value
        return value

    def _killed(self) -> EngineError:
        self.busy = False
        self.process.join(GRACE_SECONDS)
        return EngineError(
            f"a worker process was killed (exit code {self.process.exitcode}), perhaps because memory ran out; go on "
            "with --resume and fewer --workers"
        )


def _stop(crew: list[_Worker]) -> None:
    """End all workers: the idle ones as their pipe closes, the busy ones by signals."""
    for worker in crew:
        worker.pipe.close()
        if worker.busy:
            worker.process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for worker in crew:
        worker.process.join(max(end - time.monotonic(), 0.0))
    for worker in crew:
        # Compiled code may run for long before Python looks after signals.
        worker.process.kill()
        worker.process.join()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C in this thread, and in processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Answer tasks until the parent closes the pipe: one thread in numerical libraries, no life after the parent's."""
    from threadpoolctl import threadpool_limits

    # The parent decides what an interrupt from the keyboard means, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_follow, daemon=True).start()
    with threadpool_limits(1), contextlib.suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                answer: tuple[bool, Any] = (True, function(task))
                content = pickle.dumps(answer)
            except Exception as error:
                content = _failure(error)
            pipe.send_bytes(content)


def _failure(error: Exception) -> bytes:
    trace = traceback.format_exc()
    # Errors of ours say what to do; of others the place is what helps, and it does not travel with them.
    if not isinstance(error, DftbparamError):
        error.add_note(f"In a worker process:\n{trace}")
    try:
        content = pickle.dumps((False, error))
        pickle.loads(content)  # some exceptions can be written, and not be read again
    except Exception:
        content = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}\n{trace}")))
    return content


def _follow() -> None:
    # A busy worker does not look at its pipe, and would go on for minutes when its parent is killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
