"""Colour scales of tables: told apart with any kind of colour vision, and on paper without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

CIVIDIS: Final = (
    "#00224e", "#002e6a", "#1a386f", "#32436d", "#434e6c", "#535a6d", "#61656f", "#6f7073", "#7d7c78", "#8b8778",
    "#9a9376", "#aaa073", "#bbad6d", "#ccba64", "#ddc858", "#efd748", "#fee838",
)  # fmt: skip
"""Cividis at 17 equidistant places, dark to light (Nunez, Anderton and Renslow, PLoS ONE 13, e0199239 (2018)):
lightness grows evenly and looks the same with and without red-green deficiency."""

DIVERGING: Final = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fee0b6", "#f1a340", "#b35806")
"""Blue (better) through white to orange (worse): ColorBrewer's blues and oranges, safe for colour-blind readers."""

LOGARITHMIC: Final = 20.0
"""Greatest over least value above which a scale is logarithmic: errors of bulk moduli run from 1 to 1000 percent."""

FLOOR: Final = 1e-3
"""Least value of a logarithmic scale, as part of the greatest: an error of zero must not take all the colours."""


def colour_at(share: float, stops: Sequence[str]) -> tuple[float, float, float]:
    """Colour at a share (0 to 1) of a scale, linear between its stops: red, green, blue from 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    part = place - first
    low, high = ([int(stops[i][k : k + 2], 16) / 255.0 for k in (1, 3, 5)] for i in (first, first + 1))
    return (
        low[0] + part * (high[0] - low[0]),
        low[1] + part * (high[1] - low[1]),
        low[2] + part * (high[2] - low[2]),
    )


def ink_on(colour: Sequence[float]) -> Literal["#000000", "#ffffff"]:
    """Black or white, whichever has the higher contrast on a colour (WCAG 2.1, relative luminance)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


class Scale:
    """Places values on a scale from 0 to 1.

    Signed values: zero at 0.5, the square root of their size to both sides, so that small ones still show. Others:
    from 0 (linear), or logarithmic where they span more than `LOGARITHMIC`.
    """

    def __init__(self, values: Sequence[float], *, signed: bool = False) -> None:
        self.signed = signed
        sizes = [abs(value) for value in values]
        self.high = max(sizes, default=0.0) or 1.0
        positive = [size for size in sizes if size > 0.0]
        self.low = max(min(positive, default=self.high), FLOOR * self.high)
        self.logarithmic = not signed and self.high > LOGARITHMIC * self.low

    def share(self, value: float) -> float:
        """Return the place of a value, 0 to 1."""
        if self.signed:
            return 0.5 + 0.5 * math.copysign(math.sqrt(min(abs(value) / self.high, 1.0)), value)
        if self.logarithmic:
            return min(math.log(max(value, self.low) / self.low) / math.log(self.high / self.low), 1.0)
        return min(max(value / self.high, 0.0), 1.0)

    def value(self, share: float) -> float:
        """Return the value at a place: the inverse of `share`."""
        if self.signed:
            return math.copysign((2.0 * share - 1.0) ** 2 * self.high, share - 0.5)
        return self.low * (self.high / self.low) ** share if self.logarithmic else share * self.high
