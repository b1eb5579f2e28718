import subprocess
import sys

import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.collections import dcdft
from ase.neighborlist import neighbor_list
from numpy.testing import assert_allclose

from dftbparam.errors import InputError
from dftbparam.reference import (
    GROUND_STATE,
    PROTOTYPES,
    binary_prototypes,
    build,
    elemental_prototypes,
    mesh,
    prototype,
)
from dftbparam.reference.prototypes import ground_state, vacuum

VOLUME = 17.3

# spglib 2.7 warns about its own error handling; older ones lack the switch.
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def make(name, volume=VOLUME):
    return build(name, "Cu", volume, "O" if PROTOTYPES[name].binary else None)


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototype_is_what_it_says(name):
    crystal = prototype(name)
    atoms = make(name)
    assert len(atoms) == len(crystal.positions)
    assert list(atoms.pbc) == [crystal.dimensions > 0] * 3
    distance = crystal.neighbour_distance(VOLUME)
    assert crystal.volume(distance) == pytest.approx(VOLUME)
    # Rutile's six distances differ by 1 %, two of the fourteen in A15 are shorter than the rest.
    i, d = neighbor_list("id", atoms, {"rutile": 1.02, "a15": 1.23}.get(name, 1.001) * distance)
    assert d.min() == pytest.approx(distance)
    first = np.array(crystal.sites or [0] * len(atoms)) == 0
    counts = np.bincount(i, minlength=len(atoms))[first]
    if name == "a15":
        assert set(counts) == {12, 14}
    else:
        assert set(counts) == {crystal.coordination}
    periodic = atoms.copy()
    periodic.pbc = True
    cell = (periodic.cell[:], periodic.get_scaled_positions(), periodic.numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=1e-6)
    assert (found.number, found.international) == (crystal.spacegroup_number, crystal.spacegroup)


@pytest.mark.parametrize("name", [name for name, p in PROTOTYPES.items() if p.dimensions == 3])
def test_volume_of_a_crystal_is_that_of_its_cell(name):
    atoms = make(name)
    assert atoms.get_volume() / len(atoms) == pytest.approx(VOLUME)


@pytest.mark.parametrize(
    "name", ["sc", "bcc", "fcc", "diamond", "hcp", "rocksalt", "zincblende", "wurtzite", "cesiumchloride", "fluorite"]
)
def test_like_ase_builds_it(name):
    ours = "cscl" if name == "cesiumchloride" else name
    formula = {"hcp": "Cu", "fluorite": "CuO2"}.get(name, "CuO" if PROTOTYPES[ours].binary else "Cu")
    a = prototype(ours).lattice_constant(VOLUME)
    assert bulk(formula, name, a=a).get_volume() == pytest.approx(make(ours).get_volume())


@pytest.mark.parametrize("name", [name for name, p in PROTOTYPES.items() if p.dimensions < 3])
def test_images_stay_apart_at_any_scale(name):
    crystal = prototype(name)
    for volume in (8.0, 64.0):
        atoms = make(name, volume)
        assert crystal.neighbour_distance(volume) == pytest.approx(volume ** (1 / 3))
        extent = np.ptp(atoms.positions, axis=0)
        for i in np.flatnonzero(~np.array(crystal.periodic)):
            assert atoms.cell.lengths()[i] - extent[i] == pytest.approx(vacuum(*atoms.symbols))


def test_every_coordination_is_there():
    elemental = {PROTOTYPES[name].coordination for name in elemental_prototypes()}
    assert {1, 2, 3, 4, 6, 8, 12} <= elemental
    assert set(elemental_prototypes()) | set(binary_prototypes()) == set(PROTOTYPES)


@pytest.mark.parametrize("symbol", dcdft.names)
def test_ground_states(symbol):
    found = ground_state(symbol)
    own = dcdft[symbol]
    volume = own.get_volume() / len(own)
    if found is None:
        cell = (own.cell[:], own.get_scaled_positions(), own.numbers)
        assert spglib.get_symmetry_dataset(cell, symprec=1e-3).number in (221, 225, 227, 229)
        return
    atoms = build(GROUND_STATE, symbol, volume)
    assert atoms.get_volume() / len(atoms) == pytest.approx(volume)
    reach = 1.3 * found.neighbour_distance(volume)
    ours, theirs = (np.sort(neighbor_list("d", a, reach)) for a in (atoms, own))
    # The same neighbours per atom, in a primitive cell or not.
    assert len(ours) * len(own) == len(theirs) * len(atoms)
    assert_allclose([ours[0], ours[-1], ours.mean()], [theirs[0], theirs[-1], theirs.mean()], rtol=1e-5)
    assert found.coordination >= 1


def test_mesh():
    cell = np.diag([2.0, 4.0, 10.0])
    assert mesh(cell, 3.0) == (10, 5, 2)
    assert mesh(cell, 3.0, (True, True, False)) == (10, 5, 1)


def test_aliases():
    assert prototype("B1") is prototype("rocksalt")
    assert prototype("beta-tin").name == "beta-sn"


@pytest.mark.parametrize(
    ("name", "symbol", "partner", "reason"),
    [
        ("rocksat", "Ti", "O", "unknown prototype 'rocksat'; did you mean 'rocksalt'"),
        ("nonsense", "Ti", None, "unknown prototype 'nonsense'; known are sc, bcc, fcc"),
        ("rocksalt", "Ti", None, "rocksalt is a binary crystal: Ti needs a partner"),
        ("fcc", "Ti", "O", "fcc holds one element; Ti-O are two"),
        (GROUND_STATE, "Al", None, "no 'ground-state' crystal of Al"),
        (GROUND_STATE, "Fr", None, "no 'ground-state' crystal of Fr"),
    ],
)
def test_bad_prototype(name, symbol, partner, reason):
    with pytest.raises(InputError, match=reason):
        build(name, symbol, VOLUME, partner)


@pytest.mark.parametrize("volume", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_volume(volume):
    with pytest.raises(InputError, match="must be a positive number"):
        build("fcc", "Cu", volume)


def test_reading_references_needs_no_ase():
    code = "import sys, dftbparam.reference as r; r.load_dataset(); assert 'ase' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
