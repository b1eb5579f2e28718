"""Prototype structures with one free parameter: a scale, given as a volume per atom.

Elemental and binary crystals, layers, chains and dimers over coordination numbers 1 to 12. Every atom of an elemental
prototype but A15 has the same surroundings. Inner parameters (c/a of hcp, beta-tin, wurtzite ...) are fixed at ideal
or stated values and a scan of the volume scales the whole structure, so that a prototype is the same structure for
DFT, for DFTB and for every element.

Layers, chains and dimers stand in a box. Their distance to the next image does not change with the scale, and "volume"
means the cube of the nearest-neighbour distance, so that equations of state and their fits serve them like any other
(a change of 3 % in volume is one of 1 % in the bond).

Coordinates of the crystals: Strukturbericht; inner parameters as stated beside each.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import cbrt, ceil, isfinite, pi, sqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dftbparam.elements import element
from dftbparam.errors import InputError
from dftbparam.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

GROUND_STATE: Final = "ground-state"
"""Name of the prototype that is the element's own crystal, from ASE's ``dcdft`` collection (K. Lejaeghere et al., Crit.
Rev. Solid State 39, 1 (2014)), where that is not a cubic crystal listed here."""

VACUUM: Final = (6.0, 4.0)
"""Distance between images in a direction without period: 6 Angstrom plus four covalent radii. Atoms of neighbouring
images then are at least two usual non-bonded distances apart."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Prototype:
    """A structure in units of its lattice constant a.

    Attributes
    ----------
    cell
        (3, 3), cell vectors over a; in directions without period, unit vectors.
    positions
        Fractional coordinates of the atoms in the cell.
    sites
        Per atom 0 or 1: which of the two elements sits there; all 0 in an elemental prototype.
    coordination
        Nearest neighbours of an atom; of an atom of the first element in a binary.
    neighbour
        Nearest-neighbour distance over a.
    atoms_per_cube
        Atoms in the volume a^3, so that a^3 = atoms_per_cube x volume per atom. In layers, chains and dimers chosen
        such that the volume per atom is the cube of the nearest-neighbour distance.
    periodic
        Directions with a period.
    aliases
        Other names a user may know it by.
    """

    name: str
    coordination: int
    spacegroup: str
    spacegroup_number: int
    cell: tuple[Vector, ...]
    positions: tuple[Vector, ...]
    neighbour: float
    atoms_per_cube: float
    sites: tuple[int, ...] = ()
    periodic: tuple[bool, bool, bool] = (True, True, True)
    aliases: tuple[str, ...] = ()
    title: str = ""

    @property
    def binary(self) -> bool:
        """Whether it holds two elements."""
        return 1 in self.sites

    @property
    def dimensions(self) -> int:
        """Directions with a period: 3 a crystal, 2 a layer, 1 a chain, 0 a dimer."""
        return sum(self.periodic)

    def lattice_constant(self, volume_per_atom: float) -> float:
        """Lattice constant a in Angstrom for a volume in Angstrom^3/atom."""
        return cbrt(volume_per_atom * self.atoms_per_cube)

    def neighbour_distance(self, volume_per_atom: float) -> float:
        """Nearest-neighbour distance in Angstrom for a volume in Angstrom^3/atom."""
        return self.neighbour * self.lattice_constant(volume_per_atom)

    def volume(self, neighbour_distance: float) -> float:
        """Volume in Angstrom^3/atom for a nearest-neighbour distance in Angstrom."""
        return (neighbour_distance / self.neighbour) ** 3 / self.atoms_per_cube

    def species(self, symbol: str, partner: str | None = None) -> tuple[str, ...]:
        """Elements of the atoms; `InputError` where one is missing or too many."""
        if self.binary and partner is None:
            raise InputError(
                f"{self.name} is a binary crystal: {symbol} needs a partner, e.g. Mg-O", prototype=self.name
            )
        if not self.binary and partner is not None:
            raise InputError(f"{self.name} holds one element; {symbol}-{partner} are two", prototype=self.name)
        names = (symbol, partner or symbol)
        return tuple(names[site] for site in self.sites or (0,) * len(self.positions))


