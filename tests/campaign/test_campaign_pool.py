"""Pools: several runs share their workers fairly, a deadly trial is set aside after three deaths."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_evaluation import by_kind, deadly, noted, sleepy

from dftbparam.campaign.dask_pool import DaskPool
from dftbparam.campaign.executor import Executor, Pool, pool
from dftbparam.campaign.record import announcing, dashboard_of, is_web_address
from dftbparam.errors import ParameterError
from dftbparam.store import Run, TrialStore


@pytest.fixture(scope="module")
def two() -> Iterator[DaskPool]:
    with pool(2) as running:
        assert isinstance(running, DaskPool)
        yield running


@pytest.fixture(params=["serial", "dask"])
def shared(request: pytest.FixtureRequest) -> Iterator[Pool]:
    if request.param == "serial":
        with pool(0) as serial:
            yield serial
    else:
        yield request.getfixturevalue("two")


class Runner(threading.Thread):
    """A run of ``n`` trials in its own thread."""

    def __init__(self, place: Executor, notes: Path, name: str, n: int, sleep: float = 0.1) -> None:
        super().__init__()
        self.place, self.notes, self.run_name, self.n, self.sleep = place, notes, name, n, sleep
        self.ended: list[int] = []

    def run(self) -> None:
        self.place.start(noted, str(self.notes))
        for index in range(self.n):
            self.place.submit(index, {"name": self.run_name, "sleep": self.sleep})
        while len(self.ended) < self.n:
            self.ended += [index for index, _ in self.place.collect(None)]
        self.place.close()


def begun(notes: Path) -> list[str]:
    return [line.split()[1] for line in notes.read_text().splitlines() if line.startswith("begin")]


def test_runs_of_one_pool_share_it(shared: Pool, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    first = Runner(shared.executor(), notes, "first", 24)
    first.start()
    while not notes.exists():
        time.sleep(0.01)
    late = Runner(shared.executor(), notes, "late", 6)
    late.start()
    for runner in (first, late):
        runner.join(timeout=120)
        assert sorted(runner.ended) == list(range(runner.n))
    order = begun(notes)
    assert len(order) == 30
    # The late one did not wait for the 24 of the first, and the two took turns from then on.
    at = [place for place, name in enumerate(order) if name == "late"]
    assert max(at) - min(at) <= 16
    assert max(at) < 29


def test_shares(two: DaskPool, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    big, small = two.executor(3.0), two.executor(1.0)
    with two.lock:  # both have submitted before the first is served
        for name, place in (("small", small), ("big", big)):
            place.run, place.evaluation = name, (noted, str(notes))
            two.views.append(place)
            for index in range(40):
                place._open.add(index)
                place.backlog.append((index, {"name": name, "sleep": 0.02}))
    for place in (big, small):
        place.bring(two.client)
    two.feed()
    ended = {"big": 0, "small": 0}
    while ended["big"] < 30:
        ended["big"] += len(big.collect(5.0))
        ended["small"] += len(small.collect(0.0))
    assert 5 <= ended["small"] <= 16
    big.close()
    small.close()


def test_closing_one_run_leaves_the_others(two: DaskPool, tmp_path: Path) -> None:
    one, other = two.executor(), two.executor()
    one.start(noted, str(tmp_path / "notes"))
    other.start(by_kind, None)
    for index in range(10):
        one.submit(index, {"name": "one", "sleep": 0.2})
    other.submit(0, {"kind": 0.0})
    one.close()
    one.close()
    assert one.collect(None) == []
    assert [index for index, _ in other.collect(30.0)] == [0]
    other.close()


def test_closing_the_pool_wakes_who_waits() -> None:
    place = pool(1)
    waiting = place.executor()
    waiting.start(sleepy, None)
    waiting.submit(0, {"r": 1.0})
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(waiting.collect(None)))
    thread.start()
    time.sleep(0.5)
    place.close()
    thread.join(timeout=30)
    assert found == [[]]


def test_three_deaths_and_no_more(two: DaskPool, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    place, other = two.executor(), two.executor()
    place.start(noted, str(notes))
    other.start(deadly, None)
    for index in range(6):
        place.submit(index, {"name": f"trial{index}", "sleep": 0.2, "deadly": index == 2})
        other.submit(index, {"r": 1.0})
    outcomes = {}
    while len(outcomes) < 6:
        outcomes |= dict(place.collect(60.0))
    others = {}
    while len(others) < 6:
        others |= dict(other.collect(60.0))
    assert [index for index, outcome in outcomes.items() if outcome.error] == [2]
    assert outcomes[2].error is not None
    assert outcomes[2].error["type"] == "WorkerDied"
    assert "3 workers died" in outcomes[2].error["message"]
    assert all(outcome.error is None for outcome in others.values())
    assert begun(notes).count("trial2") == 3
    place.close()
    other.close()


def test_who_waits_on_a_worker_is_not_blamed_for_its_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a scheduler that sends workers more than they can run; by Dask's count all would go with the deadly one."""
    monkeypatch.setattr(DaskPool, "_room", lambda self: 100)
    notes = tmp_path / "notes"
    with pool(1) as single:
        place = single.executor()
        place.start(noted, str(notes))
        # All of them at the worker before the first is run.
        place.submit(0, {"name": "slow", "sleep": 1.0})
        for index in range(1, 8):
            place.submit(index, {"name": f"trial{index}", "sleep": 0.3, "deadly": index in (2, 5)})
        outcomes = {}
        while len(outcomes) < 8:
            outcomes |= dict(place.collect(60.0))
    assert [index for index in sorted(outcomes) if outcomes[index].error] == [2, 5]
    counts = [begun(notes).count(f"trial{index}") for index in range(1, 8)]
    assert counts[1] == counts[4] == 3
    # No other one was begun more often than workers died.
    assert max(counts) <= 7


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf"), float("nan")])
def test_a_share_is_a_positive_number(shared: Pool, share: float) -> None:
    with pytest.raises(ParameterError, match="positive number"):
        shared.executor(share)


def test_the_record_of_a_campaign_says_where_the_dashboard_is(two: DaskPool, tmp_path: Path) -> None:
    with TrialStore.open(tmp_path / "trials.sqlite") as store:
        store.create_run(Run("night", {"campaign": "night"}))
        with announcing(store, "night", two) as say:
            say()  # these workers show none
            assert store.overview("night")[0].state == ""
        two.service.dashboard = True
        try:
            with announcing(store, "night", two) as say:
                assert dashboard_of(store, "night") == ""
                say()
                say()
                assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status", dashboard_of(store, "night"))
        finally:
            two.service.dashboard = False
        assert dashboard_of(store, "night") == ""
        assert dashboard_of(store, "nig") == ""
        with announcing(store, "night", pool(0)) as say:
            say()
        assert store.overview("night")[0].state == "finished"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("http://node7:8787/status", True),
        ("https://[::1]/", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("//node7/", False),
        ("http://", False),
        ("http://a b/", False),
        ("http://[", False),
        ("http://a/\n", False),
    ],
)
def test_what_a_page_may_link_to(text: str, is_one: bool) -> None:
    assert is_web_address(text) is is_one
