"""The wall at short distance: an element whose atoms fall into each other is of no use, however good its crystals.

The report card looks at crystals between 0.6 and 1.6 of their volume, which is a factor of 0.84 in distance. A fit that
sees no more may let two atoms attract each other all the way down. So the dimer is looked at, too: from `INNER` of the
contact distance (twice the covalent radius, at least 2 Bohr) inwards its energy has to rise with every step, and at the
innermost distance it has to lie `HEIGHT` above the lowest energy farther out. Real dimers are shortest, relative to the
covalent radius, for Cr2, Mo2 and W2 (about 0.6), so the rule forbids nothing that exists.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dftbparam.elements import element
from dftbparam.errors import InputError

INNER: Final = 0.6
"""Relative distance below which only repulsion is allowed."""

HEIGHT: Final = 1.0
"""eV by which the innermost energy has to exceed the lowest one."""

DISTANCES: Final = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.80, 0.90, 1.00, 1.15, 1.30, 1.50)
"""Distances of the dimer relative to contact."""

LARGEST: Final = 2.0
"""eV at which a violation is cut: worse is not worse in any sense that helps a search."""


def contact_distance(symbol: str) -> float:
    """Return twice the covalent radius, at least 2 Bohr (hydrogen's covalent radius says little about its reach)."""
    return 2.0 * max(element(symbol).covalent_radius, 1.0)


def wall_violation(relative_distances: ArrayLike, energies: ArrayLike) -> float:
    """Return how much a dimer's curve violates the rule of this module, in eV, 0 where it does not.

    Parameters
    ----------
    relative_distances, energies
        (n,), increasing, in units of contact; eV per dimer. An energy that is missing (NaN) counts as the largest
        violation.
    """
    x, e = np.asarray(relative_distances, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if x.ndim != 1 or x.shape != e.shape or not np.all(np.diff(x) > 0.0) or x[0] >= INNER or x[-1] <= INNER:
        raise InputError(f"a dimer curve needs increasing distances on both sides of {INNER}, got {x.tolist()}")
    if not np.isfinite(e).all():
        return LARGEST
    inside = e[x <= INNER]
    falls = np.maximum(np.diff(inside), 0.0).sum()
    low = max(float(e[x > INNER].min()) + HEIGHT - float(e[0]), 0.0)
    return float(min(falls + low, LARGEST))
