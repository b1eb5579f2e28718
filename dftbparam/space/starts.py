"""Points to begin a search with: known parameters, expressed in whatever space is searched.

A start is a confinement per shell and for the density, with shifts, as a record has them. A space may want it
otherwise: one radius for all shells (the geometric mean is taken), or another form of confinement. Between (r/r0)^p and
the Woods-Saxon wall W / (1 + exp(-a (r - R))) the two are taken for the same where they agree, in value and in slope,
at half the wall's height: R = r0 (W/2)^(1/p) and a = 2 p / R.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Final

from dftbparam.elements import Element, element
from dftbparam.space.build import DEFAULTS, DENSITY, ElementSpace
from dftbparam.space.definition import SMALLEST_RADIUS
from dftbparam.space.parameter_set import Confinement, ElementParameters, RepulsionParameters
from dftbparam.space.parameters import Parameter

FAMILIES: Final[tuple[Mapping[str, float], ...]] = (
    {"s": 1.05, "p": 4.5, "d": 4.5, "f": 4.5, "density": 2.75, "power": 6.0, "shift": 0.10},
    {"s": 2.00, "p": 1.25, "d": 1.10, "f": 1.10, "density": 2.40, "power": 3.0, "shift": 0.10},
)
"""Points to start from beside the default radii: radii in covalent radii, shift in Hartree.

Two families of good parameters that fits of sp and of d elements end in: a tight s shell with the others nearly free,
and tight p and d shells. A Gaussian process finds them from scratch, too, but in several times as many evaluations.
"""


@dataclass(frozen=True)
class Start:
    """Parameters of an element to begin with.

    ``origin`` says in a few words where they come from; ``shells`` by name of shell, ``shifts`` in Hartree; ``rough``
    marks a guess, of which nobody wants to hear that it had to be moved into the ranges.
    """

    origin: str
    shells: Mapping[str, Confinement]
    density: Confinement
    shifts: Mapping[str, float] = field(default_factory=dict)
    repulsion: RepulsionParameters | None = None
    rough: bool = False

    def in_space(self, space: ElementSpace) -> tuple[dict[str, Any], list[str]]:
        """Express it as a point of a space.

        Returns
        -------
        values, moved
            A value for every parameter of the space; and of each that lay outside of its range, or had no value, what
            was done.
        """
        values: dict[str, Any] = {}
        moved: list[str] = []
        # The form comes first: what is a good radius depends on it, as a wall's on its height.
        order = {"confinement": 0, "height": 1}
        for parameter in sorted(space.space.parameters, key=lambda p: order.get(p.name.split("_")[0], 2)):
            wanted = self._wanted(parameter, space.complete(values))
            value = parameter.nearest(wanted)
            if value != wanted:
                moved.append(f"{parameter.name} = {_shown(wanted)} {parameter.unit}".rstrip() + f" to {_shown(value)}")
            values[parameter.name] = value
        return {name: values[name] for name in space.space.names}, moved

    def _wanted(self, parameter: Parameter, known: Mapping[str, Any]) -> Any:
        stem, _, of = parameter.name.partition("_")
        if stem == "shift":
            return self.shifts.get(of, DEFAULTS["shift"])
        if stem == "repulsion":
            given = {} if self.repulsion is None else self.repulsion.values
            middle = (parameter.low * parameter.high) ** 0.5 if parameter.scale == "log" else None
            default = 0.5 * (parameter.low + parameter.high) if middle is None else middle
            return given.get(of, default) if parameter.kind != "categorical" else parameter.choices[0]
        if of == DENSITY:
            confinements = [self.density]
        elif of:
            confinements = [self.shells[of]]
        else:
            # A number that all share; the density's radius is always its own.
            confinements = list(self.shells.values())
        if stem == "confinement":
            kind = confinements[0].kind
            return kind if kind in parameter.choices else parameter.choices[0]
        kind = known.get(f"confinement_{of}", known.get("confinement", DEFAULTS["confinement"]))
        height = known.get(f"height_{of}", known.get("height"))
        found = [_as(confinement, kind, height) for confinement in confinements]
        return _mean([getattr(confinement, stem) for confinement in found])


def default_starts(symbol: str) -> list[Start]:
    """Starts that need no file: the element's default radii, the published ones where there are, then `FAMILIES`."""
    atom = element(symbol)
    radius = max(atom.covalent_radius, SMALLEST_RADIUS)
    starts = [
        Start(
            "published" if atom.radii_from == "published" else f"published for {atom.radii_from}, scaled",
            {nl: Confinement(radius=atom.default_shell_radius) for nl in atom.valence},
            Confinement(radius=atom.default_density_radius),
        )
    ]
    for family in FAMILIES:
        power = family["power"]
        starts.append(
            Start(
                "family",
                {nl: Confinement(radius=family[nl[-1]] * radius, power=power) for nl in atom.valence},
                Confinement(radius=family["density"] * radius, power=power),
                dict.fromkeys(atom.valence, family["shift"]),
                rough=True,
            )
        )
    return starts


