"""The model against dense linear algebra, finite differences, and a difference that is known."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import multivariate_normal

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import DescriptorSettings
from dftbparam.delta.evidence import (
    OFFSET_WIDTH,
    Hyperparameters,
    _Problem,
    cross_validate,
    expand,
    maximise,
    posterior,
)
from dftbparam.delta.features import describe, fit_maps
from dftbparam.delta.kernels import JITTER, KINDS, RadialKernel, choose
from dftbparam.delta.statistics import Factor, Sample, collect
from dftbparam.delta.training import TrainingOptions, assign_folds, calibrate, train
from dftbparam.errors import ElementError, ParameterError, ReferenceDataError

SETTINGS = DescriptorSettings(max_radial=3, max_angular=2)


@pytest.fixture(scope="module")
def few(samples):
    """Some samples with all of their environments as inducing ones: nothing is approximated."""
    some = [samples[i] for i in (0, 6, 11, 17, 22)]
    maps = fit_maps([s.atoms for s in some], SETTINGS)
    points = np.concatenate([describe(s.atoms, SETTINGS, maps)[0].x for s in some])
    kernel = RadialKernel("matern52", 1.0)
    return some, Basis(SETTINGS, maps, kernel, {14: points[choose(kernel, points, len(points))]})


def test_kernels_are_what_their_names_say():
    t = np.array([0.0, 0.3, 1.7, 6.0])
    r = np.sqrt(t)
    expected = {
        "rbf": np.exp(-t / (2.0 * 1.3**2)),
        "matern52": (1 + np.sqrt(5) * r / 1.3 + 5 * t / (3 * 1.3**2)) * np.exp(-np.sqrt(5) * r / 1.3),
        "rq": 1.0 / (1.0 + t / (2.0 * 1.3**2)),
    }
    for kind in KINDS:
        kernel = RadialKernel(kind, 1.3)
        value, slope = kernel(t)
        assert value == pytest.approx(expected[kind], abs=1e-12)
        numeric = (kernel(t[1:] + 1e-5)[0] - kernel(t[1:] - 1e-5)[0]) / 2e-5
        assert slope[1:] == pytest.approx(numeric, rel=1e-6)
        assert slope[0] == pytest.approx((kernel(np.array([1e-6]))[0][0] - 1.0) / 1e-6, rel=1e-2)
        points = np.random.default_rng(0).normal(size=(5, 3))
        square = ((points[:, None] - points) ** 2).sum(axis=2)
        assert kernel.matrix(points) == pytest.approx(kernel(square)[0], abs=1e-6)
    with pytest.raises(ParameterError, match="kernel 'linear'"):
        RadialKernel("linear")


def test_chosen_environments_explain_the_rest():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 2))
    kernel = RadialKernel("rbf", 1.5)
    chosen = choose(kernel, points, 25)
    assert len(set(chosen)) == len(chosen)

    def left(index):
        cross = kernel.matrix(points, points[index])
        inner = kernel.matrix(points[index]) + 1e-10 * np.eye(len(index))
        return 1.0 - np.einsum("nm,mk,nk->n", cross, np.linalg.inv(inner), cross)

    assert left(chosen).max() < 1e-3
    assert left(chosen).max() < 0.2 * left(np.arange(25)).max()


def test_factors_made_in_portions_are_those_of_all_rows():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(97, 6))
    factor = Factor(6)
    for start in range(0, 97, 5):
        factor.add(rows[start : start + 5])
    factor.settle()
    assert factor.count == 97
    assert factor.triangle.shape == (6, 6)
    assert factor.triangle.T @ factor.triangle == pytest.approx(rows.T @ rows, abs=1e-9)


def test_rows_are_derivatives_of_one_another(few, differentiate):
    some, basis = few
    rng = np.random.default_rng(3)
    v = rng.normal(size=basis.size)
    atoms = some[0].atoms
    rows = basis.rows(atoms, derivatives=True)
    forces, strain = differentiate(lambda a: basis.rows(a).energy @ v, atoms)
    assert rows.forces @ v == pytest.approx(forces, abs=1e-5)
    assert rows.strain @ v == pytest.approx(strain, abs=1e-5)
    # The quick way to the same numbers.
    local = basis.describe(atoms, derivatives=True)
    energies, quick, quick_strain = basis.derivatives(local[0], basis.local_weights(v)[14], len(atoms))
    assert energies.sum() == pytest.approx(rows.energy @ v, abs=1e-7)
    assert quick == pytest.approx(rows.forces @ v, abs=1e-7)
    assert quick_strain == pytest.approx(rows.strain @ v, abs=1e-7)


def test_posterior_is_the_gaussian_process_of_sums(few):
    """Against the textbook's formulas with the covariance of total energies, built from pairs of atoms."""
    some, basis = few
    statistics = collect(basis, some, [0, 1, 2, 3, 4], 1)
    hyper = Hyperparameters(np.array([[0.4]]), {(0, "energy"): 0.01, (0, "forces"): 1e6, (0, "stress"): 1e6})
    solved = posterior(statistics, hyper)
    locals_ = [describe(s.atoms, SETTINGS, basis.maps)[0] for s in some]

    def covariance(a, b):
        first, second = locals_[a].full, locals_[b].full
        return basis.kernel.matrix(first, second).sum() / (len(first) * len(second))

    k = 0.4**2 * np.array([[covariance(a, b) for b in range(5)] for a in range(5)]) + OFFSET_WIDTH**2
    gain = k @ np.linalg.inv(k + 0.01**2 * np.eye(5))
    rows = expand(statistics.energy_rows, 0, 1, hyper.mixing)
    assert rows @ solved.mean == pytest.approx(gain @ statistics.energies, abs=1e-5)
    variance = np.diag(k - gain @ k)
    assert solved.variance(rows) + 0.4**2 * statistics.unexplained == pytest.approx(variance, rel=1e-3, abs=1e-7)
    assert statistics.unexplained.max() < 100.0 * JITTER


