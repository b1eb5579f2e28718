"""Tables of the trial store; `dftbparam.store.schema` says which version has which."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

LONGEST_RUN_ID: Final = 200
"""Characters of the name of a run."""

METADATA: Final = sa.MetaData()
SCHEMA: Final = sa.Table(
    "schema_info",
    METADATA,
    sa.Column("component", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
RUNS: Final = sa.Table(
    "runs",
    METADATA,
    sa.Column("run_id", sa.String(LONGEST_RUN_ID), primary_key=True),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("budget", sa.Text, nullable=False),
    sa.Column("provenance", sa.Text, nullable=False),
)
# Structured values are JSON text rather than the database's own JSON type: text keeps floats bit for bit everywhere.
TRIALS: Final = sa.Table(
    "trials",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.String(LONGEST_RUN_ID), sa.ForeignKey("runs.run_id"), nullable=False),
    sa.Column("trial_index", sa.Integer, nullable=False),
    sa.Column("x", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("objective", sa.Double),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("started", sa.String(40), nullable=False),
    sa.Column("finished", sa.String(40), nullable=False),
    sa.Column("settings_hash", sa.String(64), nullable=False),
    sa.UniqueConstraint("run_id", "trial_index", name="one_trial_per_index"),
)
TOTALS: Final = sa.Table(
    "run_totals",
    METADATA,
    sa.Column("run_id", sa.String(LONGEST_RUN_ID), sa.ForeignKey("runs.run_id"), primary_key=True),
    sa.Column("finished", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("best_objective", sa.Double),
    sa.Column("best_index", sa.Integer),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("updated", sa.String(40), nullable=False),
)
# Neither of these refers to ``runs``: a run waits, or is taken, before it is created.
RUN_STATES: Final = sa.Table(
    "run_states",
    METADATA,
    sa.Column("run_id", sa.String(LONGEST_RUN_ID), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("driver", sa.Text, nullable=False),
    sa.Column("updated", sa.String(40), nullable=False),
)
HOLDERS: Final = sa.Table(
    "run_holders",
    METADATA,
    sa.Column("run_id", sa.String(LONGEST_RUN_ID), primary_key=True),
    sa.Column("token", sa.String(64), nullable=False),
)
