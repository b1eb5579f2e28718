"""What a report card holds beside E(V), computed: bands, gaps, formation energies, forces, stress.

Functions return scores and, by name, why something has none; a structure that fails never hides the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.errors import DftbparamError, InputError, ReferenceDataError, StructureError
from dftbparam.reference import BandReference, CrystalReference, Dataset, EosFit
from dftbparam.score import (
    BandScore,
    BandTarget,
    ForceScore,
    FormationScore,
    GapScore,
    StressScore,
    compare_forces,
    compare_stress,
    formation_score,
)
from dftbparam.skf import SKSet
from dftbparam.units import BOLTZMANN, HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR3

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]

BAND_KPT_DENSITY: Final = 8.0
"""k-point divisions per 2 pi/Angstrom behind charges and Fermi level of bands: errors of a metal's bands count from its
Fermi level, and one structure is cheap. With a smearing of 0.2 eV Fermi levels of Al, Cu, Ti, W, Na and Fe in three
crystals are within 2 meV of those at 14 (at 6 within 11, at 3 within 45)."""

Failures = dict[str, str]
"""By what could not be scored, as in `ReportCard.missing`: why."""


@dataclass(frozen=True)
class Bands:
    """Computed bands of one crystal at a reference's points.

    Attributes
    ----------
    energies
        (k, n), eV, relative to the computed Fermi level.
    score
        Their comparison; energies minus its ``shift`` are aligned with the reference.
    """

    reference: BandReference
    energies: Array
    score: BandScore


def valence_electrons(tables: SKSet, atoms: Atoms) -> float:
    """Electrons of a neutral structure in the shells of the tables.

    Raises
    ------
    InputError
        An element has no homonuclear table with occupations.
    """
    total = 0.0
    for symbol in atoms.get_chemical_symbols():  # type: ignore[no-untyped-call]
        file = tables.files.get((symbol, symbol))
        if file is None or file.on_site is None:
            raise InputError(f"the tables have no occupations of {symbol}: file {symbol}-{symbol}", symbol=symbol)
        total += float(np.sum(file.on_site.occupations))
    return total


def band_settings(reference: BandReference, density: float = BAND_KPT_DENSITY) -> Settings:
    """Engine settings for the bands of a reference at its own volume, `BandReference.volume`.

    The electronic temperature is the reference's smearing, so that both Fermi levels are those of one distribution:
    with another width a metal's moves by some hundredths of an eV.
    """
    return Settings(
        kpts=reference.mesh(reference.volume, density),
        temperature=reference.smearing / (HARTREE * BOLTZMANN),
        repulsion=False,
        band_points=reference.points,
    )


def compute_bands(
    tables: SKSet, references: Sequence[BandReference], engine: Engine, temperature: float | None = None
) -> tuple[list[Bands], Failures]:
    """Compute bands at the volumes and k-points of their references, in one call of the engine, and compare them.

    Parameters
    ----------
    temperature
        Electronic, kelvin, in place of each reference's own smearing (see `band_settings`).

    Raises
    ------
    InputError
        Tables or settings that no structure could be computed with.
    """
    if not references:
        return [], {}
    structures = [reference.atoms(reference.volume) for reference in references]
    settings = [band_settings(reference) for reference in references]
    if temperature is not None:
        settings = [replace(one, temperature=temperature) for one in settings]
    found: list[Bands] = []
    failures: Failures = {}
    results = checked(engine.compute(tables, structures, settings))
    for reference, atoms, result in zip(references, structures, results, strict=True):
        try:
            if not isinstance(result, Result):
                raise result
            if result.bands is None:
                raise InputError(f"the engine {engine.name!r} gave no bands")
            energies = result.bands * HARTREE
            target = BandTarget(reference, valence_electrons(tables, atoms))
            score = target.compare(energies, result.fermi_level * HARTREE)
            found.append(Bands(reference, energies - result.fermi_level * HARTREE, score))
        except DftbparamError as error:
            failures[reference.name] = reason(error)
    return found, failures


def gap_scores(scores: Sequence[BandScore]) -> tuple[list[GapScore], Failures]:
    """Take the gaps out of band scores; a gap that one side does not know is a failure."""
    gaps: list[GapScore] = []
    failures: Failures = {}
    for one in scores:
        if one.gap is None or one.reference_gap is None or one.gap_error is None:
            side = "the basis has" if one.gap is None else "the reference lists"
            failures[one.crystal] = f"{side} no empty band"
        else:
            gaps.append(
                GapScore(crystal=one.crystal, gap=one.gap, reference_gap=one.reference_gap, error=one.gap_error)
            )
    return gaps, failures


def stable_elements(crystals: Sequence[CrystalReference], references: Dataset) -> dict[str, CrystalReference]:
    """Per element of the crystals its most stable crystal in the data set; elements without one are left out."""
    symbols = dict.fromkeys(symbol for crystal in crystals for symbol in crystal.symbols)
    return {symbol: references.stable(symbol) for symbol in symbols if symbol in references.symbols}


def cutoff_conflict(crystal: CrystalReference, references: Dataset) -> str | None:
    """Why a compound and its elements have no formation energy in a data set: other cutoffs; None where they do.

    Total energies fall by some 0.1 eV/atom where a cutoff that is good enough for differences is raised.
    """
    cutoffs = {name: references.cutoff(name) for name in (crystal.compound, *crystal.symbols)}
    if len({value for value in cutoffs.values() if value is not None}) < 2:
        return None
    listed = ", ".join(f"{name} {value:g}" for name, value in cutoffs.items() if value is not None)
    return f"the reference energies have different cutoffs ({listed} eV)"


def formation_scores(
    crystals: Sequence[CrystalReference],
    stable: Mapping[str, CrystalReference],
    fits: Mapping[str, EosFit | DftbparamError],
    elements: Mapping[str, EosFit | DftbparamError],
    references: Dataset,
) -> tuple[list[FormationScore], Failures]:
    """Score the formation energies of binary crystals.

    A crystal whose elements were computed with another cutoff has none in the reference: `cutoff_conflict`.

    Parameters
    ----------
    stable
        Per element its stable crystal, from `stable_elements`.
    fits
        Of the binaries, by their names.
    elements
        Of the stable crystals, by symbol.
    references
        The data set of all of them.
    """
    energies = {name: fit.e0 for name, fit in (*fits.items(), *elements.items()) if isinstance(fit, EosFit)}
    scores: list[FormationScore] = []
    failures: Failures = {}
    for crystal in crystals:
        lost = [crystal.name, *crystal.symbols]
        errors = [
            f"{name}: {reason(fit)}" for name in lost if isinstance(fit := {**fits, **elements}.get(name), Exception)
        ]
        if errors:
            failures[crystal.name] = "; ".join(errors)
            continue
        if conflict := cutoff_conflict(crystal, references):
            failures[crystal.name] = conflict
            continue
        try:
            scores.append(formation_score(crystal, stable, energies))
        except InputError as error:
            failures[crystal.name] = error.message
    return scores, failures


def frames_of(symbols: Sequence[str], frames: Sequence[Atoms]) -> list[Atoms]:
    """Those of the structures that hold exactly these elements."""
    return [atoms for atoms in frames if set(atoms.get_chemical_symbols()) == set(symbols)]  # type: ignore[no-untyped-call]


def score_frames(
    tables: SKSet,
    frames: Sequence[Atoms],
    engine: Engine,
    *,
    forces: bool = True,
    stress: bool = True,
    kpt_density: float,
    temperature: float,
) -> tuple[ForceScore | None, StressScore | None, Failures]:
    """Compare forces and stress with structures that carry theirs, as `dftbparam.reference.load_frames` reads them.

    A structure is compared in what it has; stress only where it is periodic in all directions.

    Parameters
    ----------
    kpt_density
        k-point divisions per 2 pi/Angstrom.
    temperature
        Electronic, kelvin. Forces are derivatives of the free energy.

    Returns
    -------
    The scores, None where no structure has the property, and under ``forces`` and ``stress`` why a score is missing or
    incomplete.

    Raises
    ------
    ReferenceDataError
        Forces or stress of a structure are not finite numbers.
    InputError
        Tables that no structure could be computed with.
    """
    known = [_known(i, atoms, forces, stress) for i, atoms in enumerate(frames)]
    wanted = [i for i, (f, s) in enumerate(known) if f is not None or s is not None]
    settings = [
        Settings(
            kpt_density=kpt_density,
            temperature=temperature,
            forces=known[i][0] is not None,
            stress=known[i][1] is not None,
        )
        for i in wanted
    ]
    results = checked(engine.compute(tables, [frames[i] for i in wanted], settings)) if wanted else []
    sides: dict[str, tuple[list[Array], list[Array]]] = {"forces": ([], []), "stress": ([], [])}
    failed: dict[str, list[str]] = {"forces": [], "stress": []}
    for i, result in zip(wanted, results, strict=True):
        for name, theirs, unit in zip(sides, known[i], (HARTREE_PER_BOHR, HARTREE_PER_BOHR3), strict=True):
            if theirs is None:
                continue
            ours = getattr(result, name) if isinstance(result, Result) else None
            if ours is None:
                failed[name].append(f"structure {i}: {_why(result, name)}")
            else:
                sides[name][0].append(theirs)
                sides[name][1].append(ours * unit)
    failures = {
        name: f"{len(lost)} of {len(lost) + len(sides[name][0])} structures failed; {lost[0]}"
        for name, lost in failed.items()
        if lost
    }
    return (
        compare_forces(*sides["forces"], n_failed=len(failed["forces"])),
        compare_stress(*sides["stress"], n_failed=len(failed["stress"])),
        failures,
    )


def checked(results: list[Result | DftbparamError]) -> list[Result | DftbparamError]:
    """Raise what is wrong for every structure, bad tables or settings; atoms too close are a matter of one."""
    for result in results:
        if isinstance(result, InputError) and not isinstance(result, StructureError):
            raise result
    return results


def reason(error: Exception) -> str:
    """Name and message of an error, as `CrystalScore.status` has them."""
    return f"{type(error).__name__}: {error}"


def _why(result: Result | DftbparamError, what: str) -> str:
    return f"no {what} from the engine" if isinstance(result, Result) else reason(result)


def _known(index: int, atoms: Atoms, forces: bool, stress: bool) -> tuple[Array | None, Array | None]:
    """Forces (n, 3) and stress (3, 3) that a structure carries, eV/Angstrom and eV/Angstrom^3; else None.

    Raises
    ------
    ReferenceDataError
        Numbers that are not finite.
    """
    from ase.stress import voigt_6_to_full_3x3_stress

    results: dict[str, Any] = {} if atoms.calc is None else atoms.calc.results
    f, s = results.get("forces") if forces else None, results.get("stress") if stress and all(atoms.pbc) else None
    full: Any = voigt_6_to_full_3x3_stress  # ASE's is untyped
    force = None if f is None else np.asarray(f, dtype=np.float64)
    tensor = None if s is None else np.asarray(full(s) if np.shape(s) == (6,) else s, dtype=np.float64)
    for name, numbers in (("forces", force), ("stress", tensor)):
        if numbers is not None and not np.isfinite(numbers).all():
            raise ReferenceDataError(
                f"structure {index} of {atoms.symbols}: {name} are not finite numbers", index=index
            )
    return force, tensor