def test_evidence_is_the_density_of_the_data(few):
    import torch

    some, basis = few
    statistics = collect(basis, [Sample(s.atoms, s.energy, s.forces) for s in some], [0] * 5, 1)
    problem = _Problem(statistics, "single")
    theta = np.log([0.3, 0.02, 0.1])
    point = torch.tensor(theta, requires_grad=True)
    value = problem.evidence(point)
    rows, targets, noise = [], [], []
    for s, energy in zip(some, statistics.energies, strict=True):
        found = basis.rows(s.atoms, derivatives=True)
        n = len(s.atoms)
        rows.append(np.concatenate([0.3 * found.energy / n, [OFFSET_WIDTH]])[None])
        table = 0.3 * found.forces.reshape(3 * n, -1)
        rows.append(np.concatenate([table, np.zeros((3 * n, 1))], axis=1))
        targets += [[energy], s.forces.ravel()]
        noise += [[0.02], [0.1] * (3 * n)]
    a, y, sigma = np.concatenate(rows), np.concatenate(targets), np.concatenate(noise)
    expected = multivariate_normal(np.zeros(len(y)), a @ a.T + np.diag(sigma**2)).logpdf(y)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-8)
    (slope,) = torch.autograd.grad(value, point)
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-5
        with torch.no_grad():
            plus, minus = (float(problem.evidence(torch.tensor(theta + s * step))) for s in (1.0, -1.0))
        assert float(slope[k]) == pytest.approx((plus - minus) / 2e-5, rel=1e-4, abs=1e-4)
    best = maximise(statistics)
    assert best.evidence > expected


