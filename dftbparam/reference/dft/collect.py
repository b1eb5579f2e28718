"""From finished calculations to a data set folder, compact enough to be kept under version control.

The folder's files are remade from all records each time, in a fixed order, so that the same records give the same
bytes. Layout: ``references/README.md``; beside it ``convergence.csv`` (what denser settings change).
"""

from __future__ import annotations

import io
import json
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from dftbparam.errors import StoreError
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
from dftbparam.reference.dft.curves import fit_curve
from dftbparam.reference.dft.recipe import GPAW
from dftbparam.reference.dft.tasks import Task
from dftbparam.reference.layout import CRYSTAL_COLUMNS, UNITS, VOLUME_RANGE, checksums, replace_file, table, toml

CONVERGENCE_FILE: Final = "convergence.csv"
README_FILE: Final = "README.md"
ATOM_COLUMNS: Final = ("symbol", "energy", "magnetic_moment", "status")
CONVERGENCE_COLUMNS: Final = ("symbol", "prototype", "setting", "value", "base_value", "energy", "change")


Entry = tuple[Task, Mapping[str, Any]]
"""A calculation and its record."""

WHOLE_FILES: Final = (CRYSTALS_FILE, POINTS_FILE, BANDS_FILE, ATOMS_FILE, CONVERGENCE_FILE, FRAMES_FILE)
"""What a collection writes, or deletes where it has nothing for it any more."""


@dataclass
class Collected:
    """What was written.

    Attributes
    ----------
    files
        Entries per file.
    failed, no_minimum
        Failed calculations, and curves without a minimum, with the reason.
    left_out
        Compounds with calculations of other settings, code versions or data sets than the ones taken, and how many.
    """

    files: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    no_minimum: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass
