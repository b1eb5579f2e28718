"""The seam between the toolkit and whatever solves the DFTB equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.errors import DftbparamError, ParameterError
from dftbparam.skf.model import SKSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What to compute and how. Energies in Hartree, temperatures in kelvin.

    Attributes
    ----------
    kpts
        Monkhorst-Pack divisions. DFTB+'s custom: even divisions are shifted by half a step, odd ones hold Gamma.
        Ignored for structures without periodic boundary conditions.
    kpt_density
        If given, divisions are ceil(kpt_density * |2 pi b_i|) per structure (b_i the reciprocal vectors without
        2 pi, in 1/Angstrom), at least 1, and ``kpts`` is ignored.
    temperature
        Electronic temperature of the Fermi filling, or the width of Methfessel-Paxton, in kelvin.
    """

    kpts: tuple[int, int, int] = (1, 1, 1)
    kpt_density: float | None = None
    temperature: float = 1000.0
    filling: Literal["fermi", "methfessel-paxton"] = "fermi"
    filling_order: int = 1
    charge: float = 0.0
    scc: bool = True
    scc_tolerance: float = 1e-7
    max_scc_iterations: int = 200
    forces: bool = False
    stress: bool = False
    repulsion: bool = True
    eigenvalues: bool = False
    max_angular: dict[str, int] | None = None

    def __post_init__(self) -> None:
        """Refuse values that no engine could use, with `ParameterError`."""
        if np.shape(self.kpts) != (3,) or any(int(n) != n or n < 1 for n in self.kpts):
            raise ParameterError(f"kpts is {self.kpts}; it must be three positive whole numbers")
        limits = {
            "kpt_density": (self.kpt_density is None or 0.0 < self.kpt_density < 1e3, "positive, in Angstrom"),
            "temperature": (0.0 <= self.temperature < 1e6, "a temperature in kelvin, 0 or more"),
            "filling": (self.filling in ("fermi", "methfessel-paxton"), "'fermi' or 'methfessel-paxton'"),
            "filling_order": (0 <= self.filling_order <= 10, "0 to 10"),
            "charge": (abs(self.charge) < 1e6, "a finite number of elementary charges"),
            "scc_tolerance": (0.0 < self.scc_tolerance < 1.0, "between 0 and 1"),
            "max_scc_iterations": (self.max_scc_iterations >= 1, "at least 1"),
        }
        for name, (good, right) in limits.items():
            if not good:
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it must be {right}", name=name)


@dataclass(frozen=True)
class Result:
    """What an engine found. Hartree and Bohr.

    ``energy`` is the total energy without the entropy term, ``free_energy`` = energy - TS the Mermin free energy,
    which is the energy that forces and stress are derivatives of; ``extrapolated_energy`` is their mean (T -> 0).
    ``energy`` = ``band_energy`` + ``scc_energy`` + ``repulsive_energy``, the first being Tr(P H0), without SCC shifts.
    ``forces`` (n, 3); ``stress`` (3, 3), symmetric, dE/d(strain)/volume: positive under tension as in ASE (DFTB+
    prints the opposite sign). ``charges`` (n,): net charge per atom in units of |e|, positive where electrons are
    missing. ``eigenvalues`` (n_k, n_bands) with ``kpoints`` (n_k, 3) fractional and ``weights`` (n_k,), sum 1.
    """

    energy: float
    free_energy: float
    band_energy: float
    repulsive_energy: float
    scc_energy: float
    fermi_level: float
    charges: Array
    forces: Array | None = None
    stress: Array | None = None
    eigenvalues: Array | None = None
    kpoints: Array | None = None
    weights: Array | None = None
    scc_iterations: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def extrapolated_energy(self) -> float:
        """(energy + free_energy) / 2, the estimate of the zero-temperature energy, in Hartree."""
        return 0.5 * (self.energy + self.free_energy)


class Engine(Protocol):
    """Solves DFTB for many structures with one set of tables.

    Contract: `compute` returns one entry per structure in order: a `Result`, or the `DftbparamError` that
    structure ended in (returned, not raised, so that one failure never hides the others). Errors that concern the
    whole call (tables missing, engine missing, a bad setting) are raised. Structures are never modified. An engine
    holds no state between calls that changes results; it is safe to use from several processes.
    """

    name: str

    def versions(self) -> dict[str, str]:
        """Name and version of everything that decides the numbers, for provenance."""
        ...

    def compute(
        self, tables: SKSet | Path, structures: Sequence[Atoms], settings: Settings | Sequence[Settings]
    ) -> list[Result | DftbparamError]:
        """Compute every structure; ``settings`` is shared or one per structure. ASE structures are in Angstrom."""
        ...
