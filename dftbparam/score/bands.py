r"""Band structures against a reference, state by state.

**Which band is which.** Bands are matched by counting electrons, from the highest occupied one downwards and upwards. A
reference may hold semicore electrons that DFTB has not (12 in titanium against 4): its (N_ref - N_dftb)/2 lowest bands
are skipped; where DFTB has more, its own lowest bands are. At every k-point sorted levels are compared, so that bands
that cross in one and not in the other need no tracking. The number of shells plays no part: what bands both have is
compared, and reference bands near the Fermi level that a small basis lacks are counted in ``n_missing``.

**Weights** depend on the reference alone, so that no set can improve its figure by moving its own bands out of sight. d
is the distance of a reference level from the edge of the occupied or empty states: below the valence band maximum or
above the conduction band minimum in an insulator, from the Fermi level in a metal. (Where in a gap a program puts the
Fermi level is a matter of convention and of smearing; the edges are not.) States with d of at most `NEAR` = 5 eV make
``rms_near``; all states with the weight w = exp(-d^2 / (2 `WIDTH`^2)), `WIDTH` = 3 eV, make ``rms``: 1 at the edges, a
quarter at 5 eV, a thousandth at 11 eV.

**Alignment.** Energy zeros of the two mean nothing to each other. In a metal both are put at their Fermi levels: that
is where experiment counts from, and a d band at the wrong depth has to show with all its states. (A fitted constant
would follow copper's five d bands, and leave the error to the one band that crosses the Fermi level.) Where the
reference has a gap, the Fermi level in it is a matter of convention, and alignment at the valence band maximum would
let a single state decide; so the constant that minimises the weighted square error is taken out there, the weighted
mean of the differences, and reported as ``shift``. Which of the two applies depends on the reference alone: there is no
jump in a search where a trial turns from an insulator into a metal.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError
from dftbparam.reference import BandReference

Array = NDArray[np.float64]

NEAR: Final = 5.0
"""eV from the Fermi level or the band edges: what chemistry and transport see, and a valence basis can describe."""

WIDTH: Final = 3.0
"""eV, standard deviation of the smooth weight: high empty states, which no valence basis has right, must not decide."""

ELECTRON_TOLERANCE: Final = 1e-6
"""Electrons; sums of occupations read from files are not exact."""


class BandScore(BaseModel):
    """One band structure against its reference; eV throughout.

    Attributes
    ----------
    crystal
        Name of the crystal, as in `CrystalReference.name`.
    volume
        Angstrom^3/atom at which both were computed.
    rms_near
        Root mean square error of the states within `NEAR` of the Fermi level or the band edges.
    rms
        Root of the weighted mean square error of all states compared, with the smooth weight of the module.
    mean_abs_near, max_abs_near
        Mean and largest magnitude of the errors that ``rms_near`` is made of.
    mean
        Weighted mean of the errors, signed: below 0 where a metal's bands lie too deep under its Fermi level. 0 in
        insulators, where it is taken out.
    per_band
        Root mean square error over k of each band compared, the lowest first.
    shift
        Constant taken out of the errors, of levels counted from both Fermi levels; 0 in metals. In insulators it says
        no more than where in the gap the two put their Fermi levels.
    gap, reference_gap
        Fundamental gap along the path, 0 for a metal; None where no empty band is known.
    gap_error
        Difference of the two; None where one is.
    n_bands
        Bands compared.
    n_points
        k-points.
    n_near
        States behind ``rms_near``.
    n_missing
        Reference bands that reach into the window of ``rms_near`` and that the basis does not have.
    n_skipped
        Deep bands of the reference left out because DFTB has them in the core; negative: bands of DFTB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crystal: str
    volume: float
    rms_near: float
    rms: float
    mean_abs_near: float
    max_abs_near: float
    mean: float
    per_band: tuple[float, ...]
    shift: float
    gap: float | None
    reference_gap: float | None
    gap_error: float | None
    n_bands: int
    n_points: int
    n_near: int
    n_missing: int
    n_skipped: int


