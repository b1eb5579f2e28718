"""Several drivers of one campaign on one PostgreSQL store: none does what another did, a killed one is replaced."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgresql_server import Server

from dftbparam.campaign.status import run_statuses
from dftbparam.store import TrialStore

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

SUPPORT = Path(__file__).parent / "support"
FAKES = Path(__file__).parents[1] / "campaign" / "support"
ROOT = Path(__file__).parents[2]
ELEMENTS = ("Ge", "Mg", "O", "Si")
EVALUATIONS = 12


def start(address: str, folder: Path) -> subprocess.Popen[bytes]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    search = os.pathsep.join([str(ROOT), str(FAKES), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, SUPPORT / "kill_campaign_driver.py", address, folder, str(EVALUATIONS), "1"]
    return subprocess.Popen(
        command, env=os.environ | threads | {"PYTHONPATH": search}, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.parametrize("kill", [False, True], ids=["undisturbed", "one killed"])
def test_three_drivers(postgresql_server: Server, tmp_path: Path, kill: bool) -> None:
    address = postgresql_server.new_database()
    (tmp_path / "notes").mkdir()
    TrialStore.open(address).close()
    drivers = [start(address, tmp_path) for _ in range(3)]
    if kill:
        end = time.monotonic() + 120
        while not list((tmp_path / "notes").iterdir()) and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(drivers[0].pid, signal.SIGKILL)
    for driver in drivers:
        _, errors = driver.communicate(timeout=300)
        assert driver.returncode == (-signal.SIGKILL if kill and driver is drivers[0] else 0), errors.decode()
    with TrialStore.open(address) as store:
        assert {one.name: (one.state, one.done) for one in run_statuses(store, "test")} == dict.fromkeys(
            ELEMENTS, ("finished", EVALUATIONS)
        )
        trials = [(symbol, t) for symbol in ELEMENTS for t in store.trials(f"test/{symbol}")]
    assert [t.index for _, t in trials] == [*range(EVALUATIONS)] * len(ELEMENTS)
    calls = [note.read_text() for note in (tmp_path / "notes").iterdir()]
    once = {f"{symbol} {t.parameters['a']!r} {t.parameters['b']!r}" for symbol, t in trials}
    assert set(calls) == once
    # Nothing twice, but for what the killed driver had in flight: one worker, three trials.
    assert len(calls) <= len(once) + (3 if kill else 0)
    for symbol in ELEMENTS:
        assert json.loads((tmp_path / f"{symbol}.json").read_text())["trials"] == EVALUATIONS
