"""Cluster profiles: read, checked, turned into what dask-jobqueue and dask-kubernetes take."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dftbparam.campaign.cluster import (
    BatchProfile,
    KubernetesProfile,
    LocalProfile,
    bytes_of,
    find_profile,
    load_profile,
    profile_names,
    seconds_of,
)
from dftbparam.campaign.cluster_services import BatchService, batch_options, profile_service
from dftbparam.campaign.dask_services import LocalService
from dftbparam.campaign.executor import SINGLE_THREAD, pool
from dftbparam.errors import EngineMissing, FileFormatError, ParameterError

LEAST = {"walltime": "01:00:00", "cores": 4, "memory": "8GB"}


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def batch(system: str = "slurm", **more: Any) -> BatchProfile:
    return BatchProfile.model_validate({"system": system, **LEAST, **more})


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf", "sge", "kubernetes", "local"])
def test_profiles_that_come_with_the_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name in profile_names()
    assert load_profile(name).system == name


def test_an_own_profile_is_found_by_name_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "cluster", 'system = "local"\nworkers = 5\n')
    for name in ("mine", path, "cluster/mine.toml"):
        assert load_profile(name) == LocalProfile(system="local", workers=5)
    write(tmp_path / "cluster", 'system = "local"\nworkers = 7\n', "slurm.toml")
    assert load_profile("slurm") == LocalProfile(system="local", workers=7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slrum", "did you mean 'slurm'"),
        ("xyz", "there are: kubernetes, .*slurm"),
        ("a/b.toml", "no cluster profile at"),
    ],
)
def test_no_such_profile(name: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        find_profile(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system = ", "not TOML"),
        ("cores = 3", "system is None; a profile begins with system = one of slurm, pbs"),
        ('system = "moab"', "system is 'moab'"),
        ('system = "slurm"\nwall_time = "1:00:00"', "unknown key 'wall_time'; did you mean 'walltime'"),
        ('system = "slurm"\nxyz = 1', "unknown key 'xyz'; there are: system, queue"),
        ('system = "slurm"\n[scheduler]\nprot = 1', "unknown key 'scheduler.prot'; did you mean 'port'"),
        ('system = "slurm"\nwalltime = "1:00:00"\ncores = 1', "memory is missing"),
        ('system = "slurm"\nwalltime = "90"\ncores = 1\nmemory = "1GB"', "walltime: '90' is not a time"),
        ('system = "slurm"\nwalltime = "1:00:00"\ncores = 1\nmemory = "1 cow"', "memory: '1 cow' is not an amount"),
        (
            'system = "slurm"\nwalltime = "00:02:00"\ncores = 1\nmemory = "1GB"',
            "leaves nothing after the margin of 120 s",
        ),
        (
            'system = "slurm"\nwalltime = "1:00:00"\ncores = 1\nprocesses = 2\nmemory = "1GB"',
            "2 processes need as many",
        ),
        (
            'system = "slurm"\nwalltime = "1:00:00"\ncores = 1\nmemory = "1GB"\nminimum_jobs = 3\nmaximum_jobs = 2',
            "minimum_jobs 3 is more than maximum_jobs 2",
        ),
        ('system = "lsf"\nwalltime = "1:00:00"\ncores = 1\nmemory = "1GB"\nresources = "x"', "use directives"),
        ('system = "kubernetes"\nimage = "x"\nmaximum_workers = 2\nmemory = "2 GB"', "memory: '2 GB' is not an amount"),
        ('system = "kubernetes"\nimage = "x"\nmaximum_workers = 2\nminimum_workers = 3', "minimum_workers 3"),
        ('system = "local"\nworkers = 0', "workers: .*greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_profile(path)
    assert caught.value.path == path
    assert caught.value.exit_code == 2


def test_times_and_amounts() -> None:
    assert [seconds_of(t) for t in ("00:30:00", "36:00:00", "2-00:00:01", 90)] == [1800, 129600, 172801, 90]
    assert [bytes_of(t) for t in ("1GB", "1.5 GiB", "200MB")] == [10**9, 3 * 2**29, 2 * 10**8]


@pytest.mark.parametrize("walltime", ["00:05:00", "01:00:00", "24:00:00", "7-00:00:00"])
def test_workers_leave_before_the_wall_time(walltime: str) -> None:
    profile = batch(walltime=walltime)
    assert profile.walltime - 900 <= profile.lifetime - profile.stagger
    assert 60 <= profile.walltime - (profile.lifetime + profile.stagger) <= 300
    assert profile.lifetime > profile.stagger


def job_script(profile: BatchProfile, monkeypatch: pytest.MonkeyPatch) -> str:
    """The script that would be submitted."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    service: Any = profile_service(profile)
    options = batch_options(profile)
    for other in ("scheduler_options", "silence_logs", "security", "shared_temp_directory"):
        options.pop(other, None)
    return str(service._class.job_cls("tcp://login:8786", name="job", **options).job_script())


