"""``dftbparam skf``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dftbparam.errors import AtomError
from dftbparam.skf import OnSite, SKFile, read_set, read_skf, write_skf, zero_repulsion
from dftbparam.space import load_parameter_set


def model_file(homonuclear=True):
    r = 0.1 * np.arange(1, 120)
    table = np.exp(-r)[:, None] * np.linspace(-0.5, 0.5, 10)
    site = OnSite(np.array([-0.4, -0.15, 0.1, 0.0]), np.array([0.3, 0.3, 0.2, 0.0]), np.array([2.0, 2.0, 0.0, 0.0]))
    return SKFile(0.1, table, table, site if homonuclear else None, 28.0855, zero_repulsion())


@pytest.fixture
def sound(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_skf(folder / "Si-Si.skf", model_file())
    return folder


def test_check_passes_a_sound_set(run, sound):
    result = run("skf", "check", sound)
    assert result.exit_code == 0, result.output


def test_check_fails_on_a_defect_and_says_which(run, sound):
    path = sound / "Si-Si.skf"
    lines = path.read_text().splitlines()
    lines[40] = lines[40].replace(lines[40].split()[0].rstrip(","), "NaN", 1)
    path.write_text("\n".join(lines) + "\n")
    result = run("skf", "check", sound, "--json", "-")
    value = json.loads(result.stdout)
    assert result.exit_code == 1
    assert value["errors"] >= 1
    assert all(str(path) == defect["path"] for defect in value["defects"])


def test_check_reads_files_too(run, sound):
    assert run("skf", "check", sound / "Si-Si.skf").exit_code == 0


def test_strict_counts_warnings(run, sound):
    write_skf(sound / "Si-Si.skf", SKFile(**{**vars(model_file()), "repulsion": None}))
    relaxed, strict = run("skf", "check", sound), run("skf", "check", "--strict", sound)
    assert (relaxed.exit_code, strict.exit_code) == (0, 1)
    assert "repulsion-missing" in relaxed.stdout


def test_check_names_what_is_not_there(refused):
    assert "nowhere: no such file or folder" in refused("skf", "check", "nowhere")


def test_check_counts_files_and_defects(run, refused, sound, tmp_path):
    assert "1 file checked: no defect found" in run("skf", "check", sound).stderr
    path = sound / "Si-Si.skf"
    path.write_text("nothing\n")
    assert "1 file checked: 1 error, 0 warnings" in run("skf", "check", path).stdout
    (tmp_path / "empty").mkdir()
    assert "empty: no Slater-Koster file here" in refused("skf", "check", "empty")


def test_a_truncated_file_is_a_defect_with_its_line(run, sound):
    path = sound / "Si-Si.skf"
    path.write_text("\n".join(path.read_text().splitlines()[:20]) + "\n")
    result = run("skf", "check", path)
    assert result.exit_code == 1
    assert "format" in result.stdout


def test_plot(run, sound, tmp_path):
    result = run("skf", "plot", sound / "Si-Si.skf")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "Si-Si.png").stat().st_size > 5000


def test_plot_of_a_malformed_file_shows_file_and_line(refused, sound):
    path = sound / "Si-Si.skf"
    lines = path.read_text().splitlines()
    lines[0] = "0.1, many"
    path.write_text("\n".join(lines) + "\n")
    assert "Si-Si.skf:1: " in refused("skf", "plot", path)


def test_plot_of_a_missing_file(refused):
    assert "Ti-Ti.skf: no such Slater-Koster file" in refused("skf", "plot", "Ti-Ti.skf")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Sj",), "unknown element 'Sj'"),
        (("Si", "Si"), "named twice: Si"),
        (("Ce",), "has no element 'Ce'"),
        (("Si", "--parameters", "nothing"), "neither a parameter file nor a shipped set; shipped: "),
    ],
)
def test_build_refuses(refused, words, message):
    assert message in refused("skf", "build", *words, "--out", "new")


def test_build_refuses_a_malformed_parameter_file(refused, tmp_path):
    (tmp_path / "p.json").write_text('{\n "name": \n}')
    assert "p.json:3: not JSON" in refused("skf", "build", "Si", "--parameters", tmp_path / "p.json", "--out", "new")


def test_build_refuses_an_unwritable_folder(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("skf", "build", "Si", "--out", "file/new")


def test_build_does_not_replace_files_unasked(refused, sound):
    assert "holds Si-Si.skf already" in refused("skf", "build", "Si", "--out", sound)


def test_build_writes_all_ordered_pairs(run, tmp_path):
    result = run("skf", "build", "C", "O", "--out", "set", "--json", "-")
    assert result.exit_code == 0, result.output
    names = {"C-C.skf", "C-O.skf", "O-C.skf", "O-O.skf"}
    assert {row["file"] for row in json.loads(result.stdout)["files"]} == names
    assert list(json.loads(result.stdout)["max_angular_momentum"]) == ["C", "O"]
    assert 'MaxAngularMomentum { C = "' in result.stderr
    assert {p.name for p in (tmp_path / "set").iterdir()} == names
    assert set(read_set(tmp_path / "set").files) == {("C", "C"), ("C", "O"), ("O", "C"), ("O", "O")}
    assert read_skf(tmp_path / "set" / "C-O.skf").repulsion is not None
    assert run("skf", "check", "set").exit_code == 0


def test_build_takes_the_folder_of_a_set(run, refused, tmp_path):
    ptbp = load_parameter_set("ptbp")
    (tmp_path / "published").mkdir()
    ptbp.model_copy(update={"name": "mine"}).save(tmp_path / "published" / "parameters.json")
    result = run("skf", "build", "C", "--parameters", "published", "--out", "set", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parameters"] == "mine"
    (tmp_path / "empty").mkdir()
    words = ("skf", "build", "C", "--parameters", "empty", "--out", "other")
    assert "'empty' is a folder without parameters.json" in refused(*words)


def test_a_refused_pair_leaves_no_folder(run, tmp_path, monkeypatch):
    def refuse(*given, **options):
        raise AtomError("Ge-Dy: the orbitals reach too far")

    monkeypatch.setattr("dftbparam.slako.build.build_tables", refuse)
    result = run("skf", "build", "Ge", "C", "--out", "new/folder")
    assert result.exit_code == 1
    assert "reach too far" in result.stderr
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    assert run("skf", "build", "Ge", "C", "--out", "there").exit_code == 1
    assert (tmp_path / "there").is_dir()


def test_the_gate_takes_folders_only(refused, sound):
    path = sound / "Si-Si.skf"
    assert f"{path}: --gate needs a folder of tables" in refused("skf", "check", "--gate", path)
