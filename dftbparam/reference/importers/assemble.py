"""Makes one reference set out of what sources held: E(V) rows, structures, isolated atoms, offsets, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from dftbparam.errors import NoMinimum, ReferenceDataError
from dftbparam.reference.dataset import implausible_distance
from dftbparam.reference.eos_fit import EosFit, fit_birch_murnaghan
from dftbparam.reference.importers.frame import Curve, Frame, Source, listed
from dftbparam.reference.importers.identify import Identity, identify, isolated_atom
from dftbparam.reference.importers.settings import LOCAL, Setting, agreed_functional, contradictions
from dftbparam.reference.records import AtomReference, CrystalReference

MIN_POINTS: Final = 5
"""Volumes that make an E(V) curve: one more than a Birch-Murnaghan fit has parameters."""

FIT_RANGE: Final = 0.12
"""The fit takes points within this part of the volume of the minimum: beyond it third order is not enough. Where that
leaves fewer than `MIN_POINTS`, it takes the nearest of them."""

SAME_VOLUME: Final = 1e-6
"""Relative difference of volumes below which two points are one."""

SAME_ENERGY: Final = 1e-5
"""eV/atom; energies of one point that differ by less are one: the last digits of what codes print."""

NOT_COMPARED: Final = ("functional", "version")
"""Settings that do not split a curve: the functional is compared over the whole set, versions differ in nothing that
can be told from here."""

OF_ATOMS: Final = ("spin", "smearing", "scheme")
"""Settings in which an isolated atom rightly differs from crystals."""

Key = tuple[str, str, str | None]
Spin = Literal["none", "collinear", "spin-orbit"]
SPINS: Final[tuple[Spin, ...]] = ("none", "collinear", "spin-orbit")


@dataclass(frozen=True)
class Offsets:
    """The user's choice of energy zeros: values per element (eV), from isolated atoms of the source, or none."""

    values: Mapping[str, float] = field(default_factory=dict)
    from_atoms: bool = False
    none: bool = False


@dataclass(frozen=True)
class Collection:
    """A reference set that is not written yet; see `assemble`.

    ``frames`` come with the name of the crystal that was recognised, or an empty text. ``settings`` holds what all
    sources agree on and, under ``mixed``, what they do not.
    """

    functional: str
    spin: Spin
    crystals: tuple[CrystalReference, ...]
    fits: Mapping[str, EosFit]
    curves: tuple[Curve, ...]
    frames: tuple[tuple[Frame, str], ...]
    atoms: tuple[AtomReference, ...]
    offsets: Mapping[str, float]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def assemble(
    sources: Sequence[Source],
    *,
    functional: str | None = None,
    spin: Spin | None = None,
    offsets: Offsets | None = None,
) -> Collection:
    """Put sources together.

    Structures of one recognised prototype at five volumes or more with a minimum between them become an E(V) row.
    Structures with forces or stress, and all that make no row, stay structures; single atoms become isolated atoms.

    Parameters
    ----------
    functional, spin
        What the sources do not say; must not contradict them.
    offsets
        None lets an import pass only where no offsets are needed, that is, where no structure has two elements.

    Raises
    ------
    ReferenceDataError
        Mixed functionals, offsets missing, one crystal from two sources or with two sets of settings, or nothing to
        import.
    """
    frames = [frame for source in sources for frame in source.frames]
    given = [curve for source in sources for curve in source.curves]
    everything: list[Frame | Curve] = [*frames, *given]
    name = agreed_functional(
        functional, [(str(e.settings["functional"]), e.source) for e in everything if "functional" in e.settings]
    )
    notes = [note for source in sources for note in source.notes]
    single = [frame for frame in frames if isolated_atom(frame.atoms, frame.name)]
    apart = {id(frame) for frame in single}
    rest = [frame for frame in frames if id(frame) not in apart]
    atoms, ambiguous = _atoms(single, notes)
    found: dict[Key, list[tuple[Frame, Identity]]] = {}
    label: dict[int, str] = {}
    for frame in rest:
        identity = identify(frame.atoms)
        if identity is not None:
            found.setdefault((identity.symbol, identity.prototype, identity.partner), []).append((frame, identity))
            label[id(frame)] = identity.name
    rows: list[tuple[CrystalReference, Curve, EosFit]] = []
    used: set[int] = set()
    taken: dict[Key, str] = {}
    for key, members in found.items():
        row = _series(members, notes)
        if row is not None:
            rows.append(row)
            used.update(id(frame) for frame, _ in members if frame.forces is None and frame.stress is None)
            taken[key] = members[0][0].source
    for curve in given:
        key = (curve.symbol, curve.prototype, curve.partner)
        if key in taken:
            raise ReferenceDataError(
                f"{curve.name} comes from two sources, {taken[key]} and {curve.source}; import them as two sets",
                crystal=curve.name,
            )
        taken[key] = curve.source
        row = _row(curve, notes)
        if row is not None:
            rows.append(row)
    kept = [frame for frame in (*rest, *ambiguous) if id(frame) not in used]
    if not rows and not kept:
        raise ReferenceDataError(
            "nothing to import: no E(V) curve with a minimum, and no structures beside single atoms"
        )
    crystals = tuple(row[0] for row in rows)
    settings = _settings([e for e in everything if id(e) not in apart], single, notes)
    return Collection(
        functional=name,
        spin=_spin(spin, [e for e in everything if id(e) not in apart], notes),
        crystals=crystals,
        fits={row[1].name: row[2] for row in rows},
        curves=tuple(row[1] for row in rows),
        frames=tuple((frame, label.get(id(frame), "")) for frame in kept),
        atoms=atoms,
        offsets=_offsets(offsets, mixed_elements(crystals, kept), atoms, ambiguous, notes),
        settings=settings,
        notes=tuple(notes),
    )


