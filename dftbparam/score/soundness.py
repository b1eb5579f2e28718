"""Soundness of an E(V) curve: is its minimum the lowest point, or is there a deeper well to fall into."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError

LOW: Final = 0.6
"""Lower end of the window, relative to the reference volume. The window is part of the fixed report card."""

HIGH: Final = 1.6
"""Upper end of the window, relative to the reference volume."""

TOLERANCE: Final = 0.001
"""eV/atom. A point has to be lower than the minimum by more than this, which is above the noise of a scan."""

OWN_WELL: Final = 0.06
"""Points this close to the minimum (relative volume) are its own well, lower or not: the fit's e0 has an error too."""


class DeeperWell(BaseModel):
    """The lowest scan point below the minimum.

    ``relative_volume`` is in units of the reference volume, ``depth`` in eV/atom below the minimum, positive.
    ``at_edge``: it is the outermost point of the window, so the curve may fall on beyond it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    relative_volume: float
    depth: float
    at_edge: bool


class Soundness(BaseModel):
    """Verdict on one curve; ``reason`` is empty where it is sound."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sound: bool
    reason: str = ""
    deeper_well: DeeperWell | None = None


def soundness(
    volumes: ArrayLike,
    energies: ArrayLike,
    v0: float,
    e0: float,
    reference_volume: float,
    low: float = LOW,
    high: float = HIGH,
    tolerance: float = TOLERANCE,
) -> Soundness:
    """Judge the scan of a curve with its minimum at (v0, e0).

    Any scan point in the window below e0 by more than ``tolerance`` is a deeper well, unless it is within 6 % of v0;
    a curve that falls towards an end of the window counts by its last point. A point without an energy makes the
    verdict unsound too, because it cannot be vouched for.

    Parameters
    ----------
    volumes, energies
        (n,), Angstrom^3/atom and eV/atom, any order; NaN where a calculation failed.
    low, high
        Window, relative to ``reference_volume``; the scan has to reach both ends.

    Raises
    ------
    InputError
        The scan does not reach the ends of the window: no verdict is possible.
    """
    v, e = np.asarray(volumes, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if v.ndim != 1 or v.shape != e.shape or not len(v):
        raise InputError(f"a scan needs as many volumes as energies, got shapes {v.shape} and {e.shape}")
    relative = v / reference_volume
    slack = 1e-3  # of rounding and of scans written with few digits
    if not (relative.min() <= low + slack and relative.max() >= high - slack):
        raise InputError(
            f"the scan spans relative volumes {relative.min():.3f} to {relative.max():.3f}; "
            f"a verdict needs {low:g} to {high:g}"
        )
    window = (relative >= low - slack) & (relative <= high + slack)
    relative, v, e = relative[window], v[window], e[window]
    failed = np.sort(relative[~np.isfinite(e)])
    lower = np.isfinite(e) & (e < e0 - tolerance) & (np.abs(v / v0 - 1.0) > OWN_WELL)
    if lower.any():
        i = int(np.argmin(np.where(lower, e, np.inf)))
        well = DeeperWell(
            relative_volume=float(relative[i]),
            depth=float(e0 - e[i]),
            at_edge=bool(relative[i] in (relative.min(), relative.max())),
        )
        return Soundness(
            sound=False,
            reason=f"deeper by {well.depth:.3f} eV/atom at relative volume {well.relative_volume:.3f}",
            deeper_well=well,
        )
    if len(failed):
        listed = ", ".join(f"{x:.3f}" for x in failed[:5]) + (" ..." if len(failed) > 5 else "")
        return Soundness(sound=False, reason=f"no energy at relative volume {listed}")
    return Soundness(sound=True)
