"""Read a search space from TOML; every refusal names the place in the file. See `dftbparam.space.definition`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from math import isfinite
from typing import Any, Final, Literal, NoReturn

from dftbparam.elements import all_symbols, element
from dftbparam.errors import FileFormatError
from dftbparam.space.definition import (
    ELEMENT,
    FORMAT,
    KINDS,
    REPULSION,
    ROLES,
    Entry,
    Own,
    Quantity,
    Role,
    RoleInfo,
    SpaceDefinition,
)
from dftbparam.space.parameters import Kind, Scale
from dftbparam.space.toml_lines import line_of

_KEYS: Final = ("range", "choices", "fixed", "kind", "scale", "prior")
_WIDTH: Final = RoleInfo("width", low=-float("inf"))
_SCALES: Final[tuple[Scale, ...]] = ("linear", "log")
_FILE_KINDS: Final[tuple[Kind, ...]] = ("real", "integer", "categorical")

_RELATIVE: Final = {
    1: re.compile(r"\s*(?P<value>[-+0-9.eE]+)\s*\*?\s*r_cov\s*"),
    -1: re.compile(r"\s*(?P<value>[-+0-9.eE]+)\s*/\s*r_cov\s*"),
}
_RELATIVE_EXAMPLE: Final = {0: "", 1: ', or a text such as "1.5 r_cov"', -1: ', or a text such as "2 / r_cov"'}


def read_definition(text: str, source: str) -> SpaceDefinition:
    """Read a search space; ``source`` names the file in messages.

    Raises
    ------
    FileFormatError
        It is not TOML, of another format, or says something that no element can have.
    """
    return _File(text, source).read()


class _File:
    """One file while it is read."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source

    def refuse(self, place: str, reason: str) -> NoReturn:
        line = line_of(self.text, place.split("."))
        raise FileFormatError(f"{place}: {reason}" if place else reason, path=self.source, line=line, place=place)

    def read(self) -> SpaceDefinition:
        try:
            data = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"at line (\d+)", str(error))
            raise FileFormatError(
                f"not TOML: {error}", path=self.source, line=None if line is None else int(line[1])
            ) from None
        if (version := data.get("format")) != FORMAT or isinstance(version, bool):
            has = "has no format" if version is None else f"has format = {version!r}"
            self.refuse("" if version is None else "format", f"{has}; this version reads format = {FORMAT}")
        known = ("format", "name", "description", *ROLES, "repulsion")
        for key in data:
            if key not in known:
                self.refuse(key, f"there is no role {key!r}; {_known(key, known[3:], 'roles')}")
        for key in ("name", "description"):
            if not isinstance(data.get(key, ""), str) or (key == "name" and not data.get(key)):
                self.refuse(key, f'a search space needs a {key} in quotes, e.g. {key} = "mine"')
        roles = {name: self.role(name, data[name], info) for name, info in ROLES.items() if name in data}
        repulsion = self.repulsion(data["repulsion"]) if "repulsion" in data else {}
        self.check(roles)
        if not any(entry.searched for role in roles.values() for entry in role.entries) and not any(
            entry.searched for entry in repulsion.values()
        ):
            self.refuse("", 'nothing is searched; give a role a range, e.g. [shell_radius] range = ["1 r_cov", 9.0]')
        return SpaceDefinition(data["name"], roles, repulsion, data.get("description", ""), self.source)

    def role(self, name: str, data: Any, info: RoleInfo) -> Role:
        if isinstance(data, list) and data and isinstance(data[0], Mapping):
            self.refuse(name, f"is a list of tables; write [{name}] once")
        if not isinstance(data, Mapping):
            return Role(self.fixed(name, data, info))
        own = {key: value for key, value in data.items() if key in (*_KEYS, "per")}
        shells: dict[str, Entry] = {}
        for key, value in data.items():
            if key in own:
                continue
            place = f"{name}.{key}"
            if info.shells and key in _shell_letters(name):
                shells[key] = self.entry(place, value, info)
            elif info.shells and (isinstance(value, Mapping) or re.fullmatch(r"[1-9]?[a-z]", key)):
                letters = ", ".join(_shell_letters(name))
                what = "an empty polarisation shell" if name == "shift" else "a shell"
                self.refuse(place, f"no element has such {what} {key!r}; write one of {letters}")
            else:
                keys = (*_KEYS, "per") if info.shells else _KEYS
                self.refuse(place, f"unknown key {key!r}; {_known(key, keys, 'keys')}")
        per_shell = info.per_shell
        if "per" in own:
            if not info.shells:
                self.refuse(f"{name}.per", f"unknown key 'per'; {name} is one number in any case")
            if own["per"] not in ("shell", "element"):
                self.refuse(f"{name}.per", f'{own["per"]!r} is neither "shell" (each its own) nor "element" (shared)')
            per_shell = own.pop("per") == "shell"
        if not own and not shells:
            self.refuse(name, "is empty; give it a range, choices, or a fixed value")
        return Role(self.entry(name, own, info) if own else None, per_shell, shells)

    def repulsion(self, data: Any) -> dict[str, Entry]:
        if not isinstance(data, Mapping) or not data or not all(isinstance(v, Mapping) for v in data.values()):
            self.refuse("repulsion", "holds one table a parameter of the form, e.g. [repulsion.length]")
        return {name: self.entry(f"repulsion.{name}", value, REPULSION) for name, value in data.items()}

    def entry(self, place: str, data: Any, info: RoleInfo) -> Entry:
        if not isinstance(data, Mapping):
            return self.fixed(place, data, info)
        for key in data:
            if key not in _KEYS:
                self.refuse(f"{place}.{key}", f"unknown key {key!r}; {_known(key, _KEYS, 'keys')}")
        given = [key for key in ("range", "choices", "fixed") if key in data]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has none"
            self.refuse(place, f"needs one of range (searched), choices (searched) and fixed; it {has}")
        kind = self.one_of(place, data, "kind", _FILE_KINDS, "categorical" if "choices" in data else "real")
        if (kind == "categorical") != ("choices" in data):
            self.refuse(
                f"{place}.kind", f"{kind!r} does not go with {given[0]}; choices are categorical, ranges are not"
            )
        scale = self.one_of(place, data, "scale", _SCALES, "linear")
        for key in ("kind", "scale", "prior"):
            if key in data and (given == ["fixed"] or (given == ["choices"] and key != "kind")):
                self.refuse(f"{place}.{key}", f"means nothing beside {given[0]}; only a range has one")
        if given == ["fixed"]:
            return self.fixed(place, data["fixed"], info, f"{place}.fixed")
        if given == ["choices"]:
            return Entry(place, choices=self.choices(f"{place}.choices", data["choices"], info), kind=kind)
        found = self.range(f"{place}.range", data["range"], info, scale)
        if kind == "integer" and not all(isinstance(end, Quantity) and end.whole for end in found):
            self.refuse(f"{place}.range", f"{data['range']!r}: an integer's range has whole numbers at both ends")
        prior = self.prior(f"{place}.prior", data["prior"], info, scale) if "prior" in data else None
        return Entry(place, range=found, kind=kind, scale=scale, prior=prior)

    def one_of(self, place: str, data: Mapping[str, Any], key: str, known: tuple[Any, ...], default: Any) -> Any:
        value = data.get(key, default)
        if value not in known:
            self.refuse(f"{place}.{key}", f"{value!r} is none of {', '.join(map(repr, known))}")
        return value

    def fixed(self, place: str, value: Any, info: RoleInfo, at: str | None = None) -> Entry:
        if value == ELEMENT and not info.texts:
            if not info.own_value:
                self.refuse(at or place, "elements have no value of their own for this role; give a number")
            return Entry(place, fixed=ELEMENT)
        return Entry(place, fixed=self.value(at or place, value, info))

    def choices(self, place: str, value: Any, info: RoleInfo) -> tuple[Quantity | str, ...]:
        if not isinstance(value, list) or len(value) < 2:
            self.refuse(place, f"{value!r} must be a list of two or more")
        found = tuple(self.value(place, one, info) for one in value)
        if len(set(found)) != len(found):
            self.refuse(place, f"{value!r} names one twice")
        return found

    def range(self, place: str, value: Any, info: RoleInfo, scale: Scale) -> tuple[Quantity, Quantity] | Own:
        if info.texts:
            self.refuse(place, f"has no range; give choices, or one of {', '.join(info.texts)}")
        if value == ELEMENT:
            if not info.own_range:
                self.refuse(place, "elements have no range of their own for this role; give [low, high]")
            return "element"
        if not isinstance(value, list) or len(value) != 2:
            own = ', or "element"' if info.own_range else ""
            self.refuse(place, f"{value!r} must be [low, high]{own}")
        low, high = (self.quantity(place, one, info) for one in value)
        if low.length == high.length and low.value >= high.value:
            self.refuse(place, f"[{low}, {high}] is upside down or empty; did you mean [{high}, {low}]?")
        if scale == "log" and low.value <= 0.0:
            self.refuse(place, f"a log scale needs low > 0, got {low}")
        return low, high

    def prior(self, place: str, value: Any, info: RoleInfo, scale: Scale) -> tuple[Quantity | Own, float]:
        if not isinstance(value, Mapping) or set(value) != {"centre", "width"}:
            self.refuse(place, f"{value!r} must be {{ centre = ..., width = ... }}")
        centre: Quantity | Own
        if value["centre"] == ELEMENT:
            if not info.own_value:
                self.refuse(f"{place}.centre", "elements have no value of their own for this role; give a number")
            centre = "element"
        else:
            centre = self.quantity(f"{place}.centre", value["centre"], info)
        width = self.quantity(f"{place}.width", value["width"], _WIDTH).value
        if width <= (1.0 if scale == "log" else 0.0):
            right = "a factor above 1 on a log scale" if scale == "log" else "above 0"
            self.refuse(f"{place}.width", f"must be {right}, got {width:g}")
        return centre, width

    def value(self, place: str, value: Any, info: RoleInfo) -> Quantity | str:
        if not info.texts:
            return self.quantity(place, value, info)
        if value not in info.texts:
            self.refuse(place, f"{value!r} is none of {', '.join(map(repr, info.texts))}")
        return str(value)

    def quantity(self, place: str, value: Any, info: RoleInfo) -> Quantity:
        length = 0
        number = value
        if isinstance(value, str) and info.length:
            match = _RELATIVE[info.length].fullmatch(value)
            with suppress(ValueError):
                number, length = (value, 0) if match is None else (float(match["value"]), info.length)
        if isinstance(number, bool) or not isinstance(number, int | float) or not isfinite(number):
            unit = f" in {info.unit}" if info.unit else ""
            self.refuse(place, f"{value!r}: give a finite number{unit}{_RELATIVE_EXAMPLE[info.length]}")
        if length:
            if number <= 0.0:
                self.refuse(place, f"{value!r} must be more than 0")
        elif number < info.low or (info.open_low and number == info.low) or number > info.high:
            limits = f"above {info.low:g}" if info.open_low else f"between {info.low:g} and {info.high:g}"
            self.refuse(place, f"must be {limits} {info.unit}".rstrip() + f", got {number:g}")
        return Quantity(float(number), length)

    def check(self, roles: Mapping[str, Role]) -> None:
        """Refuse roles that the chosen confinements have no use for."""
        shells = _kinds(roles.get("confinement"))
        density = _kinds(roles["density_confinement"]) if "density_confinement" in roles else shells
        for name in ("power", "height", "steepness"):
            kind = "power" if name == "power" else "woods-saxon"
            shared = density if f"density_{name}" not in roles else set()
            if name in roles and kind not in shells | shared:
                self.refuse(name, f"a {' or '.join(sorted(shells))} confinement has no {name}")
            if f"density_{name}" in roles and kind not in density:
                self.refuse(f"density_{name}", f"a {' or '.join(sorted(density))} confinement has no {name}")
        if density == {"none"} and "density_radius" in roles:
            self.refuse("density_radius", "a density that is not confined has no radius")


def _kinds(role: Role | None) -> set[str]:
    """Confinements that a role may come to."""
    if role is None or role.entry is None:
        return {KINDS[0]}
    entry = role.entry
    return {str(one) for one in (entry.choices if entry.searched else (entry.fixed,))}


@cache
def _shell_letters(role: str) -> tuple[str, ...]:
    """Letters of the shells that an element has: of empty polarisation shells for a shift, else of all."""
    atoms = [element(symbol) for symbol in all_symbols()]
    if role == "shift":
        found = {atom.polarisation[-1] for atom in atoms if atom.polarisation is not None}
    else:
        found = {nl[-1] for atom in atoms for nl in atom.valence}
    return tuple(sorted(found, key="spdf".index))


def _known(word: str, known: Iterable[str], what: Literal["roles", "keys"]) -> str:
    """Name the nearest known word, else all."""
    names = list(known)
    close = get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{what} are: {', '.join(names)}"
