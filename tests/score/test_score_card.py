import numpy as np
import pytest

from dftbparam.errors import InputError, NoMinimum, ScfNotConverged
from dftbparam.reference import EosFit, birch_murnaghan, fit_birch_murnaghan, load_dataset
from dftbparam.score import METRICS, ReportCard, build_card, compare, summary

SILICON = load_dataset().crystals_of("Si")
RELATIVE = np.linspace(0.6, 1.6, 41)


def computed(references=SILICON, volume=1.0, bulk=1.0, phase=0.0, zero=-40.0):
    """Scans and fits of a model that misses every reference by known amounts; phases but diamond by ``phase`` eV."""
    scans, fits = {}, {}
    for r in references:
        energy = zero + r.energy + (phase if r.prototype != "diamond" else 0.0)
        fit = EosFit(v0=volume * r.volume, e0=energy, b0=bulk * r.bulk_modulus, b0_prime=4.0)
        volumes = r.volume * RELATIVE
        scans[r.prototype] = (volumes, birch_murnaghan(volumes, fit.e0, fit.v0, fit.b0, fit.b0_prime))
        fits[r.prototype] = fit
    return scans, fits


def card(**options):
    return build_card("Si", SILICON, *computed(**options))


def test_a_perfect_model():
    scans = {r.prototype: (r.volume * RELATIVE, r.energies(r.volume * RELATIVE) - 40.0) for r in SILICON}
    near = {r.prototype: r.volume * np.linspace(0.94, 1.06, 7) for r in SILICON}
    fits = {r.prototype: fit_birch_murnaghan(near[r.prototype], r.energies(near[r.prototype])) for r in SILICON}
    fits = {name: fit.model_copy(update={"e0": fit.e0 - 40.0}) for name, fit in fits.items()}
    found = build_card("Si", SILICON, scans, fits, provenance={"seed": 1})
    assert (found.stable, found.sound, found.right_ground_state, found.n_without_minimum) == ("diamond", True, True, 0)
    for name in METRICS:
        assert getattr(found, name) == pytest.approx(0.0, abs=1e-5)
    assert found.mean_delta == pytest.approx(0.0, abs=1e-5)
    assert found.provenance == {"seed": 1}
    assert all(crystal.status == "ok" for crystal in found.crystals)


def test_known_errors_are_found():
    found = card(volume=1.05, bulk=0.6, phase=-0.2)
    assert [found.mean_abs_dV, found.max_abs_dV] == pytest.approx([5.0, 5.0])
    assert [found.mean_abs_dB, found.max_abs_dB] == pytest.approx([40.0, 40.0])
    assert found.mean_abs_phase_error == pytest.approx(0.2)
    assert found.max_abs_phase_error == pytest.approx(0.2)
    fcc = found.crystal("fcc")
    assert fcc.dV == pytest.approx(5.0)
    assert fcc.dB == pytest.approx(-40.0)
    assert fcc.reference_phase_energy == pytest.approx(0.530051)
    assert fcc.phase_energy == pytest.approx(0.330051)
    assert fcc.phase_energy_error == pytest.approx(-0.2)
    assert fcc.energy == pytest.approx(-40.2)
    assert fcc.delta > 0.0
    assert found.crystal("diamond").phase_energy_error == 0.0
    assert found.right_ground_state
    assert not card(phase=-0.6).right_ground_state


def test_crystal_without_a_minimum_is_counted_not_averaged():
    scans, fits = computed(volume=1.02)
    fits["sc"] = NoMinimum("the curve falls throughout")
    found = build_card("Si", SILICON, scans, fits)
    assert found.n_without_minimum == 1
    assert not found.sound
    assert found.mean_abs_dV == pytest.approx(2.0)
    assert found.right_ground_state
    sc = found.crystal("sc")
    assert not sc.has_minimum
    assert sc.volume is sc.dV is sc.phase_energy_error is None
    assert sc.status == "NoMinimum: the curve falls throughout"


def test_stable_crystal_without_a_minimum():
    scans, fits = computed()
    fits["diamond"] = ScfNotConverged("SCC did not converge", iterations=200, residual=1.0)
    found = build_card("Si", SILICON, scans, fits)
    assert found.mean_abs_phase_error is found.max_abs_phase_error is None
    assert not found.right_ground_state
    assert found.crystal("fcc").phase_energy is None
    assert found.mean_abs_dV == pytest.approx(0.0)


def test_nothing_has_a_minimum():
    scans, _ = computed()
    found = build_card("Si", SILICON, scans, {r.prototype: NoMinimum("none") for r in SILICON})
    assert found.n_without_minimum == 4
    assert found.mean_abs_dV is found.mean_abs_dB is found.mean_delta is None
    assert not found.right_ground_state


