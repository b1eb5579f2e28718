"""Occupation of states: Fermi (Mermin) and Methfessel-Paxton filling.

With x = (eps - mu) / kT, per spin:

- Fermi: f = 1 / (1 + e^x), entropy -f ln f - (1 - f) ln(1 - f).
- Methfessel-Paxton of order N (Phys. Rev. B 40, 3616 (1989)): f = erfc(x)/2 + sum_{n=1..N} A_n H_{2n-1}(x) e^{-x^2},
  entropy A_N H_2N(x) e^{-x^2} / 2, A_n = (-1)^n / (n! 4^n sqrt(pi)). This entropy makes E - TS stationary, so that
  forces are its derivative. DFTB+ sums the entropy term over all n <= N, which for N >= 1 is not stationary: energies
  agree with DFTB+, Mermin free energies with this filling do not.

Like DFTB+, the level of a whole number of electrons is put in the middle of a gap if that fills them within 1e-7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from dftbparam.engine.base import Array, Settings
from dftbparam.errors import StructureError
from dftbparam.units import BOLTZMANN

MIN_WIDTH: Final = 1e-8
"""Smallest broadening in Hartree (DFTB+'s ``minTemp``): it stands for zero temperature."""

GAP_TOLERANCE: Final = 1e-7
"""Electrons by which a level in the middle of the gap may miss (DFTB+'s ``elecTolMax``)."""


@dataclass(frozen=True)
class Filling:
    """``occupations`` (n_k, n_bands), without k weights; ``level`` in Hartree; ``entropy`` is TS in Hartree.

    ``whole`` says that all states or none are filled: the level is then anything above or below them.
    """

    occupations: Array
    level: float
    entropy: float
    whole: bool = False


def fill(eigenvalues: Array, weights: Array, electrons: float, settings: Settings, *, capacity: int = 2) -> Filling:
    """Fill ``eigenvalues`` (n_k, n_bands), Hartree, with k weights (n_k,) of sum 1.

    ``capacity`` is how many electrons a state holds: 2 with both spins in one, 1 for states of one spin.
    """
    if capacity == 1:
        # one spin alone is half of what twice as many electrons make of both
        both = fill(eigenvalues, weights, 2.0 * electrons, settings)
        return Filling(0.5 * both.occupations, both.level, 0.5 * both.entropy, both.whole)
    n_bands = eigenvalues.shape[1]
    width = max(BOLTZMANN * settings.temperature, MIN_WIDTH)
    order = -1 if settings.filling == "fermi" else settings.filling_order
    if electrons > 2 * n_bands + 1e-10:
        raise StructureError(f"{electrons:g} electrons do not fit into {n_bands} orbitals: check tables and charge")
    if electrons < -1e-10:
        raise StructureError(f"a charge of {settings.charge:g} leaves {electrons:g} electrons")
    if electrons <= 1e-12:
        return Filling(np.zeros_like(eigenvalues), float(eigenvalues.min() - 1000.0 * width), 0.0, True)
    if electrons >= 2 * n_bands - 1e-10:
        return Filling(np.full_like(eigenvalues, 2.0), float(eigenvalues.max() + 1000.0 * width), 0.0, True)
    level = math.nan
    if abs(electrons - round(electrons)) < 1e-10:
        level = _middle(eigenvalues, weights, electrons)
        if abs(_count(eigenvalues, weights, level, width, order) - electrons) > GAP_TOLERANCE:
            level = math.nan
    if math.isnan(level):
        level = float(_search(eigenvalues, weights, electrons, width, order))
    occupations, entropy = _occupy(eigenvalues, weights, level, width, order)
    total = float(weights @ occupations.sum(axis=1))
    return Filling(occupations * (electrons / total), level, entropy)


def _middle(eigenvalues: Array, weights: Array, electrons: float) -> float:
    """Middle between the last state that a filling from below occupies and the next."""
    flat = eigenvalues.ravel()
    order = np.argsort(flat, kind="stable")
    filled = np.cumsum(2.0 * np.repeat(weights, eigenvalues.shape[1])[order])
    highest = int(np.searchsorted(filled, electrons - 1e-9))
    return float(0.5 * (flat[order[highest]] + flat[order[min(highest + 1, flat.size - 1)]]))


@njit(cache=True)
def _state(x: float, order: int) -> tuple[float, float]:
    """Occupation and entropy of one state."""
    if order < 0:
        if x > 40.0:
            return math.exp(-min(x, 700.0)), 0.0
        if x < -40.0:
            return 1.0, 0.0
        f = 1.0 / (1.0 + math.exp(x))
        g = 1.0 / (1.0 + math.exp(-x))
        return f, -f * math.log(f) - g * math.log(g)
    if x > 12.0:
        return 0.0, 0.0
    if x < -12.0:
        return 1.0, 0.0
    gauss = math.exp(-x * x)
    f = 0.5 * math.erfc(x)
    a = 1.0 / math.sqrt(math.pi)
    even, odd = 1.0, 2.0 * x  # H_0, H_1
    for n in range(1, order + 1):
        a = -a / (4.0 * n)
        f += a * odd * gauss
        even = 2.0 * x * odd - 2.0 * (2 * n - 1) * even
        odd = 2.0 * x * even - 4.0 * n * odd
    return f, 0.5 * a * even * gauss


@njit(cache=True)
def _count(eigenvalues: Array, weights: Array, level: float, width: float, order: int) -> float:
    total = 0.0
    for k in range(eigenvalues.shape[0]):
        part = 0.0
        for n in range(eigenvalues.shape[1]):
            part += _state((eigenvalues[k, n] - level) / width, order)[0]
        total += 2.0 * weights[k] * part
    return total


@njit(cache=True)
def _search(eigenvalues: Array, weights: Array, electrons: float, width: float, order: int) -> float:
    """Find the level by false position, its stale end weighted down (Illinois), with bisection where that is slow.

    Methfessel-Paxton's count of electrons may pass the right number several times; there the level is the one that
    bisection comes to, as in DFTB+.
    """
    low = eigenvalues.min() - 0.01
    high = eigenvalues.max() + 0.01
    below = _count(eigenvalues, weights, low, width, order) - electrons
    while below > 0.0:
        low -= 2.0 * (high - low)
        below = _count(eigenvalues, weights, low, width, order) - electrons
    above = _count(eigenvalues, weights, high, width, order) - electrons
    while above < 0.0:
        high = low + 2.0 * (high - low)
        above = _count(eigenvalues, weights, high, width, order) - electrons
    side = 0
    for step in range(400):
        middle = 0.5 * (low + high)
        # every third step halves, so that 400 are always enough
        if order < 1 and step % 3 != 0 and above > below:
            middle = (low * above - high * below) / (above - below)
        if not low < middle < high:
            middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        value = _count(eigenvalues, weights, middle, width, order) - electrons
        if value == 0.0:
            return float(middle)
        if value < 0.0:
            low, below = middle, value
            if side < 0:
                above *= 0.5
            side = -1
        else:
            high, above = middle, value
            if side > 0:
                below *= 0.5
            side = 1
        if order < 1 and abs(value) < 1e-13 * electrons:
            return float(middle)
    return float(0.5 * (low + high))


@njit(cache=True)
def _occupy(eigenvalues: Array, weights: Array, level: float, width: float, order: int) -> tuple[Array, float]:
    """Occupations, spin included, and TS."""
    out = np.empty_like(eigenvalues)
    entropy = 0.0
    for k in range(eigenvalues.shape[0]):
        for n in range(eigenvalues.shape[1]):
            f, s = _state((eigenvalues[k, n] - level) / width, order)
            out[k, n] = 2.0 * f
            entropy += 2.0 * weights[k] * s
    return out, entropy * width
