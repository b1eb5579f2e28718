"""Where an element stands in the periodic table, wide and narrow."""

from __future__ import annotations

from typing import Final

from dftbparam.elements import all_symbols, element

F_ROWS: Final = {6: 9, 7: 10}
"""Row of the lanthanides and of the actinides in the wide table, below the seven periods and a gap."""

F_COLUMN: Final = 3
"""Their first column in the wide table: under group 3, where La and Ac would stand."""

NARROW_ROWS: Final = {6: 20, 7: 23}
"""Their first row in the narrow table, below the 18 groups and a gap; seven elements a row."""

NARROW_WIDTH: Final = 7
"""Columns of the narrow table: the periods."""


def places(symbol: str) -> tuple[int, int, int, int]:
    """Return row and column in the wide table, and row and column in the narrow one, all from 1.

    The narrow table is the wide one on its side, groups downwards: seven columns fit a phone.
    """
    one = element(symbol)
    if one.group is not None:
        return one.period, one.group, one.group, one.period
    series = [name for name in all_symbols() if (e := element(name)).group is None and e.period == one.period]
    position = series.index(symbol)
    return (
        F_ROWS[one.period],
        F_COLUMN + position,
        NARROW_ROWS[one.period] + position // NARROW_WIDTH,
        1 + position % NARROW_WIDTH,
    )
