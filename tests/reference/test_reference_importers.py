"""Sources of every format become the same reference set; what is wrong is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.errors import (
    DftbparamError,
    FileFormatError,
    InputError,
    ParameterError,
    ReferenceDataError,
    StructureError,
)
from dftbparam.reference import load_dataset, load_frames, load_points
from dftbparam.reference.importers import (
    Offsets,
    Provenance,
    ReadOptions,
    import_references,
    parse_offsets,
    read_source,
)
from dftbparam.reference.importers.settings import contradictions, functional_name, same_functional
from dftbparam.reference.importers.write import toml
from tests.reference.support.import_sources import acwf, atom, curve, displaced, entry, vasprun, with_results

PROVENANCE = Provenance(name="mine", title="Mine", source="me", licence="MIT")


@pytest.fixture
def bring(tmp_path):
    """Import files of the test's folder into its folder ``set``."""

    def bring(*names, **choices):
        choices.setdefault("functional", "PBE")
        return import_references([tmp_path / name for name in names], tmp_path / "set", PROVENANCE, **choices)

    return bring


@pytest.fixture
def silicon(tmp_path):
    frames = [*curve("diamond", "Si", 20.4, -5.4, forces=True), *curve("fcc", "Si", 14.3, -4.9), atom("Si", -0.8)]
    frames += displaced()
    write(tmp_path / "si.extxyz", frames)
    return frames


@pytest.fixture
def magnesia(tmp_path):
    frames = [*curve("rocksalt", "Mg", 9.6, -6.0, partner="O"), atom("Mg", -0.01), atom("O", -1.5)]
    write(tmp_path / "mgo.extxyz", frames)
    return frames


# --- what an import makes


def test_extended_xyz(bring, silicon, tmp_path):
    result = bring("si.extxyz")
    data = load_dataset(tmp_path / "set")
    assert result.dataset == data
    assert (data.functional, data.spin, data.frames, data.offsets) == ("PBE", "none", 15, {})
    assert [atom.model_dump() for atom in data.atoms] == [
        {"symbol": "Si", "energy": -0.8, "magnetic_moment": 0.0, "status": "ok"}
    ]
    diamond, fcc = data.crystals_of("Si")
    assert (diamond.prototype, fcc.prototype) == ("diamond", "fcc")
    # The numbers that the energies were made from.
    assert diamond.volume == pytest.approx(20.4, abs=1e-5)
    assert diamond.bulk_modulus == pytest.approx(0.55, abs=1e-5)
    assert diamond.bulk_modulus_derivative == pytest.approx(4.3, abs=1e-3)
    assert (diamond.energy, fcc.energy) == pytest.approx((-5.4, -4.9), abs=1e-6)
    points = load_points(tmp_path / "set")
    assert [(curve.name, len(curve.volumes)) for curve in points] == [("diamond", 9), ("fcc", 9)]
    assert any("atoms of Si go to atoms.csv" in note for note in result.collection.notes)


def test_frames_keep_energies_forces_and_stress(bring, silicon, tmp_path):
    bring("si.extxyz")
    frames = load_frames(tmp_path / "set")
    given = [frame for frame in silicon if "forces" in frame.calc.results]
    assert len(frames) == len(given)
    for one, other in zip(frames, given, strict=True):
        assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-8)
        assert one.get_forces() == pytest.approx(other.get_forces(), abs=1e-7)
        assert one.get_stress() == pytest.approx(other.get_stress(), abs=1e-12)
        assert one.positions == pytest.approx(other.positions, abs=1e-7)
        assert one.cell.array == pytest.approx(other.cell.array)
    assert frames[0].info["crystal"] == "Si diamond"
    assert frames[0].info["source"] == "si.extxyz#1"
    assert "crystal" not in frames[-1].info


def test_an_energy_zero_is_never_guessed(bring, magnesia, tmp_path):
    with pytest.raises(
        ReferenceDataError, match=r"energies of Mg, O meet .* isolated atoms of Mg O: --offsets from-atoms"
    ):
        bring("mgo.extxyz")
    assert not (tmp_path / "set").exists()
    data = bring("mgo.extxyz", offsets=Offsets(from_atoms=True)).dataset
    assert dict(data.offsets) == {"Mg": -0.01, "O": -1.5}
    assert data.crystals[0].energy == pytest.approx(-6.0, abs=1e-6)  # as computed; offsets are kept beside
    assert (data.compounds, data.symbols) == (("Mg-O",), ())


def test_offsets_given(bring, magnesia):
    with pytest.raises(ReferenceDataError, match="no energy offset of O: not among --offsets"):
        bring("mgo.extxyz", offsets=Offsets({"Mg": -0.1}))
    assert dict(bring("mgo.extxyz", offsets=Offsets({"Mg": -0.1, "O": -2.0})).dataset.offsets) == {
        "Mg": -0.1,
        "O": -2.0,
    }


