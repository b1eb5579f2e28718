"""A reference that is known exactly: DFTB with the model set, plus pair forces between atoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from dftbparam.engine.base import Settings

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"

CRYSTALS = {"diamond": 20.0, "sc": 15.5, "fcc": 14.5, "bcc": 14.7, "beta-sn": 15.3}
"""Silicon, Angstrom^3/atom."""

OFFSET = -3.7
"""Energy that the reference gives each atom besides, eV."""


@pytest.fixture(scope="session", autouse=True)
def libraries():
    pytest.importorskip("torch")
    pytest.importorskip("gpytorch")
    pytest.importorskip("featomic")


@pytest.fixture(scope="session")
def skf():
    return MODEL


@pytest.fixture(scope="session")
def pair_forces():
    """The difference between reference and base: a smooth pair potential that ends within the descriptors' cutoff."""
    return lambda: LennardJones(sigma=2.1, epsilon=0.15, rc=4.6, ro=3.0, smooth=True)


@pytest.fixture(scope="session")
def displaced_crystals():
    """Copies of some crystals with displacements and strain: [(name of the crystal, atoms)]."""
    from dftbparam.reference import build
    from dftbparam.reference.dft.frames import displaced

    def make(symbol="Si", crystals=CRYSTALS, copies=5, partner=None):
        found = []
        for name, volume in crystals.items():
            crystal = build(name, symbol, volume, partner)
            found += [(name, displaced(crystal, name, index, 2.5)) for index in range(copies)]
        return found

    return make


@pytest.fixture(scope="session")
def reference_file(tmp_path_factory, displaced_crystals, pair_forces):
    """An extended xyz file with energies, forces and stress of silicon: base plus pair forces plus an offset."""
    from dftbparam.delta.data import Base

    crystals = displaced_crystals()
    base = Base(MODEL, Settings(kpts=(1, 1, 1))).compute([atoms for _, atoms in crystals], derivatives=True)
    images = []
    for (name, atoms), below in zip(crystals, base, strict=True):
        atoms = atoms.copy()
        atoms.calc = pair_forces()
        values = {
            "energy": atoms.get_potential_energy() + below.energy + OFFSET * len(atoms),
            "forces": atoms.get_forces() + below.forces,
            "stress": atoms.get_stress() + below.stress,
        }
        atoms.calc = SinglePointCalculator(atoms, **values)
        atoms.info = {"crystal": name, "functional": "PBE"}
        images.append(atoms)
    path = tmp_path_factory.mktemp("reference") / "silicon.extxyz"
    write(path, images, format="extxyz")
    return path


@pytest.fixture(scope="session")
def base(skf):
    from dftbparam.delta.data import Base

    return Base(skf, Settings(kpts=(1, 1, 1)))


@pytest.fixture(scope="session")
def samples(reference_file, base):
    from dftbparam.delta.data import differences, read_reference

    return differences(read_reference(reference_file, group_key="crystal"), base).samples


@pytest.fixture(scope="session")
def model(samples, base):
    """A model of all crystals with energies, forces and stress."""
    from dftbparam.delta.kernels import RadialKernel
    from dftbparam.delta.training import TrainingOptions, train

    options = TrainingOptions(kernels=(RadialKernel("matern52", 2.0),), inducing=150)
    return train(samples, options=options, base=base.record(["Si"]))


@pytest.fixture(scope="session")
def differentiate():
    """Central differences of a function of a structure: forces (n, 3) and dE/d(strain) (6,) in Voigt order."""

    def run(energy, atoms, step=1e-4):
        forces = np.zeros((len(atoms), 3))
        for i in range(len(atoms)):
            for a in range(3):
                values = []
                for sign in (1.0, -1.0):
                    moved = atoms.copy()
                    moved.positions[i, a] += sign * step
                    values.append(energy(moved))
                forces[i, a] = -(values[0] - values[1]) / (2.0 * step)
        strain = np.zeros(6)
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            values = []
            for sign in (1.0, -1.0):
                matrix = np.eye(3)
                matrix[a, b] += 0.5 * sign * step
                matrix[b, a] += 0.5 * sign * step
                moved = atoms.copy()
                moved.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
                values.append(energy(moved))
            strain[k] = (values[0] - values[1]) / (2.0 * step)
        return forces, strain

    return run
