"""E(V) curves of crystals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import InputError
from dftbparam.reference import CrystalReference, birch_murnaghan
from dftbparam.report.style import BLACK, BLUE, DASHES, PALETTE, VERMILION, empty_note, new_figure, tidy
from dftbparam.score import CrystalScore, ReportCard, stable_of_composition

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

NEAR: Final = 0.15
"""The reference's rise within this part of its volume is the unit in which the energy axis is measured out."""

HEADROOM: Final = 1.3
"""The energy axis ends this many units above the highest minimum: a wildly stiff curve is cut off rather than allowed
to press the reference flat."""

REACH: Final = 5.0
"""Another set's minimum is framed when it is at most this many units from the reference's; beyond, a note says where
it is. Ours is always framed, as far as it has one."""

VOLUME_LABEL: Final = "volume (Å³/atom)"
ENERGY_LABEL: Final = "energy (eV/atom)"

STYLES: Final[dict[str, dict[str, Any]]] = {
    "reference": {"color": BLACK, "linestyle": "-", "marker": "", "linewidth": 2.0},
    "ours": {"color": BLUE, "linestyle": "--", "marker": "o", "markersize": 4.0},
    "other": {"color": VERMILION, "linestyle": ":", "marker": "s", "markersize": 3.5},
}
"""How curves are drawn, by role."""


@dataclass(frozen=True)
class Curve:
    """One E(V) curve: ``volumes`` in Å^3/atom, ``energies`` in eV/atom, both (n,); NaN where there is no answer.

    ``role`` decides how it is drawn: the reference as a black line, ours in blue, anything else in vermilion.
    ``phase_energy_error`` (eV/atom) is the report card's; None leaves the plot to measure from the lowest points.
    """

    label: str
    volumes: Array
    energies: Array
    role: str = "ours"
    phase_energy_error: float | None = None

    def __post_init__(self) -> None:
        if self.role not in ("reference", "ours", "other"):
            raise InputError(f"curve {self.label!r}: role {self.role!r} is none of reference, ours, other")
        if np.shape(self.volumes) != np.shape(self.energies) or np.ndim(self.volumes) != 1:
            raise InputError(
                f"curve {self.label!r}: {np.shape(self.volumes)} volumes and {np.shape(self.energies)} energies; "
                "both must be (n,)"
            )


def plot_energy_volume(title: str, curves: Sequence[Curve]) -> Figure:
    """Plot the curves of one crystal; energies as given, so put them on a common zero first."""
    figure = new_figure(5.2, 3.9)
    axes = figure.add_subplot()
    _draw(axes, curves, title)
    if curves:
        axes.legend(frameon=False, fontsize="small")
    return figure


def plot_crystals(title: str, crystals: Mapping[str, Sequence[Curve]]) -> Figure:
    """Plot one panel per crystal (name to curves) with a common legend."""
    columns = 2 if len(crystals) > 1 else 1
    rows = max(ceil(len(crystals) / columns), 1)
    figure = new_figure(4.2 * columns, 3.1 * rows + 0.6)
    figure.suptitle(title)
    handles: dict[str, Artist] = {}
    for position, (name, curves) in enumerate(crystals.items(), start=1):
        axes = figure.add_subplot(rows, columns, position)
        _draw(axes, curves, name)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False
        )
    return figure


def card_curves(
    references: Sequence[CrystalReference],
    cards: Mapping[str, ReportCard],
    *,
    reference_label: str = "DFT",
    low: float = 0.9,
    high: float = 1.1,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    scans: Mapping[str, Mapping[str, tuple[Array, Array]]] | None = None,
) -> dict[str, list[Curve]]:
    """Make the curves of `plot_crystals` from report cards: per crystal the reference, then one curve per card.

    Energies are relative to the crystal of the same composition that is most stable in the reference, on both sides.
    Where a card's own stable crystal has no minimum, its other crystals are put at the reference's minimum.

    Parameters
    ----------
    references
        The crystals the cards were computed on.
    cards
        Label to card; the first is ours.
    low, high
        Range of volumes relative to the reference.
    ranges
        Crystal to (low, high), where it is another.
    scans
        Label and crystal to computed (volumes, energies), Angstrom^3/atom and eV/atom, to be drawn instead of the
        Birch-Murnaghan fit. For a crystal without a minimum, which has no fit, they are all there is; their zero is
        then the lowest point in the range.

    Raises
    ------
    InputError
        A card lacks one of the crystals.
    """
    stable = stable_of_composition(references)
    curves: dict[str, list[Curve]] = {}
    for reference in references:
        zero = stable[reference.name].energy
        first, last = (ranges or {}).get(reference.name, (low, high))
        volumes = reference.volume * np.linspace(first, last, 121)
        drawn = [Curve(reference_label, volumes, reference.energies(volumes) - zero, "reference")]
        for label, card in cards.items():
            crystal = card.crystal(reference.name)
            scan = (scans or {}).get(label, {}).get(reference.name)
            v, e = (volumes, _fitted(crystal, volumes)) if scan is None else scan
            # Rounding must not take away a scan's first or last point.
            shown = (v >= (first - 1e-9) * reference.volume) & (v <= (last + 1e-9) * reference.volume)
            v, e = np.asarray(v)[shown], np.asarray(e)[shown]
            if crystal.energy is not None and crystal.phase_energy is not None:
                e = e - crystal.energy + crystal.phase_energy
            elif np.isfinite(e).any():
                e = e - np.nanmin(e) + reference.energy - zero
            role = "ours" if label == next(iter(cards)) else "other"
            drawn.append(Curve(label, v, e, role, crystal.phase_energy_error))
        curves[reference.name] = drawn
    return curves