def test_offsets_left_out_on_purpose(bring, magnesia):
    result = bring("mgo.extxyz", offsets=Offsets(none=True))
    assert dict(result.dataset.offsets) == {}
    assert any("cannot be compared" in note for note in result.collection.notes)


def test_offsets_from_atoms_that_are_not_there(bring, tmp_path):
    write(tmp_path / "a.extxyz", curve("rocksalt", "Mg", 9.6, -6.0, partner="O"))
    with pytest.raises(ReferenceDataError, match=r"nothing says .* give them with --offsets Mg=...,O=..."):
        bring("a.extxyz")
    with pytest.raises(ReferenceDataError, match="no energy offset of Mg, O: not among isolated atoms"):
        bring("a.extxyz", offsets=Offsets(from_atoms=True))


def test_two_atoms_of_one_element_are_not_chosen_from(bring, magnesia, tmp_path):
    write(tmp_path / "mgo.extxyz", [*magnesia, atom("O", -1.9)])
    with pytest.raises(ReferenceDataError, match=r"no energy offset of O: .*several of different energy"):
        bring("mgo.extxyz", offsets=Offsets(from_atoms=True))
    data = bring("mgo.extxyz", offsets=Offsets({"Mg": 0.0, "O": 0.0})).dataset
    assert ([a.symbol for a in data.atoms], data.frames) == (["Mg"], 2)


def test_every_format_gives_the_same_rows(bring, tmp_path):
    frames = curve("diamond", "Si", 20.4, -5.4, forces=True)
    write(tmp_path / "a.extxyz", frames)
    write(tmp_path / "b.db", frames)
    write(tmp_path / "c.json", frames)
    (tmp_path / "d.json").write_text(json.dumps([entry(frame) for frame in frames]))
    points = [[f.cell.volume / 2, f.get_potential_energy() / 2] for f in frames]
    (tmp_path / "e.json").write_text(acwf({"Si-X/Diamond": (2, points)}))
    for index, frame in enumerate(frames):
        (tmp_path / "f" / str(index)).mkdir(parents=True)
        (tmp_path / "f" / str(index) / "vasprun.xml").write_text(vasprun([frame]))
    kinds = {}
    for name in ("a.extxyz", "b.db", "c.json", "d.json", "e.json", "f"):
        result = import_references([tmp_path / name], tmp_path / f"set-{name}", PROVENANCE, functional="PBE")
        (crystal,) = result.dataset.crystals
        assert (crystal.compound, crystal.prototype) == ("Si", "diamond")
        assert crystal.volume == pytest.approx(20.4, abs=1e-4), name
        assert crystal.bulk_modulus == pytest.approx(0.55, abs=1e-4), name
        assert crystal.energy == pytest.approx(-5.4, abs=1e-5), name
        kinds[name] = (result.sources[0].kind, result.dataset.frames)
    assert kinds == {
        "a.extxyz": ("extended xyz", 9),
        "b.db": ("ASE database", 9),
        "c.json": ("ASE database", 9),
        "d.json": ("computed entries", 0),
        "e.json": ("ACWF results", 0),
        "f": ("VASP", 9),
    }


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed(bring, silicon, tmp_path, suffix, pack):
    (tmp_path / f"si.extxyz{suffix}").write_bytes(pack((tmp_path / "si.extxyz").read_bytes()))
    assert len(bring(f"si.extxyz{suffix}").dataset.crystals) == 2


def test_several_sources_make_one_set(bring, silicon, magnesia):
    data = bring("si.extxyz", "mgo.extxyz", offsets=Offsets(from_atoms=True)).dataset
    assert (data.symbols, data.compounds, dict(data.offsets)) == (
        ("Si",), ("Mg-O",), {"Si": -0.8, "Mg": -0.01, "O": -1.5},
    )  # fmt: skip


def test_structures_alone(bring, tmp_path):
    write(tmp_path / "a.extxyz", displaced())
    data = bring("a.extxyz").dataset
    assert (data.crystals, data.frames) == ((), 6)
    assert not (tmp_path / "set" / "data.csv").exists()


def test_layers_and_dimers(bring, tmp_path):
    write(tmp_path / "a.extxyz", [*curve("graphene", "C", 1.42**3, -9.0), *curve("dimer", "C", 1.3**3, -6.0)])
    rows = {c.prototype: c for c in bring("a.extxyz").dataset.crystals}
    assert rows["graphene"].volume == pytest.approx(1.42**3, abs=1e-4)
    assert rows["dimer"].volume == pytest.approx(1.3**3, abs=1e-4)


