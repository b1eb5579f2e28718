"""Random symmetric crystals: small cells drawn over space groups and compositions with pyxtal.

P. Avery, Q. Zhu et al.'s PyXtal (S. Fredericks, K. Parrish, D. Sayre, Q. Zhu, Comput. Phys. Commun. 261, 107810 (2021))
puts atoms on Wyckoff positions; what is asked of a crystal is decided here:

- its space group is the one that was drawn, not one of higher symmetry that it has by chance, so that the groups a
  composition can have come up equally often;
- its volume lies in a range made of known volumes and of covalent radii;
- no two atoms are too close, none is alone, the cell is not drawn out;
- it is not one of those before it.

Crystals are numbered by slots. Slot k belongs to one space group and has random numbers of its own, so that a longer
run begins with the crystals of a shorter one. No engine is involved; `dftbparam.reference.relaxation` relaxes, and
`dftbparam.reference.random_frames` makes the whole set.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Final

import numpy as np

from dftbparam.errors import EngineMissing, ParameterError
from dftbparam.reference.compositions import SPACEGROUPS, Composition, cell_formula, in_order
from dftbparam.reference.limits import DISTANCE_FACTOR, Limits, covalent_radii, volume_guesses

INSTALL: Final = "pip install 'dftbparam[dft]'"

MAX_ATOMS: Final = 20
"""Atoms in a primitive cell: beyond it, finding the Wyckoff positions that a composition fits takes too long, and the
cells are no longer small."""

VOLUME_SPREAD: Final = (0.8, 1.2)
"""The range of volumes reaches from this times the smallest to this times the largest guess. NiAl and MgO lie at 0.88
and 0.90 of the smallest."""

ASPECT: Final = 4.0
"""Longest over shortest vector of the reduced cell: beyond it k-points are spent on thin slices."""

SYMPREC: Final = 0.01
"""Tolerance of symmetry in a drawn crystal, Angstrom: coordinates are exact, but a free one can lie near a special
value, and no calculation would tell the difference."""

ATTEMPTS: Final = 8
"""Drawings in one slot. About half of all have a higher symmetry than their group."""

STRIKES: Final = 3
"""A space group whose slots stayed empty this many times in a row is not tried again: small cells of some groups always
have more symmetry, P23 with fewer than 12 equal atoms for example, and others have been drawn exhaustively."""

LIKENESS: Final[dict[str, Any]] = {"ltol": 0.1, "stol": 0.15, "angle_tol": 3.0}
"""Tolerances of pymatgen's StructureMatcher below which two crystals count as one, half of its own defaults or less:
those are made for finding the prototype of a crystal and would throw away useful variety."""


@dataclass(frozen=True)
class DrawSettings:
    """What is drawn.

    Attributes
    ----------
    atoms
        The most atoms in a primitive cell.
    spacegroups
        Numbers of the space groups.
    seed
        Same seed, settings and versions: the same crystals.
    distance_factor
        See `DISTANCE_FACTOR`.
    volume_spread
        See `VOLUME_SPREAD`.
    aspect
        See `ASPECT`.

    Raises
    ------
    ParameterError
        A value out of its range.
    """

    atoms: int = 8
    spacegroups: tuple[int, ...] = tuple(range(1, SPACEGROUPS + 1))
    seed: int = 0
    distance_factor: float = DISTANCE_FACTOR
    volume_spread: tuple[float, float] = VOLUME_SPREAD
    aspect: float = ASPECT

    def __post_init__(self) -> None:
        low, high = self.volume_spread
        for good, name, value, right in (
            (1 <= self.atoms <= MAX_ATOMS, "atoms", self.atoms, f"1 to {MAX_ATOMS}"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
            (0.3 <= self.distance_factor <= 1.0, "distance_factor", self.distance_factor, "0.3 to 1"),
            (0.3 <= low <= high <= 3.0, "volume_spread", self.volume_spread, "ascending, 0.3 to 3"),
            (1.0 < self.aspect < np.inf, "aspect", self.aspect, "more than 1"),
            (
                bool(self.spacegroups) and all(1 <= g <= SPACEGROUPS for g in self.spacegroups),
                "spacegroups",
                self.spacegroups,
                f"numbers from 1 to {SPACEGROUPS}, at least one",
            ),
        ):
            if not good:
                raise ParameterError(f"{name} is {value}; it must be {right}", name=name)


@dataclass(frozen=True)
class RandomCrystal:
    """A crystal that was drawn.

    Attributes
    ----------
    composition
        What was asked for.
    slot
        Its number among the drawings of a composition and seed.
    spacegroup
        Number of its space group, of the drawn and of the found one.
    atoms
        ASE's atoms: the primitive cell, elements in the order of the composition.
    """

    composition: Composition
    slot: int
    spacegroup: int
    atoms: Any

    @property
    def name(self) -> str:
        """``Si-O 0007``."""
        return f"{self.composition.name} {self.slot:04d}"

    @property
    def formula(self) -> str:
        """Contents of the cell, ``Si2O4``."""
        return cell_formula(self.composition, self.atoms)


@dataclass
class Drawn:
    """Crystals, and what came of the rest.

    Attributes
    ----------
    crystals
        In the order of their slots.
    empty
        Slots without a crystal: number of the space group and the reason for the last drawing.
    duplicates
        Number of drawings that were like a crystal before them.
    exhausted
        Whether fewer crystals than asked for were found: no space group was left to try.
    """

    crystals: list[RandomCrystal] = field(default_factory=list)
    empty: list[tuple[int, str]] = field(default_factory=list)
    duplicates: int = 0
    exhausted: bool = False


class Unlike:
    """Crystals that are unlike each other, by pymatgen's StructureMatcher and `LIKENESS`; volumes do not count."""

    def __init__(self) -> None:
        require_pyxtal()
        with _quiet():
            from pymatgen.analysis import structure_matcher

            matcher: Any = structure_matcher.StructureMatcher
            self._matcher = matcher(**LIKENESS, primitive_cell=True, scale=True)
        self._known: dict[tuple[tuple[int, int], ...], list[tuple[str, Any]]] = {}

    def find(self, atoms: Any) -> str | None:
        """Name of a crystal that is like this one."""
        return self._find(self._structure(atoms), self._key(atoms))

    def add(self, name: str, atoms: Any) -> str | None:
        """Keep a crystal under a name, unless one like it is there: then return that one's name."""
        structure, key = self._structure(atoms), self._key(atoms)
        like = self._find(structure, key)
        if like is None:
            self._known.setdefault(key, []).append((name, structure))
        return like

    def _find(self, structure: Any, key: tuple[tuple[int, int], ...]) -> str | None:
        with _quiet():
            for name, other in self._known.get(key, ()):
                if self._matcher.fit(structure, other):
                    return name
        return None

    @staticmethod
    def _key(atoms: Any) -> tuple[tuple[int, int], ...]:
        """What alike primitive cells have in common for certain: numbers of atoms."""
        kinds, counts = np.unique(atoms.numbers, return_counts=True)
        return tuple(zip(kinds.tolist(), counts.tolist(), strict=True))

    @staticmethod
    def _structure(atoms: Any) -> Any:
        with _quiet():
            from pymatgen.core.lattice import Lattice
            from pymatgen.core.structure import Structure

            return Structure(Lattice(atoms.cell.array), list(atoms.symbols), atoms.get_scaled_positions())


