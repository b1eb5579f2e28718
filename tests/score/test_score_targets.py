"""Forces, stress, formation energies; cards with sections, and old cards without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dftbparam.errors import InputError, NoMinimum
from dftbparam.reference import CrystalReference, EosFit, birch_murnaghan
from dftbparam.score import (
    BandScore,
    FormationScore,
    GapScore,
    ReportCard,
    Sections,
    build_card,
    compare,
    compare_forces,
    compare_stress,
    composition,
    formation_score,
    stable_of_composition,
    summary,
)
from dftbparam.score.phases import formation_coefficients
from dftbparam.units import GPA_PER_EV_PER_A3

RNG = np.random.default_rng(3)
FORCES = [RNG.normal(size=(n, 3)) for n in (2, 5, 8)]
STRESS = [0.01 * (s + s.T) for s in RNG.normal(size=(4, 3, 3))]
RELATIVE = np.linspace(0.6, 1.6, 41)


def crystal(prototype, energy, symbol="Mg", partner="O", volume=10.0):
    return CrystalReference(
        symbol=symbol, partner=partner, prototype=prototype, volume=volume, bulk_modulus=1.0,
        bulk_modulus_derivative=4.0, energy=energy,
    )  # fmt: skip


MGO = [crystal("rocksalt", -10.0), crystal("cscl", -9.5), crystal("fluorite", -8.0), crystal("rutile", -8.3)]


def test_forces_of_planted_errors():
    same = compare_forces(FORCES, FORCES)
    assert (same.rms, same.max_abs, same.correlation) == pytest.approx((0.0, 0.0, 1.0))
    assert (same.n_frames, same.n_components) == (3, 45)
    flat = np.concatenate([f.ravel() for f in FORCES])
    assert same.reference_rms == pytest.approx(np.sqrt((flat**2).mean()))
    shifted = compare_forces(FORCES, [f + 0.2 for f in FORCES], n_failed=2)
    assert (shifted.rms, shifted.mean_abs, shifted.max_abs, shifted.n_failed) == pytest.approx((0.2, 0.2, 0.2, 2))
    assert shifted.correlation == pytest.approx(1.0)
    assert compare_forces(FORCES, [-f for f in FORCES]).correlation == pytest.approx(-1.0)
    assert compare_forces(FORCES, [0.0 * f for f in FORCES]).correlation is None


def test_stress_of_planted_errors():
    assert compare_stress(STRESS, STRESS).rms == 0.0
    pressed = compare_stress(STRESS, [s - 0.03 * np.eye(3) for s in STRESS])
    assert pressed.mean_pressure_error == pytest.approx(0.03)
    assert pressed.deviatoric_rms == pytest.approx(0.0, abs=1e-12)
    assert pressed.rms == pytest.approx(0.03 / np.sqrt(3.0))
    assert pressed.rms_GPa == pytest.approx(pressed.rms * GPA_PER_EV_PER_A3)
    sheared = compare_stress(STRESS, [s + 0.03 * np.diag([1.0, -1.0, 0.0]) for s in STRESS])
    assert sheared.mean_pressure_error == pytest.approx(0.0, abs=1e-12)
    assert sheared.deviatoric_rms == pytest.approx(sheared.rms)


def test_nothing_to_compare_is_no_score():
    assert compare_forces([], []) is None
    assert compare_stress([], []) is None


@pytest.mark.parametrize(
    ("reference", "computed", "message"),
    [
        (FORCES, FORCES[:2], "3 structures in the reference and of 2"),
        (FORCES[:1], FORCES[1:2], r"shapes \(2, 3\) and \(5, 3\)"),
        ([np.zeros(3)], [np.zeros(3)], r"shapes \(3,\)"),
        ([np.zeros((2, 3))], [np.full((2, 3), np.inf)], "structure 0 are not finite"),
    ],
)
def test_bad_forces(reference, computed, message):
    with pytest.raises(InputError, match=message):
        compare_forces(reference, computed)


def test_bad_stress():
    with pytest.raises(InputError, match=r"shape \(2, 3\); right would be \(3, 3\)"):
        compare_stress([np.zeros((2, 3))], [np.zeros((2, 3))])


def test_compositions():
    assert [composition(c) for c in MGO] == ["MgO", "MgO", "MgO2", "MgO2"]
    assert composition(crystal("cuprite", 0.0, "Cu", "O")) == "Cu2O"
    assert composition(crystal("hcp", 0.0, "Si", None, 14.0)) == "Si"
    found = stable_of_composition(MGO)
    assert [found[c.name].prototype for c in MGO] == ["rocksalt", "rocksalt", "rutile", "rutile"]
    turned = crystal("cscl", -11.0, "O", "Mg")  # the same atoms, written the other way
    assert stable_of_composition([*MGO, turned])["Mg-O rocksalt"] is turned


def test_formation_energy_by_hand():
    """Rutile MgO2: E_f = E - (E_Mg + 2 E_O)/3."""
    stable = {"Mg": crystal("hcp", -1.5, "Mg", None, 22.0), "O": crystal("dimer", -4.0, "O", None, 1.8)}
    ours = {"Mg-O rutile": -108.0, "Mg": -101.2, "O": -104.1}
    found = formation_score(MGO[3], stable, ours)
    assert found.reference_formation_energy == pytest.approx(-8.3 + (1.5 + 2.0 * 4.0) / 3.0)
    assert found.formation_energy == pytest.approx(-108.0 + (101.2 + 2.0 * 104.1) / 3.0)
    assert found.error == pytest.approx(found.formation_energy - found.reference_formation_energy)
    assert (found.crystal, found.composition) == ("Mg-O rutile", "MgO2")
    # Another zero of each element's energy changes nothing.
    moved = {"Mg": stable["Mg"].model_copy(update={"energy": -1.5 + 7.0}), "O": stable["O"]}
    shifted = MGO[3].model_copy(update={"energy": -8.3 + 7.0 / 3.0})
    assert formation_score(shifted, moved, ours).reference_formation_energy == pytest.approx(
        found.reference_formation_energy
    )


def test_what_a_formation_energy_is_made_of():
    assert formation_coefficients(MGO[0]) == {"Mg-O rocksalt": 1.0, "Mg": -0.5, "O": -0.5}
    rutile = formation_coefficients(MGO[3])
    assert rutile == {"Mg-O rutile": 1.0, "Mg": pytest.approx(-1 / 3), "O": pytest.approx(-2 / 3)}
    assert sum(rutile.values()) == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(InputError, match="Mg hcp is no compound: it has no formation energy"):
        formation_coefficients(crystal("hcp", -1.5, "Mg", None, 22.0))


def test_formation_energies_that_cannot_be():
    stable = {"Mg": crystal("hcp", -1.5, "Mg", None, 22.0)}
    with pytest.raises(InputError, match="no crystal of O"):
        formation_score(MGO[0], stable, {})
    with pytest.raises(InputError, match="no compound"):
        formation_score(stable["Mg"], stable, {})
    with pytest.raises(InputError, match="no energy of Mg-O rocksalt, Mg"):
        formation_score(MGO[0], {**stable, "O": stable["Mg"]}, {"O": 1.0})


def curves(references, shift=None):
    scans, fits = {}, {}
    for r in references:
        e0 = r.energy - 40.0 + (shift or {}).get(r.name, 0.0)
        fits[r.name] = EosFit(v0=1.02**3 * r.volume, e0=e0, b0=r.bulk_modulus, b0_prime=4.0)
        volumes = r.volume * RELATIVE
        scans[r.name] = (volumes, birch_murnaghan(volumes, e0, fits[r.name].v0, r.bulk_modulus, 4.0))
    return scans, fits


def test_a_card_of_several_compositions():
    """Phase energies count within a composition; the stable crystal of each is left out of their mean."""
    card = build_card("Mg-O", MGO, *curves(MGO, {"Mg-O cscl": 0.1, "Mg-O fluorite": -0.5}))
    assert card.stable == "Mg-O rocksalt"
    assert [c.reference_phase_energy for c in card.crystals] == pytest.approx([0.0, 0.5, 0.3, 0.0])
    assert [c.phase_energy_error for c in card.crystals] == pytest.approx([0.0, 0.1, -0.5, 0.0])
    assert card.mean_abs_phase_error == pytest.approx(0.3)
    assert card.right_ground_state is False  # fluorite fell below rutile
    assert build_card("Mg-O", MGO, *curves(MGO)).right_ground_state is True
    # One crystal alone has nothing to be lower than.
    assert build_card("Mg-O", MGO[:1], *curves(MGO[:1])).right_ground_state is None
    assert card.crystal("Mg-O cscl").dD == pytest.approx(2.0)


def test_what_a_card_may_hold():
    scans, fits = curves(MGO)
    assert build_card("O", MGO, scans, fits).symbol == "O"
    with pytest.raises(InputError, match="the card of Ca-O was given references of Mg-O"):
        build_card("Ca-O", MGO, scans, fits)
    with pytest.raises(InputError, match="at least one"):
        build_card("Mg-O", [], {}, {})


def band(name="diamond", rms=0.3):
    return BandScore(
        crystal=name, volume=20.0, rms_near=rms, rms=rms, mean_abs_near=rms, max_abs_near=rms, per_band=(rms,),
        mean=0.0, shift=0.0, gap=1.0, reference_gap=0.6, gap_error=0.4, n_bands=1, n_points=5, n_near=5, n_missing=0,
        n_skipped=0,
    )  # fmt: skip


def sections(rms=0.3, gap=0.4, formation=0.05, force=0.2, missing=None):
    return Sections(
        bands=(band(rms=rms), band("fcc", 2.0 * rms)),
        gaps=(GapScore(crystal="diamond", gap=0.6 + gap, reference_gap=0.6, error=gap),),
        formation=(
            FormationScore(
                crystal="Mg-O rocksalt", composition="MgO", formation_energy=-2.9 + formation,
                reference_formation_energy=-2.9, error=formation,
            ),
        ),
        forces=compare_forces(FORCES, [f + force for f in FORCES]),
        stress=compare_stress(STRESS, [s - 0.03 * np.eye(3) for s in STRESS]),
        missing=missing or {},
    )  # fmt: skip


def card(given=None, symbol="Mg-O"):
    return build_card("Mg-O", MGO, *curves(MGO), sections=given).model_copy(update={"symbol": symbol})


def test_the_means_of_sections():
    found = card(sections(gap=-0.4))
    assert found.mean_band_error == pytest.approx(0.45)
    assert found.mean_abs_gap_error == pytest.approx(0.4)
    assert found.mean_abs_formation_error == pytest.approx(0.05)
    assert found.figure("forces.rms") == pytest.approx(0.2)
    assert found.figure("stress.rms_GPa") == found.stress.rms_GPa
    assert card().figure("forces.rms") is None
    assert found.scored("bands") == {"diamond", "fcc"}
    assert found.scored("forces") == {"forces"}
    assert ReportCard.model_validate_json(found.model_dump_json()) == found


def test_a_card_of_sections_alone():
    found = build_card("Si", [], {}, {}, sections=sections())
    assert (found.stable, found.crystals, found.n_without_minimum) == ("", (), 0)
    assert found.sound is found.right_ground_state is found.mean_abs_dV is None
    assert ReportCard.model_validate_json(found.model_dump_json()) == found


def test_cards_are_compared_by_what_both_were_asked_for():
    plain, worse, better = card(), card(sections()), card(sections(0.1, 0.1, -0.01, 0.05))
    (row,) = compare([worse], [better])
    assert {name: row.better[name] for name in ("mean_band_error", "mean_abs_gap_error", "forces.rms")} == {
        "mean_band_error": True, "mean_abs_gap_error": True, "forces.rms": True
    }  # fmt: skip
    assert row.better["mean_abs_formation_error"]
    assert not row.better["stress.rms"]
    (row,) = compare([plain], [better])
    assert "mean_band_error" not in row.better
    (row,) = compare([better], [plain])
    assert "forces.rms" not in row.better


def test_a_band_structure_that_failed_never_wins():
    full = card(sections())
    one = sections(0.01).model_copy(update={"bands": (band(rms=0.01),), "missing": {"bands fcc": "SCC"}})
    (row,) = compare([full], [card(one)])
    assert not row.better["mean_band_error"]
    none = sections().model_copy(update={"bands": (), "missing": {"bands fcc": "SCC", "bands diamond": "SCC"}})
    (row,) = compare([full], [card(none)])
    assert not row.better["mean_band_error"]
    (row,) = compare([card(none)], [full])
    assert row.better["mean_band_error"]


def test_summary_counts_who_has_what():
    found = summary([card(), card(sections(), "Ca-O"), card(sections(0.1), "Ba-O")])
    assert found.n_with["mean_abs_dV"] == 3
    assert found.n_with["mean_band_error"] == 2
    assert found.mean["mean_band_error"] == pytest.approx(0.3)
    assert found.median["forces.rms"] == pytest.approx(0.2)
    assert summary([build_card("Si", [], {}, {}, sections=sections())]).unsound == ()


def test_cards_of_emitted_sets_still_load():
    """Cards made before there were sections, as they lie in skf_out."""
    files = sorted((Path(__file__).parents[2] / "skf_out").glob("dftbparam-0.1/*/score.json"))
    assert files
    for file in files:
        for value in json.loads(file.read_text(encoding="utf-8"))["cards"].values():
            loaded = ReportCard.model_validate(value)
            assert loaded.bands == ()
            assert loaded.missing == {}
            assert loaded.crystals[0].dimensions == 3


def test_the_unstable_zero_of_one_composition_leaves_the_other():
    scans, fits = curves(MGO)
    fits["Mg-O rutile"] = NoMinimum("none")
    found = build_card("Mg-O", MGO, scans, fits)
    assert found.crystal("Mg-O cscl").phase_energy_error == pytest.approx(0.0)
    assert found.crystal("Mg-O fluorite").phase_energy is None
    assert found.right_ground_state is False
