"""Report cards as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dftbparam.cli.output import Column

if TYPE_CHECKING:
    from dftbparam.score import ReportCard
    from dftbparam.score.uncertainty import Uncertainty

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

SECTION_SUMMARY: Final = (
    ("mean_band_error", "bands within 5 eV of the Fermi level, eV", ".3f"),
    ("mean_abs_gap_error", "mean |Δgap|, eV", ".3f"),
    ("mean_abs_formation_error", "mean |ΔE| of formation, eV/atom", ".4f"),
    ("forces.rms", "forces, rms error, eV/Å", ".3f"),
    ("stress.rms_GPa", "stress, rms error, GPa", ".3f"),
)
"""Further rows, shown where a card has the number."""

UNCERTAINTY_COLUMNS: Final = (
    Column("name", "parameter or error", left=True),
    Column("best", "best", ".4g"),
    Column("std", "standard deviation", ".2g"),
    Column("low", "least", ".4g"),
    Column("high", "greatest", ".4g"),
    Column("interval_low", "alone from", ".4g"),
    Column("interval_high", "to", ".4g"),
    Column("total_effect", "total effect", ".2f"),
)
"""Of a near-optimal ensemble: its spread, how far a parameter may move alone, and its share in the objective."""

SECTION_COLUMNS: Final = {
    "bands": (
        Column("crystal", "bands of", left=True),
        Column("set", "set", left=True),
        Column("rms_near", "rms within 5 eV, eV", ".3f"),
        Column("max_abs_near", "largest, eV", ".3f"),
        Column("rms", "weighted rms of all, eV", ".3f"),
        Column("mean", "mean, eV", "+.3f"),
        Column("shift", "shift, eV", "+.3f"),
        Column("n_bands", "bands"),
        Column("n_missing", "lacking"),
        Column("n_skipped", "deep, skipped"),
    ),
    "gaps": (
        Column("crystal", "gap of", left=True),
        Column("set", "set", left=True),
        Column("reference_gap", "DFT, eV", ".3f"),
        Column("gap", "DFTB, eV", ".3f"),
        Column("error", "error, eV", "+.3f"),
    ),
    "formation": (
        Column("crystal", "formation of", left=True),
        Column("set", "set", left=True),
        Column("reference_formation_energy", "DFT, eV/atom", "+.3f"),
        Column("formation_energy", "DFTB, eV/atom", "+.3f"),
        Column("error", "error, eV/atom", "+.3f"),
    ),
    "forces": (
        Column("crystal", "", left=True),
        Column("set", "set", left=True),
        Column("rms", "rms error, eV/Å", ".3f"),
        Column("max_abs", "largest, eV/Å", ".3f"),
        Column("reference_rms", "rms of DFT, eV/Å", ".3f"),
        Column("correlation", "correlation", ".3f"),
        Column("n_frames", "structures"),
        Column("n_failed", "failed"),
    ),
    "stress": (
        Column("crystal", "", left=True),
        Column("set", "set", left=True),
        Column("rms_GPa", "rms error, GPa", ".3f"),
        Column("rms", "eV/Å³", ".4f"),
        Column("deviatoric_rms", "without trace, eV/Å³", ".4f"),
        Column("mean_pressure_error", "mean ΔP, eV/Å³", "+.4f"),
        Column("reference_rms", "rms of DFT, eV/Å³", ".4f"),
        Column("correlation", "correlation", ".3f"),
        Column("n_frames", "structures"),
        Column("n_failed", "failed"),
    ),
    "missing": (
        Column("crystal", "not scored", left=True),
        Column("set", "set", left=True),
        Column("why", "why", left=True),
    ),
}
"""Columns of the tables of a card's sections, with their units."""

DISTANCE_COLUMN: Final = Column("dD", "Δd, %", "+.2f")
"""Error of the nearest-neighbour distance: shown where there is a dimer, a chain or a layer."""

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


def crystal_columns(cards: Mapping[str, ReportCard]) -> list[Column]:
    """Columns of a card's crystals; with the distance where one of them is no crystal but a dimer, chain or layer."""
    low = any(crystal.dimensions < 3 for card in cards.values() for crystal in card.crystals)
    columns = []
    for column in CRYSTAL_COLUMNS:
        columns.append(column)
        if column.key == "dV" and low:
            columns.append(DISTANCE_COLUMN)
    return columns


def section_rows(cards: Mapping[str, ReportCard], section: str) -> list[dict[str, Any]]:
    """One row per crystal and set of one of `SECTION_COLUMNS`, or per set of forces and stress; empty without any."""
    rows: list[dict[str, Any]] = []
    for name, card in cards.items():
        found = getattr(card, section)
        if isinstance(found, dict):
            rows += [{"crystal": key, "set": name, "why": why} for key, why in found.items()]
        elif isinstance(found, tuple):
            rows += [{"set": name, **one.model_dump()} for one in found]
        elif found is not None:
            rows.append({"crystal": section, "set": name, **found.model_dump()})
    order = list(dict.fromkeys(row["crystal"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["crystal"]))


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

    rows = [
        {"what": text, **{name: cell(getattr(card, key), form) for name, card in cards.items()}}
        for key, text, form in SUMMARY
        if any(card.crystals for card in cards.values())
    ]
    for key, text, form in SECTION_SUMMARY:
        values = {name: card.figure(key) for name, card in cards.items()}
        if any(value is not None for value in values.values()):
            rows.append({"what": text, **{name: cell(value, form) for name, value in values.items()}})
    return rows


def uncertainty_rows(found: Uncertainty) -> list[dict[str, Any]]:
    """Rows of `UNCERTAINTY_COLUMNS`: the parameters, then, of several trials, what their spread implies by crystal."""
    rows: list[dict[str, Any]] = []
    for one in found.parameters:
        low, high = (None, None) if one.interval is None else one.interval
        more = {"interval_low": low, "interval_high": high, "total_effect": one.total_effect}
        rows.append({"name": one.name, **one.spread.model_dump(), **more})
    for crystal in found.crystals if len(found.members) > 1 else ():
        for key, label in (("dV", "ΔV, %"), ("dB", "ΔB, %"), ("dE", "Δphase E, eV")):
            spread = getattr(crystal, key)
            # The most stable crystal has no phase energy to be wrong about.
            if spread is not None and not (key == "dE" and spread.low == spread.high == 0.0):
                rows.append({"name": f"{crystal.name} {label}", **spread.model_dump()})
    return rows
