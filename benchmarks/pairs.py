"""Tables of pairs as `dftbparam publish` builds them: seconds of a processor per pair, warm, and memory of a worker.

Every pair of the elements is built, checked and written by one process, once to warm up and once timed. The figure to
meet is one second per pair.

    python benchmarks/pairs.py [SYMBOL ...] [--grid-step BOHR] [--cutoff BOHR]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from dftbparam.publish.pairs import Grid, PairTask, atom_key, build_task, in_blocks, pair_key
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.slako.tabulated import TabulatedAtom
from dftbparam.space import load_parameter_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbols", nargs="*", default=["H", "C", "O", "Na", "Si", "Ti", "Fe", "La", "W", "Pb"])
    parser.add_argument("--parameters", default="ptbp")
    parser.add_argument("--grid-step", type=float, default=0.02)
    parser.add_argument("--cutoff", type=float)
    arguments = parser.parse_args()
    chosen = load_parameter_set(arguments.parameters)
    grid = Grid(arguments.grid_step, arguments.cutoff)
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder)
        start = time.process_time()
        for symbol in arguments.symbols:
            atom = solve_pseudo_atom(chosen.element(symbol), chosen.functional, chosen.superposition)
            TabulatedAtom.of(atom).save(build / f"{symbol}.npz", atom_key(chosen, symbol))
        atoms = (time.process_time() - start) / len(arguments.symbols)
        tasks = []
        for a, b in in_blocks(arguments.symbols):
            both = chosen.model_copy(update={"elements": {s: chosen.element(s) for s in (a, b)}})
            keys = (atom_key(chosen, a), atom_key(chosen, b))
            tasks.append(PairTask(a, b, both, grid, build, keys, build, pair_key(chosen, a, b, grid)))
        build_task(tasks[0])
        seconds, size, failed = [], 0, 0
        for task in tasks:
            start = time.process_time()
            outcome = build_task(task)
            seconds.append(time.process_time() - start)
            size += sum(n for _, n in outcome.files.values())
            failed += bool(outcome.failures)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    slowest = tasks[int(np.argmax(seconds))]
    print(
        f"{len(tasks)} pairs of {len(arguments.symbols)} elements, step {grid.grid_step} Bohr; {failed} failed the gate"
    )
    print(f"atom {atoms:.2f} s; pair mean {np.mean(seconds):.3f} s, median {np.median(seconds):.3f} s, slowest")
    print(f"{max(seconds):.3f} s ({slowest.first}-{slowest.second}); {size / 1e6:.1f} MB written; {memory:.2f} GiB")
    print(
        f"96 x 96 at this rate: {4656 * np.mean(seconds) / 3600:.2f} CPU-hours, {size / len(tasks) * 4656 / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()
