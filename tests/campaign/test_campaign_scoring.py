"""Cards over all targets: a published set as its own reference, then planted errors."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from dftbparam.campaign.scoring import (
    SCAN,
    TEMPERATURE,
    TRAINING_SCAN,
    available_targets,
    choose_targets,
    crystals_of,
    elements_of,
    score_tables,
)
from dftbparam.campaign.target_scoring import compute_bands, score_frames, valence_electrons
from dftbparam.engine.base import Result
from dftbparam.engine.factory import make_engine
from dftbparam.errors import InputError, ParameterError, ReferenceDataError, ScfNotConverged
from dftbparam.reference import BandReference, CrystalReference, load_dataset, load_frames, prototype
from dftbparam.score import ReportCard
from dftbparam.skf import read_set
from tests.campaign.support.own_references import own_bands, own_crystal, published, silicon_carbide

ENGINE = make_engine("embedded")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Data set, frames and tables of silicon, carbon and silicon carbide."""
    folder, tables = silicon_carbide(tmp_path_factory.mktemp("own"))
    return load_dataset(folder), load_frames(folder), tables


def changed(data, name, **update):
    """A data set with one crystal, found by compound and prototype, changed."""
    crystals = tuple(c.model_copy(update=update) if f"{c.compound} {c.prototype}" == name else c for c in data.crystals)
    return data.model_copy(update={"crystals": crystals})


def test_an_element_as_its_own_reference_has_no_error(own):
    data, frames, tables = own
    card = score_tables(tables, "Si", data, ENGINE, frames=frames)
    assert (card.sound, card.right_ground_state, card.missing) == (True, True, {})
    assert card.mean_abs_dV == pytest.approx(0.0, abs=1e-3)
    assert card.mean_abs_phase_error == pytest.approx(0.0, abs=1e-5)
    assert (card.mean_band_error, card.mean_abs_gap_error) == pytest.approx((0.0, 0.0), abs=1e-6)
    (bands,) = card.bands
    assert (bands.crystal, bands.n_skipped, bands.n_missing) == ("diamond", 0, 0)
    assert card.gaps[0].gap == pytest.approx(card.gaps[0].reference_gap, abs=1e-6)
    assert card.gaps[0].gap > 0.5
    assert card.forces.rms == pytest.approx(0.0, abs=1e-4)
    assert card.forces.reference_rms > 0.5
    assert card.forces.correlation == pytest.approx(1.0)
    assert (card.forces.n_frames, card.forces.n_components, card.forces.n_failed) == (3, 36, 0)
    assert card.stress.rms_GPa == pytest.approx(0.0, abs=1e-3)
    assert card.stress.reference_rms > 0.01
    assert card.formation == ()
    assert ReportCard.model_validate_json(card.model_dump_json()) == card


def test_a_chain_is_scored_by_its_bond(own):
    """Its volume is the cube of the bond: 3 % too long is 9.3 % in volume; images stay where they are."""
    data, _, tables = own
    chain = next(c for c in data.crystals_of("Si") if c.prototype == "chain")
    short = changed(data, "Si chain", volume=chain.volume / 1.03**3)
    found = score_tables(tables, "Si", short, ENGINE, targets=["eos"]).crystal("chain")
    assert found.dimensions == 1
    assert found.dD == pytest.approx(3.0, abs=0.02)
    assert found.dV == pytest.approx(100.0 * (1.03**3 - 1.0), abs=0.05)
    assert found.sound


def test_what_a_scan_means_for_a_bond():
    """The window of the card is 0.84 to 1.17 of a bond, that of a fit goes down to 0.77; the vacuum does not shrink."""
    chain = CrystalReference(
        symbol="Si", prototype="chain", volume=10.0, bulk_modulus=0.5, bulk_modulus_derivative=4.0, energy=0.0
    )
    lengths = [chain.atoms(10.0 * x).cell.lengths() for x in (TRAINING_SCAN[0], SCAN[0], 1.0, SCAN[-1])]
    bonds = np.array(lengths)[:, 2] / lengths[2][2]
    assert bonds == pytest.approx([0.766, 0.843, 1.0, 1.170], abs=1e-3)
    assert np.ptp(np.array(lengths)[:, :2]) == pytest.approx(0.0, abs=1e-12)


def test_dimers_of_a_published_set():
    """A stretched copy of Si2 of siband: bond, energy against the crystal, soundness window."""
    tables = read_set(published("pbc/pbc-0-3"), ["Si"])
    diamond, dimer = own_crystal(tables, "Si", "diamond", 2.35), own_crystal(tables, "Si", "dimer", 2.25)
    assert prototype("dimer").neighbour_distance(dimer.volume) == pytest.approx(2.2555, abs=1e-3)
    data = load_dataset().model_copy(update={"crystals": (diamond, dimer)})
    card = score_tables(tables, "Si", data, ENGINE)
    found = card.crystal("dimer")
    assert (found.dimensions, found.dD) == (0, pytest.approx(0.0, abs=1e-3))
    assert found.phase_energy == pytest.approx(dimer.energy - diamond.energy, abs=0.003)
    # pbc's Si2 has a second minimum at 1.85 Angstrom, which the window from 1.90 Angstrom on sees.
    assert not found.sound
    assert found.deeper_well.relative_volume == pytest.approx(0.6)


