"""`TrialStore`: runs and their trials in SQLite, or in any database SQLAlchemy reaches.

Guarantees
----------
- *Append-only.* A trial is inserted once; (run, index) is unique, and there is no call that changes or deletes one.
- *Durable.* When `TrialStore.append` returns, the trial survives ``kill -9`` and, as far as the disk keeps its word, a
  power cut: SQLite runs with a rollback journal and ``synchronous = FULL``. The journal is SQLite's default rather
  than WAL, because WAL needs shared memory, which the network file systems of clusters lack.
- *One driver a run.* `TrialStore.exclusive` holds an operating-system lock, which a killed process gives back.
- *Versioned.* The file says which schema it has; foreign, newer or older files are refused, not guessed at.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, StaticPool

from dftbparam.errors import DftbparamError, ParameterError, StoreError
from dftbparam.store.records import Run, Trial, to_json

SCHEMA_VERSION: Final = 1
"""Raised when a stored file can no longer be read by the previous code."""

COMPONENT: Final = "dftbparam-trials"
"""Marks a database as ours."""

BUSY_SECONDS: Final = 30.0
"""How long to wait for another process that writes: a commit takes milliseconds, a slow network disk seconds."""

_METADATA = sa.MetaData()
_SCHEMA = sa.Table(
    "schema_info",
    _METADATA,
    sa.Column("component", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
_RUNS = sa.Table(
    "runs",
    _METADATA,
    sa.Column("run_id", sa.String(200), primary_key=True),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("budget", sa.Text, nullable=False),
    sa.Column("provenance", sa.Text, nullable=False),
)
# Structured values are JSON text rather than the database's own JSON type: text keeps floats bit for bit everywhere.
_TRIALS = sa.Table(
    "trials",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(200), sa.ForeignKey("runs.run_id"), nullable=False),
    sa.Column("trial_index", sa.Integer, nullable=False),
    sa.Column("x", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("objective", sa.Double),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("started", sa.String(40), nullable=False),
    sa.Column("finished", sa.String(40), nullable=False),
    sa.Column("settings_hash", sa.String(64), nullable=False),
    sa.UniqueConstraint("run_id", "trial_index", name="one_trial_per_index"),
)


class TrialStore:
    """Runs and trials in one database. Open it with `TrialStore.open`; usable as a context manager.

    Every method raises `StoreError` where the database is locked for longer than `BUSY_SECONDS`, damaged, or gone.
    """

    def __init__(self, engine: sa.Engine, path: Path | None, where: str) -> None:
        self._engine = engine
        self._path = path
        self.where = where
        """Path or address, without a password."""

    @classmethod
    def open(cls, location: str | Path, *, create: bool = True) -> Self:
        """Open a store.

        Parameters
        ----------
        location
            A path (SQLite) or an SQLAlchemy address with ``://`` in it.
        create
            Create the file, its folder and its tables where they are missing.

        Raises
        ------
        ParameterError
            The path cannot be written, is missing while ``create`` is False, or the address is malformed.
        StoreError
            The database is foreign, damaged, or of another schema version.
        """
        path: Path | None = None
        try:
            if isinstance(location, str) and "://" in location:
                url = sa.engine.make_url(location)
            else:
                url = sa.URL.create("sqlite", database=os.fspath(location))
            if url.get_backend_name() == "sqlite":
                in_memory = url.database in (None, "", ":memory:")
                engine = _sqlite_engine(url, in_memory)
                if not in_memory:
                    path = Path(str(url.database))
                    _prepare(path, create)
            else:
                engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(
                f"{str(location)!r} is not a database address ({reason}); right are a path, sqlite:///relative/path or "
                "postgresql+psycopg://user@host/name",
                location=str(location),
            ) from None
        except ImportError as error:
            raise ParameterError(
                f"{url.render_as_string()!r}: its database driver is not installed ({error})",
                location=url.render_as_string(),
            ) from None
        store = cls(engine, path, str(path) if path else url.render_as_string())
        try:
            store._check_schema(create)
        except DftbparamError:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back."""
        self._engine.dispose()

    # --- runs -----------------------------------------------------------------------------------------------------

    def create_run(self, run: Run) -> Run:
        """Store a new run and return it with its time of creation; `ParameterError` where its name is taken."""
        created = run.created or datetime.now(UTC).isoformat(timespec="seconds")
        row = {
            "run_id": run.run_id,
            "created": created,
            "settings": to_json(run.settings),
            "budget": to_json(run.budget),
            "provenance": to_json(run.provenance),
        }
        try:
            with self._write() as connection:
                connection.execute(sa.insert(_RUNS).values(row))
        except sa.exc.IntegrityError:
            raise ParameterError(
                f"{self.where} holds a run {run.run_id!r} already; resume it, or choose another output folder",
                run_id=run.run_id,
            ) from None
        return self.load_run(run.run_id)

    def has_run(self, run_id: str) -> bool:
        """Whether the store holds this run."""
        return any(run.run_id == run_id for run in self.runs())

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        with self._read() as connection:
            rows = connection.execute(sa.select(_RUNS).order_by(_RUNS.c.created, _RUNS.c.run_id)).mappings().all()
        return [
            Run(
                run_id=row["run_id"],
                created=row["created"],
                settings=self._loads(row["settings"]),
                budget=self._loads(row["budget"]),
                provenance=self._loads(row["provenance"]),
            )
            for row in rows
        ]

    def load_run(self, run_id: str) -> Run:
        """Return a run; `ParameterError` names those there are where it is missing."""
        runs = {run.run_id: run for run in self.runs()}
        if run_id not in runs:
            known = ", ".join(runs) or "none"
            raise ParameterError(f"{self.where} holds no run {run_id!r}; it holds: {known}", run_id=run_id)
        return runs[run_id]

    def set_budget(self, run_id: str, budget: dict[str, Any]) -> None:
        """Replace the budget of a run, the only part of it that may change."""
        with self._write() as connection:
            connection.execute(sa.update(_RUNS).where(_RUNS.c.run_id == run_id).values(budget=to_json(budget)))

    # --- trials ---------------------------------------------------------------------------------------------------

    def append(self, trial: Trial) -> None:
        """Store a finished trial; it is on disk when this returns.

        Raises
        ------
        StoreError
            The run has a trial of this index (it is kept as it was), or there is no such run.
        """
        row = {
            "run_id": trial.run_id,
            "trial_index": trial.index,
            "x": json.dumps([float(value) for value in trial.x]),
            "parameters": to_json(trial.parameters),
            "status": trial.status,
            "objective": trial.objective,
            "metrics": to_json(trial.metrics),
            "details": to_json(trial.details),
            "error": None if trial.error is None else to_json(trial.error),
            "seconds": trial.seconds,
            "worker": trial.worker,
            "started": trial.started,
            "finished": trial.finished,
            "settings_hash": trial.settings_hash,
        }
        try:
            with self._write() as connection:
                connection.execute(sa.insert(_TRIALS).values(row))
        except sa.exc.IntegrityError:
            raise StoreError(
                f"{self.where}: run {trial.run_id!r} has a trial {trial.index} already, or there is no such run; "
                "trials are never overwritten. Is another driver working on it?",
                run_id=trial.run_id,
                index=trial.index,
            ) from None

    def trials(self, run_id: str) -> list[Trial]:
        """Finished trials of a run in order of index; empty where there are none."""
        query = sa.select(_TRIALS).where(_TRIALS.c.run_id == run_id).order_by(_TRIALS.c.trial_index)
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Trial(
                run_id=row["run_id"],
                index=row["trial_index"],
                x=tuple(self._loads(row["x"])),
                parameters=self._loads(row["parameters"]),
                status=row["status"],
                objective=row["objective"],
                metrics=self._loads(row["metrics"]),
                details=self._loads(row["details"]),
                error=None if row["error"] is None else self._loads(row["error"]),
                seconds=row["seconds"],
                worker=row["worker"],
                started=row["started"],
                finished=row["finished"],
                settings_hash=row["settings_hash"],
            )
            for row in rows
        ]

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Trials as flat rows for tables and plots.

        Columns: index, status, objective, seconds, worker, started, finished, error (type: message), then
        ``parameter.NAME`` and ``metric.NAME`` (only metrics that are numbers, text or truth values).
        """
        table: list[dict[str, Any]] = []
        for trial in self.trials(run_id):
            row: dict[str, Any] = {
                "index": trial.index,
                "status": trial.status,
                "objective": trial.objective,
                "seconds": trial.seconds,
                "worker": trial.worker,
                "started": trial.started,
                "finished": trial.finished,
                "error": f"{trial.error.get('type')}: {trial.error.get('message')}" if trial.error else None,
            }
            row |= {f"parameter.{name}": value for name, value in trial.parameters.items()}
            row |= {f"metric.{k}": v for k, v in trial.metrics.items() if not isinstance(v, list | dict)}
            table.append(row)
        return table

    @contextlib.contextmanager
    def exclusive(self, run_id: str) -> Iterator[None]:
        """Hold a run for this process; `StoreError` where another one has it.

        SQLite files: a lock on the file ``NAME.lock`` beside it, which the operating system releases with the process
        however it ends. Other databases, and file systems without locks, rely on the uniqueness of trials alone.
        """
        if self._path is None:
            yield
            return
        import fcntl

        lock = self._path.with_name(self._path.name + ".lock")
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another process is working on {self.where}; wait for it, or end it, or use another folder",
                    run_id=run_id,
                ) from None
            except OSError:
                pass  # a file system without locks
            yield

    # --- inside ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        engine = self._engine.execution_options(dftbparam_write=True)
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            cause = str(error.orig)
            if "locked" in cause or "busy" in cause:
                advice = f"another process has held it for over {BUSY_SECONDS:.0f} s"
            elif "not a database" in cause:
                advice = "it is not a trial store, or damaged"
            elif "readonly" in cause or "full" in cause:
                advice = "it cannot be written"
            else:
                advice = "it cannot be used"
            raise StoreError(f"trial store {self.where}: {advice} ({cause})", where=self.where) from None

    def _loads(self, text: str) -> Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise StoreError(f"trial store {self.where} is damaged: {error}", where=self.where) from None

    def _check_schema(self, create: bool) -> None:
        # One transaction, so that a process killed here leaves either no tables or all of them.
        with self._write() if create else self._read() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            if not tables:
                if not create:
                    raise ParameterError(f"{self.where} is empty: no campaign has been run there", where=self.where)
                _METADATA.create_all(connection)
                connection.execute(sa.insert(_SCHEMA).values(component=COMPONENT, version=SCHEMA_VERSION))
                return
            version: int | None = None
            if _SCHEMA.name in tables:
                version = connection.execute(
                    sa.select(_SCHEMA.c.version).where(_SCHEMA.c.component == COMPONENT)
                ).scalar()
        if version is None:
            raise StoreError(
                f"{self.where} is a database of something else (tables: {', '.join(sorted(tables))}); "
                "choose another file",
                where=self.where,
            )
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.where} has schema version {version}, this dftbparam reads {SCHEMA_VERSION}; upgrade dftbparam",
                where=self.where,
                version=version,
            )
        if version < SCHEMA_VERSION:
            raise StoreError(
                f"{self.where} has schema version {version}, this dftbparam reads {SCHEMA_VERSION} and has no upgrade "
                "from it; use the dftbparam it was written with, or another folder",
                where=self.where,
                version=version,
            )


def _prepare(path: Path, create: bool) -> None:
    """Make sure a SQLite file can be opened; `ParameterError` says what is in the way."""
    if path.is_dir():
        raise ParameterError(f"{path} is a folder; a trial store is a file, e.g. {path / 'trials.sqlite'}")
    if not path.exists():
        if not create:
            raise ParameterError(f"there is no trial store {path}; has a campaign been run there?", path=str(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParameterError(
                f"folder {path.parent} cannot be created ({error.strerror}); choose one you can write to",
                path=str(path.parent),
            ) from None
    if create and not os.access(path.parent, os.W_OK | os.X_OK):
        raise ParameterError(f"folder {path.parent} cannot be written; choose another one", path=str(path.parent))
    if create and path.exists() and not os.access(path, os.W_OK):
        raise ParameterError(f"file {path} cannot be written; choose another folder", path=str(path))


def _sqlite_engine(url: sa.URL, in_memory: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=StaticPool if in_memory else NullPool,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # Transactions are begun below: Python's own bookkeeping would leave the creation of tables outside of them.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A writer takes its lock at once: a reader's lock cannot be raised while another writer waits for readers.
        write = connection.get_execution_options().get("dftbparam_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
