"""The HSD snippet of a set: what it says, and that DFTB+ reads it and what its comments offer."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from dftbparam.publish.element_data import ElementData
from dftbparam.publish.hsd import hamiltonian_hsd
from dftbparam.skf import write_skf
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

DIAMOND = """\
Geometry = GenFormat {
2 F
C
1 1 0.0 0.0 0.0
2 1 0.25 0.25 0.25
0.0 0.0 0.0
0.0 1.78 1.78
1.78 0.0 1.78
1.78 1.78 0.0
}
<<+ "set.hsd"
"""


@pytest.fixture
def snippet():
    def data(symbol, number, shells):
        n = len(shells)
        zeros = (0.0,) * n
        return ElementData(
            symbol=symbol, number=number, shells=shells, levels=zeros, free_levels=zeros, hubbard=(0.4,) * n,
            occupations=(1.0, *(0.0,) * (n - 1)), spin=((-0.02,) * n,) * n,
            hubbard_derivatives=(-0.15, *(None,) * (n - 1)), frontier=shells[0], orbitals=(),
        )  # fmt: skip

    return hamiltonian_hsd("set", [data("H", 1, ("1s",)), data("C", 6, ("2s", "2p"))])


def uncommented(text):
    """The snippet with the blocks that its comments offer, which are indented by three blanks."""
    return re.sub(r"^  #   (?=\S|  )", "  ", text, flags=re.MULTILINE)


def test_the_snippet_says_what_it_hides_and_what_is_missing(snippet):
    assert "ParserVersion = 14" in snippet
    for words in ("hides typing errors", "KPointsAndWeights = SupercellFolding {", "1000 K", "ShellResolvedSCC = Yes"):
        assert words in snippet


@pytest.mark.dftbplus
def test_dftbplus_reads_the_snippet_and_what_its_comments_offer(snippet, tmp_path):
    if shutil.which("dftb+") is None:
        pytest.skip("dftb+ is not on the PATH")
    (tmp_path / "skf").mkdir()
    write_skf(tmp_path / "skf" / "C-C.skf", build_tables(load_parameter_set("ptbp"), ["C"]).files["C", "C"])
    (tmp_path / "dftb_in.hsd").write_text(DIAMOND)

    def run(text):
        (tmp_path / "set.hsd").write_text(text)
        return subprocess.run(["dftb+"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    found = run(uncommented(snippet))
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr
    understood = (tmp_path / "dftb_pin.hsd").read_text()
    assert "Temperature [Kelvin] = 1000" in understood
    assert "4 0 0" in understood
    assert "ParserVersion = 14" in understood
    # Third order works, and with resolved shells it does not: what the comments say.
    third = uncommented(snippet).replace("SCC = Yes\n", "SCC = Yes\n  ThirdOrderFull = Yes\n", 1)
    assert run(third).returncode == 0
    resolved = run(third.replace("SCC = Yes\n", "SCC = Yes\n  ShellResolvedSCC = Yes\n", 1))
    assert resolved.returncode != 0
    assert "HubbardDerivs" in resolved.stdout + resolved.stderr
    # A crystal without a mesh is refused; a misspelt keyword is named in the warning alone.
    assert "KPointsAndWeights" in (without := run(snippet)).stdout + without.stderr
    assert without.returncode != 0
    misspelt = run(uncommented(snippet).replace("SCC = Yes\n", "SCC = Yes\n  SCCTolerence = 1e-9\n", 1))
    assert misspelt.returncode == 0
    assert "SCCTolerence" in misspelt.stdout
