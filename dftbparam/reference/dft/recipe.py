"""How DFT references are computed: settings of one calculation, and the default per element from ``data/recipes.toml``.

Energies of one curve, and of all curves of one element, share a recipe, so that cutoff and smearing cancel.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dftbparam.errors import ParameterError

GPAW: Final = "gpaw"
"""The code that is built in; anything else is ``package.module:Calculator``, an ASE calculator."""


class Recipe(BaseModel):
    """Settings of a calculation.

    Attributes
    ----------
    code
        ``gpaw``, or the address ``package.module:name`` of an ASE calculator (a class or a function).
    options
        Keyword arguments of that calculator; with GPAW, arguments that override those made from the rest. ``{kpts}``
        as a value stands for the k-point divisions, ``{directory}`` for a scratch folder of the calculation's own.
    cutoff
        Plane-wave cutoff, eV.
    kpoint_density
        Divisions per 1/Angstrom of the reciprocal vectors 2 pi b; meshes hold Gamma.
    smearing
        Width of the Fermi-Dirac distribution, eV. Energies are extrapolated to zero width.
    energy, density, eigenstates
        Convergence: eV per valence electron, electrons per valence electron, eV^2 per valence electron.
    max_iterations
        SCF steps of one attempt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    code: str = GPAW
    options: dict[str, Any] = Field(default_factory=dict)
    functional: str = "PBE"
    cutoff: float = Field(default=450.0, gt=0.0)
    kpoint_density: float = Field(default=5.0, gt=0.0)
    smearing: float = Field(default=0.2, gt=0.0)
    energy: float = Field(default=1e-4, gt=0.0)
    density: float = Field(default=1e-3, gt=0.0)
    eigenstates: float = Field(default=1e-6, gt=0.0)
    max_iterations: int = Field(default=60, ge=1)

    @field_validator("code")
    @classmethod
    def _address(cls, code: str) -> str:
        module, _, name = code.partition(":")
        if code != GPAW and not (module and name.isidentifier()):
            raise ValueError(f"{code!r} is neither 'gpaw' nor an ASE calculator's package.module:Name")
        return code


@cache
def _defaults() -> dict[str, Any]:
    text = resources.files("dftbparam.reference.dft").joinpath("data/recipes.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    table["by_symbol"] = {s: float(cut) for cut, symbols in table["cutoffs"].items() for s in symbols}
    return table


def recipe_for(symbols: Sequence[str], /, **changes: Any) -> Recipe:
    """Return the default recipe for a structure of some elements, with changes to it.

    Raises
    ------
    ParameterError
        A change that is no setting, or out of range.
    """
    table = _defaults()
    cutoff = max((table["by_symbol"].get(symbol, table["cutoff"]) for symbol in symbols), default=table["cutoff"])
    compound = len(set(symbols)) > 1
    if compound:
        cutoff = max(cutoff, table["cutoff_binary"])
    density = table["kpoint_density_binary" if compound else "kpoint_density"]
    values = {"cutoff": cutoff, "kpoint_density": density, "smearing": table["smearing"]}
    try:
        return Recipe.model_validate({**values, **{k: v for k, v in changes.items() if v is not None}})
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise ParameterError(
            f"recipe {place}: {detail['msg'].removeprefix('Value error, ')} (given: {changes.get(place)!r})"
        ) from None
