"""``dftbparam references displaced``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.io import read

from dftbparam.reference import load_dataset

UNARIES = ("--references", "acwf-unaries-pbe")


def test_copies_of_the_stable_crystals(run, tmp_path):
    words = ("references", "displaced", "Si", "Al", *UNARIES, "--crystals", "2", "--copies", "3", "--atoms", "4")
    result = run(*words, "--out", "some.extxyz", "--json", "some.json")
    assert result.exit_code == 0, result.output
    frames = read(tmp_path / "some.extxyz", ":")
    assert [a.info["name"] for a in frames[::3]] == ["Si diamond", "Si sc", "Al fcc", "Al bcc"]
    assert {len(a) for a in frames} == {4}
    assert {a.info["references"] for a in frames} == {"acwf-unaries-pbe"}
    assert [a.info["index"] for a in frames[:3]] == [0, 1, 2]
    v0 = {f"{c.compound} {c.prototype}": c.volume for c in load_dataset("acwf-unaries-pbe").crystals}
    for atoms in frames:
        assert 0.89 < atoms.get_volume() / 4 / v0[atoms.info["name"]] < 1.13
    value = json.loads((tmp_path / "some.json").read_text())
    assert value["frames"] == len(frames) == 12
    assert value["references"]["checksum"] == load_dataset("acwf-unaries-pbe").checksum
    # More copies begin with the same ones; another seed draws others.
    run(*words[:-4], "--copies", "4", "--atoms", "4", "--out", "more.extxyz")
    more = read(tmp_path / "more.extxyz", ":")
    np.testing.assert_array_equal(more[2].positions, frames[2].positions)
    run(*words, "--seed", "1", "--out", "other.extxyz")
    assert not np.allclose(read(tmp_path / "other.extxyz").cell, frames[0].cell)


def test_binaries_in_either_order(run, tmp_path):
    result = run(
        "references", "displaced", "O-Mg", "--references", "acwf-oxides-pbe", "--prototypes", "rocksalt",
        "--copies", "1", "--out", "mgo.extxyz",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "mgo.extxyz").info["name"] == "Mg-O rocksalt"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("Si", "Si"), "named twice: Si bcc, Si diamond, Si fcc, Si sc"),
        (("Xy",), "Xy"),
        (("Si", "--prototypes", "wurtzite"), "wurtzite"),
        (("Si", "--prototypes", "diamond,hcp"), "has no hcp of Si; it has: "),
        (("Mg-O",), "Mg-O"),
        (("Mg-O", "O-Mg", "--references", "acwf-oxides-pbe"), "named twice: Mg-O"),
        (("Mg-O", "--references", "acwf-oxides-pbe", "--crystals", "1"), "several compositions"),
        (("Si", "--prototypes", ""), "''"),
        (("Si", "--json", "some.extxyz"), "same file"),
        (("Si", "--json", "nowhere/some.json"), "nowhere"),
        (("Si", "--references", "nowhere"), "nowhere"),
    ],
)
def test_refused(refused, tmp_path, words, part):
    given = words if "--references" in words else (*words, *UNARIES)
    assert part in refused("references", "displaced", *given, "--out", "some.extxyz")
    assert not list(tmp_path.iterdir())


def test_files_are_kept(run, refused, tmp_path):
    assert ".extxyz" in refused("references", "displaced", "Si", *UNARIES, "--out", "some.cif")
    (tmp_path / "some.extxyz").write_text("mine")
    assert "--overwrite" in refused("references", "displaced", "Si", *UNARIES, "--out", "some.extxyz")
    assert (tmp_path / "some.extxyz").read_text() == "mine"
    assert run("references", "displaced", "Si", *UNARIES, "--out", "some.extxyz", "--overwrite").exit_code == 0
