"""The third-order Birch-Murnaghan equation of state.

With eta = (V0/V)**(2/3):  E(V) = E0 + 9 V0 B0 / 16 * [(eta - 1)**3 B0' + (eta - 1)**2 (6 - 4 eta)].

F. Birch, Phys. Rev. 71, 809 (1947). Any consistent units; in this package Angstrom^3/atom, eV/atom, eV/Angstrom^3.
Arguments broadcast against each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def birch_murnaghan(volumes: ArrayLike, e0: ArrayLike, v0: ArrayLike, b0: ArrayLike, b0_prime: ArrayLike) -> Array:
    """Energy at each volume; shape is that of the broadcast arguments."""
    volume, v0, b0 = (np.asarray(a, dtype=np.float64) for a in (volumes, v0, b0))
    eta = np.cbrt(v0 / volume) ** 2
    strain = eta - 1.0
    energy = np.asarray(e0) + 9.0 / 16.0 * v0 * b0 * strain**2 * (strain * np.asarray(b0_prime) + 6.0 - 4.0 * eta)
    return np.asarray(energy, dtype=np.float64)


def birch_murnaghan_derivatives(
    volumes: ArrayLike, v0: ArrayLike, b0: ArrayLike, b0_prime: ArrayLike
) -> tuple[Array, Array]:
    """First and second derivative of the energy by volume: minus the pressure, and the bulk modulus over V."""
    volume, v0, b0, b0_prime = (np.asarray(a, dtype=np.float64) for a in (volumes, v0, b0, b0_prime))
    eta = np.cbrt(v0 / volume) ** 2
    strain = eta - 1.0
    scale = 9.0 / 16.0 * v0 * b0
    inner = 3.0 * strain * b0_prime + 16.0 - 12.0 * eta
    by_eta = scale * strain * inner
    by_eta2 = scale * (inner + strain * (3.0 * b0_prime - 12.0))
    eta1 = -2.0 / 3.0 * eta / volume
    eta2 = 10.0 / 9.0 * eta / volume**2
    return by_eta * eta1, by_eta2 * eta1**2 + by_eta * eta2
