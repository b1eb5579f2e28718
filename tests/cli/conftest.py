"""The command line, run in this process."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dftbparam.cli.app import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command line in an empty folder: ``run("skf", "check", folder)``; the result has stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DFTBPARAM_DEBUG", raising=False)

    def invoke(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


@pytest.fixture
def refused(run):
    """Run a command that must end with exit code 2 and one line on standard error; returns that line."""

    def invoke(*words):
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert result.stdout == ""
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        return lines[0]

    return invoke
