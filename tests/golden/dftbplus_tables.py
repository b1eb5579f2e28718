"""Tables of the golden cases that are not published: made-up sets, and our own, built when they are needed."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from dftbparam.elements import element
from dftbparam.skf import read_skf, write_skf
from dftbparam.skf.model import (
    EXTENDED_COLUMNS,
    SIMPLE_COLUMNS,
    OnSite,
    PolynomialRepulsion,
    SKFile,
    SKSet,
    SplineRepulsion,
)
from dftbparam.slako.build import build_tables
from dftbparam.space import Confinement, ElementParameters, ParameterSet, load_parameter_set
from dftbparam.space.parameter_set import RepulsionParameters

OWN_PREFIX = "own:"
MALFORMED = "miomod-hh-0-1"
"""Folder of the one published file that is malformed."""

OWN_GRID_STEP = 0.05
"""Bohr; coarser than files for others (0.02), so that they are quick to read."""


@cache
def own_tables(folder: str, symbols: tuple[str, ...]) -> SKSet:
    """Tables of our own for ``own:ptbp`` (the set as shipped) or ``own:f``, written to files and read back."""
    parameters = {"own:ptbp": _ptbp, "own:f": _f_elements}[folder]()
    with tempfile.TemporaryDirectory() as scratch:
        built = build_tables(parameters, symbols, grid_step=OWN_GRID_STEP)
        files = {}
        for (a, b), file in built.files.items():
            path = Path(scratch) / f"{a}-{b}.skf"
            write_skf(path, file)
            files[a, b] = read_skf(path, heteronuclear=a != b)
    return SKSet(files=files, max_angular=built.max_angular)


def mended_hydrogen(text: str) -> str:
    """The H-H file of miomod-hh as DFTB+ understands it.

    Its header ends the spline at 2.64 Bohr, but the 67th of 68 intervals runs from 2.64 to 2.665195 and the last one
    back to 2.64. Our reader refuses that. DFTB+ reads it without a word and takes the repulsion as zero from 2.64 Bohr
    on, so that the last two intervals are never used (they are left out here) and the energy jumps by 1.3e-4 Hartree.
    """
    lines = text.splitlines()
    spline = lines.index("Spline")
    n, cutoff = lines[spline + 1].split()
    rows = spline + 3
    last = rows + int(n) - 1
    lines[last - 1 : last + 1] = []
    lines[last - 2] += " 0 0"
    lines[spline + 1] = f"{int(n) - 2} {cutoff}"
    return "\n".join(lines) + "\n"


def _ptbp() -> ParameterSet:
    return load_parameter_set("ptbp")


def _f_elements() -> ParameterSet:
    """Ce and U with the default radii of the table of elements and a repulsion of about PTBP's size; O of PTBP."""

    def confined(radius: float) -> Confinement:
        return Confinement(kind="power", radius=radius, power=2.0)

    records = {"O": _ptbp().element("O")}
    for symbol in ("Ce", "U"):
        e = element(symbol)
        records[symbol] = ElementParameters(
            symbol=symbol,
            configuration=e.configuration_text,
            shells={shell: confined(e.default_shell_radius) for shell in e.valence},
            density=confined(e.default_density_radius),
            repulsion=RepulsionParameters(form="screened-nuclear", values={"sigma": 0.39}),
        )
    return ParameterSet(name="f", elements=records)


# -------------------------------------------------------------------------------------------------- made-up sets


def made_up_file(pair: tuple[str, str], extended: bool, repulsion: str | None, seed: int) -> SKFile:
    """Tables that fall off smoothly, with signs and sizes that differ for every integral; 32 rows of 0.25 Bohr.

    A-B and B-A differ where one holds the s and the other the p shell of A, but must agree where both shells are alike.
    """
    columns = EXTENDED_COLUMNS if extended else SIMPLE_COLUMNS
    r = 0.25 * np.arange(1, 33)
    overlap, hamiltonian = [], []
    for l1, l2, m in columns:
        who = sorted(pair) if l1 == l2 else pair
        rng = np.random.default_rng([seed, l1, l2, m, *"-".join(who).encode()])
        # Small enough for S to stay positive definite in the cases above; smaller for high l and m.
        size = 0.16 * rng.uniform(0.5, 1.0) * (-1.0) ** (l1 + m) / (1.0 + 0.5 * (l1 + l2) + m)
        width = rng.uniform(2.2, 2.8)
        shape = np.exp(-((r / width) ** 2) / 2.0) * (1.0 + 0.3 * r)
        overlap.append(size * shape)
        hamiltonian.append(-0.6 * size * shape * rng.uniform(0.8, 1.2) * (1.0 + 0.05 * r))
    return SKFile(
        grid_step=0.25,
        hamiltonian=np.round(np.array(hamiltonian).T, 9),
        overlap=np.round(np.array(overlap).T, 9),
        on_site=ON_SITES.get(pair[0]) if pair[0] == pair[1] else None,
        mass=10.0,
        repulsion=_made_up_repulsion(repulsion),
        extended=extended,
        documentation="Made up for tests: no chemistry.",
    )


def _on_site(energies: list[float], hubbard: list[float], occupations: list[float]) -> OnSite:
    def padded(values: list[float]) -> np.ndarray:
        return np.array(values + [0.0] * (4 - len(values)))

    return OnSite(energies=padded(energies), hubbard=padded(hubbard), occupations=padded(occupations))


ON_SITES = {
    "Si": _on_site([-0.42, -0.16, 0.11], [0.26, 0.24, 0.22], [2.0, 2.0, 0.0]),
    "O": _on_site([-0.85, -0.34], [0.49, 0.48], [2.0, 4.0]),
    "La": _on_site([-0.15, -0.07, -0.11, -0.05], [0.17, 0.15, 0.20, 0.40], [2.0, 0.0, 1.0, 0.5]),
}


def _made_up_repulsion(kind: str | None) -> SplineRepulsion | PolynomialRepulsion | None:
    if kind == "polynomial":
        return PolynomialRepulsion(np.array([0.004, 0.001, 0.0, 0.0002, 0.0, 0.0, 0.0, 1e-6]), 6.5)
    if kind is None:
        return None
    # 0.005 (7 - r)^3 expanded about each knot, so that it is one curve; the head matches value and slope.
    knots = np.array([2.0, 2.7, 3.6, 7.0])
    gap = 7.0 - knots[:-1]
    rows = 0.005 * np.stack([gap**3, -3 * gap**2, 3 * gap, -np.ones(3), np.zeros(3), np.zeros(3)], axis=1)
    value, slope = rows[0, :2]
    a1 = -slope / value
    return SplineRepulsion(knots, rows, (float(a1), float(np.log(value) + a1 * knots[0]), 0.0))


def write_model_sets(root: Path) -> None:
    """Write the made-up sets below ``root``."""
    sets = {
        "model-spd": {"Si": (False, "spline"), "O": (False, "polynomial")},
        "model-f": {"La": (True, "spline"), "O": (False, None)},
    }
    for name, elements in sets.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for a, (extended_a, repulsion_a) in elements.items():
            for b, (extended_b, _) in elements.items():
                repulsion = repulsion_a if a == b else "polynomial"
                file = made_up_file((a, b), extended_a or extended_b, repulsion, len(name))
                write_skf(folder / f"{a}-{b}.skf", file)
