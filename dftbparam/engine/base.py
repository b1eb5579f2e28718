"""The seam between the toolkit and whatever solves the DFTB equations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
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
    shell_resolved
        One charge per shell, each with its own U (DFTB+'s ``ShellResolvedSCC``), instead of one per atom with the U of
        the s shell.
    spin, third_order, dispersion
        Parts of the Hamiltonian that are off unless given; see `dftbparam.engine.hamiltonian`.
    hydrogen_damping
        Exponent zeta of DFTB3's damped gamma for pairs with hydrogen (4.0 in 3ob); None: no damping.
    band_points
        Fractional k-points (n, 3) at which the bands of the converged charges are wanted besides (`Result.bands`).
    projections
        Whether to project the states on shells (`Result.projections`).
    reuse_charges
        Start from the converged charges of the structure before it in the call, as along an E(V) curve, if that has
        the same elements in the same order, charge, initial moments, fixed moment and shells. Results then agree with
        those of a fresh start within the SCC tolerance only, and several self-consistent solutions are followed rather
        than chosen anew.
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
    shell_resolved: bool = False
    spin: Spin | None = None
    third_order: ThirdOrder | None = None
    hydrogen_damping: float | None = None
    dispersion: Dispersion | None = None
    band_points: tuple[tuple[float, float, float], ...] | None = None
    projections: bool = False
    reuse_charges: bool = False

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
            "hydrogen_damping": (self.hydrogen_damping is None or 0.0 < self.hydrogen_damping < 100.0, "positive"),
        }
        for name, (good, right) in limits.items():
            if not good:
                raise ParameterError(f"{name} is {getattr(self, name)!r}; it must be {right}", name=name)
        needs_scc = [name for name in ("shell_resolved", "spin", "third_order", "hydrogen_damping") if self.uses(name)]
        if needs_scc and not self.scc:
            raise ParameterError(f"{needs_scc[0]} needs self-consistent charges, but scc is False", name=needs_scc[0])
        if self.shell_resolved and self.third_order is not None:
            raise ParameterError(
                "shell_resolved and third_order exclude each other: DFTB3 here is that of charges per atom"
            )
        if self.band_points is not None:
            points = np.asarray(self.band_points, dtype=np.float64)
            if points.ndim != 2 or points.shape[1:] != (3,) or not len(points) or not np.isfinite(points).all():
                raise ParameterError(f"band_points has the shape {points.shape}; it must be (n, 3), n > 0, and finite")
            object.__setattr__(self, "band_points", tuple((float(a), float(b), float(c)) for a, b, c in points))

    def uses(self, name: str) -> bool:
        """Whether an optional part of this name is switched on."""
        return getattr(self, name) not in (None, False)


@dataclass(frozen=True)
class Result:
    """What an engine found. Hartree and Bohr.

    ``energy`` is the total energy without the entropy term, ``free_energy`` = energy - TS the Mermin free energy,
    which is the energy that forces and stress are derivatives of; ``extrapolated_energy`` is their mean (T -> 0).
    ``energy`` = ``band_energy`` + ``scc_energy`` + ``third_order_energy`` + ``spin_energy`` + ``dispersion_energy`` +
    ``repulsive_energy``, the first being Tr(P H0), without SCC shifts.

    Attributes
    ----------
    forces, stress
        (n, 3); (3, 3), symmetric, dE/d(strain)/volume: positive under tension as in ASE (DFTB+ prints the opposite).
    charges
        (n,): net charge per atom in units of the elementary charge, positive where electrons are missing.
    shell_populations
        (n, 4): Mulliken populations of the shells s, p, d, f in electrons, 0 for shells that are absent. None where an
        engine had no need of states: all atoms are equivalent and neither derivatives nor eigenvalues were asked for.
    moments
        (n,): electrons up minus down per atom; None without spin polarisation.
    fermi_level, fermi_levels
        With a fixed number of unpaired electrons each spin has its own, (2,), and ``fermi_level`` is their mean.
    eigenvalues, kpoints, weights
        (n_k, n_bands), with spin polarisation (2, n_k, n_bands); (n_k, 3) fractional; (n_k,), sum 1.
    bands
        Eigenvalues at ``Settings.band_points``, (n, n_bands) or (2, n, n_bands).
    projections
        Mulliken weight of each state of ``eigenvalues`` on each shell of each atom, (n_k, n_bands, n, 4) or
        (2, n_k, n_bands, n, 4); a state's weights sum to 1. Where the mesh was reduced by symmetry they are averaged
        over its operations, so that sums over states of one energy and over the mesh are those of the full mesh.
    scc_iterations
        Diagonalisations until self-consistency, the last included.
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
    third_order_energy: float = 0.0
    spin_energy: float = 0.0
    dispersion_energy: float = 0.0
    shell_populations: Array | None = None
    moments: Array | None = None
    fermi_levels: tuple[float, float] | None = None
    bands: Array | None = None
    projections: Array | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def extrapolated_energy(self) -> float:
        """(energy + free_energy) / 2, the estimate of the zero-temperature energy, in Hartree."""
        return 0.5 * (self.energy + self.free_energy)


class Engine(Protocol):
    """Solves DFTB for many structures with one set of tables.

    Contract: `compute` returns one entry per structure in order: a `Result`, or the `DftbparamError` that
    structure ended in (returned, not raised, so that one failure never hides the others). Errors that concern the
    whole call (tables missing, engine missing, a bad setting) are raised. A setting that an engine lacks is refused by
    name with `ParameterError`, never left out in silence. Structures are never modified. An engine holds no state
    between calls that changes results; it is safe to use from several processes.
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


def settings_per_structure(
    settings: Settings | Sequence[Settings], n: int, engine: str, lacks: Sequence[str] = ()
) -> list[Settings]:
    """Settings of each of ``n`` structures.

    Raises
    ------
    ParameterError
        Their number does not fit, or one asks for a part (by its name in `Settings`) that the engine ``lacks``.
    """
    each = [settings] * n if isinstance(settings, Settings) else list(settings)
    if len(each) != n:
        raise ParameterError(f"{len(each)} settings for {n} structures: give one, or one for each")
    for one in each:
        for name in lacks:
            if one.uses(name):
                raise ParameterError(f"the engine {engine!r} has no {name}; leave it out, or take another", name=name)
        for symbol, l in (one.max_angular or {}).items():
            if not 0 <= l <= 3:
                raise ParameterError(f"max_angular of {symbol} is {l}; it must be 0 (s) to 3 (f)", symbol=symbol)
    return each
