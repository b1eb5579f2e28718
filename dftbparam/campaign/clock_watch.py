"""Wakes what waits for a time of day after the clock has been set back.

Dask's message streams, and Tornado's periodic calls, count by the time of day. When the clock is set back by an hour
while a stream is about to send, it waits for an hour; so do heartbeats. A watch runs in the event loop of every process
that we have a plugin in, compares the time of day with the monotonic clock, and wakes them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

CHECK_SECONDS: Final = 1.0
"""How often the clocks are compared."""

TOLERANCE: Final = 0.25
"""Seconds that the clock may be set back unnoticed: so long, at most, a message waits then."""

_LOG = logging.getLogger(__name__)


class ClockWatch:
    """One watch; it and what it wakes live in the thread of one event loop.

    Parameters
    ----------
    streams
        Returns Dask's batched streams that there are now; None among them is passed over.
    callbacks
        Returns Tornado's periodic callbacks that there are now.
    """

    def __init__(self, streams: Callable[[], Iterable[Any]], callbacks: Callable[[], Iterable[Any]]) -> None:
        self._streams, self._callbacks = streams, callbacks
        self._offset = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; called in the event loop."""
        self._offset = time.time() - time.monotonic()
        self._next()

    def stop(self) -> None:
        """End; called in the event loop."""
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        # The event loop itself counts by the monotonic clock.
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        offset = time.time() - time.monotonic()
        if offset < self._offset - TOLERANCE:
            _LOG.warning("the clock was set back by %.1f s", self._offset - offset)
            self.wake()
        self._offset = offset
        self._next()

    def wake(self) -> None:
        """Send what waits, and call what is called periodically from now on."""
        for stream in self._streams():
            if stream is not None:
                stream.next_deadline = None
                stream.waker.set()
        for callback in self._callbacks():
            if callback is not None and callback.is_running():
                callback.stop()
                callback.start()
