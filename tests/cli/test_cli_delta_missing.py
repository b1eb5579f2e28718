"""``dftbparam delta`` where its libraries are not installed."""

import sys

import pytest


@pytest.mark.parametrize("library", ["gpytorch", "featomic"])
def test_a_missing_library_is_exit_3_with_the_line_that_installs_it(run, monkeypatch, tmp_path, library):
    from dftbparam.delta.descriptors import _calculator

    _calculator.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / "si.extxyz").write_text(
        '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 energy=-1.0 pbc="T T T"\nSi 0 0 0\n'
    )
    result = run("delta", "train", "si.extxyz", "--direct", "--out", "x.delta")
    assert result.exit_code == 3
    assert "pip install 'dftbparam[delta]'" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x.delta").exists()
