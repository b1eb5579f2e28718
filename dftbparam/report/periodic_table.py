"""The periodic table, coloured by a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dftbparam.report.scales import CIVIDIS, DIVERGING, Scale, colour_at, ink_on
from dftbparam.report.style import GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL: Final = 0.92
"""Side of a cell; the rest is gap."""


def plot_periodic_table(
    title: str,
    places: Mapping[str, tuple[int, int]],
    values: Mapping[str, float],
    *,
    digits: int = 1,
    signed: bool = False,
    verdict: bool = False,
    scale_of: Sequence[float] | None = None,
    left_out: Sequence[str] = (),
) -> Figure:
    """Plot the table: symbol and number in every cell that has a value, the others empty.

    Parameters
    ----------
    places
        Symbol to row and column, from 1.
    values
        Symbol to number; of a verdict 1 (yes) and 0 (no), in a difference -1 (better), 0, 1.
    signed
        A difference: the scale runs from blue (below zero, better) to orange.
    scale_of
        What the scale is made for, where several tables share one; default the values themselves.
    left_out
        Symbols of elements that a published set left out: hatched, and a line below says so.
    """
    from matplotlib.patches import Rectangle

    scale = Scale([1.0] if verdict else list(values.values()) if scale_of is None else scale_of, signed=signed)
    # Of a verdict yes is good and light; of an error much is bad and light. Both keep their number in the cell.
    stops = DIVERGING if signed else CIVIDIS
    rows = max((row for row, _ in places.values()), default=1)
    columns = max((column for _, column in places.values()), default=1)
    figure = new_figure(0.62 * columns, 0.62 * rows + 1.2)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="medium")
    for symbol, (row, column) in places.items():
        if symbol not in values:
            hatch = "////" if symbol in left_out else None
            axes.add_patch(
                Rectangle((column, row), CELL, CELL, facecolor="none", edgecolor="0.8", linewidth=0.6, hatch=hatch)
            )
            axes.text(column + CELL / 2, row + CELL / 2, symbol, color=GREY, fontsize=8, ha="center", va="center")
            continue
        colour = colour_at(scale.share(values[symbol]), stops)
        ink = ink_on(colour)
        axes.add_patch(Rectangle((column, row), CELL, CELL, facecolor=colour, edgecolor="none"))
        axes.text(column + CELL / 2, row + 0.36, symbol, color=ink, fontsize=9, ha="center", va="center")
        text = _text(values[symbol], digits, signed=signed, verdict=verdict)
        axes.text(column + CELL / 2, row + 0.70, text, color=ink, fontsize=7, ha="center", va="center")
    axes.set_xlim(1 - 0.1, columns + 1.0)
    axes.set_ylim(rows + 1.0, 1 - 0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    if left_out:
        axes.text(1.0, rows + 1.05, "hatched: left out of the set", color=GREY, fontsize=8, ha="left", va="top")
    if not verdict:
        _legend(figure, axes, scale, stops, digits)
    return figure


def _text(value: float, digits: int, *, signed: bool, verdict: bool) -> str:
    if verdict:
        return {-1.0: "better", 0.0: "same", 1.0: "worse"}.get(value, "") if signed else ("yes" if value else "no")
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0.0 else text.replace("-", "−")


def _legend(figure: Figure, axes: Axes, scale: Scale, stops: Sequence[str], digits: int) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    steps = ListedColormap([colour_at(i / 255.0, stops) for i in range(256)])
    bar = figure.colorbar(ScalarMappable(cmap=steps), ax=axes, orientation="horizontal", fraction=0.05, aspect=50)
    shares = [i / 6 for i in range(7)]
    bar.set_ticks(shares, labels=[f"{scale.value(s):.{max(digits, 1)}f}".replace("-", "−") for s in shares])
    kind = "square-root scale" if scale.signed else "logarithmic scale" if scale.logarithmic else "linear scale"
    bar.set_label(f"blue: this fit is better; {kind}" if scale.signed else kind, fontsize="small")
