"""Means over an element's own crystals and over its compounds, kept apart: published sets and the report share them.

Both read report cards from files, possibly of earlier versions, so crystals come as mappings and not as
`dftbparam.score.CrystalScore`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, Final

KINDS: Final = ("elemental_dV", "elemental_dB", "elemental_phase", "compound_dV", "compound_dB")
"""Means over the element's own crystals and over its compounds: what two sets are compared by where one was fitted to
both."""


def is_compound(prototype: str) -> bool:
    """Whether a crystal of a report card is a compound, by its name: ``Mg-O rocksalt``, but ``fcc``."""
    return " " in prototype


def means_by_kind(crystals: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the figures of `KINDS`: mean absolute errors of volume (%), bulk modulus (%) and phase energy (eV/atom).

    Parameters
    ----------
    crystals
        Of a report card, each with ``prototype``, ``dV``, ``dB``, ``phase_energy_error``, ``reference_phase_energy``.

    Returns
    -------
    None where no crystal of the kind has such a figure. Phase energies are of the crystals that are not the reference's
    most stable one.
    """
    listed = list(crystals)

    def of(key: str, *, compound: bool) -> float | None:
        values = [
            abs(one[key])
            for one in listed
            if is_compound(one["prototype"]) is compound
            and one.get(key) is not None
            and not (key == "phase_energy_error" and one["reference_phase_energy"] == 0.0)
        ]
        return fmean(values) if values else None

    return {
        "elemental_dV": of("dV", compound=False),
        "elemental_dB": of("dB", compound=False),
        "elemental_phase": of("phase_energy_error", compound=False),
        "compound_dV": of("dV", compound=True),
        "compound_dB": of("dB", compound=True),
    }
