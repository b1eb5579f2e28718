"""Band structures of a finished fit: DFT, this fit, the published set, aligned as their scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dftbparam.campaign.fit import FitResult
from dftbparam.campaign.fit_curves import OURS, PUBLISHED
from dftbparam.campaign.target_scoring import Bands, compute_bands
from dftbparam.engine.base import Engine
from dftbparam.reference import BandReference, Dataset

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AlignedBands:
    """Bands of one crystal with several sets.

    Attributes
    ----------
    reference
        DFT, relative to its own Fermi level.
    skipped
        Its deep bands that the sets have in the core (`dftbparam.score.BandScore.n_skipped`).
    sets
        Label to bands (k, n), eV, on the reference's scale: relative to the computed Fermi level, minus the score's
        ``shift``.
    """

    reference: BandReference
    skipped: int
    sets: dict[str, Array]


def gather_bands(found: Mapping[str, Sequence[Bands]]) -> list[AlignedBands]:
    """Put the bands of several sets together, by crystal, in the order of the first set that has it."""
    gathered: dict[str, AlignedBands] = {}
    for label, structures in found.items():
        for one in structures:
            crystal = one.reference.name
            gathered.setdefault(crystal, AlignedBands(one.reference, one.score.n_skipped, {}))
            gathered[crystal].sets[label] = one.energies - one.score.shift
    return list(gathered.values())


def fit_bands(result: FitResult, references: Dataset, engine: Engine) -> list[AlignedBands]:
    """Compute the bands that the card of a fit has errors of, with its tables and with the published ones.

    They are computed anew, the same numbers as behind the card: cards hold errors only, and candidates that were not
    chosen need no bands. The published set is left out where there is none, or where its bands have no score.

    Raises
    ------
    EngineError
        The engine is missing.
    """
    symbol = result.card.symbol
    names = {score.crystal for score in result.card.bands}
    wanted = [one for one in references.bands if one.name in names and symbol in one.symbols]
    found = {OURS: compute_bands(result.tables, wanted, engine)[0]}
    if result.published_tables is not None:
        found[PUBLISHED] = compute_bands(result.published_tables, wanted, engine)[0]
    return gather_bands(found)
