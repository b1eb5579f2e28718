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
from dftbparam.score import CrystalScore, ReportCard

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

HEADROOM: Final = 1.6
"""The energy axis ends at this many times the highest reference energy shown: an imploding or wildly stiff curve is cut
off rather than allowed to press the reference flat."""

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
    """

    label: str
    volumes: Array
    energies: Array
    role: str = "ours"

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
    _draw(axes, curves)
    tidy(axes, x=VOLUME_LABEL, y=ENERGY_LABEL, title=title)
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
        _draw(axes, curves)
        tidy(axes, x=VOLUME_LABEL, y=ENERGY_LABEL, title=name)
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
    scans: Mapping[str, Mapping[str, tuple[Array, Array]]] | None = None,
) -> dict[str, list[Curve]]:
    """Make the curves of `plot_crystals` from report cards: per crystal the reference, then one curve per card.

    Energies are relative to the crystal that is most stable in the reference, on both sides. Where a card's own stable
    crystal has no minimum, its other crystals are put at the reference's minimum.

    Parameters
    ----------
    references
        The crystals the cards were computed on.
    cards
        Label to card; the first is ours.
    low, high
        Range of volumes relative to the reference.
    scans
        Label and crystal to computed (volumes, energies), Angstrom^3/atom and eV/atom, to be drawn instead of the
        Birch-Murnaghan fit. For a crystal without a minimum, which has no fit, they are all there is; their zero is
        then the lowest point in the range.

    Raises
    ------
    InputError
        A card lacks one of the crystals.
    """
    stable = min(references, key=lambda reference: reference.energy)
    curves: dict[str, list[Curve]] = {}
    for reference in references:
        volumes = reference.volume * np.linspace(low, high, 61)
        drawn = [Curve(reference_label, volumes, reference.energies(volumes) - stable.energy, "reference")]
        for label, card in cards.items():
            crystal = card.crystal(reference.prototype)
            scan = (scans or {}).get(label, {}).get(reference.prototype)
            v, e = (volumes, _fitted(crystal, volumes)) if scan is None else scan
            shown = (v >= low * reference.volume) & (v <= high * reference.volume)
            v, e = np.asarray(v)[shown], np.asarray(e)[shown]
            if crystal.energy is not None and crystal.phase_energy is not None:
                e = e - crystal.energy + crystal.phase_energy
            elif np.isfinite(e).any():
                e = e - np.nanmin(e) + reference.energy - stable.energy
            drawn.append(Curve(label, v, e, "ours" if label == next(iter(cards)) else "other"))
        curves[reference.prototype] = drawn
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
        axes.plot(volumes, crystal.energies(volumes) - zero, color=colour, linestyle=dash, label=crystal.prototype)
        axes.plot(crystal.volume, crystal.energy - zero, color=colour, marker="o", markersize=4)
        if crystal.energy_spread > 0.0:
            axes.errorbar(
                crystal.volume, crystal.energy - zero, yerr=crystal.energy_spread, color=colour, capsize=3, linewidth=1
            )
    tidy(axes, x=VOLUME_LABEL, y="energy above the most stable crystal (eV/atom)", title=title)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    if not any(np.isfinite(curve.energies).any() for curve in curves):
        empty_note(axes, "no energies")
    for curve in curves:
        axes.plot(curve.volumes, curve.energies, label=curve.label, **STYLES[curve.role])
        if curve.role == "reference" and np.isfinite(curve.energies).any():
            axes.axvline(curve.volumes[np.nanargmin(curve.energies)], color="0.75", linewidth=0.8, zorder=0)
    _limit(axes, curves)


def _limit(axes: Axes, curves: Sequence[Curve]) -> None:
    """Frame the reference; other curves may go somewhat below it and above it, and are cut off beyond."""
    known = [curve.energies[np.isfinite(curve.energies)] for curve in curves if curve.role == "reference"]
    known = [energies for energies in known if len(energies)]
    if not known:
        return
    low, high = min(e.min() for e in known), max(e.max() for e in known)
    span = max(high - low, 0.05)
    other = [curve.energies[np.isfinite(curve.energies)] for curve in curves if curve.role != "reference"]
    others = np.concatenate([np.array([low]), *other])
    bottom = max(min(low, float(others.min())), low - HEADROOM * span)
    top = min(max(high, float(others.max())), low + HEADROOM * span)
    margin = 0.05 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)
    _note_hidden(axes, curves, bottom - margin, top + margin)


def _note_hidden(axes: Axes, curves: Sequence[Curve], bottom: float, top: float) -> None:
    """Say of each curve whose minimum lies outside the frame how far outside, so that none is missed."""
    reference = min(
        float(curve.energies[np.isfinite(curve.energies)].min())
        for curve in curves
        if curve.role == "reference" and np.isfinite(curve.energies).any()
    )
    lines = {"below": 0.03, "above": 0.97}
    for curve in curves:
        finite = curve.energies[np.isfinite(curve.energies)]
        if curve.role == "reference" or not len(finite) or bottom <= finite.min() <= top:
            continue
        side = "below" if finite.min() < bottom else "above"
        axes.text(
            0.98,
            lines[side],
            f"{curve.label}: lowest {abs(float(finite.min()) - reference):.2f} eV/atom {side}",
            transform=axes.transAxes,
            ha="right",
            va="bottom" if side == "below" else "top",
            fontsize="x-small",
            color=str(STYLES[curve.role]["color"]),
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
        lines[side] += 0.06 if side == "below" else -0.06
