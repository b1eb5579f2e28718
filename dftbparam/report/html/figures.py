"""The figures of a report card that the periodic table can be coloured by, and their summary over elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final, Literal

from dftbparam.report.html.collect import Result
from dftbparam.report.html.records import StoredCard
from dftbparam.score import KINDS


@dataclass(frozen=True)
class Figure:
    """One figure.

    ``key`` is the attribute of the card, with a dot for an entry of a section, or one of `dftbparam.score.KINDS`.
    ``kind``: an error is a number of which less is better, a count is one that is added up over elements, a verdict is
    yes or no. ``digits`` after the point in cells; ``text`` explains it in a sentence.
    """

    key: str
    label: str
    unit: str
    kind: Literal["error", "count", "verdict"]
    digits: int
    text: str


FIGURES: Final = (
    Figure(
        "elemental_dV", "own crystals: mean |ΔV|", "%", "error", 1,
        "Error of the equilibrium volume, mean over the element's own crystals; compounds are a figure of their own.",
    ),
    Figure(
        "elemental_dB", "own crystals: mean |ΔB|", "%", "error", 0,
        "Error of the bulk modulus, mean over the element's own crystals; compounds are a figure of their own.",
    ),
    Figure(
        "elemental_phase", "own crystals: mean |ΔE| of phases", "eV/atom", "error", 2,
        "Error of the energy above the own crystal that is most stable in DFT, mean over the other own crystals.",
    ),
    Figure(
        "compound_dV", "compounds: mean |ΔV|", "%", "error", 1,
        "Error of the equilibrium volume, mean over the compounds that the element was fitted to.",
    ),
    Figure(
        "compound_dB", "compounds: mean |ΔB|", "%", "error", 0,
        "Error of the bulk modulus, mean over the compounds that the element was fitted to.",
    ),
    Figure(
        "mean_abs_formation_error", "compounds: mean |ΔE| of formation", "eV/atom", "error", 2,
        "Error of the formation energy, mean over binary crystals.",
    ),
    Figure("mean_abs_dV", "mean |ΔV|", "%", "error", 1, "Error of the equilibrium volume, mean over crystals."),
    Figure("mean_abs_dB", "mean |ΔB|", "%", "error", 0, "Error of the bulk modulus, mean over crystals."),
    Figure(
        "mean_abs_phase_error", "mean |ΔE| of phases", "eV/atom", "error", 2,
        "Error of the energy above the crystal that is most stable in DFT, mean over the other crystals.",
    ),
    Figure(
        "mean_delta", "mean Δ gauge", "meV/atom", "error", 1,
        "Area between E(V) and DFT's, mean over all its crystals.",
    ),
    Figure(
        "max_abs_dV", "largest |ΔV|", "%", "error", 1,
        "Error of the equilibrium volume, the worst of all its crystals.",
    ),
    Figure("max_abs_dB", "largest |ΔB|", "%", "error", 0, "Error of the bulk modulus, the worst of all its crystals."),
    Figure("max_abs_phase_error", "largest |ΔE| of phases", "eV/atom", "error", 2, "The worst crystal's phase energy."),
    Figure(
        "implosions", "crystals that implode", "", "count", 0,
        "A deeper well waits at a smaller volume than the minimum's, between 0.6 and 1.6 of the reference volume.",
    ),
    Figure("n_without_minimum", "crystals without a minimum", "", "count", 0, "Left out of all means, so count them."),
    Figure(
        "sound", "sound", "", "verdict", 0,
        "Every crystal has a minimum, and no deeper well waits between 0.6 and 1.6 of the reference volume.",
    ),
    Figure("right_ground_state", "right ground state", "", "verdict", 0, "The crystal lowest in DFT is lowest."),
    Figure(
        "mean_band_error", "bands near the Fermi level", "eV", "error", 2,
        "Root mean square error within 5 eV of the Fermi level or the band edges, mean over band structures.",
    ),
    Figure("mean_abs_gap_error", "mean |Δgap|", "eV", "error", 2, "Error of the fundamental gap."),
    Figure("forces.rms", "forces", "eV/Å", "error", 2, "Root mean square error in displaced cells."),
    Figure("stress.rms_GPa", "stress", "GPa", "error", 1, "Root mean square error in displaced and strained cells."),
)  # fmt: skip
"""In the order of the page's list; see `available` for which of them a report has."""

TOGETHER: Final = ("mean_abs_dV", "mean_abs_dB", "mean_abs_phase_error")
"""Means over all crystals of a card, in place of which a report with compounds has those of `dftbparam.score.KINDS`."""

HEADLINES: Final = (*KINDS, "mean_abs_formation_error", *TOGETHER, "right_ground_state", "implosions")
"""What stands at the top of the page, as far as it is available."""


def value_of(card: StoredCard | None, figure: Figure) -> float | None:
    """Return a figure of a card, a verdict as 1 or 0; None where the card has none."""
    if card is None:
        return None
    if figure.key in KINDS:
        return card.by_kind[figure.key]
    section, _, part = figure.key.partition(".")
    found: Any = getattr(card, section)
    if part:
        found = found.get(part) if found else None
    return float(found) if isinstance(found, bool | int | float) else None


def difference(ours: float | None, published: float | None, figure: Figure) -> float | None:
    """Ours minus the published set's; of verdicts the other way round, so that below zero is always better."""
    if ours is None or published is None:
        return None
    return published - ours if figure.kind == "verdict" else ours - published


def available(results: Iterable[Result]) -> list[Figure]:
    """Figures that at least one card has.

    Where any card has compounds, means over own crystals and over compounds are kept apart, as in the README of a
    published set; elsewhere there are means over all crystals, which are the own ones.
    """
    cards = [card for result in results for card in (result.ours, result.published) if card is not None]
    unused = TOGETHER if any(card.has_compounds for card in cards) else KINDS
    return [
        figure
        for figure in FIGURES
        if figure.key not in unused and any(value_of(card, figure) is not None for card in cards)
    ]


def summarise(results: Sequence[Result], figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Means and medians over the elements for which both sets have the figure, and how many are better with ours.

    Returns
    -------
    Per figure ``n`` elements compared; ``ours`` and ``published``: means, of verdicts the number of yes, of counts the
    sum; their medians; ``ratio`` of the means; ``better`` and ``equal``: elements in which ours is better, or as good.
    A figure that only one set has anywhere is left out.
    """
    rows = []
    for figure in figures:
        pairs = [
            (ours, published)
            for result in results
            if (ours := value_of(result.ours, figure)) is not None
            and (published := value_of(result.published, figure)) is not None
        ]
        if not pairs:
            continue
        mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        gains = [difference(a, b, figure) or 0.0 for a, b in pairs]
        added = figure.kind != "error"
        rows.append(
            {
                "key": figure.key,
                "n": len(pairs),
                "ours": sum(mine) if added else fmean(mine),
                "published": sum(theirs) if added else fmean(theirs),
                "ours_median": None if added else median(mine),
                "published_median": None if added else median(theirs),
                "ratio": None if added or not any(theirs) else fmean(mine) / fmean(theirs),
                "better": sum(gain < 0.0 for gain in gains),
                "equal": sum(gain == 0.0 for gain in gains),
            }
        )
    return rows
