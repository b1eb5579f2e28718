"""The trial store: what goes in comes out, nothing is overwritten, foreign files are refused."""

import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.errors import ParameterError, StoreError
from dftbparam.store import SCHEMA_VERSION, Run, Trial, TrialStore, differing_settings, settings_hash
from dftbparam.store.records import plain, to_json


def make_trial(index: int = 0, run_id: str = "Si", **changes: object) -> Trial:
    record: dict[str, object] = {
        "run_id": run_id,
        "index": index,
        "x": (0.1, 1 / 3),
        "parameters": {"r_s": 2.1000000000000005, "r_p": 7.3},
        "status": "finished",
        "objective": 0.1 + 0.2,
        "metrics": {"dV": -1.5, "sound": True},
        "details": {"curve": [1.0, 2.0]},
        "seconds": 1.25,
        "worker": "host:1",
        "started": "2024-01-01T00:00:00+00:00",
        "finished": "2024-01-01T00:00:01+00:00",
        "settings_hash": "abc",
    }
    return Trial(**(record | changes))  # type: ignore[arg-type]


@pytest.fixture(params=["path", "address", "memory", pytest.param("server", marks=pytest.mark.postgresql)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrialStore]:
    if request.param == "server":
        location = request.getfixturevalue("postgresql_server").new_schema()
    else:
        path = tmp_path / "trials.sqlite"
        location = {"path": path, "address": f"sqlite:///{path}", "memory": "sqlite://"}[request.param]
    opened = TrialStore.open(location)
    opened.create_run(Run("Si", {"seed": 1}, {"evaluations": 5}, {"numpy": "2"}))
    yield opened
    opened.close()


def test_trials_come_back_bit_for_bit(store: TrialStore) -> None:
    failed = make_trial(
        2, status="failed", objective=None, metrics={}, error={"type": "AtomError", "message": "no", "data": {"l": 1}}
    )
    for trial in (failed, make_trial(0)):
        store.append(trial)
    assert store.trials("Si") == [make_trial(0), failed]
    assert store.trials("nothing") == []


@pytest.mark.parametrize("kind", ["path", pytest.param("server", marks=pytest.mark.postgresql)])
def test_a_reader_is_refused_every_write_by_the_database(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    location = tmp_path / "a.sqlite"
    if kind == "server":
        location = request.getfixturevalue("postgresql_server").new_schema()
    with pytest.raises(ParameterError, match="there is no trial store"):
        TrialStore.open(tmp_path / "missing.sqlite", read_only=True)
    with TrialStore.open(location) as writer:
        writer.create_run(Run("Si", {}))
        with TrialStore.open(location, read_only=True) as reader:
            writer.append(make_trial(0))
            assert [one.index for one in reader.trials("Si")] == [0]
            assert reader.overview()[0].finished == 1
            for write in (
                lambda: reader.append(make_trial(1)),
                lambda: reader.create_run(Run("Al", {})),
                lambda: reader.set_state("Si", "failed"),
                lambda: reader.set_budget("Si", {}),
            ):
                with pytest.raises(StoreError, match="it cannot be written"):
                    write()
            writer.append(make_trial(2))
        assert [one.index for one in writer.trials("Si")] == [0, 2]
        assert writer.run_ids() == ["Si"]
    assert not (tmp_path / "missing.sqlite").exists()


def test_run_comes_back(store: TrialStore) -> None:
    run = store.load_run("Si")
    assert (run.settings, run.budget, run.provenance) == ({"seed": 1}, {"evaluations": 5}, {"numpy": "2"})
    assert run.created.endswith("+00:00")
    assert store.runs() == [run]
    store.set_budget("Si", {"evaluations": 9})
    assert store.load_run("Si").budget == {"evaluations": 9}
    assert store.load_run("Si").settings == {"seed": 1}


def test_nothing_is_overwritten(store: TrialStore) -> None:
    store.append(make_trial(0))
    with pytest.raises(StoreError, match=r"trial 0 already.*never overwritten"):
        store.append(make_trial(0, objective=-1.0))
    assert store.trials("Si") == [make_trial(0)]
    with pytest.raises(ParameterError, match="holds a run 'Si' already"):
        store.create_run(Run("Si", {}))


def test_two_runs_do_not_mix(store: TrialStore) -> None:
    store.create_run(Run("Ti", {}))
    store.append(make_trial(0))
    store.append(make_trial(0, run_id="Ti"))
    assert [t.run_id for t in store.trials("Ti")] == ["Ti"]
    assert store.has_run("Ti")
    assert not store.has_run("W")


def test_trial_without_run(store: TrialStore) -> None:
    with pytest.raises(StoreError, match="no such run"):
        store.append(make_trial(0, run_id="W"))


def test_unknown_run_names_the_known(store: TrialStore) -> None:
    with pytest.raises(ParameterError, match="no run 'W'; it holds: Si"):
        store.load_run("W")


def test_rows_are_flat(store: TrialStore) -> None:
    store.append(make_trial(0, metrics={"dV": 1.0, "list": [1]}))
    (row,) = store.rows("Si")
    assert row["parameter.r_p"] == 7.3
    assert row["metric.dV"] == 1.0
    assert row["error"] is None
    assert "metric.list" not in row


def test_trials_are_read_in_pages(store: TrialStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dftbparam.store.trial_store.PAGE", 3)
    for index in (7, 0, 1, 2, 3, 4):
        failed = {"status": "failed", "objective": None} if index % 2 else {}
        store.append(make_trial(index, **failed))
    assert [t.index for t in store.iter_trials("Si")] == [0, 1, 2, 3, 4, 7]
    assert [t.index for t in store.iter_trials("Si", status="failed")] == [1, 3, 7]
    assert [t.index for t in store.iter_trials("Si", status="finished")] == [0, 2, 4]


@pytest.mark.parametrize(
    ("status", "objective"),
    [("finished", None), ("finished", math.nan), ("finished", math.inf), ("failed", 1.0), ("running", 1.0)],
)
def test_contradictory_trials_are_refused(store: TrialStore, status: str, objective: float | None) -> None:
    with pytest.raises(ParameterError, match="finite objective"):
        store.append(make_trial(0, status=status, objective=objective))
    assert store.trials("Si") == []


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "a\udc80"])
def test_bad_names(store: TrialStore, name: str) -> None:
    for call in (
        lambda: store.create_run(Run(name, {})),
        lambda: store.set_state(name, "waiting"),
        lambda: store.exclusive(name).__enter__(),
    ):
        with pytest.raises(ParameterError, match="no name for a run"):
            call()


# --- overview -------------------------------------------------------------------------------------------------------


def test_totals_follow_the_trials(store: TrialStore) -> None:
    (empty,) = store.overview()
    assert (empty.finished, empty.failed, empty.best_objective, empty.best_index) == (0, 0, None, None)
    assert (empty.seconds, empty.evaluations, empty.state) == (0.0, 5, "")
    objectives = [2.0, None, 0.5, 0.5, 3.0, None]
    order = [3, 0, 5, 2, 4, 1]
    for index in order:
        value = objectives[index]
        store.append(make_trial(index, status="failed" if value is None else "finished", objective=value, seconds=0.5))
    (run,) = store.overview()
    assert (run.finished, run.failed, run.seconds) == (4, 2, 3.0)
    # The earliest among equals, whichever was stored first.
    assert (run.best_objective, run.best_index) == (0.5, 2)
    with pytest.raises(StoreError):
        store.append(make_trial(3, objective=-1.0))
    assert store.overview() == [run]


@settings(deadline=None)
@given(values=st.lists(st.none() | st.floats(-1e300, 1e300), max_size=12), chance=st.randoms(use_true_random=False))
def test_totals_are_what_the_trials_say(values: list[float | None], chance: Random) -> None:
    with TrialStore.open("sqlite://") as store:
        store.create_run(Run("Si", {}))
        order = list(range(len(values)))
        chance.shuffle(order)
        for index in order:
            status = "failed" if values[index] is None else "finished"
            store.append(make_trial(index, status=status, objective=values[index]))
        (run,) = store.overview()
        trials = store.trials("Si")
    finished = [t for t in trials if t.objective is not None]
    best = min(finished, key=lambda t: (t.objective, t.index), default=None)
    assert (run.finished, run.failed) == (len(finished), len(trials) - len(finished))
    assert (run.best_objective, run.best_index) == ((None, None) if best is None else (best.objective, best.index))
    assert run.seconds == pytest.approx(sum(t.seconds for t in trials))


def test_states(store: TrialStore) -> None:
    store.set_state("campaign/Ti", "waiting", driver="host:1")
    store.set_state("Si", "running")
    store.set_state("Si", "failed", "no dftb+\0 \udcff", "host:2")
    silicon, titanium = store.overview()
    assert (silicon.run_id, silicon.state, silicon.message, silicon.driver) == ("Si", "failed", "no dftb+ ?", "host:2")
    assert (titanium.run_id, titanium.state, titanium.driver) == ("campaign/Ti", "waiting", "host:1")
    assert (titanium.evaluations, titanium.finished, titanium.best_index) == (None, 0, None)
    assert silicon.updated.endswith("+00:00")
    assert not store.has_run("campaign/Ti")
    with pytest.raises(ParameterError, match=r"'done'.*right are: waiting, running, finished, failed, interrupted"):
        store.set_state("Si", "done")


def test_overview_of_a_prefix(store: TrialStore) -> None:
    for name in ("Co", "CO", "C%", "a/C", "a/Co"):
        store.set_state(name, "waiting")
    assert [run.run_id for run in store.overview("Co")] == ["Co"]
    assert [run.run_id for run in store.overview("C%")] == ["C%"]
    assert [run.run_id for run in store.overview("a/")] == ["a/C", "a/Co"]
    assert [run.run_id for run in store.overview()] == ["C%", "CO", "Co", "Si", "a/C", "a/Co"]


def test_overview_reads_no_trials(store: TrialStore) -> None:
    """Whatever lies in the table of trials, an overview does not look at it."""
    store.append(make_trial(0))
    seen: list[str] = []
    engine = store._database._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    store.overview()
    assert seen
    assert not [statement for statement in seen if re.search(r"\btrials\b", statement)]


# --- one driver a run -----------------------------------------------------------------------------------------------


def test_a_run_is_held_once(store: TrialStore) -> None:
    assert [run.held for run in store.overview()] == [False]
    with store.exclusive("Si"):
        assert [run.held for run in store.overview()] == [True]
        store.append(make_trial(0))
        with pytest.raises(StoreError, match="run 'Si'") as caught, store.exclusive("Si"):
            pass
        assert caught.value.held is True
        with store.exclusive("Ti"):
            pass
    assert [run.held for run in store.overview()] == [False]
    with store.exclusive("Si"):
        store.append(make_trial(1))
    assert [t.index for t in store.trials("Si")] == [0, 1]


def test_one_object_serves_threads(store: TrialStore) -> None:
    """A thread a run, each with its lock; others look on. Nothing is lost, doubled, or in the wrong run."""
    names = [f"run{k}" for k in range(6)]
    errors: list[BaseException] = []
    over = threading.Event()

    def drive(name: str) -> None:
        try:
            with store.exclusive(name):
                store.set_state(name, "running")
                store.create_run(Run(name, {"name": name}, {"evaluations": 15}))
                for index in range(15):
                    store.append(make_trial(index, run_id=name, objective=float(index), worker=name))
                store.set_state(name, "finished")
        except BaseException as error:
            errors.append(error)

    def look() -> None:
        try:
            while not over.wait(0.01):
                for run in store.overview("run"):
                    assert len(store.trials(run.run_id)) >= run.finished
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drive, args=(name,)) for name in names]
    watcher = threading.Thread(target=look)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    assert not errors
    for name, run in zip(names, store.overview("run"), strict=True):
        assert (run.run_id, run.state, run.finished, run.best_index, run.held) == (name, "finished", 15, 0, False)
        assert [(t.index, t.worker) for t in store.trials(name)] == [(k, name) for k in range(15)]


