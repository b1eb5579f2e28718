"""Reference records: what DFT says about a crystal. Angstrom^3/atom, eV/atom, eV/Angstrom^3."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dftbparam.errors import InputError, ReferenceDataError
from dftbparam.reference.eos import birch_murnaghan
from dftbparam.reference.prototypes import Prototype, build, mesh, prototype

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Crystal(_Record):
    """Which crystal: a prototype and the elements in it.

    Attributes
    ----------
    symbol, partner
        The element; in a binary the first one of its formula, and the second.
    prototype
        See `dftbparam.reference.prototypes`.
    """

    symbol: str
    prototype: str
    partner: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            prototype(self.prototype, self.symbol).species(self.symbol, self.partner)
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    @property
    def structure(self) -> Prototype:
        """The prototype itself."""
        return prototype(self.prototype, self.symbol)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The one or two elements."""
        return (self.symbol,) if self.partner is None else (self.symbol, self.partner)

    @property
    def compound(self) -> str:
        """The element, ``Si``, or the two of a binary, ``Mg-O``."""
        return "-".join(self.symbols)

    @property
    def name(self) -> str:
        """What tells the crystals of one element's fit apart: ``diamond``, ``Mg-O rocksalt``."""
        return self.prototype if self.partner is None else f"{self.compound} {self.prototype}"

    def atoms(self, volume: float) -> Atoms:
        """Primitive cell at a volume in Angstrom^3/atom; see `dftbparam.reference.prototypes.build`."""
        return build(self.prototype, self.symbol, volume, self.partner)

    def mesh(self, volume: float, density: float) -> tuple[int, int, int]:
        """k-point divisions for ``density`` points per 2 pi/Angstrom; one where there is no period."""
        return mesh(self.atoms(volume).cell.array, density, self.structure.periodic)


class CrystalReference(_Crystal):
    """Equation of state of one crystal, elemental or binary.

    Attributes
    ----------
    volume
        V0, Angstrom^3/atom; of layers, chains and dimers the cube of the nearest-neighbour distance.
    bulk_modulus
        B0, eV/Angstrom^3.
    bulk_modulus_derivative
        B0' = dB/dP at zero pressure.
    energy
        E0, eV/atom, relative to the zero that the data set states.
    energy_spread
        Uncertainty of ``energy``, eV/atom: the median absolute deviation between codes.
    n_codes
        Number of DFT codes behind ``energy``.
    """

    volume: float = Field(gt=0.0)
    bulk_modulus: float = Field(gt=0.0)
    bulk_modulus_derivative: float
    energy: float
    energy_spread: float = Field(default=0.0, ge=0.0)
    n_codes: int = Field(default=1, ge=1)

    def energies(self, volumes: ArrayLike) -> Array:
        """Birch-Murnaghan energies in eV/atom at volumes in Angstrom^3/atom, any shape."""
        return birch_murnaghan(volumes, self.energy, self.volume, self.bulk_modulus, self.bulk_modulus_derivative)


class BandReference(_Crystal):
    """Band structure of one crystal along a path.

    Attributes
    ----------
    volume
        Angstrom^3/atom.
    points
        (k, 3), in units of the reciprocal vectors of the cell that `atoms` builds.
    energies
        (k, n), eV, ascending, relative to the Fermi level; in an insulator the highest occupied level lies below 0.
    electrons
        Electrons per cell in the bands listed, all from the lowest one on. Half of it, rounded down, is the number of
        filled bands of an insulator.
    smearing
        Width of the Fermi-Dirac distribution behind the Fermi level, eV.
    labels
        Names of special points by index into ``points``; ``breaks`` are indices at which the path starts anew.
    """

    volume: float = Field(gt=0.0)
    points: tuple[tuple[float, float, float], ...] = Field(min_length=1)
    energies: tuple[tuple[float, ...], ...]
    electrons: float = Field(gt=0.0)
    smearing: float = Field(gt=0.0)
    labels: dict[int, str] = Field(default_factory=dict)
    breaks: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if len(self.energies) != len(self.points):
            raise ValueError(f"{len(self.energies)} rows of energies for {len(self.points)} points")
        lengths = {len(row) for row in self.energies}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError("every point must have the same number of bands, at least one")
        if 2 * lengths.pop() < self.electrons:
            raise ValueError(f"{self.electrons} electrons do not fit into the bands listed")
        if (np.diff(self.array, axis=1) < 0.0).any():
            raise ValueError("energies of a point must ascend")
        return self

    @cached_property
    def array(self) -> Array:
        """Energies (k, n), eV."""
        return np.array(self.energies)

    @property
    def occupations(self) -> Array:
        """Electrons (k, n) per band, 0 to 2, by the Fermi-Dirac distribution of the calculation."""
        return np.asarray(2.0 / (1.0 + np.exp(np.clip(self.array / self.smearing, -60.0, 60.0))))

    @property
    def gap(self) -> float:
        """Fundamental gap along the path, eV; 0 for a metal."""
        filled = round(self.electrons / 2.0)
        if abs(self.electrons - 2.0 * filled) > 1e-6 or filled >= self.array.shape[1]:
            return 0.0
        return max(0.0, float(self.array[:, filled].min() - self.array[:, filled - 1].max()))


