"""Relaxation: every way it can end, with calculators that are made for it."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from dftbparam.errors import ElementError, EngineMissing, EngineTimeout, ParameterError, ScfNotConverged, StructureError
from dftbparam.reference.limits import Limits
from dftbparam.reference.relaxation import RelaxationSettings, relax, symmetric_mesh

COPPER = Limits.of(("Cu",), (1,))


class Pull(Calculator):
    """Energy k r.r / 2 of all atoms about a point, with a stress of its own choice (hydrostatic, eV/Angstrom^3)."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, stress=0.0, springs=0.0, places=None):
        super().__init__()
        self.pressure, self.springs, self.places = stress, springs, places

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        away = (
            np.zeros((len(atoms), 3)) if self.places is None else atoms.get_scaled_positions(wrap=False) - self.places
        )
        self.results = {
            "energy": 0.5 * self.springs * float((away**2).sum()) + self.pressure * atoms.get_volume(),
            "forces": -self.springs * away,
            "stress": self.pressure * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        }


class Broken(Calculator):
    """Raises an error when asked, or returns what is no number."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        if self.error is not None:
            raise self.error
        nothing = np.full((len(atoms), 3), np.nan)
        self.results = {"energy": np.nan, "forces": nothing, "stress": np.full(6, np.nan)}


def emt(_):
    return EMT()


def volume_of_least_energy():
    """Of fcc copper by EMT, from a scan of the lattice constant."""
    lengths = np.arange(3.5, 3.7, 0.005)
    energies = []
    for length in lengths:
        atoms = bulk("Cu", a=length)
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
    return lengths[int(np.argmin(energies))] ** 3 / 4.0


def test_a_strained_crystal_comes_back():
    start = bulk("Cu", "sc", a=2.6)
    strained = bulk("Cu", a=3.9)
    found = relax(strained, emt, COPPER, spacegroup=225)
    assert (found.status, found.reason, found.spacegroup) == ("relaxed", "", 225)
    assert found.atoms.get_volume() == pytest.approx(volume_of_least_energy(), rel=0.01)
    assert found.force < 0.05
    assert found.energy == pytest.approx(0.0, abs=0.01)  # EMT's zero is the bulk
    assert strained.get_volume() == pytest.approx(3.9**3 / 4.0)  # the input stays
    assert strained.calc is None
    assert found.atoms.calc is None
    assert relax(start, emt, COPPER, spacegroup=221).atoms.get_volume() < start.get_volume()


def test_symmetry_can_rise_and_the_cell_shrinks_to_the_primitive_one():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array @ np.diag([1.02, 1.0, 0.98]), scale_atoms=True)
    found = relax(atoms, emt, Limits.of(("Cu",), (4,)), RelaxationSettings(force=0.005), spacegroup=69)
    assert found.status == "relaxed"
    assert found.spacegroup == 225
    assert len(found.atoms) == 1


def test_steps_run_out():
    found = relax(bulk("Cu", a=4.2), emt, COPPER, RelaxationSettings(force=1e-6, steps=2), spacegroup=225)
    assert found.status == "unconverged"
    assert "after 2 steps" in found.reason
    assert found.steps == 2


@pytest.mark.parametrize(("stress", "status"), [(1.0, "imploded"), (-1.0, "exploded")])
def test_collapse_and_flight_are_stopped_early(stress, status):
    found = relax(bulk("Cu"), lambda _: Pull(stress=stress), COPPER, spacegroup=225)
    assert found.status == status
    assert found.reason
    assert 0 < found.steps < 150
    assert found.spacegroup is None


def test_all_symmetry_lost():
    atoms = bulk("Cu", cubic=True)
    shifts = np.array([[0.03, 0.01, 0.02], [-0.03, 0.05, -0.04], [0.06, -0.06, 0.03], [0.02, 0.05, -0.02]])
    places = atoms.get_scaled_positions() + shifts
    found = relax(atoms, lambda _: Pull(springs=10.0, places=places), Limits.of(("Cu",), (4,)), spacegroup=225)
    assert found.status == "asymmetric"
    assert found.spacegroup == 1
    assert "225" in found.reason
    # Where there was none to lose, it is a crystal like any other.
    again = relax(atoms, lambda _: Pull(springs=10.0, places=places), Limits.of(("Cu",), (4,)), spacegroup=1)
    assert again.status == "relaxed"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ScfNotConverged("the charges do not converge", iterations=100), "the charges do not converge"),
        (StructureError("atoms on top of each other"), "atoms on top of each other"),
        (EngineTimeout("slower than 10 s"), "slower than 10 s"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (None, "energy or forces that are no numbers"),
    ],
)
def test_no_answer_is_an_outcome(error, reason):
    found = relax(bulk("Cu"), lambda _: Broken(error), COPPER, spacegroup=225)
    assert (found.status, found.reason, found.energy) == ("failed", reason, None)


@pytest.mark.parametrize("error", [EngineMissing("no such program"), ElementError("no tables for Cu")])
def test_what_the_structure_is_not_to_blame_for_is_raised(error):
    with pytest.raises(type(error), match=error.message):
        relax(bulk("Cu"), lambda _: Broken(error), COPPER)


def test_a_calculator_that_cannot_be_made():
    def make(_):
        raise ValueError("no")

    assert relax(bulk("Cu"), make, COPPER).reason == "ValueError: no"


@pytest.mark.parametrize("change", [{"force": 0.0}, {"force": float("nan")}, {"steps": 0}])
def test_bad_settings(change):
    with pytest.raises(ParameterError, match=next(iter(change))):
        RelaxationSettings(**change)


def test_meshes_hold_gamma():
    assert symmetric_mesh(bulk("Si"), 2.0) == (5, 5, 5)
    assert symmetric_mesh(Atoms("Si", cell=[3.0, 3.0, 30.0], pbc=True), 2.0) == (5, 5, 1)


def test_atoms_may_come_close_on_the_way_but_not_at_the_end():
    atoms = bulk("Cu", cubic=True)
    places = atoms.get_scaled_positions()
    limits = Limits.of(("Cu",), (4,), distance_factor=1.0)
    nearest = atoms.get_all_distances(mic=True)[0, 1]
    assert nearest < 2.0 * 1.32  # the crystal's own bond is shorter than the sum of these radii
    found = relax(atoms, lambda _: Pull(springs=1.0, places=places), limits, spacegroup=225)
    assert found.status == "imploded"
    assert "apart" in found.reason
    looser = Limits.of(("Cu",), (4,), distance_factor=0.9)
    assert relax(atoms, lambda _: Pull(springs=1.0, places=places), looser, spacegroup=225).status == "relaxed"
