"""Slater-Koster tables and repulsion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import all_symbols, element
from dftbparam.report.style import DASHES, GREY, PALETTE, empty_note, new_figure, tidy
from dftbparam.skf.evaluate import repulsion_values
from dftbparam.skf.model import SKFile, SplineRepulsion
from dftbparam.skf.read import pair_of_name, placeholder_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SHELLS: Final = "spdf"
BONDS: Final = "σπδφ"

SHOWN_REPULSION: Final = 1.0
"""Hartree above which the repulsion is cut off: crystals live below a tenth of this."""

FRAMED_FROM: Final = 0.6
"""Of the sum of the covalent radii: the axes of H and S are framed on what lies beyond. Closer in, tables grow to many
times what any crystal or molecule feels, and would press the rest flat."""

FRAMED_FROM_UNKNOWN: Final = 2.0
"""The same in Bohr, for a file whose name does not tell its elements."""


def plot_skf(title: str, file: SKFile) -> Figure:
    """Plot Hamiltonian (Hartree), overlap and repulsion (Hartree) of one file against distance (Bohr)."""
    figure = new_figure(12.0, 3.9)
    figure.suptitle(title)
    hamiltonian, overlap, repulsion = figure.subplots(1, 3)
    r = np.asarray(file.grid_step * np.arange(1, len(file.hamiltonian) + 1), dtype=np.float64)
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
        for axes, table in ((hamiltonian, file.hamiltonian), (overlap, file.overlap)):
            _frame(axes, r[real], table[real][:, used], _framed_from(file))
    else:
        empty_note(hamiltonian, "all zero")
    if file.on_site is None:
        hamiltonian.set_title(
            "first shell: first element; channels with l1 > l2\nare in the file of the reversed pair",
            fontsize="x-small",
            color=GREY,
        )
    tidy(repulsion, x="distance (Bohr)", y="repulsion (Hartree)")
    if file.repulsion is None:
        empty_note(repulsion, "none in this file")
    else:
        cutoff = file.repulsion.cutoff
        distances = np.linspace(0.05 * cutoff, 1.05 * cutoff, 600)
        values = repulsion_values(file.repulsion, distances)[0]
        repulsion.plot(distances, values, color=PALETTE[0], label="repulsion")
        if isinstance(file.repulsion, SplineRepulsion):
            repulsion.axvline(
                file.repulsion.knots[0], color=GREY, linewidth=0.9, linestyle=":", label="first knot of the spline"
            )
        repulsion.axvline(cutoff, color=GREY, linewidth=0.9, label="cutoff")
        repulsion.legend(frameon=False, fontsize="small")
        finite = values[np.isfinite(values)]
        if not np.any(finite != 0.0):
            empty_note(repulsion, "zero everywhere")
        elif finite.max() > finite.min():
            low, high = float(finite.min()), min(float(finite.max()), SHOWN_REPULSION)
            repulsion.set_ylim(low - 0.05 * (high - low), high)
    return figure


def _framed_from(file: SKFile) -> float:
    """Distance in Bohr beyond which H and S are framed."""
    pair = pair_of_name(file.path) if file.path else None
    if pair is None or not set(pair) <= set(all_symbols()):
        return FRAMED_FROM_UNKNOWN
    return FRAMED_FROM * sum(element(symbol).covalent_radius for symbol in pair)


def _frame(axes: Axes, r: Array, values: Array, start: float) -> None:
    """Fit the energy axis to the finite values beyond ``start``, as far as they differ."""
    beyond = values[r >= start]
    beyond = beyond[np.isfinite(beyond)]
    if beyond.size and beyond.max() > beyond.min():
        margin = 0.05 * (beyond.max() - beyond.min())
        axes.set_ylim(beyond.min() - margin, beyond.max() + margin)