def mixed_elements(crystals: Iterable[CrystalReference], frames: Iterable[Frame]) -> tuple[str, ...]:
    """Elements that meet others in a structure; their energies need offsets."""
    groups = [*(crystal.symbols for crystal in crystals), *(frame.elements for frame in frames)]
    return tuple(sorted({symbol for group in groups if len(group) > 1 for symbol in group}))


def _series(
    members: Sequence[tuple[Frame, Identity]], notes: list[str]
) -> tuple[CrystalReference, Curve, EosFit] | None:
    """Make a row of the structures of one crystal, or None, with a note, where they make no curve."""
    first = members[0][1]
    points = sorted(members, key=lambda member: member[1].volume)
    volumes = np.array([identity.volume for _, identity in points])
    energies = np.array([frame.energy_per_atom for frame, _ in points])
    kept: list[int] = []
    for index, volume in enumerate(volumes):
        if kept and volume / volumes[kept[-1]] - 1.0 < SAME_VOLUME:
            if abs(energies[index] - energies[kept[-1]]) > SAME_ENERGY:
                notes.append(
                    f"{first.name}: two energies at {volume:.6g} Angstrom^3/atom, {energies[kept[-1]]:.6f} "
                    f"({points[kept[-1]][0].source}) and {energies[index]:.6f} eV/atom ({points[index][0].source}); "
                    "its structures make no E(V) row"
                )
                return None
            continue
        kept.append(index)
    if len(kept) < MIN_POINTS:
        volumes_are = "1 volume" if len(kept) == 1 else f"{len(kept)} volumes"
        notes.append(f"{first.name}: {volumes_are}; {MIN_POINTS} around a minimum make an E(V) row")
        return None
    settings = [(frame.settings, frame.source) for frame, _ in points]
    for name, values in contradictions(settings).items():
        if name not in NOT_COMPARED:
            (one, here), (two, there) = values[:2]
            raise ReferenceDataError(
                f"{first.name}: its E(V) points were computed with different settings: {name} {one} ({here}) and {two} "
                f"({there}); import them as two sets",
                setting=name,
            )
    frames = [points[index][0] for index in kept]
    free = [np.nan if f.free_energy is None else f.free_energy / len(f.atoms) for f in frames]
    curve = Curve(
        first.symbol,
        first.prototype,
        first.partner,
        volumes[kept],
        energies[kept],
        frames[0].source,
        energies_free=np.array(free) if np.isfinite(free).any() else None,
        settings=_common(settings),
    )
    return _row(curve, notes)


def _row(curve: Curve, notes: list[str]) -> tuple[CrystalReference, Curve, EosFit] | None:
    """Fit a curve; None, with a note, where it has no minimum between its points."""
    lowest = int(np.argmin(curve.energies))
    if len(curve.volumes) < MIN_POINTS:
        notes.append(f"{curve.name}: {len(curve.volumes)} points; {MIN_POINTS} around a minimum make an E(V) row")
        return None
    if lowest in (0, len(curve.volumes) - 1):
        notes.append(
            f"{curve.name}: lowest at the {'smallest' if lowest == 0 else 'largest'} volume, "
            f"{curve.volumes[lowest]:.6g} Angstrom^3/atom; an E(V) row needs points on both sides of the minimum"
        )
        return None
    try:
        fit = fit_curve(curve)
    except NoMinimum as error:
        notes.append(f"{curve.name}: no E(V) row: {error.message}")
        return None
    crystal = CrystalReference(
        symbol=curve.symbol,
        prototype=curve.prototype,
        partner=curve.partner,
        volume=fit.v0,
        bulk_modulus=fit.b0,
        bulk_modulus_derivative=fit.b0_prime,
        energy=fit.e0,
    )
    problem = implausible_distance(crystal)
    if problem is not None:
        raise ReferenceDataError(f"{curve.source}: {problem}", crystal=curve.name)
    return crystal, curve, fit


def fit_curve(curve: Curve) -> EosFit:
    """Fit the points around the minimum, see `FIT_RANGE`; `NoMinimum` where there is none between them."""
    centre = float(curve.volumes[int(np.argmin(curve.energies))])
    fit = None
    for _ in range(2):  # the second time around the fitted minimum instead of the lowest point
        away = np.abs(curve.volumes / centre - 1.0)
        near = away <= FIT_RANGE
        if near.sum() < MIN_POINTS:
            near = away <= np.sort(away)[MIN_POINTS - 1]
        fit = fit_birch_murnaghan(curve.volumes[near], curve.energies[near])
        centre = fit.v0
    assert fit is not None
    return fit


