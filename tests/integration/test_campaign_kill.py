"""``kill -9`` of a campaign's driver at random moments: what was stored stays, the end is that of an undisturbed one.

Two elements, one on the result of the other, on two Dask workers with evaluations of random duration. The moments are
spread over the time the driver needs: searches, the writing of results, and what lies between.
"""

import json
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

from dftbparam.campaign.status import run_statuses
from dftbparam.store import Trial, TrialStore

SUPPORT = Path(__file__).parent / "support"
FAKES = Path(__file__).parents[1] / "campaign" / "support"
ROOT = Path(__file__).parents[2]
ELEMENTS = ("Mg", "O")


class Campaign:
    """One campaign's folder and the drivers started on it."""

    def __init__(self, folder: Path, evaluations: int) -> None:
        self.folder, self.evaluations = folder, evaluations
        self.store, self.notes = folder / "trials.sqlite", folder / "notes"
        self.notes.mkdir(parents=True)

    def start(self) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        search = os.pathsep.join([str(ROOT), str(FAKES), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, SUPPORT / "kill_campaign_driver.py", self.store, self.folder, str(self.evaluations)]
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

    def trials(self) -> dict[tuple[str, int], Trial]:
        if not self.store.exists() or self.store.stat().st_size == 0:
            return {}
        with TrialStore.open(self.store) as store:
            return {(symbol, t.index): t for symbol in ELEMENTS for t in store.trials(f"test/{symbol}")}

    def states(self) -> dict[str, str]:
        with TrialStore.open(self.store, create=False) as store:
            return {one.name: one.state for one in run_statuses(store, "test")}

    def calls(self) -> list[str]:
        return [note.read_text() for note in self.notes.iterdir()]

    def counts(self, trials: dict[tuple[str, int], Trial]) -> dict[str, int]:
        """How often each of these trials has been begun."""
        calls = self.calls()
        names = [f"{symbol} {t.parameters['a']!r} {t.parameters['b']!r}" for (symbol, _), t in trials.items()]
        return {name: calls.count(name) for name in names}

    def results(self) -> dict[str, int]:
        return {symbol: json.loads((self.folder / f"{symbol}.json").read_text())["trials"] for symbol in ELEMENTS}


def listed(trials: dict[tuple[str, int], Trial]) -> dict[tuple[str, int], tuple[object, ...]]:
    return {key: (t.x, t.parameters, t.status, t.objective, t.metrics, t.error) for key, t in trials.items()}


def check_kills(folder: Path, kills: int, evaluations: int) -> None:
    chance = random.Random(kills)
    whole = Campaign(folder / "whole", evaluations)
    duration = whole.finish()
    expected = listed(whole.trials())
    assert set(expected) == {(symbol, i) for symbol in ELEMENTS for i in range(evaluations)}
    assert any(row[2] == "failed" for row in expected.values())
    assert whole.states() == dict.fromkeys(ELEMENTS, "finished")

    killed = 0
    attempt = 0
    while killed < kills:
        attempt += 1
        campaign = Campaign(folder / f"run{attempt}", evaluations)
        before: dict[tuple[str, int], Trial] = {}
        counts: dict[str, int] = {}
        hit = 0
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
            # Workers and the process that writes a result end with their driver.
            assert wait_until_gone(family) == []
            after = campaign.trials()
            assert {key: after.get(key) for key in before} == before
            assert campaign.counts(before) == counts
            before, counts = after, campaign.counts(after)
            if after:
                assert "running" not in campaign.states().values()
        campaign.finish()
        assert listed(campaign.trials()) == expected
        assert campaign.results() == dict.fromkeys(ELEMENTS, evaluations)
        assert campaign.states() == dict.fromkeys(ELEMENTS, "finished")
        assert campaign.counts(before) == counts
        # At most what was in flight is lost with each kill.
        assert 2 * evaluations <= len(campaign.calls()) <= 2 * evaluations + 3 * hit


@pytest.mark.slow
def test_two_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=2, evaluations=8)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, kills=20, evaluations=14)
