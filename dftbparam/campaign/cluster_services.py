"""Workers by a cluster profile: jobs of a batch system, through dask-jobqueue.

The number of workers follows the trials that run or wait, within the limits of the profile; Dask's own estimate would
see those that run only, because a pool never hands out more (see `dftbparam.campaign.dask_pool`).

Jobs end: at their wall time, by the hand of an administrator, or because their script fails. Workers leave of their own
before the wall time; a job whose workers have gone, and one that left the queue before any worker came, is replaced.
After `FRUITLESS` of the latter in a row, without any job that worked, the run ends and says where to look.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import logging
import math
import re
import shlex
import shutil
import time
from typing import Any, Final

from dftbparam.campaign.cluster import BatchProfile, KubernetesProfile, LocalProfile, Profile
from dftbparam.campaign.dask_services import TCP_TIMEOUT, LocalService, Service, close_quietly, import_distributed
from dftbparam.campaign.executor import SINGLE_THREAD
from dftbparam.errors import EngineError, EngineMissing

ADAPT_SECONDS: Final = 1.0
"""How often the number of jobs is compared with the work there is."""

LOST_SECONDS: Final = 20.0
"""How long a job may be without workers before it counts as ended: one that died is started again within seconds."""

QUEUE_SECONDS: Final = 30.0
"""How often the batch system is asked which jobs it still has, while some have brought no worker yet."""

RETRY_SECONDS: Final = 5.0
"""Pause after a job could not be submitted."""

FRUITLESS: Final = 3
"""Jobs in a row that could not be submitted, or ended without a worker, after which there is no hope."""

_CLASSES: Final = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}

_QUEUE_COMMANDS: Final = {
    "slurm": "squeue -h -o %A -u {user}",
    "pbs": "qstat -u {user}",
    "lsf": "bjobs -noheader -o jobid -u {user}",
    "sge": "qstat -u {user}",
}
"""How the systems list a user's jobs; each line that holds one begins with its number."""

WORKER_SETTINGS: Final = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": TCP_TIMEOUT,
    # The outcomes are small; what fills the memory is the evaluation, which a pause would not end.
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""Dask's settings for workers, as environment variables."""

_LOG = logging.getLogger(__name__)


def profile_service(profile: Profile) -> Service:
    """Return what starts the workers of a profile.

    Raises
    ------
    EngineMissing
        The library or the program that it needs is not installed.
    """
    if isinstance(profile, LocalProfile):
        return LocalService(profile.workers, profile.dashboard)
    if isinstance(profile, KubernetesProfile):
        from dftbparam.campaign.cluster_kubernetes import KubernetesService

        return KubernetesService(profile)
    return BatchService(profile)


