"""Input for DFTB+ and waveplot, in their HSD format: line by line, as both are sensitive to that."""

from __future__ import annotations

from collections.abc import Sequence

from dftbparam.publish.element_data import ElementData

LETTERS = "spdf"

PARSER_VERSION = 14
"""Of the input, as DFTB+ 25.1 has it; later ones translate from it."""

CRYSTALS = """\
  # Crystals need a mesh of k-points here, as fine as the energy asks for (an even number of points with shift 0.5):
  #   KPointsAndWeights = SupercellFolding {
  #     4 0 0
  #     0 4 0
  #     0 0 4
  #     0.5 0.5 0.5
  #   }
  # Scores of the set are at 1000 K (the default of DFTB+ is 300 K), energies extrapolated to zero temperature:
  #   Filling = Fermi { Temperature [Kelvin] = 1000 }"""
"""Comments of the snippet on what it cannot know."""


def hamiltonian_hsd(name: str, data: Sequence[ElementData]) -> str:
    """Return blocks to paste into dftb_in.hsd: shells, files, and what spin polarisation and third order need.

    DFTB+ stops at blocks that it has no use for, such as elements that the structure lacks; the last block of the text
    tells it not to. What else a calculation has to be told, as its comments say, depends on the structure.
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
{CRYSTALS}
  # Read with SpinPolarisation only: W of the free atom, shell by shell (Wss Wsp Wsd / Wps ... with one row a shell).
  SpinConstants = {{
    ShellResolvedSpin = Yes
{spin}
  }}
  # Read with ThirdOrderFull = Yes only. The set was fitted without it: other energies than published follow.
  # Not together with ShellResolvedSCC = Yes: that takes a derivative per shell, and these are one per element.
  HubbardDerivs = {{
{third}
  }}
}}
ParserOptions = {{
  ParserVersion = {PARSER_VERSION}
  # Lets lines of elements pass that the structure lacks, and hides typing errors: a misspelt keyword is ignored, too.
  # DFTB+ names all that it ignores in a warning at the start of its output; look there.
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
