"""Reduction of meshes and neighbour lists."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from dftbparam.engine.embedded import neighbour_shells
from dftbparam.engine.embedded.kpoints import reduced_mesh
from dftbparam.engine.embedded.neighbours import find_pairs, geometry
from dftbparam.engine.kpoints import time_reversed_mesh
from dftbparam.errors import ParameterError, StructureError
from dftbparam.units import BOHR

CRYSTALS = {
    "sc": bulk("Po", "sc", a=3.3),
    "fcc": bulk("Cu", "fcc", a=3.6),
    "bcc": bulk("W", "bcc", a=3.2),
    "diamond": bulk("Si", "diamond", a=5.4),
    "hcp": bulk("Ti", "hcp", a=2.9, c=4.6),
    "wurtzite": bulk("ZnO", "wurtzite", a=3.2, c=5.2),
    "low": Atoms("SiO", [[0, 0, 0], [1.1, 0.9, 1.3]], cell=[[2.9, 0.3, 0], [0.1, 3.1, 0.2], [0.3, 0, 3.4]], pbc=True),
    "supercell": bulk("Cu", "fcc", a=3.6) * (2, 1, 1),
}


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("size", [(4, 4, 4), (3, 3, 3), (2, 3, 4), (4, 4, 2)])
def test_reduced_mesh_unfolds_to_the_full_one(name, size):
    mesh = reduced_mesh(geometry(CRYSTALS[name]), size)
    assert mesh.weights.sum() == pytest.approx(1.0, abs=1e-14)
    found = set()
    for k, weight in zip(mesh.points, mesh.weights, strict=True):
        star = set()
        for rotation in mesh.symmetry.rotations:
            image = np.linalg.inv(rotation).T @ k
            for sign in (1, -1):
                star.add(tuple(np.round((sign * image) % 1.0, 9) % 1.0))
        assert len(star) == round(weight * np.prod(size))
        found |= star
    full, _ = time_reversed_mesh(size)
    both = {tuple(np.round(sign * k % 1.0, 9) % 1.0) for k in full for sign in (1, -1)}
    assert found == both


def test_cubic_crystals_are_reduced_well():
    for name, most in (("sc", 20), ("fcc", 60), ("diamond", 60)):
        assert len(reduced_mesh(geometry(CRYSTALS[name]), (8, 8, 8)).points) <= most


def test_equivalent_atoms():
    for name, expected in (("fcc", True), ("diamond", True), ("hcp", True), ("wurtzite", False), ("supercell", True)):
        assert reduced_mesh(geometry(CRYSTALS[name]), (4, 4, 4)).symmetry.all_equivalent is expected


def test_gamma_alone_is_real_and_unreduced():
    assert reduced_mesh(geometry(CRYSTALS["wurtzite"]), (1, 1, 1)).points.tolist() == [[0, 0, 0]]
    assert reduced_mesh(geometry(Atoms("OH", [[0, 0, 0], [0, 0, 1]])), (1, 1, 1)).points.tolist() == [[0, 0, 0]]


def test_small_distortions_lower_the_symmetry():
    atoms = CRYSTALS["diamond"].copy()
    atoms.positions[1, 0] += 1e-4
    size = (4, 4, 4)
    assert len(reduced_mesh(geometry(atoms), size).points) > len(
        reduced_mesh(geometry(CRYSTALS["diamond"]), size).points
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_pairs_agree_with_ase(name):
    atoms = CRYSTALS[name].copy()
    atoms.positions += [0.3, -7.1, 12.2]  # outside the home cell
    cutoff = 7.7
    pairs = find_pairs(geometry(atoms), cutoff / BOHR)
    expected = np.sort(neighbor_list("d", atoms, cutoff))
    assert np.sort(np.repeat(pairs.distance, 2)) * BOHR == pytest.approx(expected, abs=1e-10)
    assert np.linalg.norm(pairs.vector, axis=1) == pytest.approx(pairs.distance)


def test_tiny_skewed_cell_against_ase():
    atoms = Atoms("C2", [[0, 0, 0], [0.9, 0.5, 0.8]], cell=[[2.5, 0, 0], [4.4, 2.3, 0], [-4.2, 1.4, 2.6]], pbc=True)
    pairs = find_pairs(geometry(atoms), 12.0 / BOHR)
    assert 2 * len(pairs.distance) == len(neighbor_list("d", atoms, 12.0))


def test_shells_of_fcc():
    a = 3.6
    distances, counts = neighbour_shells(CRYSTALS["fcc"], 3.7 / BOHR)
    assert distances * BOHR == pytest.approx([a / np.sqrt(2), a])
    assert counts == pytest.approx([12, 6])


def test_shells_of_a_pair():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    distances, counts = neighbour_shells(atoms, 4.1 / BOHR, ("Cl", "Na"))
    assert distances * BOHR == pytest.approx([2.82])
    assert counts == pytest.approx([6])
    distances, counts = neighbour_shells(atoms, 4.1 / BOHR, ("Na", "Na"))
    assert counts == pytest.approx([6])  # twelve for half of the atoms
    assert neighbour_shells(atoms, 1.0, ("Na", "Na"))[0].size == 0
    with pytest.raises(ParameterError, match="positive"):
        neighbour_shells(atoms, 0.0)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (Atoms("OO", [[0, 0, 0], [0, 0, 0.12]]), r"atoms 0 and 1 are 0\.12 Å apart; at least 0\.4 Å"),
        (Atoms("O", cell=[0.3, 5, 5], pbc=True), "atom 0 and its periodic image are 0.30 Å apart"),
        (Atoms("O", cell=[[3, 0, 0], [3, 1e-9, 0], [0, 0, 3]], pbc=True), "flat"),
        (Atoms("O", pbc=True), "flat"),
        (Atoms("O", [[0, np.nan, 0]]), "position of atom 0 is not finite"),
        (Atoms("O", cell=[3, np.inf, 3], pbc=True), "cell is not finite"),
        (Atoms("O", cell=[3, 3, 3], pbc=[True, True, False]), "periodic in all three directions or in none"),
    ],
)
def test_bad_structures_are_refused(atoms, message):
    with pytest.raises(StructureError, match=message):
        find_pairs(geometry(atoms), 5.0)
