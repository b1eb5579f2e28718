"""Several levels of theory, and what to compute next."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from dftbparam.delta.kernels import RadialKernel
from dftbparam.delta.model import Level
from dftbparam.delta.suggest import joint_covariance, prior_covariance, suggest
from dftbparam.delta.training import TrainingOptions, train
from dftbparam.errors import ElementError, ParameterError, ReferenceDataError

LEVELS = (Level("PBE", 1.0), Level("r2SCAN", 6.0))
RATIO = 1.4


def second_level(sample):
    """1.4 times the first, and a little that is new: proportional to the nearest distance, smooth for one crystal."""
    n = len(sample.atoms)
    extra = 0.05 * (sample.atoms.get_volume() / n - 15.0) / 15.0 + 0.8
    return replace(sample, energy=RATIO * (sample.energy + 3.7 * n) + extra * n, forces=None, stress=None, level=1)


@pytest.fixture(scope="module")
def two_levels(samples):
    """Twenty structures at the lower level with energies, five others at the higher: nothing is nested."""
    low = [replace(s, forces=None, stress=None, base_energy=0.0) for k, s in enumerate(samples) if k % 5 != 4]
    high = [second_level(s) for k, s in enumerate(samples) if k % 5 == 4]
    return low, high


def options(structure="autoregressive"):
    return TrainingOptions(kernels=(RadialKernel("matern52", 4.0),), inducing=150, structure=structure, compare=False)


@pytest.fixture(scope="module")
def joint(two_levels):
    low, high = two_levels
    return train([*low, *high], LEVELS, options())


def errors_of(model, level, truths):
    return np.array(
        [(model.predict(s.atoms, level, derivatives=False).energy - s.energy) / len(s.atoms) for s in truths]
    )


@pytest.mark.parametrize("structure", ["autoregressive", "coregional"])
def test_the_lower_level_helps_the_higher_one(two_levels, structure):
    low, high = two_levels
    both = train([*low, *high], LEVELS, options(structure))
    alone = train([replace(s, level=0) for s in high], (LEVELS[1],), options())
    truths = [second_level(s) for s in low]
    together, single = errors_of(both, "r2SCAN", truths), errors_of(alone, None, truths)
    assert np.sqrt(np.mean(together**2)) < 0.5 * np.sqrt(np.mean(single**2))
    # And the error bars know it.
    bars = [
        np.mean([m.predict(s.atoms, derivatives=False).energy_std / m.levels[-1].calibration for s in truths])
        for m in (both, alone)
    ]
    assert bars[0] < bars[1]


def test_the_ratio_of_levels_is_found(joint):
    mixing = joint.hyper.mixing
    assert mixing.shape == (2, 2)
    assert mixing[0, 1] == 0.0
    assert mixing[1, 0] / mixing[0, 0] == pytest.approx(RATIO, rel=0.2)


def test_one_level_twice_is_one_level(samples):
    """Where both levels say the same, the joint model predicts what a model of all the data predicts."""
    plain = [replace(s, forces=None, stress=None, base_energy=0.0) for s in samples]
    doubled = [replace(s, level=k % 2) for k, s in enumerate(plain)]
    model = train(doubled, LEVELS, options())
    single = train(plain, (LEVELS[0],), options())
    new = samples[0].atoms.copy()
    new.rattle(0.03, rng=np.random.default_rng(0))
    found = [model.predict(new, name).energy / 2 for name in ("PBE", "r2SCAN")]
    assert found[0] == pytest.approx(found[1], abs=0.02)
    assert found[1] == pytest.approx(single.predict(new).energy / 2, abs=0.05)


def test_forces_are_derivatives_at_each_level(joint, samples, differentiate):
    for name in ("PBE", "r2SCAN"):
        found = joint.predict(samples[7].atoms, name)
        forces, strain = differentiate(
            lambda a, n=name: joint.predict(a, n, derivatives=False).energy, samples[7].atoms
        )
        assert found.forces == pytest.approx(forces, abs=1e-5)
        assert found.stress * samples[7].atoms.get_volume() == pytest.approx(strain, abs=1e-5)


def test_levels_survive_a_file(joint, samples, tmp_path):
    from dftbparam.delta.model_file import load_model, save_model

    save_model(joint, tmp_path / "two.delta")
    again = load_model(tmp_path / "two.delta")
    assert again.levels == joint.levels
    for name in ("PBE", "r2SCAN"):
        assert again.predict(samples[1].atoms, name).energy == joint.predict(samples[1].atoms, name).energy


def test_covariances_agree_with_predictions(joint, samples):
    structures = [s.atoms for s in samples[:4]]
    covariance = joint_covariance(joint, structures, [(k, 1) for k in range(4)])
    for k, atoms in enumerate(structures):
        found = joint.predict(atoms, "r2SCAN", derivatives=False)
        noise = joint.hyper.noise[1, "energy"]
        expected = (found.energy_std / joint.levels[1].calibration) ** 2 - noise**2
        assert covariance[k, k] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8
    prior = prior_covariance(joint, [structures[0], structures[0].repeat((2, 1, 1))])
    assert prior == pytest.approx(np.full((2, 2), prior[0, 0]), abs=1e-8)


def test_suggestions_are_what_conditioning_brings(joint, samples):
    """The gain is the fall of the mean variance; the brute force of one inversion for each choice agrees."""
    structures = [bulk("Si", "diamond", a=a) for a in (5.2, 5.43, 5.9)] + [bulk("Si", "fcc", a=a) for a in (3.7, 4.4)]
    found = suggest(joint, structures, 3)
    rows = [(c, t) for c in range(5) for t in (0, 1)]
    aims = [(c, 1) for c in range(5)]
    covariance = joint_covariance(joint, structures, aims + rows)
    best = {}
    for k, (c, t) in enumerate(rows):
        column = covariance[:5, 5 + k]
        gain = np.mean(column**2) / (covariance[5 + k, 5 + k] + joint.hyper.noise[t, "energy"] ** 2)
        best[c, t] = gain / LEVELS[t].cost
    first = max(best, key=best.get)
    assert (found[0].index, found[0].level) == (first[0], LEVELS[first[1]].name)
    factor = joint.levels[1].calibration ** 2
    assert found[0].gain == pytest.approx(best[first] * LEVELS[first[1]].cost * factor)
    assert found[0].std_before ** 2 - found[0].std_after ** 2 == pytest.approx(found[0].gain, rel=1e-6)
    assert found[1].std_before == pytest.approx(found[0].std_after)
    assert len({(one.index, one.level) for one in found}) == 3


def test_what_is_running_is_not_asked_again(joint):
    structures = [bulk("Si", "diamond", a=a) for a in (5.0, 5.02, 6.2)]
    first = suggest(joint, structures, 1, levels=["r2SCAN"])[0]
    pending = [(structures[first.index], "r2SCAN")]
    second = suggest(joint, structures, 1, levels=["r2SCAN"], pending=pending)[0]
    assert second.index != first.index
    batch = suggest(joint, structures, 2, levels=["r2SCAN"])
    assert batch[1].index == second.index
    assert batch[1].gain == pytest.approx(second.gain, rel=1e-6)


def test_costs_decide_the_level(joint):
    structures = [bulk("Si", "diamond", a=a) for a in (5.1, 5.9)]
    cheap = suggest(joint, structures, 1, costs={"r2SCAN": 1e-6})[0]
    assert cheap.level == "r2SCAN"
    dear = suggest(joint, structures, 1, costs={"r2SCAN": 1e6})[0]
    assert dear.level == "PBE"
    assert len(suggest(joint, structures, 100)) == 4
    assert suggest(joint, structures, 1, targets=[structures[0]], levels=["r2SCAN"])[0].index == 0


def test_bad_input(joint, two_levels):
    atoms = bulk("Si")
    with pytest.raises(ParameterError, match="no candidates"):
        suggest(joint, [])
    with pytest.raises(ParameterError, match="no level 'HSE06'"):
        suggest(joint, [atoms], levels=["HSE06"])
    with pytest.raises(ParameterError, match="cost of PBE is -1"):
        suggest(joint, [atoms], costs={"PBE": -1.0})
    with pytest.raises(ElementError, match="Ge"):
        suggest(joint, [bulk("Ge")])
    with pytest.raises(ReferenceDataError, match="level 1, but there are 1"):
        train(two_levels[1], (LEVELS[0],), options())
