"""Times of delta models: training, and prediction against atoms and training structures; see ``delta.py --timing``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

TIMES = Path(__file__).parent / "results" / "delta-timing.json"
FULL_TIMING = ((100, 100), (200, 200), (500, 500), (1000, 600), (2000, 200), (2000, 600), (2000, 1000))
"""Structures and inducing environments."""
SMALL_TIMING = ((25, 200), (100, 200), (300, 50), (300, 200))
TIMED_CELLS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (3, 3, 2))
"""Of eight atoms each."""


def timing(cache: Path, folder: Path | None, small: bool) -> None:
    """Training and prediction times against structures, inducing environments and atoms; DFTB beside it.

    Written to `TIMES` and, as a plot, into ``folder``. Seconds of one processor: the least of three repetitions.
    """
    from dftbparam.delta.kernels import RadialKernel
    from dftbparam.delta.training import TrainingOptions, train

    sizes = SMALL_TIMING if small else FULL_TIMING
    samples = timing_samples(max(count for count, _ in sizes))
    boxes = {len(atoms): atoms for atoms in map(timing_box, TIMED_CELLS)}
    found: dict[str, Any] = {"machine": machine(), "models": [], "dftb": []}
    print("structures  inducing  training, s  energy and forces of " + " / ".join(map(str, boxes)) + " atoms, s")
    for count, inducing in sizes:
        start = time.process_time()
        options = TrainingOptions(inducing=inducing, kernels=(RadialKernel("matern52", 2.0),))
        model = train(samples[:count], options=options)
        row = {"structures": count, "inducing": model.basis.size, "training": time.process_time() - start}
        model.predict(boxes[min(boxes)])
        row["prediction"] = [
            [n, least(lambda atoms=atoms, model=model: model.predict(atoms))] for n, atoms in boxes.items()
        ]
        found["models"].append(row)
        cells = " / ".join(f"{t:.3f}" for _, t in row["prediction"])
        print(f"{count:9d} {row['inducing']:9d} {row['training']:12.1f}  {cells}", flush=True)
    found["dftb"] = dftb_times(cache, {n: atoms for n, atoms in boxes.items() if n <= 64})
    print("DFTB: " + ", ".join(f"{n} atoms {t:.3f} s" for n, t in found["dftb"]))
    TIMES.write_text(json.dumps(found, indent=1) + "\n")
    if folder is not None:
        draw_times(folder)


def draw_times(folder: Path) -> None:
    """Draw what was measured last; nothing where nothing was."""
    from dftbparam.report import plot_times, render

    if TIMES.exists():
        figure = plot_times(*times_content(json.loads(TIMES.read_text())))
        (folder / "delta-timing.png").write_bytes(render(figure))


def times_content(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Curves of the plot: times against atoms, and against training structures."""
    models = found["models"]
    most = max(row["structures"] for row in models)
    by_atoms = {
        f"correction, {row['inducing']} inducing environments": row["prediction"]
        for row in models
        if row["structures"] == most
    }
    by_atoms["DFTB (PTBP, MgO)"] = found["dftb"]
    # Of models that differ in the number of structures alone.
    largest: dict[int, Any] = {}
    for row in models:
        kept = largest.setdefault(row["structures"], row)
        largest[row["structures"]] = row if row["inducing"] > kept["inducing"] else kept
    rows = [largest[n] for n in sorted(largest)]
    by_size = {
        "training": [[row["structures"], row["training"]] for row in rows],
        "energy and forces of 64 atoms": [[row["structures"], dict(map(tuple, row["prediction"]))[64]] for row in rows],
    }
    return by_atoms, by_size


def timing_samples(count: int) -> list[Any]:
    """Displaced cells of two elements, 7 atoms on average, with energies, forces and stress of a pair potential."""
    from ase.build import bulk
    from ase.calculators.lj import LennardJones

    from dftbparam.delta.statistics import Sample

    rng = np.random.default_rng(0)
    samples = []
    for k in range(count):
        name, a = (("rocksalt", 4.25), ("zincblende", 4.65), ("cesiumchloride", 2.65))[k % 3]
        atoms = bulk("MgO", name, a=a * rng.uniform(0.95, 1.08)).repeat(tuple(rng.integers(1, 3, size=3)))
        atoms.rattle(0.08, seed=k)
        atoms.calc = LennardJones(sigma=1.6, epsilon=0.3, rc=4.5, ro=3.0, smooth=True)
        values = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        samples.append(Sample(atoms.copy(), *values, group=f"{name}-{k % 9}"))
    return samples


def timing_box(repeat: tuple[int, int, int]) -> Any:
    """Displaced rocksalt MgO, eight atoms a cell."""
    from ase.build import bulk

    atoms = bulk("MgO", "rocksalt", a=4.25, cubic=True).repeat(repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def dftb_times(cache: Path, boxes: dict[int, Any]) -> list[list[float]]:
    """Energy and forces of DFTB with PTBP's parameters at the Gamma point, as in dynamics of such boxes."""
    from dftbparam.delta.data import Base
    from dftbparam.engine.base import Settings

    base = Base(skf_folder(cache, ("Mg", "O")), Settings())
    found = []
    for n, atoms in boxes.items():
        base.compute([atoms], derivatives=True)  # compiles
        found.append([n, least(lambda atoms=atoms: base.compute([atoms], derivatives=True))])
    return found


def least(call: Any) -> float:
    """Seconds of processor time, the least of three: what the call costs where nothing disturbs it."""
    times = []
    for _ in range(3):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def machine() -> str:
    import platform

    return f"{platform.machine()}, Python {platform.python_version()}, one thread, {time.strftime('%Y-%m-%d')}"


def skf_folder(cache: Path, elements: tuple[str, ...], parameters: str = "ptbp") -> Path:
    """Slater-Koster files of a parameter set for some elements, built once."""
    from dftbparam.skf import write_skf
    from dftbparam.slako.build import build_tables
    from dftbparam.space import load_parameter_set

    folder = cache / parameters / "-".join(elements)
    if not folder.is_dir():
        tables = build_tables(load_parameter_set(parameters), elements)
        folder.mkdir(parents=True)
        for (a, b), file in tables.files.items():
            write_skf(folder / f"{a}-{b}.skf", file)
    return folder
