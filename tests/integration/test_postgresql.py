"""A real PostgreSQL server: several drivers on one store, lost connections, a server that is killed.

The server is started by the tests, in a temporary folder and without TCP. Skipped, visibly, where it is missing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from postgresql_driver import drive
from postgresql_server import Server

from dftbparam.errors import StoreError
from dftbparam.store import Run, Trial, TrialStore

pytestmark = pytest.mark.postgresql

SUPPORT = Path(__file__).parent / "support"
ROOT = Path(__file__).parents[2]
NAMES = [f"run{k}" for k in range(8)]


def trial(index: int, run_id: str = "Si", objective: float = 0.1 + 0.2, **more: Any) -> Trial:
    return Trial(run_id, index, (0.1, 1 / 3), {"r": 2.1000000000000005}, "finished", objective, seconds=0.5, **more)


@pytest.fixture
def address(postgresql_server: Server) -> str:
    return postgresql_server.new_database()


@pytest.fixture
def store(address: str) -> Iterator[TrialStore]:
    with TrialStore.open(address) as opened:
        opened.create_run(Run("Si", {"seed": 1}, {"evaluations": 9}))
        yield opened


# --- four drivers ---------------------------------------------------------------------------------------------------


class Drivers:
    """Driver processes on one store."""

    def __init__(self, address: str, folder: Path, evaluations: int) -> None:
        self.address, self.evaluations = address, evaluations
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, names: list[str], *options: str) -> None:
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        words = [sys.executable, SUPPORT / "postgresql_driver.py", self.address, self.notes, str(self.evaluations)]
        self.processes.append(
            subprocess.Popen(
                [*words, ",".join(names), *options],
                env=os.environ | threads | {"PYTHONPATH": search},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def finish(self) -> list[list[str]]:
        """Wait for all; return the runs that each has ended."""
        ended = []
        for process in self.processes:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            ended.append(out.split())
        return ended

    def wait_for_trials(self, store: TrialStore, number: int) -> None:
        end = time.monotonic() + 120
        while sum(run.finished + run.failed for run in store.overview()) < number:
            assert time.monotonic() < end
            assert all(process.poll() in (None, 0) for process in self.processes)
            time.sleep(0.02)

    def calls(self) -> Counter[str]:
        """How often each point was evaluated."""
        return Counter(note.read_text() for note in self.notes.iterdir())


def listed(store: TrialStore, name: str) -> list[tuple[object, ...]]:
    return [(t.index, t.x, t.parameters, t.status, t.objective, t.metrics, t.error) for t in store.trials(name)]


def check_against_serial(store: TrialStore, names: list[str], evaluations: int, folder: Path) -> Counter[str]:
    """Every run holds the trials of one driver alone, each once, and totals agree; returns the points of all."""
    points: Counter[str] = Counter()
    (folder / "serial").mkdir()
    with TrialStore.open("sqlite://") as serial:
        for name in names:
            drive(serial, name, str(folder / "serial"), evaluations)
            assert listed(store, name) == listed(serial, name)
            assert [row[0] for row in listed(store, name)] == list(range(evaluations))
            points.update(f"{t.parameters['a']!r} {t.parameters['b']!r}" for t in store.trials(name))
        overview = {run.run_id: run for run in serial.overview()}
    with store._database._engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM trials")).scalar() == len(names) * evaluations
    for run in store.overview():
        same = overview[run.run_id]
        assert (run.finished, run.failed, run.best_objective) == (same.finished, same.failed, same.best_objective)
        assert (run.best_index, run.evaluations, run.held) == (same.best_index, evaluations, False)
    return points


@pytest.mark.slow
def test_four_drivers_with_a_run_each(address: str, tmp_path: Path) -> None:
    drivers = Drivers(address, tmp_path, evaluations=25)
    for name in NAMES[:4]:
        drivers.start([name])
    assert drivers.finish() == [[name] for name in NAMES[:4]]
    with TrialStore.open(address) as store:
        points = check_against_serial(store, NAMES[:4], 25, tmp_path)
    assert drivers.calls() == points


@pytest.mark.slow
def test_four_drivers_compete_for_eight_runs(address: str, tmp_path: Path) -> None:
    drivers = Drivers(address, tmp_path, evaluations=12)
    for _ in range(4):
        drivers.start(NAMES, "--compete")
    ended = drivers.finish()
    assert sorted(name for names in ended for name in names) == NAMES
    with TrialStore.open(address) as store:
        points = check_against_serial(store, NAMES, 12, tmp_path)
        assert {run.state for run in store.overview()} == {"finished"}
    assert drivers.calls() == points


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_server_goes_and_comes_back(postgresql_server: Server, tmp_path: Path, end: str) -> None:
    """Drivers wait for it and go on: no trial is lost, doubled, or evaluated twice."""
    address = postgresql_server.new_database()
    drivers = Drivers(address, tmp_path, evaluations=40)
    with TrialStore.open(address) as store:
        for name in NAMES[:4]:
            drivers.start([name])
        for number in (20, 80):
            drivers.wait_for_trials(store, number)
            getattr(postgresql_server, end)()
            time.sleep(0.3)
            postgresql_server.start()
        assert drivers.finish() == [[name] for name in NAMES[:4]]
        points = check_against_serial(store, NAMES[:4], 40, tmp_path)
    assert drivers.calls() == points


@pytest.mark.slow
def test_the_server_is_killed_under_competing_drivers(postgresql_server: Server, tmp_path: Path) -> None:
    """Locks are lost and taken anew, by the same driver or by another; the trials are right all the same."""
    address = postgresql_server.new_database()
    drivers = Drivers(address, tmp_path, evaluations=20)
    with TrialStore.open(address) as store:
        for _ in range(4):
            drivers.start(NAMES, "--compete")
        drivers.wait_for_trials(store, 30)
        postgresql_server.kill()
        postgresql_server.start()
        drivers.finish()
        points = check_against_serial(store, NAMES, 20, tmp_path)
    # A driver that lost its run to another loses the evaluation it had in flight, and nothing else.
    extra = drivers.calls() - points
    assert sum(extra.values()) <= 4


def test_a_killed_driver_gives_its_run_back(store: TrialStore, address: str, tmp_path: Path) -> None:
    drivers = Drivers(address, tmp_path, evaluations=500)
    drivers.start(["Ti"])
    drivers.wait_for_trials(store, 3)
    with pytest.raises(StoreError, match="run 'Ti'"), store.exclusive("Ti"):
        pass
    assert [run.held for run in store.overview("Ti")] == [True]
    drivers.processes[0].kill()
    drivers.processes[0].communicate()
    wait_until(lambda: store.overview("Ti")[0].held is False)
    with store.exclusive("Ti"):
        pass


# --- the lock -------------------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def break_lock_session(server: Server, address: str) -> None:
    """End the session that holds the locks, as a server or a network may do."""
    database = address.partition("@/")[2].partition("?")[0]
    with server.connect() as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
            "WHERE application_name LIKE 'dftbparam %%' AND datname = %s",
            (database,),
        ).fetchone()
    assert ended == (1,)


def test_a_lost_lock_is_taken_again(store: TrialStore, address: str, postgresql_server: Server) -> None:
    with TrialStore.open(address) as other, store.exclusive("Si"), store.exclusive("Ti"):
        store.append(trial(0))
        break_lock_session(postgresql_server, address)
        assert [run.held for run in other.overview()] == [False]
        store.append(trial(1))
        assert [run.held for run in other.overview()] == [True]
        for name in ("Si", "Ti"):
            with pytest.raises(StoreError, match="another process"), other.exclusive(name):
                pass


def test_who_lost_the_lock_to_another_stops(store: TrialStore, address: str, postgresql_server: Server) -> None:
    with TrialStore.open(address) as other, store.exclusive("Si"):
        store.append(trial(0))
        break_lock_session(postgresql_server, address)
        with other.exclusive("Si"):
            with pytest.raises(StoreError, match="took it over") as caught:
                store.append(trial(1))
            assert caught.value.held is True
            other.append(trial(1, objective=-1.0))
        # Nor later, when the other one is gone again: there are trials this driver knows nothing of.
        with pytest.raises(StoreError, match="took it over"):
            store.append(trial(2))
        with other.exclusive("Ti"):
            pass
    assert [t.objective for t in store.trials("Si")] == [0.1 + 0.2, -1.0]
    with store.exclusive("Si"):
        store.append(trial(2))


def test_who_was_overtaken_before_it_noticed_stops(store: TrialStore, address: str, postgresql_server: Server) -> None:
    """The other one came and went between two appends."""
    with TrialStore.open(address) as other, store.exclusive("Si"):
        break_lock_session(postgresql_server, address)
        with other.exclusive("Si"):
            other.append(trial(0))
        with pytest.raises(StoreError, match="took it over"):
            store.append(trial(1))
    assert [t.index for t in store.trials("Si")] == [0]


def test_a_session_that_hangs_on_is_ended(store: TrialStore, address: str) -> None:
    """A cut network leaves the old session on the server, lock and all; its owner gets rid of it."""
    with TrialStore.open(address) as other, store.exclusive("Si"):
        locks: Any = store._locks
        left_behind, locks._session = locks._session, None
        store.append(trial(0))
        with pytest.raises(StoreError, match="another process"), other.exclusive("Si"):
            pass
        with pytest.raises(sa.exc.DBAPIError):
            left_behind.execute(sa.text("SELECT 1"))
        left_behind.close()
    assert [t.index for t in store.trials("Si")] == [0]


def test_a_successor_sees_the_last_trial_of_its_predecessor(store: TrialStore, address: str) -> None:
    """Whoever takes a run waits for an append that is just being committed."""
    with TrialStore.open(address) as other, contextlib.ExitStack() as stack:
        stack.enter_context(store.exclusive("Si"))
        seen: list[int] = []

        def take_over() -> None:
            other._locks = NothingHeld()  # type: ignore[assignment]
            with other.exclusive("Si"):
                seen.extend(t.index for t in other.trials("Si"))

        thread = threading.Thread(target=take_over)
        dialect = store._database._engine.dialect
        commit = dialect.do_commit

        def slow_commit(connection: Any) -> None:
            dialect.do_commit = commit  # type: ignore[method-assign]
            thread.start()
            thread.join(timeout=1.0)
            assert thread.is_alive()
            commit(connection)

        dialect.do_commit = slow_commit  # type: ignore[method-assign]
        store.append(trial(0))
        thread.join(timeout=30)
        assert seen == [0]
        with pytest.raises(StoreError, match="took it over"):
            store.append(trial(1))


class NothingHeld:
    """Locks that anybody gets."""

    @contextlib.contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


# --- lost connections -----------------------------------------------------------------------------------------------


@pytest.fixture
def losing_connection(store: TrialStore) -> Callable[[str], None]:
    """Make the next commit lose its connection: ``before`` the server has it, or ``after``, when only its answer is."""
    dialect = store._database._engine.dialect
    commit = dialect.do_commit

    def arrange(when: str) -> None:
        def lose(connection: Any) -> None:
            dialect.do_commit = commit  # type: ignore[method-assign]
            if when == "after":
                commit(connection)
            connection.dbapi_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        dialect.do_commit = lose  # type: ignore[method-assign]

    return arrange


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("held", [True, False])
def test_an_append_that_loses_its_connection(
    store: TrialStore, losing_connection: Callable[[str], None], when: str, held: bool
) -> None:
    with store.exclusive("Si") if held else contextlib.nullcontext():
        losing_connection(when)
        store.append(trial(0))
        store.append(trial(1, objective=0.1))
    assert store.trials("Si") == [trial(0), trial(1, objective=0.1)]
    (run,) = store.overview()
    assert (run.finished, run.seconds, run.best_index) == (2, 1.0, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_many_appends_that_lose_their_connection(
    store: TrialStore, losing_connection: Callable[[str], None], when: str
) -> None:
    trials = [trial(index, objective=3.0 - index) for index in range(3)]
    losing_connection(when)
    store.append_all(trials)
    assert store.trials("Si") == trials
    (run,) = store.overview()
    assert (run.finished, run.seconds, run.best_index) == (3, 1.5, 2)


def test_a_lost_answer_does_not_excuse_another_trial(
    store: TrialStore, address: str, losing_connection: Callable[[str], None]
) -> None:
    with TrialStore.open(address) as other:
        other.append(trial(0, worker="other"))
    losing_connection("before")
    with pytest.raises(StoreError, match="never overwritten"):
        store.append(trial(0, worker="this"))
    assert [t.worker for t in store.trials("Si")] == ["other"]
    # An identical one, too, is refused where nothing went wrong.
    with pytest.raises(StoreError, match="never overwritten"):
        store.append(trial(0, worker="other"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_creating_a_run_that_loses_its_connection(
    store: TrialStore, losing_connection: Callable[[str], None], when: str
) -> None:
    losing_connection(when)
    assert store.create_run(Run("Ti", {"seed": 2})).settings == {"seed": 2}
    losing_connection(when)
    store.set_state("Ti", "running")
    assert [(run.run_id, run.state, run.finished) for run in store.overview()] == [("Si", "", 0), ("Ti", "running", 0)]


def test_a_server_that_stays_away(
    postgresql_server: Server, store: TrialStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts are bounded; afterwards the same trial can be stored."""
    monkeypatch.setattr("dftbparam.store.connection.RETRY_DELAYS", (0.05, 0.05))
    with store.exclusive("Si"):
        store.append(trial(0))
        postgresql_server.kill()
        try:
            for call in (lambda: store.append(trial(1)), store.overview, lambda: store.trials("Si")):
                with pytest.raises(StoreError, match="no connection to its server") as caught:
                    call()
                assert caught.value.exit_code == 3
            with pytest.raises(StoreError, match="no connection to its server"):
                TrialStore.open(address)
        finally:
            postgresql_server.start()
        store.append(trial(1))
    assert store.trials("Si") == [trial(0), trial(1)]
    assert store.overview()[0].finished == 2


# --- schema ---------------------------------------------------------------------------------------------------------


def test_many_create_the_tables_at_once(address: str) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with TrialStore.open(address) as store:
                store.create_run(Run(name, {}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with TrialStore.open(address, create=False) as store:
        assert [run.run_id for run in store.overview()] == NAMES


def test_passwords_are_never_shown(address: str) -> None:
    """Neither one in the place for it, nor one among the options, where a server is missing or has no such database."""
    for bad in (
        address.replace("dftbparam@", "dftbparam:hushhush@").replace("/test", "/no"),
        address.replace("/test", "/no") + "&password=hushhush",
        "postgresql://me:hushhush@/x?host=/nowhere",
    ):
        with pytest.raises(StoreError) as caught:
            TrialStore.open(bad)
        assert "hush" not in caught.value.message + str(caught.value.data)
    with TrialStore.open(address.replace("dftbparam@", "dftbparam:hushhush@")) as store:
        assert "hush" not in store.where
