"""The domain of each level: of the data of that level, and said by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from dftbparam.cli.app import app
from dftbparam.delta.calculator import DeltaCalculator
from dftbparam.delta.domain import Domain, Environments, domain_of
from dftbparam.delta.evaluate import evaluate
from dftbparam.delta.kernels import RadialKernel
from dftbparam.delta.model import Level
from dftbparam.delta.model_file import load_model, save_model
from dftbparam.delta.suggest import suggest
from dftbparam.delta.training import TrainingOptions, train

LEVELS = (Level("PBE"), Level("r2SCAN", 6.0))


def of(samples, *crystals):
    return [s for s in samples if s.group.split()[-1] in crystals]


@pytest.fixture(scope="module")
def two(samples, base):
    """The lower level has open crystals, the higher one dense ones: neither holds the other."""
    plain = [replace(s, forces=None, stress=None) for s in samples]
    low = of(plain, "diamond", "sc", "beta-sn")
    high = [replace(s, level=1, energy=1.2 * s.energy) for s in of(plain, "fcc", "bcc")]
    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=150, compare=False)
    return train([*low, *high], LEVELS, options, base=base.record(["Si"]))


def outside(model, atoms):
    found = model.predict(atoms, derivatives=False)
    return {name for name, reasons in found.outside_levels.items() if reasons}


def test_each_level_has_the_domain_of_its_own_data(two, samples):
    for sample in of(samples, "diamond"):
        assert outside(two, sample.atoms) == {"r2SCAN"}
    assert outside(two, of(samples, "fcc")[0].atoms) == {"PBE"}
    assert outside(two, bulk("Si", "diamond", a=4.2)) == {"PBE", "r2SCAN"}


def test_the_flag_is_that_of_the_level_predicted(two, samples):
    diamond = of(samples, "diamond")[0].atoms
    for level, flag in (("PBE", False), ("r2SCAN", True)):
        found = two.predict(diamond, level)
        assert bool(found.outside) is flag
        assert found.outside == found.outside_levels[level]
    assert two.predict(diamond).outside == two.predict(diamond, "r2SCAN").outside
    assert not any(evaluate(two, of(samples, "diamond"), level="PBE").outside)
    assert all(evaluate(two, of(samples, "diamond")).outside)


def test_training_data_are_inside_their_level(two, samples):
    """Nothing but the quantile of the held-out ones is left out, and no environment that was seen is far."""
    for crystals, level in ((("diamond", "sc", "beta-sn"), "PBE"), (("fcc", "bcc"), "r2SCAN")):
        for sample in of(samples, *crystals):
            assert two.predict(sample.atoms, level, derivatives=False).outside == ()


def test_levels_of_equal_data_have_equal_domains(samples):
    """Every structure twice: each level's domain is that of a model of one level."""
    plain = [replace(s, forces=None, stress=None, base_energy=0.0) for s in samples]
    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=150, compare=False)
    both = train([*plain, *(replace(s, level=1) for s in plain)], LEVELS, options)
    alone = train(plain, (LEVELS[0],), options)
    for domain in both.domains:
        assert domain.reach == pytest.approx(alone.domains[0].reach, rel=0.05)
        assert domain.closest == alone.domains[0].closest
        assert domain.coordination == alone.domains[0].coordination


def test_an_element_without_data_at_a_level():
    known = Domain({14: 1.0}, {(14, 14): 2.0}, {14: (4, 6)}, {14: np.array([0, 2])})
    assert known.nearest(14, np.array([[9.0, 0.0, 4.0]])) == 2.0
    around = ({(14, 14): 2.2, (8, 14): 1.6}, {14: (4, 4), 8: (2, 2)})
    assert known.reasons({14: 0.5, 8: 0.1}, around) == ("O: no training data",)
    assert Domain.from_record(json.loads(json.dumps(known.record()))).record() == known.record()


def test_rounding_leaves_no_level_without_a_domain():
    """The same environments at two levels, inducing ones all from the first, at distances that are rounding errors."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = 30.0 * rng.normal(size=(1, 8))
        both = np.concatenate([x, x * (1.0 + 1e-15 * rng.normal(size=x.shape))])
        table = Environments(both, np.zeros(2, dtype=int), np.array([0, 1]))
        domain = domain_of(1, {14: x}, {14: table.take(np.array([0]))}, {14: table}, [bulk("Si")])
        assert domain.reach[14] > 0.0


def test_the_domains_survive_a_file(two, samples, tmp_path):
    save_model(two, tmp_path / "two.delta")
    again = load_model(tmp_path / "two.delta")
    for sample in samples[::4]:
        found = again.predict(sample.atoms, derivatives=False)
        assert found.outside_levels == two.predict(sample.atoms, derivatives=False).outside_levels


def test_suggestions_are_flagged_at_their_level(two):
    flags = {one.level: one.outside for one in suggest(two, [bulk("Si", "diamond", a=5.43)], 2)}
    assert flags == {"PBE": False, "r2SCAN": True}


def test_the_calculator_says_at_which_level(two, skf, samples):
    atoms = of(samples, "diamond")[0].atoms.copy()
    atoms.calc = DeltaCalculator(two, skf, level="PBE", kpts=(1, 1, 1))
    atoms.get_potential_energy()
    assert atoms.calc.results["outside_domain"] is False
    assert atoms.calc.results["outside_levels"] == ("r2SCAN",)
    assert atoms.calc.outside_reasons == ()
    assert atoms.calc.outside_by_level["r2SCAN"]
    atoms.calc = DeltaCalculator(two, skf, kpts=(1, 1, 1))
    atoms.get_potential_energy()
    assert atoms.calc.results["outside_domain"] is True
    assert atoms.calc.outside_reasons == atoms.calc.outside_by_level["r2SCAN"]


def test_predict_says_at_which_level(two, skf, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(two, "two.delta")
    write("some.extxyz", [of(samples, "fcc")[0].atoms, of(samples, "diamond")[0].atoms], format="extxyz")
    words = ["delta", "predict", "two.delta", "some.extxyz", "--skf", str(skf)]
    result = CliRunner().invoke(app, [*words, "--level", "PBE", "--out", "p.extxyz", "--json", "p.json"])
    assert result.exit_code == 1, result.output
    assert "structure 1 is outside the training domain of PBE: " in result.stderr
    assert "structure 2 is outside the training domain of r2SCAN, which is not predicted here: " in result.stderr
    rows = json.loads((tmp_path / "p.json").read_text())["structures"]
    assert [row["outside_domain"] for row in rows] == [True, False]
    assert [[name for name, why in row["outside_levels"].items() if why] for row in rows] == [["PBE"], ["r2SCAN"]]
    assert [atoms.info["outside_levels"] for atoms in read("p.extxyz", ":")] == ["PBE", "r2SCAN"]
    write("one.extxyz", of(samples, "diamond")[0].atoms, format="extxyz")
    result = CliRunner().invoke(app, ["delta", "predict", "two.delta", "one.extxyz", "--skf", str(skf)])
    assert result.exit_code == 1
    assert "structure 1 is outside the training domain of r2SCAN: " in result.stderr
    assert "outside at" in result.stdout
