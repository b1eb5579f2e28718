"""Parameters as records: what is fitted, saved and published.

Radii in Bohr, energies in Hartree. A record is plain JSON, so that a published set can be read without this package.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dftbparam.elements import element, parse_configuration
from dftbparam.errors import ElementError, FileFormatError, ParameterError

SCHEMA_VERSION = 1
"""Raised when a saved parameter set can no longer be read by the previous code."""

ELECTRON_TOLERANCE = 1e-6
"""Electrons that a configuration with fractional occupations may be off by."""

PUBLISHED = ("dftbparam-2026.1",)
"""Sets of this project that ship: in a checkout ``skf_out/NAME/parameters.json``, in a wheel beside PTBP's file."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Confinement(_Record):
    """A confining potential.

    ``power``: V(r) = (r / radius)**power (Hartree, Bohr), the form of Eschrig and of PTBP.
    ``woods-saxon``: V(r) = height / (1 + exp(-steepness (r - radius))), Koskinen & Makinen 2009.
    ``none``: the free atom.
    """

    kind: Literal["power", "woods-saxon", "none"] = "power"
    radius: float = Field(default=1.0, gt=0.0)
    power: float = Field(default=2.0, ge=1.0, le=20.0)
    height: float = Field(default=5.0, gt=0.0)
    steepness: float = Field(default=2.0, gt=0.0)


class RepulsionParameters(_Record):
    """Atom-wise repulsion: the name of a form in `dftbparam.repulsion` and its values for this element."""

    form: str
    values: dict[str, float] = Field(default_factory=dict)


class ElementParameters(_Record):
    """Everything fitted for one element.

    ``shells`` maps valence shells ("3s", "3p", "3d") to their confinement; their order is that of the SKF shells.
    ``on_site`` overrides free-atom eigenvalues (Hartree) of shells that have none of their own worth using.

    Validated at construction: a known element, all its electrons in ``configuration`` (the atom is neutral), every
    shell of ``shells`` in it (an empty one as ``3d0``), and ``on_site`` for such shells only.
    """

    symbol: str
    configuration: str
    shells: dict[str, Confinement]
    density: Confinement
    repulsion: RepulsionParameters | None = None
    on_site: dict[str, float] = Field(default_factory=dict)
    notes: str = ""

    @field_validator("shells")
    @classmethod
    def _at_least_one(cls, shells: dict[str, Confinement]) -> dict[str, Confinement]:
        if not shells:
            raise ValueError("an element needs at least one valence shell, e.g. {'3s': {'radius': 3.6}}")
        angular = ["spdf".find(name[-1:]) for name in shells]
        if min(angular) < 0 or len(set(angular)) != len(angular):
            raise ValueError(f"shells {list(shells)} must be named like '3s', one per angular momentum")
        return shells

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        try:
            atom = element(self.symbol)
            configuration = parse_configuration(self.configuration)
        except (ElementError, ParameterError) as error:
            # pydantic collects ValueErrors only; these would pass through it without the place in the file.
            raise ValueError(error.message) from None
        electrons = sum(configuration.values())
        if abs(electrons - atom.number) > ELECTRON_TOLERANCE:
            raise ValueError(
                f"configuration {self.configuration!r} holds {electrons:g} electrons, but {self.symbol} has "
                f"{atom.number}; right would be e.g. {atom.configuration_text!r}"
            )
        absent = [shell for shell in self.shells if shell not in configuration]
        if absent:
            raise ValueError(
                f"shell {absent[0]!r} is not in the configuration {self.configuration!r}; an empty shell is written "
                f"with zero electrons, as {absent[0]}0"
            )
        stray = [shell for shell in self.on_site if shell not in self.shells]
        if stray:
            raise ValueError(f"on_site names the shell {stray[0]!r}; the valence shells are {', '.join(self.shells)}")
        return self

    @property
    def max_angular(self) -> int:
        """Highest angular momentum among the valence shells."""
        return max("spdf".index(name[-1]) for name in self.shells)


class ParameterSet(_Record):
    """A named set of element parameters with its provenance."""

    schema_version: int = SCHEMA_VERSION
    name: str
    functional: Literal["LDA", "PBE"] = "PBE"
    superposition: Literal["density", "potential"] = "density"
    elements: dict[str, ElementParameters]
    source: str = ""
    doi: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keys_match(self) -> Self:
        for symbol, record in self.elements.items():
            if record.symbol != symbol:
                raise ValueError(f"element {symbol!r} holds the parameters of {record.symbol!r}")
        return self

    def element(self, symbol: str) -> ElementParameters:
        """Return the parameters of one element; `ParameterError` names what the set has where it is missing."""
        try:
            return self.elements[symbol]
        except KeyError:
            known = " ".join(sorted(self.elements)) or "none"
            raise ParameterError(
                f"parameter set {self.name!r} has no element {symbol!r}; it has: {known}", symbol=symbol
            ) from None

    def save(self, path: Path) -> None:
        """Write as JSON; the file appears whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def shipped_sets() -> dict[str, Traversable]:
    """Parameter files that come with the package, by name: PTBP and `PUBLISHED`."""
    data = resources.files("dftbparam.space") / "data"
    found: dict[str, Traversable] = {
        file.name.removesuffix(".json"): file for file in data.iterdir() if file.name.endswith(".json")
    }
    for name in PUBLISHED:
        file = Path(__file__).resolve().parents[2] / "skf_out" / name / "parameters.json"
        if file.is_file():
            found.setdefault(name, file)
    return dict(sorted(found.items()))


def load_parameter_set(name_or_path: str | Path) -> ParameterSet:
    """Load a set that ships with the package (``ptbp``, ``dftbparam-2026.1``) or a JSON file.

    Raises
    ------
    ParameterError
        The name is neither a shipped set nor a file.
    FileFormatError
        The file is not a parameter set; the message says which field is wrong.
    """
    shipped = shipped_sets()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        text, where = shipped[name_or_path].read_text(encoding="utf-8"), f"{name_or_path}.json"
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise ParameterError(
                f"{str(name_or_path)!r} is neither a parameter file nor a shipped set; shipped: {', '.join(shipped)}",
                name=str(name_or_path),
            )
        try:
            text, where = path.read_text(encoding="utf-8-sig"), str(path)
        except UnicodeDecodeError as error:
            raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
    try:
        return ParameterSet.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"not JSON: {error.msg}", path=where, line=error.lineno) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        # The validators above name the offending value themselves; their input is the whole record.
        given = "" if first["type"] == "value_error" else f" (given: {str(first.get('input'))[:60]!r})"
        raise FileFormatError(f"{place}: {message}{given}" if place else message, path=where) from None
