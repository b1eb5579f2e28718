"""Recognises prototypes: which crystal, layer, chain or dimer of `dftbparam.reference.prototypes` a structure is.

A structure is a prototype when every atom sees the same elements at the same distances as an atom of the prototype
built at the same scale, out to several neighbour shells, and, in a crystal, when the space groups agree. Inner
parameters count: hcp with another c/a than the ideal one is another structure, and so is a cell that was strained.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import all_symbols, element
from dftbparam.errors import InputError
from dftbparam.reference.importers.frame import symbols_of
from dftbparam.reference.prototypes import GROUND_STATE, PROTOTYPES, Prototype, build, prototype
from dftbparam.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]

TOLERANCE: Final = 3e-3
"""Largest difference of any distance, in nearest-neighbour distances: above the rounding of files with three digits,
below the 1 % by which an ideal c/a and that of a real hexagonal metal differ in the second shell."""

SHELLS: Final = 3.0
"""Distances compared in a crystal, in nearest-neighbour distances: more than three shells of every prototype, so that
no two of them look alike."""

OPEN_SHELLS: Final = 2.5
"""The same without a period in some direction: beyond the 2.36 of graphite between layers, and below the distance at
which `prototypes.vacuum` puts images."""

OPEN_REACH: Final = 5.0
"""Images of layers, chains and dimers must be at least this far away, Angstrom: `prototypes.vacuum` gives 8 or more."""

MAX_ATOMS: Final = 64
"""Larger cells are not looked at: nobody builds a prototype's E(V) from them, and the time grows."""

CONTACT: Final = 7.0
"""A single atom is an isolated one when its images are this far away, Angstrom, or it has none."""


@dataclass(frozen=True)
class Identity:
    """A recognised structure.

    Attributes
    ----------
    volume
        Angstrom^3/atom; in layers, chains and dimers the cube of the nearest-neighbour distance.
    deviation
        Largest difference of a distance from the prototype's, in nearest-neighbour distances.
    """

    prototype: str
    symbol: str
    partner: str | None
    volume: float
    deviation: float

    @property
    def name(self) -> str:
        """``Si diamond``, ``Mg-O rocksalt``."""
        return f"{self.symbol}{'' if self.partner is None else '-' + self.partner} {self.prototype}"


@cache
def formula_rank(symbol: str) -> int:
    """Place of an element in a formula; the one with the smaller rank is written first.

    The sequence of IUPAC (Nomenclature of Inorganic Chemistry 2005, table VI), read backwards: noble gases, groups 1
    to 13, carbon's group, nitrogen's, hydrogen, then oxygen's and the halogens; within a group the heavier one first.
    """
    ordered = []
    for name in all_symbols():
        one = element(name)
        if name == "H":
            ordered.append((15.5, 0, name))
        else:
            group = 3 if one.group is None else one.group
            ordered.append((0.0 if group == 18 else float(group), -one.number, name))
    return [name for *_, name in sorted(ordered)].index(symbol)


def identify(atoms: Atoms) -> Identity | None:
    """Return which prototype a structure is, or None.

    Parameters
    ----------
    atoms
        One or two elements, any cell of the crystal, in Angstrom. Layers, chains and dimers may be periodic in all
        directions, with vacuum, or not.

    Notes
    -----
    Of two elements that could change places (rocksalt, zincblende ..., fluorite and antifluorite) the first is the
    one that stands first in the formula, see `formula_rank`.
    """
    symbols = sorted(set(symbols_of(atoms)), key=formula_rank)
    if not 1 <= len(symbols) <= 2 or len(atoms) > MAX_ATOMS or (len(atoms) == 1 and not atoms.pbc.any()):
        return None
    nearest = _nearest(atoms)
    if nearest is None:
        return None
    with warnings.catch_warnings():
        # spglib announces a change of how it reports failures; both ways are dealt with.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _identify(atoms, symbols, nearest)


def _identify(atoms: Atoms, symbols: list[str], nearest: float) -> Identity | None:
    sight = _Sight(atoms)
    found = [
        identity
        for candidate, pair in _candidates(symbols)
        if (identity := _compare(sight, nearest, candidate, *pair)) is not None
    ]
    best = min(found, key=lambda identity: identity.deviation, default=None)
    if best is None:
        return None
    matched = prototype(best.prototype, best.symbol)
    if matched.dimensions < 3:
        return best
    # Distances alone could in principle belong to two crystals; with the space group they do not.
    return best if _space_group(atoms, nearest) == matched.spacegroup_number else None


def _candidates(symbols: list[str]) -> list[tuple[Prototype, tuple[str, str | None]]]:
    """Prototypes for one or two elements, with the order in which these take its sites."""
    if len(symbols) == 1:
        found: list[tuple[Prototype, tuple[str, str | None]]] = [
            (p, (symbols[0], None)) for p in PROTOTYPES.values() if not p.binary
        ]
        try:
            found.append((prototype(GROUND_STATE, symbols[0]), (symbols[0], None)))
        except InputError:
            pass  # it is one of the others
        return found
    first, second = symbols
    orders: list[tuple[Prototype, tuple[str, str | None]]] = []
    for p in (p for p in PROTOTYPES.values() if p.binary):
        orders.append((p, (first, second)))
        if p.name not in _INTERCHANGEABLE:
            orders.append((p, (second, first)))
    return orders


