"""Slater-Koster tables and repulsion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.report.style import DASHES, PALETTE, empty_note, new_figure, tidy
from dftbparam.skf.evaluate import repulsion_values
from dftbparam.skf.model import SKFile, SplineRepulsion
from dftbparam.skf.read import placeholder_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SHELLS: Final = "spdf"
BONDS: Final = "σπδφ"

SHOWN_REPULSION: Final = 1.0
"""Hartree above which the repulsion is cut off: crystals live below a tenth of this."""


def plot_skf(title: str, file: SKFile) -> Figure:
    """Plot Hamiltonian (Hartree), overlap and repulsion (Hartree) of one file against distance (Bohr)."""
    figure = new_figure(12.0, 3.9)
    figure.suptitle(title)
    hamiltonian, overlap, repulsion = figure.subplots(1, 3)
    r = file.grid_step * np.arange(1, len(file.hamiltonian) + 1)
    # Rows below the first real distance are place-holders: not drawn.
    real = ~placeholder_rows(file)
    used = [
        i
        for i in range(len(file.columns))
        if np.any(file.hamiltonian[:, i] != 0.0) or np.any(file.overlap[:, i] != 0.0)
    ]
    for count, i in enumerate(used):
        l1, l2, m = file.columns[i]
        style = {"color": PALETTE[count % len(PALETTE)], "linestyle": DASHES[(count // len(PALETTE)) % len(DASHES)]}
        label = f"{SHELLS[l1]}{SHELLS[l2]}{BONDS[m]}"
        hamiltonian.plot(r[real], file.hamiltonian[real, i], label=label, **style)
        overlap.plot(r[real], file.overlap[real, i], label=label, **style)
    tidy(hamiltonian, x="distance (Bohr)", y="Hamiltonian (Hartree)")
    tidy(overlap, x="distance (Bohr)", y="overlap")
    if used:
        hamiltonian.legend(frameon=False, fontsize="small", ncols=2)
    else:
        empty_note(hamiltonian, "all zero")
    tidy(repulsion, x="distance (Bohr)", y="repulsion (Hartree)")
    if file.repulsion is None:
        empty_note(repulsion, "none in this file")
    else:
        cutoff = file.repulsion.cutoff
        distances = np.linspace(0.05 * cutoff, 1.05 * cutoff, 600)
        values = repulsion_values(file.repulsion, distances)[0]
        repulsion.plot(distances, values, color=PALETTE[0])
        repulsion.axvline(cutoff, color="0.75", linewidth=0.8)
        if isinstance(file.repulsion, SplineRepulsion):
            repulsion.axvline(file.repulsion.knots[0], color="0.75", linewidth=0.8, linestyle=":")
        finite = values[np.isfinite(values)]
        if not np.any(finite != 0.0):
            empty_note(repulsion, "zero everywhere")
        elif finite.max() > finite.min():
            low, high = float(finite.min()), min(float(finite.max()), SHOWN_REPULSION)
            repulsion.set_ylim(low - 0.05 * (high - low), high)
    return figure
