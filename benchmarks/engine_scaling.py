"""Time of both engines against the number of atoms (2 to 500) and of k-points, one thread each, in one run.

    python benchmarks/engine_scaling.py [--quick] [--out docs/figures]

Atoms: silicon carbide supercells, all atoms moved, Gamma, SCC to 1e-5 electrons, energy and forces. k-points: rutile
(6 atoms, one moved, so that symmetry helps nobody), n x n x n meshes. Tables are those of the parameter set `ptbp`. The
slopes printed are exponents of a power law through the last three points. Writes engine_scaling.png and .json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal
from threadpoolctl import threadpool_limits

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

SHAPES = {2: (1, 1, 1), 8: (2, 2, 1), 16: (2, 2, 2), 36: (3, 3, 2), 54: (3, 3, 3), 96: (4, 4, 3), 128: (4, 4, 4),
          200: (5, 5, 4), 300: (5, 6, 5), 500: (5, 10, 5)}  # fmt: skip
"""Atoms and the supercell that has them."""

MESHES = (1, 2, 3, 4, 6, 8, 10)
QUICK_ATOMS = 100
QUICK_MESH = 4


def carbide(shape: tuple[int, int, int]) -> Atoms:
    """A supercell of zinc-blende SiC, its atoms moved by some 0.05 Angstrom."""
    atoms = make_supercell(bulk("SiC", "zincblende", 4.36), np.diag(shape))
    atoms.rattle(0.05, seed=1)
    return atoms


def moved_rutile() -> Atoms:
    """Rutile with one atom off its place."""
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    atoms = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell)
    atoms.positions[0] += [0.05, 0.03, 0.02]
    return atoms


def seconds(engine: Engine, tables: Any, atoms: Atoms, settings: Settings) -> tuple[float, int]:
    """Best of up to three calls (one where it takes longer than 5 s), and diagonalisations."""
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        result = engine.compute(tables, [atoms], settings)[0]
        best = min(best, time.perf_counter() - start)
        if not isinstance(result, Result):
            sys.exit(f"{engine.name}, {len(atoms)} atoms: {result}")
        if best > 5.0:
            break
    return best, result.scc_iterations


def slope(rows: list[dict[str, float]], x: str, y: str) -> float:
    """Exponent of a power law through the last three points."""
    last = rows[-3:]
    return float(np.polyfit([math.log(r[x]) for r in last], [math.log(r[y]) for r in last], 1)[0])


def main() -> None:
    """Run the benchmark, print its tables, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cells and meshes alone")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    engines: dict[str, Engine] = {"embedded": EmbeddedEngine()}
    try:
        from dftbparam.engine.dftbplus import DftbPlusEngine

        engines["dftb+"] = DftbPlusEngine()
    except EngineMissing as error:
        print(f"SKIPPED: DFTB+: {error}")
    ptbp = load_parameter_set("ptbp")
    by_atoms: list[dict[str, float]] = []
    tables = build_tables(ptbp, ["Si", "C"])
    settings = Settings(scc_tolerance=1e-5, forces=True, temperature=300.0)
    for n, shape in SHAPES.items():
        if options.quick and n > QUICK_ATOMS:
            break
        row: dict[str, float] = {"atoms": n}
        for name, engine in engines.items():
            row[name], row[f"{name} iterations"] = seconds(engine, tables, carbide(shape), settings)
        by_atoms.append(row)
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    by_mesh: list[dict[str, float]] = []
    tables = build_tables(ptbp, ["Ti", "O"])
    for n in MESHES:
        if options.quick and n > QUICK_MESH:
            break
        row = {"k-points": n**3}
        for name, engine in engines.items():
            chosen = Settings(kpts=(n, n, n), scc_tolerance=1e-5)
            row[name], row[f"{name} iterations"] = seconds(engine, tables, moved_rutile(), chosen)
        by_mesh.append(row)
        print("  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    exponents = {
        name: {"atoms": slope(by_atoms, "atoms", name), "k-points": slope(by_mesh, "k-points", name)}
        for name in engines
    }
    print("exponents:", exponents)
    options.out.mkdir(parents=True, exist_ok=True)
    versions = {name: engine.versions() for name, engine in engines.items()}
    data = {"versions": versions, "atoms": by_atoms, "k-points": by_mesh, "exponents": exponents}
    (options.out / "engine_scaling.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    draw(data, list(engines), options.out / "engine_scaling.png")


def draw(data: dict[str, Any], names: list[str], path: Path) -> None:
    """Draw both dependences, each with double logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, x in zip(axes, ("atoms", "k-points"), strict=True):
        for name, mark, colour in zip(names, "os", ("tab:blue", "tab:orange"), strict=False):
            label = f"{name}: exponent {data['exponents'][name][x]:.1f}"
            axis.loglog([r[x] for r in data[x]], [r[name] for r in data[x]], mark + "-", color=colour, label=label)
        axis.set_xlabel("atoms (SiC, Γ, SCC, forces)" if x == "atoms" else "k-points of the mesh (TiO₂, 6 atoms, SCC)")
        axis.set_ylabel("time of one structure, s")
        axis.grid(True, which="both", alpha=0.25)
        axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