def test_too_few_points_stay_structures(bring, tmp_path):
    write(tmp_path / "a.extxyz", curve("fcc", "Al", 16.5, -3.7, relative=(0.97, 1.0, 1.03, 1.05)))
    result = bring("a.extxyz")
    assert (result.dataset.frames, result.dataset.crystals) == (4, ())
    assert "Al fcc: 4 volumes; 5 around a minimum make an E(V) row" in result.collection.notes


def test_a_curve_without_minimum_stays_structures(bring, tmp_path):
    write(tmp_path / "a.extxyz", curve("fcc", "Al", 16.5, -3.7, relative=np.linspace(1.02, 1.1, 6)))
    result = bring("a.extxyz")
    assert (result.dataset.frames, result.dataset.crystals) == (6, ())
    assert any("lowest at the smallest volume" in note for note in result.collection.notes)


def test_points_far_out_do_not_bend_the_fit(bring, tmp_path):
    near = curve("fcc", "Al", 16.5, -3.7)
    far = curve("fcc", "Al", 16.5, -3.7, relative=(0.6, 0.7, 1.4, 1.6))
    for frame in far:
        frame.calc.results["energy"] += 0.5
    write(tmp_path / "a.extxyz", near + far)
    result = bring("a.extxyz")
    assert result.dataset.crystals[0].volume == pytest.approx(16.5, abs=1e-4)
    assert len(load_points(tmp_path / "set")[0].volumes) == 13


def test_two_energies_for_one_volume(bring, tmp_path):
    frames = curve("fcc", "Al", 16.5, -3.7)
    again = frames[4].copy()
    write(tmp_path / "a.extxyz", [*frames, with_results(again, energy=frames[4].get_potential_energy() + 0.1)])
    result = bring("a.extxyz")
    assert (result.dataset.frames, result.dataset.crystals) == (10, ())
    assert any("two energies at 16.5" in note for note in result.collection.notes)


def test_repeated_points_count_once(bring, tmp_path):
    frames = curve("fcc", "Al", 16.5, -3.7)
    write(tmp_path / "a.extxyz", [*frames, *frames])
    bring("a.extxyz")
    assert len(load_points(tmp_path / "set")[0].volumes) == 9


@given(
    st.sampled_from([("diamond", "Si", None, 20.4), ("rocksalt", "Na", "Cl", 23.0), ("hcp", "Ti", None, 17.4)]),
    st.floats(0.8, 1.2),
    st.floats(0.05, 2.0),
    st.floats(2.5, 6.0),
    st.floats(-2000.0, 10.0),
)
@settings(max_examples=8, deadline=None)
def test_a_row_says_what_its_energies_were_made_from(tmp_path_factory, crystal, scale, b0, b1, e0):
    name, symbol, partner, volume = crystal
    folder = tmp_path_factory.mktemp("property")
    write(folder / "a.extxyz", curve(name, symbol, scale * volume, e0, partner=partner, b0=b0, b1=b1))
    (row,) = import_references(
        [folder / "a.extxyz"], folder / "set", PROVENANCE, functional="PBE", offsets=Offsets(none=True)
    ).dataset.crystals
    assert (row.symbol, row.partner, row.prototype) == (symbol, partner, name)
    assert row.volume == pytest.approx(scale * volume, rel=1e-4)
    assert row.bulk_modulus == pytest.approx(b0, rel=1e-2)
    assert row.energy == pytest.approx(e0, abs=1e-5)


# --- settings


def test_mixed_functionals_are_refused(bring, tmp_path):
    write(tmp_path / "a.extxyz", [*curve("fcc", "Al", 16.5, -3.7, xc="PBE"), *curve("bcc", "Al", 16.9, -3.6, xc="LDA")])
    with pytest.raises(ReferenceDataError, match=r"mixed functionals: PBE \(a.extxyz#1\) and LDA \(a.extxyz#10\)"):
        bring("a.extxyz", functional=None)
    with pytest.raises(ReferenceDataError, match=r"mixed functionals: PBEsol \(--functional\) and PBE"):
        bring("a.extxyz", functional="PBEsol")
    assert not (tmp_path / "set").exists()


def test_the_functional_must_be_known(bring, silicon, tmp_path):
    with pytest.raises(ReferenceDataError, match="no file says which functional was used; say it with --functional"):
        bring("si.extxyz", functional=None)
    write(tmp_path / "a.extxyz", curve("fcc", "Al", 16.5, -3.7, functional="GGA"))
    with pytest.raises(ReferenceDataError, match="the files say GGA alone"):
        bring("a.extxyz", functional=None)
    assert bring("a.extxyz", functional="pbe").dataset.functional == "PBE"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pbe", "PBE"), (" PE ", "PBE"), ("GGA_X_PBE+GGA_C_PBE", "PBE"), ("PBEsol", "PBEsol"), ("R2SCAN", "r2SCAN"),
        ("pbe+U", "PBE+U"), ("xyz", "xyz"), ("GGA+U", "GGA+U"), ("lda", "LDA"),
    ],
)  # fmt: skip
def test_names_of_functionals(text, name):
    assert functional_name(text) == name


