import subprocess
import sys

import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.neighborlist import neighbor_list
from numpy.testing import assert_allclose

from dftbparam.errors import InputError
from dftbparam.reference import PROTOTYPES, build, prototype

VOLUME = 17.3


# spglib 2.7 warns about its own error handling; older ones lack the switch.
@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototype_is_what_it_says(name):
    crystal = prototype(name)
    atoms = build(name, "Cu", VOLUME)
    assert len(atoms) == len(crystal.positions)
    assert atoms.get_volume() / len(atoms) == pytest.approx(VOLUME)
    assert all(atoms.pbc)
    distance = crystal.neighbour_distance(VOLUME)
    i, d = neighbor_list("id", atoms, 1.05 * distance)
    assert_allclose(d, distance)
    assert list(np.bincount(i)) == [crystal.coordination] * len(atoms)
    found = spglib.get_symmetry_dataset((atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers), symprec=1e-6)
    assert (found.number, found.international) == (crystal.spacegroup_number, crystal.spacegroup)
    ours = bulk("Cu", name, a=crystal.lattice_constant(VOLUME))
    assert ours.get_volume() == pytest.approx(atoms.get_volume())


def test_unknown_prototype():
    with pytest.raises(InputError, match="unknown prototype 'hcp'; known are sc, bcc, fcc, diamond"):
        build("hcp", "Ti", VOLUME)


@pytest.mark.parametrize("volume", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_volume(volume):
    with pytest.raises(InputError, match="must be a positive number"):
        build("fcc", "Cu", volume)


def test_reading_references_needs_no_ase():
    code = "import sys, dftbparam.reference as r; r.load_dataset(); assert 'ase' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
