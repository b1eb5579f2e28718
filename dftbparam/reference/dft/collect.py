"""From finished calculations to a data set folder, compact enough to be kept under version control.

The folder's files are remade from all records each time, in a fixed order, so that the same records give the same
bytes. Layout: ``references/README.md``; beside it ``convergence.csv`` (what denser settings change).
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from dftbparam.errors import NoMinimum
from dftbparam.reference.dataset import (
    ATOMS_FILE,
    BANDS_FILE,
    CRYSTALS_FILE,
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    FRAMES_FILE,
    POINTS_COLUMNS,
    POINTS_FILE,
)
from dftbparam.reference.dft.archive import Archive
from dftbparam.reference.dft.curves import next_steps
from dftbparam.reference.dft.tasks import Task
from dftbparam.reference.eos_fit import EosFit, fit_birch_murnaghan
from dftbparam.reference.layout import CRYSTAL_COLUMNS, UNITS, VOLUME_RANGE, checksums, table, toml

CONVERGENCE_FILE: Final = "convergence.csv"
ATOM_COLUMNS: Final = ("symbol", "energy", "magnetic_moment", "status")
CONVERGENCE_COLUMNS: Final = ("symbol", "prototype", "setting", "value", "base_value", "energy", "change")


@dataclass
class Collected:
    """What was written: entries per file; failed calculations and curves without a minimum, with the reason."""

    files: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    no_minimum: dict[str, str] = field(default_factory=dict)


@dataclass
class _Found:
    """Records by what they are for."""

    curves: dict[tuple[str, str], dict[str, dict[int, tuple[Task, Mapping[str, Any]]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    bands: list[tuple[Task, Mapping[str, Any]]] = field(default_factory=list)
    atoms: list[tuple[Task, Mapping[str, Any]]] = field(default_factory=list)
    frames: list[tuple[Task, Mapping[str, Any]]] = field(default_factory=list)
    convergence: list[tuple[Task, Mapping[str, Any]]] = field(default_factory=list)
    recipes: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    setups: dict[str, str] = field(default_factory=dict)


def collect(archive: Archive, folder: Path, name: str | None = None) -> Collected:
    """Write the data set of an archive into ``folder``. Files that would be empty are not written.

    Raises
    ------
    StoreError
        A record cannot be read.
    """
    found, summary = _sort(archive)
    points, crystals = _curves(found, summary)
    made = {
        CRYSTALS_FILE: _table(CRYSTAL_COLUMNS, crystals),
        POINTS_FILE: _table(POINTS_COLUMNS, points),
        BANDS_FILE: _bands(found.bands),
        ATOMS_FILE: _table(ATOM_COLUMNS, _atoms(found.atoms)),
        CONVERGENCE_FILE: _table(CONVERGENCE_COLUMNS, _convergence(found.convergence)),
        FRAMES_FILE: _frames(found.frames),
    }
    files = {file: (content, count) for file, (content, count) in made.items() if count}
    summary.files = {file: count for file, (_, count) in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # The description comes last: until it is replaced, its checksums tell that the rest is newer.
    description = toml(_description(found, name or folder.resolve().name, files)).encode()
    for file, content in (*((file, content) for file, (content, _) in files.items()), (DESCRIPTION_FILE, description)):
        temporary = folder / f".{file}.writing"
        temporary.write_bytes(content)
        temporary.replace(folder / file)
    return summary


def _sort(archive: Archive) -> tuple[_Found, Collected]:
    found, summary = _Found(), Collected()
    for task, record in archive.records():
        if record.get("error") is not None:
            summary.failed[task.label] = str(record["error"]["message"])
            if "/eos/" not in task.label:
                continue
        else:
            found.recipes[task.recipe.model_dump_json()] += "/convergence/" not in task.label
            found.versions[json.dumps(record["versions"], sort_keys=True)] += 1
            found.setups.update(record["result"].get("setups", {}))
        parts = task.label.split("/")
        entry = (task, record)
        if "/eos/" in task.label:
            # Two recipes of one crystal are two curves; what decides is everything but the volume.
            group = f"{task.recipe.model_dump_json()} {task.kpts}"
            found.curves[parts[0], parts[1]][group][int(task.details["grid"])] = entry
        elif task.kind == "bands":
            found.bands.append(entry)
        elif task.kind == "atom":
            found.atoms.append(entry)
        elif "/frames/" in task.label:
            found.frames.append(entry)
        elif "/convergence/" in task.label:
            found.convergence.append(entry)
    return found, summary


def _curves(found: _Found, summary: Collected) -> tuple[list[list[Any]], list[list[Any]]]:
    """Rows of points.csv and data.csv."""
    points: list[list[Any]] = []
    crystals: list[list[Any]] = []
    for (compound, prototype), groups in sorted(found.curves.items()):
        symbol, _, partner = compound.partition("-")
        # With several recipes in one folder the one with more points is the curve; the other stays in the archive.
        entries = max(groups.values(), key=len)
        rows = []
        energies: dict[int, float | None] = {}
        for k, (task, record) in sorted(entries.items()):
            result = record["result"]
            energies[k] = None if result is None else result["energy"] / len(task.numbers)
            if result is not None:
                free = result["energy_free"] / len(task.numbers)
                rows.append(
                    [
                        symbol,
                        partner,
                        prototype,
                        _round(task.details["volume"], 6),
                        _round(energies[k], 7),
                        _round(free, 7),
                    ]
                )
        state = next_steps(energies)
        if state.status == "searching":
            continue
        points += rows
        if state.status != "done":
            summary.no_minimum[f"{compound}/{prototype}"] = {
                "no-minimum": "the energy falls to the end of the range: no minimum",
                "failed": "calculations around the minimum failed",
            }[state.status]
            continue
        window = [(entries[k][0].details["volume"], e) for k in state.window if (e := energies[k]) is not None]
        try:
            fit: EosFit = fit_birch_murnaghan(*zip(*window, strict=True))
        except NoMinimum as error:
            summary.no_minimum[f"{compound}/{prototype}"] = error.message
            continue
        crystals.append(
            [
                symbol,
                partner,
                prototype,
                _round(fit.v0, 5),
                _round(fit.b0, 6),
                _round(fit.b0_prime, 4),
                _round(fit.e0, 6),
                _round(fit.rms, 6),
                1,
            ]
        )
    return points, crystals


def _bands(entries: Sequence[tuple[Task, Mapping[str, Any]]]) -> tuple[bytes, int]:
    lines = []
    for task, record in sorted(entries, key=lambda entry: entry[0].label):
        compound, prototype, *_ = task.label.split("/")
        symbol, _, partner = compound.partition("-")
        lines.append(
            json.dumps(
                {
                    "symbol": symbol,
                    "partner": partner or None,
                    "prototype": prototype,
                    "volume": _round(task.details["volume"], 6),
                    "points": np.round(task.path, 6).tolist(),
                    "energies": np.round(record["result"]["bands"], 4).tolist(),
                    "electrons": record["result"]["electrons"],
                    "smearing": task.recipe.smearing,
                    "labels": task.details["labels"],
                    "breaks": task.details["breaks"],
                },
                ensure_ascii=False,
                separators=(",", ":"),
            )
        )
    return "".join(line + "\n" for line in lines).encode(), len(lines)


def _atoms(entries: Iterable[tuple[Task, Mapping[str, Any]]]) -> list[list[Any]]:
    """One row an element; of several recipes the one with the highest cutoff."""
    best: dict[str, tuple[Task, Mapping[str, Any]]] = {}
    for task, record in entries:
        symbol = task.label.split("/")[0]
        if symbol not in best or task.recipe.cutoff > best[symbol][0].recipe.cutoff:
            best[symbol] = (task, record)
    return [
        [symbol, _round(record["result"]["energy"], 6), _round(record["result"].get("magnetic_moment", 0.0), 3), "ok"]
        for symbol, (_, record) in sorted(best.items())
    ]


def _convergence(entries: Iterable[tuple[Task, Mapping[str, Any]]]) -> list[list[Any]]:
    """Energies relative to the first crystal (eV/atom) with each changed setting, and the change against the base."""
    energies: dict[tuple[str, str, str], tuple[float, Task]] = {}
    for task, record in entries:
        symbol, prototype, _, change = task.label.split("/")
        energies[symbol, prototype, change] = (record["result"]["energy"] / len(task.numbers), task)
    # Half the smearing is computed with the denser mesh and compared with it.
    against = {"cutoff": "base", "kpoint_density": "base", "smearing": "kpoint_density"}
    rows: list[list[Any]] = []
    for (symbol, prototype, change), (energy, _) in sorted(energies.items()):
        if change == "base" or prototype == "fcc":
            continue
        keys = [(symbol, p, c) for p in (prototype, "fcc") for c in (change, against[change])]
        if any(key not in energies for key in keys):
            continue
        new, old, new_zero, old_zero = (energies[key][0] for key in keys)
        value, base = (getattr(energies[key][1].recipe, change) for key in keys[:2])
        shift = (new - new_zero) - (old - old_zero)
        rows.append([symbol, prototype, change, value, base, _round(energy - new_zero, 6), _round(shift, 6)])
    return rows


def _frames(entries: Sequence[tuple[Task, Mapping[str, Any]]]) -> tuple[bytes, int]:
    """Extended xyz: energies (free energy, of which the forces are the derivative), forces, stress."""
    if not entries:
        return b"", 0
    from ase.calculators import singlepoint
    from ase.io import extxyz

    holds, write_extxyz = cast(Any, singlepoint.SinglePointCalculator), cast(Any, extxyz.write_extxyz)
    images = []
    for task, record in sorted(entries, key=lambda entry: entry[0].label):
        atoms: Any = task.atoms()
        result = record["result"]
        atoms.calc = holds(
            atoms,
            energy=_round(result["energy_free"], 6),
            forces=np.round(result["forces"], 6),
            stress=np.round(result["stress"], 8),
        )
        compound, prototype, *_ = task.label.split("/")
        atoms.info = {
            "name": f"{compound} {prototype} {int(task.details['index']):03d}",
            "compound": compound,
            "prototype": prototype,
            "energy_zero_smearing": _round(result["energy"], 6),
            "functional": task.recipe.functional,
        }
        images.append(atoms)
    text = io.StringIO()
    write_extxyz(text, images)
    return text.getvalue().encode(), len(images)


def _description(found: _Found, name: str, files: Mapping[str, tuple[bytes, int]]) -> dict[str, Any]:
    """What dataset.toml says."""
    recipes = [json.loads(text) for text, n in found.recipes.items() if n]
    versions: dict[str, set[str]] = defaultdict(set)
    for text in found.versions:
        for package, version in json.loads(text).items():
            versions[package].add(version)
    # A setting that all calculations share is stated once; the others as the list of their values.
    values = {key: sorted({json.dumps(r[key]) for r in recipes}) for key in (recipes[0] if recipes else {})}
    settings: dict[str, Any] = {}
    for key, texts in values.items():
        found_values = sorted((json.loads(text) for text in texts), key=repr)
        if any(found_values):
            settings[key] = found_values[0] if len(found_values) == 1 else found_values
    codes = sorted({r["code"] for r in recipes})
    return {
        "format": FORMAT_VERSION,
        "name": name,
        "title": f"Crystals, layers and chains computed with {', '.join(codes) or 'no code'}",
        "source": "dftbparam references compute",
        "doi": "",
        "licence": "CC-BY-4.0",
        "functional": ", ".join(sorted({r["functional"] for r in recipes})) or "none",
        "spin": "none",
        "energy_zero": "total energies as the code gives them; [offsets] has the isolated atoms",
        "version": "1",
        "units": UNITS,
        "volume_range": VOLUME_RANGE,
        "settings": {
            **settings,
            "versions": {package: ", ".join(sorted(v)) for package, v in sorted(versions.items())},
            "setups": dict(sorted(found.setups.items())),
        },
        "offsets": {symbol: energy for symbol, energy, *_ in _atoms(found.atoms)},
        "files": checksums(files),
    }


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[bytes, int]:
    return table(columns, [dict(zip(columns, row, strict=True)) for row in rows]), len(rows)


def _round(value: Any, digits: int) -> float:
    return round(float(value), digits)
