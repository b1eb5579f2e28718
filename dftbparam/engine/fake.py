"""An engine for tests: instant, deterministic, its numbers simple enough to check by hand.

Energy is a pair potential (no electrons are solved for), so forces and stress are exact:

    V(r) = e [x^8 - 2 x^4] (1 - (r/c)^2)^3,   x = r0 / r,   r0 = sum of two covalent radii,   c = 3 r0

of which the first term counts as repulsion. A charge moves between unlike atoms, and the bands are cosines. Structures
and elements are checked as a real engine does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from dftbparam import __version__
from dftbparam.engine.base import Array, Result, Settings, settings_per_structure
from dftbparam.engine.embedded.neighbours import Geometry, find_pairs, geometry
from dftbparam.engine.embedded.pair_repulsion import forces_and_virial
from dftbparam.engine.kpoints import divisions, time_reversed_mesh
from dftbparam.errors import DftbparamError, ElementError, InputError
from dftbparam.skf.model import SKSet
from dftbparam.skf.read import find_files
from dftbparam.units import BOHR, BOLTZMANN

WELL: Final = 0.05
"""Depth scale of the pair potential in Hartree."""

N_BANDS: Final = 4
"""Bands per atom."""

LACKS: Final = (
    "shell_resolved", "spin", "third_order", "hydrogen_damping", "dispersion", "band_points", "projections",
)  # fmt: skip
"""Settings that are refused."""


class FakeEngine:
    """An `Engine` without physics (see the module).

    Parameters
    ----------
    fail
        Called with each structure; an error it returns becomes that structure's outcome.
    """

    name = "fake"

    def __init__(self, fail: Callable[[Atoms], DftbparamError | None] | None = None) -> None:
        self.fail = fail

    def versions(self) -> dict[str, str]:
        """The package's version."""
        return {"dftbparam": __version__}

    def compute(
        self, tables: SKSet | Path, structures: Sequence[Atoms], settings: Settings | Sequence[Settings]
    ) -> list[Result | DftbparamError]:
        """As the protocol says."""
        each = settings_per_structure(settings, len(structures), self.name, LACKS)
        pairs = set(tables.files) if isinstance(tables, SKSet) else set(find_files(tables))
        elements = {a for a, b in pairs if a == b}
        if not elements:
            raise InputError(f"{tables if isinstance(tables, Path) else 'tables'}: no homonuclear Slater-Koster file")
        out: list[Result | DftbparamError] = []
        for atoms, one in zip(structures, each, strict=True):
            try:
                failure = self.fail(atoms) if self.fail is not None else None
                out.append(failure if failure is not None else _compute(atoms, one, elements))
            except DftbparamError as error:
                out.append(error)
        return out


def _compute(atoms: Atoms, settings: Settings, elements: set[str]) -> Result:
    structure = geometry(atoms)
    for symbol in structure.symbols:
        if symbol not in elements:
            raise ElementError(f"the Slater-Koster tables have no element {symbol!r}", symbol=symbol)
    numbers = np.array([atomic_numbers[s] for s in structure.symbols])
    radii = covalent_radii[numbers] / BOHR
    pairs = find_pairs(structure, 6.0 * float(radii.max()))
    r0 = radii[pairs.first] + radii[pairs.second]
    repulsion, repulsion_slope = _term(pairs.distance, r0, 8)
    attraction, attraction_slope = _term(pairs.distance, r0, 4)
    share = 1.0 if settings.repulsion else 0.0
    repulsive = WELL * share * float(repulsion.sum())
    band = -2.0 * WELL * float(attraction.sum())
    slope = WELL * (share * repulsion_slope - 2.0 * attraction_slope)
    forces, virial = forces_and_virial(structure, pairs, slope)
    n = len(numbers)
    eigenvalues, points, weights = _bands(atoms, structure, settings)
    energy = band + repulsive
    return Result(
        energy=energy,
        free_energy=energy - 0.1 * n * BOLTZMANN * settings.temperature,
        band_energy=band,
        repulsive_energy=repulsive,
        scc_energy=0.0,
        fermi_level=float(np.median(eigenvalues)),
        charges=settings.charge / n + (0.01 * (numbers.mean() - numbers) if settings.scc else np.zeros(n)),
        forces=forces if settings.forces else None,
        stress=virial / structure.volume if settings.stress and structure.periodic else None,
        eigenvalues=eigenvalues if settings.eigenvalues else None,
        kpoints=points if settings.eigenvalues else None,
        weights=weights if settings.eigenvalues else None,
        scc_iterations=1,
    )


def _term(r: Array, r0: Array, power: int) -> tuple[Array, Array]:
    """(r0/r)^power times the cutoff function, and its derivative with r."""
    inside = np.clip(1.0 - (r / (3.0 * r0)) ** 2, 0.0, None)
    value = (r0 / r) ** power
    return value * inside**3, -power * value / r * inside**3 - value * 6.0 * r / (3.0 * r0) ** 2 * inside**2


def _bands(atoms: Atoms, structure: Geometry, settings: Settings) -> tuple[Array, Array, Array]:
    if structure.periodic:
        points, weights = time_reversed_mesh(divisions(atoms, settings))
    else:
        points, weights = np.zeros((1, 3)), np.ones(1)
    bands = np.arange(N_BANDS * len(structure.symbols), dtype=np.float64)
    dispersion = np.cos(2.0 * np.pi * points).sum(axis=1)
    return 0.1 * bands[None, :] + 0.01 * dispersion[:, None], points, weights