@pytest.mark.parametrize(
    ("system", "lines"),
    [
        ("slurm", ["-p fast", "-A project", "--cpus-per-task=4", "--mem=8G", "-t 01:00:00", "--exclusive"]),
        ("pbs", ["-q fast", "-A project", "-l select=1:ncpus=4:mem=7630mb", "-l walltime=01:00:00"]),
        ("lsf", ["-q fast", '-P "project"', "-n 4", "-W 01:00"]),
        ("sge", ["-q fast", "-P project", "-l h_rt=01:00:00"]),
    ],
)
def test_job_scripts(system: str, lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile = batch(
        system, queue="fast", account="project", directives=["--exclusive"], prologue=["module load python"],
        environment={"SCRATCH": "/fast disk"}, log_directory=str(tmp_path / "logs"), processes=2,
    )  # fmt: skip
    script = job_script(profile, monkeypatch)
    for line in lines:
        assert line in script
    for name, value in {**SINGLE_THREAD, "SCRATCH": "'/fast disk'"}.items():
        assert f"export {name}={value}" in script
    # Modules may set numbers of threads, so ours come later.
    assert script.index("module load python") < script.index("OMP_NUM_THREADS")
    command = script.strip().splitlines()[-1]
    assert command.startswith(sys.executable)
    assert "--nworkers 2" in command
    assert "--nthreads 1" in command
    assert "--lifetime 3420s --lifetime-stagger 90s" in command


def test_a_missing_library_or_program_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EngineMissing, match=r"'sbatch' is not on the PATH; run this on a login node"):
        profile_service(batch())
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(EngineMissing, match=r"pip install 'dftbparam\[cluster\]'") as caught:
        profile_service(batch())
    assert caught.value.exit_code == 3
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with pytest.raises(EngineMissing, match=r"pip install 'dftbparam\[kubernetes\]'"):
        profile_service(KubernetesProfile(system="kubernetes", image="x", maximum_workers=1))


def test_a_local_profile_is_a_local_pool(tmp_path: Path) -> None:
    path = write(tmp_path, 'system = "local"\nworkers = 3\n')
    with pool(cluster=path) as place:
        assert isinstance(place.service, LocalService)  # type: ignore[attr-defined]
        assert place.service.count == 3  # type: ignore[attr-defined]


# --- Kubernetes: its client library against a stand-in for the cluster ----------------------------------------------


KUBERNETES = KubernetesProfile(
    system="kubernetes", image="registry/x:1", maximum_workers=4, idle_seconds=0, namespace="dft",
    worker={"nodeSelector": {"pool": "batch"}}, environment={"A": "b"},
)  # fmt: skip


def test_kubernetes_resource() -> None:
    pytest.importorskip("dask_kubernetes.operator")
    from dask_kubernetes.operator.validation import validate_cluster_name

    from dftbparam.campaign.cluster_kubernetes import kubernetes_spec

    validate_cluster_name("dftbparam-x")
    spec = kubernetes_spec(KUBERNETES, "dftbparam-x")
    worker, scheduler = spec["spec"]["worker"], spec["spec"]["scheduler"]
    assert worker["replicas"] == 0
    assert worker["spec"]["nodeSelector"] == {"pool": "batch"}
    (container,) = worker["spec"]["containers"]
    assert container["image"] == "registry/x:1"
    assert " ".join(container["args"]).startswith("dask worker --nthreads 1")
    assert container["resources"]["limits"] == {"memory": "2Gi", "cpu": "1"}
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert {**SINGLE_THREAD, "A": "b"}.items() <= environment.items()
    (container,) = scheduler["spec"]["containers"]
    assert {"name": "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION", "value": "1.0"} in container["env"]
    assert container["image"] == "registry/x:1"


def test_pods_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's class is replaced by a local cluster that notes what it is asked for."""
    pytest.importorskip("dask_kubernetes.operator")
    import threading

    import dask_kubernetes.operator
    from distributed import LocalCluster
    from synthetic_evaluation import by_kind

    asked: list[int] = []
    given: dict[str, Any] = {}
    none_left = threading.Event()

    class Stand(LocalCluster):
        def __init__(self, **options: Any) -> None:
            given.update(options)
            super().__init__(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None)

        def scale(self, n: int = 0, *args: Any, **more: Any) -> Any:
            asked.append(n)
            if n == 0 and max(asked) > 0:
                none_left.set()
            return super().scale(n, *args, **more)

    monkeypatch.setattr(dask_kubernetes.operator, "KubeCluster", Stand)
    from dftbparam.campaign.cluster_kubernetes import KubernetesService
    from dftbparam.campaign.dask_pool import DaskPool

    with DaskPool(KubernetesService(KUBERNETES)) as place:
        assert place.workers == 4
        run = place.executor()
        run.start(by_kind, None)
        for index in range(2):
            run.submit(index, {"kind": 0.0})
        ended: set[int] = set()
        while len(ended) < 2:
            ended |= {index for index, _ in run.collect(60.0)}
        assert none_left.wait(60.0)
    assert max(asked) == 2
    assert given["namespace"] == "dft"
    assert given["custom_cluster_spec"]["spec"]["worker"]["replicas"] == 0


def test_refused_jobs_end_nothing_while_others_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    service = BatchService(batch())
    service._cluster = SimpleNamespace(workers={"a": SimpleNamespace(job_id="7"), "b": SimpleNamespace(job_id=None)})
    for _ in range(5):
        service._fruitless("a job could not be submitted: limit", submitted=False)
    assert service.trouble() is None
    # With nobody in the queue the same three refusals are the end.
    del service._cluster.workers["a"]
    service._fruitless("a job could not be submitted: no controller", submitted=False)
    assert "no controller" in service.trouble()
