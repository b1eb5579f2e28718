"""What a finished fit is shown with: its report cards by name, and E(V) points computed for drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from dftbparam.campaign.fit import PUBLISHED as PUBLISHED_SET
from dftbparam.campaign.fit import FitResult
from dftbparam.campaign.scoring import Curves, energy_curves
from dftbparam.engine.base import Engine
from dftbparam.reference import CrystalReference
from dftbparam.score import ReportCard
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

OURS: Final = "this fit"
PUBLISHED: Final = "published PTBP"

PLOTTED: Final = (0.85, 1.15)
"""Volumes that a plot shows at least, relative to the reference."""

SCANNED: Final = (0.6, 1.6)
"""Volumes that a plot shows at most: the window in which cards look for minima."""

MARGIN: Final = 0.08
"""Of the volume: how far a plot goes on beyond the outermost minimum."""

STEP: Final = 0.03
"""Largest distance of computed points, relative to the reference."""


def cards_of(result: FitResult) -> dict[str, ReportCard]:
    """Report cards by name: this fit's, then the published one where there is one."""
    cards = {OURS: result.card}
    if result.published is not None:
        cards[PUBLISHED] = result.published
    return cards


def plotted_range(prototype: str, cards: Iterable[ReportCard]) -> tuple[float, float]:
    """Return the (low, high) of a crystal's plot, relative to the reference volume, that shows every card's minimum."""
    crystals = [card.crystal(prototype) for card in cards]
    minima = [crystal.volume / crystal.reference_volume for crystal in crystals if crystal.volume is not None]
    low, high = (1.0 - MARGIN) * min(minima, default=1.0), (1.0 + MARGIN) * max(minima, default=1.0)
    return max(min(PLOTTED[0], low), SCANNED[0]), min(max(PLOTTED[1], high), SCANNED[1])


def fit_curves(
    result: FitResult,
    crystals: Sequence[CrystalReference],
    engine: Engine,
    relative_volumes: Sequence[float] | None = None,
) -> dict[str, Curves]:
    """Compute E(V) of every crystal with every table that `cards_of` names.

    The cards themselves hold fits only, which say nothing about how a curve goes on beyond them.

    Parameters
    ----------
    crystals
        References of one element: the crystals, and the volumes that ``relative_volumes`` (n,) are relative to.
    relative_volumes
        The volumes; default at most `STEP` apart over the `plotted_range` of each crystal.

    Returns
    -------
    Name of the card to curves: per prototype volumes (n,) in Angstrom^3/atom and energies (n,) in eV/atom, NaN where
    a calculation failed.

    Raises
    ------
    EngineError
        The engine is missing.
    """
    volumes: dict[str, ArrayLike] = {}
    for crystal in crystals:
        if relative_volumes is None:
            low, high = plotted_range(crystal.name, cards_of(result).values())
            relative = np.linspace(low, high, ceil((high - low) / STEP) + 1)
        else:
            relative = np.asarray(relative_volumes, dtype=np.float64)
        volumes[crystal.name] = crystal.volume * relative
    curves = {OURS: energy_curves(result.tables, crystals, engine, volumes)[0]}
    if result.published is not None:
        tables = result.published_tables
        if tables is None:
            tables = build_tables(load_parameter_set(PUBLISHED_SET), [result.published.symbol])
        curves[PUBLISHED] = energy_curves(tables, crystals, engine, volumes)[0]
    return curves
