"""One driver a run: locks that go with the process that held them, however it ended.

`FileLocks` for SQLite, `AdvisoryLocks` for PostgreSQL, `NoLocks` for databases in memory. All three offer

- ``hold(run_id)``: context manager; `StoreError` where another process or thread has the run;
- ``confirm(run_id)``: called before each append of a run that is held; `StoreError` where the lock was lost to another;
- ``held(run_ids)``: which of these runs anybody holds; None for those of which that cannot be said.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

import sqlalchemy as sa

from dftbparam.errors import StoreError
from dftbparam.store.connection import Database, cause_of

GRACE_ATTEMPTS: Final = 6
GRACE_SECONDS: Final = 0.02
"""A file's lock is asked for so often, with this pause, before it counts as another's: whoever looks which runs are
held has a share of it for microseconds."""

ENDING_SECONDS: Final = 3.0
"""How long a server may take to end a session and to give its locks back."""

_LOG = logging.getLogger(__name__)


class Locks(Protocol):
    """What the three kinds have in common; see the module."""

    def hold(self, run_id: str) -> contextlib.AbstractContextManager[None]:
        """Hold a run."""

    def confirm(self, run_id: str) -> None:
        """Make sure that a run is still held."""

    def held(self, run_ids: Sequence[str]) -> dict[str, bool | None]:
        """Tell which runs are held."""

    def upgrading(self) -> contextlib.AbstractContextManager[None]:
        """Keep out drivers of an older version, which do not know the tables."""

    def close(self) -> None:
        """Give up everything."""


def taken(where: str, run_id: str, why: str = "") -> StoreError:
    """The error of a run that somebody else has; its ``held`` is True."""
    return StoreError(
        f"another process or thread is working on run {run_id!r} of {where}{why}; wait for it, or end it, or use "
        "another folder or name",
        run_id=run_id,
        held=True,
    )


class NoLocks:
    """Databases in memory: nobody else can see them."""

    @contextlib.contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Hold a run; the store itself keeps threads apart."""
        yield

    def confirm(self, run_id: str) -> None:
        """Nothing can be lost."""

    def held(self, run_ids: Sequence[str]) -> dict[str, bool | None]:
        """Tell that no process holds any; the store itself knows of its threads."""
        return dict.fromkeys(run_ids, False)

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[None]:
        """No older version is here."""
        yield

    def close(self) -> None:
        """Nothing to give up."""


class FileLocks:
    """``flock`` on files beside the database.

    Each run that is held has a file ``NAME.HASH.lock``, removed afterwards; one that a killed process left does no
    harm. Version 1 locked the whole store, ``NAME.lock``, exclusively. Who holds a run has a share of that lock, and
    an upgrade has it exclusively: so drivers of version 1 and of later versions keep each other out.

    On file systems without locks the holder's token (`dftbparam.store.schema`) has to do alone.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._path, self._where = path, where
        self._whole = path.with_name(path.name + ".lock")

    def file_of(self, run_id: str) -> Path:
        """Return the lock file of a run."""
        digest = hashlib.sha256(run_id.encode()).hexdigest()[:16]
        return self._path.with_name(f"{self._path.name}.{digest}.lock")

    @contextlib.contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Hold a run."""
        with contextlib.ExitStack() as stack:
            whole = stack.enter_context(self._opened(self._whole))
            if not _lock(whole, fcntl.LOCK_SH):
                raise taken(self._where, run_id, " with an older dftbparam, or upgrading it")
            path = self.file_of(run_id)
            while True:
                file = stack.enter_context(self._opened(path))
                if not _lock(file, fcntl.LOCK_EX):
                    raise taken(self._where, run_id)
                # The last holder may have removed the file after it was opened here: then it guards nothing.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        break
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()

    def confirm(self, run_id: str) -> None:
        """The operating system takes no lock away."""

    def held(self, run_ids: Sequence[str]) -> dict[str, bool | None]:
        """Tell which runs are held, by asking for a share of each lock for a moment."""
        if _is_locked(self._whole):
            return dict.fromkeys(run_ids, True)
        return {run_id: _is_locked(self.file_of(run_id)) for run_id in run_ids}

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[None]:
        """Keep everybody out."""
        with self._opened(self._whole) as whole:
            if not _lock(whole, fcntl.LOCK_EX):
                raise StoreError(
                    f"{self._where} is to be upgraded, but another process is working on it; wait for it, or end it",
                    where=self._where,
                    held=True,
                )
            yield

    def close(self) -> None:
        """Nothing is kept open."""

    def _opened(self, path: Path) -> IO[str]:
        try:
            return path.open("a")
        except OSError as error:
            raise StoreError(
                f"lock file {path} cannot be written ({error.strerror}); make space, or choose another folder",
                where=self._where,
            ) from None


