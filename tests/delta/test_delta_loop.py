"""suggest -> references compute -> train, with a calculator that costs nothing in the place of DFT."""

import json
import re

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from dftbparam.cli.app import app
from dftbparam.delta.suggest import same_structure

CRYSTALS = {"Cu": (("fcc", 3.6), ("bcc", 2.86), ("sc", 2.4)), "Si": (("diamond", 5.43), ("fcc", 3.9), ("bcc", 3.1))}


def copies(symbol, first, last, seed=0):
    """Displaced and strained copies, named after the crystal that they were made from, the later ones with a number."""
    found = []
    for name, a in CRYSTALS[symbol]:
        rng = np.random.default_rng([seed, len(name), first])
        for k in range(first, last):
            atoms = bulk(symbol, name, a=a * rng.uniform(0.95, 1.05))
            atoms = atoms.repeat((2, 1, 1)) if len(atoms) == 1 else atoms
            atoms.rattle(0.06, rng=rng)
            atoms.info = {"name": f"{name} {k}" if first else name}
            found.append(atoms)
    return found


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*words, codes=(0,)):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code in codes, result.output
        return result

    return invoke


def compute(run, structures, out, code="ase.calculators.emt:EMT", functional="EMT"):
    words = ("--code", code, "--functional", functional, "--workers", "0", "--out", out, "--json", "-")
    return json.loads(run("references", "compute", "--structures", structures, *words).stdout)


def suggestions(run, *words):
    return json.loads(run("delta", "suggest", *words, "--json", "-").stdout)["suggestions"]


def test_the_loop_closes(run, tmp_path):
    """Copper by EMT, learnt directly: each round names structures, computes them, and lowers the error bar."""
    write("first.extxyz", copies("Cu", 0, 2), format="extxyz")
    write("candidates.extxyz", copies("Cu", 2, 6), format="extxyz")
    assert compute(run, "first.extxyz", "mine")["finished"] == 6
    train = ("delta", "train", "mine", "--direct", "--kernel", "matern52:2", "--inducing", "80", "--json", "-")
    bars, sizes, asked = [], [], []
    for number in range(3):
        value = json.loads(run(*train, "--out", "cu.delta").stdout)
        sizes.append(value["provenance"]["samples"])
        # Computed structures are held out with the crystal that they were made from.
        assert value["provenance"]["groups"] == ["Cu bcc", "Cu fcc", "Cu sc"]
        words = ("cu.delta", "candidates.extxyz", "--count", "3", "--computed", "reference=mine")
        found = suggestions(run, *words, "--out", f"next{number}")
        bars.append(found[0]["std_before"])
        asked += [one["index"] for one in found]
        assert compute(run, f"next{number}/reference.extxyz", "mine")["finished"] == 3
    assert sizes == [6, 9, 12]
    assert len(set(asked)) == 9
    assert bars[2] < bars[0]
    # What was asked for is what was computed.
    candidates, frames = read("candidates.extxyz", ":"), read("mine/frames.extxyz", ":")
    for index in asked:
        assert any(same_structure(candidates[index - 1], frame) for frame in frames)
    left = suggestions(run, "cu.delta", "candidates.extxyz", "--count", "99", "--computed", "reference=mine")
    assert sorted(one["index"] for one in left) == sorted(set(range(1, 13)) - set(asked))


