"""``check_dataset`` finds planted defects, and nothing in sound sets."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.reference import (
    DEFAULT_DATASET,
    PointsReference,
    birch_murnaghan,
    list_datasets,
    load_dataset,
    reference_root,
)
from dftbparam.reference.check import check_dataset, check_points
from dftbparam.reference.importers import Offsets, Provenance, import_references
from tests.reference.support.import_sources import atom, curve, displaced, with_results

VOLUMES = 20.4 * np.linspace(0.94, 1.06, 9)


def found(folder):
    return [(f.severity, f.kind, f.subject) for f in check_dataset(folder).findings]


@pytest.fixture
def make(tmp_path):
    """Write a set of structures, with ``frames`` alone or whatever an import makes of them."""

    def make(frames, **choices):
        write(tmp_path / "source.extxyz", frames)
        choices = {"functional": "PBE", "offsets": Offsets(none=True), **choices}
        provenance = Provenance("mine", "Mine", "me", "MIT")
        import_references([tmp_path / "source.extxyz"], tmp_path / "set", provenance, **choices)
        return tmp_path / "set"

    return make


@pytest.fixture
def silicon(make):
    """A sound set."""
    frames = [*curve("diamond", "Si", 20.4, -5.4, forces=True), *curve("fcc", "Si", 14.3, -4.9), atom("Si", -0.8)]
    return make([*frames, *displaced(number=8)])


def edit(path, *changes):
    """Change a file; its checksum in dataset.toml is taken out, as somebody who edits by hand would."""
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    table = path.parent / "dataset.toml"
    head = table.read_text().split('[files."')[0]
    table.write_text(head)


def reframe(folder, change):
    """Change the structures of a set."""
    frames = read(folder / "frames.extxyz", index=":")
    change(frames)
    write(folder / "frames.extxyz", frames)
    edit(folder / "frames.extxyz")


def points(energies, volumes=VOLUMES):
    return PointsReference(symbol="Si", prototype="diamond", volumes=tuple(volumes), energies=tuple(energies))


def of_points(energies, volumes=VOLUMES):
    return [(f.severity, f.kind) for f in check_points(points(energies, volumes))]


def smooth(volumes=VOLUMES, b0=0.55, b1=4.3, v0=20.4):
    return birch_murnaghan(volumes, -5.4, v0, b0, b1)


# --- nothing to find


def test_the_shipped_set_is_sound():
    report = check_dataset(DEFAULT_DATASET)
    assert report.findings == ()
    assert (report.crystals, report.checksum) == (384, load_dataset().checksum)


def test_a_sound_set_is_sound(silicon):
    report = check_dataset(silicon)
    assert report.findings == ()
    assert (report.crystals, report.points, report.frames, report.atoms) == (2, 18, 17, 1)


def test_a_sound_binary_set_is_sound(make):
    frames = [*curve("rocksalt", "Mg", 9.6, -6.0, partner="O", forces=True), atom("Mg", -0.01), atom("O", -1.5)]
    assert found(make(frames, offsets=Offsets(from_atoms=True))) == []


@given(
    st.floats(0.01, 2.5),
    st.floats(2.0, 7.0),
    st.floats(0.97, 1.03),
    st.integers(6, 13),
    st.floats(0.03, 0.1),
    st.integers(0, 10**6),
)
@settings(max_examples=200, deadline=None)
def test_smooth_curves_have_no_kink(b0, b1, shift, number, reach, seed):
    volumes = 20.4 * np.linspace(1.0 - reach, 1.0 + reach, number)
    noise = 2e-5 * np.random.default_rng(seed).normal(size=number)
    kinds = of_points(smooth(volumes, b0, b1, 20.4 * shift) + noise, volumes)
    assert ("error", "kink") not in kinds
    assert ("warning", "kink") not in kinds


# --- E(V)


@given(st.floats(0.1, 2.0), st.floats(2.5, 6.0), st.integers(1, 9), st.sampled_from([-1.0, 1.0]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_jumps_and_single_points_are_found(b0, b1, place, sign, jump):
    volumes = 20.4 * np.linspace(0.94, 1.06, 11)
    energies = smooth(volumes, b0, b1)
    step = sign * max(0.25 * np.ptp(energies), 0.01)
    if jump:
        energies[place:] += step
    else:
        energies[place] += step
    assert "kink" in {kind for _, kind in of_points(energies, volumes)}


def test_a_crossing_of_two_states_is_found():
    volumes = 11.0 * np.linspace(0.9, 1.1, 11)
    low = birch_murnaghan(volumes, -8.0, 10.3, 1.6, 4.5)
    high = birch_murnaghan(volumes, -8.05, 11.6, 0.9, 4.5)
    kinds = of_points(np.minimum(low, high), volumes)
    assert ("error", "kink") in kinds


def test_where_a_kink_is():
    energies = smooth()
    energies[6] += 0.02
    (finding,) = check_points(points(energies))
    assert (finding.severity, finding.kind, finding.subject) == ("error", "kink", "Si diamond")
    assert f"at {VOLUMES[6]:.6g} " in finding.message


def test_far_outside_the_minimum():
    volumes = 20.4 * np.linspace(0.7, 1.4, 29)
    energies = smooth(volumes)
    assert of_points(energies, volumes) == []
    energies[24] += 0.1
    assert of_points(energies, volumes) == [("error", "kink")]


def test_minimum_outside():
    volumes = 20.4 * np.linspace(1.02, 1.12, 7)
    assert of_points(smooth(volumes), volumes) == [("error", "minimum")]
    assert of_points(smooth()[:4], VOLUMES[:4]) == [("warning", "minimum")]


def test_double_volumes():
    volumes, energies = np.append(VOLUMES, VOLUMES[-1]), np.append(smooth(), smooth()[-1])
    assert of_points(energies, volumes) == [("warning", "duplicate")]
    energies[-1] += 0.01
    assert of_points(energies, volumes) == [("error", "duplicate")]


def test_a_row_that_does_not_belong_to_its_points(silicon):
    edit(silicon / "data.csv", ("diamond,20.4,", "diamond,21.2,"))
    assert found(silicon) == [("error", "minimum", "Si diamond")]
    edit(silicon / "data.csv", ("diamond,21.2,", "diamond,24.0,"))
    assert ("error", "minimum", "Si diamond") in found(silicon)


def test_points_without_a_row(silicon):
    text = (silicon / "data.csv").read_text()
    edit(silicon / "data.csv", (next(line for line in text.splitlines() if ",fcc," in line) + "\n", ""))
    assert found(silicon) == [("warning", "minimum", "Si fcc")]


# --- rows


@pytest.fixture
def shipped(tmp_path):
    """A copy of the shipped set, to be spoilt."""
    return shutil.copytree(reference_root() / DEFAULT_DATASET, tmp_path / "copy")


def spoil(folder, symbol, prototype, **factors):
    """Multiply (or, energies, shift) numbers of one row."""
    path = folder / "data.csv"
    lines = path.read_text().splitlines()
    header = next(line for line in lines if line.startswith("symbol")).split(",")
    place = next(i for i, line in enumerate(lines) if line.startswith(f"{symbol},{prototype},"))
    fields = lines[place].split(",")
    for name, factor in factors.items():
        at = header.index(name)
        fields[at] = str(float(fields[at]) + factor if name == "energy" else float(fields[at]) * factor)
    lines[place] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("factors", "severity"),
    [
        ({"volume": 2.0}, "error"),  # per cell instead of per atom
        ({"volume": 1.3}, "warning"),
        ({"bulk_modulus": 160.2}, "error"),  # GPa
        ({"bulk_modulus": 1 / 3.5}, "warning"),
        ({"energy": -20.0}, "error"),
        ({"energy": 8.0}, "warning"),
        ({"bulk_modulus_derivative": -1.0}, "warning"),
    ],
)
def test_outliers_among_rows(shipped, factors, severity):
    spoil(shipped, "Si", "diamond", **factors)
    report = check_dataset(shipped)
    assert {(f.kind, f.subject) for f in report.findings} == {("outlier", "Si diamond")}
    assert {f.severity for f in report.findings} >= {severity}
    assert bool(report.errors) == (severity == "error")


def test_one_crystal_under_two_names(make):
    folder = make(curve("rocksalt", "Mg", 9.6, -6.0, partner="O"), offsets=Offsets({"Mg": 0.0, "O": -1.0}))
    row = (folder / "data.csv").read_text().splitlines()[1]
    (folder / "points.csv").unlink()
    other = row.replace("Mg,O,rocksalt", "O,Mg,B1")
    with (folder / "data.csv").open("a") as handle:
        handle.write(other + "\n")
    edit(folder / "data.csv")
    assert found(folder) == [("warning", "duplicate", "O-Mg B1")]
    edit(folder / "data.csv", (other, other.replace(",-6.0,", ",-6.1,")))
    assert found(folder) == [("error", "duplicate", "O-Mg B1")]


def test_offsets_of_another_zero(make):
    folder = make(
        curve("rocksalt", "Mg", 9.6, -6.0, partner="O", forces=True), offsets=Offsets({"Mg": -5000.0, "O": -2000.0})
    )
    assert {(s, k) for s, k, _ in found(folder)} == {("error", "outlier")}


# --- the set


def test_missing_offsets(make):
    assert found(make(curve("rocksalt", "Mg", 9.6, -6.0, partner="O"))) == [("error", "offsets", "dataset.toml")]


def test_missing_offsets_of_structures(make):
    frames = displaced(number=3)
    for frame in frames:
        frame.symbols[0] = "C"
    folder = make(frames)
    report = check_dataset(folder)
    assert [(f.kind, f.severity) for f in report.findings] == [("offsets", "error")]
    assert "C, Si" in report.findings[0].message


@pytest.mark.parametrize(
    ("name", "one", "two", "severity"),
    [
        ("cutoff", 400.0, 520.0, "error"),
        ("code", "GPAW", "VASP", "error"),
        ("potentials", "PAW_PBE Si", "PAW_PBE Si_GW", "error"),
        ("smearing", 0.05, 0.1, "warning"),
    ],
)
def test_mixed_settings(make, name, one, two, severity):
    folder = make([*displaced(number=3, **{name: one}), *displaced(number=3, seed=1, **{name: two})])
    (finding,) = check_dataset(folder).findings
    assert (finding.severity, finding.kind) == (severity, "settings")
    assert f"{one}" in finding.message.replace("400 ", "400.0 ")


@pytest.mark.parametrize(("first", "severity"), [(400.0, "warning"), (520.0, "error")])
def test_cutoffs_by_element_are_a_warning(make, first, severity):
    """Silicon with one cutoff and carbon with another: each is of one kind, unless one silicon has carbon's."""
    carbon = displaced(number=3, seed=1, cutoff=520.0)
    for frame in carbon:
        frame.symbols[:] = "C"
    frames = [*displaced(number=3, cutoff=400.0), *carbon]
    frames[0].info["cutoff"] = first
    (finding,) = [f for f in check_dataset(make(frames)).findings if f.kind == "settings"]
    assert finding.severity == severity
    assert ("cannot be compared" in finding.message) == (severity == "warning")


