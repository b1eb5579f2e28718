"""Forces and stress of displaced and strained cells against the reference.

Errors are taken over all components of all structures together, so that a large structure counts by its atoms. Beside
each error stands the root mean square of what it is an error of: 0.1 eV/Angstrom is little where forces are large. The
correlation (Pearson's) tells a wrong size from a wrong direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError
from dftbparam.units import GPA_PER_EV_PER_A3

Array = NDArray[np.float64]


class _Score(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ForceScore(_Score):
    """Forces, eV/Angstrom, over the components of all atoms of all structures.

    Attributes
    ----------
    rms, mean_abs, max_abs
        Of the errors.
    reference_rms
        Root mean square of the reference's forces.
    correlation
        Pearson's; None where all forces of one side are equal.
    n_frames, n_components
        Structures and components compared.
    n_failed
        Structures left out because the calculation failed.
    """

    rms: float
    mean_abs: float
    max_abs: float
    reference_rms: float
    correlation: float | None
    n_frames: int
    n_components: int
    n_failed: int = 0


class StressScore(_Score):
    """Stress, eV/Angstrom^3, over the nine components of all structures; positive under tension.

    Attributes
    ----------
    rms, max_abs
        Of the errors; ``rms_GPa`` is the same in GPa.
    deviatoric_rms
        Root mean square error of the stress without its trace: what is left when a wrong volume is forgiven.
    mean_pressure_error
        Mean error of the pressure -tr(stress)/3; positive where ours would like to expand more.
    reference_rms
        Root mean square of the reference's stress.
    correlation
        Pearson's; None where all components of one side are equal.
    n_frames, n_failed
        Structures compared, and left out because the calculation failed.
    """

    rms: float
    rms_GPa: float
    max_abs: float
    deviatoric_rms: float
    mean_pressure_error: float
    reference_rms: float
    correlation: float | None
    n_frames: int
    n_failed: int = 0


def compare_forces(
    reference: Sequence[ArrayLike], computed: Sequence[ArrayLike], n_failed: int = 0
) -> ForceScore | None:
    """Score forces, one (n, 3) array a structure, eV/Angstrom; None without any structure.

    Raises
    ------
    InputError
        Shapes that do not fit, or numbers that are not finite.
    """
    theirs, ours = _flat(reference, computed, "forces", (-1, 3))
    if not len(theirs):
        return None
    error = ours - theirs
    return ForceScore(
        rms=_rms(error),
        mean_abs=float(np.abs(error).mean()),
        max_abs=float(np.abs(error).max()),
        reference_rms=_rms(theirs),
        correlation=_correlation(theirs, ours),
        n_frames=len(reference),
        n_components=len(error),
        n_failed=n_failed,
    )


def compare_stress(
    reference: Sequence[ArrayLike], computed: Sequence[ArrayLike], n_failed: int = 0
) -> StressScore | None:
    """Score stress tensors, one (3, 3) array a structure, eV/Angstrom^3; None without any structure.

    Raises
    ------
    InputError
        Shapes that do not fit, or numbers that are not finite.
    """
    theirs, ours = _flat(reference, computed, "stress", (3, 3))
    if not len(theirs):
        return None
    error = ours - theirs
    tensors = error.reshape(-1, 3, 3)
    mean = np.trace(tensors, axis1=1, axis2=2) / 3.0
    return StressScore(
        rms=_rms(error),
        rms_GPa=_rms(error) * GPA_PER_EV_PER_A3,
        max_abs=float(np.abs(error).max()),
        deviatoric_rms=_rms(tensors - mean[:, None, None] * np.eye(3)),
        mean_pressure_error=float(-mean.mean()),
        reference_rms=_rms(theirs),
        correlation=_correlation(theirs, ours),
        n_frames=len(reference),
        n_failed=n_failed,
    )


def _flat(
    reference: Sequence[ArrayLike], computed: Sequence[ArrayLike], what: str, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Components of all structures in one row, both sides, once they are found to fit."""
    if len(reference) != len(computed):
        raise InputError(f"{what} of {len(reference)} structures in the reference and of {len(computed)} computed")
    sides: tuple[list[Array], list[Array]] = ([], [])
    for i, pair in enumerate(zip(reference, computed, strict=True)):
        arrays = [np.asarray(side, dtype=np.float64) for side in pair]
        if arrays[0].shape != arrays[1].shape or arrays[0].ndim != 2 or arrays[0].shape[1] != 3:
            raise InputError(f"{what} of structure {i} have the shapes {arrays[0].shape} and {arrays[1].shape}")
        if shape[0] > 0 and arrays[0].shape != shape:
            raise InputError(f"{what} of structure {i} have the shape {arrays[0].shape}; right would be {shape}")
        for side, array in zip(sides, arrays, strict=True):
            if not np.isfinite(array).all():
                raise InputError(f"{what} of structure {i} are not finite numbers")
            side.append(array.ravel())
    empty: Array = np.zeros(0)
    return np.concatenate([empty, *sides[0]]), np.concatenate([empty, *sides[1]])


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _correlation(a: Array, b: Array) -> float | None:
    x, y = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    # Forces of a perfect crystal are rounding errors of zero: their correlation is one of noise.
    return float(np.clip(x @ y / norm, -1.0, 1.0)) if norm > 1e-12 * len(a) else None
