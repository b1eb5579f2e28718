"""One DFT calculation as a record: what to compute, so that it can be sent to a worker and found again on disk."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dftbparam.reference.dft.recipe import Recipe

if TYPE_CHECKING:
    from ase import Atoms

Kind = Literal["energy", "forces", "bands", "atom"]
"""``energy``; with forces and stress; energies along ``path`` after an SCF; a spin-polarised atom in a box."""


class Task(BaseModel):
    """A calculation.

    Attributes
    ----------
    label
        What it belongs to, e.g. ``Si/diamond/eos/+02``; also the name of its file.
    numbers, cell, positions
        Atomic numbers (n,), cell vectors (3, 3) and Cartesian positions (n, 3), Angstrom. Always periodic: what is
        not stands in a box.
    kpts
        Divisions of the k-point mesh, which holds Gamma.
    path
        (k, 3), k-points in units of the reciprocal vectors; only for ``bands``.
    pbc
        Directions in which the structure itself has a period; the calculation is periodic in all. Does not decide
        numbers.
    details
        What a reader of the result wants to know again: volume, seed, labels of the path. Does not decide numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label: str
    kind: Kind
    recipe: Recipe
    numbers: tuple[int, ...]
    cell: tuple[tuple[float, float, float], ...]
    positions: tuple[tuple[float, float, float], ...]
    kpts: tuple[int, int, int]
    path: tuple[tuple[float, float, float], ...] = ()
    pbc: tuple[bool, bool, bool] = (True, True, True)
    details: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        label: str,
        kind: Kind,
        recipe: Recipe,
        atoms: Atoms,
        kpts: tuple[int, int, int],
        *,
        path: Any = (),
        details: dict[str, Any] | None = None,
    ) -> Self:
        """Make a task of ASE's atoms. Coordinates are rounded to 1e-10 Angstrom, so that keys survive the last bit."""

        def rows(values: Any) -> tuple[tuple[float, float, float], ...]:
            # Adding 0 turns -0 into 0, which JSON would tell apart.
            return tuple((float(x), float(y), float(z)) for x, y, z in np.round(np.asarray(values), 10) + 0.0)

        return cls(
            label=label,
            kind=kind,
            recipe=recipe,
            numbers=tuple(int(z) for z in atoms.numbers),
            cell=rows(atoms.cell.array),
            positions=rows(atoms.positions),
            kpts=kpts,
            path=rows(path) if len(path) else (),
            pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
            details=details or {},
        )

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of everything that decides the numbers."""
        text = json.dumps(self.model_dump(mode="json", exclude={"label", "details", "pbc"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def atoms(self) -> Atoms:
        """Return ASE's atoms, periodic in all directions."""
        from ase import Atoms

        return Atoms(numbers=self.numbers, cell=self.cell, positions=self.positions, pbc=True)