def _atoms(single: Sequence[Frame], notes: list[str]) -> tuple[tuple[AtomReference, ...], list[Frame]]:
    """Isolated atoms, one an element; where there are several of different energy all of them stay structures."""
    groups: dict[str, list[Frame]] = {}
    for frame in single:
        groups.setdefault(frame.elements[0], []).append(frame)
    atoms, ambiguous = [], []
    for symbol, frames in groups.items():
        energies = [frame.energy for frame in frames]
        if max(energies) - min(energies) > SAME_ENERGY:
            low, high = min(frames, key=lambda f: f.energy), max(frames, key=lambda f: f.energy)
            notes.append(
                f"isolated atom {symbol}: {low.energy:.6f} ({low.source}) and {high.energy:.6f} eV ({high.source}); "
                "none is taken as the atom, and they stay structures"
            )
            ambiguous.extend(frames)
            continue
        moment = frames[0].magnetic_moment or 0.0
        atoms.append(AtomReference(symbol=symbol, energy=frames[0].energy, magnetic_moment=moment))
    return tuple(atoms), ambiguous


def _offsets(
    choice: Offsets | None,
    needed: Sequence[str],
    atoms: Sequence[AtomReference],
    ambiguous: Sequence[Frame],
    notes: list[str],
) -> dict[str, float]:
    """Return the offsets that were asked for; `ReferenceDataError` where one that is needed is missing."""
    known = {atom.symbol: atom.energy for atom in atoms}
    if choice is not None and choice.none:
        if needed:
            notes.append(f"no energy offsets of {listed(needed)}: energies of different elements cannot be compared")
        return {}
    if choice is None:
        if not needed:
            if known:
                notes.append(
                    f"isolated atoms of {' '.join(known)} go to atoms.csv; --offsets from-atoms makes them energy zeros"
                )
            return {}
        offer = (
            f"the source has isolated atoms of {' '.join(sorted(known))}: --offsets from-atoms takes them"
            if set(needed) <= set(known)
            else f"give them with --offsets {','.join(f'{s}=...' for s in needed[:3])} (eV per atom)"
        )
        raise ReferenceDataError(
            f"energies of {listed(needed)} meet in one structure, and nothing says what their energy zeros are; "
            f"{offer}, or import without with --offsets none",
            elements=tuple(needed),
        )
    values = dict(known) if choice.from_atoms else dict(choice.values)
    missing = [symbol for symbol in needed if symbol not in values]
    if choice.from_atoms and not values and not missing:
        missing = ["any element"]
    if missing:
        several = sorted({frame.elements[0] for frame in ambiguous} & set(missing))
        why = f" ({', '.join(several)}: several of different energy)" if several else ""
        what = "isolated atoms in the source" if choice.from_atoms else "--offsets"
        raise ReferenceDataError(
            f"no energy offset of {listed(missing)}: not among {what}{why}", elements=tuple(missing)
        )
    return values


def _common(settings: Sequence[tuple[Mapping[str, Setting], str]]) -> dict[str, Setting]:
    """Return the settings that are the same wherever they are stated; those of elements joined."""
    split = set(contradictions(settings))
    common: dict[str, Setting] = {}
    for table, _ in settings:
        for name, value in table.items():
            if name in LOCAL:
                parts = {part.strip() for part in f"{common.get(name, '')},{value}".split(",")} - {""}
                if not any(key.startswith(f"{name} of ") for key in split):
                    common[name] = ",".join(sorted(parts))
            elif name not in split:
                common[name] = value
    return common


def _settings(everything: Sequence[Frame | Curve], single: Sequence[Frame], notes: list[str]) -> dict[str, Any]:
    """Return the common settings and, under ``mixed``, the values of those that are not."""
    stated = [(e.settings, e.source) for e in everything]
    stated += [({k: v for k, v in f.settings.items() if k not in OF_ATOMS}, f.source) for f in single]
    settings: dict[str, Any] = {k: v for k, v in _common(stated).items() if k not in ("functional", "spin")}
    mixed = {k: v for k, v in contradictions(stated).items() if k not in ("functional", "spin")}
    for name, values in mixed.items():
        notes.append(f"different settings: {name} is {', '.join(f'{value} ({where})' for value, where in values)}")
    if mixed:
        settings["mixed"] = {name: [value for value, _ in values] for name, values in mixed.items()}
    return settings


def _spin(given: Spin | None, everything: Sequence[Frame | Curve], notes: list[str]) -> Spin:
    """Return the treatment of spin: what the user says, else what the sources say."""
    stated = list(dict.fromkeys(str(e.settings["spin"]) for e in everything if e.settings.get("spin") in SPINS))
    if given is not None:
        return given
    if len(stated) > 1:
        raise ReferenceDataError(
            f"treatment of spin differs: {' and '.join(stated)}; say with --spin what the set stands for", spin=stated
        )
    if not stated:
        notes.append("the sources do not say how spin was treated; taken as not spin-polarised (--spin none)")
    return next((spin for spin in SPINS if spin in stated), "none")
