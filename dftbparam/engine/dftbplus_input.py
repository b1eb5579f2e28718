"""What DFTB+ reads: input text from records. No process is started here.

Keywords and file layouts are those of the DFTB+ manual, parser versions 11 (release 22.1) to 14 (24.1 and 25.1).
The input is newline-sensitive: one assignment a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from dftbparam.engine.base import Array, Settings
from dftbparam.engine.hamiltonian import (
    COORDINATION_CUTOFF,
    PAIR_CUTOFF,
    TRIPLE_CUTOFF,
    Dispersion,
    initial_moments,
)
from dftbparam.engine.kpoints import divisions, is_periodic, shifts
from dftbparam.errors import ParameterError
from dftbparam.units import BOLTZMANN

REGION = "atom"
"""Head of the names of the files with projected states: ``atom1.1.out`` for the first shell of the first atom."""

SHELLS = "spdf"
"""Letters of the angular momenta 0 to 3."""

OLDEST_RELEASE = (22, 1)
"""The oldest release whose input the driver writes."""

NEWEST_RELEASE = (25, 1)
"""The newest release that the driver was checked with."""

PARSER_VERSIONS: tuple[tuple[tuple[int, int], int], ...] = (((24, 1), 14), ((23, 1), 13), ((22, 2), 12), ((22, 1), 11))
"""First release of each parser version, newest first. Later releases convert version 14 themselves."""


@dataclass(frozen=True)
class Release:
    """A DFTB+ release.

    ``number`` of a development version is that of the release it is based on, as it says itself, or the first one of
    its year; None where neither is known or it is newer than all releases.
    """

    name: str
    number: tuple[int, int] | None

    @property
    def parser(self) -> int:
        """The parser version to write for: the newest one that both this release and this driver know; 0 if none."""
        if self.number is None:
            return PARSER_VERSIONS[0][1]
        return next((parser for first, parser in PARSER_VERSIONS if self.number >= first), 0)

    @property
    def methfessel_paxton_offset(self) -> int:
        """What to add to a Methfessel-Paxton order: before 25.1, DFTB+ worked one order lower than it was asked to."""
        return 1 if self.number is not None and self.number < (25, 1) else 0


def parse_release(banner: str) -> Release | None:
    """Find the release in DFTB+'s first lines (``DFTB+ release 25.1``, ``DFTB+ development version ...``)."""
    match = re.search(r"DFTB\+\s+(release\s+)?(\d+)\.(\d+)(\S*)", banner)
    if match is not None:
        return Release(f"{match[2]}.{match[3]}{match[4]}", (int(match[2]), int(match[3])))
    match = re.search(r"DFTB\+\s+(dev\S*[^\n|]*)", banner)
    if match is None:
        return None
    base = re.search(r"base:\s*(\d+)\.(\d+)", match[1])
    if base is not None:
        return Release(match[1].strip(), (int(base[1]), int(base[2])))
    # Built from an archive: only the year of the copyright tells how old it is.
    year = re.search(r"Copyright \(C\) 2006 - 20(\d\d)", banner)
    old = year is not None and int(year[1]) < NEWEST_RELEASE[0]
    return Release(match[1].strip(), (int(year[1]), 1) if year is not None and old else None)


def refuse(settings: Settings) -> None:
    """Refuse, with `ParameterError`, what no release of DFTB+ can do."""
    given = settings.dispersion
    if given is not None and given.model == "d3bj" and given.s9 not in (0.0, 1.0):
        raise ParameterError(
            f"dispersion has s9 = {given.s9}: DFTB+ has the three-body term of D3(BJ) with the strength 0 or 1 only; "
            "one of them, D4, or the embedded engine would be right",
            name="dispersion",
        )
    if settings.scc and settings.band_points is not None and settings.max_scc_iterations == 1:
        raise ParameterError(
            "max_scc_iterations = 1 with band_points: DFTB+ leaves charges for the bands only where 2 or more are "
            "allowed",
            name="max_scc_iterations",
        )