def test_families_of_functionals():
    assert same_functional("GGA", "PBE")
    assert same_functional("PBEsol+U", "GGA+U")
    assert not same_functional("GGA", "PBE+U")
    assert not same_functional("GGA", "LDA")
    assert not same_functional("PBE", "PBEsol")


def test_settings_of_elements_are_compared_by_element():
    one, two = {"potentials": "PAW_PBE O,PAW_PBE Ti_pv"}, {"potentials": "PAW_PBE O,PAW_PBE Si"}
    assert contradictions([(one, "a"), (two, "b")]) == {}
    found = contradictions([(one, "a"), ({"potentials": "PAW_PBE O_s"}, "b")])
    assert found == {"potentials of O": [("PAW_PBE O", "a"), ("PAW_PBE O_s", "b")]}
    assert contradictions([({"cutoff": 400}, "a"), ({"cutoff": 400.0}, "b"), ({}, "c")]) == {}


def test_a_curve_of_different_settings_is_refused(bring, tmp_path):
    frames = curve("fcc", "Al", 16.5, -3.7, cutoff=400.0)
    frames[3].info["cutoff"] = 520.0
    write(tmp_path / "a.extxyz", frames)
    with pytest.raises(ReferenceDataError, match=r"Al fcc: .*different settings: cutoff 400 \(.*\) and 520 \(a"):
        bring("a.extxyz")


def test_different_settings_are_recorded(bring, tmp_path):
    write(tmp_path / "a.extxyz", [*displaced(cutoff=400.0, code="GPAW"), *displaced(seed=1, cutoff=520.0, code="GPAW")])
    result = bring("a.extxyz")
    assert dict(result.dataset.settings) == {"code": "GPAW", "mixed": {"cutoff": ["400", "520"]}}
    assert {frame.info["cutoff"] for frame in load_frames(tmp_path / "set")} == {400, 520}


def test_spin(bring, tmp_path):
    write(tmp_path / "a.extxyz", [*displaced(spin="none"), *displaced(seed=1, spin="collinear")])
    with pytest.raises(ReferenceDataError, match="treatment of spin differs: none and collinear"):
        bring("a.extxyz")
    assert bring("a.extxyz", spin="collinear").dataset.spin == "collinear"


def test_one_crystal_from_two_sources(bring, tmp_path):
    points = [[volume, (volume - 20.0) ** 2 / 100] for volume in (18.0, 19.0, 20.0, 21.0, 22.0)]
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(acwf({"Si-X/Diamond": (2, points)}))
    with pytest.raises(ReferenceDataError, match=r"Si diamond comes from two sources, a.json#.* and b.json#"):
        bring("a.json", "b.json")


# --- extended xyz and databases


def test_energies_under_another_name(bring, tmp_path):
    frames = displaced()
    for frame in frames:
        frame.info["REF_energy"] = frame.get_potential_energy() - 100.0
        frame.arrays["REF_forces"] = 2.0 * frame.get_forces()
        frame.calc = None
    write(tmp_path / "a.extxyz", frames)
    with pytest.raises(
        ReferenceDataError, match=r"no structure has an energy \('energy'\); it has REF_energy: say --energy-key"
    ):
        bring("a.extxyz")
    result = bring("a.extxyz", options=ReadOptions(energy_key="REF_energy"))
    assert result.dataset.frames == 6
    assert any("--forces-key REF_forces" in note for note in result.collection.notes)
    source = read_source(tmp_path / "a.extxyz", ReadOptions(energy_key="REF_energy", forces_key="REF_forces"))
    assert source.frames[0].energy < -100.0
    assert source.frames[0].forces == pytest.approx(frames[0].arrays["REF_forces"], abs=1e-7)


def test_virials_are_not_taken_for_stress(bring, tmp_path):
    frames = displaced()
    for frame in frames:
        frame.info["virial"] = np.eye(3)
        del frame.calc.results["stress"]
    write(tmp_path / "a.extxyz", frames)
    result = bring("a.extxyz")
    assert any("'virial' is not read as stress" in note for note in result.collection.notes)
    assert "stress" not in load_frames(tmp_path / "set")[0].calc.results


