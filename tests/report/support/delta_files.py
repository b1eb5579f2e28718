"""Model files for tests of the report, written by hand: a header in an archive, no model."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = {
    "groups": ["Si bcc", "Si diamond"],
    "group": [1, 1, 0, 0],
    "reference": [0.2, -0.1, 0.4, 0.0],
    "predicted": [0.25, -0.12, 0.41, 0.1],
    "std": [0.05, 0.04, 0.02, 0.05],
}
"""Errors of 1, 0.5, 0.5 and 2 error bars."""


def header(**changes: Any) -> dict[str, Any]:
    """Two levels: one of which everything is recorded, and one of which an earlier version wrote errors alone."""
    scores = {"structures": 4, "rmse": 0.0572, "mae": 0.045, "within_one_std": 0.75, "within_two_std": 1.0}
    return {
        "format": "dftbparam-delta",
        "version": 2,
        "elements": ["Si"],
        "base": {"name": "ptbp-Si", "engine": "embedded"},
        "kernel": {"kind": "matern52", "length": 2.0},
        "inducing": {"14": 33},
        "levels": [{"name": "PBE", "cost": 1.0, "calibration": 1.3}, {"name": "r2SCAN/HSE", "cost": 6.0}],
        "metrics": {
            "grouped": True,
            "folds": 2,
            "levels": {
                "PBE": scores | {"rmse_without_base": 0.2, "negative_transfer": False},
                "r2SCAN/HSE": scores | {"rmse_without_base": 0.01, "negative_transfer": True},
            },
            "held_out": {"PBE": HELD_OUT},
            "learning": {"PBE": {"model": [[6, 0.2], [12, 0.06]], "without_base": [[6, 0.9], [12, 0.2]]}},
        },
        "provenance": {"samples": 8, "data_sha256": "ab" * 32},
        **changes,
    }


def write_delta(path: Path, value: Any = None, *, name: str = "header.npy") -> Path:
    """Write a model file; ``value`` instead of `header`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(header() if value is None else value).encode()
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(text, dtype=np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, buffer.getvalue())
    return path
