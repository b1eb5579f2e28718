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
from dftbparam.score.delta_gauge import delta_gauge
from dftbparam.score.soundness import DeeperWell, Soundness, soundness

__all__ = [
    "METRICS",
    "Comparison",
    "CrystalScore",
    "DeeperWell",
    "ReportCard",
    "Soundness",
    "Summary",
    "build_card",
    "compare",
    "delta_gauge",
    "soundness",
    "summary",
]
