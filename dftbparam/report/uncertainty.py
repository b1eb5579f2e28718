"""How well a search pins its answer down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dftbparam.report.style import BLUE, GREY, SKY, VERMILION, empty_note, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_uncertainty(title: str, found: Mapping[str, Any], ranges: Mapping[str, tuple[float, float, bool]]) -> Figure:
    """Plot the parameters of a near-optimal ensemble, and the spread of volume, bulk modulus and energy.

    Parameters
    ----------
    found
        `dftbparam.score.uncertainty.Uncertainty` as JSON values.
    ranges
        Search range of each parameter, and whether its scale is logarithmic.
    """
    figure = new_figure(9.0, 1.6 + 0.34 * max(len(found["parameters"]), len(found["crystals"]), 3))
    left, *right = figure.subplots(1, 4, width_ratios=[2.4, 1, 1, 1])
    _parameters(left, found["parameters"], ranges)
    n = len(found["members"])
    within = f"{n} {'trial' if n == 1 else 'trials'} within {100 * found['tolerance']:.0f} % of the best"
    left.set_title(within, fontsize="small")
    # Under the axes, where constrained layout makes room for it.
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize="small", loc="outside lower left", ncols=3)
    crystals = found["crystals"]
    for axes, key, label in zip(right, ("dV", "dB", "dE"), ("ΔV, %", "ΔB, %", "Δphase E, eV"), strict=True):
        _crystals(axes, crystals, key)
        tidy(axes, x=label, y="")
        axes.set_yticks(
            range(len(crystals)), [c["name"] for c in crystals] if axes is right[0] else [""] * len(crystals)
        )
        axes.invert_yaxis()
    figure.suptitle(title, fontsize="medium")
    return figure


def _parameters(
    axes: Axes, parameters: Sequence[Mapping[str, Any]], ranges: Mapping[str, tuple[float, float, bool]]
) -> None:
    """One line a parameter, over its search range."""
    labels = []
    for row, parameter in enumerate(parameters):
        low, high, log = ranges[parameter["name"]]

        def place(value: float, low: float = low, high: float = high, log: bool = log) -> float:
            return float(np.log(value / low) / np.log(high / low)) if log else (value - low) / (high - low)

        spread = parameter["spread"]
        if parameter["interval"] is not None:
            a, b = (place(value) for value in parameter["interval"])
            axes.plot([a, b], [row, row], color=SKY, linewidth=7, alpha=0.6, solid_capstyle="butt",
                      label="tolerance interval" if row == 0 else None)  # fmt: skip
        axes.plot([place(spread["low"]), place(spread["high"])], [row, row], color=BLUE, linewidth=2.5,
                  label="ensemble" if row == 0 else None)  # fmt: skip
        axes.plot(
            [place(spread["best"])], [row], "o", color=VERMILION, markersize=5, label="best" if row == 0 else None
        )
        effect = parameter["total_effect"]
        labels.append(
            f"{parameter['name']} = {spread['best']:.3g}" + ("" if effect is None else f"\neffect {effect:.2f}")
        )
    tidy(axes, x="share of the search range", y="")
    axes.set_xlim(-0.02, 1.02)
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.invert_yaxis()
    if not labels:
        empty_note(axes, "no parameter is a number")


def _crystals(axes: Axes, crystals: Sequence[Mapping[str, Any]], key: str) -> None:
    axes.axvline(0.0, color="0.7", linewidth=0.8)
    for row, crystal in enumerate(crystals):
        spread = crystal[key]
        if spread is None:
            continue
        axes.plot([spread["low"], spread["high"]], [row, row], color=GREY, linewidth=1)
        axes.plot([spread["mean"] - spread["std"], spread["mean"] + spread["std"]], [row, row], color=BLUE, linewidth=3)
        axes.plot([spread["best"]], [row], "o", color=VERMILION, markersize=5)