def test_skipping_bad_structures(bring, silicon, tmp_path):
    bad = Atoms("Si2", positions=[(0, 0, 0), (0, 0, 0.1)])
    write(tmp_path / "a.extxyz", [*displaced(), with_results(bad, energy=-1.0)])
    with pytest.raises(StructureError, match=r"a\.extxyz#7: Si and Si lie 0\.1 Angstrom apart"):
        bring("a.extxyz")
    result = bring("a.extxyz", options=ReadOptions(skip_bad=True))
    assert result.dataset.frames == 6
    assert any(note.startswith("left out: a.extxyz#7: Si and Si") for note in result.collection.notes)


def test_a_database_is_not_changed(tmp_path):
    write(tmp_path / "a.db", displaced())
    before = (tmp_path / "a.db").read_bytes()
    assert len(read_source(tmp_path / "a.db").frames) == 6
    assert (tmp_path / "a.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_database_columns(tmp_path):
    from ase.db import connect

    with connect(tmp_path / "a.db") as database:
        for frame in displaced():
            database.write(frame, xc="PBE", label="shaken")
    frame = read_source(tmp_path / "a.db").frames[0]
    assert (frame.name, frame.settings["functional"], frame.source) == ("shaken", "PBE", "a.db#1")


# --- ACWF


def acwf_curve(v0, e0, points=7):
    return [
        [f.cell.volume, f.get_potential_energy()]
        for f in curve("sc", "Si", v0, e0, relative=np.linspace(0.94, 1.06, points))
    ]


def test_acwf_oxides(bring, tmp_path):
    curves = {
        "Ca-XO": (2, acwf_curve(13.9, -6.0)),
        "Ca-XO2": (3, acwf_curve(12.0, -6.0)),
        "Li-X2O": (3, acwf_curve(8.2, -4.0)),
        "W-XO3": (4, acwf_curve(13.7, -9.0)),
        "Al-X2O3": (10, acwf_curve(9.0, -7.0)),
        "O-XO": (2, acwf_curve(10.0, -5.0)),
        "Xx-XO": (2, acwf_curve(10.0, -5.0)),
    }
    name = "results-oxides-verification-PBE-v1-mycode.json"
    (tmp_path / name).write_text(acwf(curves, name="oxides-verification-PBE-v1"))
    result = bring(name, functional=None, offsets=Offsets(none=True))
    assert [(c.compound, c.prototype) for c in result.dataset.crystals] == [
        ("Ca-O", "rocksalt"), ("Ca-O", "fluorite"), ("Li-O", "antifluorite"), ("W-O", "reo3"),
    ]  # fmt: skip
    assert result.dataset.crystals[3].volume == pytest.approx(13.7, abs=1e-4)
    assert dict(result.dataset.settings) == {"code": "mycode"}
    notes = " | ".join(result.collection.notes)
    assert "X2O3 is no known prototype: Al-X2O3" in notes
    assert "oxygen as an oxide of itself: O-XO" in notes
    assert "no element from H to Cm with a structure: Xx-XO" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("eos_data"), "no E.V. points"),
        (lambda d: d.update(eos_data={}), "no E.V. points"),
        (lambda d: d.pop("num_atoms_in_sim_cell"), "no 'num_atoms_in_sim_cell'"),
        (lambda d: d["num_atoms_in_sim_cell"].update({"Si-X/Diamond": 3}), "3 atoms in the cell; diamond has 2"),
        (lambda d: d["eos_data"].update({"Si-X/Diamond": [[1, 2, 3]]}), "pairs of numbers"),
        (lambda d: d["eos_data"].update({"Si-X/Diamond": [[1, None]]}), "pairs of numbers"),
        (lambda d: d["eos_data"].update({"Si-X/Diamond": "x"}), "pairs of numbers"),
        (lambda d: d["eos_data"].update({"Si-X/Diamond": [[-1, 2]]}), "pairs of numbers"),
        (lambda d: d.update(eos_data={"Si-X2O3": []}), "none of its structures is a known prototype"),
    ],
)
def test_bad_acwf(tmp_path, change, message):
    data = json.loads(acwf({"Si-X/Diamond": (2, acwf_curve(20.0, -5.0))}))
    data.setdefault("BM_fit_data", {})
    change(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        read_source(tmp_path / "a.json")


# --- VASP


def test_vasp(tmp_path):
    frame = displaced(number=1)[0]
    (tmp_path / "vasprun.xml.gz").write_bytes(gzip.compress(vasprun([frame]).encode()))
    (found,) = read_source(tmp_path / "vasprun.xml.gz").frames
    assert found.energy == pytest.approx(frame.get_potential_energy(), abs=1e-8)
    assert found.free_energy == pytest.approx(frame.get_potential_energy() - 0.002, abs=1e-8)
    assert found.forces == pytest.approx(frame.get_forces(), abs=1e-10)
    assert found.stress == pytest.approx(frame.get_stress(), rel=1e-6)  # kbar and the sign undone
    assert dict(found.settings) == {
        "code": "VASP", "version": "6.4.2", "functional": "PBE", "cutoff": 400.0, "scheme": "ISMEAR=0",
        "smearing": 0.05, "spin": "none", "potentials": "PAW_PBE Si",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "functional"),
    [
        ({"gga": "PE"}, "PBE"),
        ({"gga": "PS"}, "PBEsol"),
        ({"gga": "--"}, "PBE"),
        ({"gga": "--", "potential": "PAW {} 01Jan2001"}, "LDA"),
        ({"gga": "--", "potential": "US {} 01Jan2001"}, None),
        ({"extra": '<i name="METAGGA">R2SCAN</i>'}, "r2SCAN"),
        ({"extra": '<i name="LHFCALC"> T </i><i name="AEXX">0.25</i><i name="HFSCREEN">0.2</i>'}, "HSE06"),
        ({"extra": '<i name="LHFCALC"> T </i><i name="AEXX">0.25</i><i name="HFSCREEN">0.0</i>'}, "PBE0"),
        ({"extra": '<i name="LDAU"> T </i><v name="LDAUU">3.9</v>'}, "PBE+U"),
        ({"extra": '<i name="IVDW">12</i>'}, "PBE+D3BJ"),
    ],
)
def test_functional_of_vasp(tmp_path, choices, functional):
    (tmp_path / "vasprun.xml").write_text(vasprun(displaced(number=1), **choices))
    settings = read_source(tmp_path / "vasprun.xml").frames[0].settings
    assert settings.get("functional") == functional
    assert settings.get("hubbard") == ("Si:3.9" if functional == "PBE+U" else None)


