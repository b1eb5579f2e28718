"""Random crystals as structures for training and stress tests: drawn, relaxed if asked for, displaced and strained."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

import numpy as np

from dftbparam.errors import ParameterError
from dftbparam.reference.compositions import Composition, cell_formula, in_order
from dftbparam.reference.dft.frames import displaced
from dftbparam.reference.limits import Limits, nearest_distance
from dftbparam.reference.random_crystals import DrawSettings, RandomCrystal, Unlike, draw_crystals, versions
from dftbparam.reference.relaxation import (
    KEPT,
    MakeCalculator,
    RelaxationSettings,
    consistent_energy,
    explained,
    relax,
)

REDRAWS: Final = 20
"""Displaced copies drawn for one that keeps the distances, before there is none."""

DECIMALS: Final = 8
"""Digits that coordinates are written with; structures are rounded to them before energies are computed."""


@dataclass(frozen=True)
class RandomRequest:
    """What to make.

    Attributes
    ----------
    composition
        Elements and, if fixed, stoichiometry.
    count
        Crystals to draw. Relaxation may lose some of them.
    draw
        Sizes, space groups, limits and seed.
    relaxation
        None: crystals stay as drawn.
    copies
        Displaced and strained copies of each crystal, see `dftbparam.reference.dft.frames`.
    energies
        Whether to store energy, forces and stress of the calculator with each structure.
    method
        What the calculator is, in a few words; stored with structures that it relaxed or has energies of.

    Raises
    ------
    ParameterError
        A negative number of copies, or a count below 1.
    """

    composition: Composition
    count: int
    draw: DrawSettings = field(default_factory=DrawSettings)
    relaxation: RelaxationSettings | None = None
    copies: int = 0
    energies: bool = False
    method: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ParameterError(f"count is {self.count}; it must be at least 1", name="count")
        if self.copies < 0:
            raise ParameterError(f"copies is {self.copies}; it must be 0 or more", name="copies")


@dataclass(frozen=True)
class Outcome:
    """What became of a drawn crystal.

    Attributes
    ----------
    name, formula, atoms
        Of the crystal as it is now; ``Si-O 0007``, ``Si2O4``, 6.
    spacegroup_drawn, spacegroup
        Numbers; the second is None where no crystal is left.
    status
        ``drawn`` where nothing was to be relaxed; else as in `Relaxation`, or ``duplicate``: it relaxed to a crystal
        that is there.
    reason
        More about it.
    volume
        Angstrom^3/atom, of the last geometry.
    energy
        Of the calculator after relaxation, eV/atom.
    steps, seconds
        Of the relaxation.
    frames
        Structures that are kept: itself and its copies.
    """

    name: str
    formula: str
    atoms: int
    spacegroup_drawn: int
    spacegroup: int | None
    status: str
    reason: str
    volume: float
    energy: float | None
    steps: int
    seconds: float
    frames: int


@dataclass
class RandomSet:
    """Structures, and how they came about.

    Attributes
    ----------
    frames
        ASE's atoms with ``info``: name, composition, formula, spacegroup (of the crystal; displaced copies have lost
        it), spacegroup_drawn, seed, slot, status (of the crystal, as in `Outcome`), origin (``drawn``, ``relaxed`` or
        ``displaced``), settings, versions and, where a calculator was used, method; with a calculator that holds
        results where energies were asked for.
    outcomes
        One a drawn crystal.
    empty
        Drawings that led to no crystal: number of the space group and the reason.
    duplicates
        Drawings like a crystal before them.
    exhausted
        Whether fewer crystals than asked for were drawn: no space group was left to try.
    lost
        Structures that were left out, by name: copies without room, energies that were not found.
    """

    frames: list[Any] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    empty: list[tuple[int, str]] = field(default_factory=list)
    duplicates: int = 0
    exhausted: bool = False
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[str, int]:
        """How many crystals ended how."""
        return dict(Counter(outcome.status for outcome in self.outcomes))


def random_frames(
    request: RandomRequest,
    make_calculator: MakeCalculator | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> RandomSet:
    """Draw crystals, relax them, and add displaced copies.

    Parameters
    ----------
    make_calculator
        From a structure to its ASE calculator; needed for relaxation and energies.
    on_outcome
        Called when a crystal is finished, for progress.

    Raises
    ------
    ParameterError
        No calculator where one is needed; see also `draw_crystals`.
    EngineMissing
        pyxtal, or the calculator's program, is not installed.
    InputError
        What the calculator raises where the structure is not to blame, e.g. no tables of an element.
    """
    if make_calculator is None and (request.relaxation is not None or request.energies):
        raise ParameterError("relaxation and energies need a calculator", name="make_calculator")
    made = RandomSet()
    unlike = Unlike()
    common = _provenance(request)

    def finish(crystal: RandomCrystal) -> None:
        began = time.monotonic()
        outcome, rest = _rest(crystal, request, make_calculator, unlike)
        kept = 0
        if rest is not None:
            info = {
                "composition": request.composition.name,
                "formula": outcome["formula"],
                "spacegroup": outcome["spacegroup"],
                "spacegroup_drawn": crystal.spacegroup,
                "seed": request.draw.seed,
                "slot": crystal.slot,
                "status": outcome["status"],
            }
            for name, origin, atoms in _copies(crystal, rest, request, made.lost):
                atoms.info = {"name": name, **info, "origin": origin, **common}
                if request.energies and make_calculator is not None:
                    problem = _compute(atoms, make_calculator)
                    if problem is not None:
                        made.lost[name] = problem
                        continue
                made.frames.append(atoms)
                kept += 1
        made.outcomes.append(Outcome(**outcome, seconds=time.monotonic() - began, frames=kept))
        if on_outcome is not None:
            on_outcome(made.outcomes[-1])

    drawn = draw_crystals(request.composition, request.count, request.draw, finish)
    made.empty, made.duplicates, made.exhausted = drawn.empty, drawn.duplicates, drawn.exhausted
    return made


def _rest(
    crystal: RandomCrystal, request: RandomRequest, make_calculator: MakeCalculator | None, unlike: Unlike
) -> tuple[dict[str, Any], Any]:
    """Relax a crystal, if asked for: its `Outcome` without the last two fields; the crystal, None if not kept."""
    status, reason, energy, steps = "drawn", "", None, 0
    atoms, number = crystal.atoms, crystal.spacegroup
    found: int | None = number
    kept = True
    if request.relaxation is not None and make_calculator is not None:
        result = relax(atoms, make_calculator, _limits(crystal, request), request.relaxation, number)
        status, reason, energy, steps = result.status, result.reason, result.energy, result.steps
        atoms, found = in_order(request.composition, result.atoms), result.spacegroup
        kept = status in KEPT
        if kept and (like := unlike.add(crystal.name, atoms)) is not None:
            status, reason, kept = "duplicate", f"it has become {like}", False
    outcome = {
        "name": crystal.name,
        "formula": cell_formula(request.composition, atoms),
        "atoms": len(atoms),
        "spacegroup_drawn": number,
        "spacegroup": found,
        "status": status,
        "reason": reason,
        "volume": float(atoms.get_volume()) / len(atoms),
        "energy": energy,
        "steps": steps,
    }
    return outcome, _rounded(atoms) if kept else None


def _limits(crystal: RandomCrystal, request: RandomRequest) -> Limits:
    symbols = [str(symbol) for symbol in crystal.atoms.symbols]
    counts = [symbols.count(symbol) for symbol in request.composition.symbols]
    return Limits.of(request.composition.symbols, counts, request.draw.distance_factor)


def _copies(
    crystal: RandomCrystal, rest: Any, request: RandomRequest, lost: dict[str, str]
) -> list[tuple[str, str, Any]]:
    """Name, origin and structure of a crystal and of its copies that keep the limits."""
    found = [(crystal.name, "drawn" if request.relaxation is None else "relaxed", rest)]
    limits = _limits(crystal, request)
    near = nearest_distance(rest, limits.isolation)
    for index in range(request.copies):
        name = f"{crystal.name} d{index:02d}"
        reason = ""
        for again in range(REDRAWS):
            source = f"{crystal.name}/{request.draw.atoms}/{again}"
            copy = _rounded(in_order(request.composition, displaced(rest, source, index, near, request.draw.seed)))
            broken = limits.violation(copy)
            if broken is None:
                found.append((name, "displaced", copy))
                break
            reason = broken[1]
        else:
            lost[name] = f"{REDRAWS} displaced copies, none of which keeps the limits: {reason}"
    return found


def _rounded(atoms: Any) -> Any:
    """Return a structure as it will be read from its file, so that energies belong to what is written."""
    copy = atoms.copy()
    copy.set_cell(np.round(atoms.cell.array, DECIMALS) + 0.0, scale_atoms=False)
    copy.positions = np.round(atoms.positions, DECIMALS) + 0.0
    copy.info = {}
    return copy


def _compute(atoms: Any, make_calculator: MakeCalculator) -> str | None:
    """Attach energy, forces and stress; a text says why there are none."""
    from ase.calculators import singlepoint

    holds: Any = singlepoint.SinglePointCalculator
    moving = atoms.copy()
    try:
        moving.calc = make_calculator(moving)
        results = {
            "forces": np.round(moving.get_forces(), 6),
            "stress": np.round(moving.get_stress(), 8),
            "energy": round(float(moving.get_potential_energy()), 6),
            "free_energy": round(consistent_energy(moving), 6),
        }
    except Exception as error:
        return explained(error)
    if not all(np.isfinite(value).all() for value in results.values()):
        return "energy, forces or stress that are no numbers"
    atoms.calc = holds(atoms, **results)
    return None


def _provenance(request: RandomRequest) -> dict[str, str]:
    """Settings and versions, each as one text of JSON, as extended xyz has no nested values."""
    settings: dict[str, Any] = {
        "atoms": request.draw.atoms,
        "spacegroups": _ranges(request.draw.spacegroups),
        "distance_factor": request.draw.distance_factor,
        "volume_spread": list(request.draw.volume_spread),
        "aspect": request.draw.aspect,
    }
    if request.relaxation is not None:
        settings |= {"relax_force": request.relaxation.force, "relax_steps": request.relaxation.steps}
    found = {"settings": _text(settings), "versions": _text(versions())}
    if request.method and (request.relaxation is not None or request.energies):
        found["method"] = request.method
    return found


def _text(value: Mapping[str, Any]) -> str:
    """JSON without double quotes, which extended xyz would escape."""
    return json.dumps(value).replace('"', "'")


def _ranges(numbers: tuple[int, ...]) -> str:
    """Write ``1-230`` or ``2,195-230``: what `parse_spacegroups` reads."""
    parts: list[list[int]] = []
    for n in sorted(set(numbers)):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def extxyz(frames: list[Any]) -> str:
    """Structures as the text of an extended xyz file."""
    from ase.io import extxyz as format_

    write: Any = format_.write_extxyz
    text = StringIO()
    write(text, frames)
    return text.getvalue()
