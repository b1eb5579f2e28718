"""Cheap relaxation of crystals, cell and positions, with any ASE calculator; every way it can end is an outcome."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final

import numpy as np

from dftbparam.errors import DftbparamError, EngineMissing, InputError, ParameterError, StructureError
from dftbparam.reference.limits import Limits
from dftbparam.reference.prototypes import mesh
from dftbparam.reference.random_crystals import symmetry

FORCE: Final = 0.05
"""Largest force at which a crystal counts as relaxed, eV/Angstrom; of the cell's six strains the energy derivative per
atom, eV. 0.05 eV per 20 Angstrom^3 are 0.4 GPa."""

STEPS: Final = 150
"""Steps of one relaxation. Most take 10 to 40; what takes more wanders along a flat direction."""

SYMPREC: Final = 0.03
"""Tolerance of symmetry in a relaxed crystal, Angstrom: what the forces left over still shift an atom by (0.05 eV/A
over a spring of 2 eV/A^2)."""

MESH_DENSITY: Final = 2.0
"""k-point divisions per 1/Angstrom of the reciprocal vectors 2 pi b: enough for forces of a few hundredths of eV/A."""

PASSING: Final = 0.8
"""On the way, atoms may come this times closer than at the end: first steps overshoot, and most crystals recover."""

KEPT: Final = ("relaxed", "unconverged")
"""Outcomes that leave a sound crystal."""

MakeCalculator = Callable[[Any], Any]
"""From ASE's atoms to an ASE calculator for them. Its k-points may depend on the cell, and stay during a relaxation."""


@dataclass(frozen=True)
class RelaxationSettings:
    """``force``: see `FORCE`; ``steps``: see `STEPS`. `ParameterError` where they are not positive."""

    force: float = FORCE
    steps: int = STEPS

    def __post_init__(self) -> None:
        if not (isfinite(self.force) and self.force > 0.0):
            raise ParameterError(f"force is {self.force}; it must be a positive number of eV/Angstrom", name="force")
        if self.steps < 1:
            raise ParameterError(f"steps is {self.steps}; it must be at least 1", name="steps")


@dataclass(frozen=True)
class Relaxation:
    """How a relaxation ended.

    Attributes
    ----------
    status
        ``relaxed``; ``unconverged``, the steps ran out in a sound crystal; ``imploded`` or ``exploded``, beyond
        `Limits`; ``asymmetric``, all symmetry was lost; ``failed``, the calculator gave no answer.
    reason
        More about everything but ``relaxed``.
    atoms
        The primitive cell with exact symmetry; where the status is not one of `KEPT`, the last geometry.
    spacegroup
        Number of the group at the end; None where the status is not one of `KEPT` or ``asymmetric``.
    energy
        Energy per atom of the last geometry, eV: the one that forces are derivatives of.
    force
        Largest force, eV/Angstrom, or strain derivative per atom, eV, that is left.
    steps
        Number of steps taken.
    """

    status: str
    reason: str
    atoms: Any
    spacegroup: int | None
    energy: float | None
    force: float | None
    steps: int


def relax(
    atoms: Any,
    make_calculator: MakeCalculator,
    limits: Limits,
    settings: RelaxationSettings = RelaxationSettings(),
    spacegroup: int = 1,
) -> Relaxation:
    """Relax the cell and the positions of a crystal by BFGS on the logarithm of the deformation.

    BFGS took half the steps of FIRE on random cells of silicon, and ran astray less often than L-BFGS. Symmetry is not
    imposed, it follows from the forces; use meshes that have it, see `symmetric_mesh`.

    Parameters
    ----------
    atoms
        ASE's atoms, periodic in three directions; left as they are.
    limits
        For the end; watched at each step too, see `PASSING`.
    spacegroup
        Number of the group at the start; a crystal that ends without symmetry is ``asymmetric`` unless it began so.

    Raises
    ------
    EngineMissing, InputError
        What the structure is not to blame for: no program, no tables of an element.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    moving: Any = atoms.copy()
    on_the_way = replace(limits, distance_factor=PASSING * limits.distance_factor)
    cell_filter: Any = FrechetCellFilter
    optimiser_of: Any = BFGS
    steps = 0
    energy = force = None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # A collapsing cell makes logm, expm and the optimiser's algebra complain before the limits stop it.
            warnings.simplefilter("ignore", RuntimeWarning)
            moving.calc = make_calculator(moving)
            filtered = cell_filter(moving)
            optimiser = optimiser_of(filtered, logfile=None)
            converged = False
            for state in optimiser.irun(fmax=settings.force, steps=settings.steps):
                converged, steps = bool(state), int(optimiser.nsteps)
                broken = on_the_way.violation(moving)
                if broken is not None:
                    return Relaxation(*broken, _bare(moving), None, None, None, steps)
                force = float(np.linalg.norm(filtered.get_forces(), axis=1).max())
                energy = consistent_energy(moving) / len(moving)
                if not (isfinite(force) and isfinite(energy)):
                    return Relaxation(
                        "failed", "energy or forces that are no numbers", _bare(moving), None, None, None, steps
                    )
    except Exception as error:
        return Relaxation("failed", explained(error), _bare(moving), None, None, None, steps)
    found = symmetry(moving, SYMPREC)
    number, relaxed = (1, _bare(moving)) if found is None else found
    if number == 1 and spacegroup != 1:
        reason = f"space group {spacegroup} at the start, none at the end"
        return Relaxation("asymmetric", reason, _bare(moving), 1, energy, force, steps)
    broken = limits.violation(relaxed)
    if broken is not None:
        return Relaxation(*broken, relaxed, None, None, None, steps)
    if converged:
        return Relaxation("relaxed", "", relaxed, number, energy, force, steps)
    reason = f"forces of {force:.2g} eV/Angstrom after {steps} steps"
    return Relaxation("unconverged", reason, relaxed, number, energy, force, steps)


def consistent_energy(atoms: Any) -> float:
    """Energy that forces are derivatives of, eV: the free energy, where the calculator tells it apart."""
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        return float(atoms.get_potential_energy(force_consistent=True))
    except PropertyNotImplementedError:
        return float(atoms.get_potential_energy())


def explained(error: Exception) -> str:
    """Say why a calculation gave no answer; raise what the structure is not to blame for.

    A calculator may raise anything; only a missing program, and what the user can correct and is no structure, are
    not outcomes.
    """
    if isinstance(error, EngineMissing) or (isinstance(error, InputError) and not isinstance(error, StructureError)):
        raise error
    return error.message if isinstance(error, DftbparamError) else f"{type(error).__name__}: {error}"


def _bare(atoms: Any) -> Any:
    """Return the structure without its calculator."""
    copy = atoms.copy()
    copy.calc = None
    return copy


def symmetric_mesh(atoms: Any, density: float = MESH_DENSITY) -> tuple[int, int, int]:
    """Divisions of a mesh that holds Gamma and has the symmetry of the crystal: odd ones, see `MESH_DENSITY`."""
    n1, n2, n3 = (n + 1 - n % 2 for n in mesh(atoms.cell.array, density))
    return n1, n2, n3