def input_text(
    atoms: Atoms,
    settings: Settings,
    *,
    release: Release,
    max_angular: Mapping[str, int],
    polynomial_pairs: Sequence[tuple[str, str]] = (),
    prefix: str = "skf/",
    read_charges: bool = False,
    bands: bool = False,
) -> str:
    """The whole ``dftb_in.hsd`` for one structure.

    Parameters
    ----------
    max_angular
        Highest valence angular momentum per element of the structure.
    polynomial_pairs
        Ordered pairs whose repulsion is the polynomial of the file's head instead of its spline.
    prefix
        Folder of the Slater-Koster files, with the final slash, relative to where DFTB+ runs.
    read_charges
        Start from the ``charges.bin`` that lies in the folder.
    bands
        One diagonalisation at the settings' ``band_points`` with the charges that are read, and nothing else.

    Raises
    ------
    ParameterError
        Spin constants or the Hubbard derivative of an element are missing.
    """
    symbols = sorted(set(atoms.symbols))
    out = _Block()
    out.open("Geometry = GenFormat")
    out.lines(_gen_format(atoms, symbols, is_periodic(atoms)))
    out.close()

    out.open("Hamiltonian = DFTB")
    out.set("SCC", settings.scc)
    if settings.scc:
        out.set("SCCTolerance", settings.scc_tolerance)
        out.set("MaxSCCIterations", 1 if bands else settings.max_scc_iterations)
        out.set("ConvergentSCCOnly", not bands)
        # Parser version 1 switches this on in silence; said here so that nobody has to know.
        out.set("ShellResolvedSCC", settings.shell_resolved)
        if read_charges:
            out.set("ReadInitialCharges", True)
    out.set("Charge", settings.charge)
    out.open("MaxAngularMomentum")
    for symbol in symbols:
        out.set(symbol, f'"{SHELLS[max_angular[symbol]]}"')
    out.close()
    out.open("SlaterKosterFiles = Type2FileNames")
    out.set("Prefix", f'"{prefix}"')
    out.set("Separator", '"-"')
    out.set("Suffix", '".skf"')
    out.close()
    if polynomial_pairs:
        out.open("PolynomialRepulsive =")
        for a, b in polynomial_pairs:
            out.set(f"{a}-{b}", True)
        out.close()
    _spin(out, atoms, settings, max_angular, read_charges)
    _third_order(out, settings, symbols)
    if settings.dispersion is not None and not bands:
        _dispersion(out, settings.dispersion)
    _kpoints(out, atoms, settings, bands)
    _filling(out, settings, release)
    out.close()

    out.open("Analysis")
    out.set("MullikenAnalysis", True)
    out.set("WriteBandOut", False)
    if (settings.forces or settings.stress) and not bands:
        # Renamed in parser version 14; the old name is refused there.
        out.set("PrintForces" if release.parser >= 14 else "CalculateForces", True)
    if settings.projections and not bands:
        out.open("ProjectStates")
        for atom in range(1, len(atoms) + 1):
            out.open("Region")
            out.set("Atoms", atom)
            out.set("ShellResolved", True)
            out.set("Label", f'"{REGION}{atom}"')
            out.close()
        out.close()
    out.close()
    out.open("Options")
    out.set("WriteResultsTag", True)
    out.set("WriteDetailedOut", True)
    if read_charges and settings.spin is not None and settings.spin.unpaired is None:
        # Else the moment that is read must be the one that a search from nothing begins with: none.
        out.set("SkipChargeTest", True)
    out.close()
    out.open("ParserOptions")
    out.set("ParserVersion", release.parser)
    out.set("IgnoreUnprocessedNodes", False)
    out.set("WriteHSDInput", False)
    out.close()
    return out.text()


def _spin(out: _Block, atoms: Atoms, settings: Settings, max_angular: Mapping[str, int], read_charges: bool) -> None:
    if settings.spin is None:
        return
    out.open("SpinPolarisation = Colinear")
    out.set("UnpairedElectrons", settings.spin.unpaired or 0.0)
    out.set("RelaxTotalSpin", settings.spin.unpaired is None)
    moments = initial_moments(atoms)
    if moments.any() and not read_charges:
        out.open("InitialSpins")
        out.open("AllAtomSpins")
        out.lines([repr(float(m)) for m in moments])
        out.close()
        out.close()
    out.close()
    out.open("SpinConstants")
    if not settings.shell_resolved:
        # With ShellResolvedSCC it is so anyway, and the keyword is refused.
        out.set("ShellResolvedSpin", True)
    for symbol in sorted(set(atoms.symbols)):
        out.open(symbol)
        out.lines([_numbers(row) for row in settings.spin.matrix(symbol, max_angular[symbol] + 1)])
        out.close()
    out.close()


def _third_order(out: _Block, settings: Settings, symbols: Sequence[str]) -> None:
    third = settings.third_order
    if third is not None:
        out.set("ThirdOrderFull" if third.full else "ThirdOrder", True)
        out.open("HubbardDerivs")
        for symbol in symbols:
            out.set(symbol, third.of(symbol))
        out.close()
    if settings.hydrogen_damping is not None:
        out.open("HCorrection = Damping")
        out.set("Exponent", float(settings.hydrogen_damping))
        out.close()