class PointsReference(_Crystal):
    """The computed E(V) points of one crystal, in ascending volume.

    Attributes
    ----------
    volumes
        (n,), Angstrom^3/atom, as `CrystalReference.volume`.
    energies
        (n,), eV/atom, with the zero of the data set.
    energies_free
        (n,), eV/atom, Mermin free energies (with the electronic entropy); None where they were not stated.
    """

    volumes: tuple[float, ...] = Field(min_length=1)
    energies: tuple[float, ...]
    energies_free: tuple[float | None, ...] = ()

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(self.energies) != len(self.volumes) or len(self.energies_free) not in (0, len(self.volumes)):
            raise ValueError("as many energies as volumes are needed")
        if not all(a <= b for a, b in zip(self.volumes, self.volumes[1:], strict=False)) or self.volumes[0] <= 0.0:
            raise ValueError("volumes must be positive and ascend")
        return self


class AtomReference(_Record):
    """An isolated atom; the energy, eV, has the zero of the data set's crystals."""

    symbol: str
    energy: float
    magnetic_moment: float = 0.0
    status: str = "ok"


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


class DataFile(_Record):
    """What dataset.toml says about a data file: its SHA-256, and how many rows, bands or frames it holds."""

    sha256: str
    rows: int = Field(ge=0)


class Dataset(_Record):
    """A named set of crystals with its provenance.

    Attributes
    ----------
    settings
        How it was computed, as its makers state it.
    offsets
        Per element, eV/atom: what must be subtracted from ``energy`` to get energies relative to these zeros (usually
        isolated atoms, as ``energy_zero`` says). Needed wherever energies of different elements meet.
    bands, atoms
        From the optional files ``bands.jsonl`` and ``atoms.csv``.
    frames
        Structures in the optional file ``frames.extxyz``; `load_frames` reads them. A set without crystals has some.
    files
        Checksums of the data files as their makers stated them; ``references check`` compares.
    checksum
        SHA-256 of the data files, so that a result can name the very numbers it was made from.
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
    settings: Mapping[str, Any] = Field(default_factory=dict)
    offsets: Mapping[str, float] = Field(default_factory=dict)
    bands: tuple[BandReference, ...] = ()
    atoms: tuple[AtomReference, ...] = ()
    frames: int = Field(default=0, ge=0)
    files: Mapping[str, DataFile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.crystals and not self.frames:
            raise ValueError("at least one crystal, or structures with energies in frames.extxyz, are needed")
        return self

    @property
    def symbols(self) -> tuple[str, ...]:
        """Elements that have a crystal of their own, in the order of the file."""
        return tuple(dict.fromkeys(crystal.symbol for crystal in self.crystals if crystal.partner is None))

    @property
    def compounds(self) -> tuple[str, ...]:
        """Binaries, ``Mg-O``, in the order of the file."""
        return tuple(dict.fromkeys(crystal.compound for crystal in self.crystals if crystal.partner is not None))

    def binaries_of(self, symbol: str) -> tuple[CrystalReference, ...]:
        """Binary crystals that hold the element; empty where there are none."""
        return tuple(c for c in self.crystals if c.partner is not None and symbol in c.symbols)

    def crystals_named(self, compound: str) -> tuple[CrystalReference, ...]:
        """Crystals of an element, ``Si``, or a binary, ``Mg-O`` (in either order); `ReferenceDataError` if none."""
        names = (compound, "-".join(reversed(compound.split("-"))))
        found = tuple(c for c in self.crystals if c.compound in names)
        if not found:
            raise ReferenceDataError(
                f"reference set {self.name!r} has no crystal of {compound!r}; it has: {self.alternatives(compound)}",
                symbol=compound,
                dataset=self.name,
            )
        return found

    def bands_of(self, symbol: str, partner: str | None = None) -> tuple[BandReference, ...]:
        """Band structures of an element, or of a binary; empty where there are none."""
        return tuple(b for b in self.bands if b.symbol == symbol and b.partner == partner)

    def cutoff(self, compound: str) -> float | None:
        """Plane-wave cutoff, eV, of an element's or compound's total energies; None where the set does not state it."""
        cutoffs = self.settings.get("cutoffs")
        value = cutoffs.get(compound) if isinstance(cutoffs, Mapping) else None
        return None if value is None else float(value)

    def offset(self, symbol: str) -> float:
        """Energy zero of an element, eV/atom; `ReferenceDataError` where the set does not state it."""
        try:
            return self.offsets[symbol]
        except KeyError:
            known = " ".join(self.offsets) or "none"
            raise ReferenceDataError(
                f"reference set {self.name!r} states no energy offset of {symbol}, and none is guessed: energies of "
                f"different elements cannot be compared; it has: {known}",
                symbol=symbol,
                dataset=self.name,
            ) from None

    def crystals_of(self, symbol: str) -> tuple[CrystalReference, ...]:
        """Crystals of one element; `ReferenceDataError` says what the set has where there are none."""
        found = tuple(c for c in self.crystals if c.symbol == symbol and c.partner is None)
        if not found:
            raise ReferenceDataError(
                f"reference set {self.name!r} has no element {symbol!r}; it has: {self.alternatives(symbol)}",
                symbol=symbol,
                dataset=self.name,
            )
        return found

    def alternatives(self, compound: str) -> str:
        """What the set has instead of an element, ``Si``, or a binary, ``Mg-O``; for messages."""
        if "-" in compound:
            return f"the binaries {' '.join(self.compounds)}" if self.compounds else "no binaries"
        if binaries := tuple(dict.fromkeys(c.compound for c in self.binaries_of(compound))):
            return f"binaries of it, {' '.join(binaries)}"
        return " ".join((*self.symbols, *self.compounds)) or "no E(V) curves"

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
