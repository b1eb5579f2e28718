"""Which proposer finds good parameters in the fewest evaluations, and in the least time.

Problems: *planted* ones, whose reference E(V) curves come from tables with known radii and repulsion (the optimum is
known), and *real* fits of single elements to the default references, with and without the starting points that
``dftbparam fit`` begins with. Serial: one evaluation at a time, every proposal sees all results. Times are processor
time of one thread, proposals and evaluations apart: the wall time of a machine with nothing else to do. Points that
several proposers have in common, the initial design of a seed above all, are evaluated once, and the time that took is
charged to each of them.

Results are appended to benchmarks/results/proposers.jsonl, a line per problem, proposer and seed; what is there is not
computed again, so that the run can be stopped and taken up at any time. All proposers come for a seed before the next.

    python benchmarks/proposers.py run [--minutes 60] [--seeds 10] [--proposers skopt,sobol] [--problems Si,W]
    python benchmarks/proposers.py time                 how long proposals take, by length of the history and block
    python benchmarks/proposers.py show [--write]       the tables; --write puts them into docs/search.md, with figures
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dftbparam.campaign.evaluate import (
    FitContext,
    electronic_energies,
    evaluate,
    pair_curves,
    parameters_of,
    repulsion_search,
    tables_of,
)
from dftbparam.campaign.fit import FitRequest, plan_fit, published_card
from dftbparam.campaign.state import CampaignState
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError, EngineMissing
from dftbparam.propose import proposer
from dftbparam.reference import fit_birch_murnaghan
from dftbparam.slako.build import build_tables
from dftbparam.space import SearchSpace, load_parameter_set

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "proposers.jsonl"
TIMES = ROOT / "benchmarks" / "results" / "proposer-times.json"
PAGE = ROOT / "docs" / "search.md"
FIGURES = ROOT / "docs" / "figures"

PROPOSERS = ("skopt", "sobol", "cmaes", "botorch", "turbo")
WITH_STARTS = ("skopt", "sobol", "botorch")
"""Starting points leave a search of thirty evaluations little to do: the two that are to be compared, and Sobol."""
ELEMENTS = ("Si", "Cu", "W", "Ti", "O")
EVALUATIONS = 30
PLANTED_VOLUMES = (0.60, 0.70, 0.80, 0.88, 0.94, 1.00, 1.06, 1.12, 1.25, 1.40, 1.60)

# Inside the ranges, and far from every starting point.
PLANTED = {
    "radius_3s": 3.6,
    "radius_3p": 4.4,
    "radius_3d": 5.2,
    "radius_density": 7.0,
    "power": 3.0,
    "shift_3d": 0.05,
}

Point = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class FewVolumes(FitContext):
    """A fit that sees its curves at eleven volumes."""

    @property
    def volumes(self) -> tuple[float, ...]:
        """Eleven, not twenty-five."""
        return PLANTED_VOLUMES


@dataclass
class Problem:
    """A space to search and what to minimise; ``level`` is the objective to reach (published, or planted optimum)."""

    name: str
    space: SearchSpace
    context: FitContext
    starts: Sequence[Mapping[str, Any]]
    level: float
    known: dict[Point, tuple[float | None, float]] = field(default_factory=dict)

    def __call__(self, x: Point) -> tuple[float | None, float]:
        """Objective, None for a failure, and the seconds it took."""
        if x not in self.known:
            begun = time.process_time()
            try:
                value = evaluate(self.space.from_unit(x), self.context).objective
            except CalculationError:
                value = None
            self.known[x] = (value, time.process_time() - begun)
        return self.known[x]


@cache
def problem(name: str) -> Problem:
    """Make a problem: an element, or ``planted-4`` or ``planted-6`` by the number of parameters."""
    return _planted(int(name[-1])) if name.startswith("planted") else _real(name)


def _real(symbol: str) -> Problem:
    plan = plan_fit(FitRequest(symbol=symbol, out=Path("unused")))
    engine = make_engine("embedded", command=None, keep="never")
    card = published_card(symbol, plan.data, engine)
    assert card is not None
    search = repulsion_search(plan.context)
    tables = build_tables(load_parameter_set("ptbp"), [symbol])
    level = search.objective.of_card(card, search.wall(pair_curves(tables, search.dimers, engine)))
    made = Problem(symbol, plan.space.space, plan.context, [dict(start.values) for start in plan.starts], level)
    if made.starts:
        made(tuple(made.space.to_unit(made.starts[0])))  # compiles, and fills the caches of every evaluation
        made.known.clear()
    return made


def _planted(dimensions: int) -> Problem:
    """Silicon with curves from its own tables: a parameter search that can end at zero but for the fits' windows."""
    plan = plan_fit(FitRequest(symbol="Si", out=Path("unused")))
    crystals = tuple(c for c in plan.context.references if c.prototype in ("diamond", "fcc"))
    names = list(PLANTED)[:dimensions]
    fixed = {name: value for name, value in PLANTED.items() if name not in names}
    base = FewVolumes(symbol="Si", references=crystals, functional=plan.context.functional, fixed=fixed)
    truth = {name: PLANTED[name] for name in names}
    # The repulsion that suits these radii best makes crystals of the usual size.
    search = repulsion_search(base)
    tables = tables_of(base, parameters_of(base, truth), repulsion=False)
    engine = make_engine("embedded", command=None, keep="never")
    electronic, _ = electronic_energies(tables, base, search.objective.volumes, engine)
    dimers = pair_curves(tables, search.dimers, engine, repulsion=False)
    total = electronic + search.fit(electronic, dimers).energies
    made = []
    for crystal, volumes, energies in zip(crystals, search.objective.volumes, total, strict=True):
        lowest = int(np.argmin(energies))
        window = slice(max(lowest - 3, 0), max(lowest - 3, 0) + 7)
        eos = fit_birch_murnaghan(volumes[window], energies[window])
        made.append(
            crystal.model_copy(
                update={
                    "volume": eos.v0,
                    "bulk_modulus": eos.b0,
                    "bulk_modulus_derivative": eos.b0_prime,
                    "energy": eos.e0,
                }
            )
        )
    space = SearchSpace(tuple(p for p in plan.space.space.parameters if p.name in names))
    planted = Problem(f"planted-{dimensions}", space, replace(base, references=tuple(made)), (), 0.0)
    planted.level = float(evaluate(truth, planted.context).objective or 0.0)
    return planted


