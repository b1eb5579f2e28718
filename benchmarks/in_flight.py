"""How busy workers are for a given in-flight depth and block size: the state machine of runs on a simulated clock.

Evaluations take a random time (lognormal, spread sigma), a proposal a fixed one; one proposal at a time. No worker, no
model: seconds of computing for hours of a campaign, and the same numbers on every machine. Utilisation is the workers'
time in evaluations over all their time, from when the initial design has been handed out to the start of the last
trial: neither the start of a run nor its tail, in which workers run out of trials, blur it.

    python benchmarks/in_flight.py [--sigma 0.3] [--proposal 0.1] [--json FILE]

``--proposal`` in units of the mean evaluation.
"""

from __future__ import annotations

import argparse
import heapq
import json
from pathlib import Path
from typing import Any

import numpy as np

from dftbparam.campaign.run import default_batch, default_in_flight
from dftbparam.campaign.state import CampaignState
from dftbparam.propose.base import Proposal
from dftbparam.propose.sobol import sobol_points


class Counting:
    """Sobol points, and whether a proposal was made since it was last asked."""

    name, version = "counting", "1"

    def __init__(self) -> None:
        self.calls = 0

    def propose(self, X: Any, y: Any, feasible: Any, pending: Any, index: int, seed: int, count: int = 1) -> Proposal:
        """See `dftbparam.propose.base.Proposer`."""
        self.calls += 1
        return Proposal(sobol_points(index, count, X.shape[1], seed))


def utilisation(
    workers: int, in_flight: int, batch: int, *, sigma: float, proposal: float, trials: int, seed: int
) -> float:
    """Simulate a run; return the share of the workers' time that is evaluation."""
    rng = np.random.default_rng(seed)
    seconds = rng.lognormal(-0.5 * sigma**2, sigma, trials)
    proposer = Counting()
    n_initial = 8
    state = CampaignState(
        3, proposer, seed=0, evaluations=trials, in_flight=in_flight, n_initial=n_initial, batch=batch
    )
    clock, busy_until_proposal = 0.0, 0.0
    waiting: list[tuple[float, int, tuple[float, ...]]] = []  # (ready at, index, point)
    running: list[tuple[float, int, tuple[float, ...]]] = []
    spans: list[tuple[float, float]] = []
    while True:
        # The driver asks one after the other; a proposal keeps it for a while.
        while (trial := state.next_ready()) is not None:
            if proposer.calls:
                proposer.calls = 0
                busy_until_proposal = max(busy_until_proposal, clock) + proposal
            waiting.append((max(clock, busy_until_proposal), *trial))
        waiting.sort()
        while waiting and waiting[0][0] <= clock and len(running) < workers:
            _, index, point = waiting.pop(0)
            heapq.heappush(running, (clock + float(seconds[index]), index, point))
            spans.append((clock, clock + float(seconds[index])))
        if not running and not waiting:
            break
        ends = running[0][0] if running else np.inf
        ready = waiting[0][0] if waiting and len(running) < workers else np.inf
        clock = min(ends, max(ready, clock))
        while running and running[0][0] <= clock:
            _, index, point = heapq.heappop(running)
            state.tell(index, point, float(index))
    begins = sorted(begin for begin, _ in spans)
    first, last = begins[min(n_initial + workers, len(begins) - 1)], begins[-1]
    inside = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in spans)
    return inside / (workers * (last - first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sigma", type=float, default=0.3)
    parser.add_argument("--proposal", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for workers in (1, 2, 4, 8, 16, 64):
        trials = max(300, 12 * workers)
        choices = {
            "w": (workers, 1),
            "w + 1": (workers + 1, 1),
            "w + w/4": (workers + max(2, workers // 4), 1),
            "default": (default_in_flight(workers), default_batch(workers)),
            "2 w, blocks of 1": (2 * workers, 1),
            "3 w": (3 * workers, default_batch(workers)),
        }
        row: dict[str, Any] = {"workers": workers}
        for name, (in_flight, batch) in choices.items():
            shares = [
                utilisation(
                    workers,
                    in_flight,
                    batch,
                    sigma=options.sigma,
                    proposal=options.proposal,
                    trials=trials,
                    seed=seed,
                )
                for seed in range(5)
            ]
            row[name] = round(float(np.mean(shares)), 4)
        found.append(row)
        print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    if options.json is not None:
        value = {"sigma": options.sigma, "proposal": options.proposal, "rows": found}
        options.json.write_text(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()
