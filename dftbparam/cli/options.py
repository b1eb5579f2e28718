"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class EngineName(StrEnum):
    """The engines by the names the command line knows them by."""

    embedded = "embedded"
    dftbplus = "dftb+"


ReferencesOption = Annotated[
    str | None,
    typer.Option(
        "--references",
        metavar="NAME|DIR",
        help="Reference set or folder; the default covers H to Cm.",
        show_default=False,
    ),
]


def check_symbol(symbol: str) -> None:
    """Raise `ElementError` for an element that is not in the table; heavier ones are no misspelling of lighter ones."""
    from ase.data import chemical_symbols

    from dftbparam.elements import all_symbols, element
    from dftbparam.errors import ElementError

    known = all_symbols()
    if symbol in chemical_symbols[1:] and symbol not in known:
        raise ElementError(f"unknown element {symbol!r}; elements {known[0]} to {known[-1]} are known", symbol=symbol)
    element(symbol)


DftbPlusOption = Annotated[
    str | None,
    typer.Option(
        "--dftbplus",
        metavar="COMMAND",
        help="The DFTB+ program, with arguments if need be; default: DFTBPLUS_COMMAND, else dftb+ on the PATH.",
        show_default=False,
    ),
]

EngineOption = Annotated[EngineName, typer.Option("--engine", help="What computes energies.")]
