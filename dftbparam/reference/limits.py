"""What a plausible crystal keeps to: distances by covalent radii, volumes by what is known of the elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import cbrt, isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import element
from dftbparam.reference.dft.guess import guess_volume
from dftbparam.units import BOHR

DISTANCE_FACTOR: Final = 0.7
"""Atoms are at least this times the sum of their covalent radii apart. The shortest bonds of molecules and crystals lie
above it: N2 at 0.77, C2H2 and CO at 0.79 (multiple bonds), most single bonds at 1."""

IMPLODED, EXPLODED = 0.45, 2.5
"""Relative to the smallest and the largest guess of the volume: what relaxes beyond has collapsed or fallen apart. The
densest crystals in the range of validity of a set have about 0.6 of the guess."""

ISOLATION: Final = 1.5
"""An atom whose nearest neighbour is farther than this times the nearest-neighbour distance of a close packing at the
largest volume guess has left the crystal."""


@dataclass(frozen=True)
class Limits:
    """What a structure must keep to, drawn, relaxed or displaced.

    Attributes
    ----------
    distance_factor
        Least distance of two atoms over the sum of their covalent radii.
    isolation
        Greatest distance of an atom to its nearest neighbour, Angstrom.
    volume
        Least and greatest volume, Angstrom^3/atom.
    """

    distance_factor: float
    isolation: float
    volume: tuple[float, float]

    @classmethod
    def of(cls, symbols: Sequence[str], counts: Sequence[int], distance_factor: float = DISTANCE_FACTOR) -> Limits:
        """Limits of a composition."""
        low, high = volume_guesses(symbols, counts)
        return cls(distance_factor, ISOLATION * cbrt(np.sqrt(2.0) * high), (IMPLODED * low, EXPLODED * high))

    def violation(self, atoms: Any) -> tuple[str, str] | None:
        """Say how a structure breaks the limits: ``imploded`` or ``exploded``, with the reason; None if it does not."""
        volume = float(atoms.get_volume()) / len(atoms)
        if not (isfinite(volume) and np.isfinite(atoms.positions).all()):
            return "exploded", "coordinates that are no numbers"
        low, high = self.volume
        if volume < low:
            return "imploded", f"{volume:.3g} Angstrom^3/atom; plausible is {low:.3g} or more"
        if volume > high:
            return "exploded", f"{volume:.3g} Angstrom^3/atom; plausible is {high:.3g} or less"
        first, second, distance, radii = _neighbours(atoms, self.isolation)
        if len(distance):
            ratio = distance / (radii[first] + radii[second])
            k = int(np.argmin(ratio))
            if ratio[k] < self.distance_factor:
                pair = f"{atoms.symbols[first[k]]}-{atoms.symbols[second[k]]}"
                return (
                    "imploded",
                    f"{pair} {distance[k]:.3g} Angstrom apart, {ratio[k]:.2f} of the covalent radii's sum",
                )
        alone = np.setdiff1d(np.arange(len(atoms)), first)
        if len(alone):
            return "exploded", f"{atoms.symbols[alone[0]]} has no neighbour within {self.isolation:.3g} Angstrom"
        return None


def covalent_radii(symbols: Sequence[str]) -> NDArray[np.float64]:
    """Covalent radii (n,) of atoms, Angstrom."""
    return np.array([BOHR * element(symbol).covalent_radius for symbol in symbols])


def _neighbours(atoms: Any, cutoff: float) -> tuple[Any, Any, Any, Any]:
    """Pairs within a cutoff, images included: indices i and j, distances; covalent radii of the atoms (n,)."""
    from ase.neighborlist import neighbor_list as list_neighbours

    neighbor_list: Any = list_neighbours  # ASE's is untyped
    radii = covalent_radii([str(symbol) for symbol in atoms.symbols])
    i, j, d = neighbor_list("ijd", atoms, max(cutoff, 2.0 * float(radii.max())))
    near = d < np.maximum(cutoff, radii[i] + radii[j])
    return i[near], j[near], d[near], radii


def nearest_distance(atoms: Any, within: float) -> float:
    """Shortest distance of two atoms, images included, Angstrom; ``within`` where there is none below it."""
    _, _, distances, _ = _neighbours(atoms, within)
    return float(distances.min()) if len(distances) else within


@cache
def _elemental_volumes(symbol: str) -> tuple[float, float]:
    volumes = [guess_volume(name, symbol) for name in ("sc", "bcc", "fcc", "diamond")]
    return min(volumes), max(volumes)


def volume_guesses(symbols: Sequence[str], counts: Sequence[int]) -> tuple[float, float]:
    """Guess the least and the greatest volume of a composition, Angstrom^3/atom.

    Elements: the range of their cubic crystals in the shipped reference set. Compounds: the range made of the mixture
    of the elements, which intermetallic ones are like, and of an ordered crystal, which ionic ones are like: rock salt
    of all pairs of different elements, by covalent radii, and what is left over of the main element.
    """
    share = np.array(counts, dtype=float) / sum(counts)
    lows, highs = np.array([_elemental_volumes(symbol) for symbol in symbols]).T
    low, high = float(share @ lows), float(share @ highs)
    pairs = [
        (share[i] * share[j], guess_volume("rocksalt", symbols[i], symbols[j]))
        for i in range(len(symbols))
        for j in range(i)
        if counts[i] and counts[j]
    ]
    if pairs:
        weights, volumes = np.array(pairs).T
        main = int(np.argmax(share))
        # Each atom of the others pairs with one of the main element, as far as there are enough.
        paired = min(1.0, 2.0 * float(1.0 - share[main]))
        ordered = paired * float(weights @ volumes / weights.sum()) + (1.0 - paired) * float(lows[main])
        low, high = min(low, ordered), max(high, ordered)
    return low, high