def test_cross_validation_is_training_without_the_fold(samples, few):
    _, basis = few
    folds = [i % 3 for i in range(len(samples))]
    whole = collect(basis, samples, folds, 1)
    hyper = Hyperparameters(np.array([[0.3]]), {(0, k): 0.05 for k in ("energy", "forces", "stress")})
    held_out = cross_validate(whole, hyper)
    mine = [i for i, fold in enumerate(folds) if fold == 1]
    rest = [s for s, fold in zip(samples, folds, strict=True) if fold != 1]
    others = collect(basis, rest, [0] * len(rest), 1)
    solved = posterior(others, hyper)
    rows = expand(whole.energy_rows[mine], 0, 1, hyper.mixing)
    # The offsets subtracted beforehand differ; the model's own takes that up but for its wide prior.
    shift = others.offsets[0, 0] - whole.offsets[0, 0]
    assert held_out.errors[mine] == pytest.approx(rows @ solved.mean + shift - whole.energies[mine], abs=1e-5)


def test_cross_validation_has_the_inducing_environments_of_the_others_alone(samples, few):
    """The same as a basis that never had the fold's own, trained on the other folds: errors and variances."""
    _, basis = few
    folds = [i % 3 for i in range(len(samples))]
    (number,) = basis.numbers
    everything = {number: np.arange(len(basis.points[number]))}
    kept = {number: everything[number][::2]}
    whole = replace(
        collect(basis, samples, folds, 1), subspace=lambda fold: basis.subspace(kept if fold == 1 else everything)
    )
    hyper = Hyperparameters(np.array([[0.3]]), {(0, k): 0.05 for k in ("energy", "forces", "stress")})
    held_out = cross_validate(whole, hyper)
    smaller = replace(basis, points={number: basis.points[number][kept[number]]})
    alone = collect(smaller, samples, folds, 1)
    expected = cross_validate(alone, hyper)
    mine = np.asarray(folds) == 1
    assert held_out.errors[mine] == pytest.approx(expected.errors[mine], abs=1e-6)
    assert held_out.variances[mine] == pytest.approx(expected.variances[mine], rel=1e-4, abs=1e-9)
    # Another fold keeps all of them.
    plain = cross_validate(replace(whole, subspace=None), hyper)
    assert held_out.errors[~mine] == pytest.approx(plain.errors[~mine], abs=1e-8)
    assert np.abs(plain.errors[mine] - held_out.errors[mine]).max() > 1e-5


@pytest.mark.parametrize("levels", [1, 2])
def test_training_holds_out_as_it_would_have_trained(samples, levels):
    """Held-out errors and bars in the model's file are those of a model whose basis never had the crystal."""
    from dftbparam.delta.model import Level

    mine = [replace(s, level=k % levels) for k, s in enumerate(samples)]
    names = [Level(name) for name in ("PBE", "r2SCAN")[:levels]]
    options = TrainingOptions(kernels=(RadialKernel("matern52", 4.0),), inducing=100, compare=False, curves=False)
    whole = train(mine, names, options)
    folds = assign_folds([s.group for s in mine], options.folds, options.seed)
    (number,) = whole.basis.numbers
    for name in ("Si diamond", "Si sc"):
        own = [s for s in mine if s.group == name]
        others = [describe(s.atoms, whole.basis.settings, whole.basis.maps)[0].x for s in mine if s.group != name]
        points = whole.basis.points[number]
        kept = [k for k, x in enumerate(points) if min(np.abs(x - other).max(1).min() for other in others) < 1e-6]
        assert 0 < len(kept) < len(points)
        basis = replace(whole.basis, points={number: points[kept]})
        statistics = collect(basis, mine, list(folds), levels)
        expected = cross_validate(statistics, whole.hyper)
        at = np.array([s.group == name for s in mine]) & (statistics.levels == levels - 1)
        record = whole.metrics["held_out"][names[-1].name]
        shown = np.array(record["group"]) == record["groups"].index(name)
        errors = (np.array(record["predicted"]) - np.array(record["reference"]))[shown]
        assert errors == pytest.approx(expected.errors[at], abs=2e-5)
        noise = whole.hyper.noise[levels - 1, "energy"]
        bars = whole.levels[-1].calibration * np.sqrt(expected.variances[at] + noise**2)
        assert np.array(record["std"])[shown] == pytest.approx(bars, rel=1e-2)
        assert len(own) == 5


def test_one_environment_of_an_element_has_no_axes(samples):
    """A single structure with forces, whose atoms are alike: its descriptors have a mean and nothing else."""
    atoms = bulk("Si", "diamond", 5.4)
    one = Sample(atoms, -1.0, np.zeros((2, 3)), np.full(6, 0.01), group="Si diamond")
    found = train([one], options=TrainingOptions(compare=False)).predict(atoms)
    assert found.energy == pytest.approx(-1.0, abs=1e-2)
    assert np.isfinite(found.forces).all()


def test_a_crystal_that_two_groups_have_is_known_to_both(samples):
    """The inducing environments are of one of the two; the other has the same, and loses none."""
    twice = [*samples, *(replace(s, group="Si once more") for s in samples if s.group == "Si diamond")]
    options = TrainingOptions(kernels=(RadialKernel("matern52", 4.0),), inducing=100, compare=False, curves=False)
    record = train(twice, options=options).metrics["held_out"]["reference"]
    groups = np.array(record["groups"])[record["group"]]
    bars = np.array(record["std"])
    for name in ("Si diamond", "Si once more"):
        assert bars[groups == name].mean() < 0.2 * bars[groups == "Si sc"].mean()


def test_forces_and_stress_are_derivatives_of_the_energy(model, samples, differentiate):
    for sample in (samples[3], samples[12]):
        found = model.predict(sample.atoms)
        forces, strain = differentiate(lambda a: model.predict(a, derivatives=False).energy, sample.atoms)
        assert found.forces == pytest.approx(forces, abs=1e-5)
        assert found.stress * sample.atoms.get_volume() == pytest.approx(strain, abs=1e-5)
        assert model.predict(sample.atoms, derivatives=False).energy == pytest.approx(found.energy, abs=1e-9)


def test_the_difference_is_learnt(model, displaced_crystals, pair_forces):
    """Copies that it has not seen, of crystals that it has: the pair potential itself is the judge."""
    learnt, true = [], []
    for number, (_, atoms) in enumerate(displaced_crystals(copies=8)):
        if number % 8 >= 5:
            atoms = atoms.copy()
            found = model.predict(atoms)
            atoms.calc = pair_forces()
            n = len(atoms)
            learnt.append((found.energy / n, found.forces.ravel(), found.stress))
            true.append((atoms.get_potential_energy() / n - 3.7, atoms.get_forces().ravel(), atoms.get_stress()))
    for which, part in ((0, 0.1), (1, 0.5), (2, 0.4)):
        a, b = (np.concatenate([np.atleast_1d(one[which]) for one in some]) for some in (learnt, true))
        assert np.sqrt(np.mean((a - b) ** 2)) < part * np.std(b)


def test_error_bars_and_metrics(model):
    scores = model.metrics["levels"]["reference"]
    assert model.metrics["grouped"]
    assert model.metrics["folds"] == 5
    assert scores["structures"] == 25
    # Five crystals narrow the posterior's bars by a part only of what their held-out errors ask for.
    assert 0.5 <= scores["within_one_std"] <= 0.95
    assert 0.85 <= scores["within_two_std"] <= 1.0
    assert scores["rmse_without_base"] > 0.0
    assert model.provenance["samples_with_forces"] == 25


def test_a_base_that_hurts_is_said(samples, pair_forces):
    """A reference of pair forces alone, which DFTB below it can only disturb."""
    disturbed = []
    for sample in samples:
        atoms = sample.atoms.copy()
        atoms.calc = pair_forces()
        energy = atoms.get_potential_energy() - sample.base_energy
        disturbed.append(Sample(sample.atoms, energy, group=sample.group, base_energy=sample.base_energy))
    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=150)
    scores = train(disturbed, options=options).metrics["levels"]["reference"]
    assert scores["rmse"] > scores["rmse_without_base"]
    assert scores["negative_transfer"] is True


def test_supercells_have_the_same_energy_and_error_bar_per_atom(model, samples):
    atoms = samples[0].atoms
    one, many = model.predict(atoms), model.predict(atoms.repeat((2, 1, 2)))
    assert many.energy == pytest.approx(4.0 * one.energy, abs=1e-6)
    assert many.energy_std == pytest.approx(one.energy_std, rel=1e-4)
    assert many.forces[: len(atoms)] == pytest.approx(one.forces, abs=1e-7)