class GapScore(BaseModel):
    """Fundamental gap along the path of one band structure, eV, 0 for a metal; ``error`` is ours minus the reference's.

    A path through points of high symmetry may miss the ends of a gap; both sides then miss them alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crystal: str
    gap: float
    reference_gap: float
    error: float


def band_gap(energies: ArrayLike, electrons: float) -> float | None:
    """Fundamental gap of bands (k, n), ascending, that hold ``electrons`` per cell; in the unit of ``energies``.

    Returns
    -------
    0 for a metal: bands that overlap, or a number of electrons that fills no whole number of bands. None where all
    bands listed are filled, so that the lowest empty one is not known.
    """
    levels = np.asarray(energies, dtype=np.float64)
    filled = round(electrons / 2.0)
    if abs(electrons - 2.0 * filled) > ELECTRON_TOLERANCE:
        return 0.0
    if filled >= levels.shape[1]:
        return None
    return max(0.0, float(levels[:, filled].min() - levels[:, filled - 1].max()))


def band_edges(reference: BandReference) -> tuple[float, float] | None:
    """Edges (low, high) of the occupied and of the empty states of a reference, eV on its scale; None for a metal.

    A metal is also what has its Fermi level in a band although the path shows a gap: it misses the overlap. Where all
    bands listed are filled the empty ones begin at 0 or above; only the lower edge is known then.
    """
    gap = band_gap(reference.array, reference.electrons)
    if gap is not None and gap <= 0.0:
        return None
    filled = round(reference.electrons / 2.0)
    low = float(reference.array[:, filled - 1].max())
    high = 0.0 if gap is None else float(reference.array[:, filled].min())
    return (low, high) if low <= 0.0 <= high else None


def skipped_bands(reference: BandReference, electrons: float) -> int:
    """Deep bands of the reference that a basis with ``electrons`` per cell lacks; negative where it has more.

    Raises
    ------
    InputError
        The numbers of electrons differ by something else than pairs: one of the two has a shell in the core that is
        partly filled, and no counting says which band is which.
    """
    difference = reference.electrons - electrons
    skipped = round(difference / 2.0) if np.isfinite(electrons) else 0
    if not electrons > 0.0 or not abs(difference - 2.0 * skipped) <= ELECTRON_TOLERANCE:
        raise InputError(
            f"{reference.name}: the reference bands hold {reference.electrons:g} electrons per cell, DFTB's "
            f"{electrons:g}; they can be matched only where the difference is an even whole number",
            crystal=reference.name,
            reference_electrons=reference.electrons,
            electrons=electrons,
        )
    return skipped


class BandTarget:
    """What a reference band structure asks of bands that hold a given number of electrons; made once, called often.

    Parameters
    ----------
    reference
        The reference.
    electrons
        Electrons per cell of the bands to compare: the valence electrons of the tables.

    Raises
    ------
    InputError
        See `skipped_bands`.
    """

    def __init__(self, reference: BandReference, electrons: float) -> None:
        self.reference = reference
        self.electrons = float(electrons)
        self.skipped = skipped_bands(reference, electrons)
        self.levels = reference.array[:, max(self.skipped, 0) :]
        self.gap = band_gap(reference.array, reference.electrons)
        edges = band_edges(reference)
        self.metal = edges is None
        low, high = edges or (0.0, 0.0)
        distance = np.maximum(np.maximum(low - self.levels, self.levels - high), 0.0)
        self.near: NDArray[np.bool_] = distance <= NEAR
        self.weights: Array = np.exp(-0.5 * (distance / WIDTH) ** 2)

    def compare(self, energies: ArrayLike, fermi: float) -> BandScore:
        """Score bands (k, n), eV, at the reference's points, with their Fermi level, eV.

        Raises
        ------
        InputError
            A shape that does not fit, numbers that are not finite, fewer bands than the electrons fill, or no band of
            the two in the window.
        """
        bands = np.asarray(energies, dtype=np.float64)
        name, points = self.reference.name, len(self.levels)
        if bands.ndim != 2 or bands.shape[0] != points or not bands.shape[1]:
            raise InputError(f"{name}: bands of shape {bands.shape}; right would be ({points}, n), one row a k-point")
        if not (np.isfinite(bands).all() and np.isfinite(fermi)):
            raise InputError(f"{name}: bands or Fermi level ({fermi}) are not finite numbers")
        if 2 * bands.shape[1] < self.electrons - ELECTRON_TOLERANCE:
            raise InputError(f"{name}: {self.electrons:g} electrons do not fit into {bands.shape[1]} bands")
        bands = np.sort(bands, axis=1)
        gap = band_gap(bands, self.electrons)
        compared = bands[:, max(-self.skipped, 0) :] - fermi
        n = min(compared.shape[1], self.levels.shape[1])
        difference = compared[:, :n] - self.levels[:, :n]
        weights, near = self.weights[:, :n], self.near[:, :n]
        total = weights.sum()
        if not near.any():
            raise InputError(f"{name}: no band that both have lies within {NEAR:g} eV of the Fermi level")
        mean = float((weights * difference).sum() / total)
        shift = 0.0 if self.metal else mean
        error = difference - shift
        square = error**2
        close = np.abs(error[near])
        return BandScore(
            crystal=name,
            volume=self.reference.volume,
            rms_near=float(np.sqrt(np.mean(close**2))),
            rms=float(np.sqrt((weights * square).sum() / total)),
            mean_abs_near=float(close.mean()),
            max_abs_near=float(close.max()),
            mean=mean - shift,
            per_band=tuple(np.sqrt(square.mean(axis=0)).tolist()),
            shift=shift,
            gap=gap,
            reference_gap=self.gap,
            gap_error=None if gap is None or self.gap is None else gap - self.gap,
            n_bands=n,
            n_points=points,
            n_near=len(close),
            n_missing=int(self.near[:, n:].any(axis=0).sum()),
            n_skipped=self.skipped,
        )


def compare_bands(reference: BandReference, energies: ArrayLike, fermi: float, electrons: float) -> BandScore:
    """Score bands once; see `BandTarget`, which saves the preparation where the same reference comes again.

    Parameters
    ----------
    reference
        The reference.
    energies
        (k, n), eV, at the reference's k-points; any zero.
    fermi
        Fermi level, eV, of the same zero.
    electrons
        Electrons per cell in these bands.

    Raises
    ------
    InputError
        See `BandTarget` and `BandTarget.compare`.
    """
    return BandTarget(reference, electrons).compare(energies, fermi)
