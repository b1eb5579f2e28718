"""Densities of states from an engine's eigenvalues, k-point weights and projections.

A result without spin polarisation has states for two electrons each: its densities count both spins. With spin
polarisation each spin has its own density, in which a state counts once. So the integral over all energies is always
the number of electrons that the bands could hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dftbparam.engine.base import Array, Result
from dftbparam.errors import ParameterError

MARGIN: Final = 6.0
"""Widths beyond the outermost states at which a grid ends: a Gaussian holds all but 2e-9 of itself within."""

POINTS_PER_WIDTH: Final = 4
"""Points of a grid per width: sums over it are integrals to rounding error."""

MAX_POINTS: Final = 1_000_000
"""Points of a grid beyond which the width is taken for a mistake."""


@dataclass(frozen=True)
class DensityOfStates:
    """A broadened spectrum in eV, energies as the engine gives them: subtract ``fermi_level`` to plot.

    Attributes
    ----------
    energies
        (n_E,), eV.
    fermi_level
        eV; the mean of two where the spins have their own.
    total
        States per eV, (n_E,) for both spins together; with spin polarisation (2, n_E), up and down.
    projected
        The same per atom and shell s, p, d, f: (n, 4, n_E), with spin polarisation (2, n, 4, n_E); its sum over atoms
        and shells is ``total``. None if not asked for.
    """

    energies: Array
    fermi_level: float
    total: Array
    projected: Array | None = None


def energy_grid(result: Result, width: float) -> Array:
    """Energies (n_E,) in Hartree that hold all of a spectrum broadened by ``width`` (Hartree), evenly spaced.

    Raises
    ------
    ParameterError
        The width is not positive, or so small that a grid would be out of all proportion; or no eigenvalues.
    """
    values, _, _ = _states(result)
    check_width(width)
    low, high = float(values.min()) - MARGIN * width, float(values.max()) + MARGIN * width
    n = math.ceil((high - low) / width * POINTS_PER_WIDTH) + 1
    if n > MAX_POINTS:
        raise ParameterError(
            f"width is {width:g} Hartree: {n} energies would be needed from {low:g} to {high:g}; "
            "take a larger width, or give the energies",
            name="width",
        )
    return np.linspace(low, high, n)


def density_of_states(result: Result, energies: ArrayLike, width: float) -> Array:
    """Density of states with Gaussian broadening.

    Parameters
    ----------
    result
        With eigenvalues (``Settings.eigenvalues`` or ``projections``).
    energies
        (n_E,), Hartree.
    width
        Standard deviation of the Gaussians, Hartree.

    Returns
    -------
    Array
        States per Hartree: (n_E,), both spins; with spin polarisation (2, n_E).

    Raises
    ------
    ParameterError
        No eigenvalues, a width that is not positive, energies that are no list of numbers.
    """
    values, weights, each = _states(result)
    grid = _checked(energies, width)
    out = np.zeros((len(values), len(grid)))
    for spin, channel in enumerate(values):
        for levels, weight in zip(channel, weights, strict=True):
            out[spin] += each * weight * _gaussians(levels, grid, width).sum(axis=0)
    return out if each == 1.0 else out[0]


def projected_density_of_states(result: Result, energies: ArrayLike, width: float) -> Array:
    """Density of states per atom and shell: as `density_of_states`, which is its sum over both.

    Returns
    -------
    Array
        States per Hartree by Mulliken weight: (n, 4, n_E) for n atoms and the shells s, p, d, f, both spins; with spin
        polarisation (2, n, 4, n_E). Weights, and so densities, can be slightly negative.

    Raises
    ------
    ParameterError
        As `density_of_states`; or no projections (``Settings.projections``).
    """
    values, weights, each = _states(result)
    if result.projections is None:
        raise ParameterError("the result has no projections; compute it with Settings(projections=True)")
    grid = _checked(energies, width)
    projections = result.projections if each == 1.0 else result.projections[None]
    n_atoms = projections.shape[-2]
    out = np.zeros((len(values), n_atoms * 4, len(grid)))
    for spin, channel in enumerate(values):
        for k, (levels, weight) in enumerate(zip(channel, weights, strict=True)):
            share = projections[spin, k].reshape(len(levels), -1)
            out[spin] += each * weight * (share.T @ _gaussians(levels, grid, width))
    shaped = out.reshape(len(values), n_atoms, 4, len(grid))
    return shaped if each == 1.0 else shaped[0]


def check_width(width: float) -> None:
    """Refuse a width that is not positive, with `ParameterError`."""
    if not 0.0 < width < math.inf:
        raise ParameterError(f"width is {width}; it must be positive", name="width")


def _checked(energies: ArrayLike, width: float) -> Array:
    check_width(width)
    grid: Array = np.asarray(energies, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not np.isfinite(grid).all():
        raise ParameterError(f"energies have the shape {grid.shape}; they must be (n,), n > 0, and finite")
    return grid


def _states(result: Result) -> tuple[Array, Array, float]:
    """Eigenvalues (spin, k, bands), weights (k,), and how many electrons a state holds."""
    if result.eigenvalues is None or result.weights is None:
        raise ParameterError("the result has no eigenvalues; compute it with Settings(eigenvalues=True)")
    if result.eigenvalues.ndim == 3:
        return result.eigenvalues, result.weights, 1.0
    return result.eigenvalues[None], result.weights, 2.0


def _gaussians(levels: Array, grid: Array, width: float) -> Array:
    """Normalised Gaussians (levels, n_E)."""
    x = (grid[None, :] - levels[:, None]) / width
    out: Array = np.exp(-0.5 * x**2) / (width * math.sqrt(2.0 * math.pi))
    return out
