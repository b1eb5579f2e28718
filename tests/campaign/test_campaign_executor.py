"""Executors: every evaluation comes back once, typed by how it ended, and nothing is left behind."""

import pickle
import sys
import time
import types
from collections.abc import Iterator

import psutil
import pytest
from synthetic_evaluation import by_kind, deadly, sleepy

import dftbparam.campaign.dask_services as services
from dftbparam.campaign.dask_executor import DaskExecutor
from dftbparam.campaign.dask_pool import DaskPool
from dftbparam.campaign.executor import Executor, SerialExecutor, executor, pool
from dftbparam.campaign.result import Outcome, TrialResult, run_one
from dftbparam.errors import EngineError, EngineMissing, ParameterError


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskExecutor]:
    with executor(2) as running:  # type: ignore[attr-defined]
        yield running


@pytest.fixture(params=["serial", "dask"])
def place(request: pytest.FixtureRequest) -> Executor:
    return SerialExecutor() if request.param == "serial" else request.getfixturevalue("cluster")


def gather(place: Executor, parameters: list[dict[str, float]], seconds: float = 60.0) -> dict[int, Outcome]:
    for index, values in enumerate(parameters):
        place.submit(index, values)
    outcomes: dict[int, Outcome] = {}
    end = time.monotonic() + seconds
    while len(outcomes) < len(parameters) and time.monotonic() < end:
        for index, outcome in place.collect(1.0):
            assert index not in outcomes
            outcomes[index] = outcome
    assert place.collect(None) == []
    return outcomes


def test_every_way_to_end(place: Executor) -> None:
    place.start(by_kind, {"size": 3})
    outcomes = gather(place, [{"kind": float(k)} for k in range(9)])
    assert sorted(outcomes) == list(range(9))
    result = outcomes[0].result
    assert result is not None
    assert (result.objective, result.metrics["context"]) == (1.5, {"size": 3})
    kinds = {k: (o.error or {}).get("type") for k, o in outcomes.items()}
    assert kinds == {
        0: None,
        1: "ScfNotConverged",
        2: None,
        3: "ValueError",
        4: "TypeError",
        5: "CalculationError",
        6: "EngineTimeout",
        7: None,
        8: "CalculationError",
    }
    assert outcomes[1].error == {
        "type": "ScfNotConverged",
        "message": "not converged",
        "data": {"iterations": 7, "residual": 0.5},
    }
    assert isinstance(outcomes[2].fatal, ParameterError)
    assert outcomes[2].fatal.value == 3
    assert isinstance(outcomes[7].fatal, EngineMissing)
    assert "a defect" in outcomes[3].error["data"]["traceback"]  # type: ignore[index]
    assert outcomes[5].result.metrics == {"a": 1.0}  # type: ignore[union-attr]
    for outcome in outcomes.values():
        assert outcome.seconds >= 0.0
        assert outcome.worker
        assert outcome.started <= outcome.finished


def test_collect_does_not_wait_longer_than_told(place: Executor) -> None:
    place.start(by_kind, None)
    assert place.collect(None) == []
    place.submit(0, {"kind": 0.0})
    begun = time.monotonic()
    early = place.collect(0.0)
    assert time.monotonic() - begun < 0.3
    while not early:
        early = place.collect(5.0)
    assert [index for index, _ in early] == [0]


def test_workers_run_one_thread_each(cluster: DaskExecutor) -> None:
    assert cluster.workers == 2
    cluster.start(by_kind, None)
    (outcome,) = gather(cluster, [{"kind": 0.0}]).values()
    assert outcome.result is not None
    assert outcome.result.metrics["threads"] == "1"


def test_an_evaluation_that_workers_cannot_import(cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    here_only = types.ModuleType("here_only")
    exec("def evaluate(parameters, context): return None", here_only.__dict__)
    monkeypatch.setitem(sys.modules, "here_only", here_only)
    with pytest.raises(EngineError, match=r"cannot take up the evaluation 'evaluate' .*here_only.*importable by name"):
        cluster.start(here_only.evaluate, None)


def test_outcomes_survive_pickling() -> None:
    outcome = run_one(by_kind, {"kind": 1.0}, None)
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_the_parameters_are_the_evaluations_own() -> None:
    def change(parameters: dict[str, float], context: object) -> TrialResult:
        parameters.clear()
        return TrialResult(0.0)

    values = {"r": 1.0}
    run_one(change, values, None)
    assert values == {"r": 1.0}


def test_a_deadly_trial_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with executor(2) as place:  # type: ignore[attr-defined]
        place.start(deadly, None)
        outcomes = gather(place, [{"r": float(r)} for r in (1, 5, 2, 3, 4)])
    assert [outcomes[k].error for k in (0, 2, 3, 4)] == [None] * 4
    error = outcomes[1].error
    assert error is not None
    assert error["type"] == "WorkerDied"
    assert "3 workers died" in error["message"]


def test_closing_ends_what_runs_and_leaves_no_process() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    place = executor(2)
    place.start(sleepy, None)
    for index in range(3):
        place.submit(index, {"r": 1.0})
    assert place.collect(0.5) == []
    begun = time.monotonic()
    place.close()
    place.close()
    assert time.monotonic() - begun < 20.0
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    # Python's own tracker of semaphores lives as long as this process.
    assert [c.cmdline() for c in left if "resource_tracker" not in " ".join(c.cmdline())] == []


def test_a_scheduler_elsewhere(cluster: DaskExecutor) -> None:
    cluster.start(by_kind, None)
    address = cluster.pool.service.address  # type: ignore[attr-defined]
    with executor(scheduler=address) as other:  # type: ignore[attr-defined]
        assert other.workers == 2
        other.start(by_kind, "elsewhere")
        outcomes = gather(other, [{"kind": 0.0}, {"kind": 1.0}, {"kind": 0.0}])
    assert outcomes[2].result.metrics["context"] == "elsewhere"  # type: ignore[union-attr]
    # Its workers are not ours to close.
    assert len(gather(cluster, [{"kind": 0.0}])) == 1


def test_no_scheduler_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CONNECT_SECONDS", 1.0)
    with pytest.raises(EngineError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        executor(scheduler="tcp://127.0.0.1:9").start(by_kind, None)


@pytest.mark.parametrize("address", ["htp://nowhere:1", "scheduler.json"])
def test_not_an_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "CONNECT_SECONDS", 1.0)
    with pytest.raises((ParameterError, EngineError), match=address):
        executor(scheduler=address).start(by_kind, None)


def test_contradictory_options() -> None:
    with pytest.raises(ParameterError, match="give one"):
        executor(scheduler="tcp://127.0.0.1:9", cluster="slurm")
    with pytest.raises(ParameterError, match="at least 1"):
        executor(-1)
    with pytest.raises(ParameterError, match="positive number, got 0"):
        pool(0).executor(0.0)
    assert isinstance(executor(0), SerialExecutor)
    assert isinstance(executor(1), DaskExecutor)
    assert isinstance(pool(1), DaskPool)
