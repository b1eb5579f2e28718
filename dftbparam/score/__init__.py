"""Scores: fits of computed E(V) curves, the soundness verdict, the report card."""

from dftbparam.score.card import (
    METRICS,
    Comparison,
    CrystalScore,
    ReportCard,
    Summary,
    build_card,
    compare,
    summary,
)
from dftbparam.score.eos import EosFit, EosFits, EosFitter, delta_gauge, fit_birch_murnaghan, locate_minimum
from dftbparam.score.soundness import DeeperWell, Soundness, soundness

__all__ = [
    "METRICS",
    "Comparison",
    "CrystalScore",
    "DeeperWell",
    "EosFit",
    "EosFits",
    "EosFitter",
    "ReportCard",
    "Soundness",
    "Summary",
    "build_card",
    "compare",
    "delta_gauge",
    "fit_birch_murnaghan",
    "locate_minimum",
    "soundness",
    "summary",
]
