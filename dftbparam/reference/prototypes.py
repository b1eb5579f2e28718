"""Prototype crystals: all atoms equivalent, cubic, one free parameter (the volume)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cbrt, isfinite
from typing import TYPE_CHECKING, Final

from dftbparam.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Prototype:
    """A cubic crystal in units of its lattice constant a.

    ``cell`` (3 x 3): primitive cell vectors over a; ``positions``: fractional coordinates of the atoms in it;
    ``neighbour``: nearest-neighbour distance over a; ``atoms_per_cube``: atoms in the volume a^3.
    """

    name: str
    coordination: int
    spacegroup: str
    spacegroup_number: int
    cell: tuple[tuple[float, float, float], ...]
    positions: tuple[tuple[float, float, float], ...]
    neighbour: float
    atoms_per_cube: int

    def lattice_constant(self, volume_per_atom: float) -> float:
        """Lattice constant of the cubic cell in Angstrom for a volume in Angstrom^3/atom."""
        return cbrt(volume_per_atom * self.atoms_per_cube)

    def neighbour_distance(self, volume_per_atom: float) -> float:
        """Nearest-neighbour distance in Angstrom for a volume in Angstrom^3/atom."""
        return self.neighbour * self.lattice_constant(volume_per_atom)


_FCC_CELL = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_ONE = ((0.0, 0.0, 0.0),)

PROTOTYPES: Final[Mapping[str, Prototype]] = {
    crystal.name: crystal
    for crystal in (
        Prototype("sc", 6, "Pm-3m", 221, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), _ONE, 1.0, 1),
        Prototype("bcc", 8, "Im-3m", 229, ((-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5)), _ONE, 0.75**0.5, 2),
        Prototype("fcc", 12, "Fm-3m", 225, _FCC_CELL, _ONE, 0.5**0.5, 4),
        Prototype("diamond", 4, "Fd-3m", 227, _FCC_CELL, (*_ONE, (0.25, 0.25, 0.25)), 0.1875**0.5, 8),
    )
}
"""The known prototypes by name."""


def prototype(name: str) -> Prototype:
    """Return a prototype; `InputError` lists the known ones."""
    try:
        return PROTOTYPES[name]
    except KeyError:
        raise InputError(f"unknown prototype {name!r}; known are {', '.join(PROTOTYPES)}", prototype=name) from None


def build(name: str, symbol: str, volume_per_atom: float) -> Atoms:
    """Build the primitive cell of a prototype crystal.

    Parameters
    ----------
    name
        ``sc``, ``bcc``, ``fcc`` (one atom) or ``diamond`` (two atoms).
    volume_per_atom
        Angstrom^3.

    Raises
    ------
    InputError
        Unknown prototype, or a volume that is not a positive number.
    """
    from ase import Atoms  # here, because reading reference data needs no ASE

    crystal = prototype(name)
    if not (isfinite(volume_per_atom) and volume_per_atom > 0.0):
        raise InputError(
            f"{name} {symbol}: volume {volume_per_atom} must be a positive number of cubic Angstrom per atom",
            volume=volume_per_atom,
        )
    a = crystal.lattice_constant(volume_per_atom)
    return Atoms(
        [symbol] * len(crystal.positions),
        scaled_positions=crystal.positions,
        cell=[[a * x for x in vector] for vector in crystal.cell],
        pbc=True,
    )
