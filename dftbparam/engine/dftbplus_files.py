"""What DFTB+ reads and writes: input text from records, numbers from its output. No process is started here.

Keywords and file layouts are those of the DFTB+ manual, parser versions 11 (release 22.1) to 14 (24.1 and 25.1).
The input is newline-sensitive: one assignment a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial, pi, sqrt

import numpy as np
from ase import Atoms
from numpy.polynomial.hermite import hermval

from dftbparam.engine.base import Array, Result, Settings
from dftbparam.engine.kpoints import divisions, is_periodic, shifts, time_reversed_mesh
from dftbparam.errors import UnreadableOutput
from dftbparam.units import BOLTZMANN

SHELLS = "spdf"
"""Letters of the angular momenta 0 to 3."""

OLDEST_RELEASE = (22, 1)
"""The oldest release whose input the driver writes."""

PARSER_VERSIONS: tuple[tuple[tuple[int, int], int], ...] = (((24, 1), 14), ((23, 1), 13), ((22, 2), 12), ((22, 1), 11))
"""First release of each parser version, newest first. Later releases convert version 14 themselves."""

ENERGY_AGREEMENT = 1e-8
"""Hartree. results.tag and detailed.out print one energy with 15 and 10 decimals; further apart they are not of one
run."""


@dataclass(frozen=True)
class Release:
    """A DFTB+ release; ``number`` is None for a development version, which is taken as newer than all releases."""

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
    return None if match is None else Release(match[1].strip(), None)


# ---------------------------------------------------------------------------------------------------------- input


def input_text(
    atoms: Atoms,
    settings: Settings,
    *,
    release: Release,
    max_angular: Mapping[str, int],
    polynomial_pairs: Sequence[tuple[str, str]] = (),
    prefix: str = "skf/",
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
    """
    symbols = sorted(set(atoms.symbols))
    periodic = is_periodic(atoms)
    out = _Block()
    out.open("Geometry = GenFormat")
    out.lines(_gen_format(atoms, symbols, periodic))
    out.close()

    out.open("Hamiltonian = DFTB")
    out.set("SCC", settings.scc)
    if settings.scc:
        out.set("SCCTolerance", settings.scc_tolerance)
        out.set("MaxSCCIterations", settings.max_scc_iterations)
        out.set("ConvergentSCCOnly", True)
        # Parser version 1 switches this on in silence; said here so that nobody has to know.
        out.set("ShellResolvedSCC", False)
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
    if periodic:
        mesh = divisions(atoms, settings)
        out.open("KPointsAndWeights = SupercellFolding")
        for i, n in enumerate(mesh):
            out.line(" ".join(str(n if i == j else 0) for j in range(3)))
        out.line(" ".join(repr(s) for s in shifts(mesh)))
        out.close()
    _filling(out, settings, release)
    out.close()

    out.open("Analysis")
    out.set("MullikenAnalysis", True)
    out.set("WriteBandOut", False)
    if settings.forces or settings.stress:
        # Renamed in parser version 14; the old name is refused there.
        out.set("PrintForces" if release.parser >= 14 else "CalculateForces", True)
    out.close()
    out.open("Options")
    out.set("WriteResultsTag", True)
    out.set("WriteDetailedOut", True)
    out.close()
    out.open("ParserOptions")
    out.set("ParserVersion", release.parser)
    out.set("IgnoreUnprocessedNodes", False)
    out.set("WriteHSDInput", False)
    out.close()
    return out.text()


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


def _numbers(values: Array) -> str:
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


# --------------------------------------------------------------------------------------------------------- output


def parse_results_tag(text: str) -> dict[str, Array]:
    """Read a ``results.tag``: name to array, with the axes in the reverse of the order that the file names.

    ``eigenvalues:real:3:8,32,1`` (bands, k-points, spins; the first runs fastest) becomes an array (1, 32, 8).

    Raises
    ------
    UnreadableOutput
        A head that is none, a number that is none, or too few of them.
    """
    out: dict[str, Array] = {}
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        head = lines[at].split(":")
        at += 1
        if not "".join(head).strip():
            continue
        if len(head) != 4:
            raise UnreadableOutput(f"results.tag: {lines[at - 1][:60]!r} is no head of a field")
        name, kind, rank = (part.strip() for part in head[:3])
        start = at
        while at < len(lines) and ":" not in lines[at]:
            at += 1
        if kind != "real":
            continue
        words = " ".join(lines[start:at]).split()
        try:
            shape = tuple(int(n) for n in head[3].split(",")) if int(rank) else ()
            values = np.array([float(w) for w in words])
            out[name] = values.reshape(shape[::-1])
        except ValueError as error:
            raise UnreadableOutput(f"results.tag: field {name!r} cannot be read: {error}") from None
    return out


def parse_detailed(text: str) -> dict[str, float]:
    """Read the energies (Hartree) and the number of SCC iterations from ``detailed.out``.

    Keys: ``total``, ``mermin``, ``repulsive``, ``band``, ``h0``, ``scc`` (0 without SCC), ``iterations``.

    Raises
    ------
    UnreadableOutput
        One of them is missing.
    """
    labels = {
        "total": "Total energy",
        "mermin": "Total Mermin free energy",
        "repulsive": "Repulsive energy",
        "band": "Band energy",
        "h0": "Energy H0",
        "scc": "Energy SCC",
    }
    out: dict[str, float] = {"scc": 0.0}
    for key, label in labels.items():
        match = re.search(rf"^\s*{label}:\s+(\S+) H\b", text, re.MULTILINE)
        if match is not None:
            try:
                out[key] = float(match[1])
            except ValueError:
                raise UnreadableOutput(f"detailed.out: {label} is {match[1]!r}") from None
        elif key not in out:
            raise UnreadableOutput(f"detailed.out has no line {label!r}")
    out["iterations"] = float(scc_progress(text)[0])
    return out


