"""The free and the confined atom: spherical, scalar-relativistic, all-electron Kohn-Sham DFT.

A pseudo-atom is a set of runs of the same atom: one free run for on-site energies and Hubbard U, one self-consistent
run per distinct confinement for the orbitals, and one for the density (Porezag et al., Phys. Rev. B 51, 12947 (1995);
Koskinen and Makinen, Comput. Mater. Sci. 47, 237 (2009)). Confinement is part of the self-consistency, and a hard wall
at the end of the grid gives unbound polarisation shells a solution.

Units: Bohr, Hartree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import element
from dftbparam.errors import AtomError, ParameterError
from dftbparam.slako import radial
from dftbparam.slako.radial import RadialGrid
from dftbparam.slako.xc import check_functional, derivatives
from dftbparam.space import Confinement
from dftbparam.units import SPEED_OF_LIGHT

Array = NDArray[np.float64]
XcKernel = Callable[[str, Array, Array], Array]

FREE_BOX_POWER: Final = 4.0
"""Power of the box (r / radius)^4 that holds the free atom; `Element.free_box_radius` says why there is one."""

GRID_START: Final = 1e-5
"""First grid point times Z, in Bohr: far inside the 1s orbital."""

GRID_END: Final = 60.0
"""Hard wall in Bohr, far outside any confined orbital."""

GRID_POINTS: Final = 900
"""Points of the logarithmic grid: eigenvalues are converged to 1e-7 Hartree (checked against 3600 in the tests)."""

POTENTIAL_TOLERANCE: Final = 1e-8
"""Self-consistency: change of the potential in Hartree, averaged over the electrons of the atom."""

MAX_ITERATIONS: Final = 250

HUBBARD_STEP: Final = 0.75
"""Electrons moved up and down for the Hubbard U of a partly filled shell.

