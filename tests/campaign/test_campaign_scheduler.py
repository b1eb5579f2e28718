"""Schedulers that somebody else started: workers with threads, with another version, that go away."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_evaluation import by_kind, noted

import dftbparam
import dftbparam.campaign.dask_pool as pools
from dftbparam.campaign.executor import pool
from dftbparam.errors import EngineError


def start(threads: int = 1, workers: int = 1) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=None,
    )


@pytest.fixture
def foreign() -> Iterator[Any]:
    with start(threads=4) as cluster:
        yield cluster


def gather(run: Any, number: int) -> dict[int, Any]:
    outcomes: dict[int, Any] = {}
    end = time.monotonic() + 120.0
    while len(outcomes) < number and time.monotonic() < end:
        outcomes |= dict(run.collect(1.0))
    return outcomes


def test_a_worker_with_threads_runs_one_evaluation_at_a_time(
    foreign: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    with pool(scheduler=foreign.scheduler_address) as place:
        assert place.workers == 1
        # Two runs at once, so that the worker has more than one to do.
        runs = [place.executor() for _ in range(2)]
        place._room = lambda: 8  # type: ignore[attr-defined]
        for name, run in enumerate(runs):
            run.start(noted, str(notes))
            for index in range(4):
                run.submit(index, {"name": f"{name}-{index}", "sleep": 0.1})
        for run in runs:
            assert len(gather(run, 4)) == 4
    lines = notes.read_text().splitlines()
    assert len(lines) == 16
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert begin.replace("begin", "end") == end
    assert "1 of 1 workers" in caplog.text
    assert "--nthreads 1" in caplog.text


def test_workers_of_another_version_are_refused(foreign: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = dftbparam.__version__
    monkeypatch.setattr(dftbparam, "__version__", "0.0.0")
    with (
        pool(scheduler=foreign.scheduler_address) as place,
        pytest.raises(EngineError, match=rf"has dftbparam {there}, the driver 0.0.0"),
    ):
        place.executor().start(by_kind, None)


def test_the_setting_of_the_scheduler_is_left_alone_and_deaths_are_three(tmp_path: Path) -> None:
    import dask

    notes = tmp_path / "notes"
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), start(workers=2) as cluster:
        with pool(scheduler=cluster.scheduler_address) as place:
            run = place.executor()
            run.start(noted, str(notes))
            run.submit(0, {"name": "deadly", "sleep": 0.5, "deadly": True})
            run.submit(1, {"name": "good", "sleep": 0.1})
            outcomes = gather(run, 2)
        assert outcomes[0].error["type"] == "WorkerDied"
        assert outcomes[1].error is None
        assert notes.read_text().count("begin deadly") == 3
        assert cluster.scheduler.allowed_failures == 0


def test_a_scheduler_that_is_gone_for_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What had ended is returned first, then the error, as often as one asks."""
    monkeypatch.setattr(pools, "RECONNECT_SECONDS", 1.0)
    cluster = start()
    with pool(scheduler=cluster.scheduler_address) as place:
        run = place.executor()
        run.start(noted, str(tmp_path / "notes"))
        run.submit(0, {"name": "quick"})
        end = time.monotonic() + 60.0
        while run.ended.empty() and time.monotonic() < end:  # type: ignore[attr-defined]
            time.sleep(0.05)
        run.submit(1, {"name": "long", "sleep": 60.0})
        cluster.close()
        while place.lost is None and time.monotonic() < end:  # type: ignore[attr-defined]
            time.sleep(0.05)
        assert [index for index, _ in run.collect(None)] == [0]
        for _ in range(2):
            with pytest.raises(EngineError, match=r"lost the connection to tcp.* go on with --resume") as caught:
                run.collect(None)
        assert caught.value.exit_code == 3
        with pytest.raises(EngineError, match="lost the connection"):
            place.executor().start(by_kind, None)


def test_a_restart_of_the_workers_loses_no_trial(foreign: Any, tmp_path: Path) -> None:
    """Another user's ``client.restart()`` cancels the tasks of all; they are handed out again."""
    from distributed import Client

    with pool(scheduler=foreign.scheduler_address) as place:
        run = place.executor()
        run.start(noted, str(tmp_path / "notes"))
        for index in range(4):
            run.submit(index, {"name": str(index), "sleep": 0.5})
        first = gather(run, 1)
        with Client(foreign.scheduler_address, set_as_default=False) as other:
            other.restart()
        assert {*first, *gather(run, 4 - len(first))} == {0, 1, 2, 3}
