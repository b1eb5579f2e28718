"""What the plots of a score need beside the cards: E(V) points of tables, and bands aligned with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dftbparam.campaign.fit_bands import gather_bands
from dftbparam.campaign.fit_curves import STEP, plotted_range
from dftbparam.campaign.scoring import Curves, band_structures, energy_curves
from dftbparam.engine.base import Engine
from dftbparam.reference import BandReference, CrystalReference, Dataset
from dftbparam.score import ReportCard
from dftbparam.skf import SKSet

Array = NDArray[np.float64]


def score_curves(
    tables: Mapping[str, SKSet | Path],
    cards: Mapping[str, ReportCard],
    crystals: Sequence[CrystalReference],
    engine: Engine,
) -> dict[str, Curves]:
    """Compute E(V) of crystals with each of several tables, over volumes that show the minima of all cards.

    Parameters
    ----------
    tables, cards
        By the same labels.

    Returns
    -------
    Label to curves, as `dftbparam.report.card_curves` takes them.
    """
    volumes: dict[str, ArrayLike] = {}
    for crystal in crystals:
        low, high = plotted_range(crystal.name, cards.values())
        volumes[crystal.name] = crystal.volume * np.linspace(low, high, ceil((high - low) / STEP) + 1)
    return {label: energy_curves(one, crystals, engine, volumes)[0] for label, one in tables.items()}


def aligned_bands(
    tables: Mapping[str, SKSet | Path], symbol: str, references: Dataset, engine: Engine
) -> list[tuple[BandReference, int, dict[str, Array]]]:
    """Compute the bands of an element or a binary with each of several tables.

    Returns
    -------
    Per band structure the reference, how many of its deep bands the tables lack, and by label the bands (k, n), eV,
    aligned with the reference. Tables whose bands could not be scored are left out.
    """
    gathered = gather_bands({name: band_structures(one, symbol, references, engine)[0] for name, one in tables.items()})
    return [(one.reference, one.skipped, one.sets) for one in gathered]
