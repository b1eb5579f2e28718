"""How charges and moments act on the electrons: shifts, energies and forces of everything beyond H0. Hartree and Bohr.

Populations are held per shell, (n, 4) for the shells s, p, d, f; absent shells hold zero. ``excess`` counts electrons
beyond the neutral atom, ``moments`` electrons up minus down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dftbparam.engine.base import Array, Settings
from dftbparam.engine.embedded.gamma import Sites, gamma_forces, gamma_matrix
from dftbparam.engine.embedded.neighbours import Geometry
from dftbparam.engine.embedded.tables import Ints, PackedTables
from dftbparam.engine.embedded.third_order import ThirdOrderMatrix, third_order_matrix
from dftbparam.errors import InputError

MIN_HUBBARD = 1e-3
"""Hartree below which a Hubbard parameter counts as missing from the tables."""


@dataclass(frozen=True)
class Interaction:
    """Interaction of the charges of one structure.

    ``shells`` (n, 4) says which shells exist; ``site_shell`` (s, 2) are atom and shell of each charge site (shell -1:
    the whole atom); ``spin`` (n, 4, 4) spin constants or None.
    """

    structure: Geometry
    shells: NDArray[np.bool_]
    sites: Sites
    resolved: bool
    gamma: Array
    spin: Array | None
    third_order: ThirdOrderMatrix | None

    def on_sites(self, excess: Array) -> Array:
        """Excess electrons per site (s,) from those per shell (n, 4)."""
        chosen: Array = excess[self.shells] if self.resolved else excess.sum(axis=1)
        return chosen

    def shift(self, charges: Array, moments: Array | None) -> tuple[Array, Array]:
        """Shift of both spins (n, 4) by charges per site (s,), and of half their difference (n, 4) by moments."""
        by_site = self.gamma @ charges
        if self.third_order is not None:
            by_site = by_site + self.third_order.shift(charges)
        shift = np.zeros(self.shells.shape)
        if self.resolved:
            shift[self.shells] = by_site
        else:
            shift += by_site[:, None]
        if self.spin is None or moments is None:
            return shift, np.zeros(self.shells.shape)
        return shift, np.einsum("alm,am->al", self.spin, moments)

    def energies(self, charges: Array, moments: Array | None) -> tuple[float, float, float]:
        """Second order, third order and spin energy of charges per site and moments per shell."""
        second = 0.5 * float(charges @ self.gamma @ charges)
        third = 0.0 if self.third_order is None else self.third_order.energy(charges)
        spin = 0.0
        if self.spin is not None and moments is not None:
            spin = 0.5 * float(np.einsum("al,alm,am->", moments, self.spin, moments))
        return second, third, spin

    def derivatives(self, charges: Array) -> tuple[Array, Array]:
        """Forces (n, 3) and dE/d(strain) (3, 3) at fixed charges."""
        forces, virial = gamma_forces(self.structure, self.sites, charges)
        if self.third_order is not None:
            more, more_virial = self.third_order.forces(charges)
            forces, virial = forces + more, virial + more_virial
        return forces, virial


def make_interaction(tables: PackedTables, species: Ints, structure: Geometry, settings: Settings) -> Interaction:
    """Build the interaction that the settings ask for.

    Raises
    ------
    InputError
        The tables lack a Hubbard parameter.
    ParameterError
        Spin constants or Hubbard derivatives of an element are missing.
    """
    n = len(species)
    shells = np.arange(4)[None, :] <= tables.l_max[species][:, None]
    resolved = settings.shell_resolved
    hubbard = tables.hubbard[species]
    values = hubbard[shells] if resolved else hubbard[:, 0]
    counts = shells.sum(axis=1) if resolved else np.ones(n, dtype=np.int64)
    start = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    atom = np.repeat(np.arange(n), counts)
    for site in np.nonzero(~(values >= MIN_HUBBARD))[0]:
        symbol, shell = structure.symbols[atom[site]], "spdf"[site - start[atom[site]]]
        raise InputError(
            f"the tables give {symbol} a Hubbard parameter of {values[site]} Hartree ({shell} shell); "
            "SCC needs a positive one",
            symbol=symbol,
        )
    damped = np.array([s == "H" for s in structure.symbols]) & (settings.hydrogen_damping is not None)
    sites = Sites(start, atom, np.ascontiguousarray(values), damped, float(settings.hydrogen_damping or 1.0))
    spin, third = None, None
    if settings.spin is not None:
        spin = np.zeros((n, 4, 4))
        for a, symbol in enumerate(structure.symbols):
            size = int(shells[a].sum())
            spin[a, :size, :size] = settings.spin.matrix(symbol, size)
    if settings.third_order is not None:
        derivatives = np.array([settings.third_order.of(symbol) for symbol in structure.symbols])
        third = third_order_matrix(structure, sites, derivatives, settings.third_order.full)
    return Interaction(structure, shells, sites, resolved, gamma_matrix(structure, sites), spin, third)
