"""Worker processes: answers, errors, and that none is left however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait

import pytest

from dftbparam.errors import EngineError, ParameterError
from dftbparam.publish.workers import run_tasks
from dftbparam.space import load_parameter_set

SLEEPY = """
import os, sys, time
from dftbparam.publish.workers import run_tasks
if __name__ == "__main__":
    for task, answer in run_tasks(time.sleep, [0.0, 0.0, 600.0, 600.0, 600.0], 2):
        print("done", task, flush=True)
"""


def refuse(value):
    raise ParameterError(f"{value} is refused", value=value)


def divide(value):
    return 1 / value


def die(value):
    os.kill(os.getpid(), signal.SIGKILL)


def test_errors_of_a_worker_come_through():
    with pytest.raises(ParameterError, match="3 is refused") as caught:
        list(run_tasks(refuse, [3], 2))
    assert caught.value.value == 3


def test_other_errors_tell_where_they_arose():
    """The traceback of the worker comes along as a note."""
    with pytest.raises(ZeroDivisionError) as caught:
        list(run_tasks(divide, [0], 2))
    assert any("return 1 / value" in note for note in caught.value.__notes__)


def test_a_killed_worker_is_an_error():
    with pytest.raises(EngineError, match=r"a worker process was killed \(exit code -9\)"):
        list(run_tasks(die, [1, 2, 3], 2))


def test_answers_that_are_there_outlive_an_error(monkeypatch):
    """Two workers have ended when the pipes are looked at, the first with an error: the other's answer still comes."""

    def wait_for_all(pipes):
        while len(found := wait(pipes, 0.1)) < len(pipes):
            pass
        return sorted(found, key=pipes.index)

    monkeypatch.setattr("dftbparam.publish.workers.wait", wait_for_all)
    answers = []
    with pytest.raises(ZeroDivisionError):
        answers.extend(run_tasks(divide, [0, 4], 2))
    assert answers == [(4, 0.25)]


def test_a_loop_that_is_left_early_leaves_no_process():
    start = time.monotonic()
    with contextlib.closing(run_tasks(time.sleep, [0.0, 600.0, 600.0], 2)) as answers:
        assert next(answers) == (0.0, None)
    assert time.monotonic() - start < 60.0


def interrupted(command, begun, **options):
    """Run it in a process group of its own, interrupt the group twice when it prints ``begun``; its exit code."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **options
    )
    said = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if begun in line:
                break
        else:
            pytest.fail(f"ended by itself: {said}")
        os.killpg(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        code = process.wait(20.0)
        said += process.communicate()[0]
        for _ in range(50):
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return code, said
            time.sleep(0.1)
        pytest.fail("processes are left")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def test_an_interrupt_of_the_group_ends_all(tmp_path):
    path = tmp_path / "sleepy.py"
    path.write_text(SLEEPY)
    code, said = interrupted([sys.executable, path], "done")
    assert code != 0
    assert "KeyboardInterrupt" in said


def test_an_interrupted_publish_ends_with_130(tmp_path):
    ptbp = load_parameter_set("ptbp")
    ptbp.model_copy(update={"elements": {s: ptbp.element(s) for s in ("H", "Ti", "Fe")}}).save(tmp_path / "p.json")
    words = ["publish", "p.json", "--name", "one", "--out", "set", "--workers", "2"]
    code, said = interrupted(
        [sys.executable, "-c", "from dftbparam.cli import main; main()", *words], "gate: 1/3", cwd=tmp_path
    )
    assert code == 130, said
    assert said.rstrip().endswith("error: interrupted")
    assert "Traceback" not in said