def start_from_record(
    symbol: str, record: ElementParameters, origin: str, levels: Mapping[str, float] | None = None
) -> Start:
    """Make a start of a record, of the element itself or of another one.

    Of another element, shells are matched by angular momentum and lengths scaled by the ratio of covalent radii (at
    least `SMALLEST_RADIUS`); a shell that it lacks has the element's default radius. Its repulsion is not taken over.

    Parameters
    ----------
    levels
        Levels of the free atom of the record's element, Hartree, by shell; needed where the record has on-site
        energies.
    """
    atom, other = element(symbol), element(record.symbol)
    same = record.symbol == symbol
    ratio = max(atom.covalent_radius, SMALLEST_RADIUS) / max(other.covalent_radius, SMALLEST_RADIUS)
    theirs = {nl[-1]: nl for nl in record.shells}
    shells: dict[str, Confinement] = {}
    shifts: dict[str, float] = {}
    for nl in atom.valence:
        match = theirs.get(nl[-1])
        if match is None:
            shells[nl] = Confinement(radius=atom.default_shell_radius)
            continue
        shells[nl] = record.shells[match] if same else _scaled(record.shells[match], ratio)
        if match in record.on_site and levels is not None:
            shifts[nl] = record.on_site[match] - levels[match]
    return Start(
        origin=origin,
        shells=shells,
        density=record.density if same else _scaled(record.density, ratio),
        shifts=shifts,
        repulsion=record.repulsion if same else None,
    )


def group_neighbours(symbol: str, known: Iterable[str]) -> list[str]:
    """Return the others of ``known`` in the element's group of the periodic table, the nearest periods first."""
    atom = element(symbol)
    if atom.group is None:
        return []
    found = [other for other in map(element, known) if other.group == atom.group and other.symbol != symbol]
    return _nearest(found, lambda other: abs(other.period - atom.period))


def period_neighbours(symbol: str, known: Iterable[str]) -> list[str]:
    """Return the others of ``known`` in the element's period of the periodic table, the nearest charges first."""
    atom = element(symbol)
    found = [other for other in map(element, known) if other.period == atom.period and other.symbol != symbol]
    return _nearest(found, lambda other: abs(other.number - atom.number))


def _nearest(found: Sequence[Element], distance: Any) -> list[str]:
    return [other.symbol for other in sorted(found, key=lambda other: (distance(other), other.number))]


def _scaled(confinement: Confinement, ratio: float) -> Confinement:
    """A confinement for an atom ``ratio`` times as large."""
    update = {"radius": confinement.radius * ratio, "steepness": confinement.steepness / ratio}
    return confinement.model_copy(update=update)


def _as(confinement: Confinement, kind: str, height: float | None) -> Confinement:
    """The same confinement in another form; see the module. ``height`` is the wall's, None: the default."""
    if confinement.kind == kind or "none" in (confinement.kind, kind):
        return confinement
    if kind == "woods-saxon":
        wall = DEFAULTS["height"] if height is None else height
        radius = confinement.radius * (0.5 * wall) ** (1.0 / confinement.power)
        return Confinement(kind="woods-saxon", radius=radius, height=wall, steepness=2.0 * confinement.power / radius)
    power = min(max(0.5 * confinement.steepness * confinement.radius, 1.0), 20.0)
    return Confinement(radius=confinement.radius / (0.5 * confinement.height) ** (1.0 / power), power=power)


def _mean(values: Sequence[float]) -> float:
    """Geometric mean; equal numbers come back bit for bit."""
    if len(set(values)) == 1:
        return values[0]
    return exp(sum(log(value) for value in values) / len(values))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
