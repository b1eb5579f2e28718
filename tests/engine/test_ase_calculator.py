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
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
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


def test_nothing_of_the_structure_before_outlives_one_that_fails():
    atoms = crystal()
    atoms.calc = DftbCalculator(MODEL)
    atoms.get_potential_energy()
    level = atoms.calc.get_fermi_level()
    atoms.positions[1] = atoms.positions[0] + [0, 0, 0.1]
    with pytest.raises(StructureError):
        atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="nothing has been calculated"):
        atoms.calc.get_fermi_level()
    atoms.positions = crystal().positions
    atoms.get_potential_energy()
    assert atoms.calc.get_fermi_level() == level
    atoms.calc.reset()
    assert atoms.calc.result is None
    with pytest.raises(PropertyNotImplementedError, match="nothing has been calculated"):
        atoms.calc.dos()


def test_reuse_of_charges_is_refused():
    with pytest.raises(ParameterError, match="reuse_charges works between the structures of one call") as caught:
        DftbCalculator(MODEL, reuse_charges=True)
    assert caught.value.name == "reuse_charges"
    DftbCalculator(MODEL, reuse_charges=False)


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


SPIN = Spin({"Si": -0.02, "O": -0.03})


def magnetic(**more):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.25]], magmoms=[1.0, 1.0])
    atoms.calc = DftbCalculator(MODEL, temperature=300.0, **{"spin": SPIN, **more})
    return atoms


def test_moments_are_properties_with_spin():
    atoms = magnetic(spin=Spin(SPIN.constants, unpaired=2.0))
    assert atoms.get_magnetic_moment() == pytest.approx(2.0, abs=1e-6)
    assert atoms.get_magnetic_moments() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert atoms.calc.get_number_of_spins() == 2
    up, down = (atoms.calc.get_eigenvalues(spin=spin) for spin in (0, 1))
    assert up == pytest.approx(atoms.calc.result.eigenvalues[0, 0] * HARTREE)
    assert down == pytest.approx(atoms.calc.result.eigenvalues[1, 0] * HARTREE)
    assert up.mean() < down.mean()  # the majority feels the exchange
    plain = crystal()
    plain.calc = DftbCalculator(MODEL)
    plain.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        plain.get_magnetic_moments()


def test_changed_initial_moments_count_with_spin_only():
    atoms = magnetic()
    first = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([0.0, 0.0])
    assert atoms.calc.calculation_required(atoms, ["energy"])
    assert atoms.get_potential_energy() > first + 1e-3  # moments of zero stay zero
    assert atoms.get_magnetic_moment() == pytest.approx(0.0, abs=1e-9)
    atoms.calc = DftbCalculator(MODEL, temperature=300.0)
    unpolarised = atoms.get_potential_energy()
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    assert not atoms.calc.calculation_required(atoms, ["energy"])
    assert atoms.get_potential_energy() == unpolarised


@pytest.mark.parametrize(
    "settings",
    [
        {"shell_resolved": True},
        {"spin": Spin(SPIN.constants, unpaired=1.5)},
        {"third_order": ThirdOrder({"Si": -0.07, "O": -0.16}), "hydrogen_damping": 4.0},
        {"dispersion": Dispersion("d3bj", s8=3.209, a1=0.746, a2=4.191)},
    ],
    ids=lambda s: next(iter(s)),
)
def test_every_part_of_the_hamiltonian_reaches_the_engine(settings):
    atoms = crystal()
    atoms.set_initial_magnetic_moments([1.0, 0.5])
    found = EmbeddedEngine().compute(MODEL, [atoms], Settings(kpts=(2, 2, 2), **settings))[0]
    atoms.calc = DftbCalculator(MODEL, kpts=(2, 2, 2), **settings)
    assert atoms.get_potential_energy() == pytest.approx(found.energy * HARTREE, abs=1e-9)
    plain = crystal()
    plain.calc = DftbCalculator(MODEL, kpts=(2, 2, 2))
    assert plain.get_potential_energy() != pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    plain.calc = DftbCalculator(MODEL, engine=FakeEngine(), **settings)
    with pytest.raises(ParameterError, match=next(iter(settings))):
        plain.get_potential_energy()


@pytest.mark.parametrize("name", ["spin", "third_order", "dispersion"])
def test_records_of_another_kind_are_refused(name):
    with pytest.raises(ParameterError, match=name):
        DftbCalculator(MODEL, **{name: {"Si": -0.02}})


# ------------------------------------------------------------------------------------------------ bands and densities