def test_the_loop_on_top_of_dftb_with_two_levels(run, skf, tmp_path):
    """Silicon: what each level's file holds goes to its own calculator and comes back at that level."""
    codes = {"low": "ase.calculators.lj:LennardJones", "high": "ase.calculators.morse:MorsePotential"}
    write("first.extxyz", copies("Si", 0, 2), format="extxyz")
    write("few.extxyz", copies("Si", 0, 1), format="extxyz")
    write("candidates.extxyz", copies("Si", 2, 4), format="extxyz")
    for level, start in (("low", "first.extxyz"), ("high", "few.extxyz")):
        compute(run, start, level, codes[level], level)
    levels = ("--level", "low:1=low", "--level", "high:5=high")
    train = ("delta", "train", *levels, "--skf", skf, "--kpt-density", "0.5", "--kernel", "matern52:2")
    train += ("--inducing", "60", "--energies-only", "--out", "two.delta", "--json", "-")
    before = json.loads(run(*train, codes=(0, 1)).stdout)["metrics"]["levels"]
    done = ("--computed", "low=low", "--computed", "high=high")
    # The candidates of the second level are free where only the first has them.
    found = suggestions(run, "two.delta", "candidates.extxyz", "--count", "4", *done, "--out", "next")
    for level in {one["level"] for one in found}:
        assert compute(run, f"next/{level}.extxyz", level, codes[level], level)["finished"] >= 1
    after = json.loads(run(*train, codes=(0, 1)).stdout)["metrics"]["levels"]
    assert sum(after[name]["structures"] - before[name]["structures"] for name in ("low", "high")) == 4
    pending = suggestions(
        run, "two.delta", "first.extxyz", "--count", "9", "--level", "high", "--pending", "high=few.extxyz"
    )
    assert len(pending) == 3  # of six, three are running
    # A folder holds the last batch alone.
    suggestions(run, "two.delta", "candidates.extxyz", "--count", "1", "--level", "high", "--out", "next")
    assert [path.name for path in (tmp_path / "next").iterdir()] == ["high.extxyz"]


def test_what_is_written_is_bare_and_named_after_its_crystal(run, tmp_path):
    write("first.extxyz", copies("Cu", 0, 2), format="extxyz")
    compute(run, "first.extxyz", "mine")
    run("delta", "train", "mine", "--direct", "--kernel", "matern52:2", "--inducing", "60", "--out", "cu.delta")
    some = copies("Cu", 2, 3)
    for atoms, kind in zip(some, ("a", "b", "c"), strict=True):
        atoms.info |= {"kind": kind, "functional": "something else"}
    write("candidates.extxyz", some, format="extxyz")
    run("delta", "suggest", "cu.delta", "candidates.extxyz", "--count", "3", "--out", "next")
    written = {atoms.info["candidate"]: atoms.info for atoms in read("next/reference.extxyz", ":")}
    assert [written[k]["name"] for k in (1, 2, 3)] == ["fcc", "bcc", "sc"]
    assert all(set(info) == {"name", "candidate"} for info in written.values())
    run("delta", "suggest", "cu.delta", "candidates.extxyz", "--count", "3", "--out", "kinds", "--group-key", "kind")
    assert {atoms.info["name"] for atoms in read("kinds/reference.extxyz", ":")} == {"a", "b", "c"}
    words = ("delta", "suggest", "cu.delta", "candidates.extxyz", "--out", "none", "--group-key", "colour")
    assert re.search(r"candidate \d has no 'colour' to group by; it has the keys", run(*words, codes=(2,)).stderr)


def test_a_level_that_is_a_path_names_no_file(run, tmp_path):
    write("first.extxyz", copies("Cu", 0, 1), format="extxyz")
    compute(run, "first.extxyz", "mine")
    kernel = ("--kernel", "matern52:2", "--inducing", "20")
    run("delta", "train", "--level", "../up=mine", "--direct", *kernel, "--out", "cu.delta")
    (tmp_path / "up.extxyz").write_text("kept")
    result = run("delta", "suggest", "cu.delta", "first.extxyz", "--out", "next", codes=(2,))
    assert "the level '../up' cannot name a file" in result.stderr
    assert (tmp_path / "up.extxyz").read_text() == "kept"


def test_structures_are_compared_as_the_runner_returns_them():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    moved = atoms.copy()
    moved.positions[0] += atoms.cell[1]
    assert same_structure(atoms, moved)
    moved.positions[1, 0] += 0.01
    assert not same_structure(atoms, moved)
    assert not same_structure(atoms, atoms.repeat((2, 1, 1)))
    other = atoms.copy()
    other.set_cell(1.01 * atoms.cell.array, scale_atoms=True)
    assert not same_structure(atoms, other)
    other = atoms.copy()
    other.numbers[0] = 47
    assert not same_structure(atoms, other)
    free = atoms.copy()
    free.pbc = False
    assert not same_structure(atoms, free)
    assert same_structure(free, free.copy())
