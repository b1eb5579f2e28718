"""Pseudo-atoms: the confined orbitals, confined density and free-atom levels that a parameter record asks for."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import element, parse_configuration
from dftbparam.slako import radial
from dftbparam.slako.atom import ANGULAR, AtomRun, hubbard, solve_atom
from dftbparam.slako.twocentre import RadialTables
from dftbparam.space import Confinement, ElementParameters

Array = NDArray[np.float64]

ORBITAL_THRESHOLD: Final = 1e-6
"""Orbitals reach to where |P(r)| last exceeds this (Bohr^-1/2): integrals lose less than 1e-7 Hartree."""


@dataclass(frozen=True)
class PseudoAtom:
    """A pseudo-atom, solved.

    ``shells`` lists (nl, l) in the order of the record; ``orbitals`` maps nl to (P (n,), r); ``levels`` and
    ``hubbard`` are those of the free atom (or the record's on-site values), Hartree; ``tables`` feeds the integrator.
    """

    symbol: str
    shells: tuple[tuple[str, int], ...]
    levels: dict[str, float]
    hubbard: dict[str, float]
    occupations: dict[str, float]
    runs: dict[str, AtomRun]
    density_run: AtomRun
    tables: RadialTables
    mass: float


@dataclass(frozen=True)
class FreeAtom:
    """Free-atom levels and U of the valence, and the run they came from."""

    run: AtomRun
    levels: dict[str, float]
    hubbard: dict[str, float]


_FREE_ATOMS: OrderedDict[tuple[object, ...], FreeAtom] = OrderedDict()
"""Free atoms do not depend on what is fitted: one solution per process serves every evaluation of a campaign."""


def free_atom(symbol: str, configuration_text: str, shells: tuple[str, ...], functional: str = "PBE") -> FreeAtom:
    """Return the free atom, solved once per process and kept."""
    key = (symbol, configuration_text, shells, functional)
    if key not in _FREE_ATOMS:
        configuration = parse_configuration(configuration_text)
        run = solve_atom(symbol, configuration, functional=functional)
        u = hubbard(symbol, configuration, shells, functional=functional, free=run)
        _FREE_ATOMS[key] = FreeAtom(run, {nl: run.energies[nl] for nl in shells}, u)
        while len(_FREE_ATOMS) > 120:
            _FREE_ATOMS.popitem(last=False)
    return _FREE_ATOMS[key]


def solve_pseudo_atom(
    parameters: ElementParameters,
    functional: str = "PBE",
    superposition: Literal["density", "potential"] = "density",
) -> PseudoAtom:
    """Solve everything a parameter record asks for.

    Raises `ParameterError` for an impossible record and `AtomError` where an atom does not converge.
    """
    symbol = parameters.symbol
    configuration = parse_configuration(parameters.configuration)
    names = tuple(sorted(parameters.shells, key=lambda nl: ANGULAR[nl[-1]]))
    free = free_atom(symbol, parameters.configuration, names, functional)
    runs: dict[Confinement, AtomRun] = {}

    def confined(confinement: Confinement) -> AtomRun:
        if confinement not in runs:
            runs[confinement] = solve_atom(symbol, configuration, confinement, functional=functional, start=free.run)
        return runs[confinement]

    density_run = confined(parameters.density)
    by_shell = {nl: confined(parameters.shells[nl]) for nl in names}
    levels = {**free.levels, **{nl: e for nl, e in parameters.on_site.items() if nl in names}}
    return PseudoAtom(
        symbol=symbol,
        shells=tuple((nl, ANGULAR[nl[-1]]) for nl in names),
        levels=levels,
        hubbard=dict(free.hubbard),
        occupations={nl: configuration[nl] for nl in names},
        runs=by_shell,
        density_run=density_run,
        tables=_tables(by_shell, density_run, superposition),
        mass=element(symbol).mass,
    )


def _tables(by_shell: dict[str, AtomRun], density_run: AtomRun, superposition: str) -> RadialTables:
    r = density_run.grid.r
    rows = [density_run.density[0], density_run.density[1]]
    rows.append(r * (density_run.electrostatic if superposition == "density" else density_run.screening))
    reach = 0.0
    for nl, run in by_shell.items():
        energy, p, q = run.shells[nl]
        mass = 1.0 + run.half_alpha2 * (energy - run.potential)
        d_mass = -run.half_alpha2 * radial.log_derivative(run.grid, run.potential)
        # -P''/2 + l(l+1) P / (2 r^2), with P'' from the radial equation.
        kinetic = mass * (energy - run.potential) * p - d_mass * q
        kinetic[p == 0.0] = 0.0  # beyond where the shell was integrated
        rows += [p / r, kinetic, 2.0 * mass * q / r]
        reach = max(reach, float(r[np.nonzero(np.abs(p) > ORBITAL_THRESHOLD)[0][-1]]))
    return RadialTables.make(r, np.array(rows), [ANGULAR[nl[-1]] for nl in by_shell], reach)