def search(task: Problem, name: str, seed: int, starts: bool, evaluations: int) -> dict[str, Any]:
    """One search; the line of the results file."""
    chosen = proposer(name)
    points = [task.space.to_unit(start) for start in task.starts] if starts else []
    n_initial = len(points) + 2 * len(task.space) + 2  # as run_campaign has it
    state = CampaignState(
        len(task.space),
        chosen,
        seed=seed,
        evaluations=evaluations,
        in_flight=1,
        n_initial=n_initial,
        starting_points=np.array(points).reshape(-1, len(task.space)),
    )
    y, evaluating, proposing = [], [], []
    while True:
        begun = time.process_time()
        trial = state.next_ready()
        if trial is None:
            break
        index, x = trial
        proposing.append(round(time.process_time() - begun, 4))
        value, seconds = task(x)
        state.tell(index, x, value)
        y.append(None if value is None else round(value, 6))
        evaluating.append(round(seconds, 3))
    return {
        "problem": task.name,
        "starts": starts,
        "proposer": name,
        "version": chosen.version,
        "seed": seed,
        "n_initial": n_initial,
        "level": round(task.level, 4),
        "y": y,
        "evaluate": evaluating,
        "propose": proposing,
    }


# --- run ------------------------------------------------------------------------------------------------------------


