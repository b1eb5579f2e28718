"""Band structures: DFT against one or two sets of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

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


SUBSCRIPTS: Final = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


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


def path_labels(reference: BandReference, *, plain: bool = False) -> list[tuple[float, str]]:
    """Places along `path_lengths` and names of special points; two that share a place make one, ``U|K``.

    Numbers in names are written as indices by matplotlib's markup, or, ``plain``, by characters of their own.
    """
    x = path_lengths(reference)
    found: list[tuple[float, str]] = []
    for index in sorted(reference.labels):
        if not 0 <= index < len(x):
            raise InputError(f"{reference.name}: label {reference.labels[index]!r} at point {index} of {len(x)}")
        name = _pretty(reference.labels[index], plain)
        if found and abs(found[-1][0] - x[index]) < 1e-9:
            if found[-1][1] != name:
                found[-1] = (found[-1][0], f"{found[-1][1]}|{name}")
        else:
            found.append((float(x[index]), name))
    return found


def bands_content(reference: BandReference, skipped: int, sets: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """Return one band structure as JSON values, for the bands.json of a run folder.

    Levels are rounded to 0.1 meV, lists of levels are ordered by band first: ``dft[n][k]``.

    Parameters
    ----------
    reference, skipped, sets
        As of `plot_bands`.

    Returns
    -------
    ``crystal``; ``volume`` (Angstrom^3/atom); ``points`` (k, 3) in units of the reciprocal vectors; ``x`` (k,), the
    length along the path, 1/Angstrom with 2 pi; ``labels``, pairs of a length and a name; ``breaks``, indices at which
    the path starts anew; ``window``, the energies (low, high) of the states that ``rms_near`` counts, eV; ``skipped``;
    ``dft`` (n, k), and ``sets``, label to levels (n, k), eV above the Fermi level of the reference.

    Raises
    ------
    InputError
        Bands of another number of points.
    """
    low, high = _window(reference)
    return {
        "crystal": reference.name,
        "volume": reference.volume,
        "points": [list(point) for point in reference.points],
        "x": [round(float(x), 5) for x in path_lengths(reference)],
        "labels": [[round(place, 5), name] for place, name in path_labels(reference, plain=True)],
        "breaks": list(reference.breaks),
        "window": [round(low, 4), round(high, 4)],
        "skipped": skipped,
        "dft": _levels(reference.array),
        "sets": {label: _levels(bands) for label, bands in _checked(reference, sets).items()},
    }


def _levels(bands: Array) -> list[list[float]]:
    """Bands (k, n) as lists (n, k); minus zero is zero."""
    return [[round(level, 4) + 0.0 for level in band] for band in bands.T.tolist()]


def _checked(reference: BandReference, sets: Mapping[str, ArrayLike]) -> dict[str, Array]:
    arrays = {label: np.asarray(bands, dtype=np.float64) for label, bands in sets.items()}
    for label, bands in arrays.items():
        if bands.ndim != 2 or len(bands) != len(reference.points):
            raise InputError(f"bands {label!r} of shape {bands.shape} for {len(reference.points)} points")
    return arrays


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
    return _figure(
        title,
        path_lengths(reference),
        path_labels(reference),
        reference.breaks,
        _window(reference),
        reference.array,
        skipped,
        _checked(reference, sets),
        reference_label,
    )


def plot_band_content(title: str, content: Mapping[str, Any], *, reference_label: str = "DFT") -> Figure:
    """Plot what `bands_content` made, or a file has of it: the same as `plot_bands` of the reference itself.

    Raises
    ------
    InputError
        More than two sets.
    """
    return _figure(
        title,
        np.asarray(content["x"], dtype=np.float64),
        [(float(place), str(name)) for place, name in content["labels"]],
        content["breaks"],
        (float(content["window"][0]), float(content["window"][1])),
        np.asarray(content["dft"], dtype=np.float64).T,
        int(content["skipped"]),
        {label: np.asarray(bands, dtype=np.float64).T for label, bands in content["sets"].items()},
        reference_label,
    )


def plot_band_errors(title: str, sets: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Plot the root mean square error of each band.

    Parameters
    ----------
    sets
        Crystal to label to errors (n,), eV, the lowest band first. One or two sets; the first is ours.
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(max(len(sets), 1), 4)
    rows = -(-len(sets) // columns)
    figure = new_figure(3.2 * columns, 3.2 * rows)
    for place, (crystal, errors) in enumerate(sets.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        for (label, values), (colour, _), marker in zip(errors.items(), LINES, ("o", "s"), strict=False):
            axes.plot(range(1, len(values) + 1), values, color=colour, linestyle="", marker=marker, label=label)
        tidy(axes, x="band, the lowest first", y="rms error (eV)" if place % columns == 0 else "", title=crystal)
        axes.set_ylim(bottom=0.0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if place == 0:
            axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def drawn_range(levels: Iterable[ArrayLike], window: tuple[float, float]) -> tuple[float, float]:
    """Return the energies (low, high), eV, that a plot shows: down to the lowest level, or as far as `DEEPEST` has it.

    Parameters
    ----------
    levels
        Of the reference without its skipped bands, and of each set, any shape.
    window
        Energies of the states that are scored: `NEAR` beyond both band edges.
    """
    lowest = min(float(np.min(one)) for one in levels)
    return max(lowest, window[0] + NEAR - DEEPEST) - MARGIN, window[1] - NEAR + HIGHEST


def _window(reference: BandReference) -> tuple[float, float]:
    bottom, top = band_edges(reference) or (0.0, 0.0)
    return bottom - NEAR, top + NEAR


def _figure(
    title: str,
    x: Array,
    places: Sequence[tuple[float, str]],
    breaks: Sequence[int],
    window: tuple[float, float],
    reference: Array,
    skipped: int,
    sets: Mapping[str, Array],
    reference_label: str,
) -> Figure:
    """Draw bands (k, n) along x (k,)."""
    if len(sets) > len(LINES):
        raise InputError(f"{len(sets)} sets of bands; a plot holds {len(LINES)}")
    pieces = _pieces(breaks, len(x))
    figure = new_figure(6.4, 5.0)
    axes = figure.add_subplot()
    axes.axhspan(*window, color="0.96", zorder=0)
    axes.axhline(0.0, color="0.6", linewidth=0.8, linestyle="-", zorder=1)
    deep, levels = reference[:, : max(skipped, 0)], reference[:, max(skipped, 0) :]
    if deep.size:
        _draw(axes, x, deep, pieces, color=GREY, linestyle="-", linewidth=1.0)
    _draw(axes, x, levels, pieces, color=BLACK, linestyle="-", linewidth=1.6, label=reference_label)
    for (label, bands), (colour, dash) in zip(sets.items(), LINES, strict=False):
        _draw(axes, x, bands, pieces, color=colour, linestyle=dash, linewidth=1.5, label=label)
    tidy(axes, x="", y="energy above the Fermi level (eV)", title=title)
    axes.grid(visible=False)
    axes.set_xticks([place for place, _ in places], [name for _, name in places])
    for place, _ in places:
        axes.axvline(place, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlim(0.0, float(x[-1]) if x[-1] > 0.0 else 1.0)
    axes.set_ylim(*drawn_range((levels, *sets.values()), window))
    figure.legend(loc="outside lower center", ncols=1 + len(sets), frameon=False)
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


def _pieces(breaks: Sequence[int], n: int) -> list[slice]:
    ends = [0, *sorted({index for index in breaks if 0 < index < n}), n]
    return [slice(a, b) for a, b in pairwise(ends)]


def _pretty(name: str, plain: bool) -> str:
    """Write Greek names of special points as letters, and their numbers as indices."""
    greek = {"GAMMA": "Γ", "G": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}
    head, underscore, index = name.partition("_")
    letter = greek.get(head.upper(), head)
    if not (underscore and index):
        return letter
    return letter + index.translate(SUBSCRIPTS) if plain else f"{letter}$_{{{index}}}$"
