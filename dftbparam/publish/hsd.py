"""Input for DFTB+ and waveplot, in their HSD format: line by line, as both are sensitive to that."""

from __future__ import annotations

from collections.abc import Sequence

from dftbparam.publish.element_data import ElementData

LETTERS = "spdf"


def hamiltonian_hsd(name: str, data: Sequence[ElementData]) -> str:
    """Return blocks to paste into dftb_in.hsd: shells, files, and what spin polarisation and third order need.

    DFTB+ stops at blocks that it has no use for, such as elements that the structure lacks; the last block of the text
    tells it not to.
    """
    highest = "\n".join(f'    {d.symbol} = "{LETTERS[len(d.shells) - 1]}"' for d in data)
    spin = "\n".join(_spin(d) for d in data)
    third = "\n".join(f"    {d.symbol} = {d.hubbard_derivative:.6f}" for d in data)
    return f"""# {name}: what DFTB+ has to be told besides the tables. Hartree.
# Adapt Prefix. Lines of elements that the structure does not have may stay: see the last block.
Hamiltonian = DFTB {{
  SCC = Yes
  SlaterKosterFiles = Type2FileNames {{
    Prefix = "skf/"
    Separator = "-"
    Suffix = ".skf"
  }}
  MaxAngularMomentum = {{
{highest}
  }}
  # Read with SpinPolarisation only: W of the free atom, shell by shell (Wss Wsp Wsd / Wps ... with one row a shell).
  SpinConstants = {{
    ShellResolvedSpin = Yes
{spin}
  }}
  # Read with ThirdOrderFull = Yes only. The set was fitted without it: other energies than published follow.
  HubbardDerivs = {{
{third}
  }}
}}
ParserOptions = {{
  IgnoreUnprocessedNodes = Yes
}}
"""


def _spin(data: ElementData) -> str:
    rows = "\n".join("      " + " ".join(f"{w:.6f}" for w in row) for row in data.spin)
    return f"    {data.symbol} = {{\n{rows}\n    }}"


def waveplot_hsd(name: str, data: Sequence[ElementData]) -> str:
    """Return the elements' blocks for waveplot's ``Basis``, to be included there by ``<<+``."""
    blocks = [f"# {name}: radial functions of the tables as sums of Slater functions, for waveplot."]
    for one in data:
        lines = [f"{one.symbol} {{", f"  AtomicNumber = {one.number}"]
        for orbital in one.orbitals:
            lines += [
                f"  Orbital {{  # {orbital.shell}; norm of the error of the fit {orbital.fit_error:.1e}",
                f"    AngularMomentum = {orbital.angular}",
                f"    Occupation = {orbital.occupation:g}",
                f"    Cutoff = {orbital.cutoff:.1f}",
                "    Exponents {",
                "      " + " ".join(f"{a:.12e}" for a in orbital.exponents),
                "    }",
                "    Coefficients {",
                *("      " + " ".join(f"{c:.15e}" for c in row) for row in orbital.coefficients),
                "    }",
                "  }",
            ]
        blocks.append("\n".join([*lines, "}"]))
    return "\n".join(blocks) + "\n"