def _dispersion(out: _Block, given: Dispersion) -> None:
    """D4, D3(BJ) by DFTB+'s own code, which every build has, or, with three-body terms, D3(BJ) by s-dftd3."""
    if given.model == "d4":
        out.open("Dispersion = DftD4")
        _parameters(out, given, "s6", "s8", "s9", "a1", "a2")
        out.set("CutoffInter", PAIR_CUTOFF)
        out.set("CutoffThree", TRIPLE_CUTOFF)
        out.set("ChargeModel", "EEQ {}")
        out.open("CoordinationNumber = Cov")
        out.set("Cutoff", COORDINATION_CUTOFF)
        out.close()
    elif not given.s9:
        out.open("Dispersion = SimpleDftD3")
        _parameters(out, given, "s6", "s8", "a1", "a2")
        out.set("CutoffInter", PAIR_CUTOFF)
        out.open("CoordinationNumber = Exp")
        out.set("Cutoff", COORDINATION_CUTOFF)
        out.close()
    else:
        # Its cutoff of coordination numbers is that of the three-body terms, too.
        out.open("Dispersion = DftD3")
        out.open("Damping = BeckeJohnson")
        _parameters(out, given, "a1", "a2")
        out.close()
        _parameters(out, given, "s6", "s8")
        out.set("Cutoff", PAIR_CUTOFF)
        out.set("CutoffCN", TRIPLE_CUTOFF)
        out.set("Threebody", True)
    out.close()


def _parameters(out: _Block, given: Dispersion, *names: str) -> None:
    for name in names:
        out.set(name, float(getattr(given, name)))


def _kpoints(out: _Block, atoms: Atoms, settings: Settings, bands: bool) -> None:
    if not is_periodic(atoms):
        return
    if bands:
        out.open("KPointsAndWeights")
        out.lines([_numbers([*point, 1.0]) for point in settings.band_points or ()])
        out.close()
        return
    mesh = divisions(atoms, settings)
    out.open("KPointsAndWeights = SupercellFolding")
    for i, n in enumerate(mesh):
        out.line(" ".join(str(n if i == j else 0) for j in range(3)))
    out.line(" ".join(repr(s) for s in shifts(mesh)))
    out.close()


class _Block:
    """Indented HSD text."""

    def __init__(self) -> None:
        self._rows: list[str] = []
        self._depth = 0

    def line(self, text: str) -> None:
        self._rows.append("  " * self._depth + text)

    def lines(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.line(text)

    def set(self, name: str, value: bool | int | float | str) -> None:
        if isinstance(value, bool):
            shown = "Yes" if value else "No"
        else:
            shown = value if isinstance(value, str) else repr(value)
        self.line(f"{name} = {shown}")

    def open(self, head: str) -> None:
        self.line(head + " {")
        self._depth += 1

    def close(self) -> None:
        self._depth -= 1
        self.line("}")

    def text(self) -> str:
        return "\n".join(self._rows) + "\n"


def _gen_format(atoms: Atoms, symbols: Sequence[str], periodic: bool) -> list[str]:
    """Geometry in DFTB+'s gen format; Angstrom with all digits."""
    number = {symbol: i + 1 for i, symbol in enumerate(symbols)}
    rows = [f"{len(atoms)} {'S' if periodic else 'C'}", " ".join(symbols)]
    for i, (symbol, position) in enumerate(zip(atoms.symbols, atoms.positions, strict=True)):
        rows.append(f"{i + 1} {number[symbol]} " + _numbers(position))
    if periodic:
        rows.append(_numbers(np.zeros(3)))
        rows.extend(_numbers(vector) for vector in atoms.cell.array)
    return rows


def _numbers(values: Array | Sequence[float]) -> str:
    return " ".join(f"{float(v):.16e}" for v in values)


def _filling(out: _Block, settings: Settings, release: Release) -> None:
    # In Hartree, so that DFTB+'s own Boltzmann constant plays no part.
    width = settings.temperature * BOLTZMANN
    if settings.filling == "fermi":
        out.open("Filling = Fermi")
    else:
        order = settings.filling_order + release.methfessel_paxton_offset
        if order == 0:
            out.open("Filling = Gaussian")
        else:
            out.open("Filling = MethfesselPaxton")
            out.set("Order", order)
    out.set("Temperature", width)
    out.close()