_INTERCHANGEABLE: Final = (
    "rocksalt", "cscl", "zincblende", "wurtzite", "bn-layer", "molecule", "fluorite", "antifluorite",
)  # fmt: skip
"""Prototypes that stay what they are (or turn into each other) when the two elements change places."""


class _Sight:
    """What the atoms of a structure see: distances by element, computed once for each reach."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self._known: dict[float, list[tuple[int, dict[int, Array]]]] = {}

    def within(self, reach: float) -> list[tuple[int, dict[int, Array]]]:
        """Per atom its atomic number, and the sorted distances (Angstrom) to every element within reach."""
        if reach not in self._known:
            first, second, distance = _pairs(self.atoms, reach)
            numbers = self.atoms.numbers
            sights = []
            for index, number in enumerate(numbers):
                mine = first == index
                others, lengths = numbers[second[mine]], distance[mine]
                sights.append((int(number), {int(z): np.sort(lengths[others == z]) for z in np.unique(others)}))
            self._known[reach] = sights
        return self._known[reach]

    def neighbours(self, reach: float) -> list[int]:
        """Per atom the number of atoms within reach."""
        return [sum(map(len, seen.values())) for _, seen in self.within(reach)]


_UNEVEN: Final = ("a15", GROUND_STATE)
"""Prototypes in which the nearest neighbour of one atom may be farther away than that of another."""


def _compare(sight: _Sight, nearest: float, candidate: Prototype, symbol: str, partner: str | None) -> Identity | None:
    """Return the identity if every atom's distances are those of the prototype."""
    atoms, names = sight.atoms, candidate.species(symbol, partner)
    share = names.count(symbol) / len(names)
    if abs(symbols_of(atoms).count(symbol) / len(atoms) - share) > 1e-9:
        return None
    crystal = candidate.dimensions == 3
    if crystal and not atoms.pbc.all():
        return None
    volume = float(abs(atoms.cell.volume)) / len(atoms) if crystal else candidate.volume(nearest)
    if abs(candidate.neighbour_distance(volume) / nearest - 1.0) > TOLERANCE:
        return None
    slack = TOLERANCE * nearest
    # Cheap, and sorts out nearly everything: shaken crystals, and what is no layer, chain or dimer.
    near = set(sight.neighbours(nearest + slack))
    if candidate.name not in _UNEVEN and (0 in near or not (crystal or near == {candidate.coordination})):
        return None
    reach = SHELLS * nearest if crystal else max(OPEN_SHELLS * nearest, OPEN_REACH)
    model = build(candidate.name, symbol, volume, partner)
    model.pbc = candidate.periodic
    wanted = _Sight(model).within(reach)
    deviation = 0.0
    for number, seen in sight.within(reach + 2.0 * slack):
        differences = [_difference(seen, other, reach - slack) for kind, other in wanted if kind == number]
        deviation = max(deviation, min(differences, default=np.inf))
        if deviation > slack:
            return None
    return Identity(candidate.name, symbol, partner, volume, deviation / nearest)


def _difference(given: dict[int, Array], wanted: dict[int, Array], certain: float) -> float:
    """Largest difference between the distances of two atoms, element by element; infinite if numbers differ.

    ``certain``: the distance within which no atom can be missing or too many for want of reach.
    """
    largest = 0.0
    for number in given.keys() | wanted.keys():
        mine, theirs = given.get(number, np.empty(0)), wanted.get(number, np.empty(0))
        common = len(theirs)
        if len(mine) < common or (len(mine) > common and mine[common] < certain):
            return np.inf
        largest = max(largest, float(np.abs(mine[:common] - theirs).max(initial=0.0)))
    return largest


def _pairs(atoms: Atoms, reach: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    from ase.neighborlist import neighbor_list as ase_neighbor_list

    neighbor_list: Any = ase_neighbor_list  # ASE's is untyped
    first, second, distance = neighbor_list("ijd", atoms, reach)
    return first, second, distance


def _nearest(atoms: Atoms) -> float | None:
    """Nearest-neighbour distance, Angstrom; None where it is more than four times that of a bond."""
    radii = [element(symbol).covalent_radius for symbol in set(symbols_of(atoms))]
    reach = BOHR * 2.0 * max(*radii, 1.0)
    for _ in range(3):
        reach *= 1.6
        distance = _pairs(atoms, reach)[2]
        if len(distance):
            return float(distance.min())
    return None


def _space_group(atoms: Any, nearest: float) -> int | None:
    import spglib

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        found: Any = spglib.get_symmetry_dataset(cell, symprec=2.0 * TOLERANCE * nearest)
    except Exception:  # newer versions of spglib raise what older ones answer with None
        return None
    return None if found is None else int(found.number)


def isolated_atom(atoms: Atoms, name: str = "") -> bool:
    """Whether a structure is a single atom far from its images, or is called one (``IsolatedAtom``)."""
    if len(atoms) != 1:
        return False
    if not atoms.pbc.any() or name.replace("_", "").replace("-", "").lower() == "isolatedatom":
        return True
    radius = BOHR * max(element(symbols_of(atoms)[0]).covalent_radius, 1.0)
    return len(_pairs(atoms, max(CONTACT, 6.0 * radius))[2]) == 0
