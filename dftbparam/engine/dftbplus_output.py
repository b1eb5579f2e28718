"""What DFTB+ writes: numbers from its output. No process is started here.

results.tag has all digits, detailed.out the parts of the energy with ten decimals; both must be of one run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import factorial, pi, sqrt

import numpy as np
from ase import Atoms
from numpy.polynomial.hermite import hermval

from dftbparam.engine.base import Array, Result, Settings
from dftbparam.engine.kpoints import divisions, is_periodic, time_reversed_mesh
from dftbparam.errors import UnreadableOutput
from dftbparam.units import BOLTZMANN

ENERGY_AGREEMENT = 1e-8
"""Hartree. results.tag and detailed.out print one energy with 15 and 10 decimals; further apart they are not of one
run."""

PROJECTION_STEP = 1e-6
"""Last decimal of projected states."""


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

    Keys: ``total``, ``mermin``, ``repulsive``, ``band`` (both spins), ``h0``, ``scc``, ``third``, ``spin``,
    ``dispersion`` (0 where there is none), ``iterations``.

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
        "third": "Energy 3rd",
        "spin": "Energy SPIN",
        "dispersion": "Dispersion energy",
    }
    out: dict[str, float] = {"scc": 0.0, "third": 0.0, "spin": 0.0, "dispersion": 0.0}
    for key, label in labels.items():
        words = re.findall(rf"^[ \t]*{label}:[ \t]+(\S+) H\b", text, re.MULTILINE)
        if words:
            try:
                # The band energy stands there once for each spin.
                out[key] = sum(float(word) for word in (words if key == "band" else words[:1]))
            except ValueError:
                raise UnreadableOutput(f"detailed.out: {label} is {words[0]!r}") from None
        elif key not in out:
            raise UnreadableOutput(f"detailed.out has no line {label!r}")
    out["iterations"] = float(scc_progress(text)[0])
    return out


def scc_progress(text: str) -> tuple[int, float]:
    """Iterations and last charge error (electrons; NaN if unknown) from the SCC table in standard output."""
    number = r"[ \t]+[-+]?\d\.\d+E[-+]\d+"  # no \s: it runs over line ends, which takes quadratic time on blank lines
    rows = re.findall(rf"^[ \t]*(\d+)(?:{number}){{2}}({number})[ \t\r]*$", text, re.MULTILINE)
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


def read_result(
    results_tag: str,
    detailed: str,
    atoms: Atoms,
    settings: Settings,
    max_angular: Mapping[str, int],
    *,
    projected: Mapping[tuple[int, int], str] | None = None,
) -> Result:
    """Build the `Result` of one structure from its output files.

    The energy without entropy is twice the extrapolated energy less the Mermin energy: exact, and with all the digits
    that detailed.out lacks (DFTB+ extrapolates to E - TS/2 whatever the filling).

    Parameters
    ----------
    max_angular
        Highest angular momentum per element.
    projected
        Text of the files with projected states per atom and shell.

    Raises
    ------
    UnreadableOutput
        A field is missing, has the wrong shape or is not finite, or the files are not of one run.
    """
    tags = parse_results_tag(results_tag)
    lines = parse_detailed(detailed)
    n, spins = len(atoms), 1 if settings.spin is None else 2
    mermin = float(_field(tags, "mermin_energy", ()))
    energy = 2.0 * float(_field(tags, "extrapolated0_energy", ())) - mermin
    for name, value in (("mermin", mermin), ("total", energy)):
        if not abs(lines[name] - value) < ENERGY_AGREEMENT * max(1.0, abs(value)):
            raise UnreadableOutput(
                f"the {name} energy is {lines[name]:.10f} Hartree in detailed.out but {value:.10f} in results.tag"
            )
    kpoints, weights = time_reversed_mesh(divisions(atoms, settings))
    eigenvalues = read_eigenvalues(tags, spins, len(weights))
    levels = _field(tags, "fermi_level", (spins,)) if spins == 1 else _spin_levels(tags)
    free_energy = mermin
    details = {"eigenvalue_sum": lines["band"]}
    if settings.filling == "methfessel-paxton" and settings.filling_order > 0:
        entropy = sum(
            _methfessel_paxton_entropy(eigenvalues[spin], weights, float(levels[spin]), settings) / spins
            for spin in range(spins)
        )
        free_energy = energy - entropy
        details["mermin_energy"] = mermin
    axis = slice(None) if spins == 2 else 0  # without spin polarisation results have no spin axis
    wanted = settings.eigenvalues or settings.projections
    shells, moments = _populations(tags, atoms, max_angular, spins)
    charges = _field(tags, "gross_atomic_charges", (n,))
    scc, third = lines["scc"], lines["third"]
    if settings.third_order is not None and not settings.third_order.full:
        # DFTB+ counts the on-site terms, sum_a U'_a dq_a^3 / 6 with dq in electrons, among the second order.
        derivatives = np.array([settings.third_order.of(symbol) for symbol in atoms.symbols])
        third = -float(derivatives @ charges**3) / 6.0
        scc -= third
    return Result(
        energy=energy,
        free_energy=free_energy,
        band_energy=lines["h0"],
        repulsive_energy=lines["repulsive"],
        scc_energy=scc,
        third_order_energy=third,
        spin_energy=lines["spin"],
        dispersion_energy=lines["dispersion"],
        fermi_level=float(levels.mean()),
        fermi_levels=None
        if settings.spin is None or settings.spin.unpaired is None
        else (float(levels[0]), float(levels[1])),
        charges=charges,
        shell_populations=shells,
        moments=moments,
        forces=_field(tags, "forces", (n, 3)) if settings.forces else None,
        # DFTB+ prints it positive under compression.
        stress=-_field(tags, "stress", (3, 3)) if settings.stress and is_periodic(atoms) else None,
        eigenvalues=eigenvalues[axis] if wanted else None,
        kpoints=kpoints if wanted else None,
        weights=weights if wanted else None,
        projections=None if projected is None else read_projections(projected, n, eigenvalues.shape)[axis],
        scc_iterations=int(lines["iterations"]) if settings.scc else 0,
        details=details,
    )


def _field(tags: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
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


def read_eigenvalues(tags: Mapping[str, Array], spins: int, points: int) -> Array:
    """Eigenvalues (spins, points, bands) in Hartree; `UnreadableOutput` if there are none of this shape."""
    bands = tags["eigenvalues"].shape[-1] if tags.get("eigenvalues", np.zeros(())).ndim else 0
    return _field(tags, "eigenvalues", (spins, points, bands))


def _spin_levels(tags: Mapping[str, Array]) -> Array:
    """Fermi levels (2,): one that both spins share may stand there once."""
    if tags.get("fermi_level", np.zeros(2)).size == 1:
        return np.repeat(_field(tags, "fermi_level", (1,)), 2)
    return _field(tags, "fermi_level", (2,))


def _populations(
    tags: Mapping[str, Array], atoms: Atoms, max_angular: Mapping[str, int], spins: int
) -> tuple[Array, Array | None]:
    """Populations (n, 4) of the shells, and with spin the moments (n,)."""
    n = len(atoms)
    orbitals = tags["orbital_charges"].shape[-1] if tags.get("orbital_charges", np.zeros(())).ndim else 0
    per_orbital = _field(tags, "orbital_charges", (spins, n, orbitals))
    needed = max((max_angular[symbol] + 1) ** 2 for symbol in set(atoms.symbols))
    if orbitals < needed:
        raise UnreadableOutput(f"results.tag: orbital_charges has {orbitals} orbitals, expected {needed}")
    moments = None
    if spins == 2:
        up, down = per_orbital
        moments = (up - down).sum(axis=1)
        per_orbital = per_orbital.sum(axis=0, keepdims=True)
    shells = np.zeros((n, 4))
    for a, symbol in enumerate(atoms.symbols):
        for l in range(max_angular[symbol] + 1):
            shells[a, l] = per_orbital[0, a, l * l : (l + 1) ** 2].sum()
    return shells, moments


def read_projections(projected: Mapping[tuple[int, int], str], n_atoms: int, shape: tuple[int, ...]) -> Array:
    """Weights (spins, k, bands, n, 4) of states on shells, from DFTB+'s files of projected states.

    ``shape`` is that of the eigenvalues, (spins, k, bands). The files have six decimals; weights are scaled so that
    those of a state sum to 1. Raises `UnreadableOutput` where the files hold less, or they are far from that sum.
    """
    spins, points, bands = shape
    out = np.zeros((spins, points, bands, n_atoms, 4))
    for (atom, l), text in projected.items():
        rows = [line.split() for line in text.splitlines() if line.strip() and "KPT" not in line]
        try:
            values = np.array([float(row[1]) for row in rows])
        except (ValueError, IndexError):
            raise UnreadableOutput(f"projected states of atom {atom}, shell {l}: a row is no pair of numbers") from None
        if values.size != spins * points * bands:
            raise UnreadableOutput(
                f"projected states of atom {atom}, shell {l}: {values.size} of {spins * points * bands} states"
            )
        out[..., atom, l] = _spin_first(values, text, spins, points, bands)
    total = out.sum(axis=(-2, -1), keepdims=True)
    if not np.abs(total - 1.0).max() < PROJECTION_STEP * (1 + len(projected)):
        raise UnreadableOutput(
            f"projected states: the weights of one add up to {total.min():.6f} ... {total.max():.6f}"
        )
    shares: Array = out / total
    return shares


def _spin_first(values: Array, text: str, spins: int, points: int, bands: int) -> Array:
    heads = re.findall(r"KPT\s+(\d+)\s+SPIN\s+(\d+)", text)
    blocks = values.reshape(spins * points, bands)
    if len(heads) != len(blocks):
        raise UnreadableOutput(f"projected states: {len(heads)} heads for {len(blocks)} blocks")
    out = np.zeros((spins, points, bands))
    for (k, spin), block in zip(heads, blocks, strict=True):
        if not (1 <= int(k) <= points and 1 <= int(spin) <= spins):
            raise UnreadableOutput(f"projected states: there is no k-point {k} of spin {spin}")
        out[int(spin) - 1, int(k) - 1] = block
    return out


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
