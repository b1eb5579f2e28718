"""``kill -9`` at random moments: the resumed run ends with the trials of an undisturbed one, nothing done twice.

The driver runs on two Dask workers with evaluations of random duration and is started again after every kill. The
moments are spread at random over the time the driver needs; the machine adds its own jitter.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import wait_until_gone

from dftbparam.store import Trial, TrialStore

SUPPORT = Path(__file__).parent / "support"
ROOT = Path(__file__).parents[2]


class Campaign:
    """One campaign folder and the drivers started on it."""

    def __init__(self, folder: Path, evaluations: int) -> None:
        self.store, self.notes, self.evaluations = folder / "trials.sqlite", folder / "notes", evaluations
        self.notes.mkdir(parents=True)

    def start(self) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, SUPPORT / "kill_resume_driver.py", self.store, self.notes, str(self.evaluations)]
        return subprocess.Popen(
            command, env=os.environ | threads | {"PYTHONPATH": search}, stderr=subprocess.PIPE, start_new_session=True
        )

    def finish(self) -> float:
        """Run to the end undisturbed; return the seconds it took."""
        begun = time.monotonic()
        driver = self.start()
        _, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors.decode()
        return time.monotonic() - begun

    def trials(self) -> list[Trial]:
        if not self.store.exists() or self.store.stat().st_size == 0:
            return []
        with TrialStore.open(self.store) as store:
            return store.trials("killed")

    def calls(self) -> list[str]:
        """Parameters of every evaluation that was begun, as text."""
        return [note.read_text() for note in self.notes.iterdir()]

    def count_calls(self, trials: list[Trial]) -> dict[str, int]:
        """How often each of these trials has been begun."""
        calls = self.calls()
        return {key(trial): calls.count(key(trial)) for trial in trials}

    def check_not_repeated(self, counts: dict[str, int]) -> None:
        """No trial was begun more often than ``counts`` says, which was taken when it was in the store."""
        calls = self.calls()
        assert {parameters: calls.count(parameters) for parameters in counts} == counts


def listed(trials: list[Trial]) -> list[tuple[object, ...]]:
    return [(t.index, t.x, t.parameters, t.status, t.objective, t.metrics, t.error) for t in trials]


def key(trial: Trial) -> str:
    return f"{trial.parameters['a']!r} {trial.parameters['b']!r}"


def check_kills(folder: Path, kills: int, evaluations: int) -> None:
    chance = random.Random(kills)
    whole = Campaign(folder / "whole", evaluations)
    duration = whole.finish()
    expected = listed(whole.trials())
    assert [row[0] for row in expected] == list(range(evaluations))
    assert any(row[3] == "failed" for row in expected)

    killed = 0
    attempt = 0
    while killed < kills:
        attempt += 1
        campaign = Campaign(folder / f"run{attempt}", evaluations)
        before: list[Trial] = []
        counts: dict[str, int] = {}
        hit = 0
        # Each run is killed some times, so that a resumed one is killed as well.
        while killed < kills and hit < 4:
            driver = campaign.start()
            # The later part of the time more often than the start of the processes, in which nothing is at stake.
            moment = duration * chance.uniform(0.3, 1.0)
            begun = time.monotonic()
            while driver.poll() is None and time.monotonic() - begun < moment:
                time.sleep(0.005)
            if driver.poll() is not None:
                driver.communicate()
                break
            family = psutil.Process(driver.pid).children(recursive=True)
            os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
            killed += 1
            hit += 1
            assert wait_until_gone(family) == []
            after = campaign.trials()
            # What was stored is still stored, unchanged.
            kept = {trial.index: trial for trial in after}
            assert [kept.get(trial.index) for trial in before] == before
            campaign.check_not_repeated(counts)
            before, counts = after, campaign.count_calls(after)
        campaign.finish()
        assert listed(campaign.trials()) == expected
        campaign.check_not_repeated(counts)
        # At most the evaluations in flight (two workers, one more) are lost with each kill.
        assert evaluations <= len(campaign.calls()) <= evaluations + 3 * hit


def test_three_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=3, evaluations=12)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20, evaluations=40)
