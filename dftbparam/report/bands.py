"""Band structures: DFT against one or two sets of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dftbparam.errors import InputError
from dftbparam.reference import BandReference
from dftbparam.report.style import BLACK, BLUE, GREY, VERMILION, new_figure, tidy
from dftbparam.score.bands import NEAR, band_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DEEPEST: Final = 16.0
"""eV below the Fermi level that a plot shows at most: s bands of most solids, no semicore."""

HIGHEST: Final = 9.0
"""eV above it: a little more than the window that bands are scored in."""

MARGIN: Final = 1.0
"""eV of frame beyond the outermost level."""

LINES: Final = ((BLUE, "--"), (VERMILION, ":"))
"""Colour and dash of the sets, ours first."""


def path_lengths(reference: BandReference) -> Array:
    """Distance (k,) along a path, 1/Angstrom with 2 pi; breaks add none.

    A break is an index in ``reference.breaks`` at which the path starts anew: the step into it has no length.
    """
    cell = reference.atoms(reference.volume).cell.array
    points = np.array(reference.points) @ (2.0 * np.pi * np.linalg.inv(cell).T)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    for index in reference.breaks:
        if 0 < index <= len(steps):
            steps[index - 1] = 0.0
    return np.concatenate([[0.0], np.cumsum(steps)])


def path_labels(reference: BandReference) -> list[tuple[float, str]]:
    """Places along `path_lengths` and names of special points; two that share a place make one, ``U|K``."""
    x = path_lengths(reference)
    found: list[tuple[float, str]] = []
    for index in sorted(reference.labels):
        if not 0 <= index < len(x):
            raise InputError(f"{reference.name}: label {reference.labels[index]!r} at point {index} of {len(x)}")
        name = _pretty(reference.labels[index])
        if found and abs(found[-1][0] - x[index]) < 1e-9:
            if found[-1][1] != name:
                found[-1] = (found[-1][0], f"{found[-1][1]}|{name}")
        else:
            found.append((float(x[index]), name))
    return found


def plot_bands(
    title: str,
    reference: BandReference,
    sets: Mapping[str, ArrayLike],
    *,
    skipped: int = 0,
    reference_label: str = "DFT",
) -> Figure:
    """Plot bands along a path, the window of the score shaded.

    Parameters
    ----------
    reference
        Drawn in black, its own zero at 0.
    sets
        Label to bands (k, n), eV, aligned with the reference: relative to the computed Fermi level, minus the score's
        ``shift``. One or two; the first is ours.
    skipped
        Deep bands of the reference that are in no set, drawn in grey (`BandScore.n_skipped`).

    Raises
    ------
    InputError
        Bands of another number of points, or more than two sets.
    """
    if len(sets) > len(LINES):
        raise InputError(f"{len(sets)} sets of bands; a plot holds {len(LINES)}")
    arrays = {label: np.asarray(bands, dtype=np.float64) for label, bands in sets.items()}
    for label, bands in arrays.items():
        if bands.ndim != 2 or len(bands) != len(reference.points):
            raise InputError(f"bands {label!r} of shape {bands.shape} for {len(reference.points)} points")
    x = path_lengths(reference)
    pieces = _pieces(reference, len(x))
    figure = new_figure(6.4, 5.0)
    axes = figure.add_subplot()
    bottom, top = band_edges(reference) or (0.0, 0.0)
    axes.axhspan(bottom - NEAR, top + NEAR, color="0.96", zorder=0)
    axes.axhline(0.0, color="0.6", linewidth=0.8, linestyle="-", zorder=1)
    deep, levels = reference.array[:, : max(skipped, 0)], reference.array[:, max(skipped, 0) :]
    if deep.size:
        _draw(axes, x, deep, pieces, color=GREY, linestyle="-", linewidth=1.0)
    _draw(axes, x, levels, pieces, color=BLACK, linestyle="-", linewidth=1.6, label=reference_label)
    for (label, bands), (colour, dash) in zip(arrays.items(), LINES, strict=False):
        _draw(axes, x, bands, pieces, color=colour, linestyle=dash, linewidth=1.5, label=label)
    tidy(axes, x="", y="energy above the Fermi level (eV)", title=title)
    axes.grid(visible=False)
    places = path_labels(reference)
    axes.set_xticks([place for place, _ in places], [name for _, name in places])
    for place, _ in places:
        axes.axvline(place, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlim(0.0, float(x[-1]) if x[-1] > 0.0 else 1.0)
    lowest = min(float(drawn.min()) for drawn in (levels, *arrays.values()))
    axes.set_ylim(max(lowest, bottom - DEEPEST) - MARGIN, top + HIGHEST)
    figure.legend(loc="outside lower center", ncols=1 + len(arrays), frameon=False)
    return figure


def _draw(
    axes: Axes,
    x: Array,
    bands: Array,
    pieces: Sequence[slice],
    *,
    color: str,
    linestyle: str,
    linewidth: float,
    label: str = "",
) -> None:
    """Draw bands (k, n) piece by piece of the path, so that no line runs across a break; one entry in the legend."""
    for number, piece in enumerate(pieces):
        lines = axes.plot(x[piece], bands[piece], color=color, linestyle=linestyle, linewidth=linewidth)
        if number == 0 and label:
            lines[0].set_label(label)


def _pieces(reference: BandReference, n: int) -> list[slice]:
    ends = [0, *sorted({index for index in reference.breaks if 0 < index < n}), n]
    return [slice(a, b) for a, b in pairwise(ends)]


def _pretty(name: str) -> str:
    """Write Greek names of special points as letters, and their numbers as indices."""
    greek = {"GAMMA": "Γ", "G": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}
    head, underscore, index = name.partition("_")
    letter = greek.get(head.upper(), head)
    return f"{letter}$_{{{index}}}$" if underscore and index else letter
