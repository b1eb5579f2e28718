"""What an evaluation returns, and what becomes of it.

An evaluation is a module-level function ``evaluate(parameters, context) -> TrialResult``. What it raises decides what
happens:

=============================================  =================================================================
raised                                         consequence
=============================================  =================================================================
`CalculationError`, `EngineError`              the trial failed: recorded with its error, not tried again
`InputError`, `EngineMissing`, `StoreError`    no trial can succeed: the campaign ends with this error
any other exception                            a defect of the evaluation: recorded as failed, with its traceback
                                               and a warning in the log, so that one bad point does not end a night
=============================================  =================================================================
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dftbparam.errors import CalculationError, DftbparamError, EngineError, EngineMissing

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialResult:
    """What an evaluation found.

    Attributes
    ----------
    objective
        Number to be minimised; None or not finite where there is none, and the trial counts as failed.
    metrics
        Numbers, text or truth values by name, for tables.
    details
        Anything else that JSON can hold (numpy arrays included), for plots and reports. It is stored with every trial,
        so keep it to some kilobytes.
    """

    objective: float | None
    metrics: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


Evaluate = Callable[[dict[str, Any], Any], TrialResult]
"""``evaluate(parameters, context)``: parameters by name in the units of the search space. Must be importable by name
and deterministic."""


@dataclass(frozen=True)
class Outcome:
    """One evaluation as it ended: a ``result`` or an ``error`` record, or ``fatal``, which ends the campaign.

    Times in seconds; ``started`` and ``finished`` in ISO 8601, UTC.
    """

    result: TrialResult | None = None
    error: dict[str, Any] | None = None
    fatal: DftbparamError | None = None
    seconds: float = 0.0
    worker: str = ""
    started: str = ""
    finished: str = ""


def error_record(kind: str, message: str, **data: Any) -> dict[str, Any]:
    """The form in which errors are stored."""
    return {"type": kind, "message": message, "data": data}


def run_one(evaluate: Evaluate, parameters: dict[str, Any], context: Any) -> Outcome:
    """Evaluate one point and say how it ended, by the table of this module. Never raises an `Exception`."""
    started, clock = datetime.now(UTC), time.perf_counter()
    result: TrialResult | None = None
    error: dict[str, Any] | None = None
    fatal: DftbparamError | None = None
    try:
        result = evaluate(dict(parameters), context)
        if not isinstance(result, TrialResult):
            raise TypeError(f"the evaluation returned {type(result).__name__}, not TrialResult")
        if result.objective is None or not math.isfinite(result.objective):
            error = error_record("CalculationError", f"the objective is {result.objective}, not a finite number")
    except EngineMissing as problem:
        fatal = problem
    except (CalculationError, EngineError) as problem:
        error = error_record(type(problem).__name__, problem.message, **problem.data)
    except DftbparamError as problem:
        fatal = problem
    except Exception as problem:
        _LOG.warning("evaluation at %s ended with an unexpected error", parameters, exc_info=True)
        error = error_record(type(problem).__name__, str(problem), traceback=traceback.format_exc(), unexpected=True)
    return Outcome(
        result=result if isinstance(result, TrialResult) else None,
        error=error,
        fatal=fatal,
        seconds=time.perf_counter() - clock,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        started=started.isoformat(timespec="milliseconds"),
        finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
