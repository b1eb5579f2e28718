"""``dftbparam references compute`` and ``prototypes``, with an ASE calculator in the place of a DFT code."""

import json

import pytest
from ase.build import bulk
from ase.io import write

from dftbparam.reference import load_dataset, load_frames

EMT = ("--code", "ase.calculators.emt:EMT", "--functional", "EMT", "--workers", "0")


def compute(run, out, *arguments):
    return run("references", "compute", *arguments, *EMT, "--out", str(out))


def test_computes_a_data_set_and_goes_on(run, tmp_path):
    out = tmp_path / "mine"
    result = compute(run, out, "Cu", "--prototypes", "fcc,bcc", "--properties", "eos,atoms", "--json", "-")
    assert result.exit_code == 0, result.output
    first = json.loads(result.stdout)
    assert first["files"] == {"data.csv": 2, "points.csv": first["files"]["points.csv"], "atoms.csv": 1}
    assert first["finished"] > 10
    assert load_dataset(out).stable("Cu").prototype == "fcc"
    again = compute(run, out, "Cu", "--prototypes", "fcc,bcc", "--properties", "eos,atoms", "--json", "-")
    assert json.loads(again.stdout)["finished"] == 0
    description = out / "dataset.toml"
    assert 'functional = "EMT"' in description.read_text()
    assert "cutoff" not in description.read_text()
    description.write_text(description.read_text().replace("not stated", "CC0"))
    more = compute(run, out, "Ag", "--prototypes", "fcc")
    assert load_dataset(out).licence == "CC0"
    assert more.exit_code == 0, more.output
    assert load_dataset(out).symbols == ("Ag", "Cu")
    checked = run("references", "check", str(out))
    assert checked.exit_code == 0, checked.output


def test_collects_what_is_there(run, tmp_path):
    out = tmp_path / "mine"
    compute(run, out, "Cu", "--prototypes", "fcc")
    (out / "data.csv").unlink()
    result = run("references", "compute", "--collect-only", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert len(load_dataset(out).crystals) == 1


def test_structures_of_a_file(run, tmp_path):
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.info["name"] = "rattled"
    write(tmp_path / "in.xyz", [atoms, bulk("CuAu", "rocksalt", a=5.0)], format="extxyz")
    result = compute(run, tmp_path / "mine", "--structures", str(tmp_path / "in.xyz"))
    assert result.exit_code == 0, result.output
    frames = load_frames(tmp_path / "mine")
    assert sorted(len(a) for a in frames) == [2, 4]
    again = compute(run, tmp_path / "mine", "--structures", str(tmp_path / "in.xyz"))
    assert "0 calculations run" in again.stderr


def test_all_failed_is_exit_1(run, tmp_path):
    result = compute(run, tmp_path / "mine", "Si", "--prototypes", "fcc")
    assert result.exit_code == 1
    assert "No EMT-potential for Si" in result.stderr
    assert not (tmp_path / "mine" / "dataset.toml").exists()


def test_set_without_calculations_is_not_replaced(run, tmp_path):
    out = tmp_path / "mine"
    compute(run, out, "Cu", "--prototypes", "fcc")
    (out / "calculations").rename(tmp_path / "elsewhere")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    result = compute(run, out, "Ag", "--prototypes", "fcc")
    assert result.exit_code == 2
    assert "holds a data set but no calculations" in result.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_other_code_needs_a_functional_and_has_no_bands(run, tmp_path):
    code = ("--code", "ase.calculators.emt:EMT", "--workers", "0", "--out", str(tmp_path / "mine"))
    result = run("references", "compute", "Cu", "--prototypes", "fcc", *code)
    assert result.exit_code == 2
    assert "--functional PBE" in result.stderr
    result = run("references", "compute", "Cu", "--properties", "bands", "--functional", "EMT", *code)
    assert result.exit_code == 2
    assert "with GPAW only" in result.stderr
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Cux",), "unknown element 'Cux'"),
        (("Cu-Cu",), "names one element twice"),
        (("Cu", "--prototypes", "fccx"), "unknown prototype 'fccx'; did you mean 'fcc'"),
        (("Cu", "--prototypes", "rocksalt"), "rocksalt is a binary crystal"),
        (("Cu", "--properties", "eoss"), "unknown property 'eoss'"),
        (("Cu", "--cutoff", "-5"), "cutoff"),
        ((), "nothing to compute"),
        (("--binaries", "Fe"), "no binaries are listed for Fe"),
        (("Cu", "--recipe", "missing.toml"), "no readable TOML file"),
        (("--structures", "missing.xyz"), "no such file"),
        (("--collect-only",), "nothing to collect"),
    ],
)
def test_bad_input(run, tmp_path, arguments, message):
    result = compute(run, tmp_path / "mine", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("cutof = 400", "cutof"), ("cutoff = 'high'", "cutoff"), ("symbols = 1", "symbols"), ("cutoff =", "TOML")],
)
def test_bad_recipe(run, tmp_path, text, message):
    (tmp_path / "recipe.toml").write_text(text)
    result = compute(run, tmp_path / "mine", "Cu", "--recipe", str(tmp_path / "recipe.toml"))
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_code_missing_is_exit_3(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gpaw", None)
    result = run("references", "compute", "Cu", "--out", str(tmp_path / "mine"))
    assert result.exit_code == 3
    assert "pip install gpaw" in result.stderr
    assert not (tmp_path / "mine").exists()


def test_prototypes(run):
    rows = {row["name"]: row for row in json.loads(run("references", "prototypes", "--json", "-").stdout)}
    assert rows["rocksalt"]["elements"] == 2
    assert rows["chain"]["dimensions"] == 1
    binaries = json.loads(run("references", "prototypes", "--binaries", "O", "--json", "-").stdout)
    assert len(binaries["binaries"]) >= 4
    assert binaries["reason"]
