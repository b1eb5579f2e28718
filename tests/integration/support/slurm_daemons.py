"""munged, slurmctld and slurmd of their own, in a folder of their own, on free ports."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")

CONFIGURATION = """ClusterName=dftbparam
SlurmctldHost={host}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.log
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
KillWait=5
# The machine may have fewer processors than the jobs below ask for.
SlurmdParameters=config_overrides
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=debug Nodes=node1 Default=YES MaxTime=INFINITE State=UP
"""


class NotPermitted(Exception):
    """The daemons are installed and cannot run here."""


def missing_programs() -> list[str]:
    """Programs of SLURM and munge that are not installed."""
    return [name for name in PROGRAMS if which(name) is None]


def which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Slurm:
    """A running SLURM of one node."""

    def __init__(self, folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
        self.folder, self.processes = folder, processes
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def jobs(self, state: str = "RUNNING") -> list[str]:
        return self.run("squeue", "-h", "-t", state, "-o", "%A").split()

    def logs(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-3000:] for file in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def running_slurm(cpus: int) -> Iterator[Slurm]:
    """Start the daemons, wait until the node is idle, and end them.

    Raises
    ------
    NotPermitted
        They do not come up, and why.
    """
    # Sockets have short names.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    user = "root" if os.getuid() == 0 else os.environ.get("USER", "root")
    values = {"host": socket.gethostname().split(".")[0], "user": user, "folder": folder, "cpus": cpus}
    ports = {"controller_port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values, **ports))
    places = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{ending}" for option, ending in places.items()]
    slurm = Slurm(folder, [])

    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.out.log").open("wb") as out:
            slurm.processes.append(
                subprocess.Popen([which(name) or name, *arguments], env=slurm.environment, stdout=out, stderr=out)
            )

    try:
        start("munged", "--foreground", "--force", *munge)
        wait_for(slurm, lambda: (folder / "munge.socket").exists(), "munged")
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "node1")
        wait_for(slurm, lambda: slurm.run("sinfo", "-h", "-o", "%T").strip() == "idle", "the node")
        yield slurm
    finally:
        with contextlib.suppress(Exception):
            for job in slurm.jobs("PENDING,RUNNING"):
                slurm.run("scancel", job)
        for process in reversed(slurm.processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(slurm: Slurm, ready: object, what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > end or any(process.poll() is not None for process in slurm.processes):
            raise NotPermitted(f"{what} does not come up:\n{slurm.logs()}")
        time.sleep(0.2)
