"""One evaluation of a fit, warm, on one thread: where its time goes, and DFTB+ on the same structures in the same run.

Part by part: confined atoms, table, electronic energies of the four crystals at every volume of the scan, inner search
of the repulsion. DFTB+ (if installed) computes the same structures, one process each; it is timed on every fourth of
them.

    python benchmarks/evaluation.py [SYMBOL ...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dftbparam.campaign.evaluate import (
    VOLUMES,
    FitContext,
    evaluate,
    parameter_set,
    parameters_of,
    repulsion_search,
)
from dftbparam.campaign.scoring import dimer_curve, energy_curves
from dftbparam.engine.base import Engine
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.reference import load_dataset
from dftbparam.slako.build import build_tables, pair_files
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.space.element_space import element_space, starting_points


def dftbplus() -> Engine | None:
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        return DftbPlusEngine()
    except EngineMissing:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbols", nargs="*", default=["Si", "Cu", "W"])
    peer = dftbplus()
    if peer is None:
        print("DFTB+ is not installed: its column is left empty")
    print("seconds, one thread, warm; structures: 4 crystals x 25 volumes and 13 dimers")
    print(f"{'':4}{'atoms':>8}{'table':>8}{'bands':>8}{'repulsion':>11}{'all':>8}{'DFTB+ bands':>13}{'ratio':>9}")
    for symbol in parser.parse_args().symbols:
        context = FitContext(symbol=symbol, references=tuple(load_dataset().crystals_of(symbol)))
        values = starting_points(symbol, element_space(symbol))[0]
        evaluate(values, context)
        record = parameters_of(context, values)
        times = []
        start = time.perf_counter()
        atom = solve_pseudo_atom(record)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
        pair_files(atom, atom)
        times.append(time.perf_counter() - start)
        tables = build_tables(parameter_set(context, record, "benchmark"), [symbol], repulsion=False)
        volumes = {c.prototype: c.volume * np.array(VOLUMES) for c in context.references}
        start = time.perf_counter()
        curves, _ = energy_curves(tables, context.references, EmbeddedEngine(), volumes, repulsion=False)
        dimer = dimer_curve(tables, symbol, EmbeddedEngine(), repulsion=False)
        times.append(time.perf_counter() - start)
        electronic = np.array([curves[c.prototype][1] for c in context.references])
        start = time.perf_counter()
        repulsion_search(context).fit(electronic, dimer)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
        evaluate(values, context)
        total = time.perf_counter() - start
        line = f"{symbol:4}{times[0]:8.3f}{times[1]:8.3f}{times[2]:8.3f}{times[3]:11.3f}{total:8.3f}"
        if peer is not None:
            some = {prototype: v[::4] for prototype, v in volumes.items()}
            start = time.perf_counter()
            energy_curves(tables, context.references, peer, some, repulsion=False)
            share = sum(map(len, some.values())) / sum(map(len, volumes.values()))
            theirs = (time.perf_counter() - start) / share
            start = time.perf_counter()
            dimer_curve(tables, symbol, peer, repulsion=False)
            theirs += time.perf_counter() - start
            line += f"{theirs:13.2f}{times[2] / theirs:9.4f}"
        print(line)


if __name__ == "__main__":
    main()
