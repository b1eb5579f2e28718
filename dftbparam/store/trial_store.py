"""`TrialStore`: runs and their trials in SQLite, or in PostgreSQL where many drivers share one store.

Guarantees
----------
- *Append-only.* A trial is inserted once; (run, index) is unique, and there is no call that changes or deletes one.
- *Durable.* When `TrialStore.append` returns, the trial survives ``kill -9`` and, as far as the disk keeps its word, a
  power cut. What a full disk or a lost server refuses is not half there, and can be appended again.
- *One driver a run.* `TrialStore.exclusive` holds a lock that a killed process gives back, and each append of that
  driver makes sure, in its own transaction, that nobody has taken the run since.
- *Overviews cost nothing.* Totals are kept by every append in its transaction; no overview reads a trial.
- *Versioned.* The database says which schema it has. Version 1 is upgraded, in one transaction, where it is opened for
  writing or first written to; a reader (``create=False``) leaves it as it is and counts its trials instead. Foreign and
  newer ones are refused, not guessed at.
- *Threads.* One object serves any number of threads, each with its own runs.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa

from dftbparam.errors import DftbparamError, ParameterError, StoreError
from dftbparam.store.connection import Database
from dftbparam.store.encoding import checked_name, loads, run_of, run_row, storable, trial_of, trial_row
from dftbparam.store.locks import locks_of, taken
from dftbparam.store.records import STATES, Run, RunOverview, Trial, flat_row, to_json
from dftbparam.store.schema import SCHEMA_VERSION, bring_up_to_date, read_version
from dftbparam.store.tables import HOLDERS, RUN_STATES, RUNS, TOTALS, TRIALS
from dftbparam.store.totals import COUNT_TRIAL, count_parameters, overview_query, totals_from_trials

STORE_NAME: Final = "trials.sqlite"
"""Name of the store in the folder of a run."""

PAGE: Final = 1000
"""Trials read at once: few enough for the memory, and quick enough that no writer waits for the reader."""


class TrialStore:
    """Runs and trials in one database. Open it with `TrialStore.open`; usable as a context manager.

    Every method raises `StoreError` where the database is locked for longer than
    `dftbparam.store.connection.BUSY_SECONDS`, damaged, full or gone. A server that is gone is waited for, see
    `dftbparam.store.connection.RETRY_DELAYS`.
    """

    def __init__(self, database: Database, version: int) -> None:
        self._database = database
        self._version = version
        self._locks = locks_of(database)
        self._mutex = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._in_doubt: set[tuple[str, int]] = set()
        self.where = database.where
        """Path or address, without a password."""

    @classmethod
    def open(cls, location: str | Path, *, create: bool = True, read_only: bool = False) -> Self:
        """Open a store.

        Parameters
        ----------
        location
            A path (SQLite) or an SQLAlchemy address with ``://`` in it.
        create
            Create the file, its folder and its tables where they are missing, and upgrade them where they are old.
            Without it nothing is written before the first call that writes.
        read_only
            Have the database refuse to write; ``create`` is off then. A call that writes raises `StoreError`.

        Raises
        ------
        ParameterError
            The path cannot be written, is missing while ``create`` is False, is no database or one of something else,
            or the address is malformed.
        StoreError
            The database is of a newer schema version, or cannot be reached; an old one is in use.
        """
        create = create and not read_only
        database = Database.open(location, create, read_only)
        try:
            version = database.read(lambda connection: read_version(connection, database.where), attempts=1)
            if version is None and not create:
                raise ParameterError(f"{database.where} is empty: no campaign has been run there", where=database.where)
            if version is None:
                database.write(lambda connection: bring_up_to_date(connection, database.where), attempts=1)
                version = SCHEMA_VERSION
            store = cls(database, version)
            if create:
                store._upgrade()
        except DftbparamError as error:
            database.close()
            if error.data.get("foreign"):
                # Of a store that is in use it is a loss; of one that is only named, the wrong name.
                raise ParameterError(error.message, where=database.where) from None
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back, and all runs that are held."""
        self._locks.close()
        self._database.close()

    # --- runs -----------------------------------------------------------------------------------------------------

    def create_run(self, run: Run) -> Run:
        """Store a new run and return it with its time of creation; `ParameterError` where its name is taken."""
        self._upgrade()
        created = run.created or _now()
        row = run_row(run, created)
        totals = {"run_id": run.run_id, "finished": 0, "failed": 0, "seconds": 0.0, "updated": created}
        doubts: list[bool] = []

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(RUNS).values(row))
            connection.execute(sa.insert(TOTALS).values(totals))

        try:
            self._database.write(work, on_doubt=lambda: doubts.append(True))
        except sa.exc.IntegrityError:
            if not (doubts and self._stored(RUNS, RUNS.c.run_id == run.run_id) == row):
                raise ParameterError(
                    f"{self.where} holds a run {run.run_id!r} already; resume it, or choose another output folder",
                    run_id=run.run_id,
                ) from None
        return self.load_run(run.run_id)

    def has_run(self, run_id: str) -> bool:
        """Whether the store holds this run."""
        return self._stored(RUNS, RUNS.c.run_id == run_id) is not None

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        query = sa.select(RUNS).order_by(RUNS.c.created, RUNS.c.run_id)
        return [run_of(row, self.where) for row in self._page(query)]

    def run_ids(self) -> list[str]:
        """Names of all runs, oldest first."""
        query = sa.select(RUNS.c.run_id).order_by(RUNS.c.created, RUNS.c.run_id)
        return list(self._database.read(lambda connection: connection.execute(query).scalars().all()))

    def load_run(self, run_id: str) -> Run:
        """Return a run; `ParameterError` names those there are where it is missing."""
        row = self._stored(RUNS, RUNS.c.run_id == run_id)
        if row is None:
            known = ", ".join(self.run_ids()) or "none"
            raise ParameterError(f"{self.where} holds no run {run_id!r}; it holds: {known}", run_id=run_id)
        return run_of(row, self.where)

    def set_budget(self, run_id: str, budget: dict[str, Any]) -> None:
        """Replace the budget of a run, the only part of it that may change."""
        query = sa.update(RUNS).where(RUNS.c.run_id == run_id).values(budget=to_json(budget))
        self._upgrade()
        self._database.write(lambda connection: connection.execute(query))

    def set_state(self, run_id: str, state: str, message: str = "", driver: str = "") -> None:
        """Say how a run stands, for `overview`; the run need not have been created yet.

        Parameters
        ----------
        state
            One of `dftbparam.store.STATES`; `ParameterError` if not.
        message, driver
            One line on it (why it failed), and who says so (host and process).
        """
        if state not in STATES:
            raise ParameterError(f"state {state!r} of run {run_id!r}; right are: {', '.join(STATES)}", state=state)
        self._upgrade()
        row = {
            "run_id": checked_name(run_id),
            "state": state,
            "message": storable(message),
            "driver": storable(driver),
            "updated": _now(),
        }
        self._database.write(lambda connection: _upsert(connection, RUN_STATES, row))

    def overview(self, prefix: str = "") -> list[RunOverview]:
        """Return what is known of every run whose name begins with ``prefix``, sorted by name, without reading trials.

        Runs that only have a state are in it as well. A store of version 1 that was opened for reading has no totals;
        there, and only there, the trials are counted.
        """

        def work(connection: sa.Connection) -> list[dict[str, Any]]:
            if self._version < SCHEMA_VERSION:  # another process may have upgraded it meanwhile
                self._version = read_version(connection, self.where) or SCHEMA_VERSION
            query = overview_query(prefix, totals=self._version == SCHEMA_VERSION)
            return [dict(row) for row in connection.execute(query).mappings()]

        rows = self._database.read(work)
        held = self._locks.held([row["run_id"] for row in rows])
        found = []
        for row in sorted(rows, key=lambda row: str(row["run_id"])):
            budget = {} if row["budget"] is None else loads(row["budget"], self.where)
            found.append(
                RunOverview(
                    run_id=row["run_id"],
                    state=row["state"] or "",
                    message=row["message"] or "",
                    driver=row["driver"] or "",
                    updated=max(row["said"] or "", row["updated"] or ""),
                    finished=row["finished"] or 0,
                    failed=row["failed"] or 0,
                    best_objective=row["best_objective"],
                    best_index=row["best_index"],
                    seconds=row["seconds"] or 0.0,
                    evaluations=budget.get("evaluations"),
                    held=row["run_id"] in self._tokens or held[row["run_id"]],
                )
            )
        return found

    # --- trials ---------------------------------------------------------------------------------------------------

    def append_all(self, trials: Sequence[Trial]) -> None:
        """Store finished trials in one transaction: all of them are on disk when this returns.

        A disk commits some tens or hundreds of times a second, and hundreds of workers end trials as often. Raises what
        `append` does; where one trial is refused, those before it have been stored.
        """
        if len(trials) > 1:
            rows = [trial_row(trial) for trial in trials]
            keys = {(trial.run_id, trial.index) for trial in trials}
            self._upgrade()

            def work(connection: sa.Connection) -> None:
                for run_id in sorted({trial.run_id for trial in trials}):
                    self._check_holder(connection, run_id)
                connection.execute(sa.insert(TRIALS), rows)
                for trial in trials:
                    self._count(connection, trial)

            try:
                self._database.write(work, on_doubt=lambda: self._in_doubt.update(keys))
            except sa.exc.IntegrityError:
                pass  # one by one it turns out which
            else:
                self._in_doubt.difference_update(keys)
                return
        for trial in trials:
            self.append(trial)

    def append(self, trial: Trial) -> None:
        """Store a finished trial; it is on disk when this returns.

        Where the connection breaks during the commit, nobody knows whether the trial was stored. It is tried again, and
        finding it there, the same to the last bit, is success. So it is where a call had to give up for want of a
        server or of space and is made again later.

        Raises
        ------
        StoreError
            The run has another trial of this index (it is kept as it was); there is no such run; or the run was held by
            this process and another one has taken it.
        ParameterError
            The objective of a finished trial is missing or not finite, or a failed one has an objective.
        """
        row = trial_row(trial)
        key = (trial.run_id, trial.index)
        self._upgrade()

        def work(connection: sa.Connection) -> None:
            self._check_holder(connection, trial.run_id)
            connection.execute(sa.insert(TRIALS).values(row))
            self._count(connection, trial)

        try:
            self._database.write(work, on_doubt=lambda: self._in_doubt.add(key))
        except sa.exc.IntegrityError:
            this = (TRIALS.c.run_id == trial.run_id) & (TRIALS.c.trial_index == trial.index)
            stored = self._stored(TRIALS, this) if key in self._in_doubt else None
            if stored is None or {name: stored[name] for name in row} != row:
                raise StoreError(
                    f"{self.where}: run {trial.run_id!r} has a trial {trial.index} already, or there is no such run; "
                    "trials are never overwritten. Is another driver working on it?",
                    run_id=trial.run_id,
                    index=trial.index,
                ) from None
        self._in_doubt.discard(key)

    def trials(self, run_id: str) -> list[Trial]:
        """Finished trials of a run in order of index; empty where there are none."""
        return list(self.iter_trials(run_id))

    def iter_trials(self, run_id: str, status: str | None = None) -> Iterator[Trial]:
        """Yield the trials of a run in order of index, all or those of a status, with few in memory at a time.

        Read in pages, each its own transaction, so that a slow reader keeps no driver waiting. A trial that is stored
        meanwhile may or may not be among them.
        """
        last = -1
        while True:
            query = sa.select(TRIALS).where(TRIALS.c.run_id == run_id, TRIALS.c.trial_index > last)
            if status is not None:
                query = query.where(TRIALS.c.status == status)
            query = query.order_by(TRIALS.c.trial_index).limit(PAGE)
            page = self._page(query)
            for row in page:
                yield trial_of(row, self.where)
            if len(page) < PAGE:
                return
            last = page[-1]["trial_index"]

    def latest_times(self, run_id: str, count: int) -> list[tuple[str, str]]:
        """Return beginning and end (ISO 8601, UTC) of the ``count`` trials of highest index, the highest first.

        Takes as long whatever the number of trials is.
        """
        query = sa.select(TRIALS.c.started, TRIALS.c.finished).where(TRIALS.c.run_id == run_id)
        query = query.order_by(TRIALS.c.trial_index.desc()).limit(count)
        return [
            (started, finished)
            for started, finished in self._database.read(lambda connection: connection.execute(query).all())
        ]

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Trials as flat rows for tables and plots, see `dftbparam.store.flat_row`."""
        return [flat_row(trial) for trial in self.iter_trials(run_id)]

    # --- one driver a run -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(self, run_id: str) -> Iterator[None]:
        """Hold a run, which need not exist yet; `StoreError` with ``held=True`` where another process or thread has it.

        SQLite: a lock on a file beside it, which the operating system gives back with the process however it ends.
        PostgreSQL: an advisory lock, which the server gives back with the connection. See `dftbparam.store.locks`.
        Totals that a driver of an older version left behind are corrected here.
        """
        checked_name(run_id)
        self._upgrade()
        with contextlib.ExitStack() as stack:
            token = uuid.uuid4().hex
            with self._mutex:
                if run_id in self._tokens:
                    raise taken(self.where, run_id)
                self._tokens[run_id] = token
            stack.callback(self._tokens.pop, run_id, None)
            stack.enter_context(self._locks.hold(run_id))

            def work(connection: sa.Connection) -> None:
                _upsert(connection, HOLDERS, {"run_id": run_id, "token": token})
                counted = connection.execute(totals_from_trials(run_id)).mappings().first()
                stored = connection.execute(sa.select(TOTALS).where(TOTALS.c.run_id == run_id)).mappings().first()
                names = ("finished", "failed", "best_objective", "best_index")
                if counted is not None and (stored is None or any(counted[name] != stored[name] for name in names)):
                    _upsert(connection, TOTALS, dict(counted))

            self._database.write(work)
            yield

    def _count(self, connection: sa.Connection, trial: Trial) -> None:
        """Add a trial that was inserted to the totals of its run."""
        if connection.execute(COUNT_TRIAL, count_parameters(trial, _now())).rowcount != 1:
            raise StoreError(
                f"trial store {self.where} is damaged: run {trial.run_id!r} has no totals", run_id=trial.run_id
            )

    def _check_holder(self, connection: sa.Connection, run_id: str) -> None:
        """Make sure, until the transaction ends, that a run that was taken here has not been taken by another since."""
        token = self._tokens.get(run_id)
        if token is None:
            return
        self._locks.confirm(run_id)
        # The share of this row makes a successor wait for our commit: it then sees our trial when it reads them.
        query = sa.select(HOLDERS.c.token).where(HOLDERS.c.run_id == run_id).with_for_update(read=True)
        if connection.execute(query).scalar() != token:
            raise taken(self.where, run_id, ", and took it over from this one")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        if self._version == SCHEMA_VERSION:
            return
        if self._database.read(lambda connection: read_version(connection, self.where)) == SCHEMA_VERSION:
            self._version = SCHEMA_VERSION  # another process was quicker, and may be at work by now
            return
        with self._locks.upgrading():
            self._database.write(lambda connection: bring_up_to_date(connection, self.where))
        self._version = SCHEMA_VERSION

    def _page(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return self._database.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def _stored(self, table: sa.Table, where: sa.ColumnElement[bool]) -> dict[str, Any] | None:
        rows = self._page(sa.select(table).where(where))
        return rows[0] if rows else None


def _upsert(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert a row, or replace the one of the same run."""
    # The two spell it alike, but each has its own statement, and importing PostgreSQL's takes time.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    changes = {name: value for name, value in row.items() if name != "run_id"}
    statement: Any = insert(table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=changes))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
