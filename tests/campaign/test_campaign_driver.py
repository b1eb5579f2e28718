"""The driver: order, failures, interruption, several drivers, what is lost and what is not."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from fake_jobs import FakeJob

from dftbparam.campaign.driver import CampaignResult, Event, drive
from dftbparam.campaign.executor import SerialPool, pool
from dftbparam.campaign.run import run_campaign
from dftbparam.errors import EngineError, StoreError
from dftbparam.store import TrialStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.sqlite"


def run(path: Path, *jobs: FakeJob, **options) -> CampaignResult:
    with TrialStore.open(path) as store, options.pop("pool", None) or SerialPool() as workers:
        return drive(jobs, store, workers, **options)


def states(path: Path) -> dict[str, tuple[str, str]]:
    with TrialStore.open(path) as store:
        return {one.run_id: (one.state, one.message) for one in store.overview()}


def listed(path: Path, run_id: str) -> list[tuple[object, ...]]:
    with TrialStore.open(path) as store:
        return [(t.index, t.x, t.status, t.objective, t.metrics, t.settings_hash) for t in store.trials(run_id)]


def test_elements_are_searched_and_written_each_after_those_it_needs(path: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    last = FakeJob("O", tmp_path, needs=("Mg", "Ca"))
    result = run(path, FakeJob("Mg", tmp_path), FakeJob("Ca", tmp_path, evaluations=6), last, on_event=events.append)
    assert not result.interrupted
    assert {s: (one.state, one.trials) for s, one in result.elements.items()} == {
        "Mg": ("finished", 8),
        "Ca": ("finished", 6),
        "O": ("finished", 8),
    }
    assert last.done == [["Mg", "Ca"]]
    assert states(path) == dict.fromkeys(("test/Ca", "test/Mg", "test/O"), ("finished", ""))
    written = [json.loads((tmp_path / f"{symbol}.json").read_text()) for symbol in ("Mg", "Ca", "O")]
    assert [one["trials"] for one in written] == [8, 6, 8]
    # In processes of their own.
    assert os.getpid() not in {one["pid"] for one in written}
    told = [(e.result.symbol, e.result.state) for e in events if e.progress is None]
    assert told.index(("O", "running")) > max(told.index(("Mg", "finished")), told.index(("Ca", "finished")))
    assert sum(e.progress is not None and e.progress.latest is not None for e in events) == 22


def test_trials_are_those_of_a_run_alone(path: Path, tmp_path: Path) -> None:
    with TrialStore.open(path.with_name("alone.sqlite")) as store, store.exclusive("test/Si"):
        alone = FakeJob("Si", tmp_path, evaluations=9, proposer="skopt")
        alone.search(store, SerialPool().executor(), 1, [], lambda progress: None, threading.Event())
    together = [FakeJob(s, tmp_path, evaluations=9, context={"longest": 0.02}, proposer="skopt") for s in ("Si", "Ge")]
    with pool(2) as workers:
        run(path, *together, pool=workers)
    assert listed(path, "test/Si") == listed(path.with_name("alone.sqlite"), "test/Si")
    assert len(listed(path, "test/Ge")) == 9


def test_a_failure_ends_its_element_and_those_that_need_it(path: Path, tmp_path: Path) -> None:
    result = run(
        path,
        FakeJob("Mg", tmp_path, context={"hopeless": True}),
        FakeJob("Ca", tmp_path),
        FakeJob("O", tmp_path, needs=("Mg", "Ca")),
        FakeJob("N", tmp_path, needs=("O",)),
        FakeJob("F", tmp_path, needs=("Mg", "Ca"), replaceable=frozenset(["Mg"])),
    )
    why = "none of 8 trials succeeded (8 ScfNotConverged)"
    assert [(one.symbol, one.message) for one in result.failed] == [
        ("Mg", why),
        ("O", f"Mg failed: {why}"),
        ("N", f"O failed: Mg failed: {why}"),
    ]
    assert result.elements["F"].state == result.elements["Ca"].state == "finished"
    assert states(path)["test/N"] == ("failed", f"O failed: Mg failed: {why}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error", "a planted failure of writing"),
        ("defect", "unexpected KeyError: 'planted'"),
        ("death", r"the process that writes the result died \(exit code 7"),
    ],
)
def test_a_result_that_cannot_be_written(path: Path, tmp_path: Path, fault: str, words: str) -> None:
    result = run(path, FakeJob("Si", tmp_path, fault=fault), FakeJob("Ge", tmp_path))
    assert [one.symbol for one in result.failed] == ["Si"]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(result.failed[0].message)
    # What was searched stays: the next driver only writes.
    again = FakeJob("Si", tmp_path)
    second = run(path, again, FakeJob("Ge", tmp_path))
    assert second.failed == []
    assert [one.evaluated for one in second.elements.values()] == [0, 0]
    assert again.is_published(8)


def test_a_run_taken_over_is_the_other_drivers(path: Path, tmp_path: Path) -> None:
    class TakenOver(FakeJob):
        def search(self, store, *_):
            store.set_state(self.run_id, "running", "", "the other")
            raise StoreError("another driver took it over from this one", held=True)

    stop = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    result = run(path, TakenOver("Si", tmp_path), FakeJob("Ge", tmp_path, needs=("Si",)))
    stop.join()
    # Not failed, neither here nor in the store, and what depends on it is not given up.
    assert result.failed == []
    assert result.elements["Ge"].state != "failed"
    assert states(path)["test/Si"][0] != "failed"


def test_bad_input_in_a_worker_is_one_elements_failure(path: Path, tmp_path: Path) -> None:
    result = run(path, FakeJob("Si", tmp_path, context={"bad": True}), FakeJob("Ge", tmp_path))
    assert [(one.symbol, one.message) for one in result.failed] == [("Si", "a planted bad input")]
    assert result.elements["Ge"].state == "finished"


def test_a_finished_campaign_costs_nothing(path: Path, tmp_path: Path) -> None:
    run(path, FakeJob("Si", tmp_path))

    class Untouched(SerialPool):
        @property
        def workers(self) -> int:  # type: ignore[override]
            pytest.fail("workers were asked for")

    written = (tmp_path / "Si.json").read_text()
    result = run(path, FakeJob("Si", tmp_path), pool=Untouched())
    assert result.elements["Si"].state == "finished"
    assert result.elements["Si"].evaluated == 0
    assert (tmp_path / "Si.json").read_text() == written


def test_a_bigger_budget_is_searched_and_written_anew(path: Path, tmp_path: Path) -> None:
    run(path, FakeJob("Si", tmp_path))
    result = run(path, FakeJob("Si", tmp_path, evaluations=11))
    assert result.elements["Si"].evaluated == 3
    assert json.loads((tmp_path / "Si.json").read_text())["trials"] == 11


def test_a_result_that_is_lost_is_written_anew(path: Path, tmp_path: Path) -> None:
    run(path, FakeJob("Si", tmp_path))
    (tmp_path / "Si.json").unlink()
    assert run(path, FakeJob("Si", tmp_path)).elements["Si"].evaluated == 0
    assert (tmp_path / "Si.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(path: Path, tmp_path: Path, number: signal.Signals) -> None:
    def stop_early(event: Event) -> None:
        if event.progress is not None and event.progress.done == 3:
            os.kill(os.getpid(), number)

    jobs = [FakeJob("Si", tmp_path, evaluations=40), FakeJob("Ge", tmp_path, needs=("Si",))]
    for job in jobs:
        job.context["longest"] = 0.05
    result = run(path, *jobs, on_event=stop_early)
    assert result.interrupted
    assert {one.symbol: one.state for one in result.elements.values()} == {"Si": "interrupted", "Ge": "waiting"}
    assert states(path) == {"test/Si": ("interrupted", ""), "test/Ge": ("interrupted", "not begun")}
    assert 3 <= len(listed(path, "test/Si")) < 40
    jobs = [FakeJob("Si", tmp_path, evaluations=40), FakeJob("Ge", tmp_path, needs=("Si",))]
    result = run(path, *jobs)
    assert [one.state for one in result.elements.values()] == ["finished", "finished"]
    assert result.elements["Si"].trials == 40


def test_a_lost_pool_ends_the_campaign(path: Path, tmp_path: Path) -> None:
    class LostExecutor(type(SerialPool().executor())):  # type: ignore[misc]
        def collect(self, timeout):
            if timeout == 0.0:
                return []
            self._pool.lost = True
            raise EngineError("lost the connection")

    class LostPool(SerialPool):
        lost = False

        @property
        def workers(self) -> int:  # type: ignore[override]
            if self.lost:
                raise EngineError("lost the connection")
            return 2

        def executor(self, share: float = 1.0):
            return LostExecutor(self, share)

    with pytest.raises(EngineError, match="lost the connection"):
        run(path, FakeJob("Si", tmp_path), FakeJob("Ge", tmp_path, needs=("Si",)), pool=LostPool())
    assert states(path)["test/Si"] == ("interrupted", "lost the connection")
    assert run(path, FakeJob("Si", tmp_path)).elements["Si"].state == "finished"


def test_a_lost_store_ends_the_campaign(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, state = TrialStore.append_all, TrialStore.set_state
    broken = threading.Event()

    def fail(self, trials):
        if any(trial.index == 3 for trial in trials):
            broken.set()
        if broken.is_set():
            raise StoreError("the disk is full")
        append(self, trials)

    def say(self, *arguments, **more):
        if broken.is_set():
            raise StoreError("the disk is full")
        state(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(TrialStore, "append_all", fail)
        patch.setattr(TrialStore, "set_state", say)
        with pytest.raises(StoreError, match="the disk is full"):
            run(path, FakeJob("Si", tmp_path), FakeJob("Ge", tmp_path))
    result = run(path, FakeJob("Si", tmp_path), FakeJob("Ge", tmp_path))
    assert [one.trials for one in result.elements.values()] == [8, 8]


def test_elements_at_once(path: Path, tmp_path: Path) -> None:
    running: set[str] = set()
    most = 0

    def count(event: Event) -> None:
        nonlocal most
        if event.progress is None:
            (running.add if event.result.state == "running" else running.discard)(event.result.symbol)
        most = max(most, len(running))

    jobs = [FakeJob(symbol, tmp_path, evaluations=3) for symbol in ("Li", "Na", "K", "Rb")]
    assert run(path, *jobs, at_once=2, on_event=count).failed == []
    assert most == 2


def test_two_drivers_share_a_campaign(path: Path, tmp_path: Path) -> None:
    """Neither does what the other does, both wait for what the other has."""
    notes = tmp_path / "notes"
    notes.mkdir()

    def jobs() -> list[FakeJob]:
        context = {"notes": str(notes), "longest": 0.1}
        kinds = [("Mg", ()), ("Ca", ()), ("O", ("Mg", "Ca"))]
        return [FakeJob(symbol, tmp_path, needs=needs, context=context) for symbol, needs in kinds]

    results: list[CampaignResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(path, *jobs(), at_once=1))),
        threading.Thread(target=lambda: results.append(run(path, *jobs(), at_once=1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert [[one.state for one in result.elements.values()] for result in results] == [["finished"] * 3] * 2
    evaluated = [sum(one.evaluated for one in result.elements.values()) for result in results]
    assert sum(evaluated) == 24
    calls = [note.read_text() for note in notes.iterdir()]
    assert len(calls) == len(set(calls)) == 24
    assert {symbol: len(listed(path, f"test/{symbol}")) for symbol in ("Mg", "Ca", "O")} == {"Mg": 8, "Ca": 8, "O": 8}


def test_an_element_whose_other_driver_died_is_taken_over(path: Path, tmp_path: Path) -> None:
    """Another driver holds it, and goes away without a word."""
    with TrialStore.open(path) as other:
        other.set_state("test/Si", "running", "", "elsewhere:1")
        released = threading.Event()

        def hold() -> None:
            with other.exclusive("test/Si"):
                released.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        while not next(iter(other.overview("test/Si"))).held:
            time.sleep(0.01)
        events: list[Event] = []

        def release(event: Event) -> None:
            events.append(event)
            if event.result.symbol == "Si" and event.result.elsewhere:
                released.set()

        result = run(path, FakeJob("Si", tmp_path), FakeJob("Ge", tmp_path), on_event=release)
        holder.join()
    assert [one.state for one in result.elements.values()] == ["finished", "finished"]
    assert result.elements["Si"].evaluated == 8
    assert any(one.result.elsewhere for one in events)


def test_runs_without_jobs_of_ours_are_left_alone(path: Path, tmp_path: Path) -> None:
    from fake_jobs import SPACE, evaluate

    with TrialStore.open(path) as store:
        run_campaign(
            SPACE,
            evaluate,
            {"symbol": "x", "optimum": 1.0},
            store=store,
            run_id="test/Xe",
            evaluations=2,
            proposer="sobol",
        )
    run(path, FakeJob("Si", tmp_path))
    assert states(path)["test/Xe"] == ("finished", "")
