"""How a search went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dftbparam.report.style import BLUE, GREY, VERMILION, empty_note, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_convergence(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    n_initial: int | None = None,
    other: tuple[str, float] | None = None,
) -> Figure:
    """Plot the objective of each trial and the best so far.

    Parameters
    ----------
    rows
        Rows of `dftbparam.store.TrialStore.rows`: ``index``, ``status``, ``objective``, ``error``.
    n_initial
        Where the initial design ends and the model takes over.
    other
        Name and objective of something to compare with, drawn as a level.
    """
    from matplotlib.ticker import LogFormatter

    figure = new_figure(6.0, 3.8)
    axes = figure.add_subplot()
    good = [(row["index"], row["objective"]) for row in rows if row["objective"] is not None]
    failed = [row["index"] for row in rows if row["objective"] is None]
    if good:
        index, objective = np.array(good, dtype=np.float64).T
        axes.plot(index, objective, "o", color=GREY, markersize=4, label="trial")
        best = np.minimum.accumulate(objective)
        axes.step(index, best, where="post", color=BLUE, linewidth=2, label="best so far")
        if objective.min() > 0.0 and objective.max() > 20.0 * objective.min():
            axes.set_yscale("log")
            # Plain numbers: 2, 10, 40 rather than powers of ten.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2.0, 0.5)))
    else:
        empty_note(axes, "no trial has succeeded")
    if other is not None:
        axes.axhline(other[1], color=VERMILION, linestyle="--", linewidth=1.5, label=other[0])
    if failed:
        # At the foot of the plot whatever the scale: a failed trial has no height.
        axes.plot(
            failed,
            np.full(len(failed), 0.02),
            "x",
            color=VERMILION,
            transform=axes.get_xaxis_transform(),
            label=f"failed ({len(failed)})",
            clip_on=False,
        )
    if n_initial is not None and rows and 0 < n_initial < len(rows):
        axes.axvline(n_initial - 0.5, color="0.7", linewidth=0.8)
        axes.text(
            n_initial - 0.4,
            0.98,
            "model takes over",
            transform=axes.get_xaxis_transform(),
            color=GREY,
            fontsize="x-small",
            va="top",
        )
    tidy(axes, x="trial", y="objective", title=title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small")
    return figure
