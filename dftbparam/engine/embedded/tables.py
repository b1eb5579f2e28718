"""Slater-Koster tables laid out for the kernels.

For an ordered pair of species (A, B) the integral (l1, l2, m) comes from the A-B file if l1 <= l2, else from the B-A
file with the sign (-1)^(l1+l2) (reversing the bond multiplies a real spherical harmonic by its parity). Each ordered
pair is stored as rows of all its channels side by side, H first, then S, so that one set of interpolation weights
serves every channel of a distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.engine.base import Array
from dftbparam.errors import DftbparamError, ElementError, InputError
from dftbparam.skf.evaluate import POINTS, TAIL
from dftbparam.skf.model import (
    REPULSION_TOLERANCE,
    Repulsion,
    SKFile,
    SKSet,
    SplineRepulsion,
    repulsion_difference,
)

Ints = NDArray[np.int64]

MAX_L: Final = 3
"""Highest angular momentum of the file format (f)."""

LARGEST: Final = 1e6
"""Hartree, or electrons: what no number of an atom comes near."""


@dataclass(frozen=True)
class PackedTables:
    """Tables of several species for the numba kernels. Bohr and Hartree; species are numbered as in ``species``.

    Attributes
    ----------
    species, l_max, n_orbitals
        Element symbols; highest angular momentum and number of orbitals (l_max+1)^2 of each, (n_species,).
    on_site, hubbard, occupations
        (n_species, 4), indexed by l.
    values
        All tables, flat. Pair p = a * n_species + b starts at ``offset[p]`` with ``n_grid[p]`` rows of
        2 * ``n_channels[p]`` numbers; ``n_grid`` is 0 where ``problems`` says why there is no table.
    tail, tail_offset
        For every pair 3 rows (cubic, quartic, quintic coefficient of the tail) of 2 * n_channels numbers.
    cutoff
        (n_species, n_species): distance from which H and S vanish.
    repulsion, repulsion_cutoff
        Repulsion of pair p, and the distance (n_species, n_species) from which it vanishes.
    problems, disputed
        Why a pair of elements has no table (or an element no usable numbers), or no repulsion that its two files agree
        on.
    """

    species: tuple[str, ...]
    l_max: Ints
    n_orbitals: Ints
    on_site: Array
    hubbard: Array
    occupations: Array
    values: Array
    offset: Ints
    n_grid: Ints
    n_channels: Ints
    step: Array
    tail: Array
    tail_offset: Ints
    cutoff: Array
    repulsion: tuple[Repulsion | None, ...]
    repulsion_cutoff: Array
    problems: Mapping[tuple[str, str], DftbparamError]
    disputed: Mapping[tuple[str, str], DftbparamError]

    def index(self, symbol: str) -> int:
        """Number of an element; `ElementError` if the tables lack it."""
        try:
            return self.species.index(symbol)
        except ValueError:
            have = ", ".join(self.species) or "none"
            raise ElementError(
                f"the Slater-Koster tables have no element {symbol!r} (needs {symbol}-{symbol}.skf); they have: {have}",
                symbol=symbol,
            ) from None

    def require(self, symbols: Sequence[str], *, repulsion: bool = True) -> None:
        """Raise what is wrong with the tables, and if it is used the repulsion, of any pair of these elements."""
        present = sorted(set(symbols))
        for symbol in present:
            self.index(symbol)
        for a in present:
            for b in present:
                if (a, b) in self.problems:
                    raise self.problems[a, b]
                if repulsion and (a, b) in self.disputed:
                    raise self.disputed[a, b]


def channels(l_a: int, l_b: int) -> list[tuple[int, int, int]]:
    """(l1, l2, m) of an ordered pair in storage order, l1 and l2 the shells of the first and second atom."""
    return [(l1, l2, m) for l1 in range(l_a + 1) for l2 in range(l_b + 1) for m in range(min(l1, l2) + 1)]


def pack(tables: SKSet, elements: Sequence[str], max_angular: Mapping[str, int] | None = None) -> PackedTables:
    """Lay out the tables of ``elements`` (those that the set lacks are left out; asking for them raises later)."""
    l_of = {**tables.max_angular, **(max_angular or {})}
    species = tuple(sorted({e for e in elements if _usable(tables, e) and e in l_of}))
    n = len(species)
    l_max = np.array([l_of[s] for s in species], dtype=np.int64)
    for symbol, l in zip(species, l_max, strict=True):
        if not 0 <= l <= MAX_L:
            raise InputError(f"highest angular momentum of {symbol} is {l}; it must be 0 (s) to 3 (f)", symbol=symbol)
    sites = [tables.files[s, s].on_site for s in species]
    per_l = [
        np.array([getattr(site, name) for site in sites], dtype=np.float64).reshape(n, 4)
        for name in ("energies", "hubbard", "occupations")
    ]
    absent = np.arange(4)[None, :] > l_max[:, None]
    occupations = np.where(absent, 0.0, per_l[2])
    problems: dict[tuple[str, str], DftbparamError] = {}
    for name, values_of in zip(("on-site energies", "Hubbard parameters", "occupations"), per_l, strict=True):
        for symbol, row, gone in zip(species, values_of, absent, strict=True):
            if not (np.abs(row[~gone]) < LARGEST).all():
                problems[symbol, symbol] = InputError(
                    f"{symbol}-{symbol}.skf: {name} are {row[~gone].tolist()}; they must be finite, of size below "
                    f"{LARGEST:g}",
                    symbol=symbol,
                )
    disputed: dict[tuple[str, str], DftbparamError] = {}
    values, tails = [], []
    repulsion: list[Repulsion | None] = [None] * (n * n)
    sizes = {key: np.zeros(n * n, dtype=np.int64) for key in ("offset", "n_grid", "n_channels", "tail")}
    step = np.ones(n * n)
    cutoff = np.zeros((n, n))
    repulsion_cutoff = np.zeros((n, n))
    at, tail_at = 0, 0
    for i, a in enumerate(species):
        for j, b in enumerate(species):
            p = i * n + j
            try:
                forward, backward = _pair_files(tables, a, b)
                table = _pair_table(forward, backward, (a, b), int(l_max[i]), int(l_max[j]))
            except InputError as error:
                problems[a, b] = error
                continue
            tail = _tail(table, forward.grid_step)
            sizes["offset"][p], sizes["n_grid"][p], sizes["n_channels"][p] = at, len(table), table.shape[1] // 2
            sizes["tail"][p] = tail_at
            step[p] = forward.grid_step
            cutoff[i, j] = len(table) * forward.grid_step + TAIL
            values.append(table.ravel())
            tails.append(tail.ravel())
            at += table.size
            tail_at += tail.size
            difference = repulsion_difference(forward.repulsion, backward.repulsion)
            splines = isinstance(forward.repulsion, SplineRepulsion) and isinstance(backward.repulsion, SplineRepulsion)
            if splines and difference > REPULSION_TOLERANCE:
                disputed[a, b] = InputError(
                    f"{a}-{b}.skf and {b}-{a}.skf differ in their repulsion by {difference:.1e}; they must agree to "
                    f"{REPULSION_TOLERANCE:.0e}",
                    pair=(a, b),
                )
            repulsion[p] = backward.repulsion if forward.repulsion is None else forward.repulsion
            repulsion_cutoff[i, j] = getattr(repulsion[p], "cutoff", 0.0)
    return PackedTables(
        species=species,
        l_max=l_max,
        n_orbitals=(l_max + 1) ** 2,
        on_site=per_l[0],
        hubbard=per_l[1],
        occupations=occupations,
        values=_join(values),
        offset=sizes["offset"],
        n_grid=sizes["n_grid"],
        n_channels=sizes["n_channels"],
        step=step,
        tail=_join(tails),
        tail_offset=sizes["tail"],
        cutoff=cutoff,
        repulsion=tuple(repulsion),
        repulsion_cutoff=repulsion_cutoff,
        problems=problems,
        disputed=disputed,
    )


def _usable(tables: SKSet, symbol: str) -> bool:
    file = tables.files.get((symbol, symbol))
    return file is not None and file.on_site is not None


def _join(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(1)


def _pair_files(tables: SKSet, a: str, b: str) -> tuple[SKFile, SKFile]:
    found = []
    for x, y in ((a, b), (b, a)):
        file = tables.files.get((x, y))
        if file is None:
            raise InputError(f"the Slater-Koster tables lack {x}-{y}.skf", pair=(x, y))
        found.append(file)
    forward, backward = found
    if abs(forward.grid_step - backward.grid_step) > 1e-10 or len(forward.hamiltonian) != len(backward.hamiltonian):
        raise InputError(
            f"{a}-{b} and {b}-{a} differ in their grids ({len(forward.hamiltonian)} rows of {forward.grid_step} Bohr, "
            f"{len(backward.hamiltonian)} of {backward.grid_step}); they must agree",
            pair=(a, b),
        )
    return forward, backward


def _pair_table(forward: SKFile, backward: SKFile, pair: tuple[str, str], l_a: int, l_b: int) -> Array:
    rows = len(forward.hamiltonian)
    if rows < POINTS + 1:
        raise InputError(f"{pair[0]}-{pair[1]}.skf has {rows} rows; interpolation needs at least {POINTS + 1}")
    wanted = channels(l_a, l_b)
    out = np.empty((rows, 2 * len(wanted)))
    for c, (l1, l2, m) in enumerate(wanted):
        file, key, sign = (forward, (l1, l2, m), 1.0) if l1 <= l2 else (backward, (l2, l1, m), (-1.0) ** (l1 + l2))
        if key not in file.columns:
            raise InputError(
                f"{pair[0]}-{pair[1]}: f orbitals need an extended ('@') file, this one is simple", pair=pair
            )
        column = file.columns.index(key)
        out[:, c] = sign * file.hamiltonian[:, column]
        out[:, len(wanted) + c] = sign * file.overlap[:, column]
    if not np.isfinite(out).all():
        row = int(np.nonzero(~np.isfinite(out).all(axis=1))[0][0])
        raise InputError(f"{pair[0]}-{pair[1]}: the table holds a value that is not finite in row {row + 1}", pair=pair)
    return out


def _end_derivatives() -> tuple[Array, Array]:
    """Weights (8,) of first and second derivative, in grid steps, of the 8-point polynomial at its last point."""
    nodes = np.arange(POINTS, dtype=np.float64) - (POINTS - 1)
    first, second = np.empty(POINTS), np.empty(POINTS)
    for k in range(POINTS):
        others = np.delete(nodes, k)
        basis = np.poly(others) / np.prod(nodes[k] - others)
        first[k], second[k] = basis[-2], 2.0 * basis[-3]
    return first, second


def _tail(table: Array, step: float) -> Array:
    """Coefficients (3, n) of x^3, x^4, x^5 with x = (cutoff - r) / TAIL, matching value, slope and curvature."""
    first, second = _end_derivatives()
    last = table[-POINTS:]
    y = last[-1]
    slope = -(first @ last) / step * TAIL  # with respect to x, which runs against r
    curvature = (second @ last) / step**2 * TAIL**2
    return np.stack(
        [
            10.0 * y - 4.0 * slope + 0.5 * curvature,
            -15.0 * y + 7.0 * slope - curvature,
            6.0 * y - 3.0 * slope + 0.5 * curvature,
        ]
    )