def _lock(file: IO[str], kind: int) -> bool:
    """Lock a file; True as well where the file system has no locks."""
    for attempt in range(GRACE_ATTEMPTS):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < GRACE_ATTEMPTS - 1:
                time.sleep(GRACE_SECONDS)
        except OSError:
            return True
    return False


def _is_locked(path: Path) -> bool | None:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


class AdvisoryLocks:
    """Session-level advisory locks of PostgreSQL, all of a store's on one connection that does nothing else.

    The server gives them back when that connection ends. `confirm` notices, takes the locks again on a new connection,
    and says so where somebody else has one by then. Does not work through a connection pooler that hands one session
    to several clients (PgBouncer in transaction mode).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: sa.Connection | None = None
        self._runs: set[str] = set()
        self._lost: set[str] = set()
        self._mutex = threading.RLock()
        # Shown by the server, so that a session whose connection broke can be found and ended.
        self._name = f"dftbparam {uuid.uuid4().hex}"

    @contextlib.contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Hold a run."""
        self._database.retrying(lambda: self._take(run_id))
        try:
            yield
        finally:
            self._release(run_id)

    def confirm(self, run_id: str) -> None:
        """Make sure that the connection lives and the run is still held; raises what SQLAlchemy does if not."""
        with self._mutex:
            self._connect()
            if run_id in self._lost:
                raise taken(self._database.where, run_id, ", and took it over when the connection was lost")

    def held(self, run_ids: Sequence[str]) -> dict[str, bool | None]:
        """Tell which runs are held, from the server's table of locks."""
        query = sa.text(
            "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
            "AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        keys = {(int(high), int(low)) for high, low in rows}
        return {run_id: (_key(run_id) >> 32 & 0xFFFFFFFF, _key(run_id) & 0xFFFFFFFF) in keys for run_id in run_ids}

    @contextlib.contextmanager
    def upgrading(self) -> Iterator[None]:
        """Version 1 had no locks here; the upgrade locks its table, and totals are counted when a run is taken."""
        yield

    def close(self) -> None:
        """Give up everything."""
        with self._mutex:
            self._runs.clear()
            self._lost.clear()
            self._disconnect()

    def _take(self, run_id: str) -> None:
        with self._mutex:
            session = self._connect()
            if not _try_lock(session, run_id):
                if not self._runs:
                    self._disconnect()
                raise taken(self._database.where, run_id)
            self._runs.add(run_id)

    def _release(self, run_id: str) -> None:
        with self._mutex:
            self._runs.discard(run_id)
            self._lost.discard(run_id)
            if self._session is not None:
                # A session that is gone has given the lock back. One that ends does so too, but only in a moment.
                with contextlib.suppress(sa.exc.DBAPIError):
                    self._session.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _key(run_id)})
            if not self._runs:
                self._disconnect()

    def _connect(self) -> sa.Connection:
        """Return a session that lives and holds all that can be held."""
        if self._session is not None:
            try:
                self._session.execute(sa.text("SELECT 1"))
                return self._session
            except sa.exc.DBAPIError as error:
                where = self._database.where
                _LOG.warning("trial store %s: the connection with its locks was lost (%s)", where, cause_of(error))
                self._disconnect()
        session = self._database.session(self._name)
        try:
            if self._runs:
                session.execute(
                    sa.text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = :name AND pid <> pg_backend_pid()"
                    ),
                    {"name": self._name},
                )
            end = time.monotonic() + ENDING_SECONDS
            lost = {run_id for run_id in self._runs if not _try_lock(session, run_id)}
            while lost and time.monotonic() < end:
                time.sleep(GRACE_SECONDS)
                lost = {run_id for run_id in lost if not _try_lock(session, run_id)}
            self._lost = lost
        except BaseException:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                session.close()
            raise
        self._session = session
        return session

    def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                session.invalidate()  # closes the connection itself, whatever state it is in
                session.close()


def _try_lock(session: sa.Connection, run_id: str) -> bool:
    return bool(session.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(run_id)}).scalar())


def _key(run_id: str) -> int:
    """The number by which the server knows the lock of a run: 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"dftbparam-run:{run_id}".encode()).digest()[:8], "big", signed=True)


def locks_of(database: Database) -> Locks:
    """Return the locks that go with a database."""
    if database.server:
        return AdvisoryLocks(database)
    if database.path is not None:
        return FileLocks(database.path, database.where)
    return NoLocks()