def scc_progress(text: str) -> tuple[int, float]:
    """Iterations and last charge error (electrons; NaN if unknown) from the SCC table in standard output."""
    rows = re.findall(r"^\s*(\d+)(?:\s+[-+]?\d\.\d+E[-+]\d+){2}\s+([-+]?\d\.\d+E[-+]\d+)\s*$", text, re.MULTILINE)
    if not rows:
        return 0, float("nan")
    return int(rows[-1][0]), float(rows[-1][1])


def error_text(output: str) -> str | None:
    """DFTB+'s own words after ``ERROR!`` on standard output, in one line; None if it said nothing."""
    _, found, rest = output.rpartition("ERROR!")
    if not found:
        return None
    said: list[str] = []
    for row in rest.splitlines()[1:]:
        if not row.strip() or row.startswith(("ERROR STOP", "WARNING!")):
            break
        said.append(row.strip().removeprefix("->").strip())
    return " | ".join(said) or None


def read_result(results_tag: str, detailed: str, atoms: Atoms, settings: Settings) -> Result:
    """Build the `Result` of one structure from its two output files.

    The energy without entropy is twice the extrapolated energy less the Mermin energy: exact, and with all the digits
    that detailed.out lacks (DFTB+ extrapolates to E - TS/2 whatever the filling).

    Raises
    ------
    UnreadableOutput
        A field is missing, has the wrong shape or is not finite, or the files are not of one run.
    """
    tags = parse_results_tag(results_tag)
    lines = parse_detailed(detailed)
    n = len(atoms)

    def field(name: str, shape: tuple[int, ...]) -> Array:
        if name not in tags:
            raise UnreadableOutput(f"results.tag lacks {name!r}; it has {', '.join(sorted(tags)) or 'nothing'}")
        values = tags[name]
        if values.size != int(np.prod(shape)):
            raise UnreadableOutput(f"results.tag: {name} has the shape {values.shape[::-1]}, expected {shape[::-1]}")
        if not np.isfinite(values).all():
            raise UnreadableOutput(
                f"results.tag: {name} is not finite; a table with NaN, or one number short in a row, does this"
            )
        return values.reshape(shape)

    mermin = float(field("mermin_energy", ()))
    energy = 2.0 * float(field("extrapolated0_energy", ())) - mermin
    for name, value in (("mermin", mermin), ("total", energy)):
        if not abs(lines[name] - value) < ENERGY_AGREEMENT * max(1.0, abs(value)):
            raise UnreadableOutput(
                f"the {name} energy is {lines[name]:.10f} Hartree in detailed.out but {value:.10f} in results.tag"
            )
    kpoints, weights = time_reversed_mesh(divisions(atoms, settings))
    bands = tags["eigenvalues"].shape[-1] if tags.get("eigenvalues", np.zeros(())).ndim else 0
    eigenvalues = field("eigenvalues", (1, len(weights), bands))[0]
    fermi_level = float(field("fermi_level", (1,))[0])
    free_energy = mermin
    details = {"eigenvalue_sum": lines["band"]}
    if settings.filling == "methfessel-paxton" and settings.filling_order > 0:
        free_energy = energy - _methfessel_paxton_entropy(eigenvalues, weights, fermi_level, settings)
        details["mermin_energy"] = mermin
    return Result(
        energy=energy,
        free_energy=free_energy,
        band_energy=lines["h0"],
        repulsive_energy=lines["repulsive"],
        scc_energy=lines["scc"],
        fermi_level=fermi_level,
        charges=field("gross_atomic_charges", (n,)),
        forces=field("forces", (n, 3)) if settings.forces else None,
        # DFTB+ prints it positive under compression.
        stress=-field("stress", (3, 3)) if settings.stress and is_periodic(atoms) else None,
        eigenvalues=eigenvalues if settings.eigenvalues else None,
        kpoints=kpoints if settings.eigenvalues else None,
        weights=weights if settings.eigenvalues else None,
        scc_iterations=int(lines["iterations"]) if settings.scc else 0,
        details=details,
    )


def _methfessel_paxton_entropy(eigenvalues: Array, weights: Array, fermi_level: float, settings: Settings) -> float:
    """TS in Hartree: kT sum_k w_k sum_n A_N H_2N(x) exp(-x^2), x = (e - mu) / kT, both spins.

    A_N = (-1)^N / (N! 4^N sqrt(pi)) (Methfessel, Paxton, Phys. Rev. B 40, 3616 (1989)). DFTB+ 25.1 adds up the terms
    of all orders up to N instead (``dftb/etemp.F90``), and its Mermin energy is then not the energy that its forces
    and stress are derivatives of: by finite differences of an fcc copper cell, this one is.
    """
    order, width = settings.filling_order, settings.temperature * BOLTZMANN
    if width == 0.0:
        return 0.0
    x = (eigenvalues - fermi_level) / width
    only_last = np.zeros(2 * order + 1)
    only_last[-1] = (-1.0) ** order / (factorial(order) * 4.0**order * sqrt(pi))
    terms = hermval(x, only_last) * np.exp(-(x**2))
    return float(width * (weights @ terms.sum(axis=1)))
