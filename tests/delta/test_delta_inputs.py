"""DFTB's charges, band energy and Fermi level as inputs of a model: energies with them, and never a force."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read, write
from typer.testing import CliRunner

from dftbparam.cli.app import app
from dftbparam.delta.calculator import DeltaCalculator
from dftbparam.delta.evaluate import evaluate
from dftbparam.delta.inputs import (
    FEATURES,
    LEAST,
    WEIGHT,
    BaseFeatures,
    check_features,
    fit_inputs,
    input_coordinates,
)
from dftbparam.delta.kernels import RadialKernel
from dftbparam.delta.model_file import load_model, read_header, save_model
from dftbparam.delta.suggest import joint_covariance, prior_covariance, suggest
from dftbparam.delta.training import TrainingOptions, train
from dftbparam.engine.ase import DftbCalculator
from dftbparam.errors import ParameterError

KERNEL = (RadialKernel("matern52", 2.0),)


def options(*features, **changes):
    return TrainingOptions(kernels=KERNEL, inducing=150, features=features, **changes)


@pytest.fixture(scope="module")
def energies(samples):
    return [replace(s, forces=None, stress=None, base_forces=None, base_stress=None) for s in samples]


@pytest.fixture(scope="module")
def told(energies, base):
    """A model with all inputs."""
    return train(energies, options=options(*FEATURES), base=base.record(["Si"]))


def test_features_are_those_of_the_engine(samples, skf):
    atoms = samples[3].atoms.copy()
    atoms.calc = DftbCalculator(skf, kpts=(1, 1, 1), temperature=1000.0)
    atoms.get_potential_energy()
    found = samples[3].features
    assert found.charges == pytest.approx(atoms.get_charges(), abs=1e-6)
    assert found.fermi_level == pytest.approx(atoms.calc.get_fermi_level(), abs=1e-6)
    assert found.band_energy < 0.0


def test_coordinates_have_the_weight_of_an_input():
    rng = np.random.default_rng(0)
    structures = [bulk("SiO", "rocksalt", a=4.5) for _ in range(400)]
    some = [
        BaseFeatures(np.array([q, -q]), -50.0 + b, f)
        for q, b, f in zip(rng.normal(0.8, 0.3, 400), rng.normal(0, 2.0, 400), rng.normal(-4, 0.5, 400), strict=True)
    ]
    scales = fit_inputs(structures, some, FEATURES)
    table = np.stack([input_coordinates(scales, atoms, one) for atoms, one in zip(structures, some, strict=True)])
    for atom in range(2):
        distances = ((table[:, None, atom] - table[None, :, atom]) ** 2).mean(axis=(0, 1))
        assert distances == pytest.approx(np.full(3, WEIGHT**2), rel=1e-6)
    # Of a value that is the same everywhere nothing is made a coordinate.
    same = [replace(one, charges=np.array([1e-9, -1e-9])) for one in some]
    flat = fit_inputs(structures, same, ("charges",))
    assert flat[14].scale == pytest.approx(np.sqrt(2.0) * LEAST / WEIGHT)
    assert np.abs(input_coordinates(flat, structures[0], same[0])).max() < 1e-6


def test_the_band_energy_is_one_of_the_composition_no_more():
    """What elements explain is taken off, so that oxides and elements are compared by what is left."""
    mixed = [bulk("Si"), bulk("SiO", "rocksalt", a=4.5), bulk("Si").repeat((2, 1, 1))]
    some = [
        BaseFeatures(np.zeros(len(atoms)), sum({14: -30.0, 8: -400.0}[z] for z in atoms.numbers), 0.0)
        for atoms in mixed
    ]
    scales = fit_inputs(mixed, some, ("band-energy",))
    for atoms, one in zip(mixed, some, strict=True):
        assert np.abs(input_coordinates(scales, atoms, one)).max() < 1e-6


def test_a_supercell_has_the_energy_of_its_cells(told, energies, skf):
    atoms, one = energies[6].atoms, energies[6].features
    many = BaseFeatures(np.tile(one.charges, 4), 4.0 * one.band_energy, one.fermi_level)
    single = told.predict(atoms, derivatives=False, features=one)
    large = told.predict(atoms.repeat((2, 1, 2)), derivatives=False, features=many)
    assert large.energy == pytest.approx(4.0 * single.energy, abs=1e-6)
    assert large.energy_std == pytest.approx(single.energy_std, rel=1e-4)


def test_each_input_decides_and_helps_where_the_difference_depends_on_it(energies):
    """A reference that differs from DFTB by a function of the Fermi level, which surroundings alone explain badly."""
    made = [replace(s, energy=len(s.atoms) * np.tanh(0.5 * (s.features.fermi_level + 4.0))) for s in energies]
    assert np.std([s.energy / len(s.atoms) for s in made]) > 0.02
    plain = train(made, options=options(compare=False)).metrics["levels"]["reference"]["rmse"]
    with_it = train(made, options=options("fermi-level", compare=False))
    assert with_it.metrics["levels"]["reference"]["rmse"] < 0.8 * plain
    sample = made[0]
    moved = replace(sample.features, fermi_level=sample.features.fermi_level + 0.3)
    one = with_it.predict(sample.atoms, derivatives=False, features=sample.features)
    assert with_it.predict(sample.atoms, derivatives=False, features=moved).energy != one.energy
    other = replace(sample.features, band_energy=0.0, charges=np.ones(len(sample.atoms)))
    assert with_it.predict(sample.atoms, derivatives=False, features=other).energy == one.energy


def test_the_comparison_without_dftb_has_none_of_its_results(told, model, energies):
    plain = train(energies, options=options())
    found, same = (m.metrics["levels"]["reference"]["rmse_without_base"] for m in (told, plain))
    assert found == pytest.approx(same, rel=1e-9)


def test_the_file_names_the_inputs_and_reads_back(told, energies, skf, tmp_path):
    save_model(told, tmp_path / "told.delta")
    header = read_header(tmp_path / "told.delta")
    assert header["features"] == list(FEATURES)
    again = load_model(tmp_path / "told.delta", skf)
    for sample in energies[::5]:
        one, other = (m.predict(sample.atoms, derivatives=False, features=sample.features) for m in (told, again))
        assert one == other
    save_model(again, tmp_path / "again.delta")
    assert (tmp_path / "again.delta").read_bytes() == (tmp_path / "told.delta").read_bytes()


def test_forces_are_refused_and_energies_given(told, energies, samples, skf):
    sample = energies[2]
    for call in (
        lambda: told.predict(sample.atoms, features=sample.features),
        lambda: told.basis.rows(sample.atoms, derivatives=True, features=sample.features),
        lambda: train(samples, options=options("charges")),
    ):
        with pytest.raises(ParameterError, match="no forces or stress: the model takes DFTB's charges"):
            call()
    atoms = sample.atoms.copy()
    atoms.calc = DeltaCalculator(told, skf, kpts=(1, 1, 1))
    found = told.predict(atoms, derivatives=False, features=sample.features)
    assert atoms.get_potential_energy() == pytest.approx(found.energy + sample.base_energy, abs=1e-5)
    assert "forces" not in atoms.calc.results
    for ask in (atoms.get_forces, atoms.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="derivatives are not available"):
            ask()
    assert atoms.get_potential_energy() == pytest.approx(found.energy + sample.base_energy, abs=1e-5)
    scores = evaluate(told, energies).scores()
    assert scores["rmse_forces"] is None
    assert scores["rmse"] < 0.05


def test_suggestions_know_the_inputs(told, energies):
    structures = [s.atoms for s in energies[::4]]
    given = {id(s.atoms): s.features for s in energies[::4]}

    def look_up(some):
        return [given[id(atoms)] for atoms in some]

    found = suggest(told, structures, 2, features=look_up)
    assert found[0].std_after < found[0].std_before
    inputs = look_up(structures)
    covariance = joint_covariance(told, structures, [(k, 0) for k in range(len(structures))], inputs)
    for k, atoms in enumerate(structures):
        one = told.predict(atoms, derivatives=False, features=inputs[k])
        expected = (one.energy_std / told.levels[0].calibration) ** 2 - told.hyper.noise[0, "energy"] ** 2
        assert covariance[k, k] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    # Two structures that differ in an input alone are two.
    other = replace(inputs[0], fermi_level=inputs[0].fermi_level + 1.0)
    prior = prior_covariance(told, [structures[0]] * 2, [inputs[0], other])
    assert prior[0, 1] < 0.99 * prior[0, 0]
    with pytest.raises(ParameterError, match="none are given"):
        suggest(told, structures)


def test_bad_input(told, energies):
    with pytest.raises(ParameterError, match="feature 'colour'; it must be one of charges, band-energy, fermi-level"):
        options("colour")
    assert check_features(["fermi-level", "charges", "charges"]) == ("charges", "fermi-level")
    atoms, one = energies[0].atoms, energies[0].features
    for bad, words in (
        (None, "none are given"),
        (replace(one, charges=np.zeros(7)), "charges of 7 atoms are given for a structure of"),
        (replace(one, fermi_level=float("nan")), "not all numbers"),
    ):
        with pytest.raises(ParameterError, match=words):
            told.predict(atoms, derivatives=False, features=bad)
    with pytest.raises(ParameterError, match="none are given"):
        train([replace(s, features=None) for s in energies], options=options("charges"))


def test_from_the_command_line(reference_file, skf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    words = ["delta", "train", str(reference_file), "--skf", str(skf), "--kpt-density", "0.5", "--out", "m.delta"]
    words += ["--group-key", "crystal", "--kernel", "matern52:2", "--inducing", "80"]
    result = run(app, [*words, "--features", "charges,band-energy", "--json", "t.json"])
    assert result.exit_code in (0, 1), result.output
    assert "forces and stress of 25 structures are left out" in result.stderr
    value = json.loads((tmp_path / "t.json").read_text())
    assert value["features"] == ["charges", "band-energy"]
    assert value["provenance"]["samples_with_forces"] == 0
    result = run(app, ["delta", "evaluate", "m.delta", str(reference_file), "--skf", str(skf), "--json", "-"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["scores"]["rmse"] < 0.05
    write("one.extxyz", read(reference_file, "0"), format="extxyz")
    result = run(app, ["delta", "predict", "m.delta", "one.extxyz", "--skf", str(skf), "--out", "p.xyz", "--json", "-"])
    assert result.exit_code == 0, result.output
    assert "no forces: the model takes DFTB's charges, band-energy as input" in result.stderr
    (row,) = json.loads(result.stdout)["structures"]
    assert row["forces"] is None
    assert row["stress"] is None
    assert read("p.xyz").get_potential_energy() == pytest.approx(row["energy"], abs=1e-5)
    assert "forces" not in read("p.xyz").calc.results
    suggestion = ["delta", "suggest", "m.delta", str(reference_file), "--count", "2"]
    assert "say where it is: --skf" in run(app, suggestion).stderr
    result = run(app, [*suggestion, "--skf", str(skf), "--json", "-"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["suggestions"]) == 2
    for more, message in (
        (["--features", "colour"], "feature 'colour'"),
        (["--features", "charges", "--require", "forces"], "--features and --require"),
    ):
        result = run(app, [*words, *more])
        assert result.exit_code == 2
        assert message in result.stderr
    direct = ["delta", "train", str(reference_file), "--direct", "--features", "charges", "--out", "d.delta"]
    result = run(app, direct)
    assert result.exit_code == 2
    assert "--features and --direct" in result.stderr
