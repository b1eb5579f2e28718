"""What the store holds: runs and trials, as plain records."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

STATES: Final = ("waiting", "running", "finished", "failed", "interrupted")
"""What a driver may say of a run."""


@dataclass(frozen=True)
class Trial:
    """One finished evaluation. Never changed once stored.

    Attributes
    ----------
    run_id, index
        Which run, and the number of the trial in it, from 0; the pair is unique.
    x
        Point of the unit cube (d,), exact to the last bit.
    parameters
        The same point by name, in the units of the search space.
    status
        ``finished`` with an ``objective``, or ``failed`` with an ``error``.
    objective
        Number to be minimised; None where the trial failed.
    metrics, details
        What the evaluation reported: numbers per name, and anything else that JSON can hold.
    error
        None, or ``{"type": class name, "message": one sentence, "data": {...}}``.
    seconds, worker, started, finished
        Wall time, where it ran, and when (ISO 8601, UTC).
    settings_hash
        Fingerprint of the settings of the run, see `settings_hash`.
    """

    run_id: str
    index: int
    x: tuple[float, ...]
    parameters: dict[str, float]
    status: Literal["finished", "failed"]
    objective: float | None
    metrics: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    seconds: float = 0.0
    worker: str = ""
    started: str = ""
    finished: str = ""
    settings_hash: str = ""


@dataclass(frozen=True)
class Run:
    """One campaign run.

    ``settings`` decide the trial list and never change; ``budget`` (number of evaluations, patience) decides where the
    list ends and may be raised; ``provenance`` (versions, machine) is for the record.
    """

    run_id: str
    settings: dict[str, Any]
    budget: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class RunOverview:
    """What is known of a run without reading its trials.

    Attributes
    ----------
    run_id, state, message, driver
        State as a driver gave it last, one of `STATES`, with what it said (why it failed, say) and who it was. Empty
        where none has said anything, as in stores of older versions.
    updated
        When the state was set or the last trial was stored, whichever is later (ISO 8601, UTC); may be empty.
    finished, failed
        Numbers of trials.
    best_objective, best_index
        Smallest objective and its trial, the earliest among equals; None where no trial has finished.
    seconds
        Wall time of all evaluations together.
    evaluations
        How many the budget allows; None where the run has not been created, or its budget does not say.
    held
        Whether a process holds the run now; None where the file system cannot say. A run that is ``running`` and not
        held has lost its driver.
    """

    run_id: str
    state: str = ""
    message: str = ""
    driver: str = ""
    updated: str = ""
    finished: int = 0
    failed: int = 0
    best_objective: float | None = None
    best_index: int | None = None
    seconds: float = 0.0
    evaluations: int | None = None
    held: bool | None = None


def flat_row(trial: Trial) -> dict[str, Any]:
    """Return a trial as a row for tables and plots.

    Columns: index, status, objective, seconds, worker, started, finished, error (type: message), then
    ``parameter.NAME`` and ``metric.NAME`` (only metrics that are numbers, text or truth values).
    """
    row: dict[str, Any] = {
        "index": trial.index,
        "status": trial.status,
        "objective": trial.objective,
        "seconds": trial.seconds,
        "worker": trial.worker,
        "started": trial.started,
        "finished": trial.finished,
        "error": f"{trial.error.get('type')}: {trial.error.get('message')}" if trial.error else None,
    }
    row |= {f"parameter.{name}": value for name, value in trial.parameters.items()}
    row |= {f"metric.{k}": v for k, v in trial.metrics.items() if not isinstance(v, list | dict)}
    return row


def plain(value: Any) -> Any:
    """Return value as JSON can hold it: arrays as lists, numbers that are not finite as None, the unknown as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    return str(value)


def to_json(value: Any) -> str:
    """Canonical JSON text: sorted keys, floats that read back bit for bit."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Fingerprint of settings: the first 16 hexadecimal digits of the SHA-256 of their canonical JSON."""
    return hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]


def differing_settings(
    stored: Mapping[str, Any], given: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """Return (dotted name, stored value, given value) of every setting that differs, in order of name."""
    stored, given = plain(stored), plain(given)
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*stored, *given}):
        old, new, name = stored.get(key), given.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differing_settings(old, new, f"{name}.")
        elif old != new or (key in stored) != (key in given):
            found.append((name, old, new))
    return found
