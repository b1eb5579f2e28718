"""Plots of delta models: parity, calibration, learning curves, times. They take arrays, and know nothing of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dftbparam.report.style import BLUE, DASHES, GREY, PALETTE, VERMILION, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def plot_parity(
    title: str, reference: ArrayLike, predicted: ArrayLike, stds: ArrayLike, outside: Sequence[bool], unit: str
) -> Figure:
    """Prediction against reference with error bars; structures outside the domain in another colour.

    Parameters
    ----------
    reference, predicted, stds
        (n,), in ``unit``.
    """
    x, y, s = (np.asarray(values, dtype=np.float64) for values in (reference, predicted, stds))
    flag = np.asarray(outside, dtype=bool)
    figure = new_figure(4.6, 4.2)
    axes = figure.add_subplot()
    for mine, colour, label in ((~flag, BLUE, "inside the domain"), (flag, VERMILION, "outside")):
        if mine.any():
            axes.errorbar(x[mine], y[mine], s[mine], fmt="o", ms=3, lw=0.8, color=colour, label=label, alpha=0.7)
    ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
    axes.plot(ends, ends, color=GREY, lw=0.8)
    tidy(axes, x=f"reference, {unit}", y=f"predicted, {unit}", title=title)
    axes.legend(frameon=False, fontsize="small")
    return figure


def plot_calibration(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Part of errors within an interval against the part that it should hold; on the diagonal error bars are honest.

    Parameters
    ----------
    curves
        Per name pairs (should, does).
    """
    figure = new_figure(4.4, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    for k, (name, points) in enumerate(curves.items()):
        should, does = np.array(points).T
        colour, dash = PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)]
        axes.plot(should, does, marker="o", ms=3, ls=dash, color=colour, label=name)
    for sigma, low, high in ((0.6827, 0.60, 0.75), (0.9545, 0.92, 0.98)):
        axes.plot([sigma, sigma], [low, high], color=GREY, lw=4, alpha=0.4, solid_capstyle="butt")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    tidy(axes, x="part of errors that should lie within", y="part that does", title=title)
    axes.legend(frameon=False, fontsize="small")
    return figure


def plot_learning(title: str, curves: Mapping[str, Sequence[tuple[float, float, float, float]]]) -> Figure:
    """Held-out error against the number of training structures, logarithmic both.

    Parameters
    ----------
    curves
        Per name rows (structures, median, lowest, highest error), meV/atom.
    """
    figure = new_figure(5.0, 3.8)
    axes = figure.add_subplot()
    for k, (name, points) in enumerate(curves.items()):
        n, middle, low, high = np.array(sorted(points)).T
        colour, dash = PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)]
        axes.plot(n, middle, marker="o", ms=4, ls=dash, color=colour, label=name)
        axes.fill_between(n, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    tidy(axes, x="training structures", y="held-out error, meV/atom", title=title)
    axes.legend(frameon=False, fontsize="small")
    return figure


def plot_times(
    by_atoms: Mapping[str, Sequence[Sequence[float]]], by_size: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Seconds against the number of atoms and against the number of training structures, logarithmic all.

    Parameters
    ----------
    by_atoms, by_size
        Per name rows (atoms or structures, seconds).
    """
    figure = new_figure(9.0, 3.8)
    for place, (curves, label) in enumerate(((by_atoms, "atoms"), (by_size, "training structures")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for k, (name, points) in enumerate(curves.items()):
            n, seconds = np.array(sorted(tuple(point) for point in points)).T
            colour, dash = PALETTE[k % len(PALETTE)], DASHES[k % len(DASHES)]
            axes.plot(n, seconds, marker="osD^v"[k % 5], ms=4, ls=dash, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        # The numbers that were measured, in place of powers of ten between them.
        known = sorted({float(point[0]) for points in curves.values() for point in points})
        axes.set_xticks(known, [f"{value:g}" for value in known])
        axes.set_xticks([], minor=True)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend above what was measured
        tidy(axes, x=label, y="processor time, s")
        axes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure
