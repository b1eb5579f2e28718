"""Versions of the schema: files of version 1 are upgraded whole or not at all, or read as they are."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgresql_server import Server

from dftbparam.errors import StoreError
from dftbparam.store import Run, Trial, TrialStore

# As dftbparam wrote it before there was a version 2.
VERSION_1 = """
CREATE TABLE schema_info (
    component VARCHAR(64) NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (component)
);
CREATE TABLE runs (
    run_id VARCHAR(200) NOT NULL, created VARCHAR(40) NOT NULL, settings TEXT NOT NULL, budget TEXT NOT NULL,
    provenance TEXT NOT NULL, PRIMARY KEY (run_id)
);
CREATE TABLE trials (
    id {serial}, run_id VARCHAR(200) NOT NULL, trial_index INTEGER NOT NULL, x TEXT NOT NULL,
    parameters TEXT NOT NULL, status VARCHAR(16) NOT NULL, objective {double}, metrics TEXT NOT NULL,
    details TEXT NOT NULL, error TEXT, seconds {double} NOT NULL, worker VARCHAR(200) NOT NULL,
    started VARCHAR(40) NOT NULL, finished VARCHAR(40) NOT NULL, settings_hash VARCHAR(64) NOT NULL,
    PRIMARY KEY (id), CONSTRAINT one_trial_per_index UNIQUE (run_id, trial_index),
    FOREIGN KEY(run_id) REFERENCES runs (run_id)
);
"""
SQLITE = VERSION_1.format(serial="INTEGER NOT NULL", double="DOUBLE")
POSTGRESQL = VERSION_1.format(serial="SERIAL NOT NULL", double="DOUBLE PRECISION")

X = "[0.1, 0.3333333333333333]"
CREATED = "2024-01-01T00:00:00+00:00"
TRIAL_COLUMNS = (
    "run_id, trial_index, x, parameters, status, objective, metrics, details, error, seconds, worker, started, "
    "finished, settings_hash"
)


def old_rows() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Runs and trials: one run with a tie, a failure and awkward numbers, one of failures, one without trials."""
    runs = [(name, CREATED, '{"seed":1}', '{"evaluations":9}', "{}") for name in ("Si", "Ti", "W")]
    trials: list[tuple[object, ...]] = []

    def add(run: str, index: int, objective: float | None) -> None:
        status, error = ("finished", None) if objective is not None else ("failed", '{"type":"AtomError"}')
        end = f"2024-01-01T00:00:{index:02d}+00:00"
        row = (run, index, X, '{"r":2.1}', status, objective, "{}", "{}", error, 0.25, "host:1", CREATED, end, "abc")
        trials.append(row)

    for index, objective in ((4, 0.1 + 0.2), (0, 1e300), (2, 0.1 + 0.2), (1, None), (3, 5e-324 + 0.5)):
        add("Si", index, objective)
    add("Ti", 0, None)
    return runs, trials


def write_version_1(path: Path, version: int = 1) -> None:
    runs, trials = old_rows()
    with sqlite3.connect(path) as connection:
        connection.executescript(SQLITE)
        connection.execute("INSERT INTO schema_info VALUES ('dftbparam-trials', ?)", (version,))
        connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", runs)
        marks = ", ".join("?" * 14)
        connection.executemany(f"INSERT INTO trials ({TRIAL_COLUMNS}) VALUES ({marks})", trials)
    connection.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    write_version_1(path)
    return path


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT version FROM schema_info").fetchone()[0])
    finally:
        connection.close()


def check_totals(store: TrialStore) -> None:
    silicon, titanium, tungsten = store.overview()
    assert (silicon.run_id, silicon.finished, silicon.failed, silicon.seconds) == ("Si", 4, 1, 1.25)
    assert (silicon.best_objective, silicon.best_index) == (0.1 + 0.2, 2)
    assert (silicon.evaluations, silicon.state, silicon.updated) == (9, "", "2024-01-01T00:00:04+00:00")
    assert (titanium.finished, titanium.failed, titanium.best_objective, titanium.best_index) == (0, 1, None, None)
    assert (tungsten.finished, tungsten.failed, tungsten.seconds, tungsten.updated) == (0, 0, 0.0, CREATED)


def check_upgraded(path: Path, trials: list[Trial]) -> None:
    assert version_of(path) == 2
    with TrialStore.open(path) as store:
        check_totals(store)
        assert store.trials("Si") == trials
        with store.exclusive("Si"):
            store.append(Trial("Si", 5, (0.5, 0.5), {"r": 3.0}, "finished", -1.0, seconds=1.0))
        store.set_state("Cu", "waiting")
        overview = {run.run_id: run for run in store.overview()}
        assert (overview["Si"].finished, overview["Si"].best_index, overview["Si"].seconds) == (5, 5, 2.25)
        assert overview["Cu"].state == "waiting"


