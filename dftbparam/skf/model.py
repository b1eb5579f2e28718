"""Records for what a Slater-Koster file holds.

Units: Bohr and Hartree. Shells are indexed by angular momentum l = 0 (s), 1 (p), 2 (d), 3 (f) everywhere in memory,
although the file writes them in the opposite order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIMPLE_COLUMNS: tuple[tuple[int, int, int], ...] = (
    (2, 2, 0),
    (2, 2, 1),
    (2, 2, 2),
    (1, 2, 0),
    (1, 2, 1),
    (1, 1, 0),
    (1, 1, 1),
    (0, 2, 0),
    (0, 1, 0),
    (0, 0, 0),
)
"""(l1, l2, m) of the ten columns of a simple file, l1 <= l2; l1 is the first element's shell."""

EXTENDED_COLUMNS: tuple[tuple[int, int, int], ...] = (
    (3, 3, 0),
    (3, 3, 1),
    (3, 3, 2),
    (3, 3, 3),
    (2, 3, 0),
    (2, 3, 1),
    (2, 3, 2),
    (2, 2, 0),
    (2, 2, 1),
    (2, 2, 2),
    (1, 3, 0),
    (1, 3, 1),
    (1, 2, 0),
    (1, 2, 1),
    (1, 1, 0),
    (1, 1, 1),
    (0, 3, 0),
    (0, 2, 0),
    (0, 1, 0),
    (0, 0, 0),
)
"""(l1, l2, m) of the twenty columns of an extended ('@') file."""


@dataclass(frozen=True)
class OnSite:
    """The homonuclear line. Arrays have shape (4,), indexed by l; shells that are absent hold zero."""

    energies: Array
    hubbard: Array
    occupations: Array
    spin_polarisation_error: float = 0.0


@dataclass(frozen=True)
class SplineRepulsion:
    """Repulsion as DFTB+ reads it after the word ``Spline``.

    Below ``knots[0]``: exp(-a1 r + a2) + a3 with ``exponential = (a1, a2, a3)``. Between ``knots[i]`` and
    ``knots[i+1]``: sum_k coefficients[i, k] (r - knots[i])**k, k = 0..5, where only the last interval may have
    k = 4, 5 non-zero. Zero from ``knots[-1]`` (the cutoff) on.

    ``knots`` has shape (n+1,), ``coefficients`` (n, 6).
    """

    knots: Array
    coefficients: Array
    exponential: tuple[float, float, float]

    @property
    def cutoff(self) -> float:
        """Distance in Bohr from which the repulsion is zero."""
        return float(self.knots[-1])


@dataclass(frozen=True)
class PolynomialRepulsion:
    """Repulsion sum_i c_i (cutoff - r)**i, i = 2..9, below the cutoff; ``coefficients`` has shape (8,)."""

    coefficients: Array
    cutoff: float


Repulsion = SplineRepulsion | PolynomialRepulsion

REPULSION_TOLERANCE = 1e-8
"""Difference of the repulsion in A-B and B-A, in any of its numbers, at which DFTB+ stops."""


def repulsion_difference(one: Repulsion | None, two: Repulsion | None) -> float:
    """Largest difference of any number of two repulsions; infinite if they are not of one kind and size."""
    if isinstance(one, SplineRepulsion) and isinstance(two, SplineRepulsion):
        if one.coefficients.shape != two.coefficients.shape:
            return float("inf")
        return max(
            float(np.abs(one.knots - two.knots).max()),
            float(np.abs(one.coefficients - two.coefficients).max()),
            float(np.abs(np.subtract(one.exponential, two.exponential)).max()),
        )
    if isinstance(one, PolynomialRepulsion) and isinstance(two, PolynomialRepulsion):
        return max(float(np.abs(one.coefficients - two.coefficients).max()), abs(one.cutoff - two.cutoff))
    return 0.0 if one is None and two is None else float("inf")


@dataclass(frozen=True)
class SKFile:
    """One Slater-Koster file, X-Y.

    ``hamiltonian`` and ``overlap`` have shape (n, 10) or, extended, (n, 20); row i belongs to the distance
    (i + 1) * grid_step; columns as `SIMPLE_COLUMNS` or `EXTENDED_COLUMNS`. Rows cover what DFTB+ reads, that is
    nGrid - 1 of them. ``mass`` is in atomic mass units and 0 where the file gives none.
    """

    grid_step: float
    hamiltonian: Array
    overlap: Array
    on_site: OnSite | None = None
    mass: float = 0.0
    repulsion: Repulsion | None = None
    extended: bool = False
    documentation: str = ""
    path: str | None = None

    @property
    def columns(self) -> tuple[tuple[int, int, int], ...]:
        """(l1, l2, m) per column."""
        return EXTENDED_COLUMNS if self.extended else SIMPLE_COLUMNS


@dataclass(frozen=True)
class SKSet:
    """A set of Slater-Koster files in memory: what an engine computes with.

    Attributes
    ----------
    files
        Maps ordered pairs of element symbols to files. For l1 <= l2 the (A, B) file is used, else (B, A).
    max_angular
        Highest valence angular momentum per element symbol. The format does not store it, so readers must be told or
        infer it (see `dftbparam.skf.infer_max_angular`).
    """

    files: Mapping[tuple[str, str], SKFile]
    max_angular: Mapping[str, int]
    metadata: Mapping[str, Any] = field(default_factory=dict)
