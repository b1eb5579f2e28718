"""``references compute`` under ``kill -9`` at random moments: it goes on, and repeats nothing that was finished."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from dftbparam.reference.dft import Archive

ROOT = Path(__file__).parents[2]
CODE = "tests.reference.support.stand_in_codes:Noted"
WORKERS = 2


class Run:
    """One folder of calculations and the drivers started on it."""

    def __init__(self, folder: Path) -> None:
        self.out, self.notes = folder / "out", folder / "notes"
        self.notes.mkdir(parents=True)

    def start(self) -> subprocess.Popen[bytes]:
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        more = {"PYTHONPATH": search, "DFTBPARAM_TEST_NOTES": str(self.notes)}
        command = [
            sys.executable,
            "-c",
            "import dftbparam.cli as c; c.main()",
            "references",
            "compute",
            "Cu",
            "Ag",
            "--prototypes",
        ]
        command += [
            "fcc,bcc,sc,diamond,hcp",
            "--properties",
            "eos,forces",
            "--frames",
            "3",
            "--code",
            CODE,
            "--functional",
            "EMT",
        ]
        command += ["--workers", str(WORKERS), "--out", str(self.out)]
        return subprocess.Popen(command, env=os.environ | more, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self) -> float:
        begun = time.monotonic()
        driver = self.start()
        _, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors.decode()
        return time.monotonic() - begun

    def stored(self) -> set[str]:
        """Structures whose calculation is finished, as their notes have them."""
        return {
            repr((task.atoms().cell.array.round(8).tolist(), task.atoms().positions.round(8).tolist()))
            for task, _ in Archive(self.out / "calculations").records()
        }

    def begun(self) -> Counter[str]:
        """How often each structure's calculation was begun."""
        return Counter(note.read_text() for note in self.notes.iterdir())

    def results(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.out.iterdir() if p.suffix in (".csv", ".extxyz")}


def check_kills(folder: Path, kills: int) -> None:
    chance = random.Random(kills)
    whole = Run(folder / "whole")
    duration = whole.finish()
    expected = whole.results()
    assert {"data.csv", "points.csv", "frames.extxyz"} <= set(expected)
    total = len(whole.stored())

    killed, attempt = 0, 0
    while killed < kills:
        attempt += 1
        run, hits = Run(folder / f"run{attempt}"), 0
        while killed < kills and hits < 4:
            stored, begun = run.stored() if run.out.exists() else set(), run.begun()
            driver = run.start()
            moment = time.monotonic() + duration * chance.uniform(0.2, 1.0)
            while driver.poll() is None and time.monotonic() < moment:
                time.sleep(0.005)
            finished = driver.poll() is not None
            family = [] if finished else psutil.Process(driver.pid).children(recursive=True)
            if not finished:
                os.kill(driver.pid, signal.SIGKILL)
                killed, hits = killed + 1, hits + 1
            driver.communicate()
            psutil.wait_procs(family, timeout=15)
            # What was finished before this driver started has not been begun again.
            after = run.begun()
            assert {s: after[s] for s in stored} == {s: begun[s] for s in stored}
            if finished:
                break
        stored, begun = run.stored(), run.begun()
        run.finish()
        after = run.begun()
        assert {s: after[s] for s in stored} == {s: begun[s] for s in stored}
        assert run.results() == expected
        assert total <= after.total() <= total + (WORKERS + 1) * hits


def test_three_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=3)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20)
