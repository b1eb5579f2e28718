"""Local descriptors of atoms with exact derivatives: the SOAP power spectrum of the library featomic.

Each atom i is described by p_i, the rotationally invariant power spectrum of the density of its neighbours (A. P.
Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013)), one block for every pair of neighbouring elements.
Neighbours enter and leave at the cutoff with zero weight and slope, so that energies and forces made of it are
continuous; they may be images of one and the same atom. Two other libraries were looked at: dscribe has no derivatives
with respect to the cell, and quippy-ase is under the GPL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import EngineMissing, ParameterError, StructureError

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

INSTALL: Final = "pip install 'dftbparam[delta]'"

NeighbourPair = tuple[int, int]
"""Atomic numbers of two neighbouring elements, ascending."""


@dataclass(frozen=True)
class DescriptorSettings:
    """What the power spectrum resolves. Lengths in Angstrom.

    Attributes
    ----------
    cutoff, smoothing
        Neighbours count up to ``cutoff``; over the last ``smoothing`` their weight goes to zero as a cosine.
    width
        Standard deviation of the Gaussian that stands for a neighbour.
    max_radial, max_angular
        The highest radial and angular function of the expansion.
    scale, exponent
        Weight of a neighbour at the distance r: 1 / (1 + (r / scale)^exponent) (M. J. Willatt, F. Musil, M. Ceriotti,
        Phys. Chem. Chem. Phys. 20, 29661 (2018)): near neighbours decide more of an energy than far ones.
    """

    cutoff: float = 5.0
    smoothing: float = 1.5
    width: float = 0.4
    max_radial: int = 6
    max_angular: int = 4
    scale: float = 2.5
    exponent: float = 4.0

    def __post_init__(self) -> None:
        """Refuse values that make no descriptor, with `ParameterError`."""
        limits = {
            "cutoff": (1.0 <= self.cutoff <= 12.0, "between 1 and 12 Angstrom"),
            "smoothing": (0.1 <= self.smoothing <= self.cutoff, "between 0.1 Angstrom and the cutoff"),
            "width": (0.1 <= self.width <= 2.0, "between 0.1 and 2 Angstrom"),
            "max_radial": (1 <= self.max_radial <= 12, "1 to 12"),
            "max_angular": (0 <= self.max_angular <= 9, "0 to 9"),
            "scale": (0.1 <= self.scale <= 20.0, "between 0.1 and 20 Angstrom"),
            "exponent": (0.0 <= self.exponent <= 12.0, "0 to 12"),
        }
        for name, (good, right) in limits.items():
            if not good:
                raise ParameterError(f"descriptor setting {name} is {getattr(self, name)!r}; it must be {right}")

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RawBlock:
    """Power spectra of the atoms of one element in one structure, (n, f) for each pair of neighbouring elements.

    Attributes
    ----------
    number
        Atomic number of the element.
    atoms
        (n,), which atoms of the structure these are.
    values
        Per pair of elements (n, f_pair).
    centres, neighbours
        (p,), the pairs (row of ``atoms``, atom of the structure that moves) that have a derivative.
    gradients
        Per pair of elements: (rows of the p pairs, dp/dr of shape (rows, 3, f_pair)); 1/Angstrom.
    strains
        Per pair of elements: (rows of the n atoms, dp/d(strain) of shape (rows, 3, 3, f_pair)).
    """

    number: int
    atoms: Integers
    values: Mapping[NeighbourPair, Array]
    centres: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    neighbours: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gradients: Mapping[NeighbourPair, tuple[Integers, Array]] = field(default_factory=dict)
    strains: Mapping[NeighbourPair, tuple[Integers, Array]] = field(default_factory=dict)

    def norms(self) -> Array:
        """Length of the power spectrum of each atom, (n,)."""
        square = np.zeros(len(self.atoms))
        for values in self.values.values():
            square += np.einsum("nf,nf->n", values, values)
        return np.sqrt(square)


def power_spectra(atoms: Atoms, settings: DescriptorSettings, *, derivatives: bool = False) -> list[RawBlock]:
    """Compute the power spectra of all atoms of a structure, one block an element in ascending atomic number.

    Parameters
    ----------
    atoms
        Angstrom; any periodicity.
    derivatives
        Whether to compute derivatives with respect to positions and strain as well.

    Raises
    ------
    StructureError
        No atoms, or positions that are not numbers.
    EngineMissing
        The library featomic is not installed.
    """
    if not len(atoms):
        raise StructureError("a structure without atoms has no descriptor")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise StructureError("positions or cell are not all numbers")
    calculator = _calculator(settings)
    system = _boxed(atoms, settings.cutoff)
    found = calculator.compute(system, gradients=["positions", "strain"] if derivatives else [])
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    row = np.full(len(numbers), -1, dtype=np.int64)
    blocks = []
    for number in sorted({int(z) for z in numbers}):
        members = np.flatnonzero(numbers == number)
        row[members] = np.arange(len(members))
        parts = [(key, found.block(key)) for key in found.keys if int(key["center_type"]) == number]
        parts.sort(key=lambda part: (int(part[0]["neighbor_1_type"]), int(part[0]["neighbor_2_type"])))
        blocks.append(_block(number, members, row, len(numbers), parts, derivatives))
    return blocks


def _block(
    number: int, members: Integers, row: Integers, size: int, parts: Sequence[tuple[Any, Any]], derivatives: bool
) -> RawBlock:
    values: dict[NeighbourPair, Array] = {}
    gradients: dict[NeighbourPair, tuple[Integers, Array]] = {}
    strains: dict[NeighbourPair, tuple[Integers, Array]] = {}
    keys: dict[NeighbourPair, Integers] = {}
    for key, block in parts:
        pair = (int(key["neighbor_1_type"]), int(key["neighbor_2_type"]))
        rows = row[np.asarray(block.samples.column("atom"), dtype=np.int64)]
        dense = np.zeros((len(members), block.values.shape[1]))
        dense[rows] = block.values
        values[pair] = dense
        if derivatives:
            moved = block.gradient("positions")
            sample = np.asarray(moved.samples.column("sample"), dtype=np.int64)
            # A key that is unique to (centre, atom), so that the pairs of all blocks can be brought together.
            keys[pair] = rows[sample] * size + np.asarray(moved.samples.column("atom"), dtype=np.int64)
            gradients[pair] = (keys[pair], moved.values)
            strained = block.gradient("strain")
            of = rows[np.asarray(strained.samples.column("sample"), dtype=np.int64)]
            strains[pair] = (of, strained.values)
    if not derivatives:
        return RawBlock(number, members, values)
    every = np.unique(np.concatenate(list(keys.values()))) if keys else np.zeros(0, dtype=np.int64)
    gradients = {pair: (np.searchsorted(every, key), value) for pair, (key, value) in gradients.items()}
    return RawBlock(number, members, values, every // size, every % size, gradients, strains)


def _boxed(atoms: Atoms, cutoff: float) -> Any:
    """Copy a structure, periodic in all directions or in none, with the same neighbours: featomic knows no others.

    Directions without a period get a vector that leaves more than the cutoff between images.
    """
    from ase import Atoms as AseAtoms
    from ase.geometry import complete_cell

    pbc = np.asarray(atoms.pbc)
    if not pbc.any():
        return AseAtoms(atoms.numbers, atoms.positions, pbc=False)
    cell = np.array(atoms.cell.array)
    if not pbc.all():
        cell[~pbc] = 0.0
        complete: Any = complete_cell
        cell = np.array(complete(cell))
        for axis in np.flatnonzero(~pbc):
            unit = cell[axis] / np.linalg.norm(cell[axis])
            reach = atoms.positions @ unit
            cell[axis] = unit * (reach.max() - reach.min() + 2.0 * cutoff)
    if abs(float(np.linalg.det(cell))) < 1e-6:
        raise StructureError("the cell has zero volume; right would be three vectors that span a box")
    return AseAtoms(atoms.numbers, atoms.positions, cell=cell, pbc=True)


@cache
def _calculator(settings: DescriptorSettings) -> Any:
    try:
        from featomic import SoapPowerSpectrum
    except ImportError as error:
        raise EngineMissing(f"delta models need the library featomic ({error}); {INSTALL}") from None
    return SoapPowerSpectrum(
        cutoff={
            "radius": settings.cutoff,
            "smoothing": {"type": "ShiftedCosine", "width": settings.smoothing},
        },
        density={
            "type": "Gaussian",
            "width": settings.width,
            # The atom itself is part of its density: a lone atom then has a descriptor of length one, not of length
            # zero, and the normalised descriptor still knows how dense the surroundings are.
            "center_atom_weight": 1.0,
            "scaling": {
                "type": "Willatt2018",
                "exponent": settings.exponent,
                "rate": 1.0,
                "scale": settings.scale,
            },
        },
        basis={
            "type": "TensorProduct",
            "max_angular": settings.max_angular,
            "radial": {"type": "Gto", "max_radial": settings.max_radial},
        },
    )
