"""waveplot, which comes with DFTB+, reads the radial functions of a set: its orbitals are normalised."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dftbparam.publish.pairs import Grid
from dftbparam.publish.parameter_set import SetRequest, publish_set
from dftbparam.space import load_parameter_set

METHANE = """\
Geometry = xyzFormat {
5
methane, the distance C-H is 1.09 Angstrom
C  0.00  0.00  0.00
H  0.63  0.63  0.63
H -0.63 -0.63  0.63
H  0.63 -0.63 -0.63
H -0.63  0.63 -0.63
}
<<+ "set.hsd"
Options { WriteDetailedXML = Yes }
Analysis { WriteEigenvectors = Yes }
"""

WAVEPLOT = """\
Options {
  TotalChargeDensity = Yes
  PlottedRegion = OptimalCuboid { MinEdgeLength = 16.0 }
  NrOfPoints = { 60 60 60 }
  PlottedSpins = 1
  PlottedLevels = 1:-1
  NrOfCachedGrids = -1
  Verbose = Yes
}
DetailedXML = "detailed.xml"
EigenvecBin = "eigenvec.bin"
Basis {
  Resolution = 0.01
  <<+ "wfc.set.hsd"
}
"""


@pytest.mark.dftbplus
def test_waveplot_reads_the_orbitals_of_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("dftb+", "waveplot"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on the PATH")
    monkeypatch.setattr("dftbparam.publish.parameter_set.dftbplus_available", lambda: False)
    source, out = tmp_path / "parameters.json", tmp_path / "set"
    ptbp = load_parameter_set("ptbp")
    ptbp.model_copy(update={"elements": {s: ptbp.element(s) for s in ("H", "C")}}).save(source)
    publish_set(SetRequest(results=(str(source),), name="set", out=out, grid=Grid(0.02, None)))
    for program, content in (("dftb+", METHANE), ("waveplot", WAVEPLOT)):
        name = "dftb_in.hsd" if program == "dftb+" else "waveplot_in.hsd"
        (out / name).write_text(content)
        found = subprocess.run([program], cwd=out, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 0, found.stdout[-2000:] + found.stderr
    # A line a state: spin, k-point, state, "calc", norm on the grid, occupation.
    states = re.findall(r"^\s*1\s+1\s+\d+\s+calc\s+([\d.]+)\s+([\d.]+)$", found.stdout, re.MULTILINE)
    assert len(states) == 8
    occupied = [float(norm) for norm, occupation in states if float(occupation) > 1.0]
    # The s functions of carbon have a cusp that the grid of 0.27 Bohr does not see.
    assert occupied == pytest.approx([1.0] * 4, abs=5e-3)