def test_a_functional_under_another_name_is_the_sets_own(silicon):
    def change(frames):
        for frame in frames:
            frame.info["functional"] = "MGGA_X_R2SCAN+MGGA_C_R2SCAN"

    edit(silicon / "dataset.toml", ('functional = "PBE"', 'functional = "MGGA_X_R2SCAN+MGGA_C_R2SCAN"'))
    reframe(silicon, change)
    assert found(silicon) == []


def test_mixed_functionals(silicon):
    def change(frames):
        frames[0].info["functional"] = "PBE"
        frames[1].info["functional"] = "LDA"

    reframe(silicon, change)
    assert found(silicon) == [("error", "settings", "frames.extxyz")]


def test_another_functional_than_the_sets(silicon):
    def change(frames):
        for frame in frames:
            frame.info["functional"] = "LDA"

    reframe(silicon, change)
    (finding,) = check_dataset(silicon).findings
    assert finding.message == "functional LDA; the set says PBE"


def test_settings_mixed_at_import(silicon):
    text = (silicon / "dataset.toml").read_text()
    (silicon / "dataset.toml").write_text(text.replace("[files", "[settings.mixed]\ncutoff = [400, 520]\n\n[files", 1))
    (finding,) = check_dataset(silicon).findings
    assert (finding.severity, finding.kind, finding.message) == ("error", "settings", "cutoff is 400, 520")


