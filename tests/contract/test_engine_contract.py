"""The conformance suite of engines: what `dftbparam.engine.base.Engine` promises, for every engine there is.

A new engine adds one entry to ``ENGINES`` and inherits every test.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftbparam.engine.base import Result, Settings
from dftbparam.errors import (
    DftbparamError,
    ElementError,
    EngineMissing,
    InputError,
    ParameterError,
    ScfNotConverged,
    StructureError,
)
from dftbparam.skf import read_set
from dftbparam.units import BOHR

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


def embedded():
    from dftbparam.engine.embedded import EmbeddedEngine

    return EmbeddedEngine()


def fake():
    from dftbparam.engine.fake import FakeEngine

    return FakeEngine()


def dftbplus():
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        return DftbPlusEngine(timeout=120.0)
    except EngineMissing as error:
        pytest.skip(str(error))


ENGINES = [embedded, fake, pytest.param(dftbplus, marks=pytest.mark.dftbplus)]


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param()


@pytest.fixture(scope="module")
def tables():
    return read_set(MODEL)


def crystal():
    return Atoms(
        "SiO",
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )


def molecule():
    return Atoms("OSiO", [[0, 0, -1.6], [0, 0.1, 0], [0, 0, 1.55]])


SETTINGS = Settings(kpts=(2, 2, 1), temperature=2000.0, scc_tolerance=1e-9)
EVERYTHING = replace(SETTINGS, forces=True, stress=True, eigenvalues=True)


def good(outcomes):
    for found in outcomes:
        assert isinstance(found, Result), found
    return outcomes


def test_has_a_name_and_versions(engine):
    assert engine.name
    versions = engine.versions()
    assert versions
    assert all(isinstance(k, str) and isinstance(v, str) and v for k, v in versions.items())


def test_one_entry_per_structure_in_order(engine, tables):
    structures = [crystal(), molecule(), bulk("Si", "fcc", a=3.9)]
    found = good(engine.compute(tables, structures, SETTINGS))
    assert [len(r.charges) for r in found] == [2, 3, 1]
    assert engine.compute(tables, [], SETTINGS) == []


def test_settings_may_differ_per_structure(engine, tables):
    hot = replace(SETTINGS, temperature=6000.0)
    cold, warm = good(engine.compute(tables, [crystal(), crystal()], [SETTINGS, hot]))
    assert warm.energy - warm.free_energy > cold.energy - cold.free_energy
    with pytest.raises(ParameterError):
        engine.compute(tables, [crystal()], [SETTINGS, hot])


def test_what_is_not_asked_for_is_none(engine, tables):
    found = good(engine.compute(tables, [crystal()], SETTINGS))[0]
    assert found.forces is None
    assert found.stress is None
    assert found.eigenvalues is None
    assert found.kpoints is None
    assert found.weights is None


def test_shapes_signs_and_sums(engine, tables):
    found = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    assert found.energy == pytest.approx(found.band_energy + found.scc_energy + found.repulsive_energy, abs=1e-9)
    assert found.free_energy <= found.extrapolated_energy <= found.energy
    assert found.forces.shape == (2, 3)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-6
    assert found.stress.shape == (3, 3)
    assert found.stress == pytest.approx(found.stress.T)
    assert found.charges.shape == (2,)
    assert found.charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert found.kpoints.shape == (len(found.weights), 3)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.eigenvalues.shape[0] == len(found.weights)
    assert (np.diff(found.eigenvalues, axis=1) >= 0.0).all()


def test_molecules_have_one_k_point_and_no_stress(engine, tables):
    found = good(engine.compute(tables, [molecule()], EVERYTHING))[0]
    assert found.stress is None
    assert found.forces.shape == (3, 3)
    assert not found.kpoints.any()
    assert found.weights == pytest.approx([1.0])


def test_net_charge(engine, tables):
    found = good(engine.compute(tables, [molecule()], replace(SETTINGS, charge=1.0)))[0]
    assert found.charges.sum() == pytest.approx(1.0, abs=1e-6)


def test_forces_and_stress_are_derivatives(engine, tables):
    atoms, h = crystal(), 1e-3
    moved = []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.positions[1, 2] += sign * h * BOHR
        moved.append(copy)
    for sign in (1, -1):
        copy = atoms.copy()
        strain = np.eye(3)
        strain[0, 0] += sign * h
        copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        moved.append(copy)
    energies = [r.free_energy for r in good(engine.compute(tables, moved, SETTINGS))]
    found = good(engine.compute(tables, [atoms], EVERYTHING))[0]
    volume = atoms.get_volume() / BOHR**3
    assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(found.forces[1, 2], abs=1e-5)
    assert (energies[2] - energies[3]) / (2 * h) / volume == pytest.approx(found.stress[0, 0], abs=1e-5)


def test_repulsion_can_be_left_out(engine, tables):
    whole, electronic = good(
        engine.compute(tables, [crystal(), crystal()], [SETTINGS, replace(SETTINGS, repulsion=False)])
    )
    assert electronic.repulsive_energy == 0.0
    assert electronic.energy == pytest.approx(whole.energy - whole.repulsive_energy, abs=1e-7)


def test_directory_and_memory_give_the_same(engine, tables):
    from_memory = good(engine.compute(tables, [crystal()], SETTINGS))[0]
    from_disk = good(engine.compute(MODEL, [crystal()], SETTINGS))[0]
    assert from_memory.energy == pytest.approx(from_disk.energy, abs=1e-9)


def test_repeats_itself_and_keeps_no_state(engine, tables):
    first = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    engine.compute(tables, [molecule(), Atoms("Xe")], SETTINGS)
    again = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    assert first.free_energy == again.free_energy
    assert np.array_equal(first.forces, again.forces)


def test_structures_are_not_modified(engine, tables):
    atoms = crystal()
    atoms.positions += [7.0, -9.0, 0.1]
    copy = atoms.copy()
    good(engine.compute(tables, [atoms], EVERYTHING))
    assert atoms == copy
    assert atoms.calc is None


def test_results_survive_pickling(engine, tables):
    found = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    copy = pickle.loads(pickle.dumps(found))
    assert copy.energy == found.energy
    assert np.array_equal(copy.forces, found.forces)


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (Atoms(), StructureError),
        (Atoms("O2", [[0, 0, 0], [0, 0, 0.1]]), StructureError),
        (Atoms("O", [[0, 0, np.nan]]), StructureError),
        (Atoms("Si", cell=[3, 3, 0], pbc=True), StructureError),
        (Atoms("Si", cell=[3, 3, 9], pbc=(True, True, False)), StructureError),
        (Atoms("Xe"), ElementError),
    ],
    ids=["empty", "too close", "NaN", "flat cell", "slab", "unknown element"],
)
def test_a_bad_structure_is_returned_and_hides_nothing(engine, tables, atoms, kind):
    before, failed, after = engine.compute(tables, [crystal(), atoms, crystal()], SETTINGS)
    assert isinstance(failed, kind), failed
    assert isinstance(pickle.loads(pickle.dumps(failed)), kind)
    assert isinstance(before, Result)
    assert isinstance(after, Result)


def test_missing_tables_are_raised(engine, tmp_path):
    for where in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError):
            engine.compute(where, [crystal()], SETTINGS)


def test_unconverged_charges_are_returned_with_their_data(engine, tables):
    if engine.name == "fake":
        return  # it has nothing to converge
    found = engine.compute(tables, [crystal()], replace(SETTINGS, max_scc_iterations=2, scc_tolerance=1e-12))[0]
    assert isinstance(found, ScfNotConverged)
    assert found.iterations == 2
    assert found.residual > 0.0


def test_fake_engine_fails_on_demand(tables):
    from dftbparam.engine.fake import FakeEngine

    def fail(atoms) -> DftbparamError | None:
        return ScfNotConverged("told to", iterations=9, residual=0.1) if len(atoms) == 3 else None

    found = FakeEngine(fail).compute(tables, [crystal(), molecule()], SETTINGS)
    assert isinstance(found[0], Result)
    assert isinstance(found[1], ScfNotConverged)
    assert found[1].iterations == 9
