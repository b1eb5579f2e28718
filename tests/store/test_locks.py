"""One driver a run, for stores in files: between processes, and between this version and version 1."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dftbparam.errors import StoreError
from dftbparam.store import Run, Trial, TrialStore
from dftbparam.store.locks import FileLocks

HOLDER = """
import sys
from dftbparam.store import TrialStore
with TrialStore.open(sys.argv[1]) as store, store.exclusive(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "t.sqlite"
    with TrialStore.open(path) as store:
        for name in ("Si", "Ti"):
            store.create_run(Run(name, {}))
    return path


def hold(path: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a process that holds a run until its standard input ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def held(store: TrialStore) -> list[bool | None]:
    return [run.held for run in store.overview()]


def test_other_processes(path: Path) -> None:
    with TrialStore.open(path) as store:
        holder = hold(path, "Si")
        assert held(store) == [True, False]
        with pytest.raises(StoreError, match="another process or thread is working on run 'Si'") as caught:
            store.exclusive("Si").__enter__()
        assert caught.value.held is True
        with store.exclusive("Ti"):
            assert held(store) == [True, True]
        holder.communicate()
        assert held(store) == [False, False]
        with store.exclusive("Si"):
            pass


def test_a_killed_process_gives_its_runs_back(path: Path) -> None:
    holder = hold(path, "Si")
    holder.kill()
    holder.communicate()
    with TrialStore.open(path) as store:
        assert held(store) == [False, False]
        with store.exclusive("Si"):
            assert held(store) == [True, False]


def test_two_stores_of_one_process(path: Path) -> None:
    with TrialStore.open(path) as one, TrialStore.open(path) as two:
        with one.exclusive("Si"):
            with pytest.raises(StoreError, match="run 'Si'"), two.exclusive("Si"):
                pass
            assert held(two) == [True, False]
        with two.exclusive("Si"):
            pass


def test_no_lock_file_of_a_run_stays(path: Path) -> None:
    with TrialStore.open(path) as store:
        with store.exclusive("Si"), store.exclusive("campaign/Si"):
            assert len(list(path.parent.glob("*.lock"))) == 3
        assert [file.name for file in path.parent.glob("*.lock")] == ["t.sqlite.lock"]


def test_many_threads_want_one_run(path: Path) -> None:
    """Lock files come and go under them; never two have the run."""
    inside: list[int] = []
    most = []
    times = 0

    def want() -> None:
        nonlocal times
        locks = FileLocks(path, str(path))
        done = 0
        while done < 20:
            try:
                with locks.hold("Si"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done += 1
                    times += 1
            except StoreError:
                pass

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 80


def test_drivers_of_version_1_are_kept_out_and_keep_out(path: Path) -> None:
    """Those lock the whole store, exclusively, before they work on it."""
    with TrialStore.open(path) as store, Path(f"{path}.lock").open("w") as old:
        with store.exclusive("Si"), pytest.raises(BlockingIOError):
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(StoreError, match="older dftbparam"), store.exclusive("Si"):
            pass
        assert held(store) == [True, True]


def test_file_systems_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with TrialStore.open(path) as store, TrialStore.open(path) as other:
        with store.exclusive("Si"):
            assert held(store) == [True, False]
            assert held(other) == [None, False]  # the file is there, and nobody can say whose it is
            with other.exclusive("Si"):
                pass
            # The other one had the run last, so this one must not go on.
            with pytest.raises(StoreError, match="took it over"):
                store.append(Trial("Si", 0, (0.5,), {"a": 1.0}, "finished", 1.0))


def test_a_folder_that_became_unwritable(path: Path) -> None:
    with TrialStore.open(path) as store:
        os.mkdir(path.parent / "t.sqlite.lock")
        with pytest.raises(StoreError, match=r"lock file .* cannot be written"):
            FileLocks(path, store.where).hold("Si").__enter__()
