"""The trial store: what goes in comes out, nothing is overwritten, foreign files are refused."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
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


@pytest.fixture(params=["path", "address", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrialStore]:
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
    with pytest.raises(StoreError, match="not a trial store, or damaged"):
        TrialStore.open(path)
    assert path.read_text().startswith("Dear diary")


def test_foreign_database(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE holidays (day TEXT)")
    connection.close()
    with pytest.raises(StoreError, match=r"something else \(tables: holidays\)"):
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


def test_exclusive(tmp_path: Path) -> None:
    with TrialStore.open(tmp_path / "t.sqlite") as one, TrialStore.open(tmp_path / "t.sqlite") as two:
        with one.exclusive("Si"):
            with (
                pytest.raises(StoreError, match="another process or thread is working on run 'Si'"),
                two.exclusive("Si"),
            ):
                pass
        with two.exclusive("Si"):
            pass


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
