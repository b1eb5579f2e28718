"""One DFTB+ process a structure, or many structures through one process: what each costs.

    python benchmarks/dftbplus_processes.py [--repeat 3]

Seven volumes of several crystals, tables of the parameter set `ptbp`, one thread, in one run: a process a structure;
the same with the charges of the volume before (`reuse_charges`); the same with forces and stress; and one process that
is driven through a socket (i-PI protocol, ASE's server), which always computes forces and stress and hands back nothing
but energy, forces and stress. Ratios are to the first, and for the socket also to a process with derivatives.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.socketio import SocketServer
from ase.spacegroup import crystal
from threadpoolctl import threadpool_limits

from dftbparam.engine.base import Result, Settings
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.dftbplus_input import input_text
from dftbparam.engine.dftbplus_process import ONE_THREAD
from dftbparam.skf import SKSet, write_skf
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set
from dftbparam.units import HARTREE

SCALES = np.linspace(0.91, 1.09, 7)
"""Volumes relative to the middle one."""


def volumes(atoms: Atoms) -> list[Atoms]:
    """The structure at seven volumes."""
    out = []
    for scale in SCALES:
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array * scale ** (1 / 3), scale_atoms=True)
        out.append(copy)
    return out


def systems() -> list[tuple[str, Atoms, Settings]]:
    """Crystals from small and fast to large."""
    cristobalite = crystal(
        ["Si", "O"], [(0.3, 0.3, 0), (0.239, 0.104, 0.179)], spacegroup=92, cellpar=[4.97, 4.97, 6.93, 90, 90, 90]
    ).repeat((2, 2, 1))
    cristobalite.rattle(0.03, seed=1)
    return [
        ("Si diamond, 4x4x4", bulk("Si", "diamond", 5.43), Settings(kpts=(4, 4, 4))),
        ("Cu fcc, 12x12x12", bulk("Cu", "fcc", 3.61), Settings(kpts=(12, 12, 12))),
        ("MgO, 6x6x6", bulk("MgO", "rocksalt", 4.21), Settings(kpts=(6, 6, 6))),
        ("ZnO wurtzite, 4x4x3", bulk("ZnO", "wurtzite", 3.25, c=5.207), Settings(kpts=(4, 4, 3))),
        ("SiO2, 48 atoms, Gamma", cristobalite, Settings()),
    ]


def by_process(
    engine: DftbPlusEngine, tables: SKSet, atoms: list[Atoms], settings: Settings
) -> tuple[float, list[float]]:
    """Seconds, and free energies in Hartree."""
    start = time.perf_counter()
    results = engine.compute(tables, atoms, settings)
    spent = time.perf_counter() - start
    return spent, [r.free_energy for r in results if isinstance(r, Result)]


def by_socket(
    engine: DftbPlusEngine, tables: SKSet, atoms: list[Atoms], settings: Settings
) -> tuple[float, list[float]]:
    """Seconds, and the energies that the socket hands back (the free energy), in eV."""
    start = time.perf_counter()
    name = f"dftbparam_{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "skf").mkdir()
        for (a, b), file in tables.files.items():
            write_skf(folder / "skf" / f"{a}-{b}.skf", file)
        text = input_text(
            atoms[0], replace(settings, forces=True), release=engine.release(), max_angular=dict(tables.max_angular)
        )
        driver = (
            f'Driver = Socket {{\n  File = "{name}"\n  Protocol = i-PI {{}}\n  MaxSteps = 1000\n  Verbosity = 0\n}}\n'
        )
        (folder / "dftb_in.hsd").write_text(driver + text)
        with SocketServer(unixsocket=name, timeout=120.0) as server:  # type: ignore[no-untyped-call]
            with (folder / "out").open("w") as out:
                child = subprocess.Popen(
                    engine.command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **ONE_THREAD}
                )
            found: list[dict[str, Any]] = [server.calculate(one) for one in atoms]  # type: ignore[no-untyped-call]
        child.wait(30)
    return time.perf_counter() - start, [r["energy"] for r in found]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    engine = DftbPlusEngine()
    print(", ".join(f"{name} {version}" for name, version in engine.versions().items()))
    ptbp = load_parameter_set("ptbp")
    heads = ("process, s", "reuse", "forces", "socket", "socket/forces", "apart, eV")
    print(f"{'7 volumes of':24s} " + " ".join(f"{head:>13s}" for head in heads))
    for name, atoms, settings in systems():
        tables = build_tables(ptbp, sorted(set(atoms.symbols)))
        curve = volumes(atoms)
        ways = {
            "process": (by_process, settings),
            "reuse": (by_process, replace(settings, reuse_charges=True)),
            "forces": (by_process, replace(settings, forces=True, stress=True)),
            "socket": (by_socket, settings),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        energies: dict[str, list[float]] = {}
        for _ in range(options.repeat):
            for way, (run, chosen) in ways.items():
                spent, energies[way] = run(engine, tables, curve, chosen)
                times[way].append(spent)
        t = {way: statistics.median(values) for way, values in times.items()}
        apart = float(np.abs(np.array(energies["socket"]) - np.array(energies["process"]) * HARTREE).max())
        ratios = [t[way] / t["process"] for way in ("reuse", "forces", "socket")] + [t["socket"] / t["forces"]]
        cells = [f"{t['process']:13.3f}", *(f"{ratio:13.2f}" for ratio in ratios), f"{apart:13.0e}"]
        print(f"{name:24s} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
