"""The content of the report as matplotlib figures, for image files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from dftbparam.elements import all_symbols
from dftbparam.report.bands import plot_band_content, plot_band_errors
from dftbparam.report.convergence import plot_convergence
from dftbparam.report.crystals import Curve, plot_crystals
from dftbparam.report.html.collect import Collection, Result
from dftbparam.report.html.curves import Array, energy_volume
from dftbparam.report.html.delta import delta_figures
from dftbparam.report.html.elements import band_rows, parameter_rows
from dftbparam.report.html.figures import Figure, available, difference, value_of
from dftbparam.report.html.places import places
from dftbparam.report.periodic_table import plot_periodic_table
from dftbparam.report.uncertainty import plot_uncertainty

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SIDES: Final = {
    "ours": "this fit",
    "published": "published PTBP",
    "difference": "this fit minus published PTBP",
}
"""What the table is drawn of, with its words in titles."""


def table_plots(collection: Collection) -> Iterator[tuple[str, Drawing]]:
    """Yield names and drawings of the periodic table: each figure of ours, of the published set, and the difference.

    Those of delta models follow. What no element has is left out. Made one at a time, because there may be dozens.
    """
    cells = {symbol: places(symbol)[:2] for symbol in all_symbols()}
    for figure in available(collection.results.values()):
        sides = {side: _values(collection, figure, side) for side in SIDES}
        shared = [value for side in ("ours", "published") for value in sides[side].values()]
        for side, values in sides.items():
            if not values:
                continue
            what = SIDES[side]
            unit = f" ({figure.unit})" if figure.unit else ""
            yield (
                f"table-{figure.key.replace('.', '-')}-{side}",
                plot_periodic_table(
                    f"{figure.label}{unit}, {what}",
                    cells,
                    values,
                    digits=figure.digits,
                    signed=side == "difference",
                    verdict=figure.kind == "verdict",
                    scale_of=None if side == "difference" else shared,
                    left_out=tuple(collection.left_out),
                ),
            )
    yield from delta_figures(collection.deltas)


def _values(collection: Collection, figure: Figure, side: str) -> dict[str, float]:
    values = {}
    for symbol, result in collection.results.items():
        ours, published = value_of(result.ours, figure), value_of(result.published, figure)
        value = {"ours": ours, "published": published, "difference": difference(ours, published, figure)}[side]
        if value is not None:
            values[symbol] = value
    return values


def element_plots(result: Result) -> Iterator[tuple[str, Drawing]]:
    """Yield names and drawings of one element: E(V), bands, convergence, uncertainty, as far as the run has them."""
    curves = {}
    for one in energy_volume(result):
        published = None if result.published is None else result.published.crystal(one.name)
        ours = result.ours.crystal(one.name)
        drawn = [Curve("DFT", one.volumes, one.dft, "reference")]
        sides: tuple[tuple[str, Array | None, str, float | None], ...] = (
            ("this fit", one.ours, "ours", None if ours is None else ours.phase_energy_error),
            (
                "published PTBP",
                one.published,
                "other",
                None if published is None else published.phase_energy_error,
            ),
        )
        for label, energies, role, error in sides:
            if energies is not None and np.isfinite(energies).any():
                drawn.append(Curve(label, one.volumes, energies, role, error))
        curves[one.name] = drawn
    if curves:
        yield (
            f"{result.symbol}-energy-volume",
            plot_crystals(f"{result.symbol}: fitted E(V), energy above the most stable crystal", curves),
        )
    for levels in result.levels:
        yield (
            f"{result.symbol}-bands-{levels.crystal.replace(' ', '-')}",
            plot_band_content(f"{result.symbol}, {levels.crystal}", levels.model_dump()),
        )
    errors: dict[str, dict[str, list[float]]] = {}
    for row in band_rows(result):
        if row["per_band"]:
            errors.setdefault(row["crystal"], {})[SIDES[row["set"]]] = row["per_band"]
    if errors:
        yield f"{result.symbol}-band-errors", plot_band_errors(f"{result.symbol}: errors of bands", errors)
    if result.trials:
        rows = [{"index": trial.index, "objective": trial.objective} for trial in result.trials]
        yield f"{result.symbol}-convergence", plot_convergence(f"{result.symbol}: search", rows)
    found = result.score.uncertainty
    ranges = {
        row["name"]: (row["low"], row["high"], row["log"])
        for row in parameter_rows(result)
        if row["low"] is not None and row["high"] is not None
    }
    if found is not None and all(one.name in ranges for one in found.parameters):
        yield f"{result.symbol}-uncertainty", plot_uncertainty(result.symbol, found.model_dump(mode="json"), ranges)
