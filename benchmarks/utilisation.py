"""Share of worker time that is spent in evaluations.

::

    python benchmarks/utilisation.py local                  # 2 local workers, fits of Si
    python benchmarks/utilisation.py simulated              # 256 workers that sleep 1 s an evaluation, on one scheduler

Utilisation is the sum of all evaluation times over the number of workers times the time from the first evaluation's
start to the last one's end; proposals, the store, Dask and the run's last seconds, when workers run out of trials, are
what is missing to 100 %. The simulated workers are complete Dask workers with connections of their own, in few
processes. The load average is printed because other work on the machine counts against the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

from dftbparam.campaign.result import TrialResult

HOSTS = 4
"""Processes that the simulated workers are in."""


def sleep_evaluation(parameters: dict[str, float], context: float) -> TrialResult:
    """Sleep for ``context`` seconds; the objective is a bowl."""
    time.sleep(context)
    return TrialResult(sum((value - 3.0) ** 2 for value in parameters.values()), metrics=dict(parameters))


def utilisation(trials: list[Any], workers: int) -> tuple[float, float]:
    """Share of worker time in evaluations, and the seconds from the first start to the last end."""
    wall = max(map(datetime.fromisoformat, (t.finished for t in trials))) - min(
        map(datetime.fromisoformat, (t.started for t in trials))
    )
    return sum(trial.seconds for trial in trials) / (workers * wall.total_seconds()), wall.total_seconds()


def report(name: str, outcome: Any, workers: int, begun: float, more: dict[str, Any]) -> None:
    share, wall = utilisation(outcome.trials, workers)
    found = {
        "what": name,
        "workers": workers,
        "trials": len(outcome.trials),
        "utilisation": round(share, 4),
        "seconds": round(wall, 1),
        "seconds with start and end": round(time.monotonic() - begun, 1),
        "mean evaluation, s": round(sum(t.seconds for t in outcome.trials) / len(outcome.trials), 3),
        "proposals": outcome.proposals,
        "seconds a proposal": None if outcome.proposal_seconds is None else round(outcome.proposal_seconds, 3),
        "load average": os.getloadavg(),
        **more,
    }
    print(json.dumps(found, indent=2))


def local(workers: int, evaluations: int, symbol: str, sampler: str | None) -> None:
    """A real search."""
    from dftbparam.campaign.executor import executor
    from dftbparam.campaign.fit import FitRequest, plan_fit, search_fit
    from dftbparam.store import TrialStore

    with tempfile.TemporaryDirectory() as folder, TrialStore.open(Path(folder) / "trials.sqlite") as store:
        given = {} if sampler is None else {"sampler": sampler}
        request = FitRequest(symbol=symbol, evaluations=evaluations, workers=workers, out=Path(folder), **given)
        begun = time.monotonic()
        outcome = search_fit(plan_fit(request), request, store=store, run_id="run", executor=executor(workers))
        report(f"fit {symbol}, {request.sampler}", outcome, workers, begun, {})


async def host(address: str, number: int) -> None:
    """Many workers in one process."""
    import dask
    from distributed import Worker

    settings = {
        # As in our own workers: a profile is sampled a hundred times a second.
        "distributed.worker.profile.enabled": False,
        # What each worker does for its machine, here done 256 times for one.
        "distributed.admin.system-monitor.interval": "60s",
        "distributed.admin.tick.interval": "1s",
    }
    dask.config.set(settings)
    workers = [Worker(address, nthreads=1, dashboard=False, memory_limit=0) for _ in range(number)]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


def simulated(
    workers: int, evaluations: int, seconds: float, sampler: str | None, in_flight: int | None, batch: int | None
) -> None:
    """A search over six parameters, with evaluations that sleep."""
    import psutil
    from utilisation import sleep_evaluation as evaluate

    from dftbparam.campaign.executor import executor
    from dftbparam.campaign.fit import FitRequest
    from dftbparam.campaign.run import run_campaign
    from dftbparam.space import Parameter, SearchSpace
    from dftbparam.store import TrialStore

    sampler = sampler or FitRequest.model_fields["sampler"].default
    space = SearchSpace(tuple(Parameter(f"r{k}", 1.0, 10.0, "log") for k in range(6)))
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        command += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
        try:
            processes.append(psutil.Popen(command, **quiet))
            while not file.exists() or not file.read_text().strip():
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            for _ in range(HOSTS):
                part = [sys.executable, __file__, "host", address, str(workers // HOSTS)]
                processes.append(psutil.Popen(part, **quiet))
            with TrialStore.open(Path(folder) / "trials.sqlite") as store:
                place = executor(scheduler=address)
                while place.workers < workers:
                    time.sleep(0.5)
                begun, cpu = time.monotonic(), psutil.Process().cpu_times()
                outcome = run_campaign(
                    space, evaluate, seconds, store=store, run_id="run", proposer=sampler,
                    evaluations=evaluations, executor=place, in_flight=in_flight, batch=batch,
                )  # fmt: skip
                after = psutil.Process().cpu_times()
                settings = outcome.run.settings["campaign"]
                spent = {"driver": after.user + after.system - cpu.user - cpu.system}
                for process, kind in zip(processes, ["scheduler", *["hosts"] * HOSTS], strict=True):
                    times = process.cpu_times()
                    spent[kind] = spent.get(kind, 0.0) + times.user + times.system
                more = {
                    "in_flight": settings["in_flight"],
                    "batch": settings.get("batch"),
                    "seconds of processor time": {kind: round(value, 1) for kind, value in spent.items()},
                }
                report(f"{seconds} s of sleep, {sampler}", outcome, workers, begun, more)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("local")
    one.add_argument("--workers", type=int, default=2)
    one.add_argument("--evaluations", type=int, default=60)
    one.add_argument("--symbol", default="Si")
    one.add_argument("--sampler")
    two = kinds.add_parser("simulated")
    two.add_argument("--workers", type=int, default=256)
    two.add_argument("--evaluations", type=int, default=5120)
    two.add_argument("--seconds", type=float, default=1.0)
    two.add_argument("--sampler")
    two.add_argument("--in-flight", type=int, help="default: that of campaigns")
    two.add_argument("--batch", type=int, help="default: that of campaigns")
    three = kinds.add_parser("host")
    three.add_argument("address")
    three.add_argument("number", type=int)
    given = parser.parse_args()
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    if given.kind == "host":
        asyncio.run(host(given.address, given.number))
    elif given.kind == "local":
        local(given.workers, given.evaluations, given.symbol, given.sampler)
    else:
        simulated(given.workers, given.evaluations, given.seconds, given.sampler, given.in_flight, given.batch)


if __name__ == "__main__":
    main()
