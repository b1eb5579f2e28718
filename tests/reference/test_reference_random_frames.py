"""Random crystals as structures in a file: relaxed with ASE's EMT, displaced, written and read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.io import read

from dftbparam.errors import ParameterError, ScfNotConverged
from dftbparam.reference.compositions import parse_composition
from dftbparam.reference.dft.structures import read_structures, structure_tasks
from dftbparam.reference.limits import Limits
from dftbparam.reference.random_crystals import DrawSettings
from dftbparam.reference.random_frames import RandomRequest, extxyz, random_frames
from dftbparam.reference.relaxation import RelaxationSettings

pytest.importorskip("pyxtal", exc_type=ImportError)

# A few groups that small cells have: drawing is fast.
DRAW = DrawSettings(atoms=4, seed=3, spacegroups=(12, 63, 65, 71, 123, 139, 166, 187, 221, 225))


def emt(_):
    return EMT()


def request(composition="Cu-Au", count=4, **more):
    return RandomRequest(parse_composition(composition), count, DRAW, method="EMT", **more)


@pytest.fixture(scope="module")
def relaxed():
    return random_frames(request(count=2, relaxation=RelaxationSettings(), copies=2, energies=True), emt)


def test_crystals_as_they_were_drawn():
    seen = []
    made = random_frames(request(), on_outcome=seen.append)
    assert made.statuses == {"drawn": 4}
    assert seen == made.outcomes
    assert [a.info["name"] for a in made.frames] == [o.name for o in made.outcomes]
    for atoms, outcome in zip(made.frames, made.outcomes, strict=True):
        assert atoms.calc is None
        assert atoms.info["origin"] == atoms.info["status"] == "drawn"
        assert atoms.info["spacegroup"] == atoms.info["spacegroup_drawn"] == outcome.spacegroup
        assert atoms.info["formula"] == outcome.formula
        assert "method" not in atoms.info
        assert outcome.energy is None
        assert outcome.frames == 1


def test_relaxed_with_copies_and_energies(relaxed):
    kept = [o for o in relaxed.outcomes if o.frames]
    assert kept
    assert len(relaxed.frames) == 3 * len(kept)
    for k, outcome in enumerate(kept):
        rest, *copies = relaxed.frames[3 * k : 3 * k + 3]
        assert rest.info["origin"] == "relaxed"
        assert [c.info["origin"] for c in copies] == ["displaced"] * 2
        assert [c.info["name"] for c in copies] == [f"{outcome.name} d00", f"{outcome.name} d01"]
        assert rest.info["method"] == "EMT"
        assert rest.info["status"] == outcome.status
        assert np.abs(rest.get_forces()).max() < 0.06
        assert rest.get_potential_energy() / len(rest) == pytest.approx(outcome.energy, abs=0.01)
        counts = [list(rest.symbols).count(s) for s in ("Cu", "Au")]
        for copy in copies:
            assert Limits.of(("Cu", "Au"), counts).violation(copy) is None
            assert not np.allclose(copy.cell.array, rest.cell.array)
            again = copy.copy()
            again.calc = EMT()
            assert copy.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-6)
            assert copy.get_forces() == pytest.approx(again.get_forces(), abs=1e-6)
            assert copy.get_stress() == pytest.approx(again.get_stress(), abs=1e-8)


def test_the_same_request_gives_the_same_file(relaxed):
    again = random_frames(request(count=2, relaxation=RelaxationSettings(), copies=2, energies=True), emt)
    assert extxyz(again.frames) == extxyz(relaxed.frames)


def test_provenance_is_readable(relaxed):
    info = relaxed.frames[0].info
    settings = json.loads(info["settings"].replace("'", '"'))
    assert settings["atoms"] == 4
    assert settings["spacegroups"] == "12,63,65,71,123,139,166,187,221,225"
    assert settings["relax_force"] == 0.05
    assert {"pyxtal", "numpy", "spglib", "ase", "dftbparam"} <= set(json.loads(info["versions"].replace("'", '"')))
    assert info["seed"] == 3


def test_what_is_written_is_read(relaxed, tmp_path):
    path = tmp_path / "some.extxyz"
    path.write_text(extxyz(relaxed.frames))
    for atoms, other in zip(relaxed.frames, read(path, ":"), strict=True):
        assert np.array_equal(atoms.positions, other.positions)
        assert np.array_equal(atoms.cell.array, other.cell.array)
        assert other.info == atoms.info
        assert other.get_potential_energy() == atoms.get_potential_energy()
        assert np.array_equal(other.get_forces(), atoms.get_forces())


def test_they_become_calculations(relaxed, tmp_path):
    path = tmp_path / "some.extxyz"
    path.write_text(extxyz(relaxed.frames))
    tasks = structure_tasks(read_structures(path), kpoint_density=3.0)
    assert len({task.label for task in tasks}) == len({task.key for task in tasks}) == len(relaxed.frames)
    assert all(task.kind == "forces" and task.recipe.kpoint_density == 3.0 for task in tasks)
    assert tasks[0].label == f"Cu-Au/Cu-Au-{relaxed.frames[0].info['slot']:04d}/frames/0000"
    assert tasks[1].details["origin"] == "displaced"
    assert tasks[0].details["spacegroup"] == relaxed.frames[0].info["spacegroup"]


def test_crystals_that_relax_to_one(monkeypatch):
    # Nearly every cell of one copper atom becomes fcc, if it may take its way there.
    draw = DrawSettings(atoms=1, seed=0, spacegroups=(12, 71, 139, 166, 221, 225, 229))
    wanted = RandomRequest(parse_composition("Cu"), 5, draw, RelaxationSettings(force=0.01))
    made = random_frames(wanted, emt)
    duplicates = [o for o in made.outcomes if o.status == "duplicate"]
    assert duplicates
    assert all("it has become Cu 0" in o.reason and o.frames == 0 for o in duplicates)
    assert len(made.frames) == sum(o.frames for o in made.outcomes)


def test_failures_are_reported_and_the_rest_goes_on():
    calls = []

    def sometimes(_):
        calls.append(1)
        if len(calls) % 2:
            raise ScfNotConverged("the charges do not converge")
        return EMT()

    made = random_frames(request(relaxation=RelaxationSettings()), sometimes)
    assert made.statuses["failed"] == 2
    assert len(made.outcomes) == 4
    assert all(o.reason == "the charges do not converge" for o in made.outcomes if o.status == "failed")


def test_a_structure_without_energy_is_left_out():
    def fails(_):
        raise ScfNotConverged("the charges do not converge")

    made = random_frames(request(count=1, energies=True), fails)
    assert made.frames == []
    assert made.lost == {made.outcomes[0].name: "the charges do not converge"}
    assert made.outcomes[0].frames == 0


def test_copies_without_room(monkeypatch):
    def close(crystal, *_):
        atoms = crystal.copy()
        atoms.set_cell(0.5 * atoms.cell.array, scale_atoms=True)
        return atoms

    monkeypatch.setattr("dftbparam.reference.random_frames.displaced", close)
    made = random_frames(request(count=1, copies=1))
    assert [a.info["origin"] for a in made.frames] == ["drawn"]
    assert "none of which keeps the limits" in next(iter(made.lost.values()))


@pytest.mark.parametrize("change", [{"count": 0}, {"copies": -1}])
def test_bad_requests(change):
    with pytest.raises(ParameterError, match=next(iter(change))):
        request(**change)


def test_a_calculator_is_needed_to_relax():
    with pytest.raises(ParameterError, match="need a calculator"):
        random_frames(request(relaxation=RelaxationSettings()))
