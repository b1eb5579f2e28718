"""What random crystals are made of: compositions and space groups, as a user writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Final

from dftbparam.elements import element
from dftbparam.errors import ParameterError

SPACEGROUPS: Final = 230

MAX_ELEMENTS: Final = 4
"""The number of stoichiometries grows too fast with it."""


@dataclass(frozen=True)
class Composition:
    """Elements, in the order they were named, and their numbers in a formula unit; None: any stoichiometry."""

    symbols: tuple[str, ...]
    ratio: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """``Si``, ``Si-O`` (any stoichiometry) or ``SiO2``."""
        return "-".join(self.symbols) if self.ratio is None else formula(self.symbols, self.ratio)

    def cells(self, atoms: int) -> tuple[tuple[int, ...], ...]:
        """Numbers of atoms of each element in cells of up to ``atoms`` atoms, smaller cells first."""
        if self.ratio is not None:
            unit = sum(self.ratio)
            return tuple(tuple(n * k for n in self.ratio) for k in range(1, atoms // unit + 1))
        return tuple(
            counts for total in range(len(self.symbols), atoms + 1) for counts in _splits(total, len(self.symbols))
        )

    def check_fits(self, atoms: int) -> None:
        """Raise `ParameterError` where a formula unit has more than ``atoms`` atoms."""
        least = len(self.symbols) if self.ratio is None else sum(self.ratio)
        if least > atoms:
            raise ParameterError(
                f"{self.name} takes {least} atoms at least; cells of up to {atoms} were asked for", name="atoms"
            )


def _splits(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in _splits(total - first, parts - 1):
            yield (first, *rest)


def formula(symbols: Sequence[str], counts: Sequence[int]) -> str:
    """Write ``Si2O4``; elements that are not there are left out."""
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in zip(symbols, counts, strict=True) if n)


def parse_composition(text: str) -> Composition:
    """Read ``Si``, ``Si-O`` (any stoichiometry) or ``SiO2`` (this one).

    Raises
    ------
    ElementError
        An unknown element.
    ParameterError
        Anything else that is no composition.
    """
    right = "right would be Si, Si-O (any stoichiometry) or SiO2"
    if "-" in text:
        symbols = tuple(text.split("-"))
        for symbol in symbols:
            if re.fullmatch(r"[A-Z][a-z]?\d+", symbol):
                raise ParameterError(f"composition {text!r} holds both '-' and numbers; {right}", name=text)
            element(symbol)
        ratio = None
    else:
        if not re.fullmatch(r"(?:[A-Z][a-z]?\d*)+", text):
            with_case = f"did you mean {text.capitalize()!r}? " if text.isalpha() and len(text) < 3 else ""
            raise ParameterError(f"{text!r} is no composition; {with_case}{right}", name=text)
        pieces = re.findall(r"([A-Z][a-z]?)(\d*)", text)
        symbols = tuple(symbol for symbol, _ in pieces)
        for symbol in symbols:
            element(symbol)
        numbers = [int(n or 1) for _, n in pieces]
        if 0 in numbers:
            raise ParameterError(f"composition {text!r} holds a zero; {right}", name=text)
        unit = gcd(*numbers)
        ratio = tuple(n // unit for n in numbers)
        if len(symbols) == 1:
            ratio = None
    if double := sorted({s for s in symbols if symbols.count(s) > 1}):
        raise ParameterError(f"composition {text!r} names {', '.join(double)} twice; {right}", name=text)
    if len(symbols) > MAX_ELEMENTS:
        raise ParameterError(
            f"composition {text!r} has {len(symbols)} elements; {MAX_ELEMENTS} are the most", name=text
        )
    return Composition(symbols, ratio)


def parse_spacegroups(text: str) -> tuple[int, ...]:
    """Read ``1-230``, ``227`` or ``195-230,2``; sorted. `ParameterError` says what is wrong."""
    groups: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= SPACEGROUPS:
            raise ParameterError(
                f"space groups {text!r}: {part.strip()!r} is no number or ascending range from 1 to {SPACEGROUPS}; "
                "right would be e.g. 1-230 or 2,195-230",
                name="spacegroups",
            )
        groups.update(range(low, high + 1))
    return tuple(sorted(groups))


def cell_formula(composition: Composition, atoms: Any) -> str:
    """Contents of a cell, elements in the order of the composition."""
    found = [str(symbol) for symbol in atoms.symbols]
    return formula(composition.symbols, [found.count(symbol) for symbol in composition.symbols])


def in_order(composition: Composition, atoms: Any) -> Any:
    """Return atoms sorted by element in the order of the composition."""
    order = sorted(range(len(atoms)), key=lambda i: composition.symbols.index(str(atoms.symbols[i])))
    return atoms[order]
