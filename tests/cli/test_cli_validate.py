"""``dftbparam validate``: exit codes, table, JSON. The engines are fakes but for one test."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dftbparam.cli import validate
from dftbparam.engine.fake import FakeEngine
from dftbparam.errors import EngineError, EngineMissing, ScfNotConverged

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


class Wrong(FakeEngine):
    """The fake engine, its energies off by a little."""

    name = "wrong"

    def compute(self, tables, structures, settings):
        return [replace(r, energy=r.energy + 1e-4) for r in super().compute(tables, structures, settings)]


@pytest.fixture
def engines(monkeypatch):
    """Let the command run the two engines given, whatever the command."""

    def use(first, second):
        monkeypatch.setattr(validate, "engines", lambda command: (first, second))

    use(FakeEngine(), FakeEngine())
    return use


def test_agreement_is_exit_0(run, engines):
    result = run("validate", MODEL)
    assert result.exit_code == 0, result.output
    for head in ("energy, Hartree/atom", "forces", "stress", "eigenvalues", "charges", "worst", "asked", "of system"):
        assert head in result.stdout
    assert "OSi distorted" not in result.stdout
    assert "elements: O, Si" in result.stderr
    assert "0 disagree" in result.stderr
    assert "validating: 1/21" in result.stderr


def test_every_system_is_shown_if_wanted(run, engines):
    result = run("validate", MODEL, "--all")
    assert result.exit_code == 0, result.output
    for head in ("system", "atoms", "energy/atom", "forces", "stress", "eigenvalues", "charges", "iterations"):
        assert head in result.stdout
    assert "OSi distorted" in result.stdout
    assert "1 / 1" in result.stdout


def test_what_is_unproven_is_said_and_no_disagreement(run, engines):
    def fail(atoms):
        return ScfNotConverged("told to\nin two lines", iterations=9, residual=0.1) if len(atoms) == 3 else None

    engines(FakeEngine(fail), FakeEngine())
    result = run("validate", MODEL)
    assert result.exit_code == 0
    assert "unproven" in result.stdout
    assert "unproven: fake: ScfNotConverged: told to in two lines" in result.stderr
    assert "0 disagree, 2 are unproven" in result.stderr


def test_disagreement_is_exit_1(run, engines):
    engines(FakeEngine(), Wrong())
    result = run("validate", MODEL, "Si", "--json", "-")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["agree"] is False
    assert record["elements"] == ["Si"]
    assert record["worst"]["energy"] == pytest.approx(1e-4)
    assert run("validate", MODEL, "Si", "--tolerance", "0.001").exit_code == 0


def test_what_both_refuse_is_said_and_no_disagreement(run, engines):
    def fail(atoms):
        return ScfNotConverged("told to", iterations=9, residual=0.1) if len(atoms) == 3 else None

    engines(FakeEngine(fail), FakeEngine(fail))
    result = run("validate", MODEL, "--full")
    assert result.exit_code == 0
    assert "both refuse" in result.stdout
    assert "2 are refused by both" in result.stderr
    assert "ScfNotConverged: told to" in result.stderr

    def fail_otherwise(atoms):
        return EngineError("told to") if len(atoms) == 3 else None

    engines(FakeEngine(fail_otherwise), FakeEngine())
    result = run("validate", MODEL)
    assert result.exit_code == 1
    assert "2 disagree" in result.stderr


def test_json_file_and_table(run, engines, tmp_path):
    result = run("validate", MODEL, "--json", "out.json")
    assert "worst" in result.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["agree"] is True
    assert len(record["systems"]) == 21


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere"),
        (["."], "no Slater-Koster file"),
        ([MODEL, "Qq"], "Qq"),
        ([MODEL, "Ti"], "no tables for 'Ti'"),
        ([MODEL, "Si", "Si"], "named twice: Si"),
        ([MODEL, "--tolerance", "-1"], "tolerance"),
        ([MODEL, "--base", "nowhere"], "nowhere"),
        ([MODEL, "--json", "no/folder/x.json"], "no/folder"),
    ],
)
def test_bad_input_is_exit_2(refused, engines, words, message):
    assert message in refused("validate", *words)


def damaged(folder, name, text=None):
    shutil.copytree(MODEL, folder / "set")
    path = folder / "set" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    return folder / "set"


def test_a_malformed_file_is_exit_2(run, engines, tmp_path):
    result = run("validate", damaged(tmp_path, "O-O.skf", "0.1, 20\nthis is no table\n"))
    assert result.exit_code == 2
    assert "O-O.skf" in result.stderr


def test_a_missing_partner_is_exit_2(run, engines, tmp_path):
    result = run("validate", damaged(tmp_path, "O-Si.skf"))
    assert result.exit_code == 2
    assert "O-Si.skf is missing" in result.stderr


def test_a_set_that_extends_another_needs_its_base(run, engines, tmp_path):
    folder = damaged(tmp_path, "O-O.skf")
    (folder / "Si-Si.skf").unlink()
    result = run("validate", folder)
    assert result.exit_code == 2
    assert "base" in result.stderr
    assert run("validate", folder, "--base", MODEL).exit_code == 0
    assert run("validate", folder, "--base", folder, "--base", MODEL).exit_code == 0


def test_an_element_without_a_file_of_its_own_is_named(run, engines, tmp_path):
    result = run("validate", damaged(tmp_path, "O-O.skf"))
    assert result.exit_code == 0
    assert "no X-X.skf for O: in no system" in result.stderr
    assert "--base" in result.stderr


def test_missing_dftbplus_is_exit_3_with_how_to_get_it(run):
    result = run("validate", MODEL, "--dftbplus", "no-such-program")
    assert result.exit_code == 3
    assert "no-such-program" in result.stderr
    assert "conda install" in result.stderr


def test_a_dftbplus_command_that_points_nowhere_is_exit_3(run, monkeypatch):
    monkeypatch.setenv("DFTBPLUS_COMMAND", "no-such-program")
    result = run("validate", MODEL)
    assert result.exit_code == 3
    assert len(result.stderr.strip().splitlines()) == 1
    assert "no-such-program" in result.stderr
    assert "conda install" in result.stderr


@pytest.mark.dftbplus
def test_the_real_engines(run, tmp_path, monkeypatch):
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        DftbPlusEngine()
    except EngineMissing as error:
        pytest.skip(str(error))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    result = run("validate", MODEL, "O")
    assert result.exit_code == 0, result.output
    assert list(scratch.iterdir()) == []
    assert "embedded" in result.stdout
    assert "dftb+" in result.stdout
