"""Which binaries represent an element: ``data/partners.toml``, with a reason for each."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from dftbparam.elements import element
from dftbparam.errors import ReferenceDataError
from dftbparam.reference.dft.plan import System, parse_system


@cache
def _table() -> dict[str, Any]:
    text = resources.files("dftbparam.reference.dft").joinpath("data/partners.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def represented() -> tuple[str, ...]:
    """Elements that have binaries."""
    return tuple(name for name in _table() if name != "format")


def reason(symbol: str) -> str:
    """Why these partners; `ReferenceDataError` for an element without."""
    return str(_entry(symbol)["reason"])


def binaries_for(symbol: str) -> tuple[System, ...]:
    """Binaries of an element; `ReferenceDataError` lists the elements that have some."""
    return tuple(parse_system(f"{a}-{b}", names.split(",")) for a, b, names in _entry(symbol)["binaries"])


def _entry(symbol: str) -> dict[str, Any]:
    element(symbol)
    entry: dict[str, Any] | None = _table().get(symbol)
    if entry is None:
        raise ReferenceDataError(
            f"no binaries are listed for {symbol}; they are for {' '.join(represented())}. Name them yourself, e.g. "
            f"Mg-{symbol}",
            symbol=symbol,
        )
    return entry
