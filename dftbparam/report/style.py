"""What all plots share: colours, sizes, the canvas, the way into a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK: Final = "#000000"
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREY: Final = "#888888"

PALETTE: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Okabe and Ito's colours, told apart with any kind of colour vision (jfly.uni-koeln.de/color, 2008)."""

DASHES: Final[tuple[Any, ...]] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Line styles that go with the colours, so that a print in black and white can still be read."""

FORMATS: Final = ("png", "svg", "pdf")
"""File formats `render` knows."""

RESOLUTION: Final = 150
"""Dots per inch of a PNG: sharp on a screen, under 200 kB a plot."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, ``width`` x ``height`` in inches, on an Agg canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, *, x: str, y: str, title: str = "") -> None:
    """Label the axes and take away what carries no information."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, fontsize="medium")
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)
    axes.grid(visible=True, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)


def empty_note(axes: Axes, text: str) -> None:
    """Say in the middle of a plot why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def render(figure: Figure, file_format: str = "png") -> bytes:
    """Return the figure as the content of a file.

    Raises
    ------
    ParameterError
        A format that is not in `FORMATS`.
    """
    kind = file_format.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ParameterError(
            f"plots are written as {', '.join(FORMATS)}; {file_format or 'no ending'!r} is none of them",
            format=file_format,
        )
    # No creation date and no version: the same data give the same file.
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=RESOLUTION, metadata=metadata)
    return buffer.getvalue()