def test_changed_files(silicon):
    text = (silicon / "data.csv").read_text()
    (silicon / "data.csv").write_text(text + "# a word\n")
    assert found(silicon) == [("error", "files", "data.csv")]
    (silicon / "data.csv").write_text(text)
    (silicon / "points.csv").unlink()
    assert found(silicon) == [("error", "files", "points.csv")]


def test_changed_number_of_rows(silicon):
    text = (silicon / "frames.extxyz").read_text().splitlines(keepends=True)
    (silicon / "frames.extxyz").write_text("".join(text[4:]))
    (finding,) = check_dataset(silicon).findings
    assert finding.message == "holds 16 rows; dataset.toml says 17"


def test_files_that_are_not_listed(silicon):
    text = (silicon / "dataset.toml").read_text()
    start = text.index('[files."atoms.csv"]')
    (silicon / "dataset.toml").write_text(text[:start] + text[text.index("[files", start + 5) :])
    (silicon / "README.md").unlink()
    assert found(silicon) == [("warning", "files", "README.md"), ("warning", "files", "atoms.csv")]


def test_two_band_structures_of_one_crystal(silicon):
    line = (
        '{"symbol": "Si", "prototype": "diamond", "volume": 20.4, "points": [[0, 0, 0]], "energies": [[-1, -1, -1, 0]],'
        ' "electrons": 8, "smearing": 0.1}\n'
    )
    (silicon / "bands.jsonl").write_text(2 * line)
    edit(silicon / "data.csv")
    assert found(silicon) == [("warning", "duplicate", "Si diamond")]


# --- structures


