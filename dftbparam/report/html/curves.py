"""E(V) curves of a result: DFT, ours, the published set, on one zero.

Each is the third-order Birch-Murnaghan curve of a fit that the report card holds (`dftbparam.reference.eos`); no engine
runs here. Energies are relative to the crystal that is most stable in the reference, on every side, as in
`dftbparam.report.crystals.card_curves`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.reference import birch_murnaghan
from dftbparam.report.html.collect import Result
from dftbparam.report.html.records import StoredCrystal

Array = NDArray[np.float64]

PLOTTED: Final = (0.85, 1.15)
"""Volumes that are shown at least, relative to the reference."""

SCANNED: Final = (0.6, 1.6)
"""Volumes that are shown at most: the window in which cards look for minima."""

MARGIN: Final = 0.08
"""Of the volume: how far a plot goes on beyond the outermost minimum."""

REACH: Final = 0.15
"""Of its own volume: how far from its minimum a fit is drawn. Fits run over 6 %; far beyond, their curve is fiction."""

POINTS: Final = 49
"""Volumes per crystal: smooth on a screen, and 96 elements with five crystals each stay under a megabyte."""


@dataclass(frozen=True)
class CrystalCurves:
    """Curves of one crystal.

    ``volumes`` (n,) in Angstrom^3/atom; ``dft``, ``ours``, ``published`` (n,) in eV/atom, NaN beyond `REACH` of the
    minimum, None where the set has no minimum or does not have the crystal.
    """

    name: str
    volumes: Array
    dft: Array
    ours: Array | None
    published: Array | None


def energy_volume(result: Result) -> list[CrystalCurves]:
    """Make the curves of every crystal of a result's card."""
    found = []
    for crystal in result.ours.crystals:
        other = None if result.published is None else result.published.crystal(crystal.prototype)
        volumes = _volumes(crystal, other)
        dft = birch_murnaghan(
            volumes,
            crystal.reference_phase_energy,
            crystal.reference_volume,
            crystal.reference_bulk_modulus,
            crystal.reference_bulk_modulus_derivative,
        )
        published = None if other is None else _fitted(other, volumes)
        found.append(CrystalCurves(crystal.prototype, volumes, dft, _fitted(crystal, volumes), published))
    return found


def _volumes(*crystals: StoredCrystal | None) -> Array:
    """Volumes (n,) that show every minimum, Angstrom^3/atom."""
    known = [crystal for crystal in crystals if crystal is not None]
    reference = known[0].reference_volume
    minima = [crystal.volume / reference for crystal in known if crystal.volume is not None]
    low = max(min(PLOTTED[0], (1.0 - MARGIN) * min(minima, default=1.0)), SCANNED[0])
    high = min(max(PLOTTED[1], (1.0 + MARGIN) * max(minima, default=1.0)), SCANNED[1])
    return np.asarray(reference * np.linspace(low, high, POINTS))


def _fitted(crystal: StoredCrystal, volumes: Array) -> Array | None:
    """Energies (n,) of a set's fit, eV/atom; None where it has no minimum."""
    v0, b0, b0_prime = crystal.volume, crystal.bulk_modulus, crystal.bulk_modulus_derivative
    if v0 is None or b0 is None or b0_prime is None or v0 <= 0.0:
        return None
    # Without the stable crystal's minimum there is no zero: the curve is put at the reference's minimum.
    zero = crystal.reference_phase_energy if crystal.phase_energy is None else crystal.phase_energy
    energies = birch_murnaghan(volumes, zero, v0, b0, b0_prime)
    return np.where(np.abs(volumes / v0 - 1.0) <= REACH, energies, np.nan)
