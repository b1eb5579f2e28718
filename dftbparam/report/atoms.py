"""Orbitals and density of an atom, free and confined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dftbparam.report.style import DASHES, PALETTE, empty_note, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dftbparam.space import Confinement, ElementParameters

Array = NDArray[np.float64]

LOW_DENSITY: Final = 1e-8
"""Electrons/Bohr^3 below which a density is not shown: tables do not feel it."""


@dataclass(frozen=True)
class RadialCurve:
    """A radial function of an atom, free and confined.

    ``r`` (n,) in Bohr; ``confined`` and ``free`` (n,): r R(r) in Bohr^(-1/2) for an orbital, electrons/Bohr^3 for the
    density; ``free`` None where the free atom does not bind the shell. ``radius``: confinement radius in Bohr, or None.
    """

    label: str
    r: Array
    confined: Array
    free: Array | None = None
    radius: float | None = None


def atom_curves(
    parameters: ElementParameters,
    functional: str = "PBE",
    superposition: Literal["density", "potential"] = "density",
) -> tuple[list[RadialCurve], RadialCurve]:
    """Solve the atom of a parameter record, confined and free: its valence orbitals and its density for `plot_atom`.

    A shell that the free atom does not bind (a polarisation shell) has no free curve.

    Raises
    ------
    ParameterError
        The record is impossible.
    AtomError
        An atom does not converge.
    """
    from dftbparam.slako.pseudoatom import free_atom, solve_pseudo_atom

    atom = solve_pseudo_atom(parameters, functional, superposition)
    names = tuple(name for name, _ in atom.shells)
    free = free_atom(parameters.symbol, parameters.configuration, names, functional).run
    orbitals = []
    for name in names:
        run = atom.runs[name]
        unconfined = free.shells[name]
        orbitals.append(
            RadialCurve(
                label=name,
                r=run.grid.r,
                confined=run.shells[name][1],
                free=unconfined[1] if unconfined[0] < 0.0 else None,
                radius=_radius(parameters.shells[name]),
            )
        )
    run = atom.density_run
    density = RadialCurve("density", run.grid.r, run.density[0], free.density[0], _radius(parameters.density))
    return orbitals, density


def _radius(confinement: Confinement) -> float | None:
    return None if confinement.kind == "none" else confinement.radius


def plot_atom(
    title: str, orbitals: Sequence[RadialCurve], density: RadialCurve | None, *, r_max: float = 12.0
) -> Figure:
    """Plot valence orbitals (left) and density (right), confined and free, out to ``r_max`` Bohr."""
    figure = new_figure(9.0, 3.9)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    for index, orbital in enumerate(orbitals):
        colour = PALETTE[index % len(PALETTE)]
        shown = orbital.r <= r_max
        # The sign of an orbital is arbitrary: the outer lobe is drawn upwards, so that free and confined compare.
        label = orbital.label if orbital.radius is None else f"{orbital.label}, r₀ = {orbital.radius:.2f} Bohr"
        left.plot(
            orbital.r[shown], _outer_upwards(orbital.confined)[shown], color=colour, linestyle=DASHES[0], label=label
        )
        if orbital.free is not None:
            left.plot(
                orbital.r[shown],
                _outer_upwards(orbital.free)[shown],
                color=colour,
                linestyle="--",
                linewidth=1.0,
                label=f"{orbital.label}, free",
            )
    tidy(left, x="r (Bohr)", y="r R(r)  (Bohr$^{-1/2}$)")
    if orbitals:
        left.legend(frameon=False, fontsize="small")
    else:
        empty_note(left, "no orbitals")
    left.set_xlim(0.0, r_max)
    if density is None:
        empty_note(right, "no density")
    else:
        label = "confined" if density.radius is None else f"confined, r₀ = {density.radius:.2f} Bohr"
        for values, style, width, name in (
            (density.confined, "-", 1.8, label),
            (density.free, "--", 1.0, "free"),
        ):
            if values is None:
                continue
            shown = (density.r <= r_max) & (values > LOW_DENSITY)
            right.semilogy(
                density.r[shown], values[shown], color=PALETTE[0], linestyle=style, linewidth=width, label=name
            )
        right.legend(frameon=False, fontsize="small")
    tidy(right, x="r (Bohr)", y="density (electrons/Bohr³)")
    right.set_xlim(0.0, r_max)
    return figure


def _outer_upwards(values: Array) -> Array:
    peak = np.abs(values).max(initial=0.0)
    outer = np.flatnonzero(np.abs(values) > 0.2 * peak)
    return -values if len(outer) and values[outer[-1]] < 0.0 else values