def test_an_upgrade_keeps_what_is_there(old: Path) -> None:
    before = dump(old)
    with TrialStore.open(old, create=False) as store:
        trials = store.trials("Si")
    TrialStore.open(old).close()
    after = dump(old)
    kept = [line for line in before if "schema_info" not in line]
    assert [line for line in after if line in kept] == kept
    assert [t.objective for t in trials] == [1e300, None, 0.1 + 0.2, 0.5, 0.1 + 0.2]
    check_upgraded(old, trials)
    # Opening once more changes nothing.
    TrialStore.open(old).close()


def test_an_upgraded_file_is_like_a_new_one(old: Path, tmp_path: Path) -> None:
    TrialStore.open(old).close()
    new = tmp_path / "new.sqlite"
    TrialStore.open(new).close()

    def columns(path: Path) -> dict[str, list[tuple[str, bool, bool]]]:
        engine = sa.create_engine(f"sqlite:///{path}")
        inspector = sa.inspect(engine)
        return {
            table: [(c["name"], bool(c["nullable"]), bool(c["primary_key"])) for c in inspector.get_columns(table)]
            for table in inspector.get_table_names()
        }

    assert columns(old) == columns(new)


def test_reading_leaves_a_file_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with TrialStore.open(old, create=False) as store:
        check_totals(store)
        assert [run.run_id for run in store.overview("T")] == ["Ti"]
        assert len(store.trials("Si")) == 5
        assert store.load_run("Ti").settings == {"seed": 1}
    assert old.read_bytes() == before
    assert os.listdir(old.parent) == ["old.sqlite"]


def test_a_reader_sees_the_upgrade_of_another(old: Path) -> None:
    with TrialStore.open(old, create=False) as reader:
        with TrialStore.open(old) as writer:
            writer.set_state("Si", "running")
            assert reader.overview()[0].state == "running"
            with writer.exclusive("Si"):
                reader.set_state("Ti", "failed")  # needs no upgrade any more, so nobody is in the way


@pytest.mark.parametrize("call", ["create_run", "set_state", "append", "set_budget", "exclusive"])
def test_the_first_write_upgrades(old: Path, call: str) -> None:
    with TrialStore.open(old, create=False) as store:
        if call == "create_run":
            store.create_run(Run("Cu", {}))
        elif call == "set_state":
            store.set_state("Si", "waiting")
        elif call == "append":
            store.append(Trial("W", 0, (0.5,), {"r": 1.0}, "finished", 1.0))
            assert store.overview()[2].finished == 1
        elif call == "set_budget":
            store.set_budget("Si", {"evaluations": 10})
        else:
            with store.exclusive("Si"):
                pass
        assert version_of(old) == 2


def test_no_upgrade_under_a_driver_of_version_1(old: Path) -> None:
    before = dump(old)
    with Path(f"{old}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"is to be upgraded, but another process is working on it"):
            TrialStore.open(old)
    assert dump(old) == before
    TrialStore.open(old).close()
    assert version_of(old) == 2


def test_totals_are_mended_when_a_run_is_taken(old: Path) -> None:
    """A driver of version 1 that opened the store before its upgrade may add trials without counting them."""
    with TrialStore.open(old) as store:
        with sqlite3.connect(old) as connection:
            connection.execute(
                f"INSERT INTO trials ({TRIAL_COLUMNS}) SELECT run_id, 5, x, parameters, status, -2.0, metrics, "
                "details, error, seconds, worker, started, finished, settings_hash FROM trials WHERE trial_index = 4"
            )
            connection.execute("INSERT INTO runs VALUES ('Cu', '2024', '{}', '{}', '{}')")
        connection.close()
        assert store.overview()[1].finished == 4
        for name in ("Si", "Cu"):
            with store.exclusive(name):
                pass
        copper, silicon = store.overview()[:2]
        assert (silicon.finished, silicon.best_objective, silicon.best_index, silicon.seconds) == (5, -2.0, 5, 1.5)
        assert (copper.run_id, copper.finished) == ("Cu", 0)


def test_many_upgrade_at_once(old: Path) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with TrialStore.open(old) as store:
                store.create_run(Run(name, {}))
        except StoreError as error:
            if "is to be upgraded" not in error.message:
                errors.append(error)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"run{k}",)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with TrialStore.open(old) as store:
        assert version_of(old) == 2
        assert {run.run_id for run in store.overview()} >= {"Si", "Ti", "W"}