def _crystal(
    name: str,
    coordination: int,
    spacegroup: str,
    number: int,
    cell: tuple[Vector, ...],
    positions: tuple[Vector, ...],
    neighbour: float,
    *,
    sites: tuple[int, ...] = (),
    aliases: tuple[str, ...] = (),
    title: str = "",
) -> Prototype:
    volume = abs(float(np.linalg.det(np.array(cell))))
    return Prototype(
        name, coordination, spacegroup, number, cell, positions, neighbour, len(positions) / volume,
        sites=sites, aliases=aliases, title=title,
    )  # fmt: skip


def _low(
    name: str,
    coordination: int,
    group: tuple[str, int],
    cell: tuple[Vector, ...],
    positions: tuple[Vector, ...],
    neighbour: float,
    periodic: tuple[bool, bool, bool],
    *,
    sites: tuple[int, ...] = (),
    aliases: tuple[str, ...] = (),
    title: str = "",
) -> Prototype:
    """A layer, chain or dimer; its space group is that of the periodic box."""
    return Prototype(
        name, coordination, *group, cell, positions, neighbour, neighbour**-3,
        sites=sites, periodic=periodic, aliases=aliases, title=title,
    )  # fmt: skip


_CUBE: Final = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_FCC: Final = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_BCC: Final = ((-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5))
_ONE: Final = ((0.0, 0.0, 0.0),)
_IDEAL: Final = sqrt(8.0 / 3.0)
_QUARTER: Final = (0.25, 0.25, 0.25)
_THREE_QUARTERS: Final = (0.75, 0.75, 0.75)
_HALF: Final = (0.5, 0.5, 0.5)


def _hexagonal(ratio: float) -> tuple[Vector, ...]:
    return ((1.0, 0.0, 0.0), (-0.5, sqrt(0.75), 0.0), (0.0, 0.0, ratio))


_HEXAGON: Final = ((1.0 / 3.0, 2.0 / 3.0, 0.0), (2.0 / 3.0, 1.0 / 3.0, 0.0))
_LAYER: Final = (True, True, False)
_CHAIN: Final = (False, False, True)
_DIMER: Final = (False, False, False)

BETA_TIN_RATIO: Final = 0.5456
"""c/a of white tin."""

GRAPHITE_RATIO: Final = 1.363
"""c/a of AA-stacked layers at the distance and bond length of graphite (3.35 and 1.42 Angstrom)."""

RUTILE: Final = (0.6440, 0.305)
"""c/a and u of TiO2."""


