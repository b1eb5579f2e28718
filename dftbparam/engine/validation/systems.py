"""The standard list of systems that a set's elements and pairs allow. Nothing is computed or read here.

Distances are multiples of the sum of two covalent radii: published tables and repulsions are odd at distances that no
crystal has, and a wrong answer there would say nothing about either engine. Crystals with more neighbours have longer
bonds. Nothing is drawn at random: a set has the same list everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii

from dftbparam.engine.base import Array, Settings
from dftbparam.errors import ElementError, ParameterError

TEMPERATURE: Final = 3000.0
"""Kelvin. Warm enough for dimers and crystals that nature does not know, with levels that cross the Fermi level, to
have one self-consistent solution; the filling itself is checked in every one of them."""

SCC_TOLERANCE: Final = 1e-9
"""Electrons; 1e-5 in charges is asked of the engines, and theirs must not be what is measured."""

MAX_ITERATIONS: Final = 500
"""SCC iterations before a structure counts as not converging; made-up structures need more than real ones."""

FEW_PAIRS: Final = 3
"""Up to this many pairs of elements (three elements) each one meets every kind of system even without ``full``."""

BONDS: Final = {"molecule": 1.05, "diamond": 1.05, "sc": 1.10, "bcc": 1.15, "fcc": 1.20}
"""Nearest distance in units of the sum of two covalent radii: 2 to 12 neighbours."""

CRYSTAL_RADII: Final = {"H": 0.5}
"""Angstrom, in place of the covalent radius in crystals. Hydrogen's 0.31 is that of the H2 bond; with eight neighbours
at such a distance the overlap matrix is all but singular, and 1e-5 in stress is then lost in DFTB+'s derivatives, which
are finite differences (published set 3ob-hhmod: with steps of 1e-5 Bohr DFTB+ gives the embedded engine's numbers)."""

HOT: Final = 10000.0
"""Kelvin, for cations: in open d shells that lack an electron the charges slosh, and DFTB+'s mixer gives up (TiO+)."""

_STRAIN: Final = np.array([[0.04, 0.05, -0.02], [-0.03, -0.05, 0.04], [0.05, -0.02, 0.03]])
"""Turns a cell into one without symmetry (fractions)."""

_SHIFT: Final = np.array([0.11, -0.07, 0.05])
"""Where an atom is moved to from its site, in units of the nearest distance."""


@dataclass(frozen=True)
class System:
    """One structure (Angstrom) with what to compute for it."""

    name: str
    atoms: Atoms
    settings: Settings

    @property
    def elements(self) -> tuple[str, ...]:
        """Its elements, in order of atomic number."""
        return tuple(sorted({str(s) for s in self.atoms.symbols}, key=lambda s: atomic_numbers[s]))


def standard_systems(
    pairs: Collection[tuple[str, str]], elements: Sequence[str] | None = None, full: bool = False
) -> list[System]:
    """List the systems for a set.

    Per element: fcc, bcc, simple cubic, diamond, a cell without symmetry, a dimer, a molecule with hydrogen, and a
    dimer that lacks an electron. Per pair: rocksalt, zinc blende, a cell without symmetry, a bent molecule, a charged
    dimer and a charged cell.

    Parameters
    ----------
    pairs
        Ordered pairs of elements there are tables for, as the keys of `dftbparam.skf.find_files`.
    elements
        Leave out all others; None: every element with a table of its own.
    full
        Every pair in every kind of system. Otherwise, where there are more than three pairs, each is in the cell
        without symmetry, which has forces, stress and a whole range of distances in it, and in one of the others, in
        turn.

    Raises
    ------
    ElementError
        An element that the set has no tables for.
    ParameterError
        An element named twice.
    """
    have = sorted({a for a, b in pairs if a == b}, key=lambda s: (atomic_numbers.get(s, 999), s))
    chosen = have if elements is None else _chosen(elements, have)
    # Names such as Ga1 are species of somebody's own: no radius is known for them.
    chosen = [symbol for symbol in chosen if symbol in atomic_numbers]
    both = [(a, b) for i, a in enumerate(chosen) for b in chosen[i + 1 :] if (a, b) in pairs and (b, a) in pairs]
    out: list[System] = []
    for symbol in chosen:
        hydrogen = symbol != "H" and {("H", "H"), ("H", symbol), (symbol, "H")} <= set(pairs)
        out.extend(_of_element(symbol, hydrogen))
    for number, (a, b) in enumerate(both):
        kinds = list(_of_pair(a, b))
        if not full and len(both) > FEW_PAIRS:
            kinds = [kinds[0], kinds[1 + number % (len(kinds) - 1)]]
        out.extend(kinds)
    return out


def _chosen(elements: Sequence[str], have: Sequence[str]) -> list[str]:
    for symbol in elements:
        if symbol not in have:
            raise ElementError(
                f"no tables for {symbol!r} (needs {symbol}-{symbol}.skf); there are some for: "
                f"{', '.join(have) or 'none'}",
                symbol=symbol,
            )
    double = sorted({symbol for symbol in elements if list(elements).count(symbol) > 1})
    if double:
        raise ParameterError(f"elements are named twice: {', '.join(double)}")
    return [symbol for symbol in have if symbol in elements]


_EVERYTHING: Final = Settings(
    temperature=TEMPERATURE,
    scc_tolerance=SCC_TOLERANCE,
    max_scc_iterations=MAX_ITERATIONS,
    forces=True,
    stress=True,
    eigenvalues=True,
)


def _of_element(symbol: str, hydrogen: bool) -> Iterator[System]:
    bond = _bond(symbol, symbol, CRYSTAL_RADII)
    # Odd meshes hold Gamma, even ones are shifted off it; both kinds, and unequal divisions, are in the list.
    for kind, mesh in (("fcc", (3, 3, 3)), ("bcc", (4, 4, 4)), ("sc", (3, 3, 3)), ("diamond", (2, 2, 2))):
        yield _crystal(f"{symbol} {kind}", bulk(symbol, kind, a=_lattice(kind, bond)), mesh)
    two = bulk(symbol, "bcc", a=_lattice("bcc", bond), cubic=True)
    yield _crystal(f"{symbol} distorted", _distorted(two, bond), (2, 3, 2))
    dimer = Atoms([symbol] * 2, positions=_line(BONDS["molecule"] * _bond(symbol, symbol)))
    yield System(f"{symbol}2", dimer, _EVERYTHING)
    yield System(f"{symbol}2 cation", dimer, replace(_EVERYTHING, charge=1.0, temperature=HOT))
    if hydrogen:
        yield System(f"{symbol}H2", _bent("H", symbol), _EVERYTHING)


def _of_pair(a: str, b: str) -> Iterator[System]:
    bond = _bond(a, b, CRYSTAL_RADII)
    salt = bulk(f"{a}{b}", "rocksalt", a=2.0 * BONDS["sc"] * bond)
    yield _crystal(f"{a}{b} distorted", _distorted(salt, bond), (2, 3, 2))
    yield _crystal(f"{a}{b} rocksalt", salt, (3, 3, 3))
    yield _crystal(
        f"{a}{b} zincblende", bulk(f"{a}{b}", "zincblende", a=_lattice("diamond", BONDS["diamond"] * bond)), (2, 2, 2)
    )
    yield System(f"{a}2{b}", _bent(a, b), _EVERYTHING)
    yield System(f"{a}{b}2", _bent(b, a), _EVERYTHING)
    yield System(
        f"{a}{b} cation",
        Atoms([a, b], positions=_line(BONDS["molecule"] * _bond(a, b))),
        replace(_EVERYTHING, charge=1.0, temperature=HOT),
    )
    # DFTB+ leaves the neutralising background out of the stress, and the driver refuses it.
    charged = replace(_EVERYTHING, charge=0.5, stress=False, kpts=(2, 2, 2))
    yield System(f"{a}{b} charged cell", _distorted(salt, bond), charged)


def _crystal(name: str, atoms: Atoms, mesh: tuple[int, int, int]) -> System:
    return System(name, atoms, replace(_EVERYTHING, kpts=mesh))


def _bond(a: str, b: str, instead: Mapping[str, float] = MappingProxyType({})) -> float:
    """Sum of two radii, Angstrom: covalent ones where there is no other ``instead``."""
    return float(sum(instead.get(symbol, covalent_radii[atomic_numbers[symbol]]) for symbol in (a, b)))


def _lattice(kind: str, bond: float) -> float:
    """Lattice constant of the cubic cell for bonds of the length that fits the number of neighbours."""
    shares = {"fcc": np.sqrt(0.5), "bcc": np.sqrt(0.75), "sc": 1.0, "diamond": np.sqrt(3.0) / 4.0}
    return float(BONDS[kind] * bond / shares[kind])


def _distorted(atoms: Atoms, bond: float) -> Atoms:
    out = atoms.copy()  # type: ignore[no-untyped-call]
    out.set_cell(atoms.cell.array @ (np.eye(3) + _STRAIN), scale_atoms=True)
    out.positions[-1] += bond * _SHIFT
    return Atoms(out)


def _line(distance: float) -> Array:
    """Two positions, along no axis: every direction cosine and its derivative takes part."""
    along = np.array([1.0, 2.0, 2.0]) / 3.0
    return np.array([np.zeros(3), distance * along])


def _bent(outer: str, centre: str) -> Atoms:
    """Two atoms about a third, at unequal distances and 104 degrees, in a plane along no axis."""
    length = BONDS["molecule"] * _bond(outer, centre)
    angle = np.deg2rad(104.0)
    first = length * np.array([1.0, 2.0, 2.0]) / 3.0
    across = np.array([2.0, 1.0, -2.0]) / 3.0
    second = 1.04 * (np.cos(angle) * first + length * np.sin(angle) * across)
    return Atoms([centre, outer, outer], positions=[np.zeros(3), first, second])
