"""Diagonalisations until self-consistency, embedded engine against DFTB+: easy structures, and charge that sloshes.

    python benchmarks/scc_convergence.py [--engine embedded|dftb+|both] [--json FILE]

Tables are those of the parameter set `ptbp`, built here; the tolerance is 1e-7 electrons for both engines, at most 300
diagonalisations. A number counts; a word says how it ended instead. DFTB+ uses its default mixer (Broyden, 0.2).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.cluster import Icosahedron
from ase.spacegroup import crystal
from threadpoolctl import threadpool_limits

from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.factory import make_engine
from dftbparam.engine.hamiltonian import Spin, ThirdOrder
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

PLAIN = Settings(scc_tolerance=1e-7, max_scc_iterations=300, temperature=300.0)

CONSTANTS = Spin(
    {
        "O": ((-0.035, -0.030), (-0.030, -0.028)),
        "Fe": ((-0.016, -0.012, -0.003), (-0.012, -0.029, -0.001), (-0.003, -0.001, -0.015)),
    }
)
"""Spin constants in Hartree of a size that is usual for these elements; here only the way to the end counts."""

DERIVATIVES = ThirdOrder({"O": -0.1575, "H": -0.1857})
"""Hubbard derivatives of the set 3ob."""


def slab(element: str, a: float, layers: int, vacuum: float) -> Atoms:
    """An fcc(111) slab, periodic in all directions, its atoms moved a little."""
    atoms = fcc111(element, (1, 1, layers), a=a, vacuum=vacuum)
    atoms.pbc = True
    atoms.rattle(0.02, seed=1)
    return atoms


def cases() -> Iterator[tuple[str, Atoms, Settings]]:
    """Name, structure and settings, the elements of which `ptbp` has."""
    yield "H2O", molecule("H2O"), PLAIN
    yield "C6H6", molecule("C6H6"), PLAIN
    yield "NO2, 1 K", molecule("NO2"), replace(PLAIN, temperature=1.0)
    yield "C60, charge -1", molecule("C60"), replace(PLAIN, charge=-1.0)
    warm = replace(PLAIN, temperature=1000.0)
    zno = replace(warm, kpt_density=3.0)
    yield "ZnO rock salt", bulk("ZnO", "rocksalt", 4.27), zno
    yield "ZnO CsCl", bulk("ZnO", "cesiumchloride", 2.67), zno
    yield "ZnO zinc blende", bulk("ZnO", "zincblende", 4.57), zno
    wurtzite = bulk("ZnO", "wurtzite", a=3.25, c=5.207)
    yield "ZnO wurtzite", wurtzite, zno
    polar = wurtzite.repeat((1, 1, 6))
    polar.cell[2, 2] += 15.0
    yield "ZnO polar slab", polar, replace(PLAIN, kpts=(4, 4, 1))
    rutile = crystal(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    )
    yield "TiO2 rutile", rutile, replace(PLAIN, kpts=(2, 2, 3))
    yield "TiO2, shell-resolved", rutile, replace(PLAIN, kpts=(2, 2, 3), shell_resolved=True)
    large = rutile.repeat((2, 2, 3))
    large.rattle(0.05, seed=1)
    yield "TiO2, 72 atoms", large, PLAIN
    yield "TiO2, 50 of them", large[:50], PLAIN
    yield "Al slab, 20 layers", slab("Al", 4.05, 20, 8.0), replace(PLAIN, kpts=(6, 6, 1))
    copper = fcc111("Cu", (2, 2, 4), a=3.61, vacuum=8.0)
    copper.pbc = True
    add_adsorbate(copper, "O", 1.2, "fcc")
    yield "O on Cu(111)", copper, replace(PLAIN, kpts=(3, 3, 1))
    iron = bulk("Fe", "bcc", 2.87, cubic=True)
    iron.set_initial_magnetic_moments([2.0, -2.0])
    magnetic = replace(warm, spin=CONSTANTS, shell_resolved=True)
    yield "Fe, antiferromagnetic", iron, replace(magnetic, kpts=(6, 6, 6))
    oxide = bulk("FeO", "rocksalt", 4.3, cubic=True)
    oxide.set_initial_magnetic_moments([3.0 if s == "Fe" else 0.0 for s in oxide.symbols])
    yield "FeO, ferromagnetic", oxide, replace(magnetic, kpts=(3, 3, 3))
    cluster = bulk("Fe", "bcc", 2.87, cubic=True).repeat((2, 2, 2))
    cluster.pbc = False
    cluster.rattle(0.1, seed=3)
    yield "Fe16, 50 K", cluster, replace(PLAIN, temperature=50.0)
    spinning = cluster.copy()
    spinning.set_initial_magnetic_moments([2.0] * 16)
    yield "Fe16, spin", spinning, replace(PLAIN, spin=CONSTANTS)
    icosahedron = Icosahedron("Ti", 2, latticeconstant=4.1)
    yield "Ti13, 50 K", icosahedron, replace(PLAIN, temperature=50.0)
    yield "TiO+, 300 K", Atoms("TiO", [[0, 0, 0], [0, 0, 1.7]]), replace(PLAIN, charge=1.0)
    ice = molecule("H2O")
    ice.set_cell([[4.3, 0.2, 0], [0.3, 4.5, 0.4], [0, 0.5, 4.2]])
    ice.pbc = True
    third = replace(PLAIN, kpts=(2, 1, 2), third_order=DERIVATIVES, hydrogen_damping=4.0)
    yield "H2O in a cell, DFTB3", ice, third


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("embedded", "dftb+", "both"), default="both")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    names = ["embedded", "dftb+"] if options.engine == "both" else [options.engine]
    engines: list[Engine] = [make_engine(name) for name in names]
    print(f"{'structure':24s} {'atoms':>5s} " + " ".join(f"{name:>16s}" for name in names))
    ptbp, rows = load_parameter_set("ptbp"), []
    for name, atoms, settings in cases():
        tables = build_tables(ptbp, sorted(set(atoms.symbols)))
        row: dict[str, object] = {"structure": name, "atoms": len(atoms)}
        for engine in engines:
            start = time.perf_counter()
            result = engine.compute(tables, [atoms], settings)[0]
            good = isinstance(result, Result)
            row[engine.name] = result.scc_iterations if good else type(result).__name__
            row[f"{engine.name}, s"] = round(time.perf_counter() - start, 2)
            row[f"{engine.name}, Hartree"] = round(result.free_energy, 6) if good else None
        rows.append(row)
        print(f"{name:24s} {len(atoms):5d} " + " ".join(f"{row[n]!s:>16s}" for n in names), flush=True)
    if options.json is not None:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        temporary.replace(options.json)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