@pytest.mark.parametrize("symbol", ["Si-C", "C-Si"])
def test_a_binary_in_either_order(own, symbol):
    data, frames, tables = own
    card = score_tables(tables, symbol, data, ENGINE, frames=frames)
    assert (card.symbol, card.stable) == (symbol, "Si-C zincblende")
    assert [c.composition for c in card.crystals] == ["SiC", "SiC"]
    assert card.mean_abs_dV == pytest.approx(0.0, abs=1e-3)
    assert card.mean_abs_formation_error == pytest.approx(0.0, abs=1e-5)
    assert [f.crystal for f in card.formation] == ["Si-C zincblende", "Si-C wurtzite"]
    assert [f.composition for f in card.formation] == ["SiC", "SiC"]
    assert card.bands[0].crystal == card.gaps[0].crystal == "Si-C zincblende"
    assert card.mean_band_error == pytest.approx(0.0, abs=1e-6)
    assert card.forces is card.stress is None


def test_planted_formation_energies(own):
    """Silicon 0.3 eV/atom lower in the reference: SiC's formation energy there is 0.15 eV/atom higher."""
    data, _, tables = own
    si = data.stable("Si")
    card = score_tables(
        tables, "Si-C", changed(data, "Si diamond", energy=si.energy - 0.3), ENGINE, targets=["formation"]
    )
    assert [f.error for f in card.formation] == pytest.approx([-0.15, -0.15], abs=1e-5)
    assert card.crystals  # formation energies bring E(V) with them
    assert card.bands == ()


def test_formation_energies_without_an_element_say_so(own):
    data, _, tables = own
    without = data.model_copy(update={"crystals": tuple(c for c in data.crystals if c.compound != "C")})
    card = score_tables(tables, "Si-C", without, ENGINE, targets=["formation"])
    assert card.formation == ()
    assert card.mean_abs_formation_error is None
    assert card.missing["formation Si-C zincblende"] == "Si-C zincblende: no crystal of C to form it from"


def test_planted_bands_and_semicore(own):
    """Five deep bands more in the reference, empty bands 0.5 eV higher: the gap misses by as much."""
    data, _, tables = own
    deep = own_bands(tables, data.stable("Si"), deep=5)
    levels = deep.array.copy()
    levels[:, 9:] += 0.5
    planted = BandReference.model_validate({**deep.model_dump(), "energies": levels.tolist()})
    card = score_tables(tables, "Si", data.model_copy(update={"bands": (planted,)}), ENGINE, targets=["bands", "gaps"])
    assert card.bands[0].n_skipped == 5
    assert card.gaps[0].error == pytest.approx(-0.5, abs=1e-6)
    assert 0.1 < card.mean_band_error < 0.5
    assert card.crystals == ()
    assert card.sound is card.right_ground_state is None


def test_bands_that_cannot_be_matched_are_named(own):
    data, _, tables = own
    odd = data.bands[0].model_copy(update={"electrons": 7.0})
    card = score_tables(tables, "Si", data.model_copy(update={"bands": (odd,)}), ENGINE, targets=["bands", "gaps"])
    assert card.bands == card.gaps == ()
    assert "even whole number" in card.missing["bands diamond"]
    assert "gaps diamond" in card.missing


def test_bands_of_a_metal_and_of_f_shells():
    """Any number of shells: copper with s, p, d of a published set; a set with f shells of our own."""
    from dftbparam.slako.build import build_tables
    from dftbparam.space import load_parameter_set

    tables = build_tables(load_parameter_set("ptbp"), ["Cu"])
    fcc = load_dataset().crystals_of("Cu")[0].model_copy(update={"prototype": "fcc"})
    reference = own_bands(tables, fcc, deep=4)
    (found,), failures = compute_bands(tables, [reference], ENGINE)
    assert failures == {}
    assert (found.score.n_bands, found.score.n_skipped, found.score.reference_gap) == (9, 4, 0.0)
    assert found.score.rms == pytest.approx(0.0, abs=1e-9)
    assert found.energies.shape == (20, 9)


def test_forces_and_stress_of_planted_sizes(own):
    """The reference's forces are half of the tables': errors as large as the reference, correlation 1."""
    data, frames, tables = own
    half = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(copy, forces=0.5 * atoms.get_forces(), stress=0.5 * atoms.get_stress())
        half.append(copy)
    card = score_tables(tables, "Si", data, ENGINE, targets=["forces", "stress"], frames=half)
    assert card.forces.rms == pytest.approx(card.forces.reference_rms, rel=1e-4)
    assert card.forces.correlation == pytest.approx(1.0)
    assert card.stress.rms == pytest.approx(card.stress.reference_rms, rel=1e-4)


