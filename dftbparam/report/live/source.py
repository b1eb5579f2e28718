"""What the live view shows, read from the store: at most once in a while, and only what has changed."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from dftbparam.elements import all_symbols
from dftbparam.errors import DftbparamError
from dftbparam.report.html.collect import Collection, Problem, Result, read_run
from dftbparam.report.html.elements import element_content, shorten
from dftbparam.report.html.page import embedded_json, page_data, render_page
from dftbparam.report.html.records import BANDS_NAME, MANIFEST_NAME, PARAMETERS_NAME, SCORE_NAME, TRIALS_NAME
from dftbparam.report.live.provisional import provisional_result, symbol_of
from dftbparam.store import Run, TrialStore

REMARK: Final = (
    "Of the search: the best trial so far, by its coarser E(V) fits, drawn with DFT's pressure derivative of B. The "
    "report card, with PTBP beside it, follows with the result."
)

SHOWN_FILES: Final = (SCORE_NAME, PARAMETERS_NAME, TRIALS_NAME, BANDS_NAME, MANIFEST_NAME)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunState:
    """How one run stands, as `dftbparam.campaign.status.RunStatus` has it."""

    run_id: str
    name: str
    state: str
    message: str = ""
    done: int = 0
    failed: int = 0
    evaluations: int | None = None
    best_objective: float | None = None
    best_trial: int | None = None
    trial_seconds: float | None = None
    per_minute: float | None = None
    seconds_left: float | None = None
    updated: str = ""


@dataclass(frozen=True)
class Standing:
    """How a campaign, or all runs of a store, stand.

    Attributes
    ----------
    runs
        One an element that has been begun.
    totals
        Numbers of all together, see `dftbparam.campaign.status.totals`.
    elements
        What the campaign is to fit, in its order; empty where that is not known.
    dashboard
        Address of Dask's own dashboard; empty where nobody has one.
    """

    runs: tuple[RunState, ...]
    totals: dict[str, Any]
    elements: tuple[str, ...] = ()
    dashboard: str = ""


@dataclass(frozen=True)
class Snapshot:
    """One state of what is shown.

    Attributes
    ----------
    head
        JSON of everything but the elements' details.
    page
        The whole page with that in it.
    details
        Symbol to the JSON of its details.
    """

    head: bytes
    page: bytes
    details: dict[str, bytes]
    made: float = field(default_factory=time.monotonic)


class LiveSource:
    """Makes snapshots of a store; safe to use from several threads.

    Parameters
    ----------
    store
        Read, never written.
    standing
        How its runs stand; called once a snapshot.
    title
        Of the page.
    folder
        Results that are finished, one folder an element; they take the place of what the search says. None for none.
    every
        Seconds for which a snapshot is good.
    """

    def __init__(
        self,
        store: TrialStore,
        standing: Callable[[], Standing],
        title: str,
        *,
        folder: Path | None = None,
        every: float = 5.0,
    ) -> None:
        self.every = every
        self._store, self._standing, self._title, self._folder = store, standing, title, folder
        self._mutex = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._trouble = ""
        self._runs: dict[str, Run] = {}
        self._results: dict[str, tuple[Any, Result | None, tuple[Problem, ...]]] = {}
        self._details: dict[str, tuple[Result, bytes]] = {}

    def snapshot(self) -> Snapshot:
        """Return the latest snapshot, made anew where it is old; one thread does so, the others get the last one.

        What goes wrong with the store later than at first is shown in the page, which keeps its last numbers.

        Raises
        ------
        DftbparamError
            The first one cannot be made.
        """
        last = self._snapshot
        if last is not None and time.monotonic() - last.made < self.every:
            return last
        if not self._mutex.acquire(blocking=last is None):
            assert last is not None
            return last
        try:
            if self._snapshot is not None and time.monotonic() - self._snapshot.made < self.every:
                return self._snapshot
            self._snapshot = self._renewed()
            return self._snapshot
        finally:
            self._mutex.release()

    def _renewed(self) -> Snapshot:
        try:
            self._last = self._read()
            self._trouble = ""
        except Exception as error:
            if self._snapshot is None:
                raise
            if not isinstance(error, DftbparamError):
                _LOG.warning("the live view could not be renewed", exc_info=True)
            self._trouble = error.message if isinstance(error, DftbparamError) else type(error).__name__
        collection, standing = self._last
        return self._shown(collection, standing)

    # --- reading --------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[Collection, Standing]:
        standing = self._standing()
        found: dict[str, Result] = {}
        problems: list[Problem] = []
        notes: list[str] = []
        states: dict[str, RunState] = {}
        for run in sorted(standing.runs, key=lambda run: run.updated):
            symbol = run.name
            if symbol not in all_symbols():
                symbol = symbol_of(self._run(run.run_id)) if self._store.has_run(run.run_id) else ""
            if symbol not in all_symbols():
                notes.append(f"run {run.run_id} fits no element from H to Cm, and is not shown")
                continue
            if symbol in states:
                notes.append(f"{symbol} has several runs: {run.run_id} is shown, {states[symbol].run_id} is not")
            states[symbol] = run
        for symbol, run in states.items():
            result, trouble = self._result(symbol, run)
            problems += trouble
            if result is not None:
                found[symbol] = result
        reasons = {}
        for symbol in all_symbols():
            if symbol in found:
                continue
            if symbol in states:
                reasons[symbol] = _reason(states[symbol])
            elif standing.elements and symbol not in standing.elements:
                reasons[symbol] = "not in this campaign"
            else:
                reasons[symbol] = "not begun" if standing.elements else "no run of it in the store"
        results = {symbol: found[symbol] for symbol in all_symbols() if symbol in found}
        runs = tuple(_named(run, symbol) for symbol, run in states.items())
        ordered = Standing(tuple(sorted(runs, key=_order)), standing.totals, standing.elements, standing.dashboard)
        return Collection((self._title,), results, reasons, tuple(problems), tuple(notes)), ordered

    def _run(self, run_id: str) -> Run:
        if run_id not in self._runs:
            self._runs[run_id] = self._store.load_run(run_id)
        return self._runs[run_id]

    def _result(self, symbol: str, run: RunState) -> tuple[Result | None, tuple[Problem, ...]]:
        """The finished result, else what the search says; read again where the files or the number of trials differ."""
        path = None if self._folder is None else self._folder / symbol
        files = None if path is None or run.done == 0 else _stamps(path)
        key = (files, run.run_id, run.done, run.failed)
        cached = self._results.get(symbol)
        if cached is not None and cached[0] == key:
            return cached[1], cached[2]
        result: Result | None = None
        problems: list[Problem] = []
        if files is not None and path is not None:
            result = read_run(path, symbol, problems, [])
            if result is not None and result.symbol != symbol:
                result = None
        if result is None and run.done > run.failed:
            source = f"trial store, run {run.run_id}"
            trials = self._store.trials(run.run_id)
            result = provisional_result(symbol, self._run(run.run_id), trials, source, REMARK)
        self._results[symbol] = (key, result, tuple(problems))
        return result, tuple(problems)

    # --- showing --------------------------------------------------------------------------------------------------

    def _shown(self, collection: Collection, standing: Standing) -> Snapshot:
        details, versions = {}, {}
        for symbol, result in collection.results.items():
            cached = self._details.get(symbol)
            if cached is None or cached[0] is not result:
                cached = (result, embedded_json(element_content(result)).encode())
                self._details[symbol] = cached
            details[symbol] = cached[1]
            versions[symbol] = hashlib.sha256(cached[1]).hexdigest()[:12]
        data = page_data(collection, self._title, details=False)
        data["live"] = {
            "seconds": self.every,
            "trouble": self._trouble,
            "runs": [_rounded(asdict(run)) for run in standing.runs],
            "totals": _rounded(standing.totals),
            "elements": len(standing.elements),
            "not_begun": len(set(standing.elements) - {run.name for run in standing.runs}),
            "dashboard": standing.dashboard,
            "versions": versions,
        }
        return Snapshot(embedded_json(data).encode(), render_page(collection, self._title, data=data).encode(), details)


def _stamps(path: Path) -> tuple[Any, ...] | None:
    """When the files of a run folder were changed; None where it holds no complete result."""
    stamps: list[tuple[int, int] | None] = []
    for name in SHOWN_FILES:
        try:
            status = (path / name).stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_mtime_ns, status.st_size))
    # The manifest is written last, and removed first: without it the others belong to nothing.
    return None if stamps[0] is None or stamps[-1] is None else tuple(stamps)


def _reason(run: RunState) -> str:
    budget = "" if run.evaluations is None else f" of {run.evaluations}"
    trials = f", {run.done}{budget} trials, {run.failed} of them failed" if run.done else ", no trial yet"
    return f"{run.state}{trials}" + (f": {run.message}" if run.message else "")


def _named(run: RunState, symbol: str) -> RunState:
    return RunState(**{**asdict(run), "name": symbol})


def _order(run: RunState) -> tuple[int, int]:
    """Those that go on first, then by number."""
    states = ("running", "failed", "interrupted", "finished", "waiting")
    return states.index(run.state) if run.state in states else len(states), all_symbols().index(run.name)


def _rounded(value: dict[str, Any]) -> dict[str, Any]:
    return {key: shorten(one, 4) if isinstance(one, float) else one for key, one in value.items()}
