"""Learning curves of direct, delta and multi-fidelity models on DFT data, their error bars, and timings.

``python benchmarks/delta.py`` goes on where an earlier run ended: every result is one line of
``benchmarks/results/delta.jsonl``. ``--table`` prints what is there, ``--plot DIR`` draws it, ``--timing`` measures
training and prediction times instead (``--small`` in a few minutes; with ``--plot DIR`` it draws them).

Reference: energies, forces and stress of the displaced and strained crystals in ``references/gpaw-frames-pbe`` and
``gpaw-frames-r2scan``. Below them DFTB with dftbparam-2026.1. For each seed a quarter of the crystals, all copies of
them (or, where a system says so, whole compositions), is held out; the models are trained on n structures drawn from
the others, and judged on the energies of those held out, as they are, without any shift, and on forces and stress.

- direct: learns PBE from the n structures.
- delta: learns PBE - DFTB from the n structures.
- fidelity: co-kriging of two levels, DFTB of all structures (held-out ones too: it can always be computed), PBE of n.
- energies: as delta, from energies alone.

The second level: models of r2SCAN, judged on r2SCAN of held-out crystals.

- pbe: delta model of PBE, all structures of the other crystals; only the elements' offsets are fitted to n of r2SCAN.
- r2scan: delta model of the n.
- both: delta model of two levels, PBE of all structures of the other crystals and r2SCAN of n.
- nested: as both, and PBE of the held-out crystals too, as one would have it after computing the cheaper level first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from delta_timing import draw_times, skf_folder, timing
from threadpoolctl import threadpool_limits

from dftbparam.reference import reference_root

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # featomic's threads; read when it starts

RESULTS = Path(__file__).parent / "results" / "delta.jsonl"
SIZES = (5, 10, 20, 40)
SEEDS = range(5)
PARAMETERS = "dftbparam-2026.1"
CODE = 3
"""Raised when models or data change so that their errors do: rows of earlier code are measured anew."""
SYSTEMS: dict[str, dict[str, Any]] = {
    "Si": {"compositions": {"Si"}, "by": "crystal"},
    "Cu": {"compositions": {"Cu"}, "by": "crystal"},
    "oxides": {"compositions": {"MgO", "CaO", "OZn"}, "by": "crystal"},
    "hydrides": {"compositions": {"HLi", "CaH2", "H2Ti", "HPd", "BH"}, "by": "crystal"},
    "oxides, compositions": {
        "compositions": {"MgO", "CaO", "OZn"},
        "by": "composition",
        "held_out": ("MgO", "CaO", "OZn"),
    },
}
SECOND_NAME = "r2SCAN, Si"
METHODS = ("direct", "delta", "fidelity", "energies")
SECOND = ("pbe", "r2scan", "both", "nested")
LEVELS = {"PBE": "gpaw-frames-pbe", "r2SCAN": "gpaw-frames-r2scan"}


def data(cache: Path, level: str = "PBE") -> list[Any]:
    """Samples of all structures of a level, with DFTB's energy, forces and stress."""
    from dftbparam.delta.data import Base, differences, read_reference
    from dftbparam.engine.base import Settings

    by_elements: dict[tuple[str, ...], list[Any]] = {}
    for one in read_reference(LEVELS[level]):
        by_elements.setdefault(one.frame.elements, []).append(one)
    found = []
    for elements, frames in by_elements.items():
        base = Base(skf_folder(cache, elements, PARAMETERS), Settings(kpt_density=4.0))
        some = differences(frames, base, free_energy=True)
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


def low_level(sample: Any) -> Any:
    """DFTB of a structure as what is to be learnt."""
    from dataclasses import replace

    return replace(
        sample.without_base(), energy=sample.base_energy, forces=sample.base_forces, stress=sample.base_stress, level=0
    )


def run(method: str, train_on: list[Any], held_out: list[Any]) -> dict[str, Any]:
    """Train one model and judge it."""
    from dataclasses import replace

    from dftbparam.delta.model import Level

    start = time.process_time()
    if method == "delta":
        return judge(fitted(train_on), held_out, start)
    if method == "energies":
        return judge(fitted([replace(s, forces=None, stress=None) for s in train_on]), held_out, start)
    plain = [s.without_base() for s in held_out]
    if method == "direct":
        return judge(fitted([s.without_base() for s in train_on]), plain, start)
    every = {id(s): s for s in (*train_on, *held_out)}
    high = [replace(s.without_base(), level=1) for s in train_on]
    model = fitted([*map(low_level, every.values()), *high], (Level("DFTB", 0.01), Level("PBE")))
    return judge(model, plain, start)


def run_second(method: str, train_on: list[Any], held_out: list[Any], pbe: list[Any]) -> dict[str, Any]:
    """Train one model of r2SCAN and judge it; ``pbe`` are all samples of that level."""
    from dataclasses import replace

    from dftbparam.delta.model import Level

    start = time.process_time()
    out = {s.group for s in held_out}
    known = [s for s in pbe if s.group not in out]
    if method == "r2scan":
        return judge(fitted(train_on), held_out, start)
    if method == "pbe":
        model = fitted(known)
        shift = offsets(model, train_on)
        moved = [replace(s, energy=s.energy - sum(shift[n] for n in s.atoms.numbers)) for s in held_out]
        return judge(model, moved, start)
    low = pbe if method == "nested" else known
    model = fitted([*low, *(replace(s, level=1) for s in train_on)], (Level("PBE"), Level("r2SCAN", 3.0)))
    return judge(model, held_out, start)


