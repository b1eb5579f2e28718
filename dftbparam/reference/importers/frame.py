"""What importers hand on: structures with their energies, and E(V) curves, both with where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import all_symbols, element
from dftbparam.errors import InputError, ReferenceDataError, StructureError
from dftbparam.reference.importers.settings import Setting
from dftbparam.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]
T = TypeVar("T")

ON_TOP: Final = 0.3
"""Atoms nearer than this part of the sum of their covalent radii (at least 1 Bohr each) lie on top of each other: H2 at
0.32 Angstrom, half of what its wall lets a molecule reach."""

FLAT: Final = 0.1
"""A periodic cell thinner than this, Angstrom, has no volume: nothing repeats at that distance."""


@dataclass(frozen=True)
class Frame:
    """One structure with its energy.

    Attributes
    ----------
    atoms
        Elements, positions, cell and periodicity, Angstrom; no calculator.
    energy, free_energy
        Total energy of the structure, extrapolated to no smearing where the code does that, and the Mermin free energy;
        eV.
    forces
        (n, 3), eV/Angstrom.
    stress
        (6,): xx yy zz yz xz xy, eV/Angstrom^3, ASE's sign (positive: the cell would shrink).
    source
        File and place in it, ``si.extxyz#3``.
    settings
        How it was computed, as far as the source says; names as in `dftbparam.reference.importers.settings`.
    """

    atoms: Atoms
    energy: float
    source: str
    name: str = ""
    free_energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    magnetic_moment: float | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def energy_per_atom(self) -> float:
        """In eV/atom."""
        return self.energy / len(self.atoms)

    @property
    def elements(self) -> tuple[str, ...]:
        """The different elements in it, sorted."""
        return tuple(sorted(set(symbols_of(self.atoms))))


@dataclass(frozen=True)
class Curve:
    """Computed E(V) points of one crystal: ``volumes`` in Angstrom^3/atom, energies in eV/atom, all (n,)."""

    symbol: str
    prototype: str
    partner: str | None
    volumes: Array
    energies: Array
    source: str
    energies_free: Array | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``Si diamond``, ``Mg-O rocksalt``."""
        return f"{self.symbol}{'' if self.partner is None else '-' + self.partner} {self.prototype}"


@dataclass(frozen=True)
class Source:
    """What one file or folder held; ``notes`` say what was left out and why."""

    path: str
    kind: str
    frames: tuple[Frame, ...] = ()
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadOptions:
    """How sources are read.

    Attributes
    ----------
    energy_key, forces_key
        Names under which an extended xyz file or a database has energies (eV) and forces (eV/Angstrom), if not
        ``energy`` and ``forces``.
    all_steps
        Take every ionic step of a VASP run instead of the last one.
    skip_bad
        Leave out structures and runs that would be refused, with a note for each.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    all_steps: bool = False
    skip_bad: bool = False


class Intake:
    """Collects what was left out: runs steps that may refuse, and turns refusals into notes where that is wanted."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.notes: list[str] = []

    def take(self, step: Callable[[], T]) -> T | None:
        """Return what ``step`` returns; None, and a note, where it raised `InputError` and bad ones are skipped."""
        try:
            return step()
        except InputError as error:
            if not self.options.skip_bad:
                raise
            self.notes.append(f"left out: {error.message}")
            return None


def check_frame(frame: Frame) -> Frame:
    """Return the frame if it is sound.

    Raises
    ------
    StructureError
        No atoms, an element beyond Cm, positions that are not numbers, a cell without volume, atoms on top of each
        other.
    ReferenceDataError
        Energy, forces or stress that are not numbers, or of the wrong shape.
    """
    where, atoms = frame.source, frame.atoms
    if len(atoms) == 0:
        raise StructureError(f"{where}: no atoms", source=where)
    known = all_symbols()
    for symbol in frame.elements:
        if symbol not in known:
            shown = "an atom without element (X)" if symbol == "X" else f"element {symbol}"
            raise StructureError(f"{where}: {shown}; known are {known[0]} to {known[-1]}", source=where, symbol=symbol)
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise StructureError(f"{where}: positions or cell are not all numbers", source=where)
    if not np.isfinite(frame.energy):
        raise ReferenceDataError(f"{where}: energy {frame.energy} is not a number", source=where)
    for name, values, shape in (
        ("free energy", frame.free_energy, ()),
        ("forces", frame.forces, (len(atoms), 3)),
        ("stress", frame.stress, (6,)),
    ):
        if values is None:
            continue
        if np.shape(values) != shape:
            raise ReferenceDataError(f"{where}: {name} of shape {np.shape(values)}, not {shape}", source=where)
        if not np.isfinite(values).all():
            raise ReferenceDataError(f"{where}: {name} are not all numbers", source=where)
    check_cell(atoms, where)
    closest = closest_pair(atoms)
    if closest is not None and closest[0] < ON_TOP:
        _, distance, pair = closest
        raise StructureError(
            f"{where}: {pair[0]} and {pair[1]} lie {distance:.3g} Angstrom apart, on top of each other", source=where
        )
    return frame


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a row, the first ``most`` of them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def symbols_of(atoms: Any) -> list[str]:
    """Elements of the atoms of an ASE structure."""
    return list(atoms.get_chemical_symbols())


def check_cell(atoms: Atoms, where: str) -> None:
    """Raise `StructureError` for a cell that has no volume in its periodic directions."""
    if not atoms.pbc.any():
        return
    cell = atoms.cell.array
    if atoms.pbc.all() or abs(float(np.linalg.det(cell))) > 0.0:
        volume = abs(float(np.linalg.det(cell)))
        faces = [float(np.linalg.norm(np.cross(cell[i - 2], cell[i - 1]))) for i in range(3)]
        thin = [volume / face if face > 0.0 else 0.0 for face, p in zip(faces, atoms.pbc, strict=True) if p]
    else:
        periodic = cell[atoms.pbc]
        thin = [float(np.linalg.svd(periodic, compute_uv=False).min())]
    if min(thin) < FLAT:
        raise StructureError(
            f"{where}: the cell has zero volume (it is {min(thin):.3g} Angstrom thin); right would be three vectors "
            "that span a box",
            source=where,
        )


def contact(first: str, second: str) -> float:
    """Sum of the covalent radii of two elements, Angstrom, at least 1 Bohr each."""
    return BOHR * (max(element(first).covalent_radius, 1.0) + max(element(second).covalent_radius, 1.0))


def closest_pair(atoms: Atoms, below: float = ON_TOP) -> tuple[float, float, tuple[str, str]] | None:
    """Find the two atoms that are nearest in units of their `contact`, images included, if below a limit.

    Returns
    -------
    The distance in these units, in Angstrom, and the two elements; None where no pair is nearer than ``below``.
    """
    from ase.neighborlist import neighbor_list as ase_neighbor_list

    neighbor_list: Any = ase_neighbor_list  # ASE's is untyped
    symbols = symbols_of(atoms)
    kinds = sorted(set(symbols))
    table = {(a, b): contact(a, b) for a in kinds for b in kinds}
    i, j, d = neighbor_list("ijd", atoms, below * max(table.values()))
    if not len(d):
        return None
    relative = np.array([length / table[symbols[a], symbols[b]] for a, b, length in zip(i, j, d, strict=True)])
    nearest = int(np.argmin(relative))
    if relative[nearest] >= below:
        return None
    return float(relative[nearest]), float(d[nearest]), (symbols[i[nearest]], symbols[j[nearest]])
