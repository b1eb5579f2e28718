"""A driver, a Dask scheduler and its workers as processes of their own, to be killed and cut off."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from dftbparam.store import Trial, TrialStore

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[2]

PATIENCE = 240.0
"""Seconds that any wait of these tests may take, on a busy machine."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Site:
    """Processes of one run, ended with it; use as a context manager.

    Parameters
    ----------
    folder
        For store, notes and logs.
    evaluations, longest
        Trials of the run, and the longest duration of one in seconds.
    address
        Where the scheduler listens, in its network.
    """

    def __init__(self, folder: Path, evaluations: int, longest: float = 0.15, address: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.evaluations, self.longest, self.address = folder, evaluations, longest, address
        self.store = folder / "trials.sqlite"
        self.notes = folder / "notes.txt"
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.prefix: dict[str, list[str]] = {}
        self.environment: dict[str, dict[str, str]] = {}

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)

    def start(self, name: str, *command: object) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to NAME.log."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        search = os.pathsep.join([str(ROOT), str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # As cluster/README.md has it for schedulers and workers that users start.
        patience = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "120s"}
        environment = os.environ | threads | patience | {"PYTHONPATH": search} | self.environment.get(name, {})
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self.prefix.get(name, []), *map(str, command)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        return self.processes[name]

    def start_scheduler(self) -> None:
        self.start(
            "scheduler", sys.executable, "-m", "distributed.cli.dask_scheduler",
            "--host", self.address, "--port", self.port, "--no-dashboard", "--dashboard-address", f"{self.address}:0",
        )  # fmt: skip

    def start_worker(self, name: str) -> None:
        self.start(
            name, sys.executable, "-m", "distributed.cli.dask_worker", self.scheduler_address,
            "--nthreads", 1, "--no-dashboard", "--local-directory", self.folder / name, "--name", name,
        )  # fmt: skip

    def start_worker_that_leaves(self, name: str) -> None:
        """A worker that ends by itself every two seconds or so, between or within trials, and is started again."""
        self.start(
            name, sys.executable, "-m", "distributed.cli.dask_worker", self.scheduler_address, "--nthreads", 1,
            "--no-dashboard", "--local-directory", self.folder / name,
            "--lifetime", "2s", "--lifetime-stagger", "1s", "--lifetime-restart",
        )  # fmt: skip

    def start_cluster(self) -> None:
        """A scheduler and two workers."""
        self.start_scheduler()
        for name in ("worker0", "worker1"):
            self.start_worker(name)

    @property
    def scheduler_address(self) -> str:
        return f"tcp://{self.address}:{self.port}"

    def start_driver(self, **more: Any) -> subprocess.Popen[bytes]:
        options = {
            "store": str(self.store),
            "notes": str(self.notes),
            "longest": self.longest,
            "evaluations": self.evaluations,
            **more,
        }
        return self.start("driver", sys.executable, SUPPORT / "fault_driver.py", json.dumps(options))

    def kill(self, name: str) -> None:
        """SIGKILL a process and, for the end of the test, what it started."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        family: list[psutil.Process] = []
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            pass
        process.kill()
        process.wait()
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                pass

    def finish(self, expected: Sequence[int] = (0,)) -> int:
        """Wait for the driver's end; return its exit code."""
        driver = self.processes.pop("driver")
        try:
            code = driver.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            raise AssertionError(f"the driver does not end:\n{self.logs()}") from None
        assert code in expected, f"exit code {code}:\n{self.logs()}"
        return code

    def logs(self) -> str:
        return "\n".join(f"--- {file.name}\n{file.read_text()[-4000:]}" for file in sorted(self.folder.glob("*.log")))

    def noted(self, word: str) -> list[str]:
        """Parameters of every evaluation that was begun, or ended, as text."""
        if not self.notes.exists():
            return []
        lines = (line.split() for line in self.notes.read_text().splitlines())
        return [f"{words[1]} {words[2]}" for words in lines if words[0] == word]

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so, or the driver has ended."""
        end = time.monotonic() + PATIENCE
        while not ready():
            driver = self.processes.get("driver")
            if driver is None or driver.poll() is not None:
                return
            assert time.monotonic() < end, f"waiting for ever:\n{self.logs()}"
            time.sleep(0.01)

    def wait_for_moment(self, chance: random.Random, least: int = 1) -> None:
        """Wait for a moment at random in the run: some evaluation has begun, and a part of its time has passed."""
        begun = len(self.noted("begin"))
        moment = chance.randint(begun + least, max(begun + least, self.evaluations - 1))
        self.wait(lambda: len(self.noted("begin")) >= moment)
        time.sleep(chance.uniform(0.0, self.longest))

    def trials(self) -> list[Trial]:
        if not self.store.exists() or self.store.stat().st_size == 0:
            return []
        with TrialStore.open(self.store) as store:
            return store.trials("faults")

    def stored_calls(self) -> Counter[str]:
        """How often each trial that is in the store has been begun."""
        # The store first: what is begun later cannot be counted as stored.
        stored = {key(trial) for trial in self.trials()}
        return Counter(call for call in self.noted("begin") if call in stored)

    def check_not_repeated(self, before: Counter[str]) -> None:
        """No evaluation that was stored when ``before`` was taken has been begun since."""
        after = Counter(self.noted("begin"))
        repeated = [call for call, number in before.items() if after[call] != number]
        assert repeated == [], f"repeated: {repeated}\n{self.logs()}"


def key(trial: Trial) -> str:
    return f"{trial.parameters['a']!r} {trial.parameters['b']!r}"


def listed(trials: list[Trial]) -> list[tuple[object, ...]]:
    return [(t.index, t.x, t.parameters, t.status, t.objective, t.metrics, t.error) for t in trials]