def test_duplicates(silicon):
    def change(frames):
        again = frames[-1].copy()
        again.rotate(40.0, (1.0, 2.0, 3.0), rotate_cell=True)
        again.positions += 0.7
        again = again[[3, 0, 2, 1]]
        again.info["name"] = "again"
        frames.append(with_results(again, energy=frames[-1].get_potential_energy()))

    reframe(silicon, change)
    assert found(silicon) == [("warning", "duplicate", "again")]


def test_duplicates_with_different_energies(silicon):
    def change(frames):
        again = frames[-1].copy()
        again.info["name"] = "again"
        frames.append(with_results(again, energy=frames[-1].get_potential_energy() + 0.05))

    reframe(silicon, change)
    report = check_dataset(silicon)
    assert [(f.severity, f.kind, f.subject) for f in report.findings] == [("error", "duplicate", "again")]
    assert "12.5 meV/atom away" in report.findings[0].message


@given(st.integers(0, 10**6), st.floats(0.0, 180.0), st.floats(0.01, 0.2))
@settings(max_examples=25, deadline=None)
def test_same_and_not_the_same(seed, angle, size):
    from dftbparam.reference.check_frames import _same_view, _view

    random = np.random.default_rng(seed)
    one = displaced(number=1, seed=seed)[0]
    two = one.copy()
    two.rotate(angle, random.normal(size=3), rotate_cell=True)
    two.positions += random.normal(size=3)
    two = two[random.permutation(4)]
    other = one.copy()
    other.positions[1] += size * np.array([0.5, -0.7, 0.4])
    views = [_view(atoms) for atoms in (one, two, other)]
    frames = [SimpleNamespace(atoms=atoms) for atoms in (one, two, other)]
    assert _same_view(frames[0], frames[1], views[0], views[1])
    assert not _same_view(frames[0], frames[2], views[0], views[2])


@pytest.mark.parametrize(("shift", "severity"), [(40.0, "error"), (8.0, "warning")])
def test_energies_that_are_far_away(silicon, shift, severity):
    def change(frames):
        frames[-2].calc.results["energy"] += shift
        frames[-2].info["name"] = "odd"

    reframe(silicon, change)
    assert found(silicon) == [(severity, "outlier", "odd")]


def test_structures_of_another_zero(silicon):
    def change(frames):
        for frame in frames:
            frame.calc.results["energy"] -= 289.0 * 27.2 * len(frame)

    reframe(silicon, change)
    assert {(s, k) for s, k, _ in found(silicon)} == {("error", "outlier")}


def test_large_forces(silicon):
    def change(frames):
        frames[-1].calc.results["forces"][0] += (60.0, 0.0, 0.0)
        frames[-1].calc.results["forces"][1] -= (60.0, 0.0, 0.0)
        frames[-1].info["name"] = "odd"

    reframe(silicon, change)
    assert found(silicon) == [("error", "outlier", "odd")]


def test_forces_that_do_not_add_up(silicon):
    def change(frames):
        frames[-1].calc.results["forces"][0] += (1.0, 0.0, 0.0)
        frames[-1].info["name"] = "odd"

    reframe(silicon, change)
    assert found(silicon) == [("warning", "outlier", "odd")]


@pytest.mark.parametrize(("factor", "word"), [(-1.0, "sign"), (160.2, "unit"), (0.1, "unit")])
def test_stress_of_another_sign_or_unit(silicon, factor, word):
    def change(frames):
        for frame in frames:
            frame.calc.results["stress"] = factor * frame.calc.results["stress"]

    reframe(silicon, change)
    (finding,) = check_dataset(silicon).findings
    assert (finding.severity, finding.kind, finding.subject) == ("error", "stress", "Si diamond")
    assert word in finding.message


def test_structures_without_energy(silicon):
    def change(frames):
        del frames[-1].calc.results["energy"]
        frames[-1].info["name"] = "odd"

    reframe(silicon, change)
    assert found(silicon) == [("error", "energies", "odd")]


def test_atoms_that_are_too_near(silicon):
    def change(frames):
        for frame, distance, name in ((frames[-1], 0.4, "on top"), (frames[-2], 1.0, "near")):
            frame.positions[1] = frame.positions[0] + (distance, 0.0, 0.0)
            frame.info["name"] = name

    reframe(silicon, change)
    assert found(silicon) == [("error", "structure", "on top"), ("warning", "structure", "near")]


def test_numbers_that_are_none(silicon):
    def change(frames):
        frames[-1].calc.results["forces"][0, 0] = np.nan
        frames[-2].cell[2] = 0.0
        frames[-1].info["name"], frames[-2].info["name"] = "nan", "flat"

    reframe(silicon, change)
    assert sorted(found(silicon)) == [("error", "structure", "flat"), ("error", "structure", "nan")]


@pytest.mark.parametrize("name", list_datasets())
def test_shipped_sets_pass(name):
    assert [finding for finding in check_dataset(name).findings if finding.severity == "error"] == []
