"""The search space of one element, and what a point of it means.

Dimensions: the confinement radius of every valence shell and of the density (Bohr, log scale), named ``radius_3s`` ...
and ``radius_density``; the power p of (r/r0)^p, shared by all, ``power``; and, for elements with a polarisation shell,
``shift_3d``, Hartree added to its on-site energy, because the free atom does not bind that shell and its level there is
the box's rather than the element's. Ranges are data of `dftbparam.elements`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dftbparam.elements import Element, element, search_range
from dftbparam.errors import ParameterError
from dftbparam.space.parameter_set import Confinement, ElementParameters, RepulsionParameters
from dftbparam.space.parameters import Parameter, SearchSpace

DENSITY: Final = "radius_density"
POWER: Final = "power"

DEFAULT_POWER: Final = 2.0


def element_space(symbol: str, *, power: bool = True, shift: bool = True) -> SearchSpace:
    """Return the search space of an element.

    Parameters
    ----------
    power, shift
        Whether the confinement power and the on-site shift of the polarisation shell are searched; else they stay at 2
        and 0.

    Raises `ElementError` for an unknown element.
    """
    atom = element(symbol)
    shells = [Parameter(f"radius_{nl}", *atom.shell_radius_range, "log", "Bohr") for nl in atom.valence]
    density = Parameter(DENSITY, *atom.density_radius_range, "log", "Bohr")
    more = []
    if power:
        more.append(Parameter(POWER, *search_range("power"), "log"))
    if shift and atom.polarisation is not None:
        more.append(Parameter(f"shift_{atom.polarisation}", *search_range("shift"), unit="Hartree"))
    return SearchSpace((*shells, density, *more))


def element_parameters(
    symbol: str,
    values: Mapping[str, float],
    repulsion: RepulsionParameters | None = None,
    free_levels: Mapping[str, float] | None = None,
) -> ElementParameters:
    """Return the record that a point of `element_space` stands for.

    Parameters
    ----------
    values
        By name; ``power`` and shifts may be missing.
    free_levels
        Free-atom eigenvalues per shell (Hartree), needed where there is a shift.

    Raises `ParameterError` where a radius is missing.
    """
    atom = element(symbol)
    missing = {f"radius_{nl}" for nl in atom.valence} | {DENSITY}
    missing -= set(values)
    if missing:
        raise ParameterError(f"{symbol}: values miss {', '.join(sorted(missing))}")
    p = values.get(POWER, DEFAULT_POWER)
    on_site = {}
    for nl in atom.valence:
        shift = values.get(f"shift_{nl}", 0.0)
        if shift != 0.0:
            if free_levels is None:
                raise ParameterError(f"{symbol}: shift_{nl} needs the free atom's level")
            on_site[nl] = free_levels[nl] + shift
    return ElementParameters(
        symbol=symbol,
        configuration=atom.configuration_text,
        shells={nl: Confinement(radius=values[f"radius_{nl}"], power=p) for nl in atom.valence},
        density=Confinement(radius=values[DENSITY], power=p),
        repulsion=repulsion,
        on_site=on_site,
    )


STARTS: Final[tuple[Mapping[str, float], ...]] = (
    {"s": 1.05, "p": 4.5, "d": 4.5, "f": 4.5, DENSITY: 2.75, POWER: 6.0, "shift": 0.10},
    {"s": 2.00, "p": 1.25, "d": 1.10, "f": 1.10, DENSITY: 2.40, POWER: 3.0, "shift": 0.10},
)
"""Points to start from beside the default radii: radii in covalent radii, shift in Hartree.

Two families of good parameters that fits of sp and of d elements end in: a tight s shell with the others nearly free,
and tight p and d shells. A Gaussian process finds them from scratch, too, but in several times as many evaluations.
"""


def starting_points(symbol: str, space: SearchSpace) -> list[dict[str, float]]:
    """Return points worth evaluating first, moved into the space's ranges: the default radii, then `STARTS`.

    The default radii are the published ones where there are.
    """
    atom: Element = element(symbol)
    radius = max(atom.covalent_radius, 1.0)
    wanted = [
        {f"radius_{nl}": atom.default_shell_radius for nl in atom.valence}
        | {DENSITY: atom.default_density_radius, POWER: DEFAULT_POWER}
    ]
    for start in STARTS:
        point = {f"radius_{nl}": start[nl[-1]] * radius for nl in atom.valence}
        point |= {f"shift_{nl}": start["shift"] for nl in atom.valence}
        wanted.append({**point, DENSITY: start[DENSITY] * radius, POWER: start[POWER]})
    return [{p.name: min(max(point.get(p.name, 0.0), p.low), p.high) for p in space.parameters} for point in wanted]
