"""Structures of a file as calculations of the DFT runner."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.io import write

from dftbparam.errors import ElementError, FileFormatError, ParameterError, ReferenceDataError, StructureError
from dftbparam.reference import mesh
from dftbparam.reference.dft import recipe_for
from dftbparam.reference.dft.structures import read_structures, structure_tasks


def test_a_structure_becomes_a_calculation():
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.info = {"name": "my crystal", "seed": np.int64(3), "spacegroup": 225, "other": "left out"}
    (task,) = structure_tasks([atoms])
    assert task.label == "Mg-O/my-crystal/frames/0000"
    assert task.kind == "forces"
    assert task.recipe == recipe_for(["Mg", "O"])
    assert task.kpts == mesh(atoms.cell.array, task.recipe.kpoint_density)
    assert task.details == {"index": 0, "name": "my crystal", "seed": 3, "spacegroup": 225}
    assert task.atoms().positions == pytest.approx(atoms.positions, abs=1e-9)
    assert task.model_dump_json()


def test_recipes_can_be_changed_and_belong_to_the_elements():
    silicon, oxide = structure_tasks(
        [bulk("Si"), bulk("MgO", "rocksalt", a=4.2)], cutoff=300.0, code="some.module:Code"
    )
    for task in (silicon, oxide):
        assert (task.recipe.cutoff, task.recipe.code) == (300.0, "some.module:Code")
    assert oxide.recipe == recipe_for(["O", "Mg"], cutoff=300.0, code="some.module:Code")
    with pytest.raises(ParameterError, match="nonsense"):
        structure_tasks([bulk("Si")], nonsense=1)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("", "structure"),
        ("äöü", "structure"),
        (None, "structure"),
        (17, "17"),
        ("a/b c", "a-b-c"),
        ("x" * 500, "x" * 60),
    ],
)
def test_names_are_harmless_as_files(name, slug):
    atoms = bulk("Si")
    atoms.info["name"] = name
    assert structure_tasks([atoms])[0].label == f"Si/{slug}/frames/0000"


def test_the_same_name_twice_gives_two_labels():
    assert len({task.label for task in structure_tasks([bulk("Si"), bulk("Si")])}) == 2


def test_one_k_point_where_there_is_no_period():
    layer = graphene(vacuum=6.0)
    layer.pbc = (True, True, False)
    assert structure_tasks([layer])[0].kpts[2] == 1
    molecule = Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[8, 8, 9])
    assert structure_tasks([molecule])[0].kpts == (1, 1, 1)


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        (Atoms(), "no atoms"),
        (Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.1]]), "box"),
        (Atoms("Si", cell=[3, 3, 0], pbc=True), "box"),
        (Atoms("Si", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True), "volume 0"),
        (Atoms("Si", cell=[[3, 0, 0], [3, 1e-9, 0], [0, 0, 3]], pbc=True), "box"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0.1]], cell=[3, 3, 3], pbc=True), "0.1 Angstrom apart"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]], cell=[3, 3, 3], pbc=True), "0 Angstrom apart"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, np.nan]], cell=[3, 3, 3], pbc=True), "no numbers"),
        (Atoms("Si", cell=[3, 3, np.inf], pbc=True), "no numbers"),
    ],
)
def test_structures_that_cannot_be_computed(atoms, reason):
    with pytest.raises(StructureError, match=reason) as caught:
        structure_tasks([bulk("Si"), atoms])
    assert "structure 2" in caught.value.message


def test_an_element_that_is_not_known():
    with pytest.raises(ElementError):
        structure_tasks([Atoms("X", cell=[3, 3, 3], pbc=True)])


def test_reading(tmp_path):
    path = tmp_path / "some.extxyz"
    write(path, [bulk("Si"), bulk("Cu")], format="extxyz")
    assert [str(atoms.symbols) for atoms in read_structures(path)] == ["Si2", "Cu"]


@pytest.mark.parametrize("text", ["", "nonsense", "2\nLattice=\nSi 0 0\n", "-1\n\n", "1\n\nSi a b c\n"])
def test_no_extended_xyz(tmp_path, text):
    path = tmp_path / "bad.extxyz"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"bad\.extxyz"):
        read_structures(path)


def test_no_file(tmp_path):
    with pytest.raises(ReferenceDataError, match="no such file"):
        read_structures(tmp_path / "none.extxyz")
    with pytest.raises(ReferenceDataError, match="no such file"):
        read_structures(tmp_path)
