"""Writes results in a process of its own: a module that imports little, because every process imports it anew."""

import json
import os
from pathlib import Path

from dftbparam.errors import InputError


def write(folder: str, symbol: str, trials: int, fault: str) -> None:
    """Write the result; ``fault`` says in which way it fails."""
    if fault == "error":
        raise InputError("a planted failure of writing")
    if fault == "defect":
        raise KeyError("planted")
    if fault == "death":
        os._exit(7)
    path = Path(folder) / f"{symbol}.json"
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"trials": trials, "pid": os.getpid()}))
    temporary.replace(path)