The largest step at which every singly charged anion shell is still held by its box. U then is the mean slope over the
charges an atom takes in a solid, and agrees with the published values to 1 %; the slope at the neutral atom (a
vanishing step) lies up to 7 % higher.
"""

CAREFUL_MIXING: Final = 0.1
"""Share of the new potential for ions that do not converge with the usual one, with twice the iterations: an ion whose
f shell is no longer bound (Er with 12.75 4f electrons) wavers between two solutions otherwise."""


@dataclass(frozen=True)
class AtomRun:
    """One converged run of an atom in one potential.

    ``shells`` maps "nl" to (energy, P (n,), Q (n,)); ``potential`` (n,) is the effective potential that contains the
    confinement, ``screening`` (n,) the same without it; ``density`` (3, n) the electron density and its first two
    radial derivatives; ``electrostatic`` (n,) is nuclear plus Hartree potential.
    """

    symbol: str
    grid: RadialGrid
    configuration: Mapping[str, float]
    shells: Mapping[str, tuple[float, Array, Array]]
    potential: Array
    screening: Array
    density: Array
    electrostatic: Array
    half_alpha2: float
    iterations: int

    @property
    def energies(self) -> dict[str, float]:
        """Eigenvalue per shell, Hartree."""
        return {nl: shell[0] for nl, shell in self.shells.items()}


def confining_potential(confinement: Confinement, r: Array) -> Array:
    """Evaluate V_conf(r) in Hartree on ``r`` (n,) in Bohr."""
    if confinement.kind == "power":
        return np.minimum((r / confinement.radius) ** confinement.power, 1e6)
    if confinement.kind == "woods-saxon":
        argument = np.clip(-confinement.steepness * (r - confinement.radius), -700.0, 700.0)
        return confinement.height / (1.0 + np.exp(argument))
    return np.zeros_like(r)


def free_box(symbol: str) -> Confinement:
    """Return the box that holds the free atom of an element."""
    return Confinement(kind="power", radius=element(symbol).free_box_radius, power=FREE_BOX_POWER)


def make_grid(number: int, points: int = GRID_POINTS) -> RadialGrid:
    """Return the radial grid of an element with nuclear charge ``number``."""
    return RadialGrid.make(GRID_START / number, GRID_END, points)


def solve_atom(
    symbol: str,
    configuration: Mapping[str, float],
    confinement: Confinement | None = None,
    *,
    functional: str = "PBE",
    relativistic: bool = True,
    start: AtomRun | None = None,
    xc: XcKernel = derivatives,
    points: int = GRID_POINTS,
    mixing: float | None = None,
) -> AtomRun:
    """Solve one atom self-consistently.

    Parameters
    ----------
    symbol
        Chemical symbol.
    configuration
        Occupation per shell, e.g. {"1s": 2, "2s": 2, "2p": 2, "3d": 0}; fractional and empty shells are allowed.
    confinement
        External confining potential, inside the self-consistency; None is the free atom in its box.
    functional
        ``LDA`` or ``PBE``, or with ``xc=libxc_derivatives`` any libxc name.
    start
        A converged run of the same element to start from.
    mixing
        Share of the new potential in the next input; None for the usual one. Another one gets twice the iterations.

    Raises
    ------
    ParameterError
        The configuration is impossible.
    AtomError
        Self-consistency or a shell's equation did not converge; carries ``symbol`` and what was reached.
    """
    if xc is derivatives:
        check_functional(functional)
    number = element(symbol).number
    grid = start.grid if start is not None else make_grid(number, points)
    r, weights = grid.r, grid.weights
    half_alpha2 = 0.5 / SPEED_OF_LIGHT**2 if relativistic else 0.0
    electrons = sum(configuration.values())
    shells = _check_configuration(symbol, configuration)
    v_ext = confining_potential(free_box(symbol) if confinement is None else confinement, r)
    nuclear = -number / r
    if electrons == 0.0:
        raise ParameterError(f"{symbol}: a bare nucleus has no self-consistent field; give at least one electron")
    if start is not None and start.configuration.keys() >= configuration.keys():
        screening = start.screening
        guesses = start.energies
    else:
        screening = nuclear + _screening_guess(number, electrons, r)
        guesses = {nl: -0.5 * (number / n) ** 2 * 0.3 - 0.05 for nl, n, _ in shells}
    mixer = AndersonMixer(weights, mixing or AndersonMixer.MIXING)
    limit = MAX_ITERATIONS if mixing is None else 2 * MAX_ITERATIONS
    residual = np.inf
    for iteration in range(1, limit + 1):
        potential = screening + v_ext
        d_potential = radial.log_derivative(grid, potential)
        solved: dict[str, tuple[float, Array, Array]] = {}
        density = np.zeros((3, len(r)))
        for nl, n, l in shells:
            p, q = np.empty_like(r), np.empty_like(r)
            energy, ok = radial.solve_shell(
                r, weights, potential, l, n - l - 1, guesses[nl], float(number), half_alpha2, grid.step, p, q
            )
            if not ok:
                raise AtomError(
                    f"{symbol} {nl}: no bound or boxed state found near {energy:.4f} Hartree", symbol=symbol, shell=nl
                )
            solved[nl] = (energy, p, q)
            if configuration[nl] > 0.0:
                radial.accumulate_density(
                    r, potential, d_potential, l, energy, configuration[nl], half_alpha2, p, q, *density
                )
        guesses = {nl: shell[0] for nl, shell in solved.items()}
        electrostatic = np.empty_like(r)
        radial.hartree_potential(r, grid.step, 4.0 * np.pi * r * r * density[0], electrostatic)
        electrostatic += nuclear
        output = electrostatic + xc_potential(functional, density, r, xc)
        # Weighted by the density: a potential that is off where there are no electrons does no harm.
        residual = float(
            np.sum(weights * 4.0 * np.pi * r * r * density[0] * np.abs(output - screening)) / max(electrons, 1e-12)
        )
        if residual < POTENTIAL_TOLERANCE:
            return AtomRun(
                symbol=symbol,
                grid=grid,
                configuration=dict(configuration),
                shells=solved,
                potential=potential,
                screening=screening,
                density=density,
                electrostatic=electrostatic,
                half_alpha2=half_alpha2,
                iterations=iteration,
            )
        screening = mixer.next(screening, output)
    raise AtomError(
        f"{symbol}: self-consistency stopped at {residual:.1e} Hartree after {limit} iterations "
        f"(wanted {POTENTIAL_TOLERANCE:.0e})",
        symbol=symbol,
        residual=residual,
    )


def xc_potential(functional: str, density: Array, r: Array, xc: XcKernel = derivatives) -> Array:
    """Return v_xc (n,) of a spherical density (3, n) given with its first two radial derivatives."""
    n, n1, n2 = density
    _, f_n, f_s, f_sn, f_ss = xc(functional, n, n1 * n1)
    laplacian = n2 + 2.0 * n1 / r
    return np.asarray(f_n - 2.0 * f_s * laplacian - 2.0 * n1 * n1 * (f_sn + 2.0 * f_ss * n2))


def hubbard(
    symbol: str,
    configuration: Mapping[str, float],
    shells: Iterable[str],
    *,
    functional: str = "PBE",
    relativistic: bool = True,
    step: float = HUBBARD_STEP,
    free: AtomRun | None = None,
) -> dict[str, float]:
    """Return U_l = d(eps_l)/d(n_l) of the free atom per shell, Hartree, by finite difference of the occupation.

    Partly filled shells: central, +-``step`` (less where the shell holds or lacks fewer electrons). An empty shell only
    gains and a full one only loses electrons: the slope from there to one electron off. An ion that does not
    converge is tried again with `CAREFUL_MIXING`.
    """
    free = free or solve_atom(symbol, configuration, functional=functional, relativistic=relativistic)

    def level(nl: str, offset: float) -> float:
        if offset == 0.0:
            return free.energies[nl]
        charged = {**configuration, nl: configuration[nl] + offset}
        try:
            ion = solve_atom(symbol, charged, functional=functional, relativistic=relativistic, start=free)
        except AtomError:
            ion = solve_atom(
                symbol, charged, functional=functional, relativistic=relativistic, start=free, mixing=CAREFUL_MIXING
            )
        return ion.energies[nl]

    values = {}
    for nl in shells:
        occupation = configuration[nl]
        capacity = 2.0 * (2 * ANGULAR[nl[-1]] + 1)
        if occupation == 0.0:
            low, high = 0.0, 1.0
        elif occupation == capacity:
            low, high = -1.0, 0.0
        else:
            high = min(step, occupation, capacity - occupation)
            low = -high
        values[nl] = (level(nl, high) - level(nl, low)) / (high - low)
    return values


ANGULAR: Final = {"s": 0, "p": 1, "d": 2, "f": 3}


def _check_configuration(symbol: str, configuration: Mapping[str, float]) -> list[tuple[str, int, int]]:
    shells = []
    for nl, occupation in configuration.items():
        if len(nl) < 2 or not nl[:-1].isdigit() or nl[-1] not in ANGULAR or int(nl[:-1]) <= ANGULAR[nl[-1]]:
            raise ParameterError(f"{symbol}: shell {nl!r} is not one; shells are named like '3s', '3d'", shell=nl)
        n, l = int(nl[:-1]), ANGULAR[nl[-1]]
        if not 0.0 <= occupation <= 2.0 * (2 * l + 1):
            raise ParameterError(
                f"{symbol} {nl}: occupation {occupation} must lie between 0 and {2 * (2 * l + 1)}", shell=nl
            )
        shells.append((nl, n, l))
    return shells


def _screening_guess(number: int, electrons: float, r: Array) -> Array:
    """Screening of the nucleus by a Thomas-Fermi atom (Latter's fit), to start from; (n,)."""
    x = r * (128.0 * number / (9.0 * np.pi**2)) ** (1.0 / 3.0)
    root = np.sqrt(x)
    phi = 1.0 / (
        1.0 + 0.02747 * root + 1.243 * x - 0.1486 * x * root + 0.2302 * x**2 + 0.007298 * x**2 * root + 0.006944 * x**3
    )
    charge = np.maximum(number * phi, number - electrons + 1.0)
    return np.asarray((number - charge) / r)


class AndersonMixer:
    """Anderson mixing of the potential (Anderson, J. ACM 12, 547 (1965)), depth 6, weighted by the grid."""

    DEPTH = 6
    MIXING = 0.4

    def __init__(self, weights: Array, mixing: float = MIXING) -> None:
        self.metric = np.sqrt(weights)
        self.mixing = mixing
        self.inputs: list[Array] = []
        self.residuals: list[Array] = []

    def next(self, current: Array, output: Array) -> Array:
        """Return the next input from the current input and its output, each (n,)."""
        self.inputs.append(current)
        self.residuals.append(output - current)
        del self.inputs[: -self.DEPTH], self.residuals[: -self.DEPTH]
        x, f = self.inputs[-1], self.residuals[-1]
        if len(self.inputs) > 1:
            dx = np.array([x - other for other in self.inputs[:-1]])
            df = np.array([f - other for other in self.residuals[:-1]])
            scaled = df * self.metric
            gram = scaled @ scaled.T
            gram += 1e-12 * np.trace(gram) * np.eye(len(gram))
            theta = np.linalg.solve(gram, scaled @ (f * self.metric))
            x = x - theta @ dx
            f = f - theta @ df
        return np.asarray(x + self.mixing * f)
