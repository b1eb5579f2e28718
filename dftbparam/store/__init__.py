"""The trial store: every finished evaluation, append-only, in a database."""

from dftbparam.store.records import Run, Trial, differing_settings, settings_hash
from dftbparam.store.trial_store import TrialStore

__all__ = ["Run", "Trial", "TrialStore", "differing_settings", "settings_hash"]
