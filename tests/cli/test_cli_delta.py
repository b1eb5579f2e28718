"""``dftbparam delta``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


@pytest.fixture(scope="module", autouse=True)
def libraries():
    pytest.importorskip("torch")
    pytest.importorskip("gpytorch")
    pytest.importorskip("featomic")


def reference(path, factor=1.0, seed=0, count=6, forces=True):
    """Displaced silicon in three crystals: the base plus pair forces."""
    from dftbparam.delta.data import Base
    from dftbparam.engine.base import Settings

    rng = np.random.default_rng(seed)
    images = []
    for name, a in (("diamond", 5.43), ("fcc", 3.9), ("bcc", 3.1)):
        for _ in range(count):
            atoms = bulk("Si", name, a=a * rng.uniform(0.96, 1.04))
            if len(atoms) == 1:
                atoms = atoms.repeat((2, 1, 1))
            atoms.positions += rng.normal(0.0, 0.04, atoms.positions.shape)
            images.append((name, atoms))
    base = Base(MODEL, Settings(kpt_density=0.5)).compute([atoms for _, atoms in images], derivatives=True)
    found = []
    for (name, atoms), below in zip(images, base, strict=True):
        atoms.calc = LennardJones(sigma=2.1, epsilon=0.15 * factor, rc=4.6, ro=3.0, smooth=True)
        values = {"energy": atoms.get_potential_energy() + below.energy - 2.0 * len(atoms)}
        if forces:
            values["forces"] = atoms.get_forces() + below.forces
            values["stress"] = atoms.get_stress() + below.stress
        atoms.calc = SinglePointCalculator(atoms, **values)
        atoms.info = {"crystal": name, "functional": "PBE"}
        found.append(atoms)
    write(path, found, format="extxyz")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    reference(folder / "pbe.extxyz")
    reference(folder / "test.extxyz", seed=1, count=2)
    reference(folder / "high.extxyz", factor=1.3, seed=2, count=2, forces=False)
    return folder


TRAIN = ("--skf", MODEL, "--kpt-density", "0.5", "--kernel", "matern52:2", "--inducing", "80")


@pytest.fixture
def trained(run, data, tmp_path):
    result = run(
        "delta", "train", data / "pbe.extxyz", *TRAIN, "--group-key", "crystal", "--out", "si.delta", "--json", "t.json"
    )
    assert result.exit_code in (0, 1), result.output
    return tmp_path / "si.delta"


def test_train_evaluate_predict(run, data, trained, tmp_path):
    value = json.loads((tmp_path / "t.json").read_text())
    assert value["elements"] == ["Si"]
    assert value["metrics"]["levels"]["reference"]["structures"] == 18
    assert value["provenance"]["samples_with_stress"] == 18
    result = run(
        "delta",
        "evaluate",
        trained,
        data / "test.extxyz",
        "--skf",
        MODEL,
        "--group-key",
        "crystal",
        "--plot",
        "plots",
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["scores"]["structures"] == 6
    assert found["scores"]["rmse"] < 0.05
    assert found["scores"]["rmse_forces"] < 0.3
    assert [group["group"] for group in found["groups"]] == ["Si bcc", "Si diamond", "Si fcc"]
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"delta-parity.png", "delta-calibration.png"}
    result = run("delta", "evaluate", trained, data / "test.extxyz", "--skf", MODEL, "--energies-only")
    assert "within crystals" in result.stdout
    result = run("delta", "predict", trained, data / "test.extxyz", "--skf", MODEL, "--out", "p.extxyz", "--json", "-")
    assert result.exit_code in (0, 1), result.output
    rows = json.loads(result.stdout)["structures"]
    for row, atoms, true in zip(rows, read(tmp_path / "p.extxyz", ":"), read(data / "test.extxyz", ":"), strict=True):
        assert atoms.get_potential_energy() == pytest.approx(row["energy"], abs=1e-5)
        assert row["energy"] == pytest.approx(true.get_potential_energy(), abs=0.2)
        assert atoms.info["energy_std"] == pytest.approx(row["energy_std"])


def test_outside_the_domain_is_exit_1(run, trained, tmp_path):
    write(tmp_path / "strange.xyz", bulk("Si", "diamond", a=4.2), format="extxyz")
    result = run("delta", "predict", trained, "strange.xyz", "--skf", MODEL)
    assert result.exit_code == 1
    assert "structure 1 is outside the training domain: " in result.stderr
    assert "yes" in result.stdout


def test_levels_and_suggestions(run, data, tmp_path):
    levels = ("--level", f"PBE:1={data / 'pbe.extxyz'}", "--level", f"r2SCAN:5={data / 'high.extxyz'}")
    result = run(
        "delta",
        "train",
        *levels,
        *TRAIN,
        "--group-key",
        "crystal",
        "--energies-only",
        "--out",
        "two.delta",
        "--json",
        "-",
    )
    assert result.exit_code in (0, 1), result.output
    assert list(json.loads(result.stdout)["metrics"]["levels"]) == ["PBE", "r2SCAN"]
    words = ("delta", "suggest", "two.delta", data / "test.extxyz", "--count", "3")
    result = run(*words, "--out", "next", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["suggestions"]
    assert len(found) == 3
    assert found[0]["std_after"] < found[0]["std_before"]
    written = sum(len(read(path, ":")) for path in (tmp_path / "next").glob("*.extxyz"))
    assert written == 3
    dear = run(*words, "--cost", "r2SCAN=1e9", "--json", "-")
    assert {one["level"] for one in json.loads(dear.stdout)["suggestions"]} == {"PBE"}
    again = run(*words, "--level", "PBE", "--pending", f"PBE={data / 'test.extxyz'}")
    assert again.exit_code == 0, again.output


def test_refusals(refused, data, trained, tmp_path):
    source, out = data / "pbe.extxyz", ("--out", "x.delta")
    assert "--skf, or --direct" in refused("delta", "train", source, *out)
    assert "not both" in refused("delta", "train", source, *out, "--direct", "--skf", MODEL)
    assert "no source is given" in refused("delta", "train", *out, "--direct")
    assert "NAME=FILE" in refused("delta", "train", *out, "--direct", "--level", "PBE")
    assert "either sources" in refused("delta", "train", source, *out, "--direct", "--level", "PBE=x")
    assert "'linear'" in refused("delta", "train", source, *out, "--direct", "--kernel", "linear:1")
    assert "--require colour" in refused("delta", "train", source, *out, "--direct", "--require", "colour")
    assert "no forces, though asked for" in refused(
        "delta", "train", data / "high.extxyz", *out, "--direct", "--require", "forces"
    )
    assert "no structure of Ge" in refused("delta", "train", source, *out, "--direct", "--elements", "Ge")
    assert "is no number" in refused("delta", "suggest", trained, source, "--cost", "reference=much")
    assert "say where it is: --skf" in refused("delta", "evaluate", trained, source)
    assert "no such model file" in refused("delta", "evaluate", "none.delta", source)
    assert "no level 'HSE06'" in refused("delta", "predict", trained, source, "--skf", MODEL, "--level", "HSE06")
    (tmp_path / "text").write_text("nothing")
    assert "ASE can read" in refused("delta", "predict", trained, "text", "--skf", MODEL)
    shutil.copytree(MODEL, tmp_path / "other")
    changed = tmp_path / "other" / "Si-Si.skf"
    changed.write_text(changed.read_text().replace("0.", "0.0", 1))
    assert "has other files for Si-Si" in refused("delta", "predict", trained, source, "--skf", "other")
