"""What a Hamiltonian can hold beyond SCC with one charge per atom: records that `Settings` carries. Atomic units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from dftbparam.errors import ParameterError, StructureError

Matrix = tuple[tuple[float, ...], ...]

MAX_SHELLS = 4
"""Shells s, p, d, f: what the Slater-Koster format holds."""

PAIR_CUTOFF = 64.0
"""Bohr. Where pairs of the dispersion energy end: DFTB+'s default."""

TRIPLE_CUTOFF = 40.0
"""Bohr. Where its three-body terms end: DFTB+'s default."""

COORDINATION_CUTOFF = 40.0
"""Bohr. Where coordination numbers end, far beyond what they feel."""


@dataclass(frozen=True)
class Spin:
    """Collinear spin polarisation.

    Adds 1/2 sum_a sum_ll' W_a,ll' m_al m_al' with the spin populations m_al (up minus down) of the shells of atom a
    (Frauenheim et al., phys. stat. sol. (b) 217, 41 (2000)). Where the search for self-consistency starts is the
    structure's own: ``Atoms.get_initial_magnetic_moments()``, in electrons; moments of zero stay zero if the number of
    unpaired electrons is free.

    Attributes
    ----------
    constants
        Per element W (n, n) in Hartree, symmetric, shells in the order s, p, d, f, at least as many as the element
        has orbitals for; a single number stands for a matrix that holds it everywhere.
    unpaired
        Electrons up minus down, kept at this number with a Fermi level for each spin; None: one Fermi level for both,
        and the total moment finds itself.
    """

    constants: Mapping[str, Matrix | float]
    unpaired: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no set of spin constants, with `ParameterError`."""
        for symbol, given in self.constants.items():
            w = np.asarray(given, dtype=np.float64)
            if not np.isfinite(w).all() or w.ndim not in (0, 2) or (w.ndim == 2 and w.shape[0] != w.shape[1]):
                raise ParameterError(
                    f"spin constants of {symbol} are {given!r}; they must be a number or a square matrix, in Hartree",
                    symbol=symbol,
                )
            if w.ndim == 2 and (not 1 <= len(w) <= MAX_SHELLS or np.abs(w - w.T).max() > 1e-10):
                raise ParameterError(
                    f"spin constants of {symbol} are {given!r}; the matrix must be symmetric, 1 to {MAX_SHELLS} shells",
                    symbol=symbol,
                )
        if self.unpaired is not None and not math.isfinite(self.unpaired):
            raise ParameterError(f"unpaired is {self.unpaired}; it must be a finite number of electrons, or None")

    def matrix(self, symbol: str, n_shells: int) -> NDArray[np.float64]:
        """W (n_shells, n_shells) of an element, Hartree; `ParameterError` where there is none of this size."""
        if symbol not in self.constants:
            known = ", ".join(sorted(self.constants)) or "none"
            raise ParameterError(f"no spin constants for {symbol}; there are some for: {known}", symbol=symbol)
        w = np.asarray(self.constants[symbol], dtype=np.float64)
        if w.ndim == 0:
            return np.full((n_shells, n_shells), float(w))
        if len(w) < n_shells:
            raise ParameterError(
                f"spin constants of {symbol} cover {len(w)} shells, but it has {n_shells}", symbol=symbol
            )
        return np.array(w[:n_shells, :n_shells])


@dataclass(frozen=True)
class ThirdOrder:
    """DFTB3: 1/3 sum_ab dq_a^2 dq_b Gamma_ab (Gaus, Cui, Elstner, J. Chem. Theory Comput. 7, 931 (2011)).

    Attributes
    ----------
    derivatives
        dU/dq per element in Hartree per electron (q counts electrons: -0.1492 for carbon in the set 3ob).
    full
        False keeps only the on-site terms Gamma_aa.
    """

    derivatives: Mapping[str, float]
    full: bool = True

    def __post_init__(self) -> None:
        """Refuse derivatives that are not finite, with `ParameterError`."""
        for symbol, value in self.derivatives.items():
            if not math.isfinite(value):
                raise ParameterError(f"Hubbard derivative of {symbol} is {value}; it must be a number", symbol=symbol)

    def of(self, symbol: str) -> float:
        """Derivative of an element; `ParameterError` where there is none."""
        if symbol not in self.derivatives:
            known = ", ".join(sorted(self.derivatives)) or "none"
            raise ParameterError(f"no Hubbard derivative for {symbol}; there are some for: {known}", symbol=symbol)
        return float(self.derivatives[symbol])


@dataclass(frozen=True)
class Dispersion:
    """London dispersion after the fact: D3 with Becke-Johnson damping, or D4.

    D3(BJ): Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011). D4: Caldeweyher et al., J. Chem. Phys. 150,
    154122 (2019). The damping parameters belong to a parameter set: for 3ob with DFTB3, D3(BJ) has s8 = 3.209,
    a1 = 0.746, a2 = 4.191 (the DFTB+ manual cites them), D4 has s8 = 0.4727337, a1 = 0.5467502, a2 = 4.4955068.

    ``a2`` is in Bohr; ``s9`` scales the three-body term (0: none; 1 is D4's custom).
    """

    model: Literal["d3bj", "d4"]
    s8: float
    a1: float
    a2: float
    s6: float = 1.0
    s9: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an unknown model and numbers that are not finite, with `ParameterError`."""
        if self.model not in ("d3bj", "d4"):
            raise ParameterError(f"dispersion model is {self.model!r}; it must be 'd3bj' or 'd4'")
        for name in ("s6", "s8", "s9", "a1", "a2"):
            if not math.isfinite(getattr(self, name)):
                raise ParameterError(f"dispersion parameter {name} is {getattr(self, name)}; it must be a number")


def initial_moments(atoms: Atoms) -> NDArray[np.float64]:
    """Initial magnetic moments (n,) of a structure in electrons; `StructureError` if they are not collinear."""
    given = atoms.get_initial_magnetic_moments()  # type: ignore[no-untyped-call]
    moments = np.asarray(given, dtype=np.float64)
    if moments.ndim != 1 or not np.isfinite(moments).all():
        raise StructureError(
            f"initial magnetic moments are {moments.tolist()}; they must be one finite number per atom (collinear)"
        )
    return moments
