"""The version of the trial store's tables, and the upgrade from older ones.

Version 1 had runs and trials. Version 2 adds, without touching those rows,

- ``run_totals``: numbers of trials, best objective and seconds of each run, kept by every append in its transaction, so
  that an overview costs one row a run however many trials there are;
- ``run_states``: what drivers say of their runs, also before a run is created;
- ``run_holders``: a token of the driver that took a run last. A driver checks it in the transaction of each append, so
  that one which lost its lock without noticing cannot write beside its successor.

An upgrade is one transaction: after a crash in its middle the database is as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa

from dftbparam.errors import ParameterError, StoreError
from dftbparam.store.tables import HOLDERS, METADATA, RUN_STATES, SCHEMA, TOTALS
from dftbparam.store.totals import totals_from_trials

SCHEMA_VERSION: Final = 2
"""Raised when a stored file can no longer be read by the previous code."""

COMPONENT: Final = "dftbparam-trials"
"""Marks a database as ours."""


def read_version(connection: sa.Connection, where: str) -> int | None:
    """Return the schema version of a database, None of an empty one.

    Raises
    ------
    ParameterError
        The database belongs to something else.
    StoreError
        Its version is one this code neither reads nor upgrades.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        return None
    version: int | None = None
    if SCHEMA.name in tables:
        version = connection.execute(sa.select(SCHEMA.c.version).where(SCHEMA.c.component == COMPONENT)).scalar()
    if version is None:
        raise ParameterError(
            f"{where} is a database of something else (tables: {', '.join(sorted(tables))}); choose another one",
            where=where,
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{where} has schema version {version}, this dftbparam reads {SCHEMA_VERSION}; upgrade dftbparam",
            where=where,
            version=version,
        )
    if version < min(_UPGRADES):
        raise StoreError(
            f"{where} has schema version {version}, this dftbparam reads {SCHEMA_VERSION} and has no upgrade "
            "from it; use the dftbparam it was written with, or another folder",
            where=where,
            version=version,
        )
    return version


def bring_up_to_date(connection: sa.Connection, where: str) -> None:
    """Create the tables or upgrade them, inside the caller's transaction; does nothing where all is current."""
    if connection.dialect.name == "postgresql":
        # Two drivers that begin at the same moment must not both create the tables. SQLite's transactions see to that.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": COMPONENT})
    version = read_version(connection, where)
    if version is None:
        METADATA.create_all(connection)
        connection.execute(sa.insert(SCHEMA).values(component=COMPONENT, version=SCHEMA_VERSION))
        return
    while version < SCHEMA_VERSION:
        _UPGRADES[version](connection)
        version += 1
        connection.execute(sa.update(SCHEMA).where(SCHEMA.c.component == COMPONENT).values(version=version))


def _from_version_1(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Nobody may add a trial between the counting and the commit.
        connection.execute(sa.text("LOCK TABLE trials IN SHARE ROW EXCLUSIVE MODE"))
        # A worker's name could not exceed 200 characters; SQLite never minded.
        connection.execute(sa.text("ALTER TABLE trials ALTER COLUMN worker TYPE TEXT"))
    METADATA.create_all(connection, tables=[TOTALS, RUN_STATES, HOLDERS])
    columns = [column.name for column in TOTALS.columns]
    connection.execute(sa.insert(TOTALS).from_select(columns, totals_from_trials()))


_UPGRADES: Final[Mapping[int, Callable[[sa.Connection], None]]] = {1: _from_version_1}
"""From each older version to the next."""
