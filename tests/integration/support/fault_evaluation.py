"""A deterministic evaluation of random duration that notes when it begins and when it ends."""

import math
import os
import random
import select
import time
from typing import Any

from dftbparam.campaign.result import TrialResult
from dftbparam.errors import ScfNotConverged

if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    # libfaketime 0.9.10 takes Python's sleep, to a moment of the monotonic clock, for one to a time of day.
    time.sleep = lambda seconds: select.select([], [], [], seconds)  # type: ignore[assignment]


def note(path: str, word: str, parameters: dict[str, float]) -> None:
    """Append one line at once, so that lines of several processes do not mix."""
    line = f"{word} {parameters['a']!r} {parameters['b']!r} {time.monotonic():.3f}\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def evaluate(parameters: dict[str, float], context: dict[str, Any]) -> TrialResult:
    """``context``: the path of the notes, and the longest duration in seconds."""
    a, b = parameters["a"], parameters["b"]
    note(context["notes"], "begin", parameters)
    time.sleep(random.SystemRandom().uniform(0.3, 1.0) * context["longest"])
    note(context["notes"], "end", parameters)
    if a > 8.0:
        raise ScfNotConverged("planted failure", iterations=200, residual=0.1)
    return TrialResult((math.log(a) - 1.0) ** 2 + (b - 2.0) ** 2 + 0.1 * math.sin(3.0 * a), metrics={"a": a})
