"""What a finished fit is shown with: its report cards by name, and E(V) points computed for drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

PLOTTED: Final = (0.85, 0.88, 0.91, 0.94, 0.96, 0.98, 1.00, 1.02, 1.04, 1.06, 1.09, 1.12, 1.15)
"""Volumes of the plots, relative to the reference."""


def cards_of(result: FitResult) -> dict[str, ReportCard]:
    """Report cards by name: this fit's, then the published one where there is one."""
    cards = {OURS: result.card}
    if result.published is not None:
        cards[PUBLISHED] = result.published
    return cards


def fit_curves(
    result: FitResult,
    crystals: Sequence[CrystalReference],
    engine: Engine,
    relative_volumes: Sequence[float] = PLOTTED,
) -> dict[str, Curves]:
    """Compute E(V) of every crystal with every table that `cards_of` names.

    The cards themselves hold fits only, which say nothing about how a curve goes on beyond them.

    Parameters
    ----------
    crystals
        References of one element: the crystals, and the volumes that ``relative_volumes`` (n,) are relative to.

    Returns
    -------
    Name of the card to curves: per prototype volumes (n,) in Angstrom^3/atom and energies (n,) in eV/atom, NaN where
    a calculation failed.

    Raises
    ------
    EngineError
        The engine is missing.
    """
    volumes: Mapping[str, ArrayLike] = {
        crystal.prototype: crystal.volume * np.asarray(relative_volumes, dtype=np.float64) for crystal in crystals
    }
    curves = {OURS: energy_curves(result.tables, crystals, engine, volumes)[0]}
    if result.published is not None:
        tables = build_tables(load_parameter_set(PUBLISHED_SET), [result.published.symbol])
        curves[PUBLISHED] = energy_curves(tables, crystals, engine, volumes)[0]
    return curves
