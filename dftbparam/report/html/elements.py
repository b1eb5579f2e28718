"""What the page shows of one element, as JSON values: curves, tables, provenance. Numbers are rounded for the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dftbparam.report.bands import drawn_range
from dftbparam.report.html.collect import Result
from dftbparam.report.html.curves import energy_volume
from dftbparam.report.html.records import StoredCard
from dftbparam.units import GPA_PER_EV_PER_A3

ENSEMBLE_SHOWN: Final = 30
"""Near-optimal trials that the page lists; the CSV file has them all."""

SETTINGS_SHOWN: Final = (
    "references", "engine", "sampler", "evaluations", "repulsion", "space", "power", "shift", "start_from", "partners",
    "crystals", "targets", "in_flight", "batch", "patience", "min_improvement",
)  # fmt: skip
"""What was asked for, of a manifest's settings: the rest follows from it or says where files lay."""


def shorten(value: Any, digits: int = 6) -> Any:
    """Round a number to significant digits; None for one that is not finite, anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def element_content(result: Result) -> dict[str, Any]:
    """Return all that the page shows of an element beside the figures of the table."""
    return {
        "source": result.source,
        "remark": result.remark,
        "curves": [
            {
                "name": curve.name,
                "v": _numbers(curve.volumes.tolist(), 5),
                "dft": _energies(curve.dft.tolist()),
                "ours": None if curve.ours is None else _energies(curve.ours.tolist()),
                "published": None if curve.published is None else _energies(curve.published.tolist()),
            }
            for curve in energy_volume(result)
        ],
        "crystals": [_short(row) for row in crystal_rows(result)],
        "bands": [_short(row) for row in band_rows(result)],
        "levels": level_content(result),
        "no_levels": "" if result.levels else why_no_bands(result),
        "formation": [_short(row) for row in formation_rows(result)],
        "derivatives": [_short(row) for row in derivative_rows(result)],
        "transfer": [_short(row) for row in transfer_rows(result)],
        "missing": [list(row.values()) for row in missing_rows(result) if row["set"] == "ours"],
        "parameters": [_short(row) for row in parameter_rows(result)],
        "record": record_rows(result),
        "ensemble": ensemble_content(result),
        "convergence": convergence_content(result),
        "provenance": provenance_rows(result),
        "files": [[one.path, one.bytes, one.sha256] for one in (result.manifest.files if result.manifest else ())],
    }


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Round a row's numbers, lists of numbers too; leave out what is None."""
    return {
        key: [shorten(one, 5) for one in value] if isinstance(value, list | tuple) else shorten(value, 5)
        for key, value in row.items()
        if value is not None
    }


def _numbers(values: Iterable[float], digits: int) -> list[Any]:
    return [shorten(value, digits) for value in values]


def _energies(values: Iterable[float]) -> list[float | None]:
    """Energies to 0.1 meV, finer than any line."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]


def _cards(result: Result) -> list[tuple[str, StoredCard]]:
    """The cards by role, ours first."""
    return [("ours", result.ours)] + ([("published", result.published)] if result.published is not None else [])


def crystal_rows(result: Result) -> list[dict[str, Any]]:
    """One row a crystal and set, DFT first.

    ``volume`` Angstrom^3/atom, ``bulk_modulus`` GPa, ``phase_energy`` eV/atom, ``dV`` and ``dB`` percent, ``dE``
    eV/atom, ``delta`` meV/atom; ``implodes``: see `dftbparam.report.html.records.StoredCrystal`.
    """
    rows: list[dict[str, Any]] = []
    for crystal in result.ours.crystals:
        rows.append(
            {
                "crystal": crystal.prototype,
                "set": "dft",
                "volume": crystal.reference_volume,
                "bulk_modulus": crystal.reference_bulk_modulus * GPA_PER_EV_PER_A3,
                "phase_energy": crystal.reference_phase_energy,
            }
        )
        for name, card in _cards(result):
            one = card.crystal(crystal.prototype)
            if one is None:
                continue
            rows.append(
                {
                    "crystal": crystal.prototype,
                    "set": name,
                    "volume": one.volume,
                    "bulk_modulus": None if one.bulk_modulus is None else one.bulk_modulus * GPA_PER_EV_PER_A3,
                    "phase_energy": one.phase_energy,
                    "dV": one.dV,
                    "dB": one.dB,
                    "dE": one.phase_energy_error,
                    "delta": one.delta,
                    "implodes": one.implodes,
                    "status": one.status,
                }
            )
    return rows


def band_rows(result: Result) -> list[dict[str, Any]]:
    """One row a band structure and set, eV; ``per_band`` the error of each band, the lowest first."""
    return [
        {
            "crystal": band.crystal,
            "set": name,
            "rms_near": band.rms_near,
            "max_abs_near": band.max_abs_near,
            "mean": band.mean,
            "gap": band.gap,
            "reference_gap": band.reference_gap,
            "gap_error": band.gap_error,
            "n_missing": band.n_missing,
            "per_band": list(band.per_band),
        }
        for name, card in _cards(result)
        for band in card.bands
    ]


def level_content(result: Result) -> list[dict[str, Any]]:
    """Bands for the page: those that reach into the range drawn, in units of 10 meV, a thirtieth of a line's width."""
    found = []
    for one in result.levels:
        sets = {role: one.sets[name] for role, name in _set_names(result).items() if name in one.sets}
        low, high = drawn_range((one.dft[max(one.skipped, 0) :], *sets.values()), one.window)
        found.append(
            {
                "crystal": one.crystal,
                "x": _numbers(one.x, 5),
                "labels": [[shorten(place, 5), name] for place, name in one.labels],
                "breaks": list(one.breaks),
                "window": [round(edge, 2) for edge in one.window],
                "range": [round(low, 2), round(high, 2)],
                "dft": _drawn(one.dft, low, high),
                **{role: _drawn(bands, low, high) for role, bands in sets.items()},
            }
        )
    return found


