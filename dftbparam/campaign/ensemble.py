"""The near-optimal ensemble of a finished search, from its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dftbparam.score.uncertainty import TOLERANCE, Uncertainty, uncertainty
from dftbparam.space import SearchSpace
from dftbparam.store import Trial

Array = NDArray[np.float64]


def ensemble(trials: Sequence[Trial], space: SearchSpace, tolerance: float = TOLERANCE) -> Uncertainty:
    """Describe all trials within ``tolerance`` of the best; see `dftbparam.score.uncertainty`.

    Raises `ParameterError` where no trial succeeded.
    """
    good = [trial for trial in trials if trial.objective is not None]
    choices = {parameter.name for parameter in space.parameters if parameter.kind == "categorical"}

    def from_unit(x: Array) -> dict[str, Any]:
        # Choices have no order, even where they are numbers: as text they have no spread.
        return {name: str(value) if name in choices else value for name, value in space.from_unit(x).items()}

    return uncertainty(
        np.array([trial.x for trial in good], dtype=np.float64).reshape(len(good), len(space)),
        [float(trial.objective) for trial in good if trial.objective is not None],
        # Sorted, as the store gives them back: a resumed search holds the same as an undisturbed one.
        [dict(sorted(trial.details.get("crystals", {}).items())) for trial in good],
        names=space.names,
        from_unit=from_unit,
        ranges=ranges(space),
        indices=[trial.index for trial in good],
        tolerance=tolerance,
    )


def ranges(space: SearchSpace) -> dict[str, tuple[float, float, bool]]:
    """Ends of each parameter's range, and whether its scale is logarithmic."""
    return {p.name: (p.low, p.high, p.scale == "log") for p in space.parameters}


def members(found: Uncertainty, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """What is needed to build the members' tables again: index, objective, parameters and repulsion, best first."""
    by_index = {trial.index: trial for trial in trials}
    return [
        {
            "index": index,
            "objective": by_index[index].objective,
            "parameters": _sorted(by_index[index].parameters),
            "repulsion": _sorted(by_index[index].details.get("repulsion")),
        }
        for index in found.members
    ]


def _sorted(value: Any) -> Any:
    """Return a record with its keys in order, at every depth."""
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value
