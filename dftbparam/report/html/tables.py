"""The content of the report as tables for CSV files, with full numbers and in units that the column names state."""

from __future__ import annotations

import math
from typing import Any

from dftbparam.elements import element
from dftbparam.report.html.collect import Collection, Result
from dftbparam.report.html.curves import energy_volume
from dftbparam.report.html.delta import delta_tables
from dftbparam.report.html.elements import (
    band_rows,
    crystal_rows,
    derivative_rows,
    formation_rows,
    level_rows,
    missing_rows,
    parameter_rows,
    provenance_rows,
    record_rows,
    transfer_rows,
)
from dftbparam.report.html.figures import available, difference, summarise, value_of

Rows = list[dict[str, Any]]


def report_tables(collection: Collection) -> dict[str, Rows]:
    """Return file names and rows; tables without a row are left out, ``elements.csv`` is always there.

    ==========================  ============================================================================
    ``summary.csv``             a row a figure: means of both sets over common elements, and how many are better
    ``elements.csv``            a row an element: every figure of both sets and their difference, or the reason
    ``crystals.csv``            a row a crystal and set
    ``bands.csv``               a row a band structure and set
    ``band-levels.csv``         a row a level: band structures along their paths
    ``formation.csv``           a row a binary crystal and set
    ``forces-stress.csv``       a row a number of these sections
    ``transfer.csv``            crystals of partners left out of the fit
    ``parameters.csv``          a row a search parameter, with range and uncertainty
    ``record.csv``              the parameter records, flattened
    ``ensemble.csv``            a row a near-optimal trial and parameter
    ``ensemble-crystals.csv``   a row a crystal and error: its spread over the near-optimal trials
    ``missing.csv``             what could not be scored, and why
    ``provenance.csv``          where the numbers come from
    ``files.csv``               files of the runs with their checksums
    ``energy-volume.csv``       the curves, long
    ``convergence.csv``         a row a trial
    ``delta-models.csv``        a row a level of a delta model: errors on what was held out
    ``delta-held-out.csv``      a row a held-out structure
    ``delta-calibration.csv``   a row a part of a normal distribution: the part of errors that it holds
    ``delta-learning.csv``      a row a number of structures: the held-out error
    ==========================  ============================================================================
    """
    results = list(collection.results.values())
    tables = {
        "summary.csv": [dict(row) for row in summarise(results, available(results))],
        "elements.csv": _elements(collection),
        "crystals.csv": _of_each(results, crystal_rows),
        "bands.csv": [_joined(row) for row in _of_each(results, band_rows)],
        "band-levels.csv": _of_each(results, level_rows),
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
        "ensemble-crystals.csv": _of_each(results, _spread_rows),
        "missing.csv": _of_each(results, missing_rows),
        "provenance.csv": _of_each(results, lambda r: [{"name": n, "value": v} for n, v in provenance_rows(r)]),
        "files.csv": _of_each(
            results, lambda r: [one.model_dump() for one in (r.manifest.files if r.manifest else ())]
        ),
        "energy-volume.csv": _energy_volume(results),
        "convergence.csv": _convergence(results),
        **delta_tables(collection.deltas),
    }
    return {name: rows for name, rows in tables.items() if rows or name == "elements.csv"}


def _elements(collection: Collection) -> Rows:
    figures = available(collection.results.values())
    rows = []
    for symbol in collection.symbols:
        result = collection.results.get(symbol)
        row: dict[str, Any] = {"number": element(symbol).number, "symbol": symbol, "name": element(symbol).name}
        row["result"] = "left out" if symbol in collection.left_out else "no" if result is None else "yes"
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


def _spread_rows(result: Result) -> Rows:
    found = result.score.uncertainty
    return [
        {"crystal": one.name, "error": key, **spread.model_dump()}
        for one in (found.crystals if found is not None else ())
        for key in ("dV", "dB", "dE")
        if (spread := getattr(one, key)) is not None
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
