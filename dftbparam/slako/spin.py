r"""Spin constants W of the free atom, for collinear spin-polarised DFTB.

W_ll' = 1/2 (d eps_l,up / d n_l',up - d eps_l,up / d n_l',down), Frauenheim et al., phys. stat. sol. (b) 217, 41 (2000).
Moving m/2 electrons of shell l' from down to up splits the levels of every shell l by 2 m W_ll', so that one
self-consistent run with a small moment m gives a whole column. Spin-polarised exchange-correlation comes from libxc
(through PySCF).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import AtomError
from dftbparam.slako import radial
from dftbparam.slako.atom import (
    ANGULAR,
    CAREFUL_MIXING,
    AndersonMixer,
    AtomRun,
    confining_potential,
    free_box,
    solve_atom,
)
from dftbparam.slako.xc import LIBXC_NAMES, check_functional

Array = NDArray[np.float64]

MOMENT: Final = 0.02
"""Moment in electrons: splittings of about 1e-3 Hartree, far above the noise and linear to better than 1 %."""

TOLERANCE: Final = 1e-9
MAX_ITERATIONS: Final = 200


def spin_constants(
    symbol: str,
    configuration: Mapping[str, float],
    shells: Sequence[str],
    *,
    functional: str = "PBE",
    moment: float = MOMENT,
) -> Array:
    """Return W (n, n) in Hartree for ``shells`` (symmetrised; rows and columns in their order).

    An empty shell cannot be polarised: its diagonal element is taken with ``moment`` electrons in it, all of one spin.

    Raises `ParameterError` for an impossible configuration, `AtomError` where a run does not converge.
    """
    check_functional(functional)
    w = np.zeros((len(shells), len(shells)))
    for column, source in enumerate(shells):
        occupation = configuration[source]
        total = {**configuration, source: max(occupation, moment)}
        start = _start(symbol, total, configuration, functional)
        up = {nl: 0.5 * n for nl, n in total.items()}
        down = dict(up)
        # A full shell cannot hold more of one spin, so there only the other one is emptied.
        free = 0.5 * total[source]
        shift = min(0.5 * moment, free)
        up[source], down[source] = free + shift, free - shift
        capacity = 2 * ANGULAR[source[-1]] + 1
        if up[source] > capacity:
            up[source], down[source] = capacity, capacity - 2.0 * shift
        levels = _polarised_levels(start, up, down, functional)
        for row, nl in enumerate(shells):
            w[row, column] = (levels[0][nl] - levels[1][nl]) / (2.0 * (up[source] - down[source]))
    return 0.5 * (w + w.T)


def _start(symbol: str, total: Mapping[str, float], neutral: Mapping[str, float], functional: str) -> AtomRun:
    """An unpolarised atom to begin with; a few electrons in an unbound shell waver (sulphur's 3d, bromine's 4d)."""
    for mixing in (None, CAREFUL_MIXING):
        try:
            return solve_atom(symbol, total, functional=functional, mixing=mixing)
        except AtomError:
            continue
    return solve_atom(symbol, neutral, functional=functional)


def _polarised_levels(
    start: AtomRun, up: Mapping[str, float], down: Mapping[str, float], functional: str
) -> tuple[dict[str, float], dict[str, float]]:
    grid = start.grid
    r = grid.r
    symbol = start.symbol
    number = -float((start.electrostatic * r)[0])
    number = round(number)
    v_ext = confining_potential(free_box(symbol), r)
    screening = np.concatenate([start.screening, start.screening])
    guesses = [dict(start.energies), dict(start.energies)]
    mixer = AndersonMixer(np.concatenate([grid.weights, grid.weights]))
    n = len(r)
    for _ in range(MAX_ITERATIONS):
        densities = np.zeros((2, 3, n))
        for spin, occupations in enumerate((up, down)):
            potential = screening[spin * n : (spin + 1) * n] + v_ext
            slope = radial.log_derivative(grid, potential)
            for nl, occupation in occupations.items():
                p, q = np.empty_like(r), np.empty_like(r)
                main, l = int(nl[:-1]), ANGULAR[nl[-1]]
                energy, ok = radial.solve_shell(
                    r, grid.weights, potential, l, main - l - 1, guesses[spin][nl], float(number),
                    start.half_alpha2, grid.step, p, q,
                )  # fmt: skip
                if not ok:
                    raise AtomError(f"{symbol} {nl}: spin-polarised shell not found", symbol=symbol, shell=nl)
                guesses[spin][nl] = energy
                if occupation > 0.0:
                    radial.accumulate_density(
                        r, potential, slope, l, energy, occupation, start.half_alpha2, p, q, *densities[spin]
                    )
        electrostatic = np.empty_like(r)
        total = densities[0, 0] + densities[1, 0]
        radial.hartree_potential(r, grid.step, 4.0 * np.pi * r * r * total, electrostatic)
        electrostatic -= number / r
        v_xc = _xc_potentials(functional, densities, grid)
        output = np.concatenate([electrostatic + v_xc[0], electrostatic + v_xc[1]])
        weight = 4.0 * np.pi * r * r * grid.weights * total / max(sum(up.values()) + sum(down.values()), 1e-12)
        residual = float(np.sum(np.concatenate([weight, weight]) * np.abs(output - screening)))
        if residual < TOLERANCE:
            return guesses[0], guesses[1]
        screening = mixer.next(screening, output)
    raise AtomError(f"{symbol}: spin-polarised atom stopped at {residual:.1e} Hartree", symbol=symbol)


def _xc_potentials(functional: str, densities: Array, grid: radial.RadialGrid) -> Array:
    """Return v_xc (2, n) of spherical spin densities (2, 3, n)."""
    from pyscf.dft import libxc

    r = grid.r
    up, down = densities[0], densities[1]
    if functional == "LDA":
        rho: object = (up[0], down[0])
    else:
        zero = np.zeros_like(r)
        rho = (np.array([up[0], up[1], zero, zero]), np.array([down[0], down[1], zero, zero]))
    vxc = libxc.eval_xc(LIBXC_NAMES[functional], rho, spin=1, deriv=1)[1]
    v = np.array(vxc[0].T)
    if functional != "LDA":
        s_uu, s_ud, s_dd = vxc[1].T
        flux = np.array([2.0 * s_uu * up[1] + s_ud * down[1], 2.0 * s_dd * down[1] + s_ud * up[1]])
        for spin in range(2):
            v[spin] -= radial.log_derivative(grid, r * r * flux[spin]) / (r * r)
    v[:, up[0] + down[0] < 1e-14] = 0.0
    return v