def test_steps_of_vasp(tmp_path):
    steps = displaced(number=3)
    (tmp_path / "vasprun.xml").write_text(vasprun(steps))
    (last,) = read_source(tmp_path / "vasprun.xml").frames
    assert (last.source, last.energy) == ("vasprun.xml#3", pytest.approx(steps[2].get_potential_energy()))
    assert len(read_source(tmp_path / "vasprun.xml", ReadOptions(all_steps=True)).frames) == 3


def test_unconverged_vasp(tmp_path):
    text = vasprun(displaced(number=1), cycles=40, nelm=40)
    (tmp_path / "vasprun.xml").write_text(text)
    assert len(read_source(tmp_path / "vasprun.xml").frames) == 1  # the last two energies agree
    energy = text.rindex("<scstep>")
    text = text[:energy] + text[energy:].replace('e_fr_energy">-2', 'e_fr_energy">-3', 1)
    (tmp_path / "vasprun.xml").write_text(text)
    with pytest.raises(ReferenceDataError, match="did not converge"):
        read_source(tmp_path / "vasprun.xml")


def test_mixed_vasp_runs(bring, tmp_path):
    for index, (frame, gga) in enumerate(zip(displaced(number=2), ("PE", "PS"), strict=True)):
        (tmp_path / "runs" / str(index)).mkdir(parents=True)
        (tmp_path / "runs" / str(index) / "vasprun.xml").write_text(vasprun([frame], gga=gga))
    with pytest.raises(ReferenceDataError, match=r"mixed functionals: PBE .* and PBEsol"):
        bring("runs", functional=None)
    (tmp_path / "none").mkdir()
    with pytest.raises(ReferenceDataError, match=r"holds no vasprun\.xml"):
        bring("none")


# --- entries


def test_entries_of_pymatgen(tmp_path):
    """What pymatgen itself writes."""
    computed_entries = pytest.importorskip("pymatgen.entries.computed_entries")
    from monty.json import MontyEncoder
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice.cubic(4.2), ["Mg2+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    made = computed_entries.ComputedStructureEntry(
        structure, -12.5, correction=-0.7, entry_id="mp-1",
        parameters={"run_type": "GGA", "potcar_symbols": ["PBE Mg_pv", "PBE O"], "hubbards": {}},
    )  # fmt: skip
    for text in (
        json.dumps([made], cls=MontyEncoder),
        json.dumps({"entries": [made.as_dict()]}, cls=MontyEncoder),
        json.dumps(made, cls=MontyEncoder),
    ):
        (tmp_path / "a.json").write_text(text)
        source = read_source(tmp_path / "a.json")
        (frame,) = source.frames
        assert frame.energy == made.uncorrected_energy == -12.5
        assert frame.atoms.get_chemical_symbols() == ["Mg", "O"]
        assert frame.atoms.cell.array == pytest.approx(4.2 * np.eye(3))
        assert frame.atoms.get_scaled_positions()[1] == pytest.approx([0.5] * 3)
        assert dict(frame.settings) == {"functional": "PBE", "potentials": "PBE Mg_pv,PBE O"}
        assert "1 of 1 entries carry corrections" in source.notes[0]