def _drawn(bands: Sequence[Sequence[float]], low: float, high: float) -> list[list[int]]:
    return [[round(100.0 * level) for level in band] for band in bands if max(band) >= low and min(band) <= high]


def _set_names(result: Result) -> dict[str, str]:
    """Roles to names of the sets, as the files have them."""
    names = {id(card): name for name, card in result.score.cards.items()}
    return {role: names[id(card)] for role, card in _cards(result)}


def level_rows(result: Result) -> list[dict[str, Any]]:
    """One row a level: crystal, set, band (from 0, the lowest), point of the path, its length, energy in eV."""
    roles = {name: role for role, name in _set_names(result).items()}
    return [
        {
            "crystal": one.crystal,
            "set": role,
            "band": n,
            "point": k,
            "length_per_A": x,
            "energy_eV": band[k],
        }
        for one in result.levels
        for role, bands in {"dft": one.dft, **{roles.get(name, name): b for name, b in one.sets.items()}}.items()
        for n, band in enumerate(bands)
        for k, x in enumerate(one.x)
    ]


def why_no_bands(result: Result) -> str:
    """Say in a sentence why there are no lines of bands."""
    if result.remark and result.ours.bands:
        return "Bands are drawn once the result is written; the search keeps their errors."
    if result.ours.bands:
        return "This result has errors of bands and not the bands themselves: it was made before they were recorded."
    if any(what.startswith("bands") for what in result.ours.missing):
        return "No band structure of this result could be scored; why stands below."
    return (
        "No bands: the reference data of this fit have none of this element. With such that have them "
        "(--references gpaw-pbe --targets eos,bands) they are fitted and drawn."
    )


def formation_rows(result: Result) -> list[dict[str, Any]]:
    """One row a binary crystal and set, eV/atom."""
    return [{"set": name, **one.model_dump()} for name, card in _cards(result) for one in card.formation]


def derivative_rows(result: Result) -> list[dict[str, Any]]:
    """One row a number of the force and stress sections: ``section``, ``name``, ``ours``, ``published``."""
    rows = []
    for section in ("forces", "stress"):
        values = {name: getattr(card, section) or {} for name, card in _cards(result)}
        for key in dict.fromkeys(key for one in values.values() for key in one):
            found = {name: one.get(key) for name, one in values.items()}
            if any(isinstance(value, int | float) for value in found.values()):
                rows.append({"section": section, "name": key, **found})
    return rows


def missing_rows(result: Result) -> list[dict[str, Any]]:
    """What could not be scored: one row a set and thing, with the reason."""
    return [
        {"set": name, "what": what, "why": why}
        for name, card in _cards(result)
        for what, why in sorted(card.missing.items())
    ]


def transfer_rows(result: Result) -> list[dict[str, Any]]:
    """Crystals of partners that were left out of the fit: one row a crystal and set."""
    left_out = result.score.leave_one_out
    return [] if left_out is None else [row.model_dump() for row in left_out.rows]


def parameter_rows(result: Result) -> list[dict[str, Any]]:
    """One row a search parameter.

    ``value`` of the trial chosen, with ``unit``; the search range ``low``, ``high`` and whether it is ``log``; where
    the run has an ensemble its ``least``, ``greatest`` and ``std``, the tolerance ``interval`` and ``effect``.
    """
    provenance = {} if result.parameters is None else result.parameters.provenance
    space = _mapping(_mapping(provenance.get("settings")).get("space"))
    trial = provenance.get("trial")
    values: dict[str, Any] = next((one.parameters for one in result.trials if one.index == trial), {})
    spreads = {} if result.score.uncertainty is None else {one.name: one for one in result.score.uncertainty.parameters}
    rows = []
    for name in dict.fromkeys([*values, *spreads]):
        spread, ranged = spreads.get(name), _mapping(space.get(name))
        value = values.get(name)
        if value is None and spread is not None:
            value = spread.spread.best
        row: dict[str, Any] = {
            "name": name,
            "value": value,
            "unit": str(ranged.get("unit", "")),
            "low": _number(ranged.get("low")),
            "high": _number(ranged.get("high")),
            "log": ranged.get("scale") == "log",
        }
        if spread is not None:
            row |= {
                "least": spread.spread.low,
                "greatest": spread.spread.high,
                "std": spread.spread.std,
                "interval": None if spread.interval is None else list(spread.interval),
                "effect": spread.total_effect,
            }
        rows.append(row)
    return rows


