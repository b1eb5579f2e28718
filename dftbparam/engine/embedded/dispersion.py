"""London dispersion through the s-dftd3 and dftd4 libraries. Hartree and Bohr.

Cutoffs are DFTB+'s. They matter at the level of 1e-7 Hartree: what lies beyond is left out, not shifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ase.data import atomic_numbers

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Geometry
from dftbparam.engine.hamiltonian import COORDINATION_CUTOFF, PAIR_CUTOFF, TRIPLE_CUTOFF, Dispersion
from dftbparam.errors import CalculationError, EngineMissing

INSTALL: Final = "pip install 'dftbparam[dispersion]'"


@dataclass(frozen=True)
class DispersionResult:
    """``forces`` (n, 3) and ``virial`` dE/d(strain) (3, 3); None where they were not asked for."""

    energy: float
    forces: Array | None
    virial: Array | None


def dispersion_energy(
    structure: Geometry, parameters: Dispersion, charge: float, derivatives: bool
) -> DispersionResult:
    """Energy and, if asked for, forces and virial of a structure of this net charge (which D4's charges feel).

    Raises
    ------
    EngineMissing
        The library is not installed.
    CalculationError
        The library refuses the structure, an element without reference data for instance.
    """
    numbers = np.array([atomic_numbers[symbol] for symbol in structure.symbols])
    given: dict[str, Any] = {"numbers": numbers, "positions": structure.positions}
    if structure.periodic:
        given |= {"lattice": structure.cell, "periodic": np.array([True, True, True])}
    damping = {name: getattr(parameters, name) for name in ("s6", "s8", "s9", "a1", "a2")}
    try:
        if parameters.model == "d3bj":
            from dftd3.interface import DispersionModel, RationalDampingParam

            model, damped = DispersionModel(**given), RationalDampingParam(**damping, alp=14.0)  # type: ignore[no-untyped-call]
        else:
            from dftd4.interface import DampingParam
            from dftd4.interface import DispersionModel as Model

            model, damped = Model(**given, charge=charge), DampingParam(**damping, alp=16.0)
    except ImportError as error:
        raise EngineMissing(
            f"dispersion {parameters.model!r} needs the library {error.name}, which is not installed: {INSTALL}"
        ) from None
    except RuntimeError as error:
        raise CalculationError(f"dispersion {parameters.model!r}: {error}") from None
    model.set_realspace_cutoff(disp2=PAIR_CUTOFF, disp3=TRIPLE_CUTOFF, cn=COORDINATION_CUTOFF)
    try:
        found = model.get_dispersion(damped, grad=derivatives)
    except RuntimeError as error:
        raise CalculationError(f"dispersion {parameters.model!r}: {error}") from None
    if not derivatives:
        return DispersionResult(float(found["energy"]), None, None)
    return DispersionResult(float(found["energy"]), -found["gradient"], found["virial"])
