import numpy as np
import pytest

from dftbparam.errors import InputError, NoMinimum
from dftbparam.reference import CrystalReference, EosFit, birch_murnaghan, load_dataset
from dftbparam.score import build_card, formation_score
from dftbparam.score.objective import BINARY_WEIGHTS, BandErrors, Objective, Targets, Weights, Zero

X = np.array([0.6, 0.7, 0.8, 0.88, 0.92, 0.96, 1.0, 1.04, 1.08, 1.12, 1.2, 1.4, 1.6])


@pytest.fixture(scope="module")
def crystals():
    return load_dataset().crystals_of("Si")


@pytest.fixture(scope="module")
def objective(crystals):
    return Objective(crystals, X)


def curves(crystals, objective, *, stretch=1.0, stiffen=1.0, shift=None):
    out = []
    for crystal, volumes in zip(crystals, objective.volumes, strict=True):
        changed = crystal.model_copy(
            update={"volume": crystal.volume * stretch, "bulk_modulus": crystal.bulk_modulus * stiffen}
        )
        out.append(changed.energies(volumes) + (shift or {}).get(crystal.prototype, 0.0))
    return np.array(out)


def test_reference_itself_is_zero(crystals, objective):
    energies = curves(crystals, objective)
    assert objective(energies) == pytest.approx(0.0, abs=1e-6)
    assert objective(energies - 137.0) == pytest.approx(0.0, abs=1e-6)  # the zero of energy is free


def test_planted_errors_are_found(crystals, objective):
    measures = objective.measure(curves(crystals, objective, stretch=1.05, stiffen=1.3, shift={"fcc": -0.2}))
    np.testing.assert_allclose(measures.dV, 5.0, atol=1e-4)
    np.testing.assert_allclose(measures.dB, 30.0, atol=1e-3)
    fcc = [c.prototype for c in crystals].index("fcc")
    expected = np.zeros(len(crystals))
    expected[fcc] = -0.2
    np.testing.assert_allclose(measures.dE, expected, atol=1e-5)
    assert not measures.unsound.any()
    mean_dE = 0.2 / 3
    assert objective.value(measures) == pytest.approx(np.sqrt(2.5**2 + 3.0**2 + (mean_dE / 0.05) ** 2), rel=1e-4)


def test_implosion_and_missing_minimum_cost(crystals, objective):
    energies = curves(crystals, objective)
    imploding = energies.copy()
    imploding[0, 0] = imploding[0, 6] - 1.0
    assert objective.measure(imploding).unsound[0] == pytest.approx(1.0 / 3.0 + 1.0, abs=1e-3)
    falling = energies.copy()
    falling[1] = np.linspace(0.0, 1.0, len(X))
    measures = objective.measure(falling)
    assert np.isnan(measures.dV[1])
    assert measures.unsound[1] == pytest.approx(5.0 / 3.0 + 1.0)
    assert 6.0 < objective(imploding) < objective(falling)


def test_energies_are_compared_within_a_composition():
    def crystal(prototype, volume, energy, partner="O"):
        return CrystalReference(
            symbol="Mg",
            partner=partner,
            prototype=prototype,
            volume=volume,
            bulk_modulus=1.0,
            bulk_modulus_derivative=4.0,
            energy=energy,
        )

    crystals = [
        crystal("rocksalt", 9.6, -6.0),
        crystal("zincblende", 12.0, -5.8),
        crystal("fluorite", 10.2, -3.0),
        crystal("fcc", 11.0, -1.0, partner=None),
    ]
    objective = Objective(crystals, X)
    measures = objective.measure(curves(crystals, objective, shift={"zincblende": 0.1, "fluorite": 7.0, "fcc": -3.0}))
    np.testing.assert_allclose(measures.dE, [0.0, 0.1, 0.0, 0.0], atol=1e-6)
    assert measures.compared.tolist() == [False, True, False, False]
    assert objective.value(measures) == pytest.approx(0.1 / BINARY_WEIGHTS.phase_energy, rel=1e-4)
    # Two kinds of crystals: each has its own means and denominators, and is not thinned out by the other's number.
    stretched = np.array([1.0, 1.0, 1.0, 1.04])
    changed = [
        crystal.model_copy(update={"volume": crystal.volume * by}).energies(volumes)
        for crystal, volumes, by in zip(crystals, objective.volumes, stretched, strict=True)
    ]
    assert objective(np.array(changed)) == pytest.approx(4.0 / Weights().volume, rel=1e-3)


