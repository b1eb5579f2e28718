"""Displaced and strained copies of a crystal: structures with forces and stress, for delta models and for tests.

Every copy is the crystal at a volume drawn from `VOLUMES`, under a random symmetric strain, with random displacements.
The draws follow from the name of the crystal and a seed, so that a set can be extended without changing its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from dftbparam.errors import ParameterError, StructureError
from dftbparam.reference.prototypes import prototype

if TYPE_CHECKING:
    from ase import Atoms

    from dftbparam.reference.records import CrystalReference, Dataset

VOLUMES: Final = (0.90, 1.12)
"""Relative volumes of the copies."""

STRAIN: Final = 0.03
"""Standard deviation of the strain's components."""

DISPLACEMENTS: Final = (0.01, 0.04)
"""Standard deviation of the displacements, in units of the nearest-neighbour distance: about the thermal amplitude at
room temperature up to that near melting (Lindemann)."""

ATOMS: Final = 2
"""A copy has at least this many atoms, if nothing else is asked for: a crystal of one atom has no forces."""


def displaced(crystal: Any, name: str, index: int, neighbour: float, seed: int = 0, atoms: int = ATOMS) -> Atoms:
    """Make one copy.

    Parameters
    ----------
    crystal
        ASE's atoms: the primitive cell at rest.
    name, index, seed
        Decide the draws.
    neighbour
        Nearest-neighbour distance, Angstrom.
    atoms
        The copy has at least so many.
    """
    digest = hashlib.sha256(f"{name}/{index}/{seed}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    copy: Any = repeated(crystal, atoms)
    strain = rng.normal(0.0, STRAIN, (3, 3))
    strain = 0.5 * (strain + strain.T)
    strain -= np.eye(3) * np.trace(strain) / 3.0
    scale = rng.uniform(*VOLUMES) ** (1.0 / 3.0)
    deformation = scale * (np.eye(3) + strain)
    copy.set_cell(copy.cell.array @ deformation, scale_atoms=True)
    amplitude = rng.uniform(*DISPLACEMENTS) * neighbour
    copy.positions += rng.normal(0.0, amplitude, copy.positions.shape)
    copy.wrap()
    return cast("Atoms", copy)


def repeated(crystal: Any, atoms: int = ATOMS) -> Atoms:
    """Copy a crystal (ASE's atoms), doubled along its shortest vector until it has so many atoms or more."""
    copy: Any = crystal.copy()
    while len(copy) < atoms:
        repeat = [1, 1, 1]
        repeat[int(np.argmin(copy.cell.lengths()))] = 2
        copy = copy.repeat(repeat)
    return cast("Atoms", copy)


def crystals_to_displace(
    dataset: Dataset, compound: str, prototypes: Sequence[str] | None = None, count: int | None = None
) -> list[CrystalReference]:
    """Crystals of a compound in a reference set, the lowest in energy first.

    Parameters
    ----------
    compound
        ``Si``, or ``Mg-O`` in either order.
    prototypes
        None: all that are periodic in three directions.
    count
        At most so many, None: all. Energies are compared per atom, which orders crystals of one composition; a set's
        binary of several (MgO, MgO2) is refused.

    Raises
    ------
    ReferenceDataError
        The set has nothing of the compound.
    ParameterError
        It lacks one of the prototypes, has none that is periodic in three directions, or has several compositions
        to count through.
    """
    found = sorted(dataset.crystals_named(compound), key=lambda crystal: (crystal.energy, crystal.prototype))
    has = ", ".join(crystal.prototype for crystal in found)
    if prototypes is None:
        chosen = [crystal for crystal in found if crystal.structure.dimensions == 3]
        if not chosen:
            raise ParameterError(f"all crystals of {compound} in {dataset.name!r} are layers, chains or dimers: {has}")
    else:
        wanted = [prototype(name, found[0].symbol).name for name in prototypes]
        if lacking := [name for name in wanted if name not in {crystal.prototype for crystal in found}]:
            raise ParameterError(
                f"reference set {dataset.name!r} has no {', '.join(lacking)} of {compound}; it has: {has}",
                compound=compound,
            )
        chosen = [crystal for crystal in found if crystal.prototype in wanted]
    formulas = {
        tuple(sorted(crystal.atoms(crystal.volume).symbols.formula.reduce()[0].count().items())) for crystal in chosen
    }
    if count is not None and len(formulas) > 1:
        raise ParameterError(
            f"{compound} has several compositions in {dataset.name!r} ({has}), whose energies per atom have no order: "
            "name prototypes instead of a number of crystals",
            compound=compound,
        )
    return chosen[:count]


def displaced_copies(
    crystals: Sequence[CrystalReference], copies: int, atoms: int = ATOMS, seed: int = 0
) -> list[Atoms]:
    """Make displaced and strained copies of crystals of a reference set at their own V0.

    Parameters
    ----------
    crystals
        Of three dimensions.
    copies
        Of each.
    atoms
        A copy has at least so many.
    seed
        Other draws for another seed; more copies begin with the same ones.

    Returns
    -------
    ASE's atoms with ``info``: ``name``, the crystal's (``Si diamond``), ``index`` of the copy, ``seed``, ``origin``
    (``displaced``).

    Raises
    ------
    StructureError
        A layer, a chain or a molecule.
    """
    found: list[Atoms] = []
    for crystal in crystals:
        name = f"{crystal.compound} {crystal.prototype}"
        if crystal.structure.dimensions != 3:
            raise StructureError(
                f"{name} is periodic in {crystal.structure.dimensions} directions; displaced copies are made of "
                "crystals periodic in three",
                crystal=name,
            )
        near = crystal.structure.neighbour_distance(crystal.volume)
        for index in range(copies):
            copy: Any = displaced(crystal.atoms(crystal.volume), name, index, near, seed, atoms)
            copy.info = {"name": name, "index": index, "seed": seed, "origin": "displaced"}
            found.append(copy)
    return found
