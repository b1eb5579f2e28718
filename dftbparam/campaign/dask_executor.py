"""`DaskExecutor`: one run's view of the workers of a `dftbparam.campaign.dask_pool.DaskPool`."""

from __future__ import annotations

import logging
import queue
import uuid
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from dftbparam.campaign.executor import Closing
from dftbparam.campaign.result import Evaluate, Outcome
from dftbparam.errors import EngineError

if TYPE_CHECKING:
    from dftbparam.campaign.dask_pool import DaskPool

_LOG = logging.getLogger(__name__)


class DaskExecutor(Closing):
    """One run's view of a `DaskPool`; see `dftbparam.campaign.executor.Executor`.

    The run's thread calls the protocol's methods; the rest belongs to the pool, and is guarded by its lock.

    Attributes
    ----------
    run
        Names the run among those of the scheduler; another one with every `start`.
    evaluation
        The evaluation and its context.
    backlog, active, futures
        Trials that wait in the pool, those that Dask has, and what Dask has them as.
    seconds, count
        Worker time of the trials that have ended, and their number.
    credit
        Seconds per share that it is treated to have had before it last began to want workers: the time that others had
        without it is no claim on workers now.
    ended
        What has ended; None wakes the run's thread, because the pool was lost or this was closed.
    """

    def __init__(self, pool: DaskPool, share: float, owner: bool) -> None:
        self.pool = pool
        self.share = share
        self._owner = owner
        self.run = ""
        self.evaluation: tuple[Evaluate, Any] | None = None
        self.backlog: deque[tuple[int, dict[str, Any]]] = deque()
        self.active: dict[int, dict[str, Any]] = {}
        self.futures: dict[int, Any] = {}
        self.seconds = 0.0
        self.count = 0
        self.credit = 0.0
        # Indices that were submitted and not collected yet; used by the run's thread only.
        self._open: set[int] = set()
        self.ended: queue.SimpleQueue[tuple[int, Outcome | Exception] | None] = queue.SimpleQueue()

    @property
    def workers(self) -> int:
        """See `Executor`: all workers of the pool, as many as this run gets while it is alone."""
        return self.pool.workers

    def served(self) -> float:
        """Seconds of worker time per share that this run has had, those of running trials foreseen from its others."""
        foreseen = len(self.active) * self.seconds / self.count if self.count else float(len(self.active))
        return self.credit + (self.seconds + foreseen) / self.share

    def start(self, evaluate: Evaluate, context: Any) -> None:
        """See `Executor`."""
        client = self.pool.connected()
        if self.run:
            self.leave(client)
            self._open.clear()
            self.ended = queue.SimpleQueue()
        self.run = uuid.uuid4().hex
        self.evaluation = (evaluate, context)
        while True:
            self.bring(client)
            with self.pool.lock:
                # Not where the connection was lost meanwhile.
                if self.pool.client is client or self.pool.closed:
                    if self not in self.pool.views:
                        self.pool.views.append(self)
                    return
            client = self.pool.connected()

    def bring(self, client: Any) -> None:
        """Register the evaluation with the scheduler, for all workers it has and will have."""
        from dftbparam.campaign.worker import EvaluationPlugin, topic_name

        if client is None or self.evaluation is None:
            return
        evaluate, context = self.evaluation
        client.subscribe_topic(topic_name(self.run), partial(self.pool.hear, self))
        try:
            client.register_plugin(EvaluationPlugin(self.run, evaluate, context))
        except Exception as error:
            raise EngineError(
                f"the workers cannot take up the evaluation {getattr(evaluate, '__qualname__', evaluate)!r} "
                f"({type(error).__name__}: {error}); it must be importable by name there, with the same dftbparam",
                evaluation=str(evaluate),
            ) from error

    def _retire(self, client: Any) -> None:
        """Take the evaluation away from the workers."""
        if client is not None and self.run:
            from dftbparam.campaign.worker import plugin_name, topic_name

            try:
                client.unsubscribe_topic(topic_name(self.run))
                client.unregister_worker_plugin(plugin_name(self.run))
            except Exception:
                _LOG.debug("taking away the evaluation", exc_info=True)

    def submit(self, index: int, parameters: dict[str, Any]) -> None:
        """See `Executor`."""
        self._open.add(index)
        with self.pool.lock:
            if not self.backlog and not self.active:
                busy = [view.served() for view in self.pool.views if view is not self and view.active]
                self.credit += max(min(busy, default=0.0) - self.served(), 0.0)
            self.backlog.append((index, parameters))
        self.pool.feed()

    def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
        """See `Executor`."""
        if not self._open:
            return []
        ended: list[tuple[int, Outcome]] = []
        try:
            # Once the pool is lost nothing more ends.
            waits = timeout != 0.0 and self.pool.lost is None
            item = self.ended.get(timeout=timeout) if waits else self.ended.get_nowait()
            while True:
                if item is not None:
                    index, outcome = item
                    if not isinstance(outcome, Outcome):
                        if ended:
                            self.ended.put(item)
                            break
                        raise outcome
                    self._open.discard(index)
                    ended.append((index, outcome))
                item = self.ended.get_nowait()
        except queue.Empty:
            if not ended and self.pool.lost is not None:
                raise self.pool.lost from None
        # Sorted by index, so that trials found ended together are stored in the same order every time.
        return sorted(ended, key=lambda pair: pair[0])

    def leave(self, client: Any) -> None:
        """Forget all trials, and take the evaluation away from the workers."""
        with self.pool.lock:
            futures = list(self.futures.values())
            self.futures.clear()
            self.active.clear()
            self.backlog.clear()
            self.ended.put(None)
        if client is not None and futures:
            try:
                client.cancel(futures, force=True)
            except Exception:
                _LOG.debug("cancelling trials", exc_info=True)
        self._retire(client)

    def close(self) -> None:
        """See `Executor`. Evaluations that run on shared workers go on there until they end, unheard."""
        if self._owner:
            self.pool.close()
            return
        with self.pool.lock:
            client = self.pool.client
            if self in self.pool.views:
                self.pool.views.remove(self)
        self.leave(client)
        self._open.clear()
        self.pool.feed()