def test_entries_of_two_functionals(bring, tmp_path):
    frames = displaced(number=2)
    entries = [entry(frames[0], "a", run_type="GGA"), entry(frames[1], "b", run_type="GGA+U", hubbards={"Si": 2.0})]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(ReferenceDataError, match=r"mixed functionals: PBE .* and GGA\+U \(a.json#b\)"):
        bring("a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("energy"), "no energy"),
        (lambda e: e.update(energy=None), "no energy"),
        (lambda e: e.update(energy="-5"), "no energy"),
        (lambda e: e.pop("structure"), "no structure"),
        (lambda e: e["structure"].pop("lattice"), "no 'lattice'"),
        (lambda e: e["structure"]["lattice"].update(matrix=[[1, 0, 0]]), "three vectors"),
        (lambda e: e["structure"]["sites"][0].update(abc=[0, 0]), "three coordinates"),
        (lambda e: e["structure"]["sites"][0]["species"][0].update(occu=0.5), "partly occupied"),
        (lambda e: e["structure"]["sites"][0]["species"][0].update(element="Qq"), "not a structure of pymatgen"),
        (lambda e: e["structure"].update(sites=[]), "not a structure of pymatgen"),
    ],
)
def test_bad_entries(tmp_path, change, message):
    one = entry(displaced(number=1)[0])
    change(one)
    (tmp_path / "a.json").write_text(json.dumps([one]))
    with pytest.raises(InputError, match=message):
        read_source(tmp_path / "a.json")


# --- bad input