def test_outside_the_domain_is_said(model, samples):
    assert not model.predict(samples[2].atoms).outside
    squeezed = samples[2].atoms.copy()
    squeezed.set_cell(squeezed.cell.array * 0.75, scale_atoms=True)
    found = model.predict(squeezed)
    assert any("Angstrom, the training data begin at" in reason for reason in found.outside)
    apart = samples[2].atoms.copy()
    apart.set_cell(apart.cell.array * 1.8, scale_atoms=True)
    far = model.predict(apart)
    assert any("descriptor" in reason for reason in far.outside)
    assert any("neighbours" in reason for reason in far.outside)
    assert far.energy_std > 3.0 * model.predict(samples[2].atoms).energy_std
    with pytest.raises(ElementError, match="Ge"):
        model.predict(bulk("Ge"))
    with pytest.raises(ParameterError, match="no level 'r2SCAN'"):
        model.predict(samples[0].atoms, "r2SCAN")


def test_training_is_the_same_every_time(samples, model):
    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=150, compare=False)
    again = train(samples, options=options)
    assert np.array_equal(again.posterior.mean, model.posterior.mean)
    assert again.provenance["data_sha256"] == model.provenance["data_sha256"]


def test_folds_hold_groups_together():
    groups = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"]
    folds = assign_folds(groups, 3, seed=1)
    assert set(folds) == {0, 1, 2}
    for name in "abcd":
        assert len({int(f) for f, g in zip(folds, groups, strict=True) if g == name}) == 1
    assert np.bincount(folds).max() == 5
    assert list(assign_folds(["a"] * 6, 3)) == [0, 0, 1, 1, 2, 2]


def test_calibration_of_normal_errors():
    """Errors that are twice what the model says need the factor two."""
    from dftbparam.delta.evidence import HeldOut

    rng = np.random.default_rng(0)
    n = 4000
    variances = rng.uniform(0.5, 2.0, n) ** 2
    errors = 2.0 * np.sqrt(variances) * rng.normal(size=n)
    held_out = HeldOut(errors, variances, np.zeros(n, dtype=int), np.zeros(n, dtype=int))
    factor, scores = calibrate(held_out, Hyperparameters(np.ones((1, 1)), {(0, "energy"): 1e-4}), 0, 10)
    assert factor == pytest.approx(2.0, rel=0.05)
    assert scores["within_one_std"] == pytest.approx(0.683, abs=0.02)


def test_few_groups_hardly_narrow_error_bars():
    """Errors of half the posterior's size: six groups are believed a little, two thousand nearly in full."""
    from dftbparam.delta.evidence import HeldOut

    rng = np.random.default_rng(0)
    n = 4000
    errors = 0.5 * rng.normal(size=n)
    held_out = HeldOut(errors, np.ones(n), np.zeros(n, dtype=int), np.zeros(n, dtype=int))
    hyper = Hyperparameters(np.ones((1, 1)), {(0, "energy"): 1e-4})
    found = [calibrate(held_out, hyper, 0, groups)[0] for groups in (6, 20, 2000)]
    assert found == pytest.approx([0.5 ** (6 / 16), 0.5 ** (20 / 30), 0.5 ** (2000 / 2010)], rel=0.05)


def test_bad_samples(samples):
    from dataclasses import replace

    from dftbparam.delta.model import Level

    with pytest.raises(ReferenceDataError, match="no structures"):
        train([])
    with pytest.raises(ReferenceDataError, match=r"silicon.extxyz#1: energy are not one finite"):
        train([replace(samples[0], energy=float("nan"))])
    with pytest.raises(ReferenceDataError, match="forces are not"):
        train([replace(samples[0], forces=np.zeros((1, 3)))])
    with pytest.raises(ReferenceDataError, match="no structure has the level 'r2SCAN'"):
        train(samples, (Level("PBE"), Level("r2SCAN")))
