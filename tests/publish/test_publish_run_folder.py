"""The folder of a finished run: whole or not at all, and verifiable."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from dftbparam.errors import FileFormatError, InputError, ParameterError
from dftbparam.publish import (
    MANIFEST_NAME,
    prepare_file,
    prepare_folder,
    public_command,
    public_path,
    read_manifest,
    verify_folder,
    versions,
    write_bytes,
    write_csv,
    write_json,
    write_run_folder,
)
from dftbparam.reference import load_dataset
from dftbparam.skf import OnSite, SKFile, SKSet, read_skf, zero_repulsion
from dftbparam.space import Confinement, ElementParameters, ParameterSet, load_parameter_set


def tables():
    r = 0.1 * np.arange(1, 80)
    table = np.exp(-r)[:, None] * np.linspace(-0.5, 0.5, 10)
    occupied = np.array([2.0, 2.0, 0.0, 0.0])
    site = OnSite(np.array([-0.4, -0.15, 0.0, 0.0]), np.array([0.3, 0.3, 0.0, 0.0]), occupied)
    return SKSet({("Si", "Si"): SKFile(0.1, table, table, site, 28.0855, zero_repulsion())}, {"Si": 1})


def parameters():
    shell = Confinement(radius=4.0)
    record = ElementParameters(
        symbol="Si", configuration="[Ne] 3s2 3p2", shells={"3s": shell, "3p": shell}, density=Confinement(radius=8.0)
    )
    return ParameterSet(name="test", elements={"Si": record})


def write(folder, **changes):
    arguments = {
        "tables": tables(),
        "parameters": parameters(),
        "score": {"cards": {}},
        "trials": [
            {"index": 0, "status": "finished", "objective": 1.5, "worker": "node7:123"},
            {"index": 1, "status": "failed"},
        ],
        "plots": {"convergence.png": b"\x89PNG"},
        "command": "dftbparam fit Si",
        "settings": {"sampler": "skopt"},
        "reference": load_dataset(),
        "seed": 3,
    }
    return write_run_folder(folder, **(arguments | changes))


def test_bands_are_written_on_a_line_and_do_not_outlive_a_run_without(tmp_path):
    manifest = write(tmp_path / "Si", bands={"schema_version": 1, "structures": [{"dft": [[0.1, 0.2]]}]})
    assert "bands.json" in {one.path for one in manifest.files}
    assert (tmp_path / "Si" / "bands.json").read_text().count("\n") == 1
    assert verify_folder(tmp_path / "Si") == []
    write(tmp_path / "Si")
    assert not (tmp_path / "Si" / "bands.json").exists()


def test_a_run_folder_holds_everything_and_verifies(tmp_path):
    folder = tmp_path / "Si"
    manifest = write(folder, engine_versions={"embedded": "1"})
    assert read_manifest(folder) == manifest
    assert {f.path for f in manifest.files} == {
        "Si-Si.skf",
        "parameters.json",
        "plots/convergence.png",
        "score.json",
        "trials.csv",
    }
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {
        *(f.path.rsplit("/")[-1] for f in manifest.files),
        MANIFEST_NAME,
    }
    assert verify_folder(folder) == []
    assert manifest.name == "Si"
    assert manifest.elements == ("Si",)
    assert manifest.trials == {"done": 2, "failed": 1}
    assert manifest.versions["embedded"] == "1"
    assert manifest.reference.checksum == load_dataset().checksum
    assert manifest.parameters["Si"]["shells"]["3s"]["radius"] == 4.0
    assert load_parameter_set(folder / "parameters.json") == parameters()
    np.testing.assert_allclose(read_skf(folder / "Si-Si.skf").hamiltonian, tables().files["Si", "Si"].hamiltonian)
    assert (folder / "trials.csv").read_text() == "index,status,objective\n0,finished,1.5\n1,failed,\n"


def test_a_manifest_says_nothing_of_the_machine_it_was_made_on(tmp_path):
    text = write(tmp_path / "Si").model_dump_json()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text or len(os.uname().nodename) < 3


def test_what_has_changed_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "score.json").write_text("{}")
    (tmp_path / "Si-Si.skf").unlink()
    assert sorted(line.split()[0] for line in verify_folder(tmp_path)) == ["Si-Si.skf", "score.json"]


def test_an_interruption_leaves_no_manifest_and_no_half_file(tmp_path):
    write(tmp_path)

    class Breaking(dict):
        def items(self):
            yield "a.png", b"whole"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, plots=Breaking())
    with pytest.raises(InputError, match="finished run has a manifest"):
        read_manifest(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    write(tmp_path)
    assert verify_folder(tmp_path) == []


def test_versions_name_what_decides_numbers():
    found = versions()
    assert {"dftbparam", "python", "numpy", "scipy", "numba", "ase"} <= set(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "manifest.json:1: not JSON"), ("{}", "name: Field required"), ('{"schema_version": 99}', "schema_version")],
)
def test_malformed_manifests_are_explained(tmp_path, text, message):
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read_manifest(tmp_path)


def test_a_plot_cannot_leave_the_folder(tmp_path):
    with pytest.raises(InputError, match="plain file name"):
        write(tmp_path, plots={"../x.png": b""})


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"cannot be written .* --out"):
        prepare_folder(tmp_path / "file" / "Si")


def test_a_file_that_cannot_be_written_later_is_an_input_error_now(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    assert prepare_file(path) == path
    assert path.read_text() == "old"
    assert prepare_file(tmp_path / "new.json") == tmp_path / "new.json"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(ParameterError, match="cannot be written"):
        prepare_file(tmp_path / "missing" / "a.json")
    with pytest.raises(ParameterError, match="is a folder"):
        prepare_file(tmp_path)


def test_a_published_command_names_no_place():
    words = ["dftbparam", "fit", "Si", "--out", "/home/me/runs/Si", "--references=/data/mine", "--json", "out/si.json"]
    assert public_command(words) == "dftbparam fit Si --out Si --references=mine --json out/si.json"
    assert public_command(["fit", "--scheduler", "tcp://node7:8786"]) == "fit --scheduler ADDRESS"
    assert public_command(["fit", "--scheduler=tcp://node7:8786", "two words"]) == "fit --scheduler=ADDRESS 'two words'"
    assert [public_path(text) for text in ("/a/b", "a/b", "/", "")] == ["b", "a/b", "/", ""]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "folder", b"x")
    assert not list(tmp_path.glob(".*.tmp"))


def test_csv_columns_are_the_union_of_the_rows(tmp_path):
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": None}, {"a": 2, "c": "x, y"}])
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,,\n2,,"x, y"\n'
