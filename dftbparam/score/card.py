"""The report card: a fixed comparison of the crystals of an element or of a binary with the reference.

Crystals without a minimum have no volume, no bulk modulus and no energy. They are left out of the means, counted in
``n_without_minimum``, and make the element unsound; a mean without its count says nothing.

Besides E(V) a card has sections, empty where the reference set has nothing of the kind or where it was not asked for:
bands, gaps, formation energies, forces, stress. What was asked for and could not be scored is named in ``missing``.

Units: Angstrom^3/atom, eV/atom, eV/Angstrom^3; errors of volumes, distances and bulk moduli in percent, Delta in
meV/atom; bands and gaps in eV, forces in eV/Angstrom, stress in eV/Angstrom^3 and GPa.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from dftbparam.errors import DftbparamError, InputError
from dftbparam.reference import CrystalReference, EosFit
from dftbparam.score.bands import BandScore, GapScore
from dftbparam.score.delta_gauge import delta_gauge
from dftbparam.score.derivatives import ForceScore, StressScore
from dftbparam.score.phases import FormationScore, composition, stable_of_composition
from dftbparam.score.soundness import DeeperWell, soundness


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CrystalScore(_Record):
    """One crystal against its reference. Without a minimum everything computed is None and ``status`` says why.

    Attributes
    ----------
    prototype
        Name of the crystal: its prototype, in a binary after the formula (``Mg-O rocksalt``).
    volume, energy, bulk_modulus, bulk_modulus_derivative, fit_rms
        Of the Birch-Murnaghan fit; ``energy`` has the engine's zero.
    dV, dB
        Errors of V0 and B0 in percent of the reference.
    dB_prime
        B0' minus the reference's.
    delta
        Delta gauge, meV/atom.
    dD
        Error of the nearest-neighbour distance in percent: what ``dV`` means for a bond. Of most use for dimers, chains
        and layers, whose "volume" is the cube of that distance.
    dimensions
        Directions with a period: 3 a crystal, 2 a layer, 1 a chain, 0 a dimer. Below 3 the bulk modulus is one of the
        cube of the distance: its error in percent is that of the bond's force constant.
    composition
        Reduced formula; phase energies are counted within one. Empty in cards made before there were binaries.
    phase_energy, reference_phase_energy
        Energy above the crystal that is most stable in the reference among those scored of the same composition,
        eV/atom.
    phase_energy_error
        Difference of the two. None, too, where the stable crystal itself has no minimum.
    sound
        It has a minimum, and no deeper well within the window of `soundness`.
    status
        ``ok``, or what is wrong.
    """

    prototype: str
    reference_volume: float
    reference_bulk_modulus: float
    reference_bulk_modulus_derivative: float
    reference_phase_energy: float
    volume: float | None = None
    energy: float | None = None
    bulk_modulus: float | None = None
    bulk_modulus_derivative: float | None = None
    fit_rms: float | None = None
    dV: float | None = None
    dB: float | None = None
    dB_prime: float | None = None
    delta: float | None = None
    dD: float | None = None
    dimensions: int = 3
    composition: str = ""
    phase_energy: float | None = None
    phase_energy_error: float | None = None
    sound: bool = False
    deeper_well: DeeperWell | None = None
    status: str = "ok"

    @property
    def has_minimum(self) -> bool:
        """Whether the crystal has a minimum near its reference."""
        return self.volume is not None


SECTIONS: Final = ("eos", "bands", "gaps", "formation", "forces", "stress")
"""What can be scored, in the order of the card; ``eos`` stands for E(V): volumes, bulk moduli, phase energies."""


class Sections(_Record):
    """What a card holds beside E(V); see the attributes of the same names of `ReportCard`."""

    bands: tuple[BandScore, ...] = ()
    gaps: tuple[GapScore, ...] = ()
    formation: tuple[FormationScore, ...] = ()
    forces: ForceScore | None = None
    stress: StressScore | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class ReportCard(_Record):
    """One element, or one binary.

    Attributes
    ----------
    symbol
        The element, ``Si``, or the two of a binary, ``Mg-O``.
    stable
        The crystal lowest in energy in the reference among those scored: the zero of phase energies. Where several
        compositions are scored each has its own; this is that of the first crystal's. Empty without crystals.
    mean_abs_dV, mean_abs_dB
        Mean absolute errors in percent over the crystals that have a minimum; None where none has.
    mean_abs_phase_error
        eV/atom, over the crystals with a minimum other than the stable one; None where there are none or where the
        stable one has no minimum.
    mean_delta
        Mean Delta, meV/atom, over the crystals that have a minimum.
    max_abs_dV, max_abs_dB, max_abs_phase_error
        The largest of the same.
    n_without_minimum
        Crystals left out of the means.
    sound
        Every crystal has a minimum and no deeper well; None where no crystal was scored.
    right_ground_state
        The stable crystal has a minimum and is the lowest in energy (in each composition with several crystals); None
        where there is no such composition.
    bands
        Band structures, eV; see `BandScore`.
    gaps
        Fundamental gaps along these bands, eV.
    formation
        Formation energies of binary crystals, eV/atom.
    forces
        Of displaced and strained cells, eV/Angstrom.
    stress
        Of the same, eV/Angstrom^3 (and GPa).
    missing
        What was asked for and could not be scored, and why; keys like ``bands diamond`` or ``forces``.
    mean_band_error
        Mean over band structures of their error within 5 eV of the Fermi level (`BandScore.rms_near`), eV.
    mean_abs_gap_error
        eV, over ``gaps``.
    mean_abs_formation_error
        eV/atom, over ``formation``.
    """

    symbol: str
    stable: str
    crystals: tuple[CrystalScore, ...]
    mean_abs_dV: float | None
    mean_abs_dB: float | None
    mean_abs_phase_error: float | None
    mean_delta: float | None
    max_abs_dV: float | None
    max_abs_dB: float | None
    max_abs_phase_error: float | None
    n_without_minimum: int
    sound: bool | None
    right_ground_state: bool | None
    bands: tuple[BandScore, ...] = ()
    gaps: tuple[GapScore, ...] = ()
    formation: tuple[FormationScore, ...] = ()
    forces: ForceScore | None = None
    stress: StressScore | None = None
    missing: dict[str, str] = Field(default_factory=dict)
    mean_band_error: float | None = None
    mean_abs_gap_error: float | None = None
    mean_abs_formation_error: float | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)

    def crystal(self, prototype: str) -> CrystalScore:
        """Return the score of one crystal."""
        for crystal in self.crystals:
            if crystal.prototype == prototype:
                return crystal
        raise InputError(
            f"{self.symbol}: {prototype!r} was not scored; there are {[c.prototype for c in self.crystals]}"
        )

    def figure(self, name: str) -> float | None:
        """Return one of `METRICS`, `SECTION_METRICS` or ``mean_delta``; None where the card has no such number."""
        section, _, part = name.partition(".")
        found = getattr(self, section)
        value = getattr(found, part) if part and found is not None else found
        return None if value is None else float(value)

    def scored(self, section: str) -> frozenset[str]:
        """Names of what a section has numbers of: crystals, or the section's own name for forces and stress."""
        found = getattr(self, section)
        if isinstance(found, tuple):
            return frozenset(one.crystal for one in found)
        return frozenset() if found is None else frozenset({section})


