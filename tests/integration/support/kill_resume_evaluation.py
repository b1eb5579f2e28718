"""A deterministic evaluation of random duration that leaves a note of every call."""

import math
import random
import time
import uuid
from pathlib import Path

from dftbparam.campaign.result import TrialResult
from dftbparam.errors import ScfNotConverged

LONGEST = 0.12
"""Longest duration in seconds: long enough that a kill usually hits evaluations in flight."""


def evaluate(parameters: dict[str, float], notes: str) -> TrialResult:
    """``notes``: folder in which each call leaves a file holding its parameters."""
    a, b = parameters["a"], parameters["b"]
    (Path(notes) / uuid.uuid4().hex).write_text(f"{a!r} {b!r}")
    time.sleep(random.SystemRandom().uniform(0.0, LONGEST))
    if a > 8.0:
        raise ScfNotConverged("planted failure", iterations=200, residual=0.1)
    value = (math.log(a) - 1.0) ** 2 + (b - 2.0) ** 2 + 0.1 * math.sin(3.0 * a)
    return TrialResult(value, metrics={"a": a})
