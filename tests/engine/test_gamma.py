"""Coulomb sums: known lattice energies, limits, derivatives."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftbparam.engine.embedded import gamma as module
from dftbparam.engine.embedded.gamma import Sites, gamma_forces, gamma_matrix, short_range
from dftbparam.engine.embedded.neighbours import geometry
from dftbparam.engine.embedded.third_order import gamma_by_hubbard, third_order_matrix
from dftbparam.units import BOHR

MADELUNG_NACL = 1.747564594633182
"""Madelung constant of rock salt, nearest-neighbour distance as unit (OEIS A085469)."""


def sites(hubbard, damped=(), zeta=4.0):
    """One site an atom."""
    n = len(hubbard)
    flags = np.zeros(n, dtype=bool)
    flags[list(damped)] = True
    return Sites(np.arange(n + 1), np.arange(n), np.array(hubbard, dtype=float), flags, zeta)


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
    gamma = gamma_matrix(structure, sites([0.5, 0.5]))
    q = np.array([1.0, -1.0])
    point_part = 0.5 * q @ gamma @ q - 0.5 * (0.5 + 0.5)
    assert point_part == pytest.approx(-MADELUNG_NACL / 60.0, abs=1e-11)


def test_hubbard_on_site_and_coulomb_far_away():
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 40.0 * BOHR]])
    gamma = gamma_matrix(geometry(atoms), sites([0.25, 0.4]))
    assert np.diag(gamma) == pytest.approx([0.25, 0.4])
    assert gamma[0, 1] == pytest.approx(1 / 40.0, abs=1e-12)


def test_equal_and_nearly_equal_hubbard_join():
    def value(difference):
        atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 3.0 * BOHR]])
        return gamma_matrix(geometry(atoms), sites([0.3, 0.3 * (1 + difference)]))[0, 1]

    edge = module.EQUAL_U
    assert value(edge * 1.01) == pytest.approx(value(edge * 0.99), abs=2e-5)
    assert value(0.0) == pytest.approx(value(1e-9), abs=1e-10)
    assert value(0.2) != pytest.approx(value(0.0), abs=1e-4)


def test_unequal_formula_at_short_distance_is_finite():
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 0.8 * BOHR]])
    value = gamma_matrix(geometry(atoms), sites([0.3, 0.5]))[0, 1]
    assert 0.0 < value < 0.5


@pytest.mark.parametrize("split", [1.5, 4.0])
def test_ewald_sum_does_not_depend_on_its_parameter(monkeypatch, split):
    structure, hubbard = geometry(distorted()), sites([0.25, 0.5, 0.25])
    q = np.array([0.3, -0.5, 0.4])
    reference = gamma_matrix(structure, hubbard), *gamma_forces(structure, hubbard, q)
    monkeypatch.setattr(module, "EWALD_SPLIT", split)
    other = gamma_matrix(structure, hubbard), *gamma_forces(structure, hubbard, q)
    for a, b in zip(reference, other, strict=True):
        assert np.abs(a - b).max() < 1e-11


@pytest.mark.parametrize("charges", [(0.3, -0.5, 0.2), (0.3, -0.5, 0.7)], ids=["neutral", "charged"])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("damped", [(), (0, 2)], ids=["plain", "damped"])
def test_derivatives(charges, periodic, damped):
    atoms = distorted()
    atoms.pbc = periodic
    hubbard, q, h = sites([0.25, 0.5, 0.26], damped=damped), np.array(charges), 1e-4

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
    hubbard, q = [0.25, 0.5, 0.26], np.array([0.3, -0.5, 0.2])
    one = 0.5 * q @ gamma_matrix(geometry(atoms), sites(hubbard)) @ q
    q2 = np.tile(q, 2)
    two = 0.5 * q2 @ gamma_matrix(geometry(atoms * (1, 2, 1)), sites(hubbard * 2)) @ q2
    assert two == pytest.approx(2 * one, abs=1e-11)
    assert math.isfinite(one)


def test_expansion_and_formula_of_unequal_hubbard_agree(monkeypatch):
    # At the edge both are good to these digits: the formula loses them, the series is cut off.
    for r in (0.8, 2.0, 5.0):
        a, b = 0.4, 0.4 * (1 + 0.999 * module.EQUAL_U)
        series = short_range.py_func(r, a, b)
        monkeypatch.setattr(module, "nearly_equal", lambda x, y: False)
        formula = short_range.py_func(r, a, b)
        monkeypatch.undo()
        assert series == pytest.approx(formula, abs=3e-9)


@pytest.mark.parametrize("second", [0.5, 0.4], ids=["unequal", "equal"])
def test_shells_of_one_atom_are_the_limit_of_two_atoms(second):
    both = Sites(np.array([0, 2]), np.array([0, 0]), np.array([0.4, second]), np.zeros(1, dtype=bool), 1.0)
    on_site = gamma_matrix(geometry(Atoms("Si")), both)
    assert np.diag(on_site) == pytest.approx([0.4, second])

    def apart(r):
        return 1 / r - short_range(r, 0.4, second)[0]

    # gamma is even in r near 0: the difference falls with r^2
    assert on_site[0, 1] == pytest.approx((4 * apart(0.05) - apart(0.1)) / 3, abs=1e-5)


def test_damping_is_gone_at_contact_and_kills_the_correction_far_away():
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 3.0 * BOHR]])
    plain = gamma_matrix(geometry(atoms), sites([0.42, 0.5]))
    damped = gamma_matrix(geometry(atoms), sites([0.42, 0.5], damped=[0]))
    h = math.exp(-(0.46**4) * 9.0)
    assert 1 / 3 - damped[0, 1] == pytest.approx(h * (1 / 3 - plain[0, 1]), abs=1e-12)
    assert np.diag(damped) == pytest.approx([0.42, 0.5])


@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize("second", [0.42, 0.4003, 0.36, 0.4])
def test_derivative_with_hubbard(second, damped):
    h, u = 1e-4, 0.4

    def gamma(r, first):
        s = short_range(r, first, second)[0]
        return 1 / r - s * (module.damping(r, first, second, 4.0)[0] if damped else 1.0)

    for r in (0.8, 2.0, 5.0):
        by_u, by_u_r = gamma_by_hubbard(r, u, second, damped, 4.0)
        if second == u:
            # DFTB3's custom between atoms of one U: the derivative of S counts twice
            near, _ = gamma_by_hubbard(r, u, u + 1e-5, damped, 4.0)
            s, _ = short_range(r, u, u)
            k = -2.0 * u**3 if damped else 0.0
            damp = module.damping(r, u, u, 4.0)[0] if damped else 1.0
            only_damping = -s * k * r * r * damp
            assert by_u - only_damping == pytest.approx(2 * (near - only_damping), abs=1e-4)
            by_u = 0.5 * (by_u + only_damping)
            by_u_r = None
        numeric = (8 * (gamma(r, u + h) - gamma(r, u - h)) - gamma(r, u + 2 * h) + gamma(r, u - 2 * h)) / (12 * h)
        assert by_u == pytest.approx(numeric, abs=1e-8)
        around = [gamma_by_hubbard(r + x, u, second, damped, 4.0)[0] for x in (h, -h)]
        if by_u_r is not None:
            assert by_u_r == pytest.approx((around[0] - around[1]) / (2 * h), abs=1e-6)


@pytest.mark.parametrize("periodic", [True, False])
def test_third_order_shift_forces_and_virial_are_derivatives(periodic):
    atoms, q, h = distorted(cell=3.0), np.array([0.3, -0.5, 0.25]), 1e-4
    atoms.pbc = periodic
    where, derivatives = sites([0.25, 0.5, 0.26], damped=[1]), np.array([-0.07, -0.15, -0.08])

    def energy(moved, charges):
        return third_order_matrix(geometry(moved), where, derivatives, True).energy(charges)

    third = third_order_matrix(geometry(atoms), where, derivatives, True)
    for i in range(3):
        step = h * np.eye(3)[i]
        assert third.shift(q)[i] == pytest.approx(
            (energy(atoms, q + step) - energy(atoms, q - step)) / (2 * h), abs=1e-8
        )
    forces, virial = third.forces(q)
    for i, c in ((0, 0), (1, 2), (2, 1)):
        found = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, c] += sign * h * BOHR
            found.append(energy(moved, q))
        assert -(found[0] - found[1]) / (2 * h) == pytest.approx(forces[i, c], abs=1e-8)
    for a, b in ((0, 0), (1, 2)):
        found = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            found.append(energy(moved, q))
        assert (found[0] - found[1]) / (2 * h) == pytest.approx(virial[a, b], abs=1e-8)
    on_site = third_order_matrix(geometry(atoms), where, derivatives, False)
    assert on_site.energy(q) == pytest.approx((derivatives * q**3).sum() / 6)
    assert not on_site.forces(q)[0].any()
