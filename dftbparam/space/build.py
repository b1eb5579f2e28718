"""The search space of one element, from a definition that holds for all.

Names. A number that all shells share is called by the stem of its role, ``radius``, ``power``, ``height``,
``steepness``; that of one shell ``radius_3s``, that of the density ``radius_density``. ``confinement`` is the form of
the potential, ``shift_3d`` is added to the on-site energy of the empty polarisation shell, ``repulsion_length`` is a
parameter of the repulsion. A density without a number of its own takes the shared one, except for its radius; what
nobody names is at `DEFAULTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dftbparam.elements import Element, element, search_range
from dftbparam.errors import ParameterError
from dftbparam.space.definition import ELEMENT, REPULSION, ROLES, Entry, Own, Quantity, RoleInfo, SpaceDefinition
from dftbparam.space.parameters import Parameter, Scale, SearchSpace
from dftbparam.space.prior import Prior

DENSITY: Final = "density"
"""Stands for the density where shells are named."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "confinement": "power",
    "power": 2.0,
    "height": 5.0,
    "steepness": 2.0,
    "shift": 0.0,
}
"""Values of what a space does not name; the same as those of `dftbparam.space.Confinement`."""

_UNSAID: Final = {"confinement": "power", "power": 2.0, "shift": 0.0}
"""Fixed values that are not recorded: they were never said, and runs of old must go on."""


@dataclass(frozen=True)
class ElementSpace:
    """What is searched of an element, and what of it is fixed.

    Attributes
    ----------
    symbol, space
        Element, and the dimensions that are searched.
    fixed
        Values by name of what is not searched and not at its default.
    """

    symbol: str
    space: SearchSpace
    fixed: Mapping[str, Any]

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add what is fixed to a point of the space."""
        return {**self.fixed, **values}


def value_of(values: Mapping[str, Any], stem: str, of: str) -> Any:
    """Return the value of ``stem`` (``power``, say) for a shell such as ``3s``, or for `DENSITY`.

    Its own, else the shared one, else the default; a density never takes the shells' radius. `KeyError` where a radius
    is missing.
    """
    own = f"{stem}_{of}"
    if own in values:
        return values[own]
    if stem in values and not (stem == "radius" and of == DENSITY):
        return values[stem]
    return DEFAULTS[stem]


def build_space(symbol: str, definition: SpaceDefinition, repulsion: Sequence[Parameter] = ()) -> ElementSpace:
    """Return the search space of an element.

    Parameters
    ----------
    repulsion
        The parameters of the form of repulsion for this element, where the definition names some of them.

    Raises
    ------
    ElementError
        Unknown element.
    ParameterError
        For this element a range is upside down, a prior lies outside, or nothing is searched; the repulsion has no such
        parameter, or cannot take such values.
    """
    return _Builder(element(symbol), definition).build({p.name: p for p in repulsion})


class _Builder:
    """Collects dimensions and fixed values of one element."""

    def __init__(self, atom: Element, definition: SpaceDefinition) -> None:
        self.atom = atom
        self.definition = definition
        self.parameters: list[Parameter] = []
        self.fixed: dict[str, Any] = {}

    def build(self, forms: Mapping[str, Parameter]) -> ElementSpace:
        own = {
            "shell_radius": (*self.atom.shell_radius_range, self.atom.default_shell_radius),
            "density_radius": (*self.atom.density_radius_range, self.atom.default_density_radius),
        }
        for name, info in ROLES.items():
            self.role(name, info, own.get(name))
        for name, entry in self.definition.repulsion.items():
            if name not in forms:
                known = ", ".join(forms) or "none"
                raise self.error(entry, f"the repulsion has no parameter {name!r}; its parameters: {known}")
            form = forms[name]
            self.add(f"repulsion_{name}", entry, REPULSION, (form.low, form.high, None), within=form)
        if not self.parameters:
            raise ParameterError(
                f"{self.definition.source}: nothing is searched for {self.atom.symbol}", symbol=self.atom.symbol
            )
        fixed = {name: value for name, value in self.fixed.items() if _UNSAID.get(name) != value}
        return ElementSpace(self.atom.symbol, SearchSpace(tuple(self.parameters)), fixed)

    def role(self, name: str, info: RoleInfo, own: tuple[float, float, float] | None) -> None:
        role = self.definition.roles.get(name)
        if role is None:
            if own is not None:
                self.fixed[info.stem] = own[2]
            return
        limits: tuple[float, float, float | None] | None = own
        if limits is None and info.own_range:
            low, high = search_range(info.stem.removesuffix("_density"))
            limits = (low, high, None)
        if not info.shells:
            if role.entry is not None:
                self.add(info.stem, role.entry, info, limits)
            return
        shared = False
        for nl in self.shells(name):
            entry = role.shells.get(nl[-1], role.entry)
            if entry is None:
                if own is not None:
                    self.fixed[f"{info.stem}_{nl}"] = own[2]
            elif nl[-1] in role.shells or role.per_shell:
                self.add(f"{info.stem}_{nl}", entry, info, limits)
            elif not shared:
                shared = True
                self.add(info.stem, entry, info, limits)
        alone = not shared and not role.per_shell and name in ("power", "height", "steepness")
        if role.entry is not None and alone and f"density_{name}" not in self.definition.roles:
            # Every shell has its own: the density alone takes the number that is to be shared.
            self.add(info.stem, role.entry, info, limits)

    def shells(self, role: str) -> Iterable[str]:
        if role != "shift":
            return self.atom.valence
        return () if self.atom.polarisation is None else (self.atom.polarisation,)

    def add(
        self,
        name: str,
        entry: Entry,
        info: RoleInfo,
        own: tuple[float, float, float | None] | None,
        within: Parameter | None = None,
    ) -> None:
        """Add a dimension, or a fixed value."""
        unit = info.unit if within is None else within.unit
        values: tuple[Any, ...]
        try:
            if entry.fixed is not None:
                self.fixed[name] = own[2] if entry.fixed == ELEMENT and own else self.number(entry.fixed)
                values = (self.fixed[name],)
            elif entry.choices:
                values = tuple(self.number(choice) for choice in entry.choices)
                self.parameters.append(Parameter.categorical(name, values, unit))
            else:
                assert entry.range is not None
                low, high = (own or (0.0, 0.0))[:2] if entry.range == ELEMENT else map(self.number, entry.range)
                values = (low, high)
                prior = None if entry.prior is None else self.prior(entry.prior, entry.scale, own)
                self.parameters.append(Parameter(name, low, high, entry.scale, unit, entry.kind, (), prior))
        except ParameterError as error:
            raise self.error(entry, error.message) from None
        if within is not None and not all(within.low <= value <= within.high for value in values):
            raise self.error(
                entry, f"{list(values)} leaves what this repulsion may take, [{within.low:g}, {within.high:g}] {unit}"
            )

    def prior(
        self, prior: tuple[Quantity | Own, float], scale: Scale, own: tuple[float, float, float | None] | None
    ) -> Prior:
        centre, width = prior
        if isinstance(centre, Quantity):
            # On a linear scale the width is measured as the centre is; on a log scale it is a factor.
            wide = width if scale == "log" else self.number(Quantity(width, centre.length))
            return Prior(self.number(centre), wide)
        middle = None if own is None else own[2]
        assert middle is not None  # the file's reader refuses "element" for roles without a value
        return Prior(middle, width)

    def number(self, value: Quantity | str) -> Any:
        return value.of(self.atom.covalent_radius) if isinstance(value, Quantity) else value

    def error(self, entry: Entry, reason: str) -> ParameterError:
        return self.definition.error(entry.place, self.atom.symbol, reason)