class _Found:
    """The calculations that go into the set, by what they are for."""

    curves: dict[tuple[str, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    bands: list[Entry] = field(default_factory=list)
    atoms: list[Entry] = field(default_factory=list)
    frames: list[Entry] = field(default_factory=list)
    convergence: list[Entry] = field(default_factory=list)
    finished: list[Entry] = field(default_factory=list)


def collect(archive: Archive, folder: Path, name: str | None = None) -> Collected:
    """Write the data set of an archive into ``folder``. Files that would be empty are deleted where they are.

    All entries of a compound have one recipe, code version and data sets, so that their energies can be compared; of
    several those with the most finished calculations are taken.

    Raises
    ------
    StoreError
        A record cannot be read, or a file not be written.
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
    if not files:
        return summary
    # The description comes last: until it is replaced, its checksums tell that the rest is newer.
    table = {**_description(found, name or folder.resolve().name, files), **_stated(folder)}
    description = toml(table).encode()
    try:
        for file, content in (
            *((file, content) for file, (content, _) in files.items()),
            (DESCRIPTION_FILE, description),
        ):
            replace_file(folder / file, content)
        for file in WHOLE_FILES:
            if file not in files:
                (folder / file).unlink(missing_ok=True)
        if not (folder / README_FILE).exists():
            replace_file(folder / README_FILE, _readme(table).encode())
    except OSError as error:
        raise StoreError(f"the data set cannot be written into {folder}: {error}") from None
    return summary


def _method(task: Task, record: Mapping[str, Any]) -> str:
    """Everything that energies to be compared must share."""
    code = record["versions"].get(task.recipe.code, "")
    return json.dumps([task.recipe.model_dump(mode="json"), code, record["result"].get("setups", {})], sort_keys=True)


def _sort(archive: Archive) -> tuple[_Found, Collected]:
    found, summary = _Found(), Collected()
    compounds: dict[str, list[Entry]] = defaultdict(list)
    entry: Entry
    for entry in archive.records():
        task = entry[0]
        if "/convergence/" in task.label:
            if entry[1].get("error") is None:
                found.convergence.append(entry)
            continue
        # An atom belongs to the element, whichever compound's recipe it was computed with.
        compounds[task.label if task.kind == "atom" else task.label.split("/")[0]].append(entry)
    for compound, own in compounds.items():
        counts = Counter(_method(*entry) for entry in own if entry[1].get("error") is None)
        chosen = max(counts, key=lambda method: (counts[method], method), default="")
        settings = json.loads(chosen)[0] if chosen else None
        if len(counts) > 1:
            summary.left_out[compound] = sum(counts.values()) - counts[chosen]
        for task, record in own:
            if record.get("error") is not None:
                if settings is not None and task.recipe.model_dump(mode="json") != settings:
                    continue
                summary.failed[task.label] = str(record["error"]["message"])
            elif _method(task, record) != chosen:
                continue
            else:
                found.finished.append((task, record))
            _file(found, task, record)
    return found, summary


def _file(found: _Found, task: Task, record: Mapping[str, Any]) -> None:
    """Put a calculation where it belongs; failed ones count in curves alone, where they are gaps."""
    compound, prototype = (*task.label.split("/"), "")[:2]
    if "/eos/" in task.label:
        found.curves[compound, prototype].append((task, record))
    elif record.get("error") is None:
        kinds = {"bands": found.bands, "atom": found.atoms, "forces": found.frames}
        kinds[task.kind].append((task, record))


def _curves(found: _Found, summary: Collected) -> tuple[list[list[Any]], list[list[Any]]]:
    """Rows of points.csv and data.csv."""
    points: list[list[Any]] = []
    crystals: list[list[Any]] = []
    for (compound, prototype), all_entries in sorted(found.curves.items()):
        symbol, _, partner = compound.partition("-")
        # Of one recipe there may be two meshes still, where the guess of the volume has changed.
        meshes: dict[tuple[int, int, int], dict[int, Entry]] = defaultdict(dict)
        for task, record in all_entries:
            meshes[task.kpts][int(task.details["grid"])] = (task, record)
        entries = max(meshes.items(), key=lambda item: (len(item[1]), item[0]))[1]
        volumes = {k: float(task.details["volume"]) for k, (task, _) in entries.items()}
        energies: dict[int, float | None] = {}
        rows: list[list[Any]] = []
        for k, (task, record) in sorted(entries.items()):
            result, n = record["result"], len(task.numbers)
            energies[k] = None if result is None else result["energy"] / n
            if result is not None:
                energy, free = _round(result["energy"] / n, 7), _round(result["energy_free"] / n, 7)
                rows.append([symbol, partner, prototype, _round(volumes[k], 6), energy, free])
        curve = fit_curve(volumes, energies)
        if curve.state.status == "searching":
            continue
        points += rows
        if curve.fit is None:
            summary.no_minimum[f"{compound}/{prototype}"] = curve.reason
            continue
        fit = curve.fit
        numbers = [_round(fit.v0, 5), _round(fit.b0, 6), _round(fit.b0_prime, 4), _round(fit.e0, 6)]
        # The spread between codes is not known: there is one code.
        crystals.append([symbol, partner, prototype, *numbers, 0, 1])
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


def _frames(entries: Sequence[Entry]) -> tuple[bytes, int]:
    """Extended xyz: energy at zero smearing, free energy, of which the forces are the derivative, forces, stress."""
    if not entries:
        return b"", 0
    from ase.calculators import singlepoint
    from ase.io import extxyz

    holds, write_extxyz = cast(Any, singlepoint.SinglePointCalculator), cast(Any, extxyz.write_extxyz)
    images = []
    for task, record in sorted(entries, key=lambda entry: entry[0].label):
        atoms: Any = task.atoms()
        atoms.pbc = task.pbc
        result = record["result"]
        numbers = {
            "energy": _round(result["energy"], 6),
            "free_energy": _round(result["energy_free"], 6),
            "forces": np.round(result["forces"], 6),
        }
        if all(task.pbc):
            numbers["stress"] = np.round(result["stress"], 8)
        atoms.calc = holds(atoms, **numbers)
        compound, prototype, *_ = task.label.split("/")
        # Structures of the user's have no prototype; "crystal" is what ties a frame to its E(V) curve.
        crystal = {"crystal": f"{compound} {prototype}"} if "prototype" in task.details else {}
        atoms.info = {
            "name": f"{compound} {prototype} {int(task.details['index']):04d}",
            "source": "dftbparam references compute",
            **crystal,
            "functional": task.recipe.functional,
            "code": task.recipe.code,
            "cutoff": task.recipe.cutoff,
            "smearing": task.recipe.smearing,
        }
        images.append(atoms)
    text = io.StringIO()
    write_extxyz(text, images)
    return text.getvalue().encode(), len(images)


def _description(found: _Found, name: str, files: Mapping[str, tuple[bytes, int]]) -> dict[str, Any]:
    """What dataset.toml says."""
    recipes = [task.recipe.model_dump(mode="json") for task, _ in found.finished]
    versions: dict[str, set[str]] = defaultdict(set)
    setups: dict[str, str] = {}
    # Of the crystals, not of the isolated atoms; where total energies have other cutoffs they cannot be compared.
    cutoffs: dict[str, float] = {}
    for task, record in sorted(found.finished, key=lambda entry: entry[0].label):
        if task.kind != "atom":
            cutoffs[task.label.split("/")[0]] = task.recipe.cutoff
        setups |= record["result"].get("setups", {})
        for package, version in record["versions"].items():
            versions[package].add(version)
    # Of another code than GPAW only what it was given: its options, and the mesh where these ask for it.
    if all(r["code"] != GPAW for r in recipes):
        used = ["code", "functional", "options"]
        used += ["kpoint_density"] if any("{kpts}" in r["options"].values() for r in recipes) else []
        recipes = [{key: r[key] for key in used} for r in recipes]
        cutoffs = {}
    # A setting that all calculations share is stated once; the others as the list of their values.
    values = {key: sorted({json.dumps(r[key]) for r in recipes}) for key in (recipes[0] if recipes else {})}
    settings: dict[str, Any] = {}
    for key, texts in values.items():
        found_values = sorted((json.loads(text) for text in texts), key=repr)
        if any(found_values):
            settings[key] = found_values[0] if len(found_values) == 1 else [_plain(v) for v in found_values]
    codes = sorted({r["code"] for r in recipes})
    return {
        "format": FORMAT_VERSION,
        "name": name,
        "title": f"Crystals, layers and chains computed with {', '.join(codes) or 'no code'}",
        "source": "dftbparam references compute",
        "doi": "",
        "licence": "not stated",
        "functional": ", ".join(sorted({r["functional"] for r in recipes})) or "none",
        "spin": "none",
        "energy_zero": "total energies as the code gives them; [offsets] has the isolated atoms",
        "version": "1",
        "units": UNITS,
        "volume_range": VOLUME_RANGE,
        "settings": {
            **settings,
            "versions": {package: ", ".join(sorted(v)) for package, v in sorted(versions.items())},
            "setups": dict(sorted(setups.items())),
            "cutoffs": cutoffs,
        },
        "offsets": {symbol: energy for symbol, energy, *_ in _atoms(found.atoms)},
        "files": checksums(files),
    }


def _plain(value: Any) -> Any:
    """Tables in a list become text: TOML's lists of tables are another thing."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _stated(folder: Path) -> dict[str, Any]:
    """What somebody has written about the set in its dataset.toml, and what a new collection keeps."""
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        return {}
    try:
        old = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); repair or delete it") from None
    return {key: str(old[key]) for key in ("name", "title", "source", "doi", "licence", "version") if key in old}


def _readme(table: Mapping[str, Any]) -> str:
    """A first README, for its owner to go on with."""
    return (
        f"# {table['name']}\n\n{table['title']}.\n\n- Source: {table['source']}\n- Licence: {table['licence']}\n"
        f"- Functional: {table['functional']}; spin: {table['spin']}\n- Energies: {table['energy_zero']}\n\n"
        "Settings, code versions and data sets are in `dataset.toml`, whose title, source, doi, licence and version "
        "you may edit: they are kept when the set is made again. `calculations/` holds the calculations themselves.\n"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[bytes, int]:
    return table(columns, [dict(zip(columns, row, strict=True)) for row in rows]), len(rows)


def _round(value: Any, digits: int) -> float:
    return round(float(value), digits)
