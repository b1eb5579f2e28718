"""Reference records: what DFT says about a crystal. Angstrom^3/atom, eV/atom, eV/Angstrom^3."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dftbparam.errors import InputError, ReferenceDataError
from dftbparam.reference.eos import birch_murnaghan

Array = NDArray[np.float64]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CrystalReference(_Record):
    """Equation of state of one elemental crystal.

    Attributes
    ----------
    volume
        V0, Angstrom^3/atom.
    bulk_modulus
        B0, eV/Angstrom^3.
    bulk_modulus_derivative
        B0' = dB/dP at zero pressure.
    energy
        E0, eV/atom, relative to the zero of the data set (the fcc crystal of the same element).
    energy_spread
        Uncertainty of ``energy``, eV/atom: the median absolute deviation between codes.
    n_codes
        Number of DFT codes behind ``energy``.
    """

    symbol: str
    prototype: Literal["sc", "bcc", "fcc", "diamond"]
    volume: float = Field(gt=0.0)
    bulk_modulus: float = Field(gt=0.0)
    bulk_modulus_derivative: float
    energy: float
    energy_spread: float = Field(default=0.0, ge=0.0)
    n_codes: int = Field(default=1, ge=1)

    def energies(self, volumes: ArrayLike) -> Array:
        """Birch-Murnaghan energies in eV/atom at volumes in Angstrom^3/atom, any shape."""
        return birch_murnaghan(volumes, self.energy, self.volume, self.bulk_modulus, self.bulk_modulus_derivative)


class VolumeRange(_Record):
    """Where E(V) points are generated: ``points`` equidistant relative volumes V/V0 from ``low`` to ``high``."""

    low: float = Field(default=0.94, gt=0.0)
    high: float = 1.06
    points: int = Field(default=7, ge=2)

    @model_validator(mode="after")
    def _upright(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"volume range [{self.low}, {self.high}] is upside down or empty")
        return self


class Units(_Record):
    """Units of a data file, stated so that others are refused instead of misread."""

    volume: Literal["angstrom^3/atom"]
    bulk_modulus: Literal["eV/angstrom^3"]
    energy: Literal["eV/atom"]


class Dataset(_Record):
    """A named set of crystals with its provenance.

    ``checksum`` is the SHA-256 of the data file, so that a result can name the very numbers it was made from.
    """

    name: str
    title: str
    source: str
    doi: str
    licence: str
    functional: str
    spin: Literal["none", "collinear", "spin-orbit"]
    energy_zero: str
    version: str
    units: Units
    volume_range: VolumeRange
    checksum: str
    crystals: tuple[CrystalReference, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements in the order of the file."""
        return tuple(dict.fromkeys(crystal.symbol for crystal in self.crystals))

    def crystals_of(self, symbol: str) -> tuple[CrystalReference, ...]:
        """Crystals of one element; `ReferenceDataError` says what the set has where there are none."""
        found = tuple(crystal for crystal in self.crystals if crystal.symbol == symbol)
        if not found:
            raise ReferenceDataError(
                f"reference set {self.name!r} has no element {symbol!r}; it has: {' '.join(self.symbols)}",
                symbol=symbol,
                dataset=self.name,
            )
        return found

    def stable(self, symbol: str) -> CrystalReference:
        """The crystal of an element that is lowest in energy among those of the set."""
        return min(self.crystals_of(symbol), key=lambda crystal: crystal.energy)


def e_of_v(reference: CrystalReference, low: float = 0.94, high: float = 1.06, points: int = 7) -> tuple[Array, Array]:
    """Generate E(V) points of a reference crystal.

    Returns
    -------
    volumes, energies
        Each (points,), Angstrom^3/atom and eV/atom, at equidistant relative volumes from ``low`` to ``high``.

    Raises
    ------
    InputError
        The range is upside down, not positive, or holds fewer than two points.
    """
    if not 0.0 < low < high < np.inf or points < 2:
        raise InputError(
            f"relative volumes from {low} to {high} in {points} points: right would be 0 < low < high and 2 or more "
            "points, e.g. 0.94 to 1.06 in 7",
            low=low,
            high=high,
            points=points,
        )
    volumes = reference.volume * np.linspace(low, high, points)
    return volumes, reference.energies(volumes)
