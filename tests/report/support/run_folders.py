"""Run folders for tests of the report, written by hand: no fit, no engine."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

CRYSTALS = {"sc": 0.30, "bcc": 0.20, "fcc": 0.15, "diamond": 0.0}
"""Name to energy above the stable one, eV/atom."""


def crystal(name: str, energy: float, *, dV: float, dB: float, dE: float) -> dict[str, Any]:
    return {
        "prototype": name,
        "reference_volume": 20.0,
        "reference_bulk_modulus": 0.5,
        "reference_bulk_modulus_derivative": 4.2,
        "reference_phase_energy": energy,
        "volume": 20.0 * (1.0 + dV / 100.0),
        "energy": -30.0 + energy + dE,
        "bulk_modulus": 0.5 * (1.0 + dB / 100.0),
        "bulk_modulus_derivative": 4.0,
        "dV": dV,
        "dB": dB,
        "delta": 2.0,
        "phase_energy": energy + dE,
        "phase_energy_error": dE,
        "sound": True,
        "status": "ok",
    }


def card(symbol: str, *, dV: float, dB: float, dE: float, sound: bool = True) -> dict[str, Any]:
    crystals = [crystal(n, e, dV=dV, dB=dB, dE=0.0 if e == 0.0 else dE) for n, e in CRYSTALS.items()]
    return {
        "symbol": symbol,
        "stable": "diamond",
        "crystals": crystals,
        "mean_abs_dV": abs(dV),
        "mean_abs_dB": abs(dB),
        "mean_abs_phase_error": abs(dE),
        "mean_delta": 2.0,
        "max_abs_dV": abs(dV),
        "max_abs_dB": abs(dB),
        "max_abs_phase_error": abs(dE),
        "n_without_minimum": 0,
        "sound": sound,
        "right_ground_state": True,
    }


def bands(error: float) -> list[dict[str, Any]]:
    return [
        {"crystal": "diamond", "rms_near": error, "max_abs_near": 2 * error, "mean": 0.0, "gap": 0.9,
         "reference_gap": 0.6, "gap_error": 0.3, "n_missing": 0, "per_band": [error, 2 * error, 3 * error]}
    ]  # fmt: skip


def band_file(symbol: str) -> dict[str, Any]:
    """Three bands at four points, the deepest in the core of the sets; the path starts anew at the third."""
    dft = [[-60.0] * 4, [-8.0, -7.0, -7.0, -8.0], [0.5, 1.5, 1.5, 40.0]]
    structure = {
        "crystal": "diamond", "volume": 20.0, "points": [[0, 0, 0]] * 4, "x": [0.0, 0.5, 0.5, 1.0],
        "labels": [[0.0, "Γ"], [0.5, "X|U₂"], [1.0, "Γ"]], "breaks": [2], "window": [-5.3, 5.3],
        "skipped": 1, "dft": dft,
        "sets": {
            "this fit": [[level + 0.3 for level in band] for band in dft[1:]],
            "published PTBP": [[level + 0.6 for level in band] for band in dft[1:]],
        },
    }  # fmt: skip
    return {"schema_version": 1, "symbol": symbol, "structures": [structure]}


def spread(value: float) -> dict[str, float]:
    return {"best": value, "mean": value, "std": 0.1, "low": value - 0.1, "high": value + 0.1}


def uncertainty() -> dict[str, Any]:
    return {
        "tolerance": 0.1,
        "best_objective": 1.5,
        "members": [3, 2],
        "parameters": [
            {"name": "radius_3s", "spread": spread(4.0), "share_of_range": 0.1, "interval": [3.5, 4.5],
             "total_effect": 0.8}
        ],
        "crystals": [{"name": "sc", "dV": spread(1.0), "dB": spread(2.0), "dE": spread(0.01), "without_minimum": 0}],
        "model_r2": 0.9,
    }  # fmt: skip


def write_run(
    folder: Path,
    symbol: str,
    *,
    dV: float = 2.0,
    new: bool = True,
    trials: int = 4,
    score: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    error: str = "AtomError: the orbitals reach too far",
) -> Path:
    """Write the folder of one element; ``new`` with uncertainty and bands, as later versions do."""
    folder.mkdir(parents=True)
    cards = {
        "this fit": card(symbol, dV=dV, dB=10.0, dE=0.02),
        "published PTBP": card(symbol, dV=-8.0, dB=60.0, dE=0.2, sound=False),
    }
    value: dict[str, Any] = {"schema_version": 1, "symbol": symbol, "cards": cards}
    if new:
        cards["this fit"] |= {"bands": bands(0.3), "mean_band_error": 0.3, "forces": {"rms": 0.1, "n_frames": 3}}
        cards["published PTBP"] |= {"bands": bands(0.6), "mean_band_error": 0.6}
        # Of its minimum at 0.92 of the reference volume one well is deeper on compression, one on expansion.
        for i, where in ((0, 0.6), (1, 1.5)):
            cards["published PTBP"]["crystals"][i] |= {
                "deeper_well": {"relative_volume": where, "depth": 0.4, "at_edge": True}, "sound": False,
                "status": "a deeper well",
            }  # fmt: skip
        value |= {
            "uncertainty": uncertainty(),
            "ensemble": [
                {"index": 3, "objective": 1.5, "parameters": {"radius_3s": 4.0}},
                {"index": 2, "objective": 1.6, "parameters": {"radius_3s": 4.1}},
            ],
        }
    write(folder / "score.json", value | (score or {}))
    if new:
        write(folder / "bands.json", band_file(symbol))
    space = {"radius_3s": {"low": 2.0, "high": 10.0, "scale": "log", "unit": "Bohr"}}
    write(
        folder / "parameters.json",
        {
            "schema_version": 1,
            "name": f"dftbparam-{symbol}",
            "elements": {symbol: {"symbol": symbol, "shells": {"3s": {"kind": "power", "radius": 4.0, "height": 5.0}}}},
            "provenance": {
                "trial": 3,
                "at_border": ["radius_3s = 4 Bohr"],
                "settings": {"space": space, "campaign": {"n_initial": 2}},
            },
        },
    )
    write(
        folder / "manifest.json",
        {
            "schema_version": 1,
            "name": symbol,
            "created": "2026-01-01T00:00:00+00:00",
            "command": f"dftbparam fit {symbol}",
            "elements": [symbol],
            "versions": {"dftbparam": "0.1.0"},
            "settings": {"request": {"sampler": "skopt"}},
            "trials": {"done": trials, "failed": 1},
            "files": [{"path": "score.json", "bytes": 1, "sha256": "0" * 64}],
        }
        | (manifest or {}),
    )
    with (folder / "trials.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "status", "objective", "seconds", "error", "parameter.radius_3s"])
        for i in range(trials):
            failed = i == 1
            writer.writerow([i, "failed" if failed else "finished", "" if failed else 1.5 + (trials - i) * 0.1, 1.0,
                             error if failed else "", 4.0 + 0.1 * i])  # fmt: skip
    return folder


def compound_card(symbol: str, **errors: Any) -> dict[str, Any]:
    """A card with own crystals and two compounds, whose volume is wrong by half as much and stiffness by twice."""
    value = card(symbol, **errors)
    half, twice = errors["dV"] / 2.0, 2.0 * errors["dB"]
    compounds = [crystal(f"{symbol}-O {name}", 0.0, dV=half, dB=twice, dE=0.0) for name in ("rocksalt", "fluorite")]
    return {**value, "crystals": [*value["crystals"], *compounds], "mean_abs_formation_error": 0.25}


def write_set(folder: Path, left_out: dict[str, list[str]], *symbols: str) -> Path:
    """Write scores.json and parameters.json of a published set, its elements and those left out with compounds."""
    folder.mkdir(parents=True)
    elements = {
        symbol: {
            "cards": {
                "ours": compound_card(symbol, dV=2.0 + i, dB=10.0, dE=0.02),
                "ptbp": compound_card(symbol, dV=-8.04 - i, dB=60.0, dE=0.2, sound=False),
            }
        }
        for i, symbol in enumerate((*symbols, *left_out))
    }
    write(folder / "scores.json", {"schema_version": 1, "elements": elements, "left_out": left_out})
    write(folder / "parameters.json", {"schema_version": 1, "elements": {s: {"symbol": s} for s in symbols}})
    return folder


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
