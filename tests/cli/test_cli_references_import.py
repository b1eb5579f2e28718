"""``dftbparam references import`` and ``check``; ``list`` and ``show`` of what they make."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from tests.reference.support.import_sources import acwf, atom, curve, displaced, with_results

SET = ("--out", "mine", "--source", "me", "--licence", "MIT")


@pytest.fixture
def silicon(tmp_path):
    frames = [*curve("diamond", "Si", 20.4, -5.4, forces=True, xc="PBE"), atom("Si", -0.8), *displaced()]
    write(tmp_path / "si.extxyz", frames)


@pytest.fixture
def oxides(tmp_path):
    """Rocksalt MgO, antifluorite Mg2O, and the two atoms."""
    write(
        tmp_path / "mgo.extxyz",
        [
            *curve("rocksalt", "Mg", 9.6, -6.0, partner="O"),
            *curve("antifluorite", "Mg", 13.0, -4.0, partner="O"),
            atom("Mg", -0.01),
            atom("O", -1.5),
        ],
    )


def test_import_and_check(run, silicon, tmp_path):
    result = run("references", "import", "si.extxyz", *SET)
    assert result.exit_code == 0, result.output
    assert "diamond" in result.stdout
    assert "88.12" in result.stdout
    assert "--offsets from-atoms" in result.stderr
    assert "wrote mine: 1 E(V) rows, 15 structures, 1 isolated atoms" in result.stderr
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md", "atoms.csv", "data.csv", "dataset.toml", "frames.extxyz", "points.csv",
    ]  # fmt: skip
    result = run("references", "check", "mine")
    assert (result.exit_code, result.stdout) == (
        0, "mine: 1 crystals, 9 points, 15 structures, 0 band structures, 1 atoms: nothing found\n",
    )  # fmt: skip


def test_import_as_json(run, oxides):
    result = run(
        "references", "import", "mgo.extxyz", *SET, "--functional", "PBE", "--offsets", "from-atoms", "--json", "-"
    )
    value = json.loads(result.stdout)
    assert value["offsets"] == value["atoms"] == {"Mg": -0.01, "O": -1.5}
    assert [(c["compound"], c["prototype"], c["points"]) for c in value["crystals"]] == [
        ("Mg-O", "rocksalt", 9), ("Mg-O", "antifluorite", 9),
    ]  # fmt: skip
    assert value["sources"] == [{"path": "mgo.extxyz", "kind": "extended xyz"}]


def test_check_says_no(run, oxides, tmp_path):
    assert run("references", "import", "mgo.extxyz", *SET, "--functional", "PBE", "--offsets", "none").exit_code == 0
    result = run("references", "check", "mine", "--json", "check.json")
    assert result.exit_code == 1
    assert "no energy offset of Mg, O" in result.stdout
    (finding,) = json.loads((tmp_path / "check.json").read_text())["findings"]
    assert (finding["severity"], finding["kind"], finding["subject"]) == ("error", "offsets", "dataset.toml")


def test_warnings_are_an_answer_only_if_asked(run, silicon, tmp_path):
    run("references", "import", "si.extxyz", *SET)
    (tmp_path / "mine" / "README.md").unlink()
    assert run("references", "check", "mine").exit_code == 0
    assert run("references", "check", "mine", "--strict").exit_code == 1


def test_check_of_the_shipped_set_as_json(run):
    result = run("references", "check", "acwf-unaries-pbe", "--json", "-")
    assert (result.exit_code, json.loads(result.stdout)["findings"]) == (0, [])


def test_list_counts(run, oxides, silicon):
    run("references", "import", "mgo.extxyz", "si.extxyz", *SET, "--functional", "PBE", "--offsets", "from-atoms")
    (row,) = json.loads(run("references", "list", "--references", "mine", "--json", "-").stdout)
    assert {key: row[key] for key in ("elements", "binaries", "crystals", "bands", "frames", "atoms", "offsets")} == {
        "elements": 1, "binaries": 1, "crystals": 3, "bands": 0, "frames": 15, "atoms": 3, "offsets": ["Mg", "O", "Si"],
    }  # fmt: skip
    assert run("references", "list", "--references", "mine").exit_code == 0


@pytest.mark.parametrize("name", ["Mg-O", "O-Mg"])
def test_show_and_plot_a_binary(run, oxides, tmp_path, name):
    run("references", "import", "mgo.extxyz", *SET, "--functional", "PBE", "--offsets", "from-atoms")
    value = json.loads(run("references", "show", name, "--references", "mine", "--json", "-").stdout)
    # Of other compositions: energies above one another mean nothing.
    assert [(c["prototype"], c["phase_energy"]) for c in value["crystals"]] == [
        ("antifluorite", 0.0),
        ("rocksalt", 0.0),
    ]
    assert value["offsets"] == {"Mg": -0.01, "O": -1.5}
    assert "energy zero of Mg: -0.01 eV/atom" in run("references", "show", name, "--references", "mine").stdout
    assert run("references", "plot", name, "--references", "mine").exit_code == 0
    assert (tmp_path / f"{name}-reference.png").is_file()


def test_show_an_element_that_has_binaries_alone(run, oxides):
    run("references", "import", "mgo.extxyz", *SET, "--functional", "PBE", "--offsets", "from-atoms")
    result = run("references", "show", "O", "--references", "mine")
    assert result.exit_code == 0, result.output
    assert "binaries with O" in result.stdout
    assert "rocksalt" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "Mg-O"), "no crystal of 'Mg-O'; it has: no binaries"),
        (("show", "Mg-O-H"), "more than a binary"),
        (("show", "Mg-"), "unknown element ''"),
        (("show", "Xx-O"), "unknown element 'Xx'"),
        (("plot", "Mg-O"), "no crystal of 'Mg-O'"),
        (("check", "nowhere"), "neither a reference set nor a folder"),
        (("import", "nowhere.xyz", *SET), "'nowhere.xyz' does not exist"),
        (("import", "si.extxyz", *SET, "--functional", "LDA"), "mixed functionals: LDA (--functional) and PBE"),
        (("import", "si.extxyz", *SET, "--offsets", "Qq=1"), "'Qq' is no element"),
        (("import", "si.extxyz", *SET, "--offsets", "nowhere.toml"), "is no file"),
        (("import", "si.extxyz", *SET, "--name", "a b"), "letters, digits"),
        (("import", "si.extxyz", *SET[2:], "--out", "si.extxyz"), "exists; an import makes a new folder"),
        (("import", "si.extxyz", *SET[2:], "--out", "si.extxyz/set"), "is no folder"),
        (("import", "si.extxyz", *SET, "--json", "nowhere/x.json"), "cannot be written"),
        (("import", "mgo.extxyz", *SET, "--functional", "PBE"), "--offsets from-atoms takes them"),
        (("import", "mgo.extxyz", *SET, "--offsets", "none"), "say it with --functional"),
    ],
)
def test_bad_input(refused, silicon, oxides, tmp_path, words, message):
    assert message in refused("references", *words)
    assert not (tmp_path / "mine").exists()


def make_bad(tmp_path, what):
    frames = displaced(number=2, xc="PBE")
    if what == "energies":
        for frame in frames:
            frame.calc = None
    elif what == "functionals":
        frames[1].info["xc"] = "PBEsol"
    elif what == "flat":
        frames[0].cell[2] = frames[0].cell[1]
    elif what == "top":
        frames[0].positions[1] = frames[0].positions[0]
    elif what == "nan":
        frames[0].calc.results["energy"] = np.nan
    elif what == "heavy":
        frames[0] = with_results(Atoms("Lr", cell=[3] * 3, pbc=True), energy=1.0)
    write(tmp_path / "bad.extxyz", frames)
    content = (tmp_path / "bad.extxyz").read_bytes()
    if what == "empty":
        content = b""
    elif what == "gzip":
        content = gzip.compress(content)[:-30]
    elif what == "binary":
        content = bytes(range(256)) * 20
    elif what == "json":
        content = acwf({"Si-X/Diamond": (2, [[20, -5]])}).encode()[:-10]
    elif what == "averages":
        content = b'{"BM_fit_data": {}, "num_atoms_in_sim_cell": {}}'
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "bad.extxyz").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("energies", "no structure has an energy"),
        ("functionals", "mixed functionals: PBE (bad#1) and PBEsol (bad#2)"),
        ("flat", "zero volume"),
        ("top", "on top of each other"),
        ("nan", "energy nan is not a number"),
        ("heavy", "element Lr; known are H to Cm"),
        ("empty", "the file is empty"),
        ("gzip", "truncated or damaged gzip file"),
        ("binary", "neither an extended xyz file"),
        ("json", "not JSON, or truncated"),
        ("averages", "no E(V) points"),
    ],
)
def test_bad_sources(refused, tmp_path, what, message):
    make_bad(tmp_path, what)
    assert message in refused("references", "import", "bad", *SET)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_an_unknown_prototype_is_refused_by_line(refused, run, silicon, tmp_path):
    run("references", "import", "si.extxyz", *SET)
    path = tmp_path / "mine" / "data.csv"
    path.write_text(path.read_text().replace("diamond", "diamant"))
    assert "mine/data.csv:2: unknown prototype 'diamant'; did you mean 'diamond'?" in refused(
        "references", "check", "mine"
    )


def test_broken_frames(refused, run, silicon, tmp_path):
    run("references", "import", "si.extxyz", *SET)
    path = tmp_path / "mine" / "frames.extxyz"
    path.write_text(path.read_text()[:-80])
    assert "not an extended xyz file" in refused("references", "check", "mine")


def test_skip_bad(run, tmp_path):
    frames = displaced(number=3)
    frames[1].positions[1] = frames[1].positions[0]
    write(tmp_path / "a.extxyz", frames)
    result = run("references", "import", "a.extxyz", *SET, "--functional", "PBE", "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "left out: a.extxyz#2: Si and Si lie 0 Angstrom apart" in result.stderr
    assert len(read(tmp_path / "mine" / "frames.extxyz", index=":")) == 2