def test_a_deeper_well_makes_the_card_unsound():
    scans, fits = computed()
    scans["fcc"][1][0] = -99.0
    found = build_card("Si", SILICON, scans, fits)
    assert not found.sound
    assert found.crystal("fcc").deeper_well.relative_volume == pytest.approx(0.6)
    assert "deeper by" in found.crystal("fcc").status
    assert found.crystal("bcc").sound
    assert found.n_without_minimum == 0


def test_stable_is_among_those_scored():
    some = [r for r in SILICON if r.prototype != "diamond"]
    scans, fits = computed(some)
    found = build_card("Si", some, scans, fits)
    assert found.stable == "sc"
    assert found.crystal("fcc").reference_phase_energy == pytest.approx(0.184635)


def test_bad_input():
    scans, fits = computed()
    with pytest.raises(InputError, match="at least one"):
        build_card("Si", [], scans, fits)
    with pytest.raises(InputError, match="references of Si"):
        build_card("C", SILICON, scans, fits)
    with pytest.raises(InputError, match="twice: sc"):
        build_card("Si", [*SILICON, SILICON[0]], scans, fits)
    with pytest.raises(InputError, match="no fit for sc"):
        build_card("Si", SILICON, scans, {k: v for k, v in fits.items() if k != "sc"})
    with pytest.raises(InputError, match="no scan for sc"):
        build_card("Si", SILICON, {k: v for k, v in scans.items() if k != "sc"}, fits)
    with pytest.raises(InputError, match="hcp"):
        card().crystal("hcp")


def test_card_survives_json():
    scans, fits = computed(volume=0.9)
    fits["sc"] = NoMinimum("none")
    scans["fcc"][1][0] = -99.0
    found = build_card("Si", SILICON, scans, fits)
    assert ReportCard.model_validate_json(found.model_dump_json()) == found


def test_compare():
    worse, better = card(volume=1.1, bulk=1.5, phase=0.3), card(volume=1.02, bulk=1.1, phase=-0.1)
    (row,) = compare([worse], [better])
    assert row.b_beats_a
    (row,) = compare([better], [worse])
    assert not row.b_beats_a
    assert row.better["sound"]
    (row,) = compare([better], [better])
    assert not row.b_beats_a
    (row,) = compare([worse], [card(volume=1.02, bulk=1.6, phase=0.1)])
    assert row.better == {
        "mean_abs_dV": True,
        "mean_abs_dB": False,
        "mean_abs_phase_error": True,
        "sound": True,
        "minima": True,
    }


def test_losing_a_crystal_never_wins():
    scans, fits = computed(volume=1.01, bulk=1.01, phase=0.01)
    fits["sc"] = NoMinimum("none")
    holey = build_card("Si", SILICON, scans, fits)
    full = card(volume=1.1, bulk=1.5, phase=0.3)
    (row,) = compare([full], [holey])
    assert not row.better["minima"]
    assert not row.b_beats_a
    (row,) = compare([holey], [card(volume=1.005, bulk=1.005, phase=0.005)])
    assert row.b_beats_a


def test_compare_pairs_by_element():
    silicon = card()
    carbon = silicon.model_copy(update={"symbol": "C"})
    rows = compare([silicon], [carbon, silicon])
    assert [row.symbol for row in rows] == ["Si", "C"]
    assert rows[1].a is None
    assert not rows[1].b_beats_a
    with pytest.raises(InputError, match="two report cards of Si"):
        compare([silicon, silicon], [])
    some = [r for r in SILICON if r.prototype != "sc"]
    with pytest.raises(InputError, match="different crystals"):
        compare([silicon], [build_card("Si", some, *computed(some))])


def test_summary():
    good = card(volume=1.02)
    scans, fits = computed(volume=1.1)
    fits["diamond"] = NoMinimum("none")
    bad = build_card("Si", SILICON, scans, fits).model_copy(update={"symbol": "C"})
    found = summary([good, bad])
    assert (found.n_elements, found.n_crystals, found.n_without_minimum) == (2, 8, 1)
    assert (found.n_sound, found.n_right_ground_state, found.unsound) == (1, 1, ("C",))
    assert found.mean["mean_abs_dV"] == pytest.approx(6.0)
    assert found.median["mean_abs_dV"] == pytest.approx(6.0)
    assert found.n_with["mean_abs_phase_error"] == 1
    assert found.mean["mean_abs_phase_error"] == pytest.approx(0.0)
    assert summary([]).mean["mean_abs_dV"] is None
