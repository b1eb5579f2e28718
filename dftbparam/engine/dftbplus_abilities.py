"""What a DFTB+ program was built with, found out by asking it: runs of one hydrogen atom that need a part.

A build that lacks a part says so when it reads the input that needs it, or when it sets the part up.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final

from dftbparam.engine.dftbplus_input import Release
from dftbparam.engine.dftbplus_output import error_text
from dftbparam.engine.dftbplus_process import make_scratch, read_output, run_process
from dftbparam.errors import DftbparamError

PROBE_TIMEOUT: Final = 10.0
"""Seconds for one question; an answer takes 0.02 s on an idle core."""

_INPUT: Final = """\
Geometry = GenFormat {{
1 C
H
1 1 0.0 0.0 0.0
}}
{driver}
Hamiltonian = DFTB {{
  SCC = Yes
  MaxAngularMomentum {{
    H = "s"
  }}
  SlaterKosterFiles {{
    H-H = "H-H.skf"
  }}
{hamiltonian}
}}
ParserOptions {{
  ParserVersion = {parser}
  StopAfterParsing = {stop}
  WriteHSDInput = No
}}
"""

_TABLE: Final = (
    "0.5 12\n-0.2 -0.2 -0.2 0.0 0.4 0.4 0.4 0.0 0.0 1.0\n1.0 19*0.0\n"
    + 12 * "20*0.0\n"
    + "Spline\n1 5.0\n1.0 0.0 0.0\n1.0 5.0 6*0.0\n"
)

_SOCKETS: Final = """\
Driver = Socket {
  File = "none"
  Protocol = i-PI {}
}
"""

_D3: Final = """\
  Dispersion = DftD3 {
    Damping = BeckeJohnson {
      a1 = 0.7
      a2 = 4.1
    }
    s6 = 1.0
    s8 = 3.2
  }
"""

QUESTIONS: Final = {
    "sockets (i-PI protocol)": {"driver": _SOCKETS, "hamiltonian": "", "stop": "Yes"},
    "s-dftd3 (three-body terms of D3)": {"driver": "", "hamiltonian": _D3, "stop": "No"},
}
"""Ability: what the input that needs it holds, and whether to stop when it is read (a socket would be waited for)."""


def abilities(command: Sequence[str], release: Release) -> dict[str, bool | None]:
    """Ask a program what it can do.

    Returns
    -------
    Per ability True, False, or None where it gave no answer that can be understood (another error, too late, ...).
    """
    found: dict[str, bool | None] = {}
    for name, parts in QUESTIONS.items():
        try:
            found[name] = _understood(_asked(command, _INPUT.format(**parts, parser=release.parser)))
        except (DftbparamError, OSError):
            found[name] = None
    return found


def _asked(command: Sequence[str], text: str) -> str:
    """What the program prints about an input."""
    folder = make_scratch(None)
    try:
        (folder / "dftb_in.hsd").write_text(text, encoding="ascii")
        (folder / "H-H.skf").write_text(_TABLE, encoding="ascii")
        run_process(command, folder, PROBE_TIMEOUT)
        return read_output(folder / "stdout") + read_output(folder / "stderr")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _understood(output: str) -> bool | None:
    said = error_text(output)
    if said is None or "StopAfterParsing" in said:
        return True
    return False if "without" in said else None