def build_card(
    symbol: str,
    references: Sequence[CrystalReference],
    scans: Mapping[str, tuple[ArrayLike, ArrayLike]],
    fits: Mapping[str, EosFit | DftbparamError],
    provenance: Mapping[str, Any] | None = None,
    sections: Sections | None = None,
) -> ReportCard:
    """Build the card of one element, or of one binary, from computed curves.

    Parameters
    ----------
    symbol
        What the card is called: an element, whose crystals and binaries may be in it, or a binary, ``Mg-O``.
    references
        The crystals to score; the keys of ``scans`` and ``fits`` are their names. May be empty where ``sections`` are
        given.
    scans
        (volumes, energies) over the window of `soundness`, Angstrom^3/atom and eV/atom; NaN where a point failed.
    fits
        The fit around the minimum nearest the reference, or the error (usually `NoMinimum`) there is instead.
    sections
        What was scored beside E(V).

    Raises
    ------
    InputError
        Nothing to score, a crystal of other elements or given twice, or a crystal without scan or fit.
    """
    if not references and sections is None:
        raise InputError(f"{symbol}: a report card needs at least one reference crystal")
    _check(symbol, references, scans, fits)
    lowest = stable_of_composition(references)
    crystals = []
    for reference in references:
        fit, stable = fits[reference.name], lowest[reference.name]
        zero = fits[stable.name]
        expected = {
            "prototype": reference.name,
            "reference_volume": reference.volume,
            "reference_bulk_modulus": reference.bulk_modulus,
            "reference_bulk_modulus_derivative": reference.bulk_modulus_derivative,
            "reference_phase_energy": reference.energy - stable.energy,
            "dimensions": reference.structure.dimensions,
            "composition": composition(reference),
        }
        if not isinstance(fit, EosFit):
            crystals.append(CrystalScore.model_validate({**expected, "status": f"{type(fit).__name__}: {fit}"}))
            continue
        volumes, energies = scans[reference.name]
        verdict = soundness(volumes, energies, fit.v0, fit.e0, reference.volume)
        phase = fit.e0 - zero.e0 if isinstance(zero, EosFit) else None
        found = {
            "volume": fit.v0,
            "energy": fit.e0,
            "bulk_modulus": fit.b0,
            "bulk_modulus_derivative": fit.b0_prime,
            "fit_rms": fit.rms,
            "dV": 100.0 * (fit.v0 / reference.volume - 1.0),
            "dB": 100.0 * (fit.b0 / reference.bulk_modulus - 1.0),
            "dB_prime": fit.b0_prime - reference.bulk_modulus_derivative,
            "delta": delta_gauge(fit, reference),
            "dD": 100.0 * (float(np.cbrt(fit.v0 / reference.volume)) - 1.0),
            "phase_energy": phase,
            "phase_energy_error": None if phase is None else phase - (reference.energy - stable.energy),
            "sound": verdict.sound,
            "deeper_well": verdict.deeper_well,
            "status": verdict.reason or "ok",
        }
        crystals.append(CrystalScore.model_validate({**expected, **found}))
    zeros = {name: stable.name for name, stable in lowest.items()}
    return _card(symbol, zeros, tuple(crystals), sections or Sections(), dict(provenance or {}))


