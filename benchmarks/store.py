"""The trial store with millions of trials: upgrade, opening, overview, status, appends, export.

The store is filled in bulk, behind its own back, as version 1 would have left it: half of the trials in one run, the
rest spread over 85 others, about one kilobyte each. Then everything is timed that a user waits for. Times of single
calls are the median of several; the command line is timed as a process of its own, Python's start included.

    python benchmarks/store.py [--trials 2000000] [--folder DIR | --address postgresql+psycopg://...] [--keep]

The database behind ``--address`` must be empty. Appends are committed one by one and reach the disk, as in a campaign;
next to them stands the time of a bare write and fsync on the same disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dftbparam.store import Run, Trial, TrialStore
from dftbparam.store.connection import Database
from dftbparam.store.encoding import trial_row
from dftbparam.store.export import export_csv, export_json_file
from dftbparam.store.schema import COMPONENT, bring_up_to_date
from dftbparam.store.tables import HOLDERS, RUN_STATES, RUNS, SCHEMA, TOTALS, TRIALS

RUNS_IN_ALL = 86
"""About as many elements as there are."""

NAMES = [f"all/{number:02d}" for number in range(RUNS_IN_ALL)]


def make_trial(run_id: str, index: int, chance: random.Random) -> Trial:
    """A trial of the size that a fit of a d metal leaves: six parameters, twelve metrics, four curves."""
    x = tuple(chance.random() for _ in range(6))
    failed = chance.random() < 0.05
    return Trial(
        run_id,
        index,
        x,
        {f"radius_{k}": 2.0 + 8.0 * value for k, value in enumerate(x)},
        "failed" if failed else "finished",
        None if failed else sum((value - 0.3) ** 2 for value in x),
        metrics={} if failed else {f"crystal_{k}.dV": chance.gauss(0.0, 3.0) for k in range(12)},
        details={} if failed else {"energies": [round(chance.random(), 6) for _ in range(28)]},
        error={"type": "ScfNotConverged", "message": "SCC did not converge in 200 iterations", "data": {}}
        if failed
        else None,
        seconds=chance.uniform(0.5, 1.5),
        worker="tcp://10.0.0.1:40123",
        started="2024-01-01T00:00:00+00:00",
        finished="2024-01-01T00:00:01+00:00",
        settings_hash="0123456789abcdef",
    )


def rows(trials: int) -> Iterator[dict[str, Any]]:
    """Rows of the table. Bodies repeat after some thousand trials: making each anew would take longer than storing."""
    chance = random.Random(1)
    pool = [trial_row(make_trial("", 0, chance)) for _ in range(5000)]
    half = trials // 2
    shares = [half] + [(trials - half) // (RUNS_IN_ALL - 1)] * (RUNS_IN_ALL - 1)
    shares[1] += trials - sum(shares)
    number = 0
    for name, share in zip(NAMES, shares, strict=True):
        for index in range(share):
            number += 1
            yield pool[number % len(pool)] | {"run_id": name, "trial_index": index}


def fill(location: str, trials: int) -> None:
    """Write a store as version 1 had it."""
    database = Database.open(location, create=True)
    columns = [column.name for column in TRIALS.columns if column.name != "id"]

    def tables(connection: sa.Connection) -> None:
        bring_up_to_date(connection, database.where)
        for table in (TOTALS, RUN_STATES, HOLDERS):
            table.drop(connection)
        connection.execute(sa.update(SCHEMA).where(SCHEMA.c.component == COMPONENT).values(version=1))
        values = {"created": "2024-01-01T00:00:00+00:00", "settings": "{}", "provenance": "{}"}
        budget = json.dumps({"evaluations": trials})
        connection.execute(sa.insert(RUNS), [values | {"run_id": name, "budget": budget} for name in NAMES])

    def bulk(connection: sa.Connection) -> None:
        cursor = connection.connection.cursor()
        values = ([row[name] for name in columns] for row in rows(trials))
        if database.server:
            with cursor.copy(f"COPY trials ({', '.join(columns)}) FROM STDIN") as copy:
                for line in values:
                    copy.write_row(line)
        else:
            marks = ", ".join("?" * len(columns))
            cursor.executemany(f"INSERT INTO trials ({', '.join(columns)}) VALUES ({marks})", values)

    database.write(tables)
    database.write(bulk)
    database.close()


def timed(call: Callable[[], Any], times: int = 1) -> float:
    """Median time of a call in seconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def report(what: str, seconds: float, more: str = "") -> None:
    value = f"{seconds:10.2f} s " if seconds >= 1.0 else f"{1000 * seconds:10.2f} ms"
    print(f"{what:58s}{value}{'   ' + more if more else ''}", flush=True)