def _elemental() -> tuple[Prototype, ...]:
    c = BETA_TIN_RATIO
    a15 = tuple(
        (x, y, z)
        for x, y, z in (
            (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.25, 0.5, 0.0), (0.75, 0.5, 0.0),
            (0.0, 0.25, 0.5), (0.0, 0.75, 0.5), (0.5, 0.0, 0.25), (0.5, 0.0, 0.75),
        )
    )  # fmt: skip
    return (
        _crystal("sc", 6, "Pm-3m", 221, _CUBE, _ONE, 1.0, aliases=("A_h",), title="simple cubic"),
        _crystal("bcc", 8, "Im-3m", 229, _BCC, _ONE, sqrt(0.75), aliases=("A2",), title="body-centred cubic"),
        _crystal("fcc", 12, "Fm-3m", 225, _FCC, _ONE, sqrt(0.5), aliases=("A1",), title="face-centred cubic"),
        _crystal("diamond", 4, "Fd-3m", 227, _FCC, (*_ONE, _QUARTER), sqrt(0.1875), aliases=("A4",), title="diamond"),
        _crystal(
            "hcp", 12, "P6_3/mmc", 194, _hexagonal(_IDEAL),
            ((1.0 / 3.0, 2.0 / 3.0, 0.25), (2.0 / 3.0, 1.0 / 3.0, 0.75)), 1.0,
            aliases=("A3",), title="hexagonal close-packed, ideal c/a",
        ),
        _crystal(
            "beta-sn", 4, "I4_1/amd", 141, ((-0.5, 0.5, 0.5 * c), (0.5, -0.5, 0.5 * c), (0.5, 0.5, -0.5 * c)),
            (*_ONE, (0.75, 0.25, 0.5)), sqrt(0.25 + c**2 / 16.0),
            aliases=("A5", "beta-tin", "bct"), title=f"white tin, c/a = {BETA_TIN_RATIO}: 4 + 2 neighbours",
        ),
        _crystal(
            "sh", 8, "P6/mmm", 191, _hexagonal(1.0), _ONE, 1.0,
            aliases=("A_f", "simple-hexagonal"), title="simple hexagonal, c/a = 1",
        ),
        _crystal(
            "aa-graphite", 3, "P6/mmm", 191, _hexagonal(GRAPHITE_RATIO), _HEXAGON, 1.0 / sqrt(3.0),
            aliases=("graphite-aa",), title=f"stacked honeycomb layers, c/a = {GRAPHITE_RATIO}",
        ),
        _crystal(
            "a15", 14, "Pm-3n", 223, _CUBE, a15, 0.5,
            aliases=("A15", "beta-w"), title="A15 (beta-W), one element",
        ),
        _low("dimer", 1, ("P4/mmm", 123), _CUBE, (*_ONE, (0.0, 0.0, 1.0)), 1.0, _DIMER, title="two atoms in a box"),
        _low("chain", 2, ("P4/mmm", 123), _CUBE, _ONE, 1.0, _CHAIN, title="linear chain"),
        _low(
            "graphene", 3, ("P6/mmm", 191), _hexagonal(1.0), _HEXAGON, 1.0 / sqrt(3.0), _LAYER,
            aliases=("honeycomb",), title="honeycomb layer",
        ),
        _low("square", 4, ("P4/mmm", 123), _CUBE, _ONE, 1.0, _LAYER, title="square layer"),
        _low("triangular", 6, ("P6/mmm", 191), _hexagonal(1.0), _ONE, 1.0, _LAYER, title="close-packed layer"),
    )  # fmt: skip


