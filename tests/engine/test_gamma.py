"""Coulomb sums: known lattice energies, limits, derivatives."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftbparam.engine.embedded import gamma as module
from dftbparam.engine.embedded.gamma import gamma_forces, gamma_matrix
from dftbparam.engine.embedded.neighbours import geometry
from dftbparam.units import BOHR

MADELUNG_NACL = 1.747564594633182
"""Madelung constant of rock salt, nearest-neighbour distance as unit (OEIS A085469)."""


def distorted(seed=0, cell=6.0):
    rng = np.random.default_rng(seed)
    return Atoms(
        "SiOSi",
        scaled_positions=[[0, 0, 0], [0.4, 0.55, 0.5], [0.8, 0.1, 0.6]],
        cell=cell * (np.eye(3) + 0.2 * rng.normal(size=(3, 3))),
        pbc=True,
    )


def test_point_charges_far_apart_give_the_madelung_energy():
    atoms = bulk("NaCl", "rocksalt", a=2 * 60.0 * BOHR)
    structure = geometry(atoms)
    gamma = gamma_matrix(structure, np.array([0.5, 0.5]))
    q = np.array([1.0, -1.0])
    point_part = 0.5 * q @ gamma @ q - 0.5 * (0.5 + 0.5)
    assert point_part == pytest.approx(-MADELUNG_NACL / 60.0, abs=1e-11)


def test_hubbard_on_site_and_coulomb_far_away():
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 40.0 * BOHR]])
    gamma = gamma_matrix(geometry(atoms), np.array([0.25, 0.4]))
    assert np.diag(gamma) == pytest.approx([0.25, 0.4])
    assert gamma[0, 1] == pytest.approx(1 / 40.0, abs=1e-12)


def test_equal_and_nearly_equal_hubbard_join():
    def value(difference):
        atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 3.0 * BOHR]])
        return gamma_matrix(geometry(atoms), np.array([0.3, 0.3 * (1 + difference)]))[0, 1]

    edge = module.EQUAL_U
    assert value(edge * 1.01) == pytest.approx(value(edge * 0.99), abs=1e-6)
    assert value(0.2) != pytest.approx(value(0.0), abs=1e-4)


def test_unequal_formula_at_short_distance_is_finite():
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 0.8 * BOHR]])
    value = gamma_matrix(geometry(atoms), np.array([0.3, 0.5]))[0, 1]
    assert 0.0 < value < 0.5


@pytest.mark.parametrize("split", [1.5, 4.0])
def test_ewald_sum_does_not_depend_on_its_parameter(monkeypatch, split):
    structure, hubbard = geometry(distorted()), np.array([0.25, 0.5, 0.25])
    q = np.array([0.3, -0.5, 0.4])
    reference = gamma_matrix(structure, hubbard), *gamma_forces(structure, hubbard, q)
    monkeypatch.setattr(module, "EWALD_SPLIT", split)
    other = gamma_matrix(structure, hubbard), *gamma_forces(structure, hubbard, q)
    for a, b in zip(reference, other, strict=True):
        assert np.abs(a - b).max() < 1e-11


@pytest.mark.parametrize("charges", [(0.3, -0.5, 0.2), (0.3, -0.5, 0.7)], ids=["neutral", "charged"])
@pytest.mark.parametrize("periodic", [True, False])
def test_derivatives(charges, periodic):
    atoms = distorted()
    atoms.pbc = periodic
    hubbard, q, h = np.array([0.25, 0.5, 0.26]), np.array(charges), 1e-4

    def energy(moved):
        return 0.5 * q @ gamma_matrix(geometry(moved), hubbard) @ q

    forces, virial = gamma_forces(geometry(atoms), hubbard, q)
    for i in range(3):
        for c in range(3):
            plus, minus = atoms.copy(), atoms.copy()
            plus.positions[i, c] += h * BOHR
            minus.positions[i, c] -= h * BOHR
            assert -(energy(plus) - energy(minus)) / (2 * h) == pytest.approx(forces[i, c], abs=1e-8)
    assert np.abs(virial - virial.T).max() < 1e-10
    for a, b in ((0, 0), (1, 2)):
        found = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            found.append(energy(moved))
        assert (found[0] - found[1]) / (2 * h) == pytest.approx(virial[a, b], abs=1e-8)


def test_supercell_doubles_the_energy():
    atoms = distorted()
    hubbard, q = np.array([0.25, 0.5, 0.26]), np.array([0.3, -0.5, 0.2])
    one = 0.5 * q @ gamma_matrix(geometry(atoms), hubbard) @ q
    q2, h2 = np.tile(q, 2), np.tile(hubbard, 2)
    two = 0.5 * q2 @ gamma_matrix(geometry(atoms * (1, 2, 1)), h2) @ q2
    assert two == pytest.approx(2 * one, abs=1e-11)
    assert math.isfinite(one)
