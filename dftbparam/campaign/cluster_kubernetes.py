"""Workers by a cluster profile: pods of Kubernetes, through dask-kubernetes and the operator that comes with it.

As in `dftbparam.campaign.cluster_services`, the number of pods follows the trials that run or wait. The operator itself
replaces pods that have gone.
"""

from __future__ import annotations

import getpass
import importlib
import logging
import threading
import time
from typing import Any

from dftbparam.campaign.cluster import KubernetesProfile
from dftbparam.campaign.cluster_services import ADAPT_SECONDS, RETRY_SECONDS, WORKER_SETTINGS, in_one_line
from dftbparam.campaign.dask_services import close_quietly, import_distributed
from dftbparam.campaign.executor import SINGLE_THREAD
from dftbparam.errors import EngineError, EngineMissing

_LOG = logging.getLogger(__name__)


def kubernetes_spec(profile: KubernetesProfile, name: str) -> dict[str, Any]:
    """The ``DaskCluster`` resource of a profile, with no workers yet."""
    from dask_kubernetes.operator import make_cluster_spec

    environment = {**SINGLE_THREAD, **WORKER_SETTINGS, **profile.environment}
    amounts = {"memory": profile.memory, "cpu": profile.cpu}
    spec: dict[str, Any] = make_cluster_spec(
        name=name,
        image=profile.image,
        n_workers=profile.minimum_workers,
        resources={"requests": amounts, "limits": amounts},
        env=environment,
        worker_command="dask worker --nthreads 1",
    )
    spec["spec"]["worker"]["spec"] |= profile.worker
    spec["spec"]["scheduler"]["spec"] |= profile.scheduler
    # One waiting trial a worker at most, see `dftbparam.campaign.dask_services.LocalService`.
    for container in spec["spec"]["scheduler"]["spec"]["containers"]:
        container["env"] = [
            *container.get("env", []),
            {"name": "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION", "value": "1.0"},
        ]
    return spec


class KubernetesService:
    """Pods, made and removed by the Dask operator.

    Raises
    ------
    EngineMissing
        dask-kubernetes is not installed.
    """

    elastic = True
    dashboard = True

    def __init__(self, profile: KubernetesProfile) -> None:
        self.profile = profile
        self.where = "the scheduler in Kubernetes"
        import_distributed()
        try:
            self._operator = importlib.import_module("dask_kubernetes.operator")
        except ImportError as error:
            raise EngineMissing(
                f"the Kubernetes profile needs dask-kubernetes ({error}); pip install 'dftbparam[kubernetes]'"
            ) from None
        self._cluster: Any = None
        self._trouble: str | None = None
        self._wanted = 0
        self._news = threading.Event()
        self._closed = threading.Event()

    def connect(self) -> Any:
        """See `Service`."""
        distributed = import_distributed()
        if self._cluster is None:
            name = self.profile.name or f"dftbparam-{getpass.getuser().lower()}-{int(time.time())}"
            try:
                self._cluster = self._operator.KubeCluster(
                    custom_cluster_spec=kubernetes_spec(self.profile, name),
                    namespace=self.profile.namespace,
                    resource_timeout=self.profile.start_seconds,
                    shutdown_on_close=True,
                    quiet=True,
                )
            except Exception as error:
                # The client libraries raise whatever they like: configuration, network, permissions.
                reason = f"{type(error).__name__}: {in_one_line(str(error))}"
                raise EngineError(
                    f"Kubernetes did not start the Dask scheduler ({reason}); "
                    "does 'kubectl get pods' work here, and does the Dask operator run in the cluster?"
                ) from error
            threading.Thread(target=self._follow, name="dftbparam-kubernetes", daemon=True).start()
        return distributed.Client(self._cluster, set_as_default=False)

    def limit(self, present: int) -> int:
        """See `Service`."""
        return self.profile.maximum_workers

    def want(self, workers: int) -> None:
        """See `Service`."""
        self._wanted = workers
        self._news.set()

    def trouble(self) -> str | None:
        """See `Service`."""
        return self._trouble

    def callbacks(self) -> list[Any]:
        """See `Service`; there are none."""
        return []

    def _follow(self) -> None:
        """Ask for as many pods as there is work for: more at once, fewer after a while."""
        asked, enough_since = self.profile.minimum_workers, time.monotonic()
        none_since: float | None = None
        warned = False
        while not self._closed.is_set():
            self._news.wait(ADAPT_SECONDS)
            self._news.clear()
            wanted = min(max(self._wanted, self.profile.minimum_workers), self.profile.maximum_workers)
            now = time.monotonic()
            if wanted >= asked:
                enough_since = now
            if wanted > asked or (wanted < asked and now - enough_since > self.profile.idle_seconds):
                try:
                    self._cluster.scale(wanted)
                    asked = wanted
                except Exception:
                    _LOG.warning("Kubernetes did not take %d workers", wanted, exc_info=True)
                    self._closed.wait(RETRY_SECONDS)
            # Pods may wait for hours in a full cluster, or for ever: for an image that does not exist, say.
            none_since = (none_since or now) if asked and not self._present() else None
            if none_since is not None and not warned and now - none_since > self.profile.start_seconds:
                warned = True
                _LOG.warning(
                    "none of %d pods has brought a worker in %d s; 'kubectl get pods' and 'kubectl describe pod' say "
                    "why",
                    asked,
                    now - none_since,
                )

    def _present(self) -> int:
        """Number of workers that the scheduler has."""
        cluster = self._cluster
        info = None if cluster is None else cluster.scheduler_info
        return len(info.get("workers", {})) if isinstance(info, dict) else 0

    def close(self) -> None:
        """See `Service`; deletes what was made."""
        self._closed.set()
        self._news.set()
        cluster, self._cluster = self._cluster, None
        close_quietly(cluster, timeout=30)