def load(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def newest(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of the highest version of each proposer."""
    versions: dict[str, int] = {}
    for line in lines:
        versions[line["proposer"]] = max(versions.get(line["proposer"], 0), int(line["version"]))
    return [line for line in lines if int(line["version"]) == versions[line["proposer"]]]


def key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line["problem"], line["starts"], line["proposer"], line["version"], line["seed"]


def run(
    path: Path, names: Sequence[str], proposers: Sequence[str], seeds: int, minutes: float, evaluations: int
) -> None:
    end = time.monotonic() + 60.0 * minutes
    usable = []
    for name in proposers:
        try:
            usable.append((name, proposer(name).version))
        except EngineMissing as missing:
            print(f"left out: {missing.message}")
    done = {key(line) for line in load(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for name in names:
            variants = (False,) if name.startswith("planted") else (True, False)
            wanted = [
                (variant, p)
                for variant in variants
                for p, version in usable
                if (name, variant, p, version, seed) not in done and (p in WITH_STARTS or not variant)
            ]
            if not wanted:
                continue
            task = problem(name)
            task.known.clear()
            for starts, chosen in wanted:
                if time.monotonic() > end:
                    print("time is up; run again to go on")
                    return
                line = search(task, chosen, seed, starts, evaluations)
                with path.open("a") as file:
                    file.write(json.dumps(line, separators=(",", ":")) + "\n")
                best = min((value for value in line["y"] if value is not None), default=float("nan"))
                print(f"seed {seed} {name:10} {'starts' if starts else '':7} {chosen:8} best {best:8.3f}", flush=True)


# --- time -----------------------------------------------------------------------------------------------------------


def times(proposers: Sequence[str]) -> Iterator[tuple[str, int, int, int, float]]:
    """Name, trials, points asked for, points pending, processor seconds a call; six parameters, a quarter failed."""
    rng = np.random.default_rng(0)
    for name in proposers:
        try:
            chosen = proposer(name)
        except EngineMissing as missing:
            print(f"left out: {missing.message}")
            continue
        for n in (20, 100, 500, 2000):
            for count, pending in ((1, 2), (16, 80), (64, 320)):
                taken = []
                for repeat in range(4):
                    X, waiting = rng.random((n, 6)), rng.random((pending, 6))
                    y = ((X - 0.3) ** 2).sum(axis=1) + 0.3 * np.sin(9.0 * X[:, 0])
                    begun = time.process_time()
                    chosen.propose(X, y, X[:, 1] < 0.75, waiting, n + pending, repeat, count)
                    taken.append(time.process_time() - begun)
                # The first call imports.
                yield name, n, count, pending, statistics.median(taken[1:])


# --- show -----------------------------------------------------------------------------------------------------------


def best_so_far(line: Mapping[str, Any]) -> np.ndarray:
    return np.minimum.accumulate([np.inf if value is None else value for value in line["y"]])


def seconds_so_far(line: Mapping[str, Any]) -> np.ndarray:
    return np.cumsum(np.array(line["evaluate"]) + np.array(line["propose"]))


def groups(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, bool], dict[str, list[Mapping[str, Any]]]]:
    """Lines by problem and variant, then by proposer."""
    found: dict[tuple[str, bool], dict[str, list[Mapping[str, Any]]]] = {}
    for line in lines:
        found.setdefault((line["problem"], line["starts"]), {}).setdefault(line["proposer"], []).append(line)
    order = ["planted-4", "planted-6", *ELEMENTS]
    return dict(sorted(found.items(), key=lambda item: (not item[0][1], order.index(item[0][0]))))


def reached(line: Mapping[str, Any]) -> float:
    """Evaluations until the level of a real fit is reached; infinity where it is not."""
    hits = np.flatnonzero(best_so_far(line) <= line["level"])
    return float(hits[0] + 1) if len(hits) else np.inf


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    out = [
        "| problem | starts | proposer | seeds | level | reached after | best (quartiles) | better than Sobol | "
        "s a proposal | s an evaluation |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, starts), by_proposer in groups(lines).items():
        sobol = {line["seed"]: float(best_so_far(line)[-1]) for line in by_proposer.get("sobol", [])}
        for chosen in [p for p in PROPOSERS if p in by_proposer]:
            group = by_proposer[chosen]
            finals = [float(best_so_far(line)[-1]) for line in group]
            q = np.quantile(finals, (0.25, 0.5, 0.75))
            after = statistics.median(reached(line) for line in group)
            pairs = [(float(best_so_far(line)[-1]), sobol[line["seed"]]) for line in group if line["seed"] in sobol]
            wins = sum(ours < theirs for ours, theirs in pairs)
            proposals = [s for line in group for s in line["propose"][line["n_initial"] :]]
            evaluations = [s for line in group for s in line["evaluate"]]
            planted = name.startswith("planted")
            out.append(
                f"| {name} | {'yes' if starts else 'no'} | {chosen} | {len(group)} | {group[0]['level']:.2f} | "
                + ("–" if planted else f"{after:.0f}" if np.isfinite(after) else "not")
                + f" | {q[1]:.2f} ({q[0]:.2f}–{q[2]:.2f}) | "
                + ("–" if chosen == "sobol" else f"{wins} of {len(pairs)}")
                + f" | {statistics.mean(proposals):.3f} | {statistics.mean(evaluations):.2f} |"
            )
    return "\n".join(out)


def summary(lines: Sequence[Mapping[str, Any]]) -> str:
    """Best objective relative to Sobol's with the same problem and seed: geometric mean over all of them."""
    out = [
        "| starts | proposer | searches | best, relative to Sobol's | better than Sobol | relative to skopt's |",
        "|---|---|---|---|---|---|",
    ]
    final = {(line["problem"], line["starts"], line["seed"], line["proposer"]): line for line in lines}
    for starts in (True, False):
        for chosen in PROPOSERS:
            ratios: dict[str, list[float]] = {"sobol": [], "skopt": []}
            for (name, variant, seed, p), line in final.items():
                for other, found in ratios.items():
                    peer = final.get((name, variant, seed, other))
                    if variant == starts and p == chosen and peer is not None:
                        found.append(float(np.log(best_so_far(line)[-1] / best_so_far(peer)[-1])))
            if ratios["sobol"] and chosen != "sobol":
                wins = sum(r < 0.0 for r in ratios["sobol"])
                ours, skopts = (f"{np.exp(np.mean(ratios[other])):.2f}" for other in ("sobol", "skopt"))
                out.append(
                    f"| {'yes' if starts else 'no'} | {chosen} | {len(ratios['sobol'])} | {ours} | "
                    f"{wins} of {len(ratios['sobol'])} | {skopts} |"
                )
    return "\n".join(out)


def time_table(rows: Sequence[tuple[str, int, int, int, float]]) -> str:
    out = [
        "| proposer | trials | points asked for | pending | s a call | points a second |",
        "|---|---|---|---|---|---|",
    ]
    out += [f"| {p} | {n} | {c} | {m} | {s:.3f} | {c / s:.0f} |" for p, n, c, m, s in rows]
    return "\n".join(out)


def figure(lines: Sequence[Mapping[str, Any]], starts: bool, axis: Callable[[Any], np.ndarray], label: str) -> Any:
    """Median best minus the best of all searches of a problem, with quartiles; one panel a problem."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    chosen = {name: by for (name, variant), by in groups(lines).items() if variant == starts}
    columns = min(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.9 * rows), squeeze=False, layout="constrained")
    for panel, (name, by_proposer) in zip(axes.flat, chosen.items(), strict=False):
        everything = [line for line in lines if line["problem"] == name]
        least = min(float(best_so_far(line)[-1]) for line in everything)
        low = min(least, everything[0]["level"]) if name.startswith("planted") else least
        for colour, p in enumerate(PROPOSERS):
            group = by_proposer.get(p, [])
            if not group:
                continue
            ends = [axis(line) for line in group]
            grid = np.linspace(min(e[0] for e in ends), statistics.median(e[-1] for e in ends), 200)
            if axis is not seconds_so_far:
                grid = np.arange(1.0, min(len(e) for e in ends) + 1.0)
            curves = []
            for line, x in zip(group, ends, strict=True):
                at = np.clip(np.searchsorted(x, grid + 1e-9, side="right") - 1, 0, len(x) - 1)
                curves.append(best_so_far(line)[at] - low)
            q25, q50, q75 = np.quantile(np.where(np.isfinite(curves), curves, 1e3), (0.25, 0.5, 0.75), axis=0)
            panel.fill_between(grid, np.maximum(q25, 1e-3), np.maximum(q75, 1e-3), color=f"C{colour}", alpha=0.15, lw=0)
            panel.plot(grid, np.maximum(q50, 1e-3), color=f"C{colour}", label=p, lw=1.4)
        if not name.startswith("planted"):
            panel.axhline(max(everything[0]["level"] - low, 1e-3), color="0.3", ls=":", lw=1)
        panel.set(yscale="log", title=name, xlabel=label)
    for panel in list(axes.flat)[len(chosen) :]:
        panel.axis("off")
    axes[0][0].legend(fontsize=7, frameon=False)
    for row in axes:
        row[0].set_ylabel("regret")
    return drawn


def write(lines: Sequence[Mapping[str, Any]], timing: str) -> None:
    """Replace the tables between their markers in docs/search.md, and draw the figures."""
    text = PAGE.read_text()
    for marker, content in (("table", table(lines)), ("summary", summary(lines)), ("times", timing)):
        if not content:
            continue
        begin, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{content}\n{end}{tail}"
    PAGE.write_text(text)
    FIGURES.mkdir(exist_ok=True)
    for starts, word in ((True, "starts"), (False, "scratch")):
        if not any(line["starts"] == starts for line in lines):
            continue
        axes = ((np_count, "evaluations", "evaluations"), (seconds_so_far, "processor time, s", "time"))
        for axis, label, unit in axes:
            figure(lines, starts, axis, label).savefig(FIGURES / f"proposers-{word}-{unit}.png", dpi=110)


def np_count(line: Mapping[str, Any]) -> np.ndarray:
    return np.arange(1.0, len(line["y"]) + 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "time", "show"))
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--proposers", default=",".join(PROPOSERS))
    parser.add_argument("--problems", default=",".join(("planted-4", "planted-6", *ELEMENTS)))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    proposers = options.proposers.split(",")
    if options.what == "run":
        names = options.problems.split(",")
        run(options.results, names, proposers, options.seeds, options.minutes, options.evaluations)
    elif options.what == "time":
        measured = list(times(proposers))
        TIMES.write_text(json.dumps(measured, separators=(",", ":")).replace("],[", "],\n[") + "\n")
        print(time_table(measured))
    else:
        lines = newest(load(options.results))
        print(table(lines), summary(lines), sep="\n\n")
        if options.write:
            write(lines, time_table(json.loads(TIMES.read_text())) if TIMES.exists() else "")


if __name__ == "__main__":
    main()
