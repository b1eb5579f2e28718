"""Which volumes an E(V) curve still needs.

Volumes lie on a grid V_k = V_guess * 1.02^k, so that nothing is computed twice when the guess turns out to be off. The
search goes down in strides of three grid points until the lowest energy has higher ones on both sides, then fills the
seven points around the minimum, k* - 3 to k* + 3: 0.94 to 1.06 of the minimum's volume, the range of the Delta project
(Lejaeghere et al., Science 351, aad3000 (2016)).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import numpy as np

from dftbparam.errors import NoMinimum
from dftbparam.reference.eos_fit import EosFit, fit_birch_murnaghan

RATIO: Final = 1.02
"""Of neighbouring volumes on the grid."""

STRIDE: Final = 3
"""Grid points between energies while the minimum is not bracketed."""

HALF_WINDOW: Final = 3
"""Grid points on either side of the minimum in a finished curve."""

FARTHEST: Final = 57
"""Grid points from the guess at which the search gives up: a third or three times its volume."""


class CurveState(NamedTuple):
    """What a curve needs next.

    ``steps``: grid points to compute now. ``status``: ``searching``; ``done`` (``window`` are its grid points);
    ``no-minimum``: the energy falls to the end of the range; ``failed``: points around the minimum have no energy.
    """

    status: Literal["searching", "done", "no-minimum", "failed"]
    steps: tuple[int, ...] = ()
    window: tuple[int, ...] = ()


def next_steps(energies: Mapping[int, float | None]) -> CurveState:
    """Say what is missing.

    Parameters
    ----------
    energies
        eV by grid point; None where the calculation failed.
    """
    first = (-STRIDE, 0, STRIDE)
    if missing := tuple(k for k in first if k not in energies):
        return CurveState("searching", missing)
    known = {k: e for k, e in energies.items() if e is not None}
    if len(known) < 2:
        return CurveState("failed")
    lowest = min(known, key=lambda k: (known[k], abs(k)))
    below = [k for k in known if k < lowest]
    above = [k for k in known if k > lowest]
    for side, direction in ((below, -1), (above, 1)):
        if side:
            continue
        # Beyond a point that failed the search goes on once, not for ever.
        tried = [k for k in energies if (k - lowest) * direction > 0]
        if len(tried) >= 2:
            return CurveState("failed")
        step = lowest + direction * STRIDE * (len(tried) + 1)
        if abs(step) > FARTHEST:
            return CurveState("no-minimum")
        return CurveState("searching", (step,))
    left, right = max(below), min(above)
    # Parabola through the lowest point and its neighbours.
    k = np.array([left, lowest, right], dtype=float)
    e = np.array([known[left], known[lowest], known[right]]) - known[lowest]
    a, b, _ = np.polyfit(k - lowest, e, 2)
    shift = -b / (2.0 * a) if a > 0.0 else 0.0
    centre = lowest + round(float(np.clip(shift, (left - lowest) / 2.0, (right - lowest) / 2.0)))
    window = tuple(range(centre - HALF_WINDOW, centre + HALF_WINDOW + 1))
    if missing := tuple(k for k in window if k not in energies):
        return CurveState("searching", missing)
    good = tuple(k for k in window if energies[k] is not None)
    if len(good) < len(window) - 1:
        return CurveState("failed")
    return CurveState("done", window=good)


class FittedCurve(NamedTuple):
    """Where a curve stands: its state, the fit where it is done and has a minimum, and else the reason."""

    state: CurveState
    fit: EosFit | None
    reason: str


def fit_curve(volumes: Mapping[int, float], energies: Mapping[int, float | None]) -> FittedCurve:
    """Fit a curve where it is complete.

    Parameters
    ----------
    volumes, energies
        By grid point: Angstrom^3/atom, and eV/atom or None where the calculation failed.
    """
    state = next_steps(energies)
    reasons = {
        "searching": "calculations are missing",
        "no-minimum": "the energy falls to the end of the range: no minimum",
        "failed": "calculations around the minimum failed",
    }
    if state.status != "done":
        return FittedCurve(state, None, reasons[state.status])
    window = [(volumes[k], e) for k in state.window if (e := energies[k]) is not None]
    try:
        return FittedCurve(state, fit_birch_murnaghan(*zip(*window, strict=True)), "")
    except NoMinimum as error:
        return FittedCurve(state, None, error.message)