# --- on a server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def old_server(postgresql_server: Server) -> str:
    """The address of a database of version 1."""
    address = postgresql_server.new_schema()
    runs, trials = old_rows()
    with postgresql_server.connect(address) as connection:
        connection.execute(POSTGRESQL)
        connection.execute("INSERT INTO schema_info VALUES ('dftbparam-trials', 1)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO runs VALUES (%s, %s, %s, %s, %s)", runs)
            marks = ", ".join(["%s"] * 14)
            cursor.executemany(f"INSERT INTO trials ({TRIAL_COLUMNS}) VALUES ({marks})", trials)
    return address


@pytest.mark.postgresql
def test_an_upgrade_on_a_server(postgresql_server: Server, old_server: str) -> None:
    with TrialStore.open(old_server, create=False) as store:
        check_totals(store)
        trials = store.trials("Si")
    with TrialStore.open(old_server) as store:
        check_totals(store)
        assert store.trials("Si") == trials
        store.append(Trial("Si", 5, (0.5, 0.5), {"r": 3.0}, "finished", -1.0, worker="w" * 300))
        assert store.trials("Si")[:5] == trials
        assert (store.overview()[0].finished, store.overview()[0].best_index) == (5, 5)


@pytest.mark.postgresql
def test_many_upgrade_a_server_at_once(postgresql_server: Server, old_server: str) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with TrialStore.open(old_server) as store:
                store.append(Trial("W", number, (0.5,), {"r": 3.0}, "finished", float(number)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with TrialStore.open(old_server) as store:
        tungsten = store.overview()[2]
        assert (tungsten.finished, tungsten.best_index) == (6, 0)


@pytest.mark.postgresql
def test_an_upgrade_that_breaks_off_on_a_server(postgresql_server: Server, old_server: str) -> None:
    """Whichever statement the connection is lost at, the database is as it was."""
    number, done = 0, False
    while not done:
        number += 1
        seen = 0

        def count(connection: sa.Connection, *_: object, at: int = number) -> None:
            nonlocal seen
            seen += 1
            if seen == at:
                raise KeyboardInterrupt

        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        try:
            TrialStore.open(old_server).close()
            done = True
        except KeyboardInterrupt:
            pass
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", count)
        with TrialStore.open(old_server, create=False) as store:
            check_totals(store)
            assert store._version == (2 if done else 1)
    assert number > 8


# --- a crash in the middle ------------------------------------------------------------------------------------------

KILLED = """
import os, shutil, signal, sys
import sqlalchemy as sa
from dftbparam.store import TrialStore
whole = sys.argv[1]
number = 0
while True:  # a process forked for each moment, because starting Python takes longer than all the rest
    number += 1
    path = f"{whole}.{number}"
    shutil.copy(whole, path)
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            break
        continue
    seen = 0

    @sa.event.listens_for(sa.Engine, "connect")
    def spill(connection, record):
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written to the file long before the commit

    def count(*_):
        global seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    for event in ("before_cursor_execute", "after_cursor_execute"):
        sa.event.listen(sa.Engine, event, count)
    sa.event.listen(sa.Engine, "commit", count)
    TrialStore.open(path).close()
    os._exit(0)
print(number)
"""


def test_kills_during_the_upgrade(tmp_path: Path) -> None:
    """Killed before and after every statement and before the commit: the file is old, or it is new."""
    whole = tmp_path / "whole.sqlite"
    write_version_1(whole)
    with sqlite3.connect(whole) as connection:  # enough runs that their totals fill pages
        connection.executemany(
            "INSERT INTO runs VALUES (?, ?, '{}', '{}', '{}')", [(f"{'z' * 150}{k}", CREATED) for k in range(300)]
        )
    connection.close()
    old = dump(whole)
    with TrialStore.open(whole, create=False) as store:
        trials = store.trials("Si")
    done = subprocess.run([sys.executable, "-c", KILLED, str(whole)], capture_output=True, text=True, check=True)
    moments = int(done.stdout)
    spilt, versions = 0, []
    for number in range(1, moments + 1):
        path = Path(f"{whole}.{number}")
        journal = Path(f"{path}-journal")
        spilt += journal.exists() and path.stat().st_size > whole.stat().st_size
        with TrialStore.open(path, create=False) as store:
            assert store.trials("Si") == trials
        versions.append(version_of(path))
        assert versions[-1] == 2 or dump(path) == old
        with TrialStore.open(path) as store:
            assert len(store.overview()) == 303
            assert store.overview()[0].best_index == 2
        assert version_of(path) == 2
    assert versions[-1] == 2  # the one that was let through
    assert versions.count(1) > 10
    assert spilt > 0  # some were killed when the file itself had been written to