def test_a_driver_that_was_replaced_cannot_go_on(store: TrialStore) -> None:
    """On file systems without locks, and when a lock was lost unnoticed, the token in the database decides."""
    with store.exclusive("Si"):
        store.append(make_trial(0))
        with store._database._writer.begin() as connection:
            connection.execute(sa.text("UPDATE run_holders SET token = 'the next one'"))
        with pytest.raises(StoreError, match="took it over") as caught:
            store.append(make_trial(1))
        assert caught.value.held is True
    assert [t.index for t in store.trials("Si")] == [0]
    assert store.overview()[0].finished == 1


def test_numpy_and_not_finite_values(store: TrialStore) -> None:
    store.append(
        make_trial(0, metrics={"a": np.float64(1.5), "b": math.nan}, details={"v": np.arange(2), "p": Path("x")})
    )
    (trial,) = store.trials("Si")
    assert trial.metrics == {"a": 1.5, "b": None}
    assert trial.details == {"v": [0, 1], "p": "x"}


def test_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "trials.sqlite"
    with TrialStore.open(path) as store:
        store.create_run(Run("Si", {}))
        store.append(make_trial())
    with TrialStore.open(path, create=False) as store:
        assert store.trials("Si") == [make_trial()]


def test_two_stores_see_each_other(tmp_path: Path) -> None:
    with TrialStore.open(tmp_path / "t.sqlite") as one, TrialStore.open(tmp_path / "t.sqlite") as two:
        one.create_run(Run("Si", {}))
        two.append(make_trial(0))
        one.append(make_trial(1))
        assert [t.index for t in two.trials("Si")] == [0, 1]


