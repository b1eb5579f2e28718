"""Self-consistency of charges and moments. Hartree and Bohr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.electrons import Solution, System, diagonalise, pieces
from dftbparam.engine.embedded.interaction import Interaction
from dftbparam.engine.embedded.mixing import AndersonMixer, response_preconditioner
from dftbparam.errors import ScfNotConverged
from dftbparam.units import BOLTZMANN

MIXER_FACTORS: Final = (0.7, 0.1)
"""Mixing factors tried in turn, each with half of the iterations: the second is for what the first makes jump."""

ROUNDING: Final = 1e-12
"""Electrons. Charges of a converged structure change by as much from rounding."""

SMALL_GAP: Final = 10.0
"""kT within which two states count as close: they trade electrons as the potential changes."""


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
    settings, matrices = system.settings, list(pieces(system, again=True))
    vector = _Vector(interaction)
    first = vector.join(start.excess, start.moments)
    precondition = response_preconditioner(interaction.gamma, interaction.sites.hubbard)
    residuals: list[float] = []
    half = (settings.max_scc_iterations + 1) // 2
    for factor, allowed in zip(MIXER_FACTORS, (half, settings.max_scc_iterations - half), strict=True):
        mixer = AndersonMixer(factor, precondition)
        x = first
        for _ in range(allowed):
            shift = spin_shifts(*interaction.shift(*vector.split(x)), system.spins)
            solution = diagonalise(system, matrices, shift, True)
            excess, moments = output(system, solution)
            found = vector.join(excess, moments)
            residuals.append(float(np.abs(found - x).max()))
            last = x
            if residuals[-1] < settings.scc_tolerance:
                return Converged(solution, shift, excess, moments, len(residuals))
            if not np.isfinite(residuals[-1]):
                break
            x = mixer.step(x, found)
    # of a NaN, argmax names the first
    raise ScfNotConverged(
        f"SCC did not converge in {len(residuals)} iterations: charges still change by {residuals[-1]:.2g} electrons "
        f"(asked for {settings.scc_tolerance:.2g}), {vector.name(int(np.abs(found - last).argmax()))} the most; "
        + _reason(system, solution, residuals),
        iterations=len(residuals),
        residual=residuals[-1],
        residuals=residuals,
    )


def _reason(system: System, solution: Solution, residuals: list[float]) -> str:
    """Say why, as far as the residuals and the states at the Fermi level tell."""
    if not np.isfinite(residuals[-1]):
        return "the numbers are no longer finite: are the tables damaged?"
    if min(residuals) < ROUNDING:
        return f"changes of {ROUNDING:.0e} are rounding: a larger tolerance would be right"
    late = residuals[-max(4, len(residuals) // 4) :]
    if len(residuals) > 8 and late[-1] < 0.3 * late[0]:
        return "it was still getting closer: allow more iterations"
    kT = max(BOLTZMANN * system.settings.temperature, 1e-8)
    gap = min(_gap(values, level) for values, level in zip(solution.eigenvalues, solution.levels, strict=True))
    if gap < SMALL_GAP * kT:
        return (
            f"states {gap:.1e} Hartree apart at the Fermi level trade electrons: a temperature above "
            f"{system.settings.temperature:g} K, a better mesh or, for open shells, spin polarisation would be right"
        )
    if len(residuals) <= 8:
        return f"{len(residuals)} iterations are few: allow more"
    return "the charges jump between solutions: other initial moments, or a less strained structure, would be right"


def _gap(eigenvalues: Array, level: float) -> float:
    """Distance of the states next to a Fermi level, Hartree; infinite if there are none on one side."""
    below, above = eigenvalues[eigenvalues <= level], eigenvalues[eigenvalues > level]
    return float(above.min() - below.max()) if below.size and above.size else np.inf


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

    def name(self, number: int) -> str:
        """Say in words what a number of the vector belongs to."""
        interaction = self.interaction
        n = len(interaction.sites.hubbard)
        if number < n:
            atom = int(interaction.sites.atom[number])
        else:
            atom = int(np.nonzero(interaction.shells)[0][number - n])
        return f"{'atom' if number < n else 'the moment of atom'} {atom} ({interaction.structure.symbols[atom]})"
