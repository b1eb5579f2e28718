"""Report cards as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dftbparam.cli.output import Column

if TYPE_CHECKING:
    from dftbparam.score import ReportCard

SUMMARY: Final = (
    ("mean_abs_dV", "mean |ΔV|, %", ".2f"),
    ("mean_abs_dB", "mean |ΔB|, %", ".2f"),
    ("mean_abs_phase_error", "mean |ΔE| of phases, eV/atom", ".4f"),
    ("mean_delta", "mean Δ-gauge, meV/atom", ".2f"),
    ("n_without_minimum", "crystals without a minimum", "d"),
    ("sound", "sound from 0.6 to 1.6 V", ""),
    ("right_ground_state", "right ground state", ""),
)
"""Rows of the summary: attribute of the card, text, number format."""

CRYSTAL_COLUMNS: Final = (
    Column("symbol", "", left=True),
    Column("prototype", "crystal", left=True),
    Column("set", "set", left=True),
    Column("dV", "ΔV, %", "+.2f"),
    Column("dB", "ΔB, %", "+.1f"),
    Column("dB_prime", "ΔB'", "+.2f"),
    Column("delta", "Δ, meV", ".2f"),
    Column("reference_phase_energy", "phase E (DFT), eV", ".3f"),
    Column("phase_energy_error", "its error, eV", "+.3f"),
    Column("status", "status", left=True),
)


def crystal_rows(cards: Mapping[str, ReportCard]) -> list[dict[str, Any]]:
    """One row per crystal and set; the sets of a crystal stand together."""
    first = next(iter(cards.values()))
    rows = []
    for known in first.crystals:
        for name, card in cards.items():
            crystal = card.crystal(known.prototype)
            rows.append({"symbol": card.symbol, "set": name, **crystal.model_dump()})
    return rows


def summary_columns(names: Sequence[str]) -> list[Column]:
    """Columns of the summary: what, then one per set."""
    return [Column("what", "", left=True), *(Column(name, name) for name in names)]


def summary_rows(cards: Mapping[str, ReportCard]) -> list[dict[str, Any]]:
    """One row per number of the summary, one column per set; values are text already."""
    from dftbparam.cli.output import cell

    return [
        {"what": text, **{name: cell(getattr(card, key), form) for name, card in cards.items()}}
        for key, text, form in SUMMARY
    ]
