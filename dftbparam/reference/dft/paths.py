"""k-points along the lines of high symmetry, by seekpath.

Y. Hinuma, G. Pizzi, Y. Kumagai, F. Oba, I. Tanaka, Comput. Mater. Sci. 128, 140 (2017).
"""

from __future__ import annotations

import warnings
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import EngineMissing

POINTS: Final = 60
"""k-points of a path, about; more in crystals with many segments."""


class BandPath(NamedTuple):
    """``points`` (k, 3) in units of the reciprocal vectors; names of special points; where the path starts anew."""

    points: NDArray[np.float64]
    labels: dict[int, str]
    breaks: tuple[int, ...]


def band_path(atoms: Any, points: int = POINTS) -> BandPath:
    """Return the path of the cell of ASE's ``atoms`` as it is, not of a standardised one.

    Raises
    ------
    EngineMissing
        seekpath is not installed.
    """
    require_seekpath()
    import seekpath

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib's, about its own error handling
        whole = seekpath.get_path_orig_cell(cell, symprec=1e-4)
    # Cartesian lengths in 1/Angstrom of the segments, in the cell given.
    reciprocal = 2.0 * np.pi * np.linalg.inv(atoms.cell.array).T
    where = {name: np.array(x) for name, x in whole["point_coords"].items()}
    length = sum(float(np.linalg.norm((where[b] - where[a]) @ reciprocal)) for a, b in whole["path"])
    rows: list[NDArray[np.float64]] = []
    labels: dict[int, str] = {}
    breaks: list[int] = []
    last = ""
    for a, b in whole["path"]:
        n = max(2, round(points * float(np.linalg.norm((where[b] - where[a]) @ reciprocal)) / length))
        if a != last:
            if rows:
                breaks.append(len(rows))
            labels[len(rows)] = _name(a)
            rows.append(where[a])
        rows += [where[a] + (where[b] - where[a]) * i / n for i in range(1, n + 1)]
        labels[len(rows) - 1] = _name(b)
        last = b
    return BandPath(np.array(rows), labels, tuple(breaks))


def require_seekpath() -> None:
    """Raise `EngineMissing` where seekpath is not installed."""
    try:
        import seekpath  # noqa: F401
    except ImportError:
        raise EngineMissing(
            "band paths need seekpath: pip install 'dftbparam[dft]' (in a clone: pip install '.[dft]')"
        ) from None


def _name(point: str) -> str:
    return "Γ" if point == "GAMMA" else point
