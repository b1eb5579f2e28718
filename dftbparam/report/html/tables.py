"""The content of the report as tables for CSV files, with full numbers and in units that the column names state."""

from __future__ import annotations

import math
from typing import Any

from dftbparam.elements import all_symbols, element
from dftbparam.report.html.collect import Collection, Result
from dftbparam.report.html.curves import energy_volume
from dftbparam.report.html.elements import (
    band_rows,
    crystal_rows,
    derivative_rows,
    formation_rows,
    parameter_rows,
    record_rows,
    transfer_rows,
)
from dftbparam.report.html.figures import available, difference, value_of

Rows = list[dict[str, Any]]


def report_tables(collection: Collection) -> dict[str, Rows]:
    """Return file names and rows; tables without a row are left out, ``elements.csv`` is always there.

    ======================  ================================================================================
    ``elements.csv``        a row an element: every figure of both sets and their difference, or the reason
    ``crystals.csv``        a row a crystal and set
    ``bands.csv``           a row a band structure and set
    ``formation.csv``       a row a binary crystal and set
    ``forces-stress.csv``   a row a number of these sections
    ``transfer.csv``        crystals of partners left out of the fit
    ``parameters.csv``      a row a search parameter, with range and uncertainty
    ``record.csv``          the parameter records, flattened
    ``ensemble.csv``        a row a near-optimal trial and parameter
    ``energy-volume.csv``   the curves, long
    ``convergence.csv``     a row a trial
    ======================  ================================================================================
    """
    results = list(collection.results.values())
    tables = {
        "elements.csv": _elements(collection),
        "crystals.csv": _of_each(results, crystal_rows),
        "bands.csv": [_joined(row) for row in _of_each(results, band_rows)],
        "formation.csv": _of_each(results, formation_rows),
        "forces-stress.csv": _of_each(results, derivative_rows),
        "transfer.csv": _of_each(results, transfer_rows),
        "parameters.csv": [_joined(row) for row in _of_each(results, parameter_rows)],
        "record.csv": [
            {"symbol": result.symbol, "name": name, "value": value}
            for result in results
            for name, value in record_rows(result)
        ],
        "ensemble.csv": _ensemble(results),
        "energy-volume.csv": _energy_volume(results),
        "convergence.csv": _convergence(results),
    }
    return {name: rows for name, rows in tables.items() if rows or name == "elements.csv"}


def _elements(collection: Collection) -> Rows:
    figures = available(collection.results.values())
    rows = []
    for symbol in all_symbols():
        result = collection.results.get(symbol)
        row: dict[str, Any] = {"number": element(symbol).number, "symbol": symbol, "name": element(symbol).name}
        row["result"] = "no" if result is None else "yes"
        for figure in figures:
            ours = None if result is None else value_of(result.ours, figure)
            published = None if result is None else value_of(result.published, figure)
            key = figure.key.replace(".", "_")
            row[f"{key}_ours"], row[f"{key}_published"] = ours, published
            row[f"{key}_difference"] = difference(ours, published, figure)
        row["folder"] = "" if result is None else result.source
        row["reason"] = collection.reasons.get(symbol, "")
        rows.append(row)
    return rows


def _of_each(results: list[Result], make: Any) -> Rows:
    return [{"symbol": result.symbol, **row} for result in results for row in make(result)]


def _joined(row: dict[str, Any]) -> dict[str, Any]:
    """Lists as numbers with a space between them."""
    return {key: " ".join(map(str, value)) if isinstance(value, list | tuple) else value for key, value in row.items()}


def _ensemble(results: list[Result]) -> Rows:
    return [
        {"symbol": r.symbol, "trial": m.index, "objective": m.objective, "parameter": name, "value": value}
        for r in results
        for m in r.score.ensemble
        for name, value in m.parameters.items()
    ]


def _energy_volume(results: list[Result]) -> Rows:
    rows: Rows = []
    for result in results:
        for curve in energy_volume(result):
            for i, volume in enumerate(curve.volumes.tolist()):
                row = {"symbol": result.symbol, "crystal": curve.name, "volume_A3_per_atom": volume}
                for name, values in (("dft", curve.dft), ("ours", curve.ours), ("published", curve.published)):
                    energy = math.nan if values is None else float(values[i])
                    row[f"{name}_eV_per_atom"] = None if math.isnan(energy) else energy
                rows.append(row)
    return rows


def _convergence(results: list[Result]) -> Rows:
    rows: Rows = []
    for result in results:
        best: float | None = None
        for trial in result.trials:
            if trial.objective is not None:
                best = trial.objective if best is None else min(best, trial.objective)
            rows.append(
                {
                    "symbol": result.symbol,
                    "trial": trial.index,
                    "status": trial.status,
                    "objective": trial.objective,
                    "best": best,
                    "error": trial.error,
                }
            )
    return rows
