"""Runs and trials as rows of the tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dftbparam.errors import ParameterError, StoreError
from dftbparam.store.records import Run, Trial, to_json
from dftbparam.store.tables import LONGEST_RUN_ID


def trial_row(trial: Trial) -> dict[str, Any]:
    """Return a trial as the table holds it; `ParameterError` where status and objective contradict each other."""
    objective = trial.objective
    usable = objective is not None and -float("inf") < objective < float("inf")
    if (trial.status == "finished") != usable or trial.status not in ("finished", "failed"):
        raise ParameterError(
            f"trial {trial.index} of run {trial.run_id!r} is {trial.status!r} with objective {objective}; a finished "
            "one has a finite objective, a failed one has none",
            run_id=trial.run_id,
            index=trial.index,
        )
    return {
        "run_id": trial.run_id,
        "trial_index": trial.index,
        "x": json.dumps([float(value) for value in trial.x]),
        "parameters": to_json(trial.parameters),
        "status": trial.status,
        "objective": None if objective is None else float(objective),
        "metrics": to_json(trial.metrics),
        "details": to_json(trial.details),
        "error": None if trial.error is None else to_json(trial.error),
        "seconds": float(trial.seconds),
        "worker": storable(trial.worker),
        "started": trial.started,
        "finished": trial.finished,
        "settings_hash": trial.settings_hash,
    }


def trial_of(row: Mapping[str, Any], where: str) -> Trial:
    """Return the trial of a row; `StoreError` where it is damaged."""
    return Trial(
        run_id=row["run_id"],
        index=row["trial_index"],
        x=tuple(loads(row["x"], where)),
        parameters=loads(row["parameters"], where),
        status=row["status"],
        objective=row["objective"],
        metrics=loads(row["metrics"], where),
        details=loads(row["details"], where),
        error=None if row["error"] is None else loads(row["error"], where),
        seconds=row["seconds"],
        worker=row["worker"],
        started=row["started"],
        finished=row["finished"],
        settings_hash=row["settings_hash"],
    )


def run_row(run: Run, created: str) -> dict[str, Any]:
    """Return a run as the table holds it; `ParameterError` where its name is none."""
    return {
        "run_id": checked_name(run.run_id),
        "created": created,
        "settings": to_json(run.settings),
        "budget": to_json(run.budget),
        "provenance": to_json(run.provenance),
    }


def run_of(row: Mapping[str, Any], where: str) -> Run:
    """Return the run of a row; `StoreError` where it is damaged."""
    return Run(
        run_id=row["run_id"],
        created=row["created"],
        settings=loads(row["settings"], where),
        budget=loads(row["budget"], where),
        provenance=loads(row["provenance"], where),
    )


def loads(text: str, where: str) -> Any:
    """Return the value of a JSON text; `StoreError` where it is damaged."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError(f"trial store {where} is damaged: {error}", where=where) from None


def checked_name(run_id: str) -> str:
    """Return the name of a run; `ParameterError` where it is empty, too long or no text."""
    if not 0 < len(run_id) <= LONGEST_RUN_ID or storable(run_id) != run_id:
        raise ParameterError(
            f"{run_id!r} is no name for a run; right are 1 to {LONGEST_RUN_ID} characters of text", run_id=run_id
        )
    return run_id


def storable(text: str) -> str:
    """Return text that every database takes: without zeros, and halves of characters, which file names may have."""
    return text.replace("\0", "").encode(errors="replace").decode()
