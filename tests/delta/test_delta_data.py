"""Reading structures, subtracting the base, refusing what cannot be learnt from."""

import json

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from dftbparam.delta.data import (
    Base,
    composition_of,
    differences,
    read_reference,
    settings_from_record,
    settings_record,
)
from dftbparam.engine.base import Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.hamiltonian import Dispersion, Spin
from dftbparam.errors import ElementError, FileFormatError, ParameterError, ReferenceDataError, ScfNotConverged
from dftbparam.reference import load_points


@pytest.fixture
def images(reference_file):
    return read(reference_file, ":4")


def test_differences_are_what_the_reference_adds(samples, pair_forces):
    assert len(samples) == 25
    assert {sample.group for sample in samples} == {f"Si {n}" for n in ("diamond", "sc", "fcc", "bcc", "beta-sn")}
    for sample in samples[::6]:
        atoms = sample.atoms.copy()
        atoms.calc = pair_forces()
        # An xyz file has eight digits of positions and forces.
        assert sample.energy == pytest.approx(atoms.get_potential_energy() - 3.7 * len(atoms), abs=1e-5)
        assert sample.forces == pytest.approx(atoms.get_forces(), abs=1e-5)
        assert sample.stress == pytest.approx(atoms.get_stress(), abs=1e-6)


def test_direct_learning_has_the_reference_itself(reference_file, samples):
    direct = differences(read_reference(reference_file, group_key="crystal"), None).samples
    for one, other in zip(direct, samples, strict=True):
        whole = other.without_base()
        assert one.energy == pytest.approx(whole.energy)
        assert one.forces == pytest.approx(whole.forces)
        assert one.stress == pytest.approx(whole.stress)


def test_points_of_a_reference_set():
    frames = [one for one in read_reference("gpaw-pbe") if one.composition == "MgO"]
    points = [p for p in load_points("gpaw-pbe") if p.compound == "Mg-O"]
    assert len(frames) == sum(len(p.volumes) for p in points)
    assert {one.crystal for one in frames} == {"Mg-O cscl", "Mg-O rocksalt"}
    first = frames[0].frame
    assert first.energy_per_atom == pytest.approx(points[0].energies[0])
    assert first.atoms.get_volume() / len(first.atoms) == pytest.approx(points[0].volumes[0])
    assert first.settings["functional"] == "PBE"


def test_groups_without_a_key(images, tmp_path):
    for index, atoms in enumerate(images):
        atoms.info = {"name": f"melt {index:04d}", "functional": "PBE"}
    write(tmp_path / "some.extxyz", images, format="extxyz")
    assert {one.crystal for one in read_reference(tmp_path / "some.extxyz")} == {"Si melt"}
    with pytest.raises(ReferenceDataError, match="no 'family' to group by; it has the keys"):
        read_reference(tmp_path / "some.extxyz", group_key="family")


def test_compositions():
    from ase import Atoms

    assert composition_of(Atoms("TiO2TiO2")) == "O2Ti"
    assert composition_of(Atoms("Si8")) == "Si"


def changed(images, path, change):
    copies = []
    for index, atoms in enumerate(images):
        copy = atoms.copy()
        results = dict(atoms.calc.results)
        change(index, copy, results)
        copy.calc = SinglePointCalculator(copy, **results)
        copies.append(copy)
    write(path, copies, format="extxyz")
    return path


def test_what_is_refused(images, base, skf, tmp_path):
    def nan(index, atoms, results):
        if index == 2:
            results["forces"] = np.full((len(atoms), 3), np.nan)

    with pytest.raises(ReferenceDataError, match=r"nan.extxyz#3: forces are not all numbers"):
        read_reference(changed(images, tmp_path / "nan.extxyz", nan))

    def bare(index, atoms, results):
        if index == 1:
            del results["forces"]

    frames = read_reference(changed(images, tmp_path / "bare.extxyz", bare))
    with pytest.raises(ReferenceDataError, match=r"bare.extxyz#2: no forces, though asked for"):
        differences(frames, base, require=("forces",))
    found = differences(frames, base).samples
    assert [sample.forces is None for sample in found] == [False, True, False, False]

    def mixed(index, atoms, results):
        atoms.info["functional"] = "PBE" if index else "r2SCAN"

    frames = read_reference(changed(images, tmp_path / "mixed.extxyz", mixed))
    with pytest.raises(ReferenceDataError, match=r"mixed settings: functional is r2SCAN .*and PBE"):
        differences(frames, base)
    assert differences(frames, base, allow_mixed=True, energies_only=True).samples[0].forces is None

    def foreign(index, atoms, results):
        atoms.symbols[0] = "Ge"

    frames = read_reference(changed(images, tmp_path / "foreign.extxyz", foreign))
    with pytest.raises(ElementError, match=r"no Slater-Koster file for Ge-Ge, Ge-Si, Si-Ge"):
        differences(frames, base)
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(FileFormatError):
        read_reference(tmp_path / "text")
    with pytest.raises(ReferenceDataError, match="no structures"):
        differences([], base)
    with pytest.raises(ParameterError, match="group_by"):
        differences(read_reference(tmp_path / "bare.extxyz"), base, group_by="colour")
    with pytest.raises(ReferenceDataError, match="no free energy"):
        differences(read_reference(tmp_path / "bare.extxyz"), base, free_energy=True)


class Failing(EmbeddedEngine):
    """Fails for all structures but the first few."""

    name = "failing"

    def __init__(self, good):
        super().__init__()
        self.good = good

    def compute(self, tables, structures, settings):
        found = super().compute(tables, structures, settings)
        return [one if i < self.good else ScfNotConverged("no") for i, one in enumerate(found)]


def test_structures_for_which_the_base_fails_are_left_out_and_named(reference_file, skf):
    frames = read_reference(reference_file, group_key="crystal")
    found = differences(frames, Base(skf, Settings(), Failing(20)), energies_only=True)
    assert len(found.samples) == 20
    assert found.notes[0] == "silicon.extxyz#21 left out: no"
    with pytest.raises(ReferenceDataError, match="DFTB failed for 20 of 25 structures; the first"):
        differences(frames, Base(skf, Settings(), Failing(5)), energies_only=True)


def test_settings_survive_a_file():
    settings = Settings(
        kpt_density=2.5,
        temperature=300.0,
        spin=Spin({"Fe": ((-0.02, -0.01), (-0.01, -0.03))}),
        dispersion=Dispersion("d3bj", 3.209, 0.746, 4.191),
        shell_resolved=True,
        max_angular={"Si": 1},
    )
    again = settings_from_record(json.loads(json.dumps(settings_record(settings))))
    assert settings_record(again) == json.loads(json.dumps(settings_record(settings)))
    assert np.array_equal(again.spin.matrix("Fe", 2), settings.spin.matrix("Fe", 2))
    assert again.dispersion == settings.dispersion