def _check(
    symbol: str, references: Sequence[CrystalReference], scans: Mapping[str, Any], fits: Mapping[str, Any]
) -> None:
    names = [reference.name for reference in references]
    parts = symbol.split("-")
    foreign = {
        reference.compound
        for reference in references
        if not (set(reference.symbols) == set(parts) or (len(parts) == 1 and symbol in reference.symbols))
    }
    if foreign:
        raise InputError(f"the card of {symbol} was given references of {', '.join(sorted(foreign))}")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{symbol}: crystals given twice: {', '.join(double)}")
    for what, given in (("scan", scans), ("fit", fits)):
        if missing := [name for name in names if name not in given]:
            raise InputError(f"{symbol}: no {what} for {', '.join(missing)}; a failure is given as its error")


def _card(
    symbol: str,
    zeros: Mapping[str, str],
    crystals: tuple[CrystalScore, ...],
    sections: Sections,
    provenance: dict[str, Any],
) -> ReportCard:
    """Take the means. ``zeros`` names, by crystal, the stable one of its composition."""
    volume = [abs(c.dV) for c in crystals if c.dV is not None]
    bulk = [abs(c.dB) for c in crystals if c.dB is not None]
    others = [c for c in crystals if c.prototype != zeros[c.prototype]]
    phase = [abs(c.phase_energy_error) for c in others if c.phase_energy_error is not None]
    delta = [c.delta for c in crystals if c.delta is not None]
    return ReportCard(
        symbol=symbol,
        stable=zeros[crystals[0].prototype] if crystals else "",
        crystals=crystals,
        mean_abs_dV=fmean(volume) if volume else None,
        mean_abs_dB=fmean(bulk) if bulk else None,
        mean_abs_phase_error=fmean(phase) if phase else None,
        mean_delta=fmean(delta) if delta else None,
        max_abs_dV=max(volume, default=None),
        max_abs_dB=max(bulk, default=None),
        max_abs_phase_error=max(phase, default=None),
        n_without_minimum=sum(not c.has_minimum for c in crystals),
        sound=all(c.sound for c in crystals) if crystals else None,
        right_ground_state=_right_ground_states(zeros, crystals),
        mean_band_error=fmean(b.rms_near for b in sections.bands) if sections.bands else None,
        mean_abs_gap_error=fmean(abs(g.error) for g in sections.gaps) if sections.gaps else None,
        mean_abs_formation_error=fmean(abs(f.error) for f in sections.formation) if sections.formation else None,
        provenance=provenance,
        **dict(sections),
    )


def _right_ground_states(zeros: Mapping[str, str], crystals: Sequence[CrystalScore]) -> bool | None:
    """Whether in each composition the stable crystal is the one of those with a minimum that is lowest.

    None where no composition has two crystals: there is nothing to be right about.
    """
    compared = [stable for stable in set(zeros.values()) if list(zeros.values()).count(stable) > 1]
    if not compared:
        return None
    for stable in compared:
        energies = {c.prototype: c.energy for c in crystals if zeros[c.prototype] == stable and c.energy is not None}
        if not energies or min(energies, key=lambda name: energies[name]) != stable:
            return False
    return True


METRICS: tuple[Literal["mean_abs_dV", "mean_abs_dB", "mean_abs_phase_error"], ...] = (
    "mean_abs_dV",
    "mean_abs_dB",
    "mean_abs_phase_error",
)
"""The means two cards are compared by."""

