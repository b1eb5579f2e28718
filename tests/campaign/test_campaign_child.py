"""Work in a process of its own."""

import os
import threading
import time
from pathlib import Path

from child_work import deaf, threads

from dftbparam.campaign import child
from dftbparam.campaign.child import run_in_child


def test_work_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.3)
    note = tmp_path / "pid"
    stop = threading.Event()

    def stop_when_begun() -> None:
        while not note.is_file():
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=stop_when_begun, daemon=True).start()
    assert run_in_child(deaf, (str(note),), stop) is False
    pid = int(note.read_text())
    assert not Path(f"/proc/{pid}").exists() or pid == os.getpid()


def test_one_thread_also_for_libraries_loaded_later(tmp_path: Path) -> None:
    note = tmp_path / "threads"
    assert run_in_child(threads, (str(note),), threading.Event())
    assert note.read_text() == "1"
