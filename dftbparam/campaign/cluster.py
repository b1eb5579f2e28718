"""Cluster profiles: a TOML file that says how workers are started on a batch system, on Kubernetes, or here.

A profile is found by path, by name in the folder ``cluster`` below the working folder, or by name among those that come
with the package (``slurm``, ``pbs``, ``lsf``, ``sge``, ``kubernetes``, ``local``). Its first key, ``system``, decides
which other keys there are: the fields of `BatchProfile`, `KubernetesProfile` or `LocalProfile`. This module reads and
checks; `dftbparam.campaign.cluster_services` starts.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.space.toml_lines import line_of

OWN_FOLDER: Final = Path("cluster")
"""Where a user keeps profiles, below the working folder."""

SHORTEST_MARGIN: Final = 120
LONGEST_MARGIN: Final = 600
MARGIN_SHARE: Final = 0.05
"""Workers leave this share of the wall time before its end, at least and at most so many seconds: enough for a slow
start of the job and for the ends to be spread."""

_BYTES: Final = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


def seconds_of(text: Any) -> int:
    """Read a time as batch systems write it: ``HH:MM:SS``, ``D-HH:MM:SS``, or a number of seconds.

    Raises
    ------
    ValueError
        Another form; ``HH:MM`` is refused because systems disagree on what it means.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a time; write hours, minutes and seconds like '04:00:00'")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def bytes_of(text: Any) -> int:
    """Read an amount of memory such as ``16GB`` or ``16GiB``; ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B", str(text).strip().upper())
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory; write it like '16GB'")
    return int(float(match.group(1)) * _BYTES[match.group(2)])


Seconds = Annotated[int, BeforeValidator(seconds_of), Field(gt=0)]
Memory = Annotated[int, BeforeValidator(bytes_of), Field(gt=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SchedulerOptions(_Record):
    """Where the Dask scheduler, which runs inside the driver, listens.

    Attributes
    ----------
    host
        Name or address that the nodes reach this machine by; default: that of its first network.
    interface
        Network interface to listen on, instead.
    port
        0 for any free one.
    contact_address
        What the nodes are told, where it differs: ``tcp://login1.example.org:8786`` behind a forwarded port.
    dashboard
        Where Dask shows its dashboard, e.g. ``:8787``; None for nowhere.
    """

    host: str | None = None
    interface: str | None = None
    port: int = Field(default=0, ge=0, le=65535)
    contact_address: str | None = None
    dashboard: str | None = None


class BatchProfile(_Record):
    """Workers as jobs of a batch system, through dask-jobqueue.

    Attributes
    ----------
    queue, account
        Queue (SLURM: partition) and account or project; None leaves them to the system.
    walltime
        Of one job, seconds; in the file ``HH:MM:SS`` or ``D-HH:MM:SS``.
    cores, memory
        Of one job; memory in bytes, in the file like ``16GB``.
    processes
        Workers in one job, one thread each; default one a core.
    minimum_jobs, maximum_jobs
        Between these the number of jobs follows the work there is.
    idle_seconds
        How long jobs are kept that have nothing to do.
    margin
        Seconds before the end of the wall time at which workers leave, spread by half of it to either side.
    prologue
        Lines of shell before the worker starts: ``module load``, ``source .../activate``.
    python
        The interpreter on the nodes; default the driver's own, which needs a shared file system.
    environment
        Variables on the nodes, beyond `dftbparam.campaign.executor.SINGLE_THREAD`.
    interface
        Network interface of the workers, and of the scheduler unless it has another.
    local_directory
        Fast local disk of the nodes, for Dask's own files.
    log_directory
        Where the jobs' output goes, seen from here; None for the system's default.
    job_name
        Name of the jobs.
    directives, skip_directives
        Lines to add to the head of the job script (without ``#SBATCH``), and texts whose lines are left out of it.
    resources
        PBS, SGE: what to ask for, where the usual from cores and memory is not right here.
    tls
        Encrypt and authenticate what goes over the network, with a certificate made for the run; needs ``cryptography``
        and a working folder that the nodes share.
    """

    system: Literal["slurm", "pbs", "lsf", "sge"]
    queue: str | None = None
    account: str | None = None
    walltime: Seconds
    cores: int = Field(ge=1)
    memory: Memory
    processes: int | None = Field(default=None, ge=1)
    minimum_jobs: int = Field(default=0, ge=0)
    maximum_jobs: int = Field(default=1, ge=1)
    idle_seconds: int = Field(default=300, ge=0)
    margin: Seconds | None = None
    prologue: tuple[str, ...] = ()
    python: str | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    interface: str | None = None
    local_directory: str | None = None
    log_directory: str | None = None
    job_name: str = "dftbparam"
    directives: tuple[str, ...] = ()
    skip_directives: tuple[str, ...] = ()
    resources: str | None = None
    tls: bool = False
    scheduler: SchedulerOptions = SchedulerOptions()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum_jobs > self.maximum_jobs:
            raise ValueError(f"minimum_jobs {self.minimum_jobs} is more than maximum_jobs {self.maximum_jobs}")
        if self.workers_per_job > self.cores:
            raise ValueError(f"{self.processes} processes need as many cores, one each; cores is {self.cores}")
        if self.lifetime <= 0:
            raise ValueError(
                f"a wall time of {self.walltime} s leaves nothing after the margin of {self.leave_before} s; ask for "
                "more, or give a smaller margin"
            )
        if self.resources is not None and self.system not in ("pbs", "sge"):
            raise ValueError(f"resources is a key of pbs and sge; for {self.system} use directives")
        return self

    @property
    def workers_per_job(self) -> int:
        """Worker processes in one job."""
        return self.cores if self.processes is None else self.processes

    @property
    def leave_before(self) -> int:
        """The margin, seconds."""
        if self.margin is not None:
            return self.margin
        return round(min(max(MARGIN_SHARE * self.walltime, SHORTEST_MARGIN), LONGEST_MARGIN))

    @property
    def stagger(self) -> int:
        """Seconds by which the ends of workers are spread to either side."""
        return self.leave_before // 2

    @property
    def lifetime(self) -> int:
        """Seconds after which a worker leaves on its own, on average; 0 or less where the wall time is too short."""
        return self.walltime - self.leave_before if self.walltime > self.leave_before + self.stagger else 0


class KubernetesProfile(_Record):
    """Workers as pods, through the Dask operator, which must run in the cluster.

    Attributes
    ----------
    image
        Container image with the driver's versions of dftbparam, Python and Dask.
    namespace, name
        Where the resource is made, and its name; it is deleted at the end.
    memory, cpu
        Of one pod, as Kubernetes writes them: ``2Gi``, ``1``. A pod holds one worker with one thread.
    minimum_workers, maximum_workers
        Between these the number of pods follows the work there is.
    idle_seconds
        How long pods are kept that have nothing to do.
    environment
        Variables of scheduler and workers, beyond `dftbparam.campaign.executor.SINGLE_THREAD`.
    worker, scheduler
        Merged into the pod specifications: ``nodeSelector``, ``tolerations``, ``imagePullSecrets``.
    start_seconds
        How long the scheduler's pod may take to start.
    """

    system: Literal["kubernetes"]
    image: str
    namespace: str | None = None
    name: str | None = None
    memory: str = "2Gi"
    cpu: str = "1"
    minimum_workers: int = Field(default=0, ge=0)
    maximum_workers: int = Field(ge=1)
    idle_seconds: int = Field(default=300, ge=0)
    environment: dict[str, str] = Field(default_factory=dict)
    worker: dict[str, Any] = Field(default_factory=dict)
    scheduler: dict[str, Any] = Field(default_factory=dict)
    start_seconds: int = Field(default=300, ge=1)

    @field_validator("memory", "cpu")
    @classmethod
    def _quantity(cls, text: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?(m|[KMGT]i?)?", text):
            raise ValueError(f"{text!r} is not an amount as Kubernetes writes it, like '2Gi' or '500m'")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum_workers > self.maximum_workers:
            raise ValueError(
                f"minimum_workers {self.minimum_workers} is more than maximum_workers {self.maximum_workers}"
            )
        return self


class LocalProfile(_Record):
    """Worker processes of this machine.

    Attributes
    ----------
    workers
        How many, one thread each.
    dashboard
        Where Dask shows its dashboard, e.g. ``127.0.0.1:8787``; None for nowhere.
    """

    system: Literal["local"]
    workers: int = Field(ge=1)
    dashboard: str | None = None


Profile = BatchProfile | KubernetesProfile | LocalProfile

SYSTEMS: Final[dict[str, type[BatchProfile] | type[KubernetesProfile] | type[LocalProfile]]] = {
    "slurm": BatchProfile,
    "pbs": BatchProfile,
    "lsf": BatchProfile,
    "sge": BatchProfile,
    "kubernetes": KubernetesProfile,
    "local": LocalProfile,
}


def shipped_folder() -> Path:
    """Folder of the profiles that come with the package: the installed one's own, else the checkout's ``cluster/``."""
    here = Path(__file__).resolve().parent
    inside = here / "clusters"
    return inside if inside.is_dir() else here.parents[1] / "cluster"


def profile_names() -> tuple[str, ...]:
    """Names that `load_profile` takes: those in the user's folder and those that come with the package."""
    folders = (OWN_FOLDER, shipped_folder())
    return tuple(sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.toml")}))


def find_profile(name: str) -> Path:
    """Path of a profile given by name or path.

    Raises
    ------
    ParameterError
        There is none.
    """
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise ParameterError(f"no cluster profile at {name}", cluster=name)
    for folder in (OWN_FOLDER, shipped_folder()):
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = profile_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}; or give the path of a TOML file"
    raise ParameterError(f"no cluster profile {name!r}; {hint}", cluster=name)


def load_profile(name: str) -> Profile:
    """Read and check a profile given by name or path.

    Raises
    ------
    ParameterError
        There is none.
    FileFormatError
        It is not TOML, has an unknown key, or a value out of its range.
    """
    path = find_profile(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"not TOML: {error}", path=str(path)) from None
    system = content.get("system")
    if system not in SYSTEMS:
        raise FileFormatError(
            f"system is {system!r}; a profile begins with system = one of {', '.join(SYSTEMS)}", path=str(path)
        )
    try:
        return SYSTEMS[system].model_validate(content)
    except ValidationError as error:
        place = tuple(str(part) for part in _first(error)["loc"])
        line = line_of(text, place) if place else None
        raise FileFormatError(_first_problem(error, SYSTEMS[system]), path=str(path), line=line) from None


def _first(error: ValidationError) -> Any:
    """The problem to tell of: a misspelt key explains a missing one."""
    problems = error.errors()
    return next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])


def _first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """Say in one sentence what is wrong, and what may have been meant."""
    first = _first(error)
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        names = list(SchedulerOptions.model_fields if len(first["loc"]) > 1 else kind.model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
        return f"unknown key {place!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}")
    if first["type"] == "missing":
        return f"{place} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"{message} (given: {first['input']!r})"
    return f"{place}: {message}" if place else message
