"""Energies between crystals: which may be compared with which, and formation energies.

Energies per atom of two crystals can be subtracted only where the two hold the same elements in the same ratio; then
every zero of an element's energy cancels. So phase energies of binaries are counted within a composition. A formation
energy crosses compositions, with the elements' own stable crystals as zeros::

    E_f(A_a B_b) = [ E(A_a B_b) - a E(A) - b E(B) ] / (a + b)        eV/atom, negative for a stable compound

E(A) is the minimum, per atom, of the crystal of A that is most stable *in the reference*; DFTB's is that of the same
crystal. All energies of one side have to come from one data set and one cutoff, or from one set of tables: then their
zeros cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from pydantic import BaseModel, ConfigDict

from dftbparam.errors import InputError
from dftbparam.reference import CrystalReference


class FormationScore(BaseModel):
    """Formation energy of one binary crystal, eV/atom; ``error`` is ours minus the reference's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crystal: str
    composition: str
    formation_energy: float
    reference_formation_energy: float
    error: float


def fractions(crystal: CrystalReference) -> dict[str, float]:
    """Atoms of each element of a crystal over all its atoms."""
    atoms = crystal.structure.species(crystal.symbol, crystal.partner)
    return {symbol: atoms.count(symbol) / len(atoms) for symbol in crystal.symbols}


def composition(crystal: CrystalReference) -> str:
    """Reduced chemical formula, elements in the order of the crystal's formula: ``Si``, ``MgO``, ``TiO2``."""
    atoms = crystal.structure.species(crystal.symbol, crystal.partner)
    counts = {symbol: atoms.count(symbol) for symbol in crystal.symbols}
    divisor = gcd(*counts.values())
    return "".join(symbol + (str(n // divisor) if n > divisor else "") for symbol, n in counts.items())


def stable_of_composition(crystals: Sequence[CrystalReference]) -> dict[str, CrystalReference]:
    """Per crystal, by its name, the one of the same composition that is lowest in energy, the first of equals."""
    groups: dict[frozenset[tuple[str, float]], list[CrystalReference]] = {}
    keys = {crystal.name: frozenset(fractions(crystal).items()) for crystal in crystals}
    for crystal in crystals:
        groups.setdefault(keys[crystal.name], []).append(crystal)
    lowest = {key: min(group, key=lambda crystal: crystal.energy) for key, group in groups.items()}
    return {name: lowest[key] for name, key in keys.items()}


def formation_coefficients(crystal: CrystalReference) -> dict[str, float]:
    """What the formation energy of a binary crystal is made of: energies per atom, each times its coefficient here.

    Returns
    -------
    The crystal itself first, by its name, with 1; then each element by its symbol, which stands for its most stable
    crystal, with minus its share of the atoms. For each element they add up to 0, so that its zero of energy does not
    count.

    Raises
    ------
    InputError
        The crystal is not a binary.
    """
    if crystal.partner is None:
        raise InputError(f"{crystal.compound} {crystal.name} is no compound: it has no formation energy")
    return {crystal.name: 1.0, **{symbol: -share for symbol, share in fractions(crystal).items()}}


def formation_score(
    crystal: CrystalReference, stable: Mapping[str, CrystalReference], energies: Mapping[str, float]
) -> FormationScore:
    """Score the formation energy of a binary crystal.

    Parameters
    ----------
    crystal
        The binary.
    stable
        Per element its crystal that is most stable in the reference, of the data set that ``crystal`` is of.
    energies
        Computed minima, eV/atom, by `CrystalReference.name` for ``crystal`` and by symbol for the elements, all from
        one set of tables.

    Raises
    ------
    InputError
        The crystal is not a binary, or an element or an energy is missing.
    """
    coefficients = formation_coefficients(crystal)
    if missing := [symbol for symbol in crystal.symbols if symbol not in stable]:
        raise InputError(f"{crystal.name}: no crystal of {' and '.join(missing)} to form it from")
    if missing := [name for name in coefficients if name not in energies]:
        raise InputError(f"{crystal.name}: no energy of {', '.join(missing)}")
    references = {crystal.name: crystal.energy, **{symbol: stable[symbol].energy for symbol in crystal.symbols}}
    ours, theirs = (
        values[crystal.name] + sum(coefficients[symbol] * values[symbol] for symbol in crystal.symbols)
        for values in (energies, references)
    )
    return FormationScore(
        crystal=crystal.name,
        composition=composition(crystal),
        formation_energy=ours,
        reference_formation_energy=theirs,
        error=ours - theirs,
    )
