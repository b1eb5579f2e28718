"""Parameters, their ranges, and the map onto the unit cube that proposers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError


@dataclass(frozen=True)
class Parameter:
    """One search dimension: a real number between ``low`` and ``high`` (units in ``unit``), on a linear or log scale.

    Raises `ParameterError` at construction where the range is upside down, empty, infinite, or, on a log scale, not
    positive.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    unit: str = ""

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high)):
            raise ParameterError(f"parameter {self.name!r}: range [{self.low}, {self.high}] must be finite")
        if self.low >= self.high:
            raise ParameterError(
                f"parameter {self.name!r}: range [{self.low}, {self.high}] is upside down or empty; "
                f"did you mean [{self.high}, {self.low}]?"
            )
        if self.scale == "log" and self.low <= 0.0:
            raise ParameterError(f"parameter {self.name!r}: a log scale needs low > 0, got {self.low}")
        if self.scale not in ("linear", "log"):
            raise ParameterError(f"parameter {self.name!r}: scale {self.scale!r} is neither 'linear' nor 'log'")

    def to_unit(self, value: float) -> float:
        """Map a value onto [0, 1]."""
        if self.scale == "log":
            return (log(value) - log(self.low)) / (log(self.high) - log(self.low))
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, x: float) -> float:
        """Map x in [0, 1] onto the range; the ends are met exactly."""
        if self.scale == "log":
            value = exp(log(self.low) + x * (log(self.high) - log(self.low)))
        else:
            value = self.low + x * (self.high - self.low)
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class SearchSpace:
    """An ordered tuple of parameters with unique names."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = self.names
        if not names:
            raise ParameterError("a search space needs at least one parameter")
        double = {name for name in names if names.count(name) > 1}
        if double:
            raise ParameterError(f"search space names twice: {', '.join(sorted(double))}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(p.name for p in self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def to_unit(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """Map named values onto the unit cube, shape (d,)."""
        missing = set(self.names) - set(values)
        if missing:
            raise ParameterError(f"values miss the parameters {', '.join(sorted(missing))}")
        return np.array([p.to_unit(values[p.name]) for p in self.parameters])

    def from_unit(self, x: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
        """Map a point (d,) of the unit cube to named values."""
        if len(x) != len(self):
            raise ParameterError(f"a point of {len(x)} numbers does not fit a space of {len(self)} parameters")
        return {p.name: p.from_unit(float(v)) for p, v in zip(self.parameters, x, strict=True)}
