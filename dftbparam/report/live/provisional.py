"""What the trials of a search say of an element before its report card is made: errors of the best trial so far.

The numbers are those of the search, from E(V) scans that are coarser than a card's, without a Δ gauge and without
forces. A trial stores the errors of each crystal, its run the crystals themselves; together they give the minima.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from dftbparam.reference import CrystalReference
from dftbparam.report.html.collect import OURS, Result
from dftbparam.report.html.records import (
    StoredBands,
    StoredCard,
    StoredCrystal,
    StoredParameters,
    StoredScore,
    StoredTrial,
)
from dftbparam.score.phases import stable_of_composition
from dftbparam.store import Run, Trial


def symbol_of(run: Run) -> str:
    """The element that a run fits, by its settings; empty where they do not say."""
    return str(_mapping(run.settings.get("evaluation")).get("symbol") or "")


def provisional_result(symbol: str, run: Run, trials: Sequence[Trial], source: str, remark: str) -> Result | None:
    """Make a result of the best trial; None where none has finished, or the run says nothing of its crystals.

    Parameters
    ----------
    trials
        In order of index.
    source, remark
        Where it comes from, and what a reader should know; shown with the element.
    """
    finished = [(trial.objective, trial.index, trial) for trial in trials if trial.objective is not None]
    if not finished:
        return None
    best = min(finished)[2]  # indices differ, so that trials are not compared
    card = _card(symbol, run, best)
    if card is None:
        return None
    return Result(
        symbol=symbol,
        source=source,
        score=StoredScore(schema_version=1, symbol=symbol, cards={OURS: card}),
        parameters=StoredParameters(
            schema_version=1, provenance={"trial": best.index, "settings": run.settings, "at_border": []}
        ),
        trials=tuple(_trial(trial) for trial in trials),
        remark=remark,
    )


def _trial(trial: Trial) -> StoredTrial:
    error = trial.error or {}
    return StoredTrial(
        index=trial.index,
        status=trial.status,
        objective=trial.objective,
        error=f"{error.get('type')}: {error.get('message')}" if error else "",
        parameters=dict(trial.parameters),
    )


def _card(symbol: str, run: Run, best: Trial) -> StoredCard | None:
    listed = _mapping(run.settings.get("evaluation")).get("references")
    try:
        references = [CrystalReference.model_validate(row) for row in listed or ()]
    except (ValidationError, TypeError):
        return None
    errors = _mapping(best.details.get("crystals"))
    if not references or not errors:
        return None
    stable = {name: one.name for name, one in stable_of_composition(references).items()}
    energies = {one.name: one.energy for one in references}
    crystals = [_crystal(one, energies[stable[one.name]], _mapping(errors.get(one.name))) for one in references]
    by_name = {one.prototype: one for one in crystals}
    volume = [abs(one.dV) for one in crystals if one.dV is not None]
    bulk = [abs(one.dB) for one in crystals if one.dB is not None]
    others = [one.phase_energy_error for one in crystals if stable[one.prototype] != one.prototype]
    phase = [abs(error) for error in others if error is not None]
    bands = tuple(_bands(best.details))
    gaps = [abs(one.gap_error) for one in bands if one.gap_error is not None]
    formation = [_number(error) for error in _mapping(best.details.get("formation")).values()]
    return StoredCard(
        symbol=symbol,
        stable=stable[references[0].name],
        crystals=tuple(crystals),
        mean_abs_dV=_mean(volume),
        mean_abs_dB=_mean(bulk),
        mean_abs_phase_error=_mean(phase),
        max_abs_dV=max(volume, default=None),
        max_abs_dB=max(bulk, default=None),
        max_abs_phase_error=max(phase, default=None),
        n_without_minimum=sum(one.volume is None for one in crystals),
        sound=all(one.sound for one in crystals),
        right_ground_state=_right_ground_state(stable, by_name),
        bands=bands,
        mean_band_error=_mean([one.rms_near for one in bands]),
        mean_abs_gap_error=_mean(gaps),
        mean_abs_formation_error=_mean([abs(error) for error in formation if error is not None]),
    )


def _crystal(reference: CrystalReference, zero: float, errors: Mapping[str, Any]) -> StoredCrystal:
    dV, dB, dE = (_number(errors.get(name)) for name in ("dV", "dB", "dE"))
    expected = reference.energy - zero
    unsound = _number(errors.get("unsound"))
    return StoredCrystal(
        prototype=reference.name,
        reference_volume=reference.volume,
        reference_bulk_modulus=reference.bulk_modulus,
        reference_bulk_modulus_derivative=reference.bulk_modulus_derivative,
        reference_phase_energy=expected,
        volume=None if dV is None else reference.volume * (1.0 + dV / 100.0),
        bulk_modulus=None if dB is None else reference.bulk_modulus * (1.0 + dB / 100.0),
        # The search keeps no B'; curves are drawn with the reference's.
        bulk_modulus_derivative=None if dB is None else reference.bulk_modulus_derivative,
        dV=dV,
        dB=dB,
        phase_energy=None if dE is None else expected + dE,
        phase_energy_error=dE,
        sound=dV is not None and unsound == 0.0,
        status="no minimum" if dV is None else "ok" if unsound == 0.0 else "a deeper well",
    )


def _right_ground_state(stable: Mapping[str, str], crystals: Mapping[str, StoredCrystal]) -> bool | None:
    """As on a card: in each composition with two crystals the stable one is lowest of those with a minimum."""
    compared = [one for one in set(stable.values()) if list(stable.values()).count(one) > 1]
    if not compared:
        return None
    for one in compared:
        energies = {
            name: energy
            for name, zero in stable.items()
            if zero == one and (energy := crystals[name].phase_energy) is not None
        }
        if not energies or min(energies, key=lambda name: energies[name]) != one:
            return False
    return True


def _bands(details: Mapping[str, Any]) -> list[StoredBands]:
    found = []
    for crystal, score in sorted(_mapping(details.get("bands")).items()):
        near = _number(_mapping(score).get("rms_near"))
        if near is not None:
            found.append(StoredBands(crystal=crystal, rms_near=near, gap_error=_number(score.get("gap_error"))))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
