"""Which prototype is it?"""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.reference import GROUND_STATE, PROTOTYPES, build
from dftbparam.reference.importers import identify, isolated_atom
from dftbparam.reference.importers.identify import formula_rank

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

PAIRS = [(name, "Mg", "O") if p.binary else (name, "Cs", None) for name, p in PROTOTYPES.items()]


def found(atoms):
    identity = identify(atoms)
    return None if identity is None else (identity.prototype, identity.symbol, identity.partner)


@pytest.mark.parametrize(("name", "symbol", "partner"), PAIRS)
def test_every_prototype(name, symbol, partner):
    volume = PROTOTYPES[name].volume(5.1 if partner is None else 2.1)
    atoms = build(name, symbol, volume, partner)
    identity = identify(atoms)
    assert found(atoms) == (name, symbol, partner)
    assert identity.volume == pytest.approx(volume, rel=1e-9)


@given(
    st.sampled_from(
        [pair for pair in PAIRS if PROTOTYPES[pair[0]].dimensions == 3 and pair[0] not in ("a15", "rutile")]
    ),
    st.floats(0.0, 180.0),
    st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 1)]),
    st.floats(0.85, 1.2),
    st.integers(0, 10**6),
)
@settings(max_examples=15, deadline=None)
def test_any_cell_orientation_origin_and_order(pair, angle, repeat, scale, seed):
    name, symbol, partner = pair
    volume = scale * PROTOTYPES[name].volume(5.1 if partner is None else 2.1)
    atoms = build(name, symbol, volume, partner).repeat(repeat)
    random = np.random.default_rng(seed)
    atoms.rotate(angle, random.normal(size=3), rotate_cell=True)
    atoms.positions += random.normal(size=3)
    atoms = atoms[random.permutation(len(atoms))]
    atoms.positions += 1e-4 * random.normal(size=atoms.positions.shape)
    assert found(atoms) == pair
    assert identify(atoms).volume == pytest.approx(volume, rel=1e-9)


def test_cells_of_ase():
    assert found(bulk("Si", cubic=True)) == ("diamond", "Si", None)
    assert found(bulk("Cu", cubic=True)) == ("fcc", "Cu", None)
    assert found(bulk("NaCl", "rocksalt", a=5.64)) == ("rocksalt", "Na", "Cl")
    assert found(bulk("ClNa", "rocksalt", a=5.64)) == ("rocksalt", "Na", "Cl")
    assert found(bulk("GaAs", "zincblende", a=5.65)) == ("zincblende", "Ga", "As")
    assert found(bulk("CaF2", "fluorite", a=5.46)) == ("fluorite", "Ca", "F")
    assert found(bulk("OLi2", "fluorite", a=4.62)) == ("antifluorite", "Li", "O")
    assert found(bulk("Ti", "hcp", a=2.95, c=2.95 * np.sqrt(8 / 3))) == ("hcp", "Ti", None)
    assert found(graphene(vacuum=8.0)) == ("graphene", "C", None)
    assert found(graphene("BN", a=2.5, vacuum=8.0)) == ("bn-layer", "B", "N")
    assert found(molecule("N2")) == ("dimer", "N", None)
    assert found(molecule("HCl", vacuum=8.0)) == ("molecule", "H", "Cl")


def test_the_ground_state_of_an_element():
    assert found(build(GROUND_STATE, "Se", 30.0)) == (GROUND_STATE, "Se", None)


def test_what_is_no_prototype():
    moved = bulk("Si")
    moved.positions[0] += 0.05
    strained = bulk("Si")
    strained.set_cell(strained.cell.array @ np.diag([1.02, 1.0, 1.0]), scale_atoms=True)
    stacked = graphene(vacuum=1.6)
    stacked.pbc = True
    for atoms in (
        moved,
        strained,
        bulk("Ti", "hcp", a=2.95, c=1.5 * 2.95),
        molecule("H2O"),
        bulk("SiGe", "zincblende", a=5.5) * (1, 1, 2) + Atoms("C", positions=[(1.0, 1.0, 1.0)]),
        Atoms("Si"),
        Atoms("Si", cell=[15, 15, 15], pbc=True),
        bulk("Si").repeat(4),
        stacked,
    ):
        assert identify(atoms) is None, atoms


def test_isolated_atoms():
    assert isolated_atom(Atoms("Si"))
    assert isolated_atom(Atoms("Si", cell=[12] * 3, pbc=True))
    assert isolated_atom(Atoms("Cs", cell=[12] * 3, pbc=True), "isolated_atom")
    assert not isolated_atom(Atoms("Cs", cell=[12] * 3, pbc=True))
    assert not isolated_atom(bulk("Cu"))
    assert not isolated_atom(molecule("H2"))


def test_order_in_a_formula():
    elements = ["F", "O", "Cl", "N", "H", "C", "Si", "Xe", "Mg", "Ti"]
    assert sorted(elements, key=formula_rank) == ["Xe", "Mg", "Ti", "Si", "C", "N", "H", "O", "Cl", "F"]
