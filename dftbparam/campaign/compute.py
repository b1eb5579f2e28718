"""Runs DFT calculations in parallel: what ``dftbparam references compute`` calls.

The plan says what can run, the executor runs it, the archive keeps it. Nothing else holds state: a run that was killed
goes on from the files that are there, and repeats at most what was running at that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dftbparam.campaign.executor import Executor
from dftbparam.campaign.result import Outcome, TrialResult
from dftbparam.reference.dft import Archive, Plan, Request, Task, run_task


@dataclass(frozen=True)
class Step:
    """One calculation that ended, for progress messages.

    ``finished`` calculations of this run so far, ``waiting`` ones known to come; more may follow from results.
    """

    task: Task
    error: Mapping[str, Any] | None
    seconds: float
    finished: int
    waiting: int


@dataclass
class Computed:
    """How a run ended.

    Attributes
    ----------
    finished, failed
        Calculations of this run.
    found
        Calculations of the request that were there already.
    errors
        Label and message of each failure of the request, old ones included.
    interrupted
        Whether Ctrl-C ended it.
    """

    finished: int = 0
    failed: int = 0
    found: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def calculate(parameters: dict[str, Any], context: Any) -> TrialResult:
    """Run one task on a worker; ``context`` is the archive's folder, where the worker can see it.

    A result that is there already is returned as it is: a worker whose driver is gone may have made it meanwhile.
    """
    task = Task.model_validate(parameters["task"])
    archive = Archive(Path(context))
    record = archive.get(task) if archive.folder.is_dir() else None
    if record is None or record.get("error") is not None:
        record = run_task(task)
        if archive.folder.is_dir():
            archive.put(task, record)
    return TrialResult(objective=float(record["seconds"]), details={"record": record})


def compute(
    request: Request,
    archive: Archive,
    executor: Executor,
    on_step: Callable[[Step], None] | None = None,
    *,
    retry_failed: bool = False,
) -> Computed:
    """Run everything a request needs and that is not in the archive.

    Parameters
    ----------
    retry_failed
        Run those of the request again that have failed before; others in the archive stay as they are.

    Raises
    ------
    EngineMissing
        The DFT code is not there.
    StoreError
        The archive cannot be written, or another run is at work in it.
    EngineError
        The scheduler is gone.
    """
    with archive.locked():
        return _compute(_Run(request, archive, retry_failed), archive, executor, on_step)


def _compute(run: _Run, archive: Archive, executor: Executor, on_step: Callable[[Step], None] | None) -> Computed:
    if not run.queue:
        return run.computed
    executor.start(calculate, str(archive.folder.resolve()))
    try:
        running: dict[int, Task] = {}
        count = 0
        while run.queue or running:
            # One more than there are workers, so that none waits while a result is looked at.
            while run.queue and len(running) < executor.workers + 1:
                task = run.queue.popleft()
                running[count] = task
                executor.submit(count, {"task": task.model_dump(mode="json")})
                count += 1
            for index, outcome in executor.collect(None):
                task = running.pop(index)
                record = run.take(task, outcome)
                if on_step is not None:
                    on_step(
                        Step(
                            task,
                            record.get("error"),
                            float(record.get("seconds", 0.0)),
                            run.computed.finished,
                            len(run.queue) + len(running),
                        )
                    )
    except KeyboardInterrupt:
        run.computed.interrupted = True
    finally:
        executor.close()
    return run.computed


class _Run:
    """The queue of one run, and what its plan has seen."""

    def __init__(self, request: Request, archive: Archive, retry_failed: bool = False) -> None:
        self.archive = archive
        self._retry = retry_failed
        self.computed = Computed()
        self.queue: deque[Task] = deque()
        self._records: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._queued: set[tuple[str, str]] = set()
        self._plan = Plan(request, self._lookup)
        self._systems = {system.name: system for system in request.systems}
        self._owners: dict[tuple[str, str], set[str]] = {}
        for name in self._systems:
            self._refill(name)
        self._add([task for task in request.tasks if self._lookup(task) is None])
        self.computed.found = len(self._records)

    def _lookup(self, task: Task) -> Mapping[str, Any] | None:
        key = (task.label, task.key)
        if key not in self._records:
            record = self.archive.get(task)
            if record is None or (self._retry and record.get("error") is not None):
                return None
            self._note(task, record)
        return self._records[key]

    def _note(self, task: Task, record: Mapping[str, Any]) -> None:
        self._records[task.label, task.key] = record
        if record.get("error") is not None:
            self.computed.errors[task.label] = str(record["error"]["message"])

    def _refill(self, name: str) -> None:
        """Queue what a compound needs now and is not queued yet."""
        tasks = self._plan.progress(self._systems[name]).tasks
        for task in tasks:
            self._owners.setdefault((task.label, task.key), set()).add(name)
        self._add(tasks)

    def _add(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            key = (task.label, task.key)
            if key not in self._queued:
                self._queued.add(key)
                self.queue.append(task)

    def take(self, task: Task, outcome: Outcome) -> Mapping[str, Any]:
        """Keep a result, and queue what follows from it. Raises what no calculation could survive."""
        if outcome.fatal is not None:
            raise outcome.fatal
        if outcome.result is not None:
            record: dict[str, Any] = outcome.result.details["record"]
        else:
            record = {"result": None, "error": outcome.error, "seconds": round(outcome.seconds, 3), "versions": {}}
        known = self.archive.get(task)
        if known is None or (known.get("error") is not None and record.get("error") is None):
            self.archive.put(task, record)
        self._note(task, record)
        self.computed.finished += 1
        self.computed.failed += record.get("error") is not None
        follow = deque(self.queue)
        self.queue.clear()
        # What follows from a result comes before the rest: compounds are finished one after the other.
        for name in self._owners.get((task.label, task.key), ()):
            self._refill(name)
        self.queue.extend(follow)
        return record
