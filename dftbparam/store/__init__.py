"""The trial store: every finished evaluation, append-only, in a database."""

from dftbparam.store.records import (
    STATES,
    Run,
    RunOverview,
    Trial,
    differing_settings,
    flat_row,
    settings_hash,
)
from dftbparam.store.schema import SCHEMA_VERSION
from dftbparam.store.trial_store import STORE_NAME, TrialStore

__all__ = [
    "SCHEMA_VERSION",
    "STATES",
    "STORE_NAME",
    "Run",
    "RunOverview",
    "Trial",
    "TrialStore",
    "differing_settings",
    "flat_row",
    "settings_hash",
]
