"""Self-consistency of charges and moments. Hartree and Bohr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.electrons import Solution, System, diagonalise, pieces
from dftbparam.engine.embedded.interaction import Interaction
from dftbparam.engine.embedded.mixing import AndersonMixer
from dftbparam.errors import ScfNotConverged

MIXER_FACTORS: Final = (0.3, 0.05)
"""Mixing factors tried in turn, each with half of the iterations: the second is for charges that slosh."""


@dataclass(frozen=True)
class Start:
    """Where the search begins: excess electrons (n, 4) and, with spin, moments (n, 4) per shell."""

    excess: Array
    moments: Array | None


@dataclass(frozen=True)
class Converged:
    """``solution`` belongs to ``shift`` (spin, n, 4); ``excess`` and ``moments`` are its own output."""

    solution: Solution
    shift: Array
    excess: Array
    moments: Array | None
    iterations: int


def output(system: System, solution: Solution) -> tuple[Array, Array | None]:
    """Excess electrons and moments per shell of a solution that has populations."""
    populations = solution.populations
    assert populations is not None
    excess = populations.sum(axis=0) - system.reference
    return excess, populations[0] - populations[1] if system.spins == 2 else None


def spin_shifts(common: Array, difference: Array, spins: int) -> Array:
    """Shifts (spin, n, 4) of the channels."""
    return common[None] if spins == 1 else np.stack([common + difference, common - difference])


def converge(system: System, interaction: Interaction, start: Start) -> Converged:
    """Iterate to self-consistency.

    Raises
    ------
    ScfNotConverged
        With ``iterations`` and ``residual`` (electrons).
    """
    settings, matrices = system.settings, list(pieces(system))
    vector = _Vector(interaction)
    first = vector.join(start.excess, start.moments)
    iterations, residual = 0, np.inf
    for factor in MIXER_FACTORS:
        mixer = AndersonMixer(factor)
        x = first
        for _ in range(max(1, settings.max_scc_iterations // len(MIXER_FACTORS))):
            iterations += 1
            shift = spin_shifts(*interaction.shift(*vector.split(x)), system.spins)
            solution = diagonalise(system, matrices, shift, True)
            excess, moments = output(system, solution)
            found = vector.join(excess, moments)
            residual = float(np.abs(found - x).max())
            if residual < settings.scc_tolerance:
                return Converged(solution, shift, excess, moments, iterations)
            if not np.isfinite(residual):
                break
            x = mixer.step(x, found)
    raise ScfNotConverged(
        f"SCC did not converge in {iterations} iterations: charges still change by {residual:.2g} "
        f"(asked for {settings.scc_tolerance:.2g})",
        iterations=iterations,
        residual=residual,
    )


class _Vector:
    """Charges per site and, with spin, moments per shell as one vector: what is mixed."""

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction

    def join(self, excess: Array, moments: Array | None) -> Array:
        """Make the vector."""
        sites = self.interaction.on_sites(excess)
        return sites if moments is None else np.concatenate([sites, moments[self.interaction.shells]])

    def split(self, x: Array) -> tuple[Array, Array | None]:
        """Charges per site (s,) and moments per shell (n, 4)."""
        n = len(self.interaction.sites.hubbard)
        if len(x) == n:
            return x, None
        moments = np.zeros(self.interaction.shells.shape)
        moments[self.interaction.shells] = x[n:]
        return x[:n], moments
