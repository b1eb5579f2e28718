"""The table of elements, read from ``data/elements.toml`` when first asked for.

The file's head says where its figures come from and by what rule ranges and missing radii were chosen.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from dftbparam.elements.configuration import parse_configuration
from dftbparam.errors import ElementError
from dftbparam.units import BOHR


@dataclass(frozen=True)
class Element:
    """What an atom is made of and where a fit of it starts. Radii in Bohr, mass in atomic mass units.

    Attributes
    ----------
    configuration
        Electrons per shell, core included, ordered by n, then l: ``{"1s": 2.0, ..., "3p": 2.0, "3d": 0.0}``. They add
        up to ``number``; shells with zero electrons belong to the basis.
    configuration_text
        The same in noble-gas notation, ``[Ne] 3s2 3p2 3d0``.
    valence
        Shells of the minimal basis in the order s, p, d, f, one per angular momentum.
    polarisation
        The valence shell that is empty in the atom and there for flexibility, or None.
    covalent_radius
        Cordero et al., Dalton Trans. 2832 (2008).
    group
        1 to 18, None for La-Yb and Ac-Cm.
    default_shell_radius, default_density_radius
        r0 of the confinement (r/r0)^2 of orbitals and density.
    shell_radius_range, density_radius_range
        (low, high) of a search.
    free_box_radius
        Radius of the (r / radius)^4 box that holds the free atom.
    radii_from
        ``published``, or the symbol of the neighbour whose published radii were scaled.
    notes
        Why these shells.
    """

    symbol: str
    number: int
    name: str
    mass: float
    configuration: Mapping[str, float] = field(hash=False)
    configuration_text: str
    valence: tuple[str, ...]
    polarisation: str | None
    covalent_radius: float
    block: str
    group: int | None
    period: int
    default_shell_radius: float
    default_density_radius: float
    shell_radius_range: tuple[float, float]
    density_radius_range: tuple[float, float]
    free_box_radius: float
    radii_from: str
    notes: str

    @property
    def valence_occupations(self) -> dict[str, float]:
        """Electrons of the free neutral atom per valence shell, in the order of ``valence``."""
        return {shell: self.configuration[shell] for shell in self.valence}

    @property
    def valence_electrons(self) -> float:
        """Electrons of the free neutral atom in the valence shells."""
        return sum(self.valence_occupations.values())

    @property
    def max_angular(self) -> int:
        """Highest angular momentum among the valence shells."""
        return len(self.valence) - 1


def all_symbols() -> tuple[str, ...]:
    """Symbols of the known elements in order of atomic number, H to Cm."""
    return tuple(_table()["elements"])


def element(symbol: str) -> Element:
    """Return one element.

    Raises
    ------
    ElementError
        Unknown symbol; the message names the nearest known ones.
    """
    records: dict[str, dict[str, Any]] = _table()["elements"]
    if symbol not in records:
        near = _nearest(symbol, records)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {_known()}"
        raise ElementError(f"unknown element {symbol!r}; {hint}", symbol=symbol, suggestions=near)
    return _build(symbol)


def _known() -> str:
    symbols = all_symbols()
    return f"the {len(symbols)} elements from {symbols[0]} to {symbols[-1]}"


def _nearest(symbol: str, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Up to three known symbols like the given text: case, the English name, then spelling."""
    text = str(symbol).strip()
    if text.capitalize() in records:
        return [text.capitalize()]
    names = {record["name"]: known for known, record in records.items()}
    by_name = [names[name] for name in difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.7)]
    if by_name:
        return by_name
    return difflib.get_close_matches(text.capitalize(), records, n=3, cutoff=0.5)


@cache
def _table() -> dict[str, Any]:
    file = resources.files("dftbparam.elements") / "data" / "elements.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def search_range(name: str) -> tuple[float, float]:
    """Return (low, high) of a search dimension that all elements share: ``power``, or ``shift`` in Hartree."""
    low, high = _table()["search"][name]
    return (low, high)


@cache
def _build(symbol: str) -> Element:
    table = _table()
    record = table["elements"][symbol]
    return Element(
        symbol=symbol,
        number=record["number"],
        name=record["name"],
        mass=record["mass"],
        configuration=parse_configuration(record["configuration"]),
        configuration_text=record["configuration"],
        valence=tuple(record["valence"]),
        polarisation=record.get("polarisation"),
        covalent_radius=record["covalent_radius"] / BOHR,
        block=record["block"],
        group=record.get("group"),
        period=record["period"],
        default_shell_radius=record["shell_radius"],
        default_density_radius=record["density_radius"],
        shell_radius_range=(record["shell_radius_range"][0], record["shell_radius_range"][1]),
        density_radius_range=(record["density_radius_range"][0], record["density_radius_range"][1]),
        free_box_radius=record.get("free_box_radius", 40.0),
        radii_from=record["radii_from"],
        notes=table["choices"][record["choice"]],
    )
