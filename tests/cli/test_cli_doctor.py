"""``dftbparam doctor``."""

from __future__ import annotations

import json
import sys

import pytest

from dftbparam.cli import doctor


@pytest.fixture
def no_dftbplus(monkeypatch):
    monkeypatch.setenv("DFTBPLUS_COMMAND", "no-such-program-dftb+")


def states(result):
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_doctor_is_content_without_dftbplus(run, no_dftbplus):
    result = run("doctor", "--json", "-")
    found = states(result)
    assert result.exit_code == 0, result.output
    assert found["DFTB+"]["state"] == "missing"
    assert "conda install -c conda-forge dftbplus" in found["DFTB+"]["advice"]
    assert found["libxc"]["state"] == "ok"
    assert "96 elements" in found["references"]["found"]


def test_doctor_asked_for_dftbplus_is_exit_3_without_it(run, no_dftbplus):
    result = run("doctor", "--engine", "dftb+")
    assert result.exit_code == 3
    assert "DFTB+" in result.stderr
    assert "conda install -c conda-forge dftbplus" in result.stderr


def test_doctor_reports_what_is_broken(run, monkeypatch, no_dftbplus):
    def broken():
        raise OSError("no space left")

    monkeypatch.setattr(doctor, "_numba_cache", broken)
    result = run("doctor")
    assert result.exit_code == 3
    assert "not in order: numba cache" in result.stderr
    assert "no space left" in result.stdout


def test_numba_cache_looks_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert doctor._numba_cache() == "NUMBA_CACHE_DIR, writable"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match="cannot be written"):
        doctor._numba_cache()


@pytest.mark.dftbplus
def test_doctor_finds_dftbplus(run):
    import shutil

    if shutil.which("dftb+") is None:
        pytest.skip("dftb+ is not on the PATH")
    result = run("doctor", "--engine", "dftb+", "--json", "-")
    assert result.exit_code == 0, result.output
    assert states(result)["DFTB+"]["state"] == "ok"


def test_doctor_tells_what_dispersion_needs(run, monkeypatch, no_dftbplus):
    monkeypatch.setitem(sys.modules, "dftd4.interface", None)
    result = run("doctor", "--json", "-")
    row = states(result)[doctor.DISPERSION]
    assert result.exit_code == 0, result.output
    assert row["state"] == "missing"
    assert "dftbparam[dispersion]" in row["advice"]


def test_doctor_tells_how_to_get_a_dft_code(run, monkeypatch, no_dftbplus):
    def absent(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", absent)
    result = run("doctor", "--json", "-")
    row = states(result)["gpaw"]
    assert result.exit_code == 0, result.output
    assert row["state"] == "missing"
    assert "references compute" in row["advice"]
