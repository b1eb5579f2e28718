"""Evaluations with known answers, importable by name in worker processes."""

import os
import signal
import time
from typing import Any

from dftbparam.campaign.result import TrialResult
from dftbparam.errors import EngineMissing, EngineTimeout, ParameterError, ScfNotConverged

OPTIMUM = {"r_s": 3.1, "r_p": 5.2, "r_d": 4.0}
"""Where `bowl` has its minimum, 0.25."""


def bowl(parameters: dict[str, float], context: Any) -> TrialResult:
    """A curved valley with a region that fails; sleeps for up to twice ``context["sleep"]`` seconds."""
    if context and "sleep" in context:
        time.sleep(context["sleep"] * (time.time_ns() // 1000 % 3))
    if parameters["r_s"] < 2.3:
        raise ScfNotConverged("SCC did not converge in 200 iterations", iterations=200, residual=0.3)
    d = {name: parameters[name] - value for name, value in OPTIMUM.items()}
    value = 0.25 + d["r_s"] ** 2 + 0.3 * (d["r_p"] - 0.4 * d["r_s"]) ** 2 + 0.1 * d["r_d"] ** 2
    return TrialResult(value, metrics={"dV": d["r_s"]}, details={"pid": os.getpid()})


def by_kind(parameters: dict[str, float], context: Any) -> TrialResult:
    """Ends in the way that ``parameters["kind"]`` says."""
    kind = int(parameters["kind"])
    if kind == 1:
        raise ScfNotConverged("not converged", iterations=7, residual=0.5)
    if kind == 2:
        raise ParameterError("a wrong value", value=3)
    if kind == 3:
        raise ValueError("a defect")
    if kind == 4:
        return 3.0  # type: ignore[return-value]
    if kind == 5:
        return TrialResult(float("nan"), metrics={"a": 1.0})
    if kind == 6:
        raise EngineTimeout("too slow")
    if kind == 7:
        raise EngineMissing("no dftb+")
    if kind == 8:
        return TrialResult(None)
    return TrialResult(1.5, metrics={"context": context, "threads": os.environ.get("OMP_NUM_THREADS")})


def deadly(parameters: dict[str, float], context: Any) -> TrialResult:
    """Kills its process at r >= 5 and is slow enough that others wait behind it."""
    if parameters["r"] >= 5:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return TrialResult(parameters["r"])


def sleepy(parameters: dict[str, float], context: Any) -> TrialResult:
    """Sleeps for a minute."""
    time.sleep(60)
    return TrialResult(0.0)


def noted(parameters: dict[str, Any], context: str) -> TrialResult:
    """Appends "begin/end name" to the file ``context``; sleeps; kills its process where told.

    A process that dies at once takes with it the message that the trial before has ended.
    """
    name = parameters["name"]
    with open(context, "a") as notes:
        notes.write(f"begin {name}\n")
    time.sleep(parameters.get("sleep", 0.0))
    if parameters.get("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    with open(context, "a") as notes:
        notes.write(f"end {name}\n")
    return TrialResult(0.0)
