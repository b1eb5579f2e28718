"""A database as the store uses it: opened by path or address, short transactions, errors in plain words, reconnecting.

SQLite runs with a rollback journal and ``synchronous = FULL``. The journal is SQLite's default rather than WAL, because
WAL needs shared memory, which the network file systems of clusters lack.

A lost connection to a PostgreSQL server is not the end of a campaign: the transaction is tried again, a bounded number
of times. The commit of a lost transaction may or may not have happened; who cannot stand a repetition says so with
``on_doubt``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool, StaticPool

from dftbparam.errors import ParameterError, StoreError

BUSY_SECONDS: Final = 30.0
"""How long to wait for another process that writes: a commit takes milliseconds, a slow network disk seconds."""

RETRY_DELAYS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0)
"""Seconds to wait before each further attempt after a lost connection: half a minute in all, in which a server that was
restarted has come back."""

CONNECT_SECONDS: Final = 10
"""After so long a server that does not answer is called missing."""

DEAD_SECONDS: Final = 60
"""A connection whose other end has been silent for so long is given up, by client and server."""

POOLED: Final = 4
"""Connections to a server that stay open between transactions, and as many more at times: each is needed for
milliseconds, and a server of default settings has a hundred for all."""

INSTALL_POSTGRESQL: Final = "pip install 'dftbparam[postgresql]'"

_KEEPALIVE: Final = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": DEAD_SECONDS // 2,
    "keepalives_interval": DEAD_SECONDS // 6,
    "keepalives_count": 3,
    "tcp_user_timeout": DEAD_SECONDS * 1000,
}
"""Parameters of libpq; without effect on Unix sockets."""

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


class Database:
    """A database and how to reach it; made by `Database.open`. Safe to use from several threads.

    Attributes
    ----------
    path
        File of a SQLite database; None in memory and on a server.
    where
        Path or address, without a password: for messages.
    server
        Whether it is a PostgreSQL server.
    """

    def __init__(self, url: sa.URL, create: bool, read_only: bool = False) -> None:
        self._url = url
        self._read_only = read_only
        self.path: Path | None = None
        self.server = url.get_backend_name() == "postgresql"
        in_memory = not self.server and url.database in (None, "", ":memory:")
        if not (self.server or in_memory):
            self.path = Path(str(url.database))
            _prepare(self.path, create)
        self.where = str(self.path) if self.path else without_password(url.render_as_string())
        self._engine = self._server_engine() if self.server else _sqlite_engine(url, in_memory, read_only)
        self._writer = self._engine.execution_options(dftbparam_write=True)
        # In memory there is one connection for all threads. Threads that write to one file queue here rather than in
        # SQLite, which polls and is not fair.
        mutex = threading.RLock()
        self._reading: contextlib.AbstractContextManager[Any] = mutex if in_memory else contextlib.nullcontext()
        self._writing: contextlib.AbstractContextManager[Any] = contextlib.nullcontext() if self.server else mutex

    @classmethod
    def open(cls, location: str | Path, create: bool, read_only: bool = False) -> Self:
        """Make the object; a server is not asked yet. Errors: see `dftbparam.store.TrialStore.open`."""
        try:
            if isinstance(location, str) and "://" in location:
                url = sa.engine.make_url(location)
            else:
                url = sa.URL.create("sqlite", database=os.fspath(location))
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
                raise sa.exc.ArgumentError(f"no trial store is kept in {url.drivername}")
            return cls(url, create, read_only)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError) as error:
            address = without_password(str(location))
            raise ParameterError(
                f"{address!r} is not a database address ({without_password(_first_line(error))}); right are a path, "
                "sqlite:///relative/path or postgresql+psycopg://user@host/name",
                location=address,
            ) from None
        except ImportError as error:
            raise StoreError(
                f"{without_password(str(location))}: the driver of PostgreSQL is not installed ({error}); "
                f"{INSTALL_POSTGRESQL}",
                location=without_password(str(location)),
            ) from None

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def read(self, work: Callable[[sa.Connection], _T], *, attempts: int | None = None) -> _T:
        """Return what ``work`` returns, called in a transaction that only reads; it may be called again."""

        def once() -> _T:
            with self._reading, self._engine.connect() as connection:
                return work(connection)

        return self.retrying(once, attempts=attempts)

    def write(
        self,
        work: Callable[[sa.Connection], _T],
        *,
        on_doubt: Callable[[], None] | None = None,
        attempts: int | None = None,
    ) -> _T:
        """Return what ``work`` returns, called in a transaction that is committed; it may be called again.

        Parameters
        ----------
        work
            Gets the connection. What it raises undoes the transaction.
        on_doubt
            Called when an attempt failed of which nobody knows whether it was committed.
        attempts
            How often to try where the server cannot be reached; default as `RETRY_DELAYS` says.

        Raises
        ------
        sqlalchemy.exc.IntegrityError
            A row contradicts those there are.
        StoreError
            The database is locked, full, damaged or gone. The transaction is undone, unless ``on_doubt`` was called.
        """

        def once() -> _T:
            with self._writing, self._writer.begin() as connection:
                return work(connection)

        return self.retrying(once, on_doubt=on_doubt, attempts=attempts)

    def retrying(
        self, once: Callable[[], _T], *, on_doubt: Callable[[], None] | None = None, attempts: int | None = None
    ) -> _T:
        """Call ``once`` until it does not fail for want of a connection; see `write`."""
        delays = RETRY_DELAYS if attempts is None else RETRY_DELAYS[: attempts - 1]
        for delay in (*delays, None):
            try:
                return once()
            except sa.exc.IntegrityError:
                raise
            except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
                if on_doubt is not None:
                    on_doubt()
                if delay is None or not self._will_pass(error):
                    raise self._translated(error) from None
                _LOG.warning("trial store %s: %s; trying again in %g s", self.where, cause_of(error), delay)
                time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    def session(self, name: str) -> sa.Connection:
        """Open a connection of its own to the server, in autocommit, under a name that the server shows; retry nothing.

        The server is told to give it up when its client falls silent, because locks hang on it.
        """
        engine = sa.create_engine(
            self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=self._server_arguments(name)
        )
        connection = engine.connect()
        for setting, value in (("idle", DEAD_SECONDS // 2), ("interval", DEAD_SECONDS // 6), ("count", 3)):
            connection.execute(sa.text(f"SET tcp_keepalives_{setting} = {value}"))
        return connection

    def _server_engine(self) -> sa.Engine:
        return sa.create_engine(
            self._url,
            pool_size=POOLED,
            max_overflow=POOLED,
            pool_timeout=BUSY_SECONDS,
            connect_args=self._server_arguments("dftbparam"),
            # The server refuses to write in such transactions.
            execution_options={"postgresql_readonly": True} if self._read_only else {},
        )

    def _server_arguments(self, name: str) -> dict[str, Any]:
        # What the address says goes first.
        return {"application_name": name} | {k: v for k, v in _KEEPALIVE.items() if k not in self._url.query}

    def _will_pass(self, error: sa.exc.SQLAlchemyError) -> bool:
        """Whether an error is one of the connection or of timing, which another attempt may not meet."""
        if not (self.server and isinstance(error, sa.exc.DBAPIError)):
            return False
        if error.connection_invalidated:
            return True
        state = getattr(error.orig, "sqlstate", None)
        if state is None:  # no answer from a server: the connection could not be made, or broke
            return isinstance(error, sa.exc.OperationalError)
        # Connection exceptions, shutdown and start-up, too many connections, deadlock, serialisation.
        return str(state).startswith(("08", "57P", "53300", "40P01", "40001"))

    def _translated(self, error: sa.exc.SQLAlchemyError) -> StoreError:
        cause = cause_of(error)
        state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
        if self._will_pass(error):
            advice = "there is no connection to its server; start it, or correct the address"
        elif "locked" in cause or "busy" in cause:
            advice = f"another process has held it for over {BUSY_SECONDS:.0f} s"
        elif "not a database" in cause:
            return StoreError(
                f"{self.where} is not a trial store, or damaged ({cause})", where=self.where, foreign=True
            )
        elif "full" in cause or state.startswith("53100"):
            advice = "it cannot be written, the disk is full; nothing of this was stored, so make space and go on"
        elif "readonly" in cause or state.startswith(("25006", "42501")):
            advice = "it cannot be written"
        else:
            advice = "it cannot be used"
        return StoreError(f"trial store {self.where}: {advice} ({cause})", where=self.where)


def without_password(text: str) -> str:
    """Return an address, well-formed or not, with its password replaced by asterisks."""
    text = re.sub(r"(://[^:/@\s]*):.*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s\"']*", r"\1***", text, flags=re.IGNORECASE)


def cause_of(error: sa.exc.SQLAlchemyError) -> str:
    """Return what the database said, on one line."""
    said = getattr(error, "orig", None) or error
    return without_password(" ".join(str(said).split()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _prepare(path: Path, create: bool) -> None:
    """Make sure a SQLite file can be opened; `ParameterError` says what is in the way.

    The file itself is never opened here: closing it would give up the locks SQLite holds on it in this process.
    """
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


def _sqlite_engine(url: sa.URL, in_memory: bool, read_only: bool) -> sa.Engine:
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
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A writer takes its lock at once: a reader's lock cannot be raised while another writer waits for readers.
        write = connection.get_execution_options().get("dftbparam_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