def draw_crystals(
    composition: Composition,
    count: int,
    settings: DrawSettings = DrawSettings(),
    on_crystal: Callable[[RandomCrystal], None] | None = None,
) -> Drawn:
    """Draw crystals.

    The space groups are dealt like cards: each that the composition fits comes up once before any comes up again.

    Parameters
    ----------
    count
        How many; fewer are found where the space groups allow no more.
    on_crystal
        Called with each crystal as soon as it is drawn.

    Raises
    ------
    ParameterError
        A count below 1, or a formula unit that is larger than the cell.
    EngineMissing
        pyxtal is not installed.
    """
    if count < 1:
        raise ParameterError(f"count is {count}; it must be at least 1", name="count")
    composition.check_fits(settings.atoms)
    cells = composition.cells(settings.atoms)
    require_pyxtal()
    drawn, unlike = Drawn(), Unlike()
    strikes = dict.fromkeys(settings.spacegroups, 0)
    slot = turn = 0
    while len(drawn.crystals) < count and strikes:
        for group in _generator(composition, settings, "deal", turn).permutation(sorted(strikes)).tolist():
            fitting = _fitting(group, cells)
            if not fitting:
                del strikes[group]
                continue
            slot += 1
            found, reason, alike = _fill(composition, slot, group, fitting, settings, unlike)
            drawn.duplicates += alike
            if found is None:
                drawn.empty.append((group, reason))
                strikes[group] += 1
                if strikes[group] >= STRIKES:
                    del strikes[group]
                continue
            strikes[group] = 0
            drawn.crystals.append(found)
            if on_crystal is not None:
                on_crystal(found)
            if len(drawn.crystals) == count:
                break
        turn += 1
    drawn.exhausted = len(drawn.crystals) < count
    return drawn


