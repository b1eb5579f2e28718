"""The root command: help, version, and what becomes of errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dftbparam
from dftbparam.cli import references
from dftbparam.errors import CalculationError, EngineMissing, InputError, StoreError


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"dftbparam {dftbparam.__version__}\n")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fit",),
        ("score",),
        ("trials",),
        ("doctor",),
        ("references",),
        ("references", "list"),
        ("references", "show"),
        ("references", "plot"),
        ("skf",),
        ("skf", "build"),
        ("skf", "check"),
        ("skf", "plot"),
    ],
)
def test_every_command_explains_itself(run, words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize("words", [("nonsense",), ("fit",), ("fit", "Si", "--nonsense"), ("skf", "check")])
def test_bad_usage_is_exit_2(run, words):
    result = run(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CalculationError("no answer"), 1),
        (InputError("7 is wrong, 8 would be right"), 2),
        (EngineMissing("no engine"), 3),
        (StoreError("locked"), 3),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, monkeypatch, error, code):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("dftbparam.reference.list_datasets", fail)
    result = run("references", "list")
    assert result.exit_code == code
    assert result.stderr == f"error: {error.message}\n"
    assert result.stdout == ""


def test_defects_are_named_as_such(run, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyError("oops")

    monkeypatch.setattr("dftbparam.reference.list_datasets", fail)
    result = run("references", "list")
    assert result.exit_code == 3
    assert "unexpected KeyError" in result.stderr
    assert "--debug" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(run, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("DFTBPARAM_DEBUG", "1")
        result = run("references", "show", "Xx")
    else:
        result = run("--debug", "references", "show", "Xx")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "ElementError" in result.stderr


def test_ctrl_c_is_exit_130(run, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("dftbparam.reference.list_datasets", interrupt)
    assert run("references", "list").exit_code == 130


def test_markup_in_a_message_is_not_interpreted(refused):
    assert "[bold]Si[/]" in refused("references", "show", "[bold]Si[/]")


def test_commands_are_plain_functions():
    # So that everything the command line does can be called from Python, too.
    assert callable(references.show)


def test_numerical_libraries_get_one_thread_unless_told_otherwise():
    code = (
        "import os, sys; sys.argv = ['dftbparam', '--version']; os.environ.pop('OMP_NUM_THREADS', None); "
        "os.environ['MKL_NUM_THREADS'] = '3'; from dftbparam.cli import main; import atexit; "
        "atexit.register(lambda: print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[1:] == ["1 3"]