def test_many_writers_wait_for_each_other(tmp_path: Path) -> None:
    with TrialStore.open(tmp_path / "t.sqlite") as store:
        store.create_run(Run("Si", {}))

        def write(first: int) -> None:
            for k in range(first, 40, 4):
                store.append(make_trial(k))

        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [t.index for t in store.trials("Si")] == list(range(40))


def test_commits_survive_the_process(tmp_path: Path) -> None:
    """A process that appends and then ends without closing anything."""
    path = tmp_path / "t.sqlite"
    code = (
        "import os, sys; from dftbparam.store import *; s = TrialStore.open(sys.argv[1]); s.create_run(Run('Si', {}));"
        "s.append(Trial('Si', 0, (0.5,), {'a': 1.0}, 'finished', 1.0)); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    with TrialStore.open(path, create=False) as store:
        assert [t.objective for t in store.trials("Si")] == [1.0]


# --- files that are not ours ----------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="there is no trial store"):
        TrialStore.open(tmp_path / "no.sqlite", create=False)
    assert not list(tmp_path.iterdir())


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.touch()
    with pytest.raises(ParameterError, match="no campaign has been run"):
        TrialStore.open(path, create=False)
    TrialStore.open(path).close()
    TrialStore.open(path, create=False).close()


def test_text_file(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    path.write_text("Dear diary, " * 100)
    with pytest.raises(ParameterError, match="not a trial store, or damaged"):
        TrialStore.open(path)
    assert path.read_text().startswith("Dear diary")


def test_foreign_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE holidays (day TEXT)")
    connection.close()
    with pytest.raises(ParameterError, match=r"something else \(tables: holidays\)"):
        TrialStore.open(path)


@pytest.mark.parametrize(
    ("version", "words"), [(SCHEMA_VERSION + 1, "upgrade dftbparam"), (0, "has no upgrade from it")]
)
def test_other_versions(tmp_path: Path, version: int, words: str) -> None:
    path = tmp_path / "t.sqlite"
    TrialStore.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE schema_info SET version = ?", (version,))
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=words):
        TrialStore.open(path)


def test_damaged_trial(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with TrialStore.open(path) as store:
        store.create_run(Run("Si", {}))
        store.append(make_trial())
        connection = sqlite3.connect(path)
        connection.execute("UPDATE trials SET x = '[0.1,'")
        connection.commit()
        connection.close()
        with pytest.raises(StoreError, match="damaged"):
            store.trials("Si")


def test_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dftbparam.store.connection.BUSY_SECONDS", 0.1)
    path = tmp_path / "t.sqlite"
    with TrialStore.open(path) as store:
        store.create_run(Run("Si", {}))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="another process has held it"):
            store.append(make_trial())
        other.execute("ROLLBACK")
        other.close()
        store.append(make_trial())


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="cannot be created"):
        TrialStore.open(tmp_path / "file" / "t.sqlite")
    with pytest.raises(ParameterError, match="is a folder"):
        TrialStore.open(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bind root, whom tests often run as; so the question is answered for the system."""
    path = tmp_path / "t.sqlite"
    TrialStore.open(path).close()
    forbidden = path
    access = os.access
    monkeypatch.setattr(os, "access", lambda name, mode: name != forbidden and access(name, mode))
    with pytest.raises(ParameterError, match=r"file .* cannot be written"):
        TrialStore.open(path)
    forbidden = tmp_path
    with pytest.raises(ParameterError, match=r"folder .* cannot be written"):
        TrialStore.open(path)


@pytest.mark.parametrize("address", ["nosuchdb://host/name", "sqlite://["])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(ParameterError, match="not a database address"):
        TrialStore.open(address)


@pytest.mark.parametrize(
    "address",
    [
        "nosuchdb://me:hushhush@host/name",
        "mysql://me:hushhush@host/name",
        "postgresql://me:hush@hushhush@host:port/name",
        "postgresql+asyncpg://host/name?password=hushhush",
    ],
)
def test_passwords_are_never_shown(address: str) -> None:
    with pytest.raises(ParameterError, match="is not a database address") as caught:
        TrialStore.open(address)
    assert "hush" not in caught.value.message + str(caught.value.data)


# --- full disks -----------------------------------------------------------------------------------------------------


def check_full_disk(store: TrialStore, make_space: Callable[[], None]) -> None:
    """Append until the disk is full: what was refused is not there at all, and goes in once there is space."""
    kept = 0

    def fill() -> None:
        nonlocal kept
        while True:
            store.append(make_trial(kept, details={"text": "x" * 5000}))
            kept += 1

    with pytest.raises(StoreError, match="the disk is full") as caught:
        fill()
    assert caught.value.exit_code == 3
    assert kept > 0
    assert [t.index for t in store.trials("Si")] == list(range(kept))
    assert store.overview()[0].finished == kept
    make_space()
    for index in (kept, kept + 1):
        store.append(make_trial(index, details={"text": "x" * 5000}))
    assert [t.index for t in store.trials("Si")] == list(range(kept + 2))
    assert store.overview()[0].finished == kept + 2


def test_no_more_pages(tmp_path: Path) -> None:
    """SQLite's own limit on the size of a file fails like a full disk, at every place a page is wanted."""
    limit = 60
    with TrialStore.open(tmp_path / "t.sqlite") as store:
        store.create_run(Run("Si", {}))

        @sa.event.listens_for(store._database._engine, "connect")
        def restrict(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {limit}")

        def make_space() -> None:
            nonlocal limit
            limit = 1_000_000

        check_full_disk(store, make_space)


def test_full_disk(tmp_path: Path) -> None:
    """A file system of 400 kB; the journal, too, finds no space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here ({mount.stderr.decode().strip()})")
    try:
        (disk / "ballast").write_bytes(bytes(100_000))
        with TrialStore.open(disk / "t.sqlite") as store:
            store.create_run(Run("Si", {}))
            check_full_disk(store, (disk / "ballast").unlink)
    finally:
        subprocess.run(["umount", disk], check=True)


# --- settings -------------------------------------------------------------------------------------------------------


def test_differing_settings_are_named() -> None:
    stored = {"seed": 1, "space": {"r_s": {"low": 2.0, "high": 8.0}}, "gone": 1}
    given = {"seed": 1, "space": {"r_s": {"low": 2.5, "high": 8.0}}, "new": None}
    assert differing_settings(stored, given) == [
        ("gone", 1, None),
        ("new", None, None),
        ("space.r_s.low", 2.0, 2.5),
    ]
    assert differing_settings({"a": (1, 2), "b": np.float64(0.5)}, {"b": 0.5, "a": [1, 2]}) == []


def test_hash_ignores_order_but_not_values() -> None:
    assert settings_hash({"a": 1, "b": [2.0]}) == settings_hash({"b": (2.0,), "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_like)
def test_json_round_trip(value: object) -> None:
    assert json.loads(to_json(value)) == value
    assert plain(plain(value)) == plain(value)


# --- many at once, and the last ones --------------------------------------------------------------------------------


def test_trials_in_one_transaction(store: TrialStore) -> None:
    store.create_run(Run(run_id="many", settings={}))
    trials = [
        Trial("many", index, (0.1,), {"a": 1.0}, "finished", 5.0 - index, started=f"begin {index}", finished="end")
        for index in range(4)
    ]
    store.append_all([])
    store.append_all(trials[:3])
    assert store.trials("many") == trials[:3]
    # One of them is there already: it is named, kept as it was, and those before it are stored.
    double = replace(trials[1], objective=9.0)
    with pytest.raises(StoreError, match="has a trial 1 already"):
        store.append_all([trials[3], double])
    assert store.trials("many") == trials
    (known,) = store.overview("many")
    assert (known.finished, known.failed, known.best_objective, known.best_index) == (4, 0, 2.0, 3)
    assert store.latest_times("many", 2) == [("begin 3", "end"), ("begin 2", "end")]
    assert store.latest_times("none", 2) == []
