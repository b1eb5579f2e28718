"""Scores: the soundness verdict, bands, forces and stress, energies between crystals, the report card."""

from dftbparam.score.bands import BandScore, BandTarget, GapScore, band_gap, compare_bands
from dftbparam.score.card import (
    METRICS,
    SECTION_METRICS,
    SECTIONS,
    Comparison,
    CrystalScore,
    ReportCard,
    Sections,
    Summary,
    build_card,
    compare,
    summary,
)
from dftbparam.score.delta_gauge import delta_gauge
from dftbparam.score.derivatives import ForceScore, StressScore, compare_forces, compare_stress
from dftbparam.score.kinds import KINDS, is_compound, means_by_kind
from dftbparam.score.phases import FormationScore, composition, formation_score, stable_of_composition
from dftbparam.score.soundness import DeeperWell, Soundness, soundness

__all__ = [
    "KINDS",
    "METRICS",
    "SECTIONS",
    "SECTION_METRICS",
    "BandScore",
    "BandTarget",
    "Comparison",
    "CrystalScore",
    "DeeperWell",
    "ForceScore",
    "FormationScore",
    "GapScore",
    "ReportCard",
    "Sections",
    "Soundness",
    "StressScore",
    "Summary",
    "band_gap",
    "build_card",
    "compare",
    "compare_bands",
    "compare_forces",
    "compare_stress",
    "composition",
    "delta_gauge",
    "formation_score",
    "is_compound",
    "means_by_kind",
    "soundness",
    "stable_of_composition",
    "summary",
]