def _fitted(crystal: CrystalScore, volumes: Array) -> Array:
    """Birch-Murnaghan energies of a scored crystal (eV/atom, the engine's zero); NaN where it has no minimum."""
    e0, v0 = crystal.energy, crystal.volume
    b0, b0_prime = crystal.bulk_modulus, crystal.bulk_modulus_derivative
    if e0 is None or v0 is None or b0 is None or b0_prime is None:
        return np.full(volumes.shape, np.nan)
    return birch_murnaghan(volumes, e0, v0, b0, b0_prime)


def plot_references(title: str, crystals: Sequence[CrystalReference], low: float, high: float) -> Figure:
    """Plot reference curves between the relative volumes ``low`` and ``high``, energies relative to the lowest minimum.

    Raises
    ------
    InputError
        No crystal, or a range that is upside down.
    """
    if not crystals:
        raise InputError("there is no reference crystal to plot")
    if not 0.0 < low < high:
        raise InputError(f"relative volumes from {low} to {high} are upside down; right would be e.g. 0.8 to 1.2")
    figure = new_figure(6.0, 4.2)
    axes = figure.add_subplot()
    zero = min(crystal.energy for crystal in crystals)
    for index, crystal in enumerate(sorted(crystals, key=lambda c: c.energy)):
        colour, dash = PALETTE[index % len(PALETTE)], DASHES[index % len(DASHES)]
        volumes = crystal.volume * np.linspace(low, high, 121)
        axes.plot(volumes, crystal.energies(volumes) - zero, color=colour, linestyle=dash, label=crystal.name)
        axes.plot(crystal.volume, crystal.energy - zero, color=colour, marker="o", markersize=4)
        if crystal.energy_spread > 0.0:
            axes.errorbar(
                crystal.volume, crystal.energy - zero, yerr=crystal.energy_spread, color=colour, capsize=3, linewidth=1
            )
    tidy(axes, x=VOLUME_LABEL, y="energy above the most stable crystal (eV/atom)", title=title)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _draw(axes: Axes, curves: Sequence[Curve], title: str) -> None:
    if not any(np.isfinite(curve.energies).any() for curve in curves):
        empty_note(axes, "no energies")
    for curve in curves:
        axes.plot(curve.volumes, curve.energies, label=curve.label, **STYLES[curve.role])
        if curve.role == "reference" and np.isfinite(curve.energies).any():
            axes.axvline(curve.volumes[np.nanargmin(curve.energies)], color="0.75", linewidth=0.8, zorder=0)
    tidy(axes, x=VOLUME_LABEL, y=ENERGY_LABEL)
    hidden = _limit(axes, curves)
    # Between the title and the frame, where there are no curves to cover.
    for line, (text, colour) in enumerate(hidden):
        axes.annotate(
            text,
            (0.5, 1.0),
            (0.0, 3.0 + 11.0 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize="x-small",
            color=colour,
        )
    axes.set_title(title, fontsize="medium", pad=6.0 + 11.0 * len(hidden))


def _limit(axes: Axes, curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Frame the minima; return a note (text, colour) for each curve whose minimum lies outside the frame."""
    finite = [(curve, np.isfinite(curve.energies)) for curve in curves]
    lowest = [(curve, float(curve.energies[known].min())) for curve, known in finite if known.any()]
    references = [(curve, low) for curve, low in lowest if curve.role == "reference"]
    if not references:
        return []
    reference, zero = references[0]
    centre = float(reference.volumes[np.nanargmin(reference.energies)])
    near = np.abs(reference.volumes - centre) <= NEAR * centre
    unit = max(float(np.nanmax(reference.energies[near])) - zero, 0.05)
    # A minimum that the card knows, rather than the lowest point, which may belong to a collapse at the plot's edge.
    lowest = [
        (curve, low if curve.phase_energy_error is None else zero + curve.phase_energy_error) for curve, low in lowest
    ]
    framed = [
        low
        for curve, low in lowest
        if abs(low - zero) <= REACH * unit or (curve.role == "ours" and curve.phase_energy_error is not None)
    ]
    highest = max(float(np.nanmax(curve.energies)) for curve, _ in lowest)
    bottom, top = min(framed), min(max(framed) + HEADROOM * unit, max(highest, max(framed) + 0.1 * unit))
    margin = 0.05 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)
    notes = []
    for curve, low in lowest:
        if bottom - margin <= low <= top + margin:
            continue
        side = "below" if low < zero else "above"
        what = "lowest point" if curve.phase_energy_error is None else "minimum"
        text = f"{curve.label}: {what} outside, {abs(low - zero):.2f} eV/atom {side} DFT's"
        notes.append((text, str(STYLES[curve.role]["color"])))
    return notes
