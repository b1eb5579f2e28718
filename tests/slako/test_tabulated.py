"""Pseudo-atoms in files, and tables that do not depend on who built them."""

from __future__ import annotations

import numpy as np
import pytest

from dftbparam.errors import FileFormatError
from dftbparam.skf import format_skf
from dftbparam.slako.build import build_pair, build_tables
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.slako.tabulated import TabulatedAtom
from dftbparam.space import load_parameter_set


def test_an_atom_reads_back_bit_for_bit(tmp_path):
    atom = TabulatedAtom.of(solve_pseudo_atom(load_parameter_set("ptbp").element("O")))
    path = tmp_path / "O.npz"
    atom.save(path, "one")
    found = TabulatedAtom.load(path, "one")
    assert found is not None
    assert (found.symbol, found.shells, found.levels, found.hubbard, found.occupations, found.mass) == (
        atom.symbol, atom.shells, atom.levels, atom.hubbard, atom.occupations, atom.mass
    )  # fmt: skip
    assert np.array_equal(found.tables.coefficients, atom.tables.coefficients)
    assert found.tables.reach == atom.tables.reach
    assert TabulatedAtom.load(path, "another") is None
    assert TabulatedAtom.load(tmp_path / "C.npz") is None
    assert [p.name for p in tmp_path.iterdir()] == ["O.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"something else"])
def test_a_damaged_file_is_said_to_be_so(tmp_path, content):
    path = tmp_path / "O.npz"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"O\.npz: damaged"):
        TabulatedAtom.load(path)


def test_a_pair_has_the_same_bytes_in_any_order_and_from_a_file(tmp_path):
    ptbp = load_parameter_set("ptbp")
    grid = {"grid_step": 0.1, "cutoff": 8.0}
    one, other = build_tables(ptbp, ["O", "H"], **grid).files, build_tables(ptbp, ["H", "O"], **grid).files
    atoms = {}
    for symbol in ("H", "O"):
        path = tmp_path / f"{symbol}.npz"
        TabulatedAtom.of(solve_pseudo_atom(ptbp.element(symbol))).save(path)
        atoms[symbol] = TabulatedAtom.load(path)
    pair = build_pair(ptbp, atoms, "O", "H", **grid)
    assert set(pair) == {("H", "O"), ("O", "H")}
    for key, file in pair.items():
        assert format_skf(file) == format_skf(one[key]) == format_skf(other[key])
    assert set(build_pair(ptbp, atoms, "H", "H", **grid)) == {("H", "H")}