SECTION_METRICS: Final[Mapping[str, str]] = {
    "mean_band_error": "bands",
    "mean_abs_gap_error": "gaps",
    "mean_abs_formation_error": "formation",
    "forces.rms": "forces",
    "stress.rms": "stress",
}
"""The further figures two cards are compared by where both were scored on the section it belongs to."""


class Comparison(_Record):
    """Two cards of one element side by side; None where one side lacks the element.

    Attributes
    ----------
    better
        Per criterion whether b is better than a: for each of `METRICS`, strictly lower (a side without the mean loses
        to one that has it); for ``sound`` and ``minima``, not worse: b is sound or a is not, and every crystal that
        has a minimum with a has one with b, so that a mean cannot be improved by losing a crystal. For each of
        `SECTION_METRICS` that both cards were asked for: strictly lower, over at least what a has numbers of.
    b_beats_a
        All of them. False where a side is missing.
    """

    symbol: str
    a: ReportCard | None
    b: ReportCard | None
    better: dict[str, bool] = Field(default_factory=dict)

    @property
    def b_beats_a(self) -> bool:
        """Whether b is better in every criterion."""
        return bool(self.better) and all(self.better.values())


def compare(cards_a: Iterable[ReportCard], cards_b: Iterable[ReportCard]) -> list[Comparison]:
    """Pair two sets of cards by element: those of a in their order, then what only b has."""
    a, b = _by_symbol(cards_a), _by_symbol(cards_b)
    rows = []
    for symbol in dict.fromkeys([*a, *b]):
        left, right = a.get(symbol), b.get(symbol)
        better = _better(left, right) if left is not None and right is not None else {}
        rows.append(Comparison(symbol=symbol, a=left, b=right, better=better))
    return rows


def _by_symbol(cards: Iterable[ReportCard]) -> dict[str, ReportCard]:
    found: dict[str, ReportCard] = {}
    for card in cards:
        if card.symbol in found:
            raise InputError(f"two report cards of {card.symbol} on one side of a comparison")
        found[card.symbol] = card
    return found


def _better(a: ReportCard, b: ReportCard) -> dict[str, bool]:
    if {c.prototype for c in a.crystals} != {c.prototype for c in b.crystals}:
        raise InputError(
            f"{a.symbol}: cards over different crystals ({', '.join(c.prototype for c in a.crystals)} and "
            f"{', '.join(c.prototype for c in b.crystals)}) cannot be compared"
        )
    better: dict[str, bool] = {}
    for name in METRICS:
        ours, theirs = getattr(b, name), getattr(a, name)
        better[name] = ours is not None and (theirs is None or ours < theirs)
    for figure, section in SECTION_METRICS.items():
        if _asked(a, section) and _asked(b, section):
            ours, theirs = b.figure(figure), a.figure(figure)
            lower = ours is not None and (theirs is None or ours < theirs)
            better[figure] = lower and b.scored(section) >= a.scored(section)
    better["sound"] = bool(b.sound) or not a.sound
    better["minima"] = all(b.crystal(c.prototype).has_minimum for c in a.crystals if c.has_minimum)
    return better


def _asked(card: ReportCard, section: str) -> bool:
    """Whether a card was to have a section, with or without success."""
    return bool(card.scored(section)) or any(key.split()[0] == section for key in card.missing)


class Summary(_Record):
    """Mean card over elements.

    Means and medians run over the elements that have the number; ``n_with`` says how many these are per metric.
    """

    n_elements: int
    n_crystals: int
    n_without_minimum: int
    n_sound: int
    n_right_ground_state: int
    mean: dict[str, float | None]
    median: dict[str, float | None]
    n_with: dict[str, int]
    unsound: tuple[str, ...]


def summary(cards: Iterable[ReportCard]) -> Summary:
    """Summarise the cards of several elements, each element with the same weight."""
    listed = list(_by_symbol(cards).values())
    values = {
        name: [value for card in listed if (value := card.figure(name)) is not None]
        for name in (*METRICS, "mean_delta", *SECTION_METRICS)
    }
    return Summary(
        n_elements=len(listed),
        n_crystals=sum(len(card.crystals) for card in listed),
        n_without_minimum=sum(card.n_without_minimum for card in listed),
        n_sound=sum(bool(card.sound) for card in listed),
        n_right_ground_state=sum(bool(card.right_ground_state) for card in listed),
        mean={name: fmean(found) if found else None for name, found in values.items()},
        median={name: median(found) if found else None for name, found in values.items()},
        n_with={name: len(found) for name, found in values.items()},
        unsound=tuple(card.symbol for card in listed if card.sound is False),
    )
