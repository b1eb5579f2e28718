"""Scores: the soundness verdict, bands, the report card."""

from dftbparam.score.bands import BandScore, BandTarget, band_gap, compare_bands
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
    "BandScore",
    "BandTarget",
    "Comparison",
    "CrystalScore",
    "DeeperWell",
    "ReportCard",
    "Soundness",
    "Summary",
    "band_gap",
    "build_card",
    "compare",
    "compare_bands",
    "delta_gauge",
    "soundness",
    "summary",
]
