"""DFTB plus correction in ASE: units, derivatives, relaxation, dynamics, phonons."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from dftbparam.delta.calculator import DeltaCalculator
from dftbparam.delta.kernels import RadialKernel
from dftbparam.delta.model_file import save_model
from dftbparam.delta.training import TrainingOptions, train
from dftbparam.engine.ase import DftbCalculator
from dftbparam.errors import ElementError, ParameterError


@pytest.fixture
def crystal():
    atoms = bulk("Si", "diamond", a=5.43)
    atoms.rattle(0.05, rng=np.random.default_rng(1))
    return atoms


def test_base_plus_correction(model, skf, crystal, tmp_path):
    save_model(model, tmp_path / "m.delta")
    crystal.calc = DeltaCalculator(tmp_path / "m.delta", skf)
    plain = Atoms(crystal)
    plain.calc = DftbCalculator(skf, temperature=1000.0)
    correction = model.predict(crystal)
    assert crystal.get_potential_energy() == pytest.approx(
        plain.get_potential_energy(force_consistent=True) + correction.energy, abs=1e-9
    )
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()
    assert crystal.get_forces() == pytest.approx(plain.get_forces() + correction.forces, abs=1e-9)
    assert crystal.get_stress() == pytest.approx(plain.get_stress() + correction.stress, abs=1e-9)
    assert crystal.calc.results["energy_std"] == pytest.approx(correction.energy_std)
    assert crystal.calc.results["outside_domain"] is False
    assert crystal.calc.results["base_energy"] == pytest.approx(plain.get_potential_energy(force_consistent=True))
    crystal.set_cell(crystal.cell.array * 0.8, scale_atoms=True)
    crystal.get_potential_energy()
    assert crystal.calc.results["outside_domain"] is True
    assert crystal.calc.outside_reasons


def test_derivatives_of_the_whole(model, skf, crystal, differentiate):
    calculator = DeltaCalculator(model, skf, kpts=(2, 2, 2), scc_tolerance=1e-10)
    crystal.calc = calculator

    def energy(atoms):
        atoms.calc = calculator
        return atoms.get_potential_energy()

    forces, strain = differentiate(energy, crystal)
    assert crystal.get_forces() == pytest.approx(forces, abs=1e-5)
    assert crystal.get_stress() * crystal.get_volume() == pytest.approx(strain, abs=2e-5)


def test_cell_and_positions_relax(model, skf):
    atoms = bulk("Si", "diamond", a=5.5)
    atoms.positions[1] += [0.05, -0.02, 0.03]
    atoms.calc = DeltaCalculator(model, skf, kpts=(2, 2, 2))
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=80)
    assert np.abs(atoms.get_stress()).max() < 2e-3


def test_dynamics_conserves_energy(model, skf):
    """What Verlet's algorithm leaves goes as the square of the time step; a force that is no derivative would not."""
    errors = []
    for step, count in ((1.0, 60), (0.5, 120)):
        atoms = bulk("Si", "diamond", a=5.43, cubic=True)
        atoms.calc = DeltaCalculator(model, skf)
        momenta = np.sqrt(atoms.get_masses()[:, None] * 600.0 * units.kB)
        momenta = momenta * np.random.default_rng(2).normal(size=(8, 3))
        atoms.set_momenta(momenta - momenta.mean(axis=0))
        totals = []
        dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
        dynamics.attach(lambda found=totals, a=atoms: found.append(a.get_total_energy() / len(a)), int(1.0 / step))
        dynamics.run(count)
        errors.append(np.array(totals) - totals[0])
    assert np.abs(errors[0]).max() < 1e-3
    assert errors[1][1:] == pytest.approx(errors[0][1:] / 4.0, abs=0.15 * np.abs(errors[0]).max())


def test_elastic_constants_are_those_of_the_energy(model, skf):
    """Stress under strain against the second difference of the energy, for C11 of diamond."""
    atoms = bulk("Si", "diamond", a=5.43)
    calculator = DeltaCalculator(model, skf, kpts=(2, 2, 2), scc_tolerance=1e-10)
    step, volume = 0.01, atoms.get_volume()
    energies, stresses = [], []
    for strain in (-step, 0.0, step):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ np.diag([1.0 + strain, 1.0, 1.0]), scale_atoms=True)
        copy.calc = calculator
        energies.append(copy.get_potential_energy())
        # dE/d(strain from the start) = V σ / (1 + strain)
        stresses.append(copy.get_stress()[0] * copy.get_volume() / (1.0 + strain))
    from_stress = (stresses[2] - stresses[0]) / (2.0 * step) / volume
    from_energy = (energies[2] - 2.0 * energies[1] + energies[0]) / step**2 / volume
    assert from_stress == pytest.approx(from_energy, rel=0.01)


def test_phonons(model, skf):
    phonopy = pytest.importorskip("phonopy")
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = bulk("Si", "diamond", a=5.43)
    phonon = phonopy.Phonopy(
        PhonopyAtoms(symbols=["Si", "Si"], cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()),
        supercell_matrix=np.diag([2, 2, 2]),
    )
    phonon.generate_displacements(distance=0.01)
    calculator = DeltaCalculator(model, skf)
    forces = []
    for cell in phonon.supercells_with_displacements:
        copy = Atoms(cell.symbols, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)
        copy.calc = calculator
        forces.append(copy.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    matrix = phonon.dynamical_matrix
    matrix.run([0.0, 0.0, 0.0])
    squares = np.linalg.eigvalsh(matrix.dynamical_matrix)
    # sqrt(eV/Angstrom^2/u) in THz.
    frequencies = np.sign(squares) * np.sqrt(np.abs(squares)) * 15.633302
    assert np.abs(frequencies[:3]).max() < 0.1
    assert np.ptp(frequencies[3:]) < 0.05


def test_a_model_without_base(samples, crystal, skf):
    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=60)
    model = train([sample.without_base() for sample in samples], options=options)
    crystal.calc = DeltaCalculator(model)
    assert crystal.get_potential_energy() == pytest.approx(model.predict(crystal).energy)
    assert crystal.get_forces().shape == (2, 3)
    with pytest.raises(ParameterError, match="no DFTB underneath"):
        DeltaCalculator(model, skf)


def test_bad_input(model, skf, crystal, tmp_path):
    with pytest.raises(ParameterError, match="say where it is: skf_dir"):
        DeltaCalculator(model)
    with pytest.raises(ParameterError, match="no level"):
        DeltaCalculator(model, skf, level="HSE06")
    with pytest.raises(ParameterError, match="unknown setting"):
        DeltaCalculator(model, skf, colour="blue")
    other = bulk("SiO", "rocksalt", a=4.5)
    other.calc = DeltaCalculator(model, skf)
    with pytest.raises(ElementError, match="knows no O"):
        other.get_potential_energy()
    molecule = Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    molecule.calc = DeltaCalculator(model, skf)
    assert molecule.get_forces().shape == (2, 3)
    assert molecule.calc.results["outside_domain"] is True
    with pytest.raises(PropertyNotImplementedError, match="periodic"):
        molecule.get_stress()
