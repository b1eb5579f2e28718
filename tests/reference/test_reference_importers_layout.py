"""The optional files of a data set: points.csv, and frames.extxyz without data.csv."""

import shutil

import pytest

from dftbparam.errors import FileFormatError, ReferenceDataError
from dftbparam.reference import load_dataset, load_frames, load_points, reference_root

FRAMES = """\
2
Lattice="5.4 0 0 0 5.4 0 0 0 5.4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-10.5 pbc="T T T"
Si 0 0 0 0.1 0 0
Si 1.35 1.35 1.35 -0.1 0 0
1
Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=-5.0 pbc="T T T"
Si 0 0 0
"""


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    shutil.copy(reference_root() / "acwf-unaries-pbe" / "dataset.toml", target)
    return target


def test_frames_alone(folder):
    (folder / "frames.extxyz").write_text(FRAMES)
    data = load_dataset(folder)
    assert (data.frames, data.crystals, data.symbols) == (2, (), ())
    first, second = load_frames(folder)
    assert first.get_potential_energy() == -10.5
    assert first.get_forces()[0, 0] == 0.1
    assert second.get_potential_energy() == -5.0
    (folder / "data.csv").write_text("# nothing\n")
    assert load_dataset(folder).frames == 2


def test_frames_count_in_the_checksum(folder):
    (folder / "frames.extxyz").write_text(FRAMES)
    before = load_dataset(folder).checksum
    (folder / "frames.extxyz").write_text(FRAMES.replace("-10.5", "-10.6"))
    assert load_dataset(folder).checksum != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one crystal, or structures"),
        ("two\n", "frames.extxyz:1: not an extended xyz file: 'two' is no number of atoms"),
        (FRAMES[:-9], "frames.extxyz:5: not an extended xyz file: '1' is more than the 6 lines"),
        ("-1\n\n", "'-1' is no number of atoms"),
    ],
)
def test_malformed_frames(folder, text, message):
    (folder / "frames.extxyz").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_dataset(folder)


def test_neither_crystals_nor_frames(folder):
    with pytest.raises(ReferenceDataError, match=r"has no data\.csv"):
        load_dataset(folder)


def test_points(folder):
    header = "symbol,partner,prototype,volume,energy,energy_free\n"
    (folder / "points.csv").write_text(f"# mine\n{header}Si,,fcc,15,-5.1,\nMg,O,rocksalt,9,-6,-6.1\nSi,,fcc,14,-5.0,\n")
    si, mgo = load_points(folder)
    assert (si.name, si.volumes, si.energies, si.energies_free) == ("fcc", (14.0, 15.0), (-5.0, -5.1), ())
    assert (mgo.name, mgo.energies_free) == ("Mg-O rocksalt", (-6.1,))
    assert load_points(reference_root() / "acwf-unaries-pbe") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,prototype,volume,energy\n", "points.csv:1: columns .*; right would be symbol,partner"),
        ("symbol,partner,prototype,volume,energy\nSi,,fcc,x,1\n", "points.csv:2: .*'x'"),
        ("symbol,partner,prototype,volume,energy\nSi,,fcc,1\n", "4 values for 5 columns"),
        ("symbol,partner,prototype,volume,energy\nSi,,cube,1,1\n", "Si cube: .*unknown prototype 'cube'"),
        ("symbol,partner,prototype,volume,energy\nSi,,fcc,-1,1\n", "volumes must be positive"),
        ("symbol,partner,prototype,volume,energy\nSi,,fcc,1,nan\n", "finite"),
    ],
)
def test_malformed_points(folder, text, message):
    (folder / "points.csv").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_points(folder)