def _binary() -> tuple[Prototype, ...]:
    ratio, u = RUTILE
    wurtzite: tuple[Vector, ...] = ((1.0 / 3.0, 2.0 / 3.0, 0.0), (2.0 / 3.0, 1.0 / 3.0, 0.5))
    wurtzite += tuple((x, y, z + 0.375) for x, y, z in wurtzite)
    rutile = (
        (0.0, 0.0, 0.0), (0.5, 0.5, 0.5),
        (u, u, 0.0), (1.0 - u, 1.0 - u, 0.0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5),
    )  # fmt: skip
    cuprite = (
        *((x, y, z) for x, y, z in ((0.25, 0.25, 0.25), (0.75, 0.75, 0.25), (0.75, 0.25, 0.75), (0.25, 0.75, 0.75))),
        (0.0, 0.0, 0.0), (0.5, 0.5, 0.5),
    )  # fmt: skip
    edges = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))
    faces = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
    return (
        _crystal(
            "rocksalt", 6, "Fm-3m", 225, _FCC, (*_ONE, _HALF), 0.5,
            sites=(0, 1), aliases=("B1", "nacl"), title="AB",
        ),
        _crystal(
            "cscl", 8, "Pm-3m", 221, _CUBE, (*_ONE, _HALF), sqrt(0.75),
            sites=(0, 1), aliases=("B2",), title="AB",
        ),
        _crystal(
            "zincblende", 4, "F-43m", 216, _FCC, (*_ONE, _QUARTER), sqrt(0.1875), sites=(0, 1),
            aliases=("B3", "sphalerite"), title="AB",
        ),
        _crystal(
            "wurtzite", 4, "P6_3mc", 186, _hexagonal(_IDEAL), wurtzite, sqrt(0.375), sites=(0, 0, 1, 1),
            aliases=("B4",), title="AB, ideal c/a and u",
        ),
        _crystal(
            "nias", 6, "P6_3/mmc", 194, _hexagonal(_IDEAL),
            (*_ONE, (0.0, 0.0, 0.5), (1.0 / 3.0, 2.0 / 3.0, 0.25), (2.0 / 3.0, 1.0 / 3.0, 0.75)), sqrt(0.5),
            sites=(0, 0, 1, 1), aliases=("B8_1",), title="AB, ideal c/a",
        ),
        _crystal(
            "fluorite", 8, "Fm-3m", 225, _FCC, (*_ONE, _QUARTER, _THREE_QUARTERS), sqrt(0.1875), sites=(0, 1, 1),
            aliases=("C1", "caf2"), title="AB2",
        ),
        _crystal(
            "antifluorite", 4, "Fm-3m", 225, _FCC, (_QUARTER, _THREE_QUARTERS, *_ONE), sqrt(0.1875), sites=(0, 0, 1),
            title="A2B",
        ),
        _crystal(
            "rutile", 6, "P4_2/mnm", 136, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, ratio)), rutile,
            min(u * sqrt(2.0), sqrt(2.0 * (0.5 - u) ** 2 + 0.25 * ratio**2)), sites=(0, 0, 1, 1, 1, 1),
            aliases=("C4",), title=f"AB2, c/a = {ratio}, u = {u}",
        ),
        _crystal(
            "cuprite", 2, "Pn-3m", 224, _CUBE, cuprite, sqrt(0.1875),
            sites=(0, 0, 0, 0, 1, 1), aliases=("C3",), title="A2B",
        ),
        _crystal(
            "reo3", 6, "Pm-3m", 221, _CUBE, (*_ONE, *edges), 0.5,
            sites=(0, 1, 1, 1), aliases=("D0_9",), title="AB3",
        ),
        _crystal(
            "cu3au", 12, "Pm-3m", 221, _CUBE, (*_ONE, *faces), sqrt(0.5),
            sites=(0, 1, 1, 1), aliases=("L1_2",), title="AB3",
        ),
        _low(
            "bn-layer", 3, ("P-6m2", 187), _hexagonal(1.0), _HEXAGON, 1.0 / sqrt(3.0), _LAYER, sites=(0, 1),
            title="AB honeycomb layer",
        ),
        _low(
            "molecule", 1, ("P4mm", 99), _CUBE, (*_ONE, (0.0, 0.0, 1.0)), 1.0, _DIMER,
            sites=(0, 1), title="AB in a box",
        ),
    )  # fmt: skip


PROTOTYPES: Final[Mapping[str, Prototype]] = {p.name: p for p in (*_elemental(), *_binary())}
"""The known prototypes by name; `GROUND_STATE` is not in it, because it depends on the element."""

_ALIASES: Final = {alias.lower(): p.name for p in PROTOTYPES.values() for alias in p.aliases}


def elemental_prototypes() -> tuple[str, ...]:
    """Names of the prototypes of one element, without `GROUND_STATE`."""
    return tuple(name for name, p in PROTOTYPES.items() if not p.binary)


def binary_prototypes() -> tuple[str, ...]:
    """Names of the prototypes of two elements."""
    return tuple(name for name, p in PROTOTYPES.items() if p.binary)


