"""The ASE calculator: units, signs, relaxations, properties."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from dftbparam.engine.ase import DftbCalculator
from dftbparam.engine.base import Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.fake import FakeEngine
from dftbparam.errors import ElementError, InputError, ParameterError, StructureError
from dftbparam.skf import read_set
from dftbparam.units import HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


def crystal():
    return Atoms(
        "SiO",
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )


def test_results_are_the_engines_in_ase_units():
    atoms = crystal()
    atoms.calc = DftbCalculator(MODEL, kpts=(2, 3, 2), temperature=4000.0)
    settings = Settings(kpts=(2, 3, 2), temperature=4000.0, forces=True, stress=True, eigenvalues=True)
    found = EmbeddedEngine().compute(MODEL, [atoms], settings)[0]
    assert atoms.get_potential_energy() == pytest.approx(found.energy * HARTREE)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(found.free_energy * HARTREE)
    assert atoms.get_forces() == pytest.approx(found.forces * HARTREE_PER_BOHR)
    assert atoms.get_stress(voigt=False) == pytest.approx(found.stress * HARTREE_PER_BOHR3)
    assert atoms.get_charges() == pytest.approx(found.charges)
    assert atoms.calc.get_fermi_level() == pytest.approx(found.fermi_level * HARTREE)
    assert atoms.calc.get_eigenvalues(kpt=1) == pytest.approx(found.eigenvalues[1] * HARTREE)
    assert atoms.calc.get_ibz_k_points() == pytest.approx(found.kpoints)
    assert atoms.calc.get_k_point_weights().sum() == pytest.approx(1.0)
    assert atoms.calc.get_number_of_spins() == 1


def test_stress_has_ases_sign_and_order():
    """Against ASE's own numerical stress, which knows nothing of our conventions."""
    from ase.calculators.fd import calculate_numerical_stress

    atoms = crystal()
    atoms.calc = DftbCalculator(MODEL, kpts=(2, 2, 2), scc_tolerance=1e-10)
    expected = calculate_numerical_stress(atoms, eps=1e-4, force_consistent=True)
    assert atoms.get_stress() == pytest.approx(expected, abs=1e-5)


def test_energy_asked_first_then_forces():
    atoms = crystal()
    atoms.calc = DftbCalculator(MODEL)
    atoms.get_potential_energy()
    assert "forces" not in atoms.calc.results
    assert atoms.get_forces().shape == (2, 3)
    assert "stress" in atoms.calc.results
    before = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([1.0, 0.0])
    assert atoms.calc.calculation_required(atoms, ["energy"]) is False
    atoms.positions[0, 0] += 0.1
    assert atoms.get_potential_energy() != before


@pytest.mark.parametrize("tables", [MODEL, read_set(MODEL)], ids=["directory", "in memory"])
def test_cell_and_positions_relax(tables):
    atoms = bulk("SiO", "rocksalt", a=4.5)
    atoms.positions[1] += [0.05, -0.03, 0.02]
    atoms.calc = DftbCalculator(tables, kpts=(2, 2, 2), engine=FakeEngine())
    start = atoms.get_potential_energy(force_consistent=True)
    optimiser = BFGS(FrechetCellFilter(atoms), logfile=None)
    assert optimiser.run(fmax=0.01, steps=100)
    assert atoms.get_potential_energy(force_consistent=True) < start
    assert np.abs(atoms.get_stress()).max() < 0.01


def test_molecule_relaxes_with_the_embedded_engine():
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 1.75]])
    atoms.calc = DftbCalculator(MODEL)
    assert BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.01, steps=60)
    with pytest.raises(PropertyNotImplementedError, match="molecule has no stress"):
        atoms.get_stress()


def test_a_missing_element_is_named_beside_those_there_are():
    for tables in (MODEL, read_set(MODEL)):
        atoms = Atoms("Xe")
        atoms.calc = DftbCalculator(tables)
        with pytest.raises(ElementError, match=r"no tables for Xe: .* have .*O, Si"):
            atoms.get_potential_energy()


def test_errors_reach_the_user():
    atoms = Atoms("Xe")
    atoms.calc = DftbCalculator(MODEL)
    with pytest.raises(ElementError, match="Xe"):
        atoms.get_potential_energy()
    slab = Atoms("Si", cell=[3, 3, 9], pbc=[True, True, False])
    slab.calc = DftbCalculator(MODEL)
    with pytest.raises(StructureError, match="three directions or in none"):
        slab.get_potential_energy()
    atoms = Atoms("Si")
    atoms.calc = DftbCalculator(MODEL / "nowhere")
    with pytest.raises(InputError, match="nowhere"):
        atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="nothing has been calculated"):
        atoms.calc.get_fermi_level()


@pytest.mark.parametrize(
    "wrong",
    [{"engine": "vasp"}, {"kpts": (1, 1)}, {"kpts": (0, 1, 1)}, {"smearing": 1}, {"forces": True}, {"temperature": -5}],
)
def test_bad_arguments(wrong):
    with pytest.raises(ParameterError):
        DftbCalculator(MODEL, **wrong)


@pytest.mark.dftbplus
def test_both_engines_agree():
    from dftbparam.engine.dftbplus import DftbPlusEngine
    from dftbparam.errors import EngineMissing

    try:
        DftbPlusEngine()
    except EngineMissing as error:
        pytest.skip(str(error))
    found = []
    for engine in ("embedded", "dftb+"):
        atoms = crystal()
        atoms.calc = DftbCalculator(MODEL, kpts=(2, 3, 2), engine=engine, scc_tolerance=1e-9)
        found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    (e1, f1, s1), (e2, f2, s2) = found
    assert e1 == pytest.approx(e2, abs=2e-6)
    assert f1 == pytest.approx(f2, abs=1e-5)
    assert s1 == pytest.approx(s2, abs=1e-6)
