"""Observations in a form whose size does not grow with their number: triangular factors of their rows.

The rows [A | y] of many observations enter a linear model through AᵀA, Aᵀy and yᵀy alone. They are kept as R of the QR
decomposition of all rows, which is made in portions and has the condition of A, not its square. There is one factor for
each fold of the cross-validation, level and kind of observation, so that noise, scales and held-out errors can be
varied without going through the structures again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from dftbparam.delta.basis import Basis
from dftbparam.delta.descriptors import Array, Integers
from dftbparam.delta.inputs import BaseFeatures

if TYPE_CHECKING:
    from ase import Atoms

KINDS_OF_DATA: Final = ("energy", "forces", "stress")
"""Energies in eV/atom, forces in eV/Angstrom, stress as dE/d(strain) in eV/atom."""

SILENT: Final = 1e-9
"""Derivatives that are zero by symmetry have rows below this; they say nothing and are left out, because their perfect
agreement would be taken for a small noise."""


@dataclass(frozen=True)
class Sample:
    """A structure with the differences to be learnt.

    Attributes
    ----------
    energy
        Reference minus base, total, eV.
    forces, stress
        (n, 3), eV/Angstrom; (6,) in Voigt order, eV/Angstrom^3, ASE's sign. None: not known.
    level
        Index of the level of theory of the reference, 0 the lowest.
    group
        What is held out together: the crystal it is, or was made from.
    base_energy, base_forces, base_stress
        What was subtracted, in the same units: only for the comparison with a model that learns without it.
    features
        Results of DFTB, for a model that takes some as inputs.
    """

    atoms: Atoms
    energy: float
    forces: Array | None = None
    stress: Array | None = None
    level: int = 0
    group: str = ""
    source: str = ""
    base_energy: float = 0.0
    base_forces: Array | None = None
    base_stress: Array | None = None
    features: BaseFeatures | None = None

    def without_base(self) -> Sample:
        """Return the reference itself as what is to be learnt."""
        return replace(
            self,
            energy=self.energy + self.base_energy,
            forces=_sum(self.forces, self.base_forces),
            stress=_sum(self.stress, self.base_stress),
            base_energy=0.0,
            base_forces=None,
            base_stress=None,
        )


def _sum(first: Array | None, second: Array | None) -> Array | None:
    return first if first is None or second is None else first + second


@dataclass
class Factor:
    """R of the QR decomposition of rows [A | y], made in portions; ``count`` rows have gone into it."""

    columns: int
    triangle: Array = field(init=False)
    count: int = 0
    _waiting: list[Array] = field(default_factory=list)
    _size: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.triangle = np.zeros((0, self.columns))

    def add(self, rows: Array) -> None:
        """Take in rows (k, columns)."""
        self._waiting.append(rows)
        self._size += len(rows)
        self.count += len(rows)
        # Large portions: the work of a decomposition beyond its rows is that of the triangle on top of them.
        if self._size > 3 * self.columns:
            self.settle()

    def settle(self) -> None:
        """Bring what has been taken in into the triangle."""
        if self._waiting:
            stack = np.concatenate([self.triangle, *self._waiting])
            self.triangle = np.asarray(np.linalg.qr(stack, mode="r")) if len(stack) > 1 else stack
            self._waiting, self._size = [], 0


Key = tuple[int, int, str]
"""Fold, level, kind of data."""


@dataclass(frozen=True)
class Statistics:
    """Triangular factors of all observations, and the energies' own rows for the cross-validation.

    Attributes
    ----------
    factors
        Columns: the m weights, the fraction of each element, the value; with a base, the value without it besides.
    energy_rows
        (n, m + elements), per atom.
    energies
        (n,), eV/atom, offsets removed.
    with_base
        Whether the last column is that of values without a base.
    unexplained
        (n,), variance per atom squared that inducing environments do not span, for unit variance.
    folds, levels
        (n,).
    offsets
        (levels, elements), eV: what was subtracted for each atom beforehand.
    subspace
        From a fold to the weights (m, m') that a model without the inducing environments of this fold has, orthonormal
        columns (`dftbparam.delta.basis.Basis.subspace`). None: all folds have all weights.
    """

    factors: Mapping[Key, Factor]
    energy_rows: Array
    energies: Array
    unexplained: Array
    folds: Integers
    levels: Integers
    offsets: Array
    with_base: bool = False
    other_energies: Array | None = None
    other_offsets: Array | None = None
    subspace: Callable[[int], Array] | None = None

    def without_base(self) -> Statistics | None:
        """Return the same observations for a model that learns the reference itself; None where there is no base."""
        if not self.with_base or self.other_energies is None or self.other_offsets is None:
            return None
        factors = {}
        for key, factor in self.factors.items():
            other = Factor(factor.columns - 1)
            other.triangle = np.delete(factor.triangle, -2, axis=1)
            other.count = factor.count
            factors[key] = other
        return replace(self, factors=factors, energies=self.other_energies, offsets=self.other_offsets, with_base=False)

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.offsets)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(self.offsets.shape[1])

    @property
    def weights(self) -> int:
        """Number of weights m."""
        return int(self.energy_rows.shape[1]) - self.elements

    def triangles(self, fold: int | None = None) -> dict[tuple[int, str], tuple[Array, int]]:
        """Factors of each level and kind, of one fold or all: rows (k, m + elements + 1), and how many they are of."""
        found: dict[tuple[int, str], list[Factor]] = {}
        for (own, level, kind), factor in self.factors.items():
            if fold in (None, own):
                found.setdefault((level, kind), []).append(factor)
        used = self.weights + self.elements + 1
        return {
            key: (np.concatenate([one.triangle[:, :used] for one in some]), sum(one.count for one in some))
            for key, some in sorted(found.items())
        }


def offsets_of(samples: Sequence[Sample], numbers: Sequence[int], levels: int) -> Array:
    """Energies of the elements that explain most of total energies, (levels, elements), eV; of smallest norm.

    Where the data do not tell elements apart (one composition only), the mean is shared out.
    """
    offsets = np.zeros((levels, len(numbers)))
    for level in range(levels):
        chosen = [s for s in samples if s.level == level]
        if chosen:
            counts = np.array(
                [[np.count_nonzero(s.atoms.numbers == z) / len(s.atoms) for z in numbers] for s in chosen]
            )
            values = np.array([s.energy / len(s.atoms) for s in chosen])
            offsets[level] = np.linalg.lstsq(counts, values, rcond=1e-8)[0]
    return offsets


def collect(basis: Basis, samples: Sequence[Sample], folds: Sequence[int], levels: int) -> Statistics:
    """Go through the structures once.

    Parameters
    ----------
    folds
        The fold of each sample.
    """
    with_base = any(sample.base_energy != 0.0 for sample in samples)
    others = [sample.without_base() for sample in samples] if with_base else list(samples)
    offsets = offsets_of(samples, basis.numbers, levels)
    other_offsets = offsets_of(others, basis.numbers, levels)
    elements = len(basis.numbers)
    columns = basis.size + elements + 1 + with_base
    factors: dict[Key, Factor] = {}
    rows: list[Array] = []
    energies: list[tuple[float, float]] = []
    unexplained: list[float] = []
    for sample, other, fold in zip(samples, others, folds, strict=True):
        derivatives = sample.forces is not None or sample.stress is not None
        found = basis.rows(sample.atoms, derivatives=derivatives, features=sample.features)
        n, level = len(sample.atoms), sample.level
        counts = basis.counts(sample.atoms)
        rows.append(np.concatenate([found.energy, counts]) / n)
        values = (
            (sample.energy - float(counts @ offsets[level])) / n,
            (other.energy - float(counts @ other_offsets[level])) / n,
        )
        energies.append(values)
        unexplained.append(found.unexplained / n**2)
        tables = [("energy", rows[-1][None], np.array([values]))]
        if sample.forces is not None and other.forces is not None and found.forces is not None:
            both = np.stack([sample.forces.ravel(), other.forces.ravel()], axis=1)
            tables.append(("forces", _padded(found.forces.reshape(3 * n, -1), elements), both))
        if sample.stress is not None and other.stress is not None and found.strain is not None:
            volume = abs(float(np.linalg.det(sample.atoms.cell.array)))
            both = np.stack([sample.stress, other.stress], axis=1) * volume / n
            tables.append(("stress", _padded(found.strain / n, elements), both))
        for kind, table, value in tables:
            loud = np.abs(table).max(axis=1) > SILENT
            if loud.any():
                factor = factors.setdefault((fold, level, kind), Factor(columns))
                factor.add(np.concatenate([table, value[:, : 1 + with_base]], axis=1)[loud])
    for factor in factors.values():
        factor.settle()
    own, without = np.array(energies).T
    return Statistics(
        factors,
        np.array(rows),
        own,
        np.array(unexplained),
        np.asarray(folds, dtype=np.int64),
        np.array([sample.level for sample in samples], dtype=np.int64),
        offsets,
        with_base,
        without if with_base else None,
        other_offsets if with_base else None,
    )


def _padded(table: Array, elements: int) -> Array:
    """Rows with zeros for the offsets, which derivatives do not see."""
    return np.concatenate([table, np.zeros((len(table), elements))], axis=1)
