"""How campaigns stand, from the store alone."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dftbparam.campaign.status import GONE, run_statuses, totals
from dftbparam.store import Run, Trial, TrialStore

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path):
    with TrialStore.open(tmp_path / "t.sqlite") as opened:
        yield opened


def trial(run_id: str, index: int, objective: float | None, minute: float) -> Trial:
    moment = (NOW - timedelta(minutes=minute)).isoformat()
    return Trial(
        run_id=run_id,
        index=index,
        x=(0.1 * index,),
        parameters={"a": 0.1 * index},
        status="failed" if objective is None else "finished",
        objective=objective,
        seconds=30.0,
        started=moment,
        finished=moment,
    )


def begin(store: TrialStore, name: str, state: str = "", message: str = "", trials: int = 0) -> None:
    run_id = f"c/{name}"
    store.create_run(Run(run_id=run_id, settings={}, budget={"evaluations": 10}))
    if state:
        store.set_state(run_id, state, message, "host:1")
    for index in range(trials):
        store.append(trial(run_id, index, None if index == 1 else 5.0 - index, 4.0 - index))


def status(store: TrialStore, name: str):
    return {one.name: one for one in run_statuses(store, "c", NOW)}[name]


def test_a_run_that_goes_on(store: TrialStore) -> None:
    begin(store, "Si", "running", "", trials=4)
    with store.exclusive("c/Si"):
        found = status(store, "Si")
    assert (found.campaign, found.state, found.done, found.failed, found.evaluations) == ("c", "running", 4, 1, 10)
    assert (found.best_objective, found.best_trial, found.trial_seconds) == (2.0, 3, 30.0)
    # Four trials in four minutes; six are left.
    assert found.per_minute == pytest.approx(1.0)
    assert found.seconds_left == pytest.approx(360.0)
    assert found.driver == "host:1"


def test_a_pause_is_no_time_of_work(store: TrialStore) -> None:
    begin(store, "Si", "running")
    for index, minute in enumerate((200.0, 199.0, 2.0, 1.0)):
        store.append(trial("c/Si", index, 1.0, minute))
    with store.exclusive("c/Si"):
        assert status(store, "Si").per_minute == pytest.approx(1.0)


def test_a_driver_that_died(store: TrialStore) -> None:
    begin(store, "Si", "running", "writing", trials=2)
    found = status(store, "Si")
    assert (found.state, found.message, found.per_minute) == ("interrupted", GONE, None)


@pytest.mark.parametrize(
    ("state", "trials", "shown"),
    [
        ("waiting", 0, "waiting"),
        ("failed", 3, "failed"),
        ("finished", 10, "finished"),
        ("interrupted", 3, "interrupted"),
        ("", 3, "interrupted"),
        ("", 10, "finished"),
    ],
)
def test_what_drivers_said(store: TrialStore, state: str, trials: int, shown: str) -> None:
    begin(store, "Si", state, "why" if state == "failed" else "", trials)
    found = status(store, "Si")
    assert found.state == shown
    assert found.message == ("why" if state == "failed" else "")
    if state != "finished":
        # Somebody has taken it up again, and not said so yet.
        with store.exclusive("c/Si"):
            assert status(store, "Si").state == "running"


def test_an_element_that_only_waits(store: TrialStore) -> None:
    store.set_state("c/O", "waiting", "needs Mg")
    found = status(store, "O")
    assert (found.state, found.message, found.done, found.evaluations) == ("waiting", "needs Mg", 0, None)


def test_campaigns_and_fits_of_a_store(store: TrialStore) -> None:
    store.create_run(Run(run_id="c", settings={"campaign": "c", "format": 1}))
    begin(store, "Si", "finished", trials=2)
    store.create_run(Run(run_id="fit", settings={}, budget={"evaluations": 3}))
    assert [(one.campaign, one.name) for one in run_statuses(store)] == [("c", "Si"), ("", "fit")]
    assert [one.name for one in run_statuses(store, "c")] == ["Si"]
    assert run_statuses(store, "other") == []


def test_totals(store: TrialStore) -> None:
    begin(store, "Si", "running", "", trials=4)
    begin(store, "Ge", "finished", "", trials=3)
    with store.exclusive("c/Si"):
        whole = totals(run_statuses(store, "c", NOW))
    assert whole["elements"] == {"finished": 1, "running": 1}
    assert (whole["done"], whole["failed"], whole["seconds"]) == (7, 2, 210.0)
    assert whole["per_minute"] == pytest.approx(1.0)
    assert whole["seconds_left"] == pytest.approx(360.0)
    assert totals([]) == {
        "elements": {},
        "done": 0,
        "failed": 0,
        "seconds": 0,
        "per_minute": None,
        "seconds_left": None,
    }
