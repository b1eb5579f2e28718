"""The report card of an element that was fitted on binaries: chosen crystals of all its compounds on one card.

Phase energies are counted within a composition, formation energies wherever the data have the elements' own crystals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dftbparam.campaign.scoring import fit_crystals, scoring_provenance
from dftbparam.campaign.target_scoring import compute_bands, formation_scores, gap_scores, stable_elements
from dftbparam.engine.base import Engine
from dftbparam.reference import CrystalReference, Dataset
from dftbparam.score import ReportCard, Sections, build_card
from dftbparam.skf import SKSet


def score_crystals(
    tables: SKSet, symbol: str, crystals: Sequence[CrystalReference], references: Dataset, engine: Engine
) -> ReportCard:
    """Make one card of crystals that hold an element, with their bands, gaps and formation energies where there are.

    Parameters
    ----------
    crystals
        What to score, of ``references``; each holds ``symbol``.

    Raises
    ------
    InputError
        No crystals.
    EngineError
        The engine is missing. What single structures end in is in the card.
    """
    scans, fits = fit_crystals(tables, crystals, engine)
    names = {crystal.name for crystal in crystals}
    bands, failed = compute_bands(
        tables, [one for one in references.bands if one.name in names and symbol in one.symbols], engine
    )
    gaps, gapless = gap_scores([one.score for one in bands])
    missing = {f"bands {name}": why for name, why in failed.items()}
    missing |= {f"gaps {name}": why for name, why in {**failed, **gapless}.items()}
    parts: dict[str, Any] = {"bands": tuple(one.score for one in bands), "gaps": tuple(gaps)}
    binaries = [crystal for crystal in crystals if crystal.partner is not None]
    stable = stable_elements(binaries, references)
    formable = [crystal for crystal in binaries if set(crystal.symbols) <= set(stable)]
    if formable:
        # One by one, because crystals of two elements may share their name.
        minima = {one: fit_crystals(tables, [crystal], engine)[1][crystal.name] for one, crystal in stable.items()}
        formed, lost = formation_scores(formable, stable, fits, minima, references)
        parts["formation"] = tuple(formed)
        missing |= {f"formation {name}": why for name, why in lost.items()}
    provenance = scoring_provenance(references, engine)
    return build_card(symbol, crystals, scans, fits, provenance, Sections(**parts, missing=missing))
