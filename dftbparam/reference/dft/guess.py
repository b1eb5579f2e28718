"""Where the search for a minimum starts: volumes guessed from what is known.

Elements: the all-electron volumes of the shipped set for sc, bcc, fcc and diamond, WIEN2k's of ASE's ``dcdft`` for the
element's own crystal. Other prototypes: nearest-neighbour distances grow with coordination like a power of it, which
the four known crystals of the element fix (Pauling's bond-order rule; a regression in the logarithms). Binaries: sums
of covalent radii, with the power that holds for elements on average.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from dftbparam.elements import element
from dftbparam.errors import ReferenceDataError
from dftbparam.reference.dataset import load_dataset
from dftbparam.reference.prototypes import GROUND_STATE, prototype
from dftbparam.reference.records import Dataset
from dftbparam.units import BOHR

ALIKE: Final = {"hcp": "fcc", "a15": "bcc"}
"""Crystals with nearly the volume per atom of another one."""

POWER: Final = 0.13
"""d ln d / d ln(coordination) of binaries: from zincblende to rocksalt bonds grow by 5 %."""

POWER_RANGE: Final = (0.03, 0.3)
"""Plausible powers for elements; the regression is held within."""


@cache
def _shipped() -> Dataset:
    return load_dataset()


def guess_volume(name: str, symbol: str, partner: str | None = None) -> float:
    """Volume in Angstrom^3/atom (layers, chains, dimers: cube of the distance) near the minimum of a prototype."""
    if partner is not None:
        distance = _radius(symbol) + _radius(partner)
        crystal = prototype(name)
        return crystal.volume(distance * (crystal.coordination / 4.0) ** POWER)
    if name == GROUND_STATE:
        from ase.collections import dcdft

        return float(dcdft.data[symbol]["wien2k_volume"])
    known = _distances(symbol)
    twin = ALIKE.get(name, name)
    if twin in known:
        return prototype(twin).volume(known[twin])
    crystal = prototype(name, symbol)
    if not known:
        return crystal.volume(2.0 * _radius(symbol) * (crystal.coordination / 4.0) ** POWER)
    x = np.log([prototype(k).coordination for k in known])
    y = np.log(list(known.values()))
    slope = float(np.clip(np.polyfit(x, y, 1)[0], *POWER_RANGE)) if len(known) > 1 else POWER
    # Through the known crystal that is nearest in coordination, so that the guess is best where it matters.
    near = int(np.argmin(np.abs(x - np.log(crystal.coordination))))
    return crystal.volume(float(np.exp(y[near] + slope * (np.log(crystal.coordination) - x[near]))))


def _distances(symbol: str) -> dict[str, float]:
    try:
        crystals = _shipped().crystals_of(symbol)
    except ReferenceDataError:
        return {}
    return {c.prototype: c.structure.neighbour_distance(c.volume) for c in crystals}


def _radius(symbol: str) -> float:
    return BOHR * max(element(symbol).covalent_radius, 1.0)