def bare_fsync(folder: Path, times: int = 50) -> float:
    """Time to write a page of a file and have it on the disk."""
    path = folder / "fsync.tmp"
    with path.open("wb") as file:

        def once() -> None:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())

        seconds = timed(once, times)
    path.unlink()
    return seconds


def append_all(store: TrialStore, names: list[str], each: int) -> float:
    """Append to several runs at once, a thread each; return the seconds it took."""

    def work(name: str) -> None:
        chance = random.Random(name)
        with store.exclusive(name):
            for index in range(each):
                store.append(make_trial(name, index, chance))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def measure(location: str, trials: int, folder: Path) -> None:
    begun = time.perf_counter()
    fill(location, trials)
    size = f"{Path(location).stat().st_size / 1e9:.2f} GB" if "://" not in location else ""
    report(f"bulk fill, {trials} trials in {RUNS_IN_ALL} runs", time.perf_counter() - begun, size)

    with TrialStore.open(location, create=False) as store:
        report("overview of a version-1 store: counts all trials", timed(store.overview))
    report("upgrade from version 1", timed(lambda: TrialStore.open(location).close()))
    report("opening for reading", timed(lambda: TrialStore.open(location, create=False).close(), 20))
    report("opening for writing", timed(lambda: TrialStore.open(location).close(), 20))
    with TrialStore.open(location) as store:
        report("overview, first call", timed(store.overview))
        report("overview", timed(store.overview, 20))
        assert sum(run.finished + run.failed for run in store.overview()) == trials
        store.set_state(NAMES[0], "running")
        with store.exclusive(NAMES[2]):
            report("overview while a run is held", timed(store.overview, 20))
        for words in ("campaign status STORE", "trials STORE --runs", "--version"):
            command = [location if word == "STORE" else word for word in words.split()]
            wall, processor = run([sys.executable, "-c", "from dftbparam.cli import main; main()", *command])
            report(f"dftbparam {words}", wall, f"{processor:.2f} s of processor time")
        report("taking a run of a hundredth of the trials", timed(lambda: take(store, NAMES[2])))
        report("taking the run of half of all trials (counts them)", timed(lambda: take(store, NAMES[0])))

        chance = random.Random(3)
        store.create_run(Run("new", {}))
        with store.exclusive("new"):
            number = iter(range(10**9))
            seconds = timed(lambda: store.append(make_trial("new", next(number), chance)), 300)
        report("append", seconds, f"{1 / seconds:.0f} a second; bare fsync {1000 * bare_fsync(folder):.2f} ms")
        store.create_run(Run("blocks", {}))
        with store.exclusive("blocks"):
            block = [[make_trial("blocks", 32 * k + j, chance) for j in range(32)] for k in range(50)]
            seconds = timed(lambda: store.append_all(block.pop()), 50)
        report("append_all of 32 trials", seconds, f"{32 / seconds:.0f} trials a second")
        names = [f"thread{k}" for k in range(8)]
        for name in names:
            store.create_run(Run(name, {}))
        seconds = append_all(store, names, 50) / (50 * len(names))
        report("append, eight threads, a run each", seconds, f"{1 / seconds:.0f} a second in all")

        half = trials // 2
        seconds = timed(lambda: export_csv(folder / "t.csv", store.iter_trials(NAMES[0])))
        report(f"CSV of {half} trials", seconds, f"{half / seconds:.0f} a second, {megabytes(folder / 't.csv')}")
        record = store.load_run(NAMES[0])
        seconds = timed(lambda: export_json_file(folder / "t.json", record, store.iter_trials(NAMES[0])))
        report(f"JSON of {half} trials", seconds, f"{half / seconds:.0f} a second, {megabytes(folder / 't.json')}")
    print(f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


def run(command: list[str], times: int = 5) -> tuple[float, float]:
    """Median wall time of a command, and its mean processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), times)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times


def take(store: TrialStore, name: str) -> None:
    with store.exclusive(name):
        pass


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, help="where the store and the exports go; default: a temporary folder")
    parser.add_argument("--address", help="an empty PostgreSQL database instead of a SQLite file")
    parser.add_argument("--keep", action="store_true", help="leave the store where it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = (options.folder if options.keep and options.folder else folder) / "benchmark.sqlite"
        measure(options.address or str(path), options.trials, folder)


if __name__ == "__main__":
    main()
