"""``dftbparam references``."""

from __future__ import annotations

import json
import shutil

import pytest

from dftbparam.reference import DEFAULT_DATASET, load_dataset, reference_root


@pytest.fixture
def own(tmp_path):
    """A reference set of the user's own."""
    return shutil.copytree(reference_root() / DEFAULT_DATASET, tmp_path / "own")


def test_list(run):
    result = run("references", "list")
    assert result.exit_code == 0
    assert DEFAULT_DATASET in result.stdout
    assert "MIT" in result.stdout


def test_list_as_json_names_the_checksum(run):
    value = json.loads(run("references", "list", "--json", "-").stdout)
    assert value[0]["checksum"] == load_dataset().checksum
    assert value[0]["elements"] == 96


def test_show_starts_with_the_stable_crystal(run):
    result = run("references", "show", "Si", "--json", "-")
    value = json.loads(result.stdout)
    assert [c["prototype"] for c in value["crystals"]] == ["diamond", "sc", "bcc", "fcc"]
    diamond = value["crystals"][0]
    assert diamond["phase_energy"] == 0.0
    # Bosoni et al. 2024, PBE, all-electron average: 20.457 A^3/atom, 88.5 GPa.
    assert diamond["volume"] == pytest.approx(20.457, abs=1e-3)
    assert diamond["bulk_modulus_GPa"] == pytest.approx(88.51, abs=0.01)


def test_show_as_a_table_and_a_file(run, tmp_path):
    result = run("references", "show", "Si", "--json", "si.json")
    assert result.exit_code == 0
    assert "88.51" in result.stdout
    assert json.loads((tmp_path / "si.json").read_text())["symbol"] == "Si"


@pytest.mark.parametrize("name", ["Si.png", "Si.svg", "Si.pdf"])
def test_plot(run, tmp_path, name):
    result = run("references", "plot", "Si", "--out", name)
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).stat().st_size > 5000
    assert result.stdout == ""


def test_plot_has_a_default_name(run, tmp_path):
    assert run("references", "plot", "Si").exit_code == 0
    assert (tmp_path / "Si-reference.png").is_file()


def test_a_folder_of_ones_own(run, own):
    result = run("references", "show", "Cu", "--references", own)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "Sj"), "unknown element 'Sj'; did you mean"),
        (("show", "silicon"), "did you mean Si"),
        (("show", "Si", "--references", "nowhere"), "neither a reference set nor a folder"),
        (("list", "--references", "acwf"), "acwf-unaries-pbe"),
        (("plot", "Si", "--from", "1.2", "--to", "0.8"), "--from 1.2 --to 0.8 are upside down"),
        (("plot", "Si", "--from", "0"), "upside down"),
        (("plot", "Si", "--out", "Si.jpg"), "'.jpg' is none of them"),
        (("plot", "Si", "--out", "nowhere/Si.png"), "'nowhere/Si.png' cannot be written"),
        (("show", "Si", "--json", "nowhere/Si.json"), "cannot be written"),
    ],
)
def test_bad_input(refused, words, message):
    assert message in refused("references", *words)


def test_a_malformed_file_is_named_with_its_line(refused, own):
    path = own / "data.csv"
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace(",", ",x", 3)
    path.write_text("\n".join(lines) + "\n")
    assert "own/data.csv:5: " in refused("references", "show", "Si", "--references", own)


def test_a_missing_file_is_named(refused, own):
    (own / "data.csv").unlink()
    assert "has no data.csv" in refused("references", "show", "Si", "--references", own)