def magnesium(prototype, energy, partner=None):
    return CrystalReference(
        symbol="Mg",
        partner=partner,
        prototype=prototype,
        volume=10.0,
        bulk_modulus=1.0,
        bulk_modulus_derivative=4.0,
        energy=energy,
    )


MIXED = (
    magnesium("fcc", 0.02),
    magnesium("bcc", 0.0),
    magnesium("rocksalt", -3.0, "O"),
    magnesium("fluorite", -2.0, "O"),
)


def test_formation_energies_are_those_of_the_definition():
    """Planted shifts of every minimum, against the sum written out by hand."""
    crystals = list(MIXED)
    objective = Objective(crystals, X, targets=Targets(formation=1.0), zeros={"O": Zero(energy=-5.0, reference=0.5)})
    shift = {"fcc": 7.0, "bcc": -0.3, "rocksalt": 0.4, "fluorite": -0.1}
    measures = objective.measure(curves(crystals, objective, shift=shift))
    oxygen = -5.0 - 0.5
    expected = [0.4 - 0.5 * (-0.3) - 0.5 * oxygen, -0.1 - (-0.3) / 3 - 2 / 3 * oxygen]
    np.testing.assert_allclose(measures.formation, expected, atol=1e-6)
    phases = np.mean([7.3])  # fcc above bcc; compositions of one crystal have none
    assert objective.value(measures) == pytest.approx(
        np.hypot(min(phases, 2.0) / Weights().phase_energy, np.mean(np.minimum(np.abs(expected), 2.0)) / 0.2), rel=1e-4
    )
    missing = curves(crystals, objective, shift=shift)
    missing[3] = np.linspace(0.0, 1.0, len(X))
    assert np.isnan(objective.measure(missing).formation).tolist() == [False, True]
    with pytest.raises(InputError, match="no energy of a crystal of O to form it from"):
        Objective(crystals, X, targets=Targets(formation=1.0))
    with pytest.raises(InputError, match="need the element's own crystals and binaries"):
        Objective(crystals[:2], X, targets=Targets(formation=1.0))


def card_of(shift, lost=()):
    """The report card of `MIXED` with every minimum shifted, eV/atom, and without the minima that are lost."""
    scans, fits = {}, {}
    for c in MIXED:
        e0 = c.energy + shift.get(c.prototype, 0.0)
        volumes = c.volume * np.linspace(0.6, 1.6, 41)
        scans[c.name] = (volumes, birch_murnaghan(volumes, e0, c.volume, c.bulk_modulus, 4.0))
        fits[c.name] = EosFit(v0=c.volume, e0=e0, b0=c.bulk_modulus, b0_prime=4.0)
        if c.prototype in lost:
            fits[c.name] = NoMinimum("none")
    return build_card("Mg", MIXED, scans, fits)


SHIFT = {"fcc": 0.1, "bcc": -0.3, "rocksalt": 0.4, "fluorite": -0.1}


def test_one_formula_of_formation_energies():
    """Objective, by scan and by card, and the score of a single crystal give the same errors."""
    zero = Zero(energy=-5.0, reference=0.5)
    objective = Objective(MIXED, X, targets=Targets(formation=1.0), zeros={"O": zero})
    oxygen = magnesium("dimer", zero.reference).model_copy(update={"symbol": "O"})
    ours = {c.name: c.energy + SHIFT[c.prototype] for c in MIXED} | {"Mg": -0.3, "O": zero.energy}
    expected = [formation_score(c, {"Mg": MIXED[1], "O": oxygen}, ours).error for c in MIXED[2:]]
    scanned = objective.measure(curves(MIXED, objective, shift=SHIFT))
    np.testing.assert_allclose(scanned.formation, expected, atol=1e-6)
    assert objective.of_card(card_of(SHIFT)) == pytest.approx(objective.value(scanned), rel=1e-4)


