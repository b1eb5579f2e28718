"""A campaign through real SLURM daemons, with a worker's job cancelled in the middle.

The daemons are started and stopped here. With DFTBPARAM_TRANSCRIPT=FILE in the environment, what was seen is written
there; docs/slurm-transcript.md was made so.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_daemons import NotPermitted, Slurm, missing_programs, running_slurm

from dftbparam.store import Trial, TrialStore

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ELEMENTS = ("Si", "C")
EVALUATIONS = 24
JOBS = 3

PROFILE = """system = "slurm"
queue = "{queue}"
walltime = "00:10:00"
cores = 1
memory = "1500MB"
maximum_jobs = {jobs}
log_directory = "{folder}/logs"
{more}
[scheduler]
host = "127.0.0.1"
"""

CAMPAIGN = """name = "two"
elements = {elements}

[defaults]
evaluations = {evaluations}
seed = 3
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if missing := missing_programs():
        pytest.skip(f"apt-get install slurm-wlm munge (missing: {', '.join(missing)})")
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("pip install 'dftbparam[cluster]'")
    try:
        with running_slurm(cpus=4) as running:
            yield running
    except NotPermitted as reason:
        pytest.skip(f"SLURM's daemons cannot run here: {reason}")


class Transcript:
    """Commands and what they showed, for the documentation."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm, self.lines, self.begun = slurm, [], time.monotonic()
        self.lines: list[str]

    def say(self, text: str) -> None:
        self.lines.append(f"# {time.monotonic() - self.begun:.0f} s: {text}")

    def show(self, *command: str) -> None:
        self.lines += [f"$ {' '.join(command)}", self.slurm.run(*command).rstrip()]

    def write(self) -> None:
        if path := os.environ.get("DFTBPARAM_TRANSCRIPT"):
            Path(path).write_text("\n".join(self.lines) + "\n")


def start(slurm: Slurm, folder: Path, *command: str) -> subprocess.Popen[str]:
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", "from dftbparam.cli import main; main()", *command],
        cwd=folder,
        env=slurm.environment | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def prepare(folder: Path, name: str, **more: object) -> None:
    folder.mkdir(parents=True)
    values = {"queue": "debug", "jobs": JOBS, "folder": folder, "more": "", **more}
    (folder / f"{name}.toml").write_text(PROFILE.format(**values))
    elements = "[" + ", ".join(f'"{one}"' for one in ELEMENTS) + "]"
    (folder / "two.toml").write_text(CAMPAIGN.format(elements=elements, evaluations=EVALUATIONS))


def stored(folder: Path) -> dict[str, list[Trial]]:
    stores = list(folder.rglob("*.sqlite"))
    if not stores or not stores[0].stat().st_size:
        return {}
    with TrialStore.open(stores[0], create=False) as store:
        return {run.run_id: store.trials(run.run_id) for run in store.runs()}


def listed(runs: dict[str, list[Trial]]) -> dict[str, list[tuple[object, ...]]]:
    return {run: [(t.index, t.x, t.objective, t.status) for t in trials] for run, trials in runs.items()}


def count(folder: Path) -> int:
    return sum(map(len, stored(folder).values()))


def wait(driver: subprocess.Popen[str], ready: object, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if driver.poll() is not None or time.monotonic() > end:
            driver.kill()
            out, _ = driver.communicate()
            raise AssertionError(f"the driver did not come so far:\n{out}")
        time.sleep(0.2)


def test_a_campaign_with_a_cancelled_job(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    prepare(folder, "here")
    seen = Transcript(slurm)
    seen.show("sinfo")
    seen.lines.append("$ dftbparam campaign run two.toml --cluster here.toml &")
    driver = start(slurm, folder, "campaign", "run", "two.toml", "--cluster", "here.toml")
    wait(driver, lambda: len(slurm.jobs()) == JOBS and count(folder) >= 6)
    seen.say(f"{count(folder)} trials are stored")
    seen.show("squeue")
    victim = slurm.jobs()[0]
    # While it is at a trial: the others go on, and its trial is run again.
    seen.show("scancel", victim)
    seen.say("a worker's job is cancelled")
    wait(driver, lambda: victim not in slurm.jobs())
    seen.show("squeue")
    wait(driver, lambda: len(slurm.jobs()) == JOBS or count(folder) == len(ELEMENTS) * EVALUATIONS)
    seen.say(f"a new job is in its place, {count(folder)} trials are stored")
    seen.show("squeue")
    out, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, out
    seen.say("the campaign is done")
    seen.lines.append(out.rstrip())
    seen.show("squeue")
    completed = (slurm.folder / "jobs.log").read_text()
    fields = r"(JobId=\d+ ).*?(JobState=\S+ ).*?(StartTime=\S+ EndTime=\S+)"
    seen.lines += ["$ cat jobs.log        # of SLURM's job completion plugin, in part"]
    seen.lines += ["".join(found) for found in re.findall(fields, completed)]
    seen.write()

    runs = stored(folder)
    assert {f"two/{one}" for one in ELEMENTS} <= {*runs}
    for trials in (runs[f"two/{one}"] for one in ELEMENTS):
        assert [trial.index for trial in trials] == list(range(EVALUATIONS))
        assert {trial.error["type"] for trial in trials if trial.error} <= {"CalculationError", "AtomError"}
    assert f"JobId={victim} " in completed
    assert "JobState=CANCELLED" in completed
    assert slurm.jobs("PENDING,RUNNING") == []
    # One job was replaced, by one.
    assert len(completed.splitlines()) == JOBS + 1

    # The trials are those of an undisturbed run on as many local workers.
    other = tmp_path / "local"
    prepare(other, "here")
    local = start(slurm, other, "campaign", "run", "two.toml", "--workers", str(JOBS))
    out, _ = local.communicate(timeout=600)
    assert local.returncode == 0, out
    assert listed(stored(other)) == listed(runs)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"queue": "nosuch"}, r"a job could not be submitted \(.*invalid partition.*does the batch system"),
        ({"more": 'python = "/no/such/python"'}, r"ended before a worker of it reached tcp://.* see its output in"),
    ],
    ids=["partition", "python"],
)
def test_jobs_that_come_to_nothing_end_the_run(
    slurm: Slurm, tmp_path: Path, more: dict[str, object], message: str
) -> None:
    folder = tmp_path / "wrong"
    prepare(folder, "wrong", **more)
    driver = start(
        slurm, folder, "fit", "Si", "--cluster", "wrong.toml", "--evaluations", "4", "--out", str(folder / "out")
    )
    out, _ = driver.communicate(timeout=300)
    assert driver.returncode == 3, out
    assert re.search(message, " ".join(out.split())), out
    assert slurm.jobs("PENDING,RUNNING") == []
