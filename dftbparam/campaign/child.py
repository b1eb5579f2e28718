"""Work in a process of its own beside a campaign: report cards, plots, files.

Such work takes as long as several trials. In the driver it would hold up every other element's proposals, plots need
the main thread, and proposers set the number of threads of numerical libraries for their whole process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from dftbparam.campaign.executor import SINGLE_THREAD
from dftbparam.errors import CalculationError, DftbparamError

POLL_SECONDS: Final = 0.2
"""How often to look whether the work is to be stopped."""

GRACE_SECONDS: Final = 5.0
"""How long work that is to stop may take to do so."""

_LOG = logging.getLogger(__name__)


def run_in_child(function: Callable[..., None], arguments: tuple[Any, ...], stop: threading.Event) -> bool:
    """Call a function in a new process, on one thread; both picklable, the function importable by name.

    The process ends with this one, however this one ends. Ctrl-C does not reach it.

    Returns
    -------
    Whether the function came to its end; False where ``stop`` was set before, and the process was ended.

    Raises
    ------
    DftbparamError
        What the function raised; `CalculationError` for any other exception, or where the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments), daemon=True)
    # The child inherits the mask of this thread. Python calls handlers in the main thread, which keeps its own mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()
    try:
        while not receiver.poll(POLL_SECONDS):
            if stop.is_set():
                return False
            if not process.is_alive() and not receiver.poll():
                break
        try:
            error = receiver.recv()
        except EOFError:
            process.join()
            raise CalculationError(
                f"the process that writes the result died (exit code {process.exitcode}; out of memory?)"
            ) from None
    finally:
        receiver.close()
        if process.is_alive() and stop.is_set():
            process.terminate()
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
        process.join()
        process.close()
    if isinstance(error, DftbparamError):
        raise error
    if error is not None:
        kind, message, trace = error
        _LOG.error("writing a result ended with an unexpected error\n%s", trace)
        raise CalculationError(f"unexpected {kind}: {message}; this is a defect of dftbparam")
    return True


def _child(sender: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import traceback

    from threadpoolctl import threadpool_limits

    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Libraries that are loaded later read it; those that are loaded already are limited below.
    os.environ.update(SINGLE_THREAD)
    error: Any = None
    try:
        with threadpool_limits(limits=1):
            function(*arguments)
    except DftbparamError as problem:
        error = problem
    except Exception as problem:
        error = (type(problem).__name__, str(problem), traceback.format_exc())
    sender.send(error)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
