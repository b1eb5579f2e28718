"""How far an E(V) curve is from a reference: the Delta gauge of Lejaeghere et al., Science 351, aad3000 (2016)."""

from __future__ import annotations

from typing import Final

import numpy as np

from dftbparam.reference import CrystalReference, EosFit, birch_murnaghan

DELTA_RANGE: Final = 0.06
"""Half width of the volume interval of the Delta gauge, relative to the mean V0 (Lejaeghere et al. 2016)."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def delta_gauge(fit: EosFit, reference: CrystalReference) -> float:
    """Root mean square energy difference of two curves in meV/atom, the Delta of Lejaeghere et al. (2016).

    The curves are aligned at their minima and compared within 6 % of their mean V0.
    """
    middle = 0.5 * (fit.v0 + reference.volume)
    volumes = middle * (1.0 + DELTA_RANGE * _NODES)
    ours = birch_murnaghan(volumes, 0.0, fit.v0, fit.b0, fit.b0_prime)
    theirs = birch_murnaghan(volumes, 0.0, reference.volume, reference.bulk_modulus, reference.bulk_modulus_derivative)
    return float(1000.0 * np.sqrt(0.5 * np.sum(_WEIGHTS * (ours - theirs) ** 2)))
