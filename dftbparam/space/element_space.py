"""The search space of one element, and what a point of it means.

Which numbers are searched is data (`dftbparam.space.definition`); how they are called, `dftbparam.space.build` says. In
the default space they are the confinement radius of every valence shell and of the density (Bohr, log scale),
``radius_3s`` ... and ``radius_density``; the power p of (r/r0)^p, shared by all, ``power``; and, for elements with a
polarisation shell, ``shift_3d``, Hartree added to its on-site energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dftbparam.elements import element
from dftbparam.errors import ParameterError
from dftbparam.space.build import DENSITY, ElementSpace, build_space, value_of
from dftbparam.space.definition import load_space
from dftbparam.space.parameter_set import Confinement, ElementParameters, RepulsionParameters
from dftbparam.space.parameters import SearchSpace
from dftbparam.space.starts import default_starts


def element_space(symbol: str, *, power: bool = True, shift: bool = True) -> SearchSpace:
    """Return the default search space of an element.

    Parameters
    ----------
    power, shift
        Whether the confinement power and the on-site shift of the polarisation shell are searched; else they stay at 2
        and 0.

    Raises `ElementError` for an unknown element.
    """
    definition = load_space("default")
    if not power:
        definition = definition.fix("power", 2.0)
    if not shift:
        definition = definition.fix("shift", 0.0)
    return build_space(symbol, definition).space


def element_parameters(
    symbol: str,
    values: Mapping[str, Any],
    repulsion: RepulsionParameters | None = None,
    free_levels: Mapping[str, float] | None = None,
) -> ElementParameters:
    """Return the record that a point of a space stands for.

    Parameters
    ----------
    values
        By name, with what the space fixes (`ElementSpace.complete`). Radii must be there; the confinement's form,
        power, height and steepness, and shifts, may be missing.
    free_levels
        Free-atom eigenvalues per shell (Hartree), needed where there is a shift.

    Raises `ParameterError` where a radius is missing.
    """
    atom = element(symbol)
    missing = {f"radius_{DENSITY}"} - set(values)
    if "radius" not in values:
        missing |= {f"radius_{nl}" for nl in atom.valence} - set(values)
    if missing:
        raise ParameterError(f"{symbol}: values miss {', '.join(sorted(missing))}")
    on_site = {}
    for nl in atom.valence:
        shift = value_of(values, "shift", nl)
        if shift != 0.0:
            if free_levels is None:
                raise ParameterError(f"{symbol}: shift_{nl} needs the free atom's level")
            on_site[nl] = free_levels[nl] + shift
    return ElementParameters(
        symbol=symbol,
        configuration=atom.configuration_text,
        shells={nl: _confinement(values, nl) for nl in atom.valence},
        density=_confinement(values, DENSITY),
        repulsion=repulsion,
        on_site=on_site,
    )


def _confinement(values: Mapping[str, Any], of: str) -> Confinement:
    """The confinement of a shell, or of the density; what its form does not use is left at the record's default."""
    kind, radius = value_of(values, "confinement", of), value_of(values, "radius", of)
    if kind == "woods-saxon":
        return Confinement(
            kind="woods-saxon",
            radius=radius,
            height=value_of(values, "height", of),
            steepness=value_of(values, "steepness", of),
        )
    return (
        Confinement(kind="none", radius=radius)
        if kind == "none"
        else Confinement(radius=radius, power=value_of(values, "power", of))
    )


def starting_points(symbol: str, space: SearchSpace) -> list[dict[str, Any]]:
    """Return points worth evaluating first, moved into the space's ranges: `dftbparam.space.starts.default_starts`.

    The default radii are the published ones where there are.
    """
    return [start.in_space(ElementSpace(symbol, space, {}))[0] for start in default_starts(symbol)]