def extxyz(lattice="5 0 0 0 5 0 0 0 5", rows=("Si 0 0 0 0 0 0", "Si 2.4 0 0 0 0 0"), info="energy=-10.0"):
    head = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 {info} pbc="T T T"'
    return "\n".join([str(len(rows)), head, *rows, ""])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (extxyz(info=""), ReferenceDataError, "no structure has an energy"),
        (extxyz() + extxyz(info=""), ReferenceDataError, "a.extxyz#2: no energy"),
        (extxyz(lattice="5 0 0 0 5 0 0 0 0"), StructureError, "zero volume"),
        (extxyz(lattice="5 0 0 5 0 0 0 0 5"), StructureError, "zero volume"),
        (extxyz(lattice="0 0 0 0 0 0 0 0 0"), StructureError, "zero volume"),
        (extxyz(rows=("Si 0 0 0 0 0 0", "Si 0 0 0 0 0 0")), StructureError, "on top of each other"),
        (extxyz(rows=("Si 0 0 0 0 0 0", "Si 5 0 0.1 0 0 0")), StructureError, "on top of each other"),
        (extxyz(rows=("Si 0 0 0 0 0 0", "Si nan 0 0 0 0 0")), StructureError, "not all numbers"),
        (extxyz(rows=("Si 0 0 0 0 0 0", "Si 2.4 0 0 nan 0 0")), ReferenceDataError, "forces are not all numbers"),
        (extxyz(rows=("Cf 0 0 0 0 0 0", "Si 2.4 0 0 0 0 0")), StructureError, "element Cf; known are H to Cm"),
        (extxyz(rows=("X 0 0 0 0 0 0", "Si 2.4 0 0 0 0 0")), StructureError, "an atom without element"),
        (extxyz(info="energy=nan"), ReferenceDataError, "not a number"),
        (extxyz(info="energy=inf"), ReferenceDataError, "not a number"),
        (extxyz(info="energy=low"), ReferenceDataError, "not a number"),
        (extxyz(info='energy=-1 stress="nan 0 0 0 0 0 0 0 0"'), ReferenceDataError, "stress are not all numbers"),
        (extxyz(rows=("Si 0 0 0 0 0 0", "Si 2.4 0 0 x 0 0")), FileFormatError, "not an extended xyz file"),
        (extxyz(rows=("Qq 0 0 0 0 0 0",)), FileFormatError, "not an extended xyz file"),
        (extxyz()[:-20], FileFormatError, "not an extended xyz file"),
        ("3\n\nSi 0 0 0\n", FileFormatError, "more than the 3 lines"),
        ("", FileFormatError, "empty"),
        ("\n \n", FileFormatError, "empty"),
        ("0\nenergy=1\n", StructureError, "no atoms"),
        ("hello\n", FileFormatError, "neither an extended xyz file"),
        ("<html></html>", FileFormatError, "something else than VASP"),
        ("<modeling><a>", FileFormatError, "truncated or damaged XML"),
        ("< not", FileFormatError, "not XML"),
        ("{", FileFormatError, "not JSON, or truncated"),
        ('{"a": 1}', FileFormatError, "JSON of no known layout"),
        ("[1, 2]", FileFormatError, "JSON of no known layout"),
        ("[" * 100000, FileFormatError, "nested too deeply"),
    ],
)
def test_bad_files(bring, tmp_path, text, error, message):
    (tmp_path / "a.extxyz").write_text(text)
    with pytest.raises(DftbparamError, match=message) as caught:
        bring("a.extxyz")
    assert (type(caught.value), caught.value.exit_code) == (error, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.extxyz"]


def test_binary_files(bring, tmp_path, silicon):
    packed = gzip.compress((tmp_path / "si.extxyz").read_bytes())
    write(tmp_path / "whole.db", displaced())
    database = (tmp_path / "whole.db").read_bytes()
    run = vasprun(displaced(number=1))
    for content, message in (
        (packed[:-40], "truncated or damaged gzip file"),
        (packed[:30] + b"\0" * 30 + packed[60:], "damaged gzip file"),
        (b"\x1f\x8b", "damaged gzip file"),
        (bz2.compress(b"x" * 1000)[:-5], "truncated or damaged bzip2"),
        (lzma.compress(b"x" * 1000)[:-5], "truncated or damaged xz"),
        (gzip.compress(b""), "empty"),
        (np.random.default_rng(0).bytes(2000), "neither an extended xyz"),
        (b"1\n\xff\xfe\nSi 0 0 0\n", "not a text file in UTF-8"),
        (database[:5000], "not a readable ASE database"),
        (b"SQLite format 3\x00" + b"\0" * 100, "not (a readable|one of)|no table"),
        (run[: len(run) // 2].encode(), "truncated or damaged XML"),
        (run[: run.index("<calculation>")].encode() + b"</modeling>", "no finished ionic step"),
        (run.replace("positions", "places").encode(), "not a complete VASP run"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(InputError, match=message):
            bring("a")
        assert not (tmp_path / "set").exists()


def test_a_foreign_database_is_left_alone(tmp_path):
    import sqlite3

    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(FileFormatError, match="not one of ASE"):
        read_source(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == before


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_anything_else_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("garbage") / "a"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_source(path)


def test_the_folder_appears_whole_or_not_at_all(bring, silicon, tmp_path, monkeypatch):
    from dftbparam.reference.importers import write as module

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_put", full)
    with pytest.raises(ParameterError, match=r"cannot be written .No space left"):
        bring("si.extxyz")
    assert [path.name for path in tmp_path.iterdir()] == ["si.extxyz"]
    monkeypatch.undo()
    bring("si.extxyz")
    with pytest.raises(ParameterError, match="exists; an import makes a new folder"):
        bring("si.extxyz")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a/b"])
def test_names(silicon, tmp_path, name):
    with pytest.raises(ParameterError, match="letters, digits"):
        import_references([tmp_path / "si.extxyz"], tmp_path / "set", Provenance(name, "t", "s", "l"), functional="PBE")


def test_missing_sources(bring):
    with pytest.raises(ReferenceDataError, match="does not exist; a source is"):
        bring("nowhere")
    with pytest.raises(ParameterError, match="no source"):
        bring()


# --- offsets and TOML


def test_offsets(tmp_path):
    assert parse_offsets("none") == Offsets(none=True)
    assert parse_offsets("from-atoms") == Offsets(from_atoms=True)
    assert parse_offsets("Si=-0.8, O=-1.9").values == {"Si": -0.8, "O": -1.9}
    for text in ("[offsets]\nSi = -0.8\n", "Si = -0.8\n"):
        (tmp_path / "a.toml").write_text(text)
        assert parse_offsets(str(tmp_path / "a.toml")).values == {"Si": -0.8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Si=x", "Si = 'x' is not a number"),
        ("Si=nan", "not a number"),
        ("Qq=1", "'Qq' is no element"),
        ("nowhere.toml", "is no file"),
        ("[offsets\n", "not TOML"),
        ("[offsets]\n", "no offsets"),
        ("Si = true", "not a number"),
        ("Cf = 1.0", "no element from H to Cm"),
    ],
)
def test_bad_offsets(tmp_path, text, message):
    path = tmp_path / "a.toml"
    path.write_text(text + "\n")
    given = text if "=" in text and " " not in text else str(path)
    with pytest.raises(InputError, match=message):
        parse_offsets("nowhere.toml" if text == "nowhere.toml" else given)


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.text(max_size=8) | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans(),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        )
        | st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=3),
        max_size=5,
    )
)
@settings(deadline=None)
def test_toml_reads_back(table):
    assert tomllib.loads(toml(table)) == table


def test_importing_the_importers_needs_no_ase():
    code = (
        "import sys, dftbparam.reference.importers, dftbparam.reference.check; "
        "sys.exit(any(name in sys.modules for name in ('ase', 'spglib', 'pymatgen')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
