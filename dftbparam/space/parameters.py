"""Parameters, their kinds and ranges, and the map onto the unit cube that proposers see.

A parameter has a value v, a place t in [0, 1] on its own scale (linear, or logarithmic), and a coordinate x in [0, 1]
of the unit cube. Without a prior x = t; with one, `dftbparam.space.prior` says what x is, so that a uniform design of
the cube follows the prior.

Discrete parameters: a whole number, or a choice among categories, owns a cell of the cube's edge. Any x in the cell
means that value; the cell's middle is the point that is evaluated and stored (`SearchSpace.place`), so that a
proposer's model sees one point per value.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import exp, floor, isfinite, log, prod
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import ParameterError
from dftbparam.space.prior import NARROWEST, UNIFORM_SHARE, WIDEST, Bell, Prior

Kind = Literal["real", "integer", "categorical"]
Scale = Literal["linear", "log"]
Array = NDArray[np.float64]

MOST_VALUES: Final = 1000
"""Values of a discrete parameter: more have cells that points of the cube cannot tell apart (`SAME`)."""

SAME: Final = 1e-6
"""Largest coordinate difference below which two points are one; `dftbparam.propose` holds the same."""

BORDER: Final = 0.01
"""Share of a range, at either end, that counts as its border."""


@dataclass(frozen=True)
class Parameter:
    """One search dimension.

    A real number between ``low`` and ``high`` (units in ``unit``), on a linear or log scale; with ``kind="integer"``
    the whole numbers between the two, ends included; with ``kind="categorical"`` one of ``choices``, texts or numbers
    without an order (`Parameter.categorical`). Values are float, int, and one of ``choices``. ``prior`` says where a
    good value is believed to be.

    Raises `ParameterError` at construction where the range is upside down, empty, infinite, or, on a log scale, not
    positive; where an integer's ends are not whole; where a prior lies outside of the range; where choices are fewer
    than two or doubled.
    """

    name: str
    low: float
    high: float
    scale: Scale = "linear"
    unit: str = ""
    kind: Kind = "real"
    choices: tuple[str | float, ...] = ()
    prior: Prior | None = None

    @classmethod
    def integer(
        cls, name: str, low: int, high: int, scale: Scale = "linear", unit: str = "", prior: Prior | None = None
    ) -> Self:
        """Make a parameter of whole numbers."""
        return cls(name, low, high, scale, unit, "integer", (), prior)

    @classmethod
    def categorical(cls, name: str, choices: Sequence[str | float], unit: str = "") -> Self:
        """Make a parameter that is one of ``choices``."""
        return cls(name, 0, max(len(choices) - 1, 0), "linear", unit, "categorical", tuple(choices))

    def __post_init__(self) -> None:
        if self.kind not in ("real", "integer", "categorical"):
            raise self._error(f"kind {self.kind!r} is none of 'real', 'integer', 'categorical'")
        if self.kind == "categorical":
            self._check_choices()
            return
        if self.choices:
            raise self._error(f"choices {list(self.choices)} belong to a categorical parameter, not to {self.kind}")
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int | float):
                raise self._error(f"range end {end!r} is not a number")
        if not (isfinite(self.low) and isfinite(self.high)):
            raise self._error(f"range [{self.low}, {self.high}] must be finite")
        if self.low >= self.high:
            raise self._error(
                f"range [{self.low}, {self.high}] is upside down or empty; did you mean [{self.high}, {self.low}]?"
            )
        if self.scale == "log" and self.low <= 0.0:
            raise self._error(f"a log scale needs low > 0, got {self.low}")
        if self.scale not in ("linear", "log"):
            raise self._error(f"scale {self.scale!r} is neither 'linear' nor 'log'")
        if self.kind == "integer":
            if self.low != floor(self.low) or self.high != floor(self.high):
                raise self._error(
                    f"the ends of an integer's range must be whole numbers, got [{self.low}, {self.high}]"
                )
            if self.high - self.low >= MOST_VALUES:
                raise self._error(
                    f"[{self.low}, {self.high}] holds more than {MOST_VALUES} whole numbers; take a real parameter"
                )
        if self.prior is not None:
            self._check_prior(self.prior)

    def _error(self, reason: str) -> ParameterError:
        return ParameterError(f"parameter {self.name!r}: {reason}", name=self.name)

    def _check_choices(self) -> None:
        for choice in self.choices:
            number = isinstance(choice, int | float) and not isinstance(choice, bool) and isfinite(choice)
            if not (number or isinstance(choice, str)):
                raise self._error(f"choice {choice!r} is neither text nor a finite number")
        if len(self.choices) < 2:
            raise self._error(f"needs two choices or more, got {list(self.choices)}; fix it instead")
        if len(self.choices) > MOST_VALUES:
            raise self._error(f"has {len(self.choices)} choices; at most {MOST_VALUES} are possible")
        if len(set(self.choices)) != len(self.choices):
            raise self._error(f"choices {list(self.choices)} name one twice")
        if self.prior is not None:
            raise self._error("choices have no order, so that a prior with a centre and a width means nothing")
        if self.scale != "linear" or (self.low, self.high) != (0, len(self.choices) - 1):
            raise self._error("choices have no scale and no range; make it with Parameter.categorical")

    def _check_prior(self, prior: Prior) -> None:
        if not (isfinite(prior.centre) and self.low <= prior.centre <= self.high):
            raise self._error(f"the prior's centre {prior.centre} lies outside of [{self.low}, {self.high}]")
        log_scale = self.scale == "log"
        if not (isfinite(prior.width) and prior.width > (1.0 if log_scale else 0.0)):
            right = "a factor above 1 on a log scale" if log_scale else f"above 0 {self.unit}".rstrip()
            raise self._error(f"the prior's width must be {right}, got {prior.width}")
        bell = self._bell
        assert bell is not None
        width = bell.width
        if not NARROWEST <= width <= WIDEST:
            advice = "fix the parameter instead" if width < NARROWEST else "leave the prior out"
            raise self._error(
                f"the prior's width {prior.width} is {width:.2g} times the range, and must lie between {NARROWEST} "
                f"and {WIDEST:g} times; {advice}"
            )

    # The parameter's own scale.

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Ends of the continuous range behind the values: half a step beyond both for discrete ones."""
        return (self.low, self.high) if self.kind == "real" else (self.low - 0.5, self.high + 0.5)

    def _place(self, value: float) -> float:
        """T of a value; outside of the range beyond [0, 1]."""
        low, high = self._ends
        if self.scale == "log":
            return (log(value) - log(low)) / (log(high) - log(low))
        return (value - low) / (high - low)

    def _value(self, t: float) -> float:
        low, high = self._ends
        if self.scale == "log":
            return exp(log(low) + t * (log(high) - log(low)))
        return low + t * (high - low)

    @cached_property
    def _bell(self) -> Bell | None:
        """The prior on the scale of t."""
        if self.prior is None:
            return None
        low, high = self._ends
        width = log(self.prior.width) / (log(high) - log(low)) if self.scale == "log" else None
        return Bell(self._place(self.prior.centre), self.prior.width / (high - low) if width is None else width)

    def _cumulative(self, t: float) -> float:
        return t if self._bell is None else self._bell.cumulative(t)

    def _quantile(self, x: float) -> float:
        return x if self._bell is None else self._bell.quantile(x)

    # Values and the unit cube.

    @property
    def discrete(self) -> bool:
        """Whether it takes a finite number of values."""
        return self.kind != "real"

    @property
    def values(self) -> tuple[Any, ...]:
        """All values of a discrete parameter, in order of their cells."""
        if self.kind == "categorical":
            return self.choices
        return tuple(range(int(self.low), int(self.high) + 1)) if self.kind == "integer" else ()

    @cached_property
    def cells(self) -> tuple[float, ...]:
        """Middle of the cell of every value, in [0, 1], rising."""
        n = len(self.values)
        if self.kind == "categorical":
            return tuple((i + 0.5) / n for i in range(n))
        edges = [self._cumulative(self._place(self.low - 0.5 + i)) for i in range(n + 1)]
        return tuple(0.5 * (a + b) for a, b in pairwise(edges))

    def cell(self, x: float) -> int:
        """Number of the cell that x in [0, 1] lies in, from 0."""
        n = len(self.values)
        if self.kind == "categorical":
            return min(max(floor(x * n), 0), n - 1)
        return min(max(floor(self._value(self._quantile(x)) + 0.5) - int(self.low), 0), n - 1)

    def to_unit(self, value: Any) -> float:
        """Map a value onto [0, 1]; of a discrete parameter onto the middle of its cell.

        A number between an integer parameter's values is rounded. `ParameterError` for a value that is no choice.
        """
        if self.kind == "real":
            return self._cumulative(self._place(value))
        if self.kind == "categorical" and value not in self.choices:
            raise self._error(f"{value!r} is no choice; choices are: {', '.join(map(str, self.choices))}")
        return self.cells[self.values.index(self.nearest(value))]

    def from_unit(self, x: float) -> Any:
        """Map x in [0, 1] onto the values: a float in the range, an int, or a choice. The ends are met."""
        if self.discrete:
            return self.values[self.cell(x)]
        return min(max(self._value(self._quantile(x)), self.low), self.high)

    def nearest(self, value: Any) -> Any:
        """Return the value nearest to one that may lie outside; `ParameterError` for a text that is no choice."""
        if self.kind == "categorical":
            if value in self.choices:
                return self.choices[self.choices.index(value)]
            numbers = [c for c in self.choices if not isinstance(c, str)]
            if isinstance(value, str) or not numbers:
                raise self._error(f"{value!r} is no choice; choices are: {', '.join(map(str, self.choices))}")
            return min(numbers, key=lambda choice: abs(choice - value))
        inside = min(max(value, self.low), self.high)
        return floor(inside + 0.5) if self.kind == "integer" else inside

    def check(self, value: Any) -> None:
        """Raise `ParameterError` unless the parameter can take this value."""
        if self.kind == "categorical":
            if value not in self.choices:
                raise self._error(f"{value!r} is no choice; choices are: {', '.join(map(str, self.choices))}")
            return
        given = f"{self.name} = {value} {self.unit}".rstrip()
        number = isinstance(value, int | float) and isfinite(value)
        if not (number and self.low <= value <= self.high):
            raise ParameterError(
                f"{given} lies outside [{self.low:.6g}, {self.high:.6g}]; widen the range or leave the point out",
                name=self.name,
                value=value,
            )
        if self.kind == "integer" and value != floor(value):
            raise ParameterError(f"{given} is not a whole number", name=self.name, value=value)

    def at_border(self, value: Any) -> bool:
        """Whether a value lies within 1 % of an end of the range; never so for choices, which have no ends."""
        if self.kind == "categorical":
            return False
        if self.kind == "integer":
            return value in (self.low, self.high)
        return not BORDER <= self._place(value) <= 1.0 - BORDER

    def settings(self) -> dict[str, Any]:
        """What decides which values a coordinate means, as JSON; what is not used is left out."""
        if self.kind == "categorical":
            return {"kind": self.kind, "choices": list(self.choices), "unit": self.unit}
        found: dict[str, Any] = {"low": self.low, "high": self.high, "scale": self.scale, "unit": self.unit}
        if self.kind == "integer":
            found["kind"] = self.kind
        if self.prior is not None:
            found["prior"] = {
                "centre": self.prior.centre,
                "width": self.prior.width,
                "uniform_share": UNIFORM_SHARE,
            }
        return found


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

    @property
    def discrete(self) -> bool:
        """Whether a parameter takes a finite number of values, so that `place` is not the identity."""
        return any(p.discrete for p in self.parameters)

    @property
    def size(self) -> int | None:
        """Number of points where every parameter is discrete, else None: infinitely many."""
        return prod(len(p.values) for p in self.parameters) if all(p.discrete for p in self.parameters) else None

    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings of every parameter by name: what a run may be resumed with. The order counts beside (`names`)."""
        return {p.name: p.settings() for p in self.parameters}

    def to_unit(self, values: Mapping[str, Any]) -> Array:
        """Map named values onto the unit cube, shape (d,)."""
        missing = set(self.names) - set(values)
        if missing:
            raise ParameterError(f"values miss the parameters {', '.join(sorted(missing))}")
        return np.array([p.to_unit(values[p.name]) for p in self.parameters])

    def from_unit(self, x: Sequence[float] | Array) -> dict[str, Any]:
        """Map a point (d,) of the unit cube to named values."""
        self._check_length(x)
        return {p.name: p.from_unit(float(v)) for p, v in zip(self.parameters, x, strict=True)}

    def snap(self, x: Sequence[float] | Array) -> Array:
        """Move a point (d,) to the middle of its discrete parameters' cells; real coordinates stay bit for bit.

        The point means the same values as before, and is its own snap.
        """
        self._check_length(x)
        return np.array(
            [p.cells[p.cell(float(v))] if p.discrete else float(v) for p, v in zip(self.parameters, x, strict=True)],
            dtype=np.float64,
        )

    def place(self, x: Sequence[float] | Array, taken: Sequence[Sequence[float]] | Array = ()) -> Array | None:
        """Return the point to evaluate where x was proposed: snapped, and none of those ``taken``.

        In a space of real numbers alone that is x itself: proposers answer with new points. Where discrete parameters
        make points coincide, the nearest free one is taken (in the cube, real coordinates kept; of equally near ones
        the first in order of cells). A pure function of its arguments.

        Parameters
        ----------
        x
            Proposed point (d,).
        taken
            Points (n, d) of all earlier trials, finished or not.

        Returns
        -------
        Point (d,), or None where every point of a finite space is taken.
        """
        point = self.snap(x)
        discrete = [i for i, p in enumerate(self.parameters) if p.discrete]
        if not discrete:
            return point
        known = np.asarray(taken, dtype=np.float64).reshape(-1, len(self))
        random = np.random.default_rng(len(known))
        while True:
            found = self._free_cell(point, known, discrete)
            if found is not None or len(discrete) == len(self):
                return found
            # All combinations of the discrete ones were tried with these real coordinates: others must do.
            real = [i for i in range(len(self)) if i not in discrete]
            point = point.copy()
            point[real] = random.random(len(real))

    def _free_cell(self, point: Array, known: Array, discrete: list[int]) -> Array | None:
        """Search outwards from ``point`` over the cells of the discrete parameters, the nearest first."""
        cells = [self.parameters[i].cells for i in discrete]
        origin = tuple(self.parameters[i].cell(float(point[i])) for i in discrete)
        queue: list[tuple[float, tuple[int, ...]]] = [(0.0, origin)]
        seen = {origin}
        while queue:
            _, where = heapq.heappop(queue)
            candidate = point.copy()
            candidate[discrete] = [edge[j] for edge, j in zip(cells, where, strict=True)]
            if not len(known) or np.abs(known - candidate).max(axis=1).min() >= SAME:
                return candidate
            for i, edge in enumerate(cells):
                for j in (where[i] - 1, where[i] + 1):
                    near = (*where[:i], j, *where[i + 1 :])
                    if 0 <= j < len(edge) and near not in seen:
                        seen.add(near)
                        distance = sum((e[a] - e[b]) ** 2 for e, a, b in zip(cells, near, origin, strict=True))
                        # Rounded, so that equal distances are equal.
                        distance = round(distance, 9)
                        heapq.heappush(queue, (distance, near))
        return None

    def _check_length(self, x: Sequence[float] | Array) -> None:
        if len(x) != len(self):
            raise ParameterError(f"a point of {len(x)} numbers does not fit a space of {len(self)} parameters")