def _clock(seconds: int) -> str:
    """Seconds as HH:MM:SS."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def batch_options(profile: BatchProfile) -> dict[str, Any]:
    """Keyword arguments of the dask-jobqueue class for a profile."""
    environment = {**SINGLE_THREAD, **WORKER_SETTINGS, **profile.environment}
    scheduler: dict[str, Any] = {
        "port": profile.scheduler.port,
        "dashboard": profile.scheduler.dashboard is not None,
        # Without a dashboard Dask still opens a port for its status: any free one.
        "dashboard_address": profile.scheduler.dashboard or ":0",
    }
    for name in ("host", "interface", "contact_address"):
        if getattr(profile.scheduler, name) is not None:
            scheduler[name] = getattr(profile.scheduler, name)
    options: dict[str, Any] = {
        "queue": profile.queue,
        # LSF's own form has no seconds.
        "walltime": _clock(profile.walltime)[:-3] if profile.system == "lsf" else _clock(profile.walltime),
        "cores": profile.workers_per_job,
        "processes": profile.workers_per_job,
        "memory": f"{profile.memory}B",
        "interface": profile.interface,
        "python": profile.python,
        "local_directory": profile.local_directory,
        "log_directory": profile.log_directory,
        "job_name": profile.job_name,
        # After the prologue, whose modules may set numbers of threads.
        "job_script_prologue": [*profile.prologue, *(f"export {k}={shlex.quote(v)}" for k, v in environment.items())],
        "job_extra_directives": list(profile.directives),
        "job_directives_skip": list(profile.skip_directives),
        "worker_extra_args": [
            "--lifetime",
            f"{profile.lifetime}s",
            "--lifetime-stagger",
            f"{profile.stagger}s",
            "--no-dashboard",
        ],
        "death_timeout": 120,
        "scheduler_options": scheduler,
        "silence_logs": "critical",
    }
    # The batch system gets the cores that were asked for, also where fewer processes share them.
    options["account" if profile.system in ("slurm", "pbs") else "project"] = profile.account
    if profile.system == "slurm":
        options["job_cpu"] = profile.cores
    elif profile.system == "lsf":
        options["ncpus"] = profile.cores
    else:
        options["resource_spec"] = profile.resources
        if profile.system == "pbs" and profile.resources is None:
            megabytes = math.ceil(profile.memory / 2**20)
            options["resource_spec"] = f"select=1:ncpus={profile.cores}:mem={megabytes}mb"
    if profile.tls:
        options |= {"security": True, "shared_temp_directory": profile.log_directory or "."}
    return options


class BatchService:
    """Jobs of a batch system; see the module.

    Raises
    ------
    EngineMissing
        dask-jobqueue is not installed, or the system's commands are not on the PATH.
    """

    elastic = True

    def __init__(self, profile: BatchProfile) -> None:
        self.profile = profile
        self.dashboard = profile.scheduler.dashboard is not None
        self.where = f"the scheduler of the {profile.system.upper()} profile"
        self._class = self._find_class()
        self._cluster: Any = None
        self._wanted = 0
        # Used in the thread of Dask's event loop, where jobs are submitted and watched.
        # When a worker of a job was last there, by the job's number: a new job takes the name of the one it replaces.
        self._last_seen: dict[str, float] = {}
        self._asked_queue = 0.0
        self._failed_at = -math.inf
        self._failures = 0
        self._problem = ""
        self._trouble: str | None = None

    def _find_class(self) -> Any:
        import_distributed()
        try:
            jobqueue = importlib.import_module("dask_jobqueue")
        except ImportError as error:
            raise EngineMissing(
                f"cluster profiles of batch systems need dask-jobqueue ({error}); pip install 'dftbparam[cluster]'"
            ) from None
        found = getattr(jobqueue, _CLASSES[self.profile.system])
        command = shlex.split(found.job_cls.submit_command)[0]
        if shutil.which(command) is None:
            raise EngineMissing(
                f"the profile asks for {self.profile.system.upper()}, whose program {command!r} is not on the PATH; "
                "run this on a login node",
                command=command,
            )
        if self.profile.tls and importlib.util.find_spec("cryptography") is None:
            raise EngineMissing("tls = true needs the library cryptography; pip install cryptography")
        return found

    def connect(self) -> Any:
        """See `Service`; the scheduler runs in this process."""
        distributed = import_distributed()
        import dask

        if self._cluster is None:
            try:
                # See `dftbparam.campaign.dask_services.LocalService` for the first.
                with dask.config.set({"distributed.scheduler.worker-saturation": 1.0}):
                    self._cluster = self._class(job_cls=self._watched_job(), **batch_options(self.profile))
            except (OSError, RuntimeError, ValueError) as error:
                raise EngineError(
                    f"the Dask scheduler for the {self.profile.system.upper()} profile cannot start ({error}); see "
                    "host, port and interface in its [scheduler]"
                ) from None
            per_job = self.profile.workers_per_job
            self.where = str(self._cluster.scheduler_address)
            self._cluster.adapt(
                Adaptive=self._adaptive(),
                minimum=self.profile.minimum_jobs * per_job,
                maximum=self.profile.maximum_jobs * per_job,
                interval=ADAPT_SECONDS,
                wait_count=max(round(self.profile.idle_seconds / ADAPT_SECONDS), 1),
                **({"worker_key": _job_of_worker} if per_job > 1 else {}),
            )
        return distributed.Client(self._cluster, set_as_default=False)

    def limit(self, present: int) -> int:
        """See `Service`."""
        return self.profile.maximum_jobs * self.profile.workers_per_job

    def want(self, workers: int) -> None:
        """See `Service`."""
        self._wanted = workers

    def trouble(self) -> str | None:
        """See `Service`."""
        return self._trouble

    def callbacks(self) -> list[Any]:
        """See `Service`: that of Dask's scaling."""
        adaptive = getattr(self._cluster, "_adaptive", None)
        return [] if adaptive is None else [adaptive.periodic_callback]

    def close(self) -> None:
        """See `Service`; cancels the jobs."""
        cluster, self._cluster = self._cluster, None
        close_quietly(cluster, timeout=30)

    # --- in the thread of Dask's event loop -------------------------------------------------------------------------

    def _watched_job(self) -> Any:
        """Return the job class, made to tell this object how submitting went."""
        service = self

        class WatchedJob(self._class.job_cls):  # type: ignore[name-defined, misc]
            async def start(self) -> None:
                try:
                    await super().start()
                except Exception as error:
                    service._fruitless(f"a job could not be submitted ({submission_error(error)})", submitted=False)
                    raise
                _LOG.info("submitted job %s as %s", self.job_id, self.name)

        return WatchedJob

    def _adaptive(self) -> Any:
        """Return Dask's scaling, made to follow the work of the pool."""
        from distributed.deploy.adaptive import Adaptive

        service, per_job = self, self.profile.workers_per_job

        class FollowingThePool(Adaptive):
            async def target(self) -> int:
                return math.ceil(service._wanted / per_job) * per_job

            async def adapt(self) -> None:
                await service._look_after_jobs()
                # The exception of a job that could not be submitted was noted there.
                with contextlib.suppress(Exception):
                    await super().adapt()

        return FollowingThePool

    async def _look_after_jobs(self) -> None:
        """Forget jobs that have ended, so that they are replaced."""
        cluster, now = self._cluster, time.monotonic()
        if cluster is None:
            return
        suffixes = cluster.new_spec.get("group", [""])
        present = {str(worker["name"]) for worker in cluster.scheduler_info["workers"].values()}
        for name, job in list(cluster.workers.items()):
            if job.job_id is None:
                # It could not be submitted.
                if now - self._failed_at > RETRY_SECONDS:
                    del cluster.workers[name]
                continue
            if any(f"{name}{suffix}" in present for suffix in suffixes):
                self._last_seen[job.job_id] = now
                self._failures = 0
            elif now - self._last_seen.get(job.job_id, now) > LOST_SECONDS:
                _LOG.info("job %s has ended", job.job_id)
                await self._forget(name)
        unseen = {
            name: job for name, job in cluster.workers.items() if job.job_id and job.job_id not in self._last_seen
        }
        if unseen and now - self._asked_queue > QUEUE_SECONDS:
            self._asked_queue = now
            await self._look_into_queue(unseen)

    async def _forget(self, name: str) -> None:
        job = self._cluster.workers.pop(name, None)
        if job is not None:
            await job.close()

    async def _look_into_queue(self, unseen: dict[str, Any]) -> None:
        """Find jobs that brought no worker and that the batch system has no longer."""
        command = _QUEUE_COMMANDS[self.profile.system].format(user=getpass.getuser())
        try:
            listed = await next(iter(unseen.values()))._call(shlex.split(command))
        except Exception:
            _LOG.debug("%s", command, exc_info=True)
            return
        queued = set(re.findall(r"^\s*(\d+)", listed, re.MULTILINE))
        for name, job in unseen.items():
            number = re.match(r"\d+", str(job.job_id))
            if number is None or number.group() in queued or job.job_id in self._last_seen:
                continue
            logs = self.profile.log_directory or "the batch system's usual folder"
            self._fruitless(
                f"job {job.job_id} ended before a worker of it reached {self._cluster.scheduler_address}: see its "
                f"output in {logs} (python and modules on the nodes? can they reach this address?)"
            )
            await self._forget(name)

    def _fruitless(self, problem: str, *, submitted: bool = True) -> None:
        """Note that a job came to nothing; three before the first worker end the run.

        Not where a job was refused while others are in the queue: a limit of jobs, or a controller that restarts.
        """
        queued = not submitted and any(job.job_id is not None for job in self._cluster.workers.values())
        self._failed_at = time.monotonic()
        self._failures += 1
        if problem != self._problem:
            _LOG.warning("%s", problem)
        self._problem = problem
        if self._failures >= FRUITLESS:
            if not (self._last_seen or queued):
                self._trouble = (
                    f"{problem}; nor did the {self._failures - 1} jobs before it come to anything; does the batch "
                    f"system ({self.profile.system}) take jobs here at all?"
                )
            elif self._failures % FRUITLESS == 0:
                _LOG.warning("%s; %d jobs in a row came to nothing, trying on", problem, self._failures)


def submission_error(error: Exception) -> str:
    """What the batch system said, without the command and its script, which has another name every time."""
    text = str(error)
    said = text.partition("stderr:")[2]
    return in_one_line(said if said.strip() else text)


def in_one_line(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


def _job_of_worker(worker: Any) -> str:
    """Name of the job that a worker belongs to, where a job has several; runs in the scheduler."""
    return str(worker.name).rsplit("-", 1)[0]
