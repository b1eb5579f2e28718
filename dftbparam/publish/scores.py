"""The scores of a set as one table: ours, PTBP's, and the difference."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Final

from dftbparam.publish.collect import SHORT, ElementResult
from dftbparam.score import KINDS, means_by_kind

FIGURES: Final = (
    "mean_abs_dV",
    "mean_abs_dB",
    "mean_abs_phase_error",
    "mean_abs_formation_error",
    "mean_delta",
    "max_abs_dV",
    "n_without_minimum",
    "sound",
    "right_ground_state",
)
"""Figures of the report card in the table, see `dftbparam.score.ReportCard`."""


def scores_value(results: Mapping[str, ElementResult], left_out: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return scores.json: report cards, uncertainty of runs with it, who is left out and why, means of the others."""
    return {
        "schema_version": 1,
        "elements": {
            symbol: {
                "cards": {short: result.cards[name] for short, name in SHORT.items() if name in result.cards},
                "uncertainty": result.uncertainty,
            }
            for symbol, result in results.items()
        },
        "left_out": {symbol: list(reasons) for symbol, reasons in left_out.items()},
        "summary": summary({symbol: one for symbol, one in results.items() if symbol not in left_out}),
    }


def score_rows(
    results: Mapping[str, ElementResult], left_out: Mapping[str, tuple[str, ...]] | None = None
) -> list[dict[str, Any]]:
    """Return a row per element: figures of ours and of PTBP's, None where there is no such card."""
    rows = []
    for symbol, result in results.items():
        row: dict[str, Any] = {"symbol": symbol}
        for short, name in SHORT.items():
            card = result.cards.get(name, {})
            row |= {f"{short}_{figure}": card.get(figure) for figure in FIGURES}
            row |= {f"{short}_{figure}": value for figure, value in by_kind(card).items()}
        row["left_out"] = "; ".join((left_out or {}).get(symbol, ()))
        rows.append(row)
    return rows


def by_kind(card: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures of `dftbparam.score.KINDS` of a report card; None where no crystal of the kind has one."""
    return means_by_kind(card.get("crystals", ()))


def summary(results: Mapping[str, ElementResult]) -> dict[str, Any]:
    """Return the means over the elements that both sets have, and on how many of them ours is better."""
    rows = [row for row in score_rows(results) if all(results[row["symbol"]].cards.get(n) for n in SHORT.values())]
    found: dict[str, Any] = {"elements": len(rows)}
    if not rows:
        return found
    for figure in ("mean_abs_dV", "mean_abs_dB", "mean_abs_phase_error", "mean_abs_formation_error", *KINDS):
        both = [
            (row[f"ours_{figure}"], row[f"ptbp_{figure}"])
            for row in rows
            if row[f"ours_{figure}"] is not None and row[f"ptbp_{figure}"] is not None
        ]
        if both:
            found[figure] = {
                "elements": len(both),
                "ours": fmean(one for one, _ in both),
                "ptbp": fmean(other for _, other in both),
                "better": sum(one < other for one, other in both),
            }
    for figure in ("sound", "right_ground_state"):
        found[figure] = {short: sum(bool(row[f"{short}_{figure}"]) for row in rows) for short in SHORT}
    return found
