"""Time of the embedded engine against DFTB+: batches as a fit needs them, and one large cell.

    python benchmarks/engine_vs_dftbplus.py [--density 3] [--repeat 3] [--json FILE] [--skip-large]

Batches: 4 crystals x 7 volumes of Si, Cu, W (simple cubic, bcc, fcc, diamond) and ZnO (rock salt, CsCl, zinc blende,
wurtzite), energies alone, the same k-points for both engines. Large cell: 200 atoms of rutile TiO2, all moved, SCC at
Gamma. Tables are those of the parameter set `ptbp`, built here. Both engines run on one core, turn by turn in one run,
so that whatever else the machine does falls on both; the embedded engine is warm (compiled), DFTB+ is called once a
structure, as its driver does. Ratios are of medians. Without DFTB+ its columns say so.

The last table says where the embedded engine's time goes, the eigensolver (LAPACK) first. ZnO has charges: its second
row starts each volume from those of the one before (`reuse_charges`), in the embedded engine alone.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal
from threadpoolctl import threadpool_limits

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set
from dftbparam.units import HARTREE

SCALES = np.linspace(0.88, 1.12, 7)
"""Volumes as fractions of the middle one."""

ATOMS_IN_CUBE = {"sc": 1.0, "bcc": 2.0, "fcc": 4.0, "diamond": 8.0}

SPACIOUS = {"sc": 1.1, "bcc": 1.0, "fcc": 1.0, "diamond": 1.5}
"""Volume per atom relative to close packing: diamond is open."""

VOLUMES = {"Si": 14.5, "Cu": 12.0, "W": 16.2}
"""Cubic Angstrom per atom of fcc."""

PARTS = {
    "eigensolver": ("solve",),
    "H(k), S(k)": ("sums", "chunks"),
    "pairs and blocks": ("find_pairs", "build_blocks"),
    "density, populations": ("density",),
    "gamma": ("gamma_matrix",),
    "k-points, symmetry": ("reduced_mesh",),
    "filling": ("fill",),
    "repulsion": ("pair_terms",),
}
"""Functions whose cumulative time makes up each part."""


def elemental(element: str) -> list[Atoms]:
    """Seven volumes of each of four crystals."""
    return [
        bulk(element, name, (n * VOLUMES[element] * SPACIOUS[name] * scale) ** (1 / 3))
        for name, n in ATOMS_IN_CUBE.items()
        for scale in SCALES
    ]


def zinc_oxide() -> list[Atoms]:
    """Seven volumes of rock salt, CsCl, zinc blende and wurtzite."""
    v = 23.8 * SCALES  # Å^3 per formula unit of wurtzite
    hexagonal = (2 * v / (np.sqrt(0.75) * 1.602)) ** (1 / 3)
    return [
        *(bulk("ZnO", "rocksalt", a) for a in (4 * 0.82 * v) ** (1 / 3)),
        *(bulk("ZnO", "cesiumchloride", a) for a in (0.80 * v) ** (1 / 3)),
        *(bulk("ZnO", "zincblende", a) for a in (4 * v) ** (1 / 3)),
        *(bulk("ZnO", "wurtzite", a=a, c=1.602 * a) for a in hexagonal),
    ]


def rutile(repeat: tuple[int, int, int], seed: int = 1) -> Atoms:
    """A supercell of rutile, every atom moved by some 0.05 Angstrom."""
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    atoms = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell).repeat(repeat)
    atoms.rattle(0.05, seed=seed)
    return atoms


def timed(engine: Engine, tables: Any, atoms: list[Atoms], settings: Settings) -> tuple[float, list[Result]]:
    """Seconds for one call, and its results."""
    start = time.perf_counter()
    results = engine.compute(tables, atoms, settings)
    seconds = time.perf_counter() - start
    good = [r for r in results if isinstance(r, Result)]
    if len(good) < len(results):
        sys.exit(f"{engine.name}: {next(r for r in results if not isinstance(r, Result))}")
    return seconds, good


def where_time_goes(tables: Any, atoms: list[Atoms], settings: Settings) -> dict[str, float]:
    """Shares of one call of the embedded engine."""
    profile = cProfile.Profile()
    profile.enable()
    EmbeddedEngine().compute(tables, atoms, settings)
    profile.disable()
    stats = pstats.Stats(profile)
    total: float = stats.total_tt  # type: ignore[attr-defined]
    found = dict.fromkeys(PARTS, 0.0)
    for (path, _, name), (_, _, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        for part, names in PARTS.items():
            if "embedded" in path and name in names:
                found[part] += cumulative
    shares = {part: value / total for part, value in found.items()}
    return {**shares, "the rest": max(0.0, 1.0 - sum(shares.values()))}


def compare(
    name: str, tables: Any, atoms: list[Atoms], settings: Settings, engines: dict[str, Engine], repeat: int
) -> dict[str, Any]:
    """Run one batch on all engines, turn by turn."""
    fresh = replace(settings, reuse_charges=False)
    each = {key: settings if key == "embedded" else fresh for key in engines}
    for key, engine in engines.items():
        timed(engine, tables, atoms[::7], each[key])
    seconds: dict[str, list[float]] = {engine: [] for engine in engines}
    results: dict[str, list[Result]] = {}
    for _ in range(repeat):
        for key, engine in engines.items():
            spent, results[key] = timed(engine, tables, atoms, each[key])
            seconds[key].append(spent)
    row: dict[str, Any] = {"batch": name, "structures": len(atoms), "atoms": max(len(a) for a in atoms)}
    for key, times in seconds.items():
        row[key] = statistics.median(times)
        row[f"{key} iterations"] = statistics.mean(r.scc_iterations for r in results[key])
    if len(engines) == 2:
        ours, theirs = (results[key] for key in engines)
        row["times faster"] = row["dftb+"] / row["embedded"]
        row["apart, eV/atom"] = max(
            abs(a.energy - b.energy) / len(c) * HARTREE for a, b, c in zip(ours, theirs, atoms, strict=True)
        )
    row["where"] = where_time_goes(tables, atoms, settings)
    return row


def show(rows: list[dict[str, Any]]) -> None:
    """Print the tables."""
    print(
        f"\n{'batch':10s} {'embedded, s':>12s} {'DFTB+, s':>10s} {'x faster':>9s} {'iterations':>12s} {'eV/atom':>9s}"
    )
    for row in rows:
        theirs = f"{row['dftb+']:10.3f} {row['times faster']:9.1f}" if "dftb+" in row else f"{'skipped':>10s} {'':9s}"
        iterations = f"{row['embedded iterations']:.1f}/{row.get('dftb+ iterations', float('nan')):.1f}"
        apart = f"{row['apart, eV/atom']:9.0e}" if "dftb+" in row else ""
        print(f"{row['batch']:10s} {row['embedded']:12.3f} {theirs} {iterations:>12s} {apart}")
    print("\nshare of the embedded engine's time, %")
    print(f"{'batch':10s} " + " ".join(f"{part:>20s}" for part in rows[0]["where"]))
    for row in rows:
        print(f"{row['batch']:10s} " + " ".join(f"{100 * share:20.0f}" for share in row["where"].values()))


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=3.0, help="k-points per 1/Å of |2 pi b|")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--skip-large", action="store_true", help="leave out the cell of 200 atoms")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()

    engines: dict[str, Engine] = {"embedded": EmbeddedEngine()}
    try:
        from dftbparam.engine.dftbplus import DftbPlusEngine

        engines["dftb+"] = DftbPlusEngine()
    except EngineMissing as error:
        print(f"SKIPPED: the comparison with DFTB+: {error}")
    for engine in engines.values():
        print(", ".join(f"{name} {version}" for name, version in engine.versions().items()))

    ptbp = load_parameter_set("ptbp")
    settings = Settings(kpt_density=options.density)
    rows = [
        compare(element, build_tables(ptbp, [element]), elemental(element), settings, engines, options.repeat)
        for element in VOLUMES
    ]
    zno = build_tables(ptbp, ["Zn", "O"])
    for name, reuse in (("ZnO", False), ("ZnO, reuse", True)):
        chosen = replace(settings, reuse_charges=reuse)
        rows.append(compare(name, zno, zinc_oxide(), chosen, engines, options.repeat))
    if not options.skip_large:
        large = rutile((3, 3, 4))[:200]
        gamma = Settings(temperature=300.0)
        rows.append(compare("200 atoms", build_tables(ptbp, ["Ti", "O"]), [large], gamma, engines, options.repeat))
    show(rows)
    if options.json is not None:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        temporary.replace(options.json)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