def offsets(model: Any, samples: list[Any]) -> dict[int, float]:
    """Energy of each element, eV, that brings a model's predictions nearest to samples of another level."""
    numbers = sorted({int(n) for s in samples for n in s.atoms.numbers})
    counts = np.array([[np.sum(s.atoms.numbers == n) for n in numbers] for s in samples], dtype=float)
    sizes = counts.sum(axis=1)
    missing = np.array([s.energy - model.predict(s.atoms, derivatives=False).energy for s in samples])
    fitted_, *_ = np.linalg.lstsq(counts / sizes[:, None], missing / sizes, rcond=None)
    return dict(zip(numbers, map(float, fitted_), strict=True))


def fitted(samples: list[Any], levels: Any = None) -> Any:
    """A model with the options of the benchmark."""
    from dftbparam.delta.training import TrainingOptions, train

    options = TrainingOptions(compare=False, curves=False, inducing=400)
    return train(samples, options=options) if levels is None else train(samples, levels, options)


def judge(model: Any, held_out: list[Any], start: float) -> dict[str, Any]:
    """What is written down of a model."""
    from dftbparam.delta.evaluate import evaluate

    seconds = time.process_time() - start
    result = evaluate(model, held_out)
    scores = result.scores()
    cross = model.metrics["levels"][model.levels[-1].name]
    kept = ("structures", "rmse", "mae", "rmse_within_groups", "rmse_forces", "rmse_stress")
    return {
        **{k: scores[k] for k in (*kept, "within_one_std", "within_two_std", "outside", "mean_std")},
        "ratios": [round(float(r), 3) for r in result.errors / result.stds],
        "inside": [not flag for flag in result.outside],
        "cross_validated": cross["rmse"],
        "calibration": cross["calibration"],
        "kernel": [model.basis.kernel.kind, model.basis.kernel.length],
        "seconds": round(seconds, 2),
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
    """Measure what is missing."""
    samples = data(cache)
    high = data(cache, "r2SCAN") if (reference_root() / LEVELS["r2SCAN"]).is_dir() else []
    RESULTS.parent.mkdir(exist_ok=True)
    for seed in SEEDS:
        for name, system in SYSTEMS.items():
            if only and name not in only:
                continue
            rest, held_out = split(samples, system, seed)
            for n in [*(n for n in SIZES if n < 0.8 * len(rest)), len(rest)]:
                chosen = draw(rest, n, seed)
                for method in METHODS:
                    measure((name, method, seed, n == len(rest)), chosen, held_out, partial(run, method))
        if high and not (only and SECOND_NAME not in only):
            rest, held_out = split(high, SYSTEMS["Si"], seed)
            pbe = [s for s in samples if s.group in {h.group for h in high}]
            for n in [*(n for n in SIZES if n < 0.8 * len(rest)), len(rest)]:
                chosen = draw(rest, n, seed)
                for method in SECOND:
                    job = partial(run_second, method, pbe=pbe)
                    measure((SECOND_NAME, method, seed, n == len(rest)), chosen, held_out, job)


def measure(what: tuple[str, str, int, bool], chosen: list[Any], held_out: list[Any], job: Any) -> None:
    """Run one model, ``job(chosen, held_out)``, and append its row, unless it is there.

    ``what``: system, method, seed, and whether these are all structures there are.
    """
    name, method, seed, every = what
    key = (name, method, len(chosen), seed, CODE)
    if key in {(r["system"], r["method"], r["n"], r["seed"], r["code"]) for r in every_result()}:
        return
    row = {"system": name, "method": method, "n": len(chosen), "seed": seed, "all": every, "code": CODE}
    row["held_out"] = sorted({s.group for s in held_out})
    row |= job(chosen, held_out)
    with RESULTS.open("a") as handle:
        handle.write(json.dumps(row) + "\n")
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
    """Part of held-out errors within one and two standard deviations, by method, all numbers of structures."""
    found: dict[str, dict[str, Any]] = {}
    for method in (*METHODS, *SECOND[1:]):
        rows = [r for r in read_results() if r["method"] == method]
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
        (folder / f"delta-learning-{system.replace(', ', '-')}.png").write_bytes(render(plot_learning(system, methods)))
    parts = np.arange(1, 20) / 20.0
    curves = {
        name: [(float(p), float(np.mean(entry["ratios"] <= np.sqrt(2.0) * erfinv(p)))) for p in parts]
        for name, entry in calibration().items()
        if name.endswith("inside the domain")
    }
    if curves:
        figure = plot_calibration("held-out crystals", {name.split(",")[0]: curve for name, curve in curves.items()})
        (folder / "delta-calibration.png").write_bytes(render(figure))
    draw_times(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("delta-benchmark"), help="folder for Slater-Koster files")
    parser.add_argument("--only", nargs="*", help=f"of: {', '.join((*SYSTEMS, SECOND_NAME))}")
    parser.add_argument("--table", action="store_true", help="print what has been measured, and stop")
    parser.add_argument("--plot", type=Path, help="draw what has been measured into this folder, and stop")
    parser.add_argument("--timing", action="store_true", help="measure times instead")
    parser.add_argument("--small", action="store_true", help="with --timing: up to 400 structures, a few minutes")
    given = parser.parse_args()
    threadpool_limits(1)
    if given.timing:
        timing(given.cache, given.plot, given.small)
    elif given.plot is not None:
        plots(given.plot)
    else:
        if not given.table:
            learning_curves(given.cache, given.only)
        table()


if __name__ == "__main__":
    main()
