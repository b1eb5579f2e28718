"""Structures from a file as calculations for the DFT runner: energies, forces and stress of anybody's extended xyz."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from dftbparam.elements import element
from dftbparam.errors import FileFormatError, ReferenceDataError, StructureError
from dftbparam.reference.dataset import count_frames
from dftbparam.reference.dft.recipe import recipe_for
from dftbparam.reference.dft.tasks import Task
from dftbparam.reference.prototypes import mesh

if TYPE_CHECKING:
    from ase import Atoms

CLOSEST: Final = 0.35
"""Angstrom; atoms nearer than half the bond of H2 are a mistake of the file."""

THINNEST: Final = 0.5
"""Angstrom; a cell whose faces are nearer to each other than this holds no atom."""

KEPT: Final = ("name", "spacegroup", "seed", "slot", "origin", "status")
"""Of a frame's ``info``: what a task carries on in its details, where it is there."""


def read_structures(path: Path) -> list[Atoms]:
    """Read the structures of an extended xyz file.

    Raises
    ------
    ReferenceDataError
        No such file.
    FileFormatError
        Not extended xyz, or nothing in it.
    """
    if not path.is_file():
        raise ReferenceDataError(f"no such file: {path}; right would be an extended xyz file", path=str(path))
    from ase.io import read

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReferenceDataError(f"{path} cannot be read ({error.strerror})", path=str(path)) from None
    # ASE's reader passes over some malformed numbers of atoms.
    if not count_frames(content, str(path)):
        raise FileFormatError("no structure in it", path=str(path))
    try:
        frames = cast("list[Atoms]", read(path, index=":", format="extxyz"))
    except Exception as error:  # ASE's reader raises whatever it stumbles over
        raise FileFormatError(f"not an extended xyz file ({type(error).__name__}: {error})", path=str(path)) from None
    return frames


def structure_tasks(frames: Iterable[Any], **changes: Any) -> list[Task]:
    """Make the calculations of energy, forces and stress of structures.

    All structures of the same elements share a recipe, so that their energies can be compared.

    Parameters
    ----------
    frames
        ASE's atoms; periodic, or in a box (a direction without period gets one k-point). ``info["name"]`` becomes part
        of the label. Energies that they have are not used.
    changes
        Settings of `Recipe` that differ from the elements' default.

    Returns
    -------
    One `Task` a structure, in their order, of the kind ``forces``; labels are ``Si-O/<name>/frames/<number>``,
    elements in the order of their first atoms.

    Raises
    ------
    StructureError
        No atoms, a cell without volume, atoms on top of each other, coordinates that are no numbers; says which frame.
    ElementError
        An unknown element.
    ParameterError
        A change that is no setting.
    """
    tasks = []
    for index, atoms in enumerate(frames):
        _check(atoms, index)
        symbols = list(dict.fromkeys(str(symbol) for symbol in atoms.symbols))
        for symbol in symbols:
            element(symbol)
        recipe = recipe_for(symbols, **changes)
        a, b, c = (bool(periodic) for periodic in atoms.pbc)
        kpts = mesh(atoms.cell.array, recipe.kpoint_density, (a, b, c))
        label = f"{'-'.join(symbols)}/{_slug(atoms.info.get('name'))}/frames/{index:04d}"
        details = {"index": index, **{key: _plain(atoms.info[key]) for key in KEPT if key in atoms.info}}
        tasks.append(Task.of(label, "forces", recipe, atoms, kpts, details=details))
    return tasks


def _check(atoms: Any, index: int) -> None:
    """Raise `StructureError` where a structure cannot be computed."""
    where = f"structure {index + 1}" + (f" ({atoms.info['name']})" if "name" in atoms.info else "")
    if not len(atoms):
        raise StructureError(f"{where} has no atoms", index=index)
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise StructureError(f"{where} has coordinates that are no numbers", index=index)
    lengths = atoms.cell.lengths()
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    faces = [float(np.linalg.norm(np.cross(*np.delete(atoms.cell.array, k, axis=0)))) for k in range(3)]
    if lengths.min() < THINNEST or min(faces) <= 0.0 or volume / max(faces) < THINNEST:
        raise StructureError(
            f"{where} has no three-dimensional cell (volume {volume:.3g} Angstrom^3); put molecules, chains and layers "
            "into a box",
            index=index,
        )
    close = _closest(atoms)
    if close is not None:
        raise StructureError(f"{where} has two atoms {close:.3g} Angstrom apart", index=index)


def _closest(atoms: Any) -> float | None:
    """Distance of the two nearest atoms, images included, where it is below `CLOSEST`."""
    from ase.neighborlist import neighbor_list as list_neighbours

    neighbor_list: Any = list_neighbours  # ASE's is untyped
    distances: Sequence[float] = neighbor_list("d", atoms, CLOSEST)
    return float(min(distances)) if len(distances) else None


def _slug(name: Any) -> str:
    """Make a name part of a label, which is the path of a file."""
    return re.sub(r"[^A-Za-z0-9+]+", "-", str(name or "")).strip("-")[:60] or "structure"


def _plain(value: Any) -> Any:
    """Turn numpy's numbers, which JSON does not know, into Python's; anything else into text."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool) else str(value)
