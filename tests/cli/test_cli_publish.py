"""``dftbparam publish``."""

from __future__ import annotations

import json

import pytest

from dftbparam.space import load_parameter_set


@pytest.fixture(autouse=True)
def _without_dftbplus(monkeypatch):
    monkeypatch.setattr("dftbparam.publish.parameter_set.dftbplus_available", lambda: False)
    monkeypatch.setattr("dftbparam.publish.gate.dftbplus_available", lambda: False)


@pytest.fixture
def carbon(tmp_path):
    ptbp = load_parameter_set("ptbp")
    path = tmp_path / "carbon.json"
    ptbp.model_copy(update={"elements": {"C": ptbp.element("C")}}).save(path)
    return path


def test_publish_makes_a_set_that_skf_build_makes_again(run, carbon, tmp_path):
    words = ("publish", carbon, "--name", "one", "--out", "set", "--workers", "1")
    result = run(*words, "--json", "-")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert (value["published"], value["elements"], value["pairs_built"], value["dftb+"]) == (True, ["C"], 1, False)
    assert "DFTB+ is not installed" in result.stderr
    assert run("skf", "build", "C", "--parameters", "set/parameters.json", "--out", "again").exit_code == 0
    assert (tmp_path / "set/skf/C-C.skf").read_bytes() == (tmp_path / "again/C-C.skf").read_bytes()
    assert run("skf", "check", "set/skf", "--gate").exit_code == 0
    again = run(*words, "--resume", "--json", "-")
    assert (json.loads(again.stdout)["pairs_built"], json.loads(again.stdout)["pairs_reused"]) == (0, 1)


def test_publish_says_what_failed(run, carbon, monkeypatch):
    monkeypatch.setattr("dftbparam.publish.gate.data_defects", lambda data: ["is too soft [spin]"])
    result = run("publish", carbon, "--name", "one", "--out", "set", "--workers", "1", "--json", "out.json")
    assert result.exit_code == 1
    assert "is too soft" in result.stdout
    assert "--keep-going" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing",), "neither a parameter file nor a shipped set"),
        (("ptbp", "--elements", "Xx"), "unknown element 'Xx'"),
        (("ptbp", "--elements", "Ce"), "no results for Ce"),
        (("ptbp", "--only", "Ce"), "no results for Ce"),
        (("ptbp", "--only", "C,Xx"), "unknown element 'Xx'"),
    ],
)
def test_publish_refuses(refused, words, message):
    assert message in refused("publish", *words, "--name", "one", "--out", "set")


def test_publish_takes_the_folder_of_a_set_and_some_of_its_elements(run, refused, tmp_path):
    ptbp = load_parameter_set("ptbp")
    ptbp.model_copy(update={"elements": {s: ptbp.element(s) for s in ("H", "C")}}).save(tmp_path / "both.json")
    options = ("--workers", "1", "--pairs", "none")
    assert run("publish", "both.json", "--name", "both", "--out", "both", *options).exit_code == 0
    result = run("publish", "both", "--name", "one", "--out", "one", "--only", "C", *options, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["elements"] == ["C"]
    words = ("publish", "both", "--name", "other", "--out", "one", "--resume", *options)
    assert "one holds the finished set 'one'" in refused(*words)
    assert (tmp_path / "one" / "manifest.json").is_file()