def _generator(composition: Composition, settings: DrawSettings, what: str, number: int) -> np.random.Generator:
    text = f"{composition.name}/{settings.atoms}/{what}/{number}/{settings.seed}"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def _fill(
    composition: Composition,
    slot: int,
    group: int,
    cells: Sequence[tuple[int, ...]],
    settings: DrawSettings,
    unlike: Unlike,
) -> tuple[RandomCrystal | None, str, int]:
    """Try to find a crystal for a slot: it, or the reason for the last failure; how many were like one before."""
    rng = _generator(composition, settings, "slot", slot)
    alike = 0
    reason = ""
    for _ in range(ATTEMPTS):
        # First a size, then one of the compositions of this size: else the many of the largest cells crowd out others.
        size = int(rng.choice(sorted({sum(counts) for counts in cells})))
        choices = [counts for counts in cells if sum(counts) == size]
        counts = choices[int(rng.integers(len(choices)))]
        low, high = volume_guesses(composition.symbols, counts)
        volume = float(
            np.exp(rng.uniform(np.log(low * settings.volume_spread[0]), np.log(high * settings.volume_spread[1])))
        )
        atoms = _place(composition.symbols, counts, group, volume, settings.distance_factor, rng)
        if isinstance(atoms, str):
            reason = atoms
            continue
        found = symmetry(atoms, SYMPREC)
        if found is None:
            reason = "its symmetry is not found"
            continue
        number, atoms = found
        if number != group:
            reason = f"it has the higher symmetry of group {number}"
            continue
        lengths = atoms.cell.minkowski_reduce()[0].lengths()
        if lengths.max() > settings.aspect * lengths.min():
            reason = f"the cell is {lengths.max() / lengths.min():.1f} times as long as it is short"
            continue
        broken = Limits.of(composition.symbols, counts, settings.distance_factor).violation(atoms)
        if broken is not None:
            reason = broken[1]
            continue
        crystal = RandomCrystal(composition, slot, group, in_order(composition, atoms))
        like = unlike.add(crystal.name, crystal.atoms)
        if like is not None:
            reason = f"it is like {like}"
            alike += 1
            continue
        return crystal, "", alike
    return None, reason, alike


@cache
def _group(number: int) -> Any:
    with _quiet():
        from pyxtal.symmetry import Group

        return Group(number)


def _fitting(number: int, cells: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Those cells whose atoms fit on the Wyckoff positions of a space group."""
    group = _group(number)
    with _quiet():
        lattices = int(group.cellsize())
        return tuple(counts for counts in cells if group.check_compatible(np.array(counts) * lattices)[0])


def _place(
    symbols: Sequence[str],
    counts: Sequence[int],
    number: int,
    volume: float,
    distance_factor: float,
    rng: np.random.Generator,
) -> Any:
    """Put atoms on Wyckoff positions: the conventional cell as ASE's atoms, or a text that says why not.

    Parameters
    ----------
    volume
        Angstrom^3/atom.
    """
    from ase import Atoms

    group = _group(number)
    radii = covalent_radii(symbols)
    with _quiet():
        from pyxtal.crystal import random_crystal
        from pyxtal.lattice import Lattice
        from pyxtal.tolerance import Tol_matrix

        apart = [
            (symbols[i], symbols[j], distance_factor * (radii[i] + radii[j]))
            for i in range(len(symbols))
            for j in range(i + 1)
        ]
        try:
            lattice = Lattice(
                group.lattice_type,
                volume * sum(counts) * group.cellsize(),
                PBC=[1, 1, 1],
                random_state=rng.spawn(1)[0],
            )
            crystal = random_crystal(
                dim=3,
                group=group,
                species=list(symbols),
                numIons=list(counts),
                lattice=lattice,
                conventional=False,
                tm=Tol_matrix(*apart),
                random_state=rng.spawn(1)[0],
            )
        except Exception as error:  # pyxtal raises all kinds where a cell cannot be made; each is one lost drawing
            return f"pyxtal: {type(error).__name__}: {error}"
        if not crystal.valid:
            return "no place for the atoms at these distances"
        sites = [(site.specie, np.asarray(site.coords)) for site in crystal.atom_sites]
        return Atoms(
            [symbol for symbol, coordinates in sites for _ in coordinates],
            scaled_positions=np.concatenate([coordinates for _, coordinates in sites]) % 1.0,
            cell=np.asarray(crystal.lattice.matrix),
            pbc=True,
        )


def symmetry(atoms: Any, symprec: float) -> tuple[int, Any] | None:
    """Space group and primitive cell.

    Parameters
    ----------
    symprec
        Tolerance of positions, Angstrom.

    Returns
    -------
    Number of the group, and ASE's atoms of the standardised primitive cell with the symmetry made exact; None where no
    symmetry, not even that of the lattice, is found.
    """
    import spglib
    from ase import Atoms

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib's, about its own error handling
        try:
            found = spglib.get_symmetry_dataset(cell, symprec=symprec)
            primitive: Any = spglib.standardize_cell(cell, to_primitive=True, symprec=symprec)
        except Exception:  # newer versions raise where older ones return None
            return None
    if found is None or primitive is None:
        return None
    lattice, positions, numbers = primitive
    return int(found.number), Atoms(numbers=numbers, scaled_positions=positions, cell=lattice, pbc=True)


def require_pyxtal() -> None:
    """Raise `EngineMissing` where pyxtal, or what it is made of, is not installed."""
    try:
        with _quiet():
            import pymatgen.core  # noqa: F401
            import pyxtal.crystal  # noqa: F401
    except ImportError as error:
        raise EngineMissing(
            f"random crystals need pyxtal, and {error.name or 'a part of it'} is not installed: {INSTALL}"
        ) from None


def versions() -> dict[str, str]:
    """Versions of all that decides the structures."""
    import dftbparam

    found = {"dftbparam": dftbparam.__version__}
    for name in ("pyxtal", "pymatgen", "spglib", "ase", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep prints and warnings of pyxtal and pymatgen away: standard output may be somebody's JSON."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        for module in ("pyxtal", "pymatgen", "monty", "spglib"):
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