@pytest.mark.parametrize("spin", [None, SPIN])
def test_band_structure_on_ases_path(spin):
    atoms = bulk("Si", "fcc", a=3.9)
    atoms.set_initial_magnetic_moments([2.0])
    atoms.calc = DftbCalculator(MODEL, kpts=(3, 3, 3), spin=spin)
    atoms.get_potential_energy()
    bands = atoms.calc.band_structure("GXWKG", npoints=30)
    spins, points, n_bands = bands.energies.shape
    assert (spins, points) == (1 if spin is None else 2, 30)
    assert bands.reference == pytest.approx(atoms.calc.get_fermi_level(), abs=1e-9)
    assert list(bands.get_labels()[2]) == ["G", "X", "W", "K", "G"]
    # Gamma is the first point of the odd mesh and of the path.
    gamma = int(np.argmin(np.abs(atoms.calc.get_ibz_k_points()).sum(axis=1)))
    for s in range(spins):
        assert bands.energies[s, 0] == pytest.approx(atoms.calc.get_eigenvalues(gamma, s), abs=1e-6)
        assert bands.energies[s, -1] == pytest.approx(bands.energies[s, 0], abs=1e-9)
    assert bands.subtract_reference().energies == pytest.approx(bands.energies - bands.reference)
    assert n_bands == len(atoms.calc.get_eigenvalues())
    assert atoms.calc.band_structure().path.path.startswith("GX")
    path = atoms.cell.bandpath("XG", npoints=5)
    assert atoms.calc.band_structure(path).energies[0, -1] == pytest.approx(bands.energies[0, 0], abs=1e-6)


def test_bands_that_cannot_be():
    atoms = bulk("Si", "fcc", a=3.9)
    atoms.calc = DftbCalculator(MODEL)
    with pytest.raises(PropertyNotImplementedError, match="nothing has been calculated"):
        atoms.calc.band_structure()
    atoms.get_potential_energy()
    with pytest.raises(ParameterError, match=r"no special point 'Q'; this lattice has G, K, L"):
        atoms.calc.band_structure("GQX")
    with pytest.raises(ParameterError, match="no special point"):
        atoms.calc.band_structure("")
    with pytest.raises(ParameterError, match="npoints is 0"):
        atoms.calc.band_structure(npoints=0)
    molecule = Atoms("O2", [[0, 0, 0], [0, 0, 1.25]])
    molecule.calc = DftbCalculator(MODEL)
    molecule.get_potential_energy()
    with pytest.raises(StructureError, match="crystal"):
        molecule.calc.band_structure()
    atoms.calc = DftbCalculator(MODEL, engine=FakeEngine())
    atoms.get_potential_energy()
    with pytest.raises(ParameterError, match="band_points"):
        atoms.calc.band_structure()
    with pytest.raises(ParameterError, match="projections"):
        atoms.calc.dos(projected=True)
    assert atoms.calc.dos().projected is None


@pytest.mark.parametrize("spin", [None, SPIN])
def test_density_of_states_in_electronvolts(spin):
    atoms = crystal()
    atoms.set_initial_magnetic_moments([1.0, 0.5])
    atoms.calc = DftbCalculator(MODEL, kpts=(2, 2, 2), spin=spin)
    atoms.get_potential_energy()
    found = atoms.calc.dos(width=0.5, projected=True)
    n_bands, lead = len(atoms.calc.get_eigenvalues()), () if spin is None else (2,)
    assert found.total.shape == (*lead, len(found.energies))
    assert found.projected.shape == (*lead, 2, 4, len(found.energies))
    assert np.trapezoid(found.total, found.energies).sum() == pytest.approx(2.0 * n_bands, abs=1e-5)
    assert found.projected.sum(axis=(-3, -2)) == pytest.approx(found.total, abs=1e-6)
    assert found.fermi_level == pytest.approx(atoms.calc.get_fermi_level(), abs=1e-6)
    assert found.energies[0] < found.fermi_level < found.energies[-1]
    few = atoms.calc.dos(width=0.5, energies=found.energies[100:110])
    assert few.total == pytest.approx(found.total[..., 100:110], abs=1e-5)
    for wrong in ({"width": -0.1}, {"width": 0.0}, {"energies": []}):
        with pytest.raises(ParameterError):
            atoms.calc.dos(**wrong)


def test_eigenvalues_that_are_not_there():
    atoms = crystal()
    atoms.calc = DftbCalculator(MODEL, kpts=(2, 2, 2))
    atoms.get_potential_energy()
    assert atoms.calc.get_eigenvalues(spin=1) == pytest.approx(atoms.calc.get_eigenvalues(spin=0))
    with pytest.raises(ParameterError, match="spin is 2"):
        atoms.calc.get_eigenvalues(spin=2)
    with pytest.raises(ParameterError, match="kpt is 99"):
        atoms.calc.get_eigenvalues(kpt=99)


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