def test_structures_have_what_they_have(own):
    """Forces alone, a layer that engines refuse, nothing at all, other elements: each is compared in what it has."""
    data, frames, tables = own
    alone = frames[0].copy()
    alone.calc = SinglePointCalculator(alone, forces=frames[0].get_forces())
    flat = frames[1].copy()
    flat.calc = SinglePointCalculator(flat, forces=frames[1].get_forces(), stress=frames[1].get_stress())
    flat.pbc = (True, True, False)
    foreign = Atoms("Ge2", positions=[(0, 0, 0), (0, 0, 2.4)])
    foreign.calc = SinglePointCalculator(foreign, forces=np.zeros((2, 3)))
    given = [alone, flat, frames[2], frames[2].copy(), foreign]
    assert available_targets("Si", data, given) == ("eos", "bands", "gaps", "forces", "stress")
    card = score_tables(tables, "Si", data, ENGINE, targets=["forces", "stress"], frames=given)
    assert (card.forces.n_frames, card.forces.n_failed) == (2, 1)
    assert (card.stress.n_frames, card.stress.n_failed) == (1, 0)  # a layer has no stress to compare
    assert list(card.missing) == ["forces"]
    assert "structure 1: StructureError: pbc = [True, True, False]" in card.missing["forces"]


class Failing:
    """An engine whose second structure does not converge."""

    name = "failing"

    def versions(self):
        return {}

    def compute(self, tables, structures, settings):
        results = ENGINE.compute(tables, structures, settings)
        return [
            ScfNotConverged("no convergence", iterations=1, residual=1.0) if i == 1 else one
            for i, one in enumerate(results)
        ]


def test_a_structure_that_fails_is_counted(own):
    _, frames, tables = own
    forces, stress, missing = score_frames(tables, frames, Failing(), kpt_density=2.0, temperature=TEMPERATURE)
    assert (forces.n_frames, forces.n_failed, stress.n_failed) == (2, 1, 1)
    assert missing["forces"] == "1 of 3 structures failed; structure 1: ScfNotConverged: no convergence"


def test_numbers_that_are_not_finite_are_refused(own):
    _, frames, tables = own
    broken = frames[0].copy()
    broken.calc = SinglePointCalculator(broken, forces=np.full((len(broken), 3), np.nan))
    with pytest.raises(ReferenceDataError, match="structure 0 of Si4: forces are not finite"):
        score_frames(tables, [broken], ENGINE, kpt_density=2.0, temperature=TEMPERATURE)


def test_targets_are_checked_against_the_set(own):
    data, frames, _ = own
    assert choose_targets("Si", data, None, frames) == ("eos", "bands", "gaps", "forces", "stress")
    assert choose_targets("Si", data, ["gaps", "eos"]) == ("eos", "gaps")
    assert choose_targets("Si-C", data, ["formation"]) == ("eos", "formation")
    assert choose_targets("C", data, None, frames) == ("eos",)
    with pytest.raises(ParameterError, match="unknown target 'band'; targets are eos, bands"):
        choose_targets("Si", data, ["band"])
    with pytest.raises(ParameterError, match="each once"):
        choose_targets("Si", data, ["eos", "eos"])
    with pytest.raises(ParameterError, match="at least one"):
        choose_targets("Si", data, [])
    with pytest.raises(ReferenceDataError, match="has nothing of Si for the target forces; it has: eos, bands, gaps"):
        choose_targets("Si", data, ["forces"])
    with pytest.raises(ReferenceDataError, match="no element 'Ge'; it has: Si C Si-C"):
        choose_targets("Ge", data, None)
    with pytest.raises(ReferenceDataError, match="no binary 'Ge-C'"):
        choose_targets("Ge-C", data, None)


@pytest.mark.parametrize("symbol", ["", "Si-", "-C", "Si-Si", "Si-C-O"])
def test_names_of_compounds(symbol):
    with pytest.raises(ParameterError, match="neither an element, Si, nor a binary, Mg-O"):
        elements_of(symbol)


def test_tables_that_lack_an_element(own):
    data, _, tables = own
    silicon = read_set(published("pbc/pbc-0-3"), ["Si"])
    with pytest.raises(InputError, match="no element C; they have: Si"):
        score_tables(silicon, "Si-C", data, ENGINE)
    with pytest.raises(InputError, match="no occupations of C"):
        valence_electrons(silicon, Atoms("SiC"))
    assert valence_electrons(tables, Atoms("SiC2")) == 12.0
    assert crystals_of("Ge", data) == ()


def test_a_set_without_targets_scores_as_before(own):
    """What the default set has is E(V) alone: no section, nothing missing."""
    card = score_tables(read_set(published("pbc/pbc-0-3"), ["Si"]), "Si", load_dataset(), ENGINE)
    assert len(card.crystals) == 4
    assert card.missing == {}
    assert card.bands == card.gaps == card.formation == ()
    assert card.forces is card.stress is None


def test_an_engine_without_bands_is_named(own):
    """A result that lacks what was asked for is no reason to fail the others."""
    data, _, tables = own

    class Blind(Failing):
        name = "blind"

        def compute(self, tables, structures, settings):
            return [Result(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(len(s))) for s in structures]

    found, failures = compute_bands(tables, data.bands, Blind())
    assert found == []
    assert failures["diamond"] == "InputError: the engine 'blind' gave no bands"