def record_rows(result: Result) -> list[list[Any]]:
    """The parameter record that tables are built from, flattened: name and value."""
    if result.parameters is None:
        return []
    return [[name, shorten(value)] for name, value in _flat(result.parameters.elements.get(result.symbol, {}))]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    # Height and steepness belong to walls of another kind.
    unused = ("height", "steepness") if value.get("kind") in ("power", "none") else ()
    for key, one in value.items():
        if key in unused or one in ("", None, {}, []):
            continue
        if isinstance(one, Mapping):
            yield from _flat(one, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", one if isinstance(one, str | int | float) else str(one)


def ensemble_content(result: Result) -> dict[str, Any] | None:
    """The near-optimal trials: names of parameters, rows of trial, objective and values; None in old runs."""
    found = result.score.uncertainty
    if found is None:
        return None
    members = result.score.ensemble[:ENSEMBLE_SHOWN]
    names = list(dict.fromkeys(name for member in members for name in member.parameters))
    return {
        "tolerance": found.tolerance,
        "n": len(found.members),
        "r2": shorten(found.model_r2, 3),
        "names": names,
        "rows": [
            [m.index, shorten(m.objective, 5), *(shorten(m.parameters.get(name), 4) for name in names)] for m in members
        ],
        "crystals": [
            {"name": one.name, **{key: _spread(getattr(one, key)) for key in ("dV", "dB", "dE")}}
            for one in found.crystals
        ],
    }


def _spread(spread: Any) -> list[Any] | None:
    return None if spread is None else _numbers((spread.best, spread.mean, spread.std, spread.low, spread.high), 4)


def convergence_content(result: Result) -> dict[str, Any] | None:
    """Objectives of all trials, None where one failed, and how often it failed of what; None without trials."""
    if not result.trials:
        return None
    provenance = {} if result.parameters is None else result.parameters.provenance
    campaign = _mapping(_mapping(provenance.get("settings")).get("campaign"))
    errors = Counter(trial.error.partition(":")[0] for trial in result.trials if trial.objective is None)
    return {
        "index": [trial.index for trial in result.trials],
        "objective": _numbers((math.nan if t.objective is None else t.objective for t in result.trials), 5),
        "initial": campaign.get("n_initial") if isinstance(campaign.get("n_initial"), int) else None,
        "chosen": provenance.get("trial") if isinstance(provenance.get("trial"), int) else None,
        "errors": [[name or "unknown", count] for name, count in sorted(errors.items(), key=lambda e: (-e[1], e[0]))],
    }


def provenance_rows(result: Result) -> list[list[str]]:
    """Where the numbers come from: name and text."""
    rows: list[tuple[str, Any]] = [("folder", result.source)]
    manifest, parameters = result.manifest, result.parameters
    if manifest is not None:
        reference = manifest.reference or {}
        doi = str(reference.get("doi") or "")
        rows += [
            ("command", manifest.command),
            ("made", manifest.created),
            ("reference data", " ".join(str(reference.get(key) or "") for key in ("name", "version")).strip()),
            ("reference source", reference.get("source")),
            ("reference DOI", doi),
            ("reference licence", reference.get("licence")),
            ("reference checksum", reference.get("checksum")),
            ("seed", manifest.seed),
            ("trials", ", ".join(f"{count} {what}" for what, count in manifest.trials.items())),
        ]
        asked = _mapping(manifest.settings.get("request"))
        rows += [(f"asked: {key}", _text(asked[key])) for key in SETTINGS_SHOWN if key in asked]
        evaluation = _mapping(_mapping(manifest.settings.get("run")).get("evaluation"))
        rows += [
            (f"evaluation: {key}", _text(evaluation.get(key)))
            for key in (
                "functional",
                "superposition",
                "kpt_density",
                "temperature_K",
                "weights",
                "binary_weights",
                "targets",
            )
            if key in evaluation
        ]
        rows.append(("versions", _text(manifest.versions)))
        rows.append(("platform", _text(manifest.platform)))
    if parameters is not None:
        border = parameters.provenance.get("at_border")
        if isinstance(border, list) and border:
            rows.append(("at an end of the search range", _text(border)))
    return [[name, str(value)] for name, value in rows if value not in (None, "")]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