def prototype(name: str, symbol: str | None = None) -> Prototype:
    """Return a prototype by its name or an alias; `InputError` lists the known ones.

    Parameters
    ----------
    symbol
        The element, which `GROUND_STATE` needs.
    """
    if name == GROUND_STATE:
        if symbol is None:
            raise InputError(f"{GROUND_STATE!r} is the crystal of an element, and no element was given", prototype=name)
        found = ground_state(symbol)
        if found is None:
            raise InputError(
                f"no {GROUND_STATE!r} crystal of {symbol}: it is one of {', '.join(elemental_prototypes())} or not "
                "in ASE's dcdft collection",
                prototype=name,
                symbol=symbol,
            )
        return found
    known = PROTOTYPES.get(name) or PROTOTYPES.get(_ALIASES.get(str(name).lower(), ""))
    if known is None:
        names = (*PROTOTYPES, GROUND_STATE)
        near = difflib.get_close_matches(str(name).lower(), (*names, *_ALIASES), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown prototype {name!r}; {hint}known are {', '.join(names)}", prototype=name)
    return known


@cache
def ground_state(symbol: str) -> Prototype | None:
    """Return the element's own crystal (see `GROUND_STATE`); None where it is cubic and listed, or not known."""
    import spglib
    from ase.collections import dcdft
    from ase.neighborlist import neighbor_list as list_neighbours

    neighbor_list: Any = list_neighbours  # ASE's is untyped

    if symbol not in dcdft.names:
        return None
    atoms = dcdft[symbol]
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib's, about its own error handling
        found = spglib.get_symmetry_dataset(cell, symprec=1e-3)
        primitive: Any = spglib.standardize_cell(cell, to_primitive=True, symprec=1e-3)
    if found is None or primitive is None:
        return None
    listed = {p.spacegroup_number: len(p.positions) for p in _elemental()[:4]}
    if listed.get(int(found.number)) == len(primitive[2]):
        return None
    scale = cbrt(float(abs(np.linalg.det(primitive[0]))))
    atoms = atoms.__class__(numbers=primitive[2], scaled_positions=primitive[1], cell=primitive[0] / scale, pbc=True)
    # Neighbours within a tenth of the nearest are a shell: the two distances in hcp metals differ by up to 8 %.
    _, distance = neighbor_list("id", atoms, 1.5 * len(atoms) ** (-1.0 / 3.0) + 0.5)
    nearest = float(distance.min())
    coordination = round(float(np.sum(distance < 1.1 * nearest)) / len(atoms))
    return Prototype(
        GROUND_STATE,
        coordination,
        str(found.international),
        int(found.number),
        tuple((float(x), float(y), float(z)) for x, y, z in atoms.cell.array),
        tuple((float(x), float(y), float(z)) for x, y, z in atoms.get_scaled_positions()),
        nearest,
        float(len(atoms)),
        title=f"crystal of {symbol} at rest, with its own inner parameters",
    )


def vacuum(*symbols: str) -> float:
    """Distance between images without period, Angstrom; see `VACUUM`."""
    return VACUUM[0] + VACUUM[1] * BOHR * max(element(symbol).covalent_radius for symbol in symbols)


def build(name: str, symbol: str, volume_per_atom: float, partner: str | None = None) -> Atoms:
    """Build the primitive cell of a prototype.

    Parameters
    ----------
    name
        See `PROTOTYPES` and `GROUND_STATE`.
    symbol, partner
        The element; in a binary the first one of its formula, and the second.
    volume_per_atom
        Angstrom^3; in layers, chains and dimers the cube of the nearest-neighbour distance.

    Returns
    -------
    Periodic in all directions, with vacuum where the prototype has no period; a dimer is not periodic, but has the box
    that it would be put into.

    Raises
    ------
    InputError
        Unknown prototype, a partner missing or too many, or a volume that is not a positive number.
    """
    from ase import Atoms  # here, because reading reference data needs no ASE

    crystal = prototype(name, symbol)
    species = crystal.species(symbol, partner)
    if not (isfinite(volume_per_atom) and volume_per_atom > 0.0):
        raise InputError(
            f"{name} {symbol}: volume {volume_per_atom} must be a positive number of cubic Angstrom per atom",
            volume=volume_per_atom,
        )
    a = crystal.lattice_constant(volume_per_atom)
    inside = [a * np.array(vector) for vector in crystal.cell]
    outside = vacuum(*species)
    cell = [
        inside[i] if crystal.periodic[i] else np.array(crystal.cell[i]) / np.linalg.norm(crystal.cell[i]) * outside
        for i in range(3)
    ]
    atoms = Atoms(species, positions=np.array(crystal.positions) @ np.array(inside), pbc=crystal.dimensions > 0)
    if crystal.dimensions == 0:
        cell[2] = cell[2] + inside[2]
    atoms.cell[:] = cell
    return atoms


def mesh(
    cell: np.ndarray, density: float, periodic: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[int, int, int]:
    """k-point divisions of a cell (3, 3) in Angstrom for ``density`` points per 2 pi/Angstrom; 1 without a period."""
    lengths = 2.0 * pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    n1, n2, n3 = (max(1, ceil(density * float(b) - 1e-8)) if p else 1 for b, p in zip(lengths, periodic, strict=True))
    return n1, n2, n3
