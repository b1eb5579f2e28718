r"""Hubbard derivatives of the free atom, for third-order DFTB.

Convention (Gaus, Cui, Elstner, J. Chem. Theory Comput. 7, 931 (2011); DFTB+'s ``HubbardDerivs``, the 3ob sets)::

    U^d = d U / d n = d^2 eps / d n^2,     U = d eps / d n

with n the number of electrons: U falls as an atom takes up electrons and grows, so that U^d is negative (3ob: C -0.149,
O -0.158 Hartree per electron). The atom's value is that of its highest occupied shell.

By central second difference of the shell's eigenvalue with its occupation at the neutral atom. An empty shell only
gains and a full one only loses electrons: there the difference is one-sided, and belongs to an atom one ``step`` away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dftbparam.errors import AtomError
from dftbparam.slako.atom import ANGULAR, CAREFUL_MIXING, AtomRun, solve_atom

STEP: Final = 0.1
"""Electrons. Eigenvalues are known to 1e-8 Hartree, so the noise is of the order of 1e-6 Hartree per electron."""


def hubbard_derivatives(
    symbol: str,
    configuration: Mapping[str, float],
    shells: Sequence[str],
    *,
    functional: str = "PBE",
    step: float = STEP,
    free: AtomRun | None = None,
) -> dict[str, float]:
    """Return d^2 eps / d n^2 per shell, Hartree per electron.

    Parameters
    ----------
    configuration
        Electrons per shell of the neutral atom, core included.
    free
        The neutral atom, if it is solved already.

    Raises
    ------
    ParameterError
        The configuration is impossible.
    AtomError
        An ion does not converge.
    """
    neutral = free or solve_atom(symbol, configuration, functional=functional)

    def level(nl: str, offset: float) -> float:
        if offset == 0.0:
            return neutral.energies[nl]
        charged = {**configuration, nl: configuration[nl] + offset}
        try:
            ion = solve_atom(symbol, charged, functional=functional, start=neutral)
        except AtomError:
            ion = solve_atom(symbol, charged, functional=functional, start=neutral, mixing=CAREFUL_MIXING)
        return ion.energies[nl]

    values = {}
    for nl in shells:
        electrons, capacity = configuration[nl], 2.0 * (2 * ANGULAR[nl[-1]] + 1)
        if electrons - step < 0.0:
            offsets = (0.0, step, 2.0 * step)
        elif electrons + step > capacity:
            offsets = (-2.0 * step, -step, 0.0)
        else:
            offsets = (-step, 0.0, step)
        low, middle, high = (level(nl, offset) for offset in offsets)
        values[nl] = (low - 2.0 * middle + high) / step**2
    return values


def frontier_shell(energies: Mapping[str, float], occupations: Mapping[str, float]) -> str:
    """Name the highest occupied of the valence shells: the one whose U^d (and W) stands for the atom.

    ``energies`` are those of the free atom; shells that ``occupations`` does not name are left out.
    """
    return max((nl for nl, electrons in occupations.items() if electrons > 0.0), key=lambda nl: energies[nl])