def test_a_card_without_the_minimum_of_the_stable_crystal():
    """Every formation energy is lost with the zero, and so is the phase energy of the other crystal of its kind."""
    objective = Objective(MIXED, X, targets=Targets(formation=1.0), zeros={"O": Zero(-5.0, 0.5)})
    # Of two own crystals: dV 0 and 60/2 %, dB 0 and 400/2 %; of one dE: 2/2 eV; of both dF: 2/2 eV.
    elements = [15.0 / 2.0, 100.0 / 10.0, 1.0 / 0.05]
    expected = np.sqrt(np.sum(np.square([*elements, 1.0 / 0.2]))) + 6.0 * 5.0 / 3.0
    assert objective.of_card(card_of(SHIFT, ["bcc"])) == pytest.approx(expected, rel=1e-6)
    # The same without the target: that it is lost has its price.
    assert Objective(MIXED, X).of_card(card_of(SHIFT, ["bcc"])) == pytest.approx(
        np.sqrt(np.sum(np.square(elements))) + 10.0, rel=1e-6
    )
    # Another crystal takes its own formation energy along only, here half of the mean.
    fluorite = -0.1 - (-0.3) / 3 - 2 / 3 * (-5.0 - 0.5)
    lost = objective.of_card(card_of(SHIFT, ["rocksalt"]))
    formation = 0.5 * (1.0 + min(fluorite, 2.0)) / 0.2
    others = [0.4 / 0.05, 30.0 / 2 / BINARY_WEIGHTS.volume, 200.0 / 2 / BINARY_WEIGHTS.bulk_modulus]
    assert lost == pytest.approx(np.sqrt(np.sum(np.square([*others, formation]))) + 10.0, rel=1e-6)
    full = card_of(SHIFT)
    fewer = full.model_copy(update={"crystals": (full.crystals[0], *full.crystals[2:])})
    with pytest.raises(InputError, match="the card of Mg lacks bcc; it has: fcc, Mg-O rocksalt, Mg-O fluorite"):
        objective.of_card(fewer)


def test_targets_join_the_sum_of_squares(crystals):
    objective = Objective(crystals, X, targets=Targets(eos=0.5, bands=2.0, gaps=1.0))
    measures = objective.measure(curves(crystals, objective, stretch=1.04))
    errors = BandErrors(bands={"diamond": 0.3, "fcc": 0.9}, gaps={"diamond": -0.6})
    expected = np.sqrt((0.5 * 2.0) ** 2 + (2.0 * 0.6 / 0.3) ** 2 + (0.6 / 0.3) ** 2)
    assert objective.value(measures, 0.0, objective.electronic(errors)) == pytest.approx(expected, rel=1e-4)
    failed = BandErrors(bands={"diamond": np.nan}, gaps={"diamond": 50.0})
    assert objective.electronic(failed) == pytest.approx((2.0 * 3.0 / 0.3) ** 2 + (3.0 / 0.3) ** 2)
    # Nothing known is as bad as a failure; nothing aimed at costs nothing.
    assert objective.electronic(None) == pytest.approx(objective.electronic(failed))
    assert Objective(crystals, X).electronic(errors) == 0.0


def test_failed_points_are_not_vouched_for(crystals, objective):
    energies = curves(crystals, objective)
    energies[2, 0] = np.nan
    assert objective.measure(energies).unsound[2] > 0.0


@pytest.mark.parametrize("weights", [{"volume": 0.0}, {"phase_energy": -1.0}, {"unsound": float("inf")}])
def test_bad_weights(weights):
    with pytest.raises(InputError, match="must be positive"):
        Weights(**weights)


def test_bad_scans(crystals):
    with pytest.raises(InputError, match="increasing"):
        Objective(crystals, X[::-1])
    with pytest.raises(InputError, match="no reference"):
        Objective([], X)
    with pytest.raises(InputError, match="do not fit"):
        Objective(crystals, X)(np.zeros((2, 3)))
