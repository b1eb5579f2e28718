"""What stands behind a `DaskPool`: workers of this machine, or a scheduler somewhere.

Those of batch systems are in `dftbparam.campaign.cluster_services`.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any, Final, Protocol

from dftbparam.campaign.executor import SINGLE_THREAD
from dftbparam.errors import EngineError, EngineMissing, ParameterError

CONNECT_SECONDS: Final = 15.0
"""How long to wait for a scheduler to answer."""

TCP_TIMEOUT: Final = "120s"
"""How long a connection may be silent before it counts as lost. Dask's default, 30 s, would give up workers, with what
they are at, for a network that is away for half a minute."""

ADDRESS: Final = re.compile(r"((tcp|tls|ws|wss|ucx)://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})/?")
"""Of a scheduler: host and port, with or without the protocol."""

_LOG = logging.getLogger(__name__)


class Service(Protocol):
    """Where workers come from. Used by one `DaskPool`, which calls nothing of it at the same time.

    Attributes
    ----------
    where
        For messages: the address, or what it is.
    elastic
        Whether workers come and go with `want`, and may take hours to come.
    dashboard
        Whether Dask shows its dashboard, as far as is known here.
    """

    where: str
    elastic: bool
    dashboard: bool

    def connect(self) -> Any:
        """Start what is to be started, and return a new Dask client; again, where the last connection was lost.

        Raises
        ------
        EngineError
            Nothing answers.
        """
        ...

    def limit(self, present: int) -> int:
        """Workers that there may be at most, where ``present`` are there now."""
        ...

    def want(self, workers: int) -> None:
        """Say how many workers there is work for. Must not block."""
        ...

    def trouble(self) -> str | None:
        """Say why no workers can come, in one sentence; None where all is well."""
        ...

    def callbacks(self) -> list[Any]:
        """Tornado's periodic callbacks that keep the workers coming, see `dftbparam.campaign.clock_watch`."""
        ...

    def close(self) -> None:
        """End what was started here."""
        ...


def import_distributed() -> Any:
    """Import Dask, with our defaults; `EngineMissing` where it is not installed."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise EngineMissing(
            f"parallel evaluation needs dask and distributed ({error}); pip install 'dask[distributed]'"
        ) from None
    # What a lost connection comes to is said by the pool, in a line; Dask's own is a traceback for each attempt.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    # Below a user's own Dask configuration in priority.
    dask.config.update_defaults({"distributed": {"comm": {"timeouts": {"tcp": TCP_TIMEOUT}}}})
    return distributed


def close_quietly(*things: Any, **how: Any) -> None:
    """Close clients or clusters; what is closed here may be gone already, and there is nothing to be done about it."""
    for thing in things:
        if thing is not None:
            try:
                thing.close(**how)
            except Exception:
                _LOG.debug("closing %s", thing, exc_info=True)


def check_address(address: str) -> None:
    """Raise `ParameterError` for what is neither the address of a scheduler nor a scheduler file.

    Dask finds that out, too, but only when it connects, and with a client that is left half done.
    """
    found = ADDRESS.fullmatch(address)
    if not os.path.isfile(address) and not (found and 0 < int(found.group(4)) < 65536):
        raise ParameterError(
            f"{address!r} is neither an address like tcp://host:8786 nor a scheduler file", scheduler=address
        )


class LocalService:
    """Worker processes of this machine, one thread each.

    Raises
    ------
    ParameterError
        ``workers`` < 1.
    """

    elastic = False
    where = "the local scheduler"

    def __init__(self, workers: int, dashboard_address: str | None = None) -> None:
        if workers < 1:
            raise ParameterError(f"workers must be at least 1, got {workers}", workers=workers)
        self.count = workers
        self.dashboard = dashboard_address is not None
        self._dashboard = dashboard_address
        self._cluster: Any = None

    @property
    def address(self) -> str:
        """Address of the scheduler, once it runs."""
        return str(self._cluster.scheduler_address)

    def connect(self) -> Any:
        """See `Service`."""
        distributed = import_distributed()
        import dask

        if self._cluster is None:
            # A trial waits at the scheduler rather than behind another one: Dask blames the death of a worker on
            # everything that waits there. Memory limits are left to the operating system: Dask's own pause workers on
            # a busy machine.
            settings = {"distributed.scheduler.worker-saturation": 1.0, "distributed.worker.profile.enabled": False}
            with dask.config.set(settings):
                self._cluster = distributed.LocalCluster(
                    n_workers=self.count,
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
        return distributed.Client(self._cluster, set_as_default=False)

    def limit(self, present: int) -> int:
        """See `Service`."""
        return self.count

    def want(self, workers: int) -> None:
        """See `Service`; the number of workers is fixed."""

    def trouble(self) -> str | None:
        """See `Service`."""
        return None

    def callbacks(self) -> list[Any]:
        """See `Service`; there are none."""
        return []

    def close(self) -> None:
        """See `Service`."""
        cluster, self._cluster = self._cluster, None
        close_quietly(cluster, timeout=10)


class SchedulerService:
    """A scheduler that somebody started; its workers are left running.

    Parameters
    ----------
    address
        ``tcp://host:8786``, or the path of the scheduler file.

    Raises
    ------
    ParameterError
        It is neither.
    """

    elastic = False
    dashboard = True

    def __init__(self, address: str) -> None:
        self.where = address
        check_address(address)

    def connect(self) -> Any:
        """See `Service`."""
        distributed = import_distributed()
        how: dict[str, Any] = {"timeout": CONNECT_SECONDS, "set_as_default": False}
        try:
            if os.path.isfile(self.where):
                return distributed.Client(scheduler_file=self.where, **how)
            return distributed.Client(self.where, **how)
        except (OSError, TimeoutError, ValueError) as error:
            raise EngineError(
                f"no Dask scheduler answers at {self.where!r} ({error}); start one with 'dask scheduler'",
                scheduler=self.where,
            ) from None

    def limit(self, present: int) -> int:
        """See `Service`."""
        return max(present, 1)

    def want(self, workers: int) -> None:
        """See `Service`; its workers are not ours to ask for."""

    def trouble(self) -> str | None:
        """See `Service`."""
        return None

    def callbacks(self) -> list[Any]:
        """See `Service`; there are none."""
        return []

    def close(self) -> None:
        """See `Service`; the scheduler is left running."""
