"""Totals of runs: counted from the trials, kept by every append, and read for an overview."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from dftbparam.store.records import Trial
from dftbparam.store.tables import RUN_STATES, RUNS, TOTALS, TRIALS


def totals_from_trials(run_id: str | None = None) -> sa.Select[Any]:
    """Return the query that counts trials: the columns of ``run_totals``, one row a run, for one run or for all."""
    counted = sa.select(
        TRIALS.c.run_id,
        sa.func.sum(sa.case((TRIALS.c.status == "finished", 1), else_=0)).label("finished"),
        sa.func.sum(sa.case((TRIALS.c.status == "failed", 1), else_=0)).label("failed"),
        sa.func.min(TRIALS.c.objective).label("best_objective"),
        sa.func.sum(TRIALS.c.seconds).label("seconds"),
        sa.func.max(TRIALS.c.finished).label("updated"),
    ).group_by(TRIALS.c.run_id)
    if run_id is not None:
        counted = counted.where(TRIALS.c.run_id == run_id)
    sums = counted.subquery()
    best = (
        sa.select(sa.func.min(TRIALS.c.trial_index))
        .where(TRIALS.c.run_id == sums.c.run_id, TRIALS.c.objective == sums.c.best_objective)
        .scalar_subquery()
    )
    query = sa.select(
        RUNS.c.run_id,
        sa.func.coalesce(sums.c.finished, 0).label("finished"),
        sa.func.coalesce(sums.c.failed, 0).label("failed"),
        sums.c.best_objective,
        best.label("best_index"),
        sa.func.coalesce(sums.c.seconds, 0.0).label("seconds"),
        sa.func.coalesce(sums.c.updated, RUNS.c.created).label("updated"),
    ).select_from(RUNS.outerjoin(sums, sums.c.run_id == RUNS.c.run_id))
    return query if run_id is None else query.where(RUNS.c.run_id == run_id)


def _count_statement() -> sa.Update:
    # PostgreSQL cannot tell the type of a parameter that may be NULL.
    objective = sa.cast(sa.bindparam("objective", type_=sa.Double), sa.Double)
    index = sa.bindparam("index", type_=sa.Integer)
    better = sa.and_(
        objective.is_not(None),
        sa.or_(
            TOTALS.c.best_objective.is_(None),
            TOTALS.c.best_objective > objective,
            sa.and_(TOTALS.c.best_objective == objective, TOTALS.c.best_index > index),
        ),
    )
    return (
        sa.update(TOTALS)
        .where(TOTALS.c.run_id == sa.bindparam("of_run", type_=TOTALS.c.run_id.type))
        .values(
            finished=TOTALS.c.finished + sa.bindparam("one_finished", type_=sa.Integer),
            failed=TOTALS.c.failed + sa.bindparam("one_failed", type_=sa.Integer),
            seconds=TOTALS.c.seconds + sa.bindparam("more_seconds", type_=sa.Double),
            updated=sa.bindparam("now", type_=TOTALS.c.updated.type),
            best_objective=sa.case((better, objective), else_=TOTALS.c.best_objective),
            best_index=sa.case((better, index), else_=TOTALS.c.best_index),
        )
    )


COUNT_TRIAL: Final = _count_statement()
"""The statement that adds a trial to the totals of its run; parameters as `count_parameters` gives them. Made once,
because making it takes longer than the database takes to obey it."""


def count_parameters(trial: Trial, now: str) -> dict[str, Any]:
    """Return the parameters of `COUNT_TRIAL` for a trial; ``now`` is the time of it."""
    return {
        "of_run": trial.run_id,
        "index": trial.index,
        "objective": None if trial.objective is None else float(trial.objective),
        "one_finished": int(trial.status == "finished"),
        "one_failed": int(trial.status == "failed"),
        "more_seconds": float(trial.seconds),
        "now": now,
    }


def overview_query(prefix: str, *, totals: bool) -> sa.Select[Any]:
    """Return the query for one row a run: what was said of it, its budget and its totals.

    Without ``totals``, in version 1, nothing was said of any, and totals are counted.
    """
    if not totals:
        counted = totals_from_trials().subquery()
        query = sa.select(
            RUNS.c.budget,
            counted,
            sa.null().label("state"),
            sa.null().label("message"),
            sa.null().label("driver"),
            sa.null().label("said"),
        ).select_from(RUNS.join(counted, counted.c.run_id == RUNS.c.run_id))
        return _beginning(query, RUNS.c.run_id, prefix)
    names = sa.union(sa.select(RUNS.c.run_id), sa.select(RUN_STATES.c.run_id)).subquery()
    kept = (column for column in TOTALS.columns if column.name != "run_id")
    joined = names.outerjoin(RUNS, RUNS.c.run_id == names.c.run_id)
    joined = joined.outerjoin(TOTALS, TOTALS.c.run_id == names.c.run_id)
    joined = joined.outerjoin(RUN_STATES, RUN_STATES.c.run_id == names.c.run_id)
    query = sa.select(
        names.c.run_id,
        RUNS.c.budget,
        *kept,
        RUN_STATES.c.state,
        RUN_STATES.c.message,
        RUN_STATES.c.driver,
        RUN_STATES.c.updated.label("said"),
    ).select_from(joined)
    return _beginning(query, names.c.run_id, prefix)


def _beginning(query: sa.Select[Any], column: sa.ColumnElement[Any], prefix: str) -> sa.Select[Any]:
    # Not LIKE, which takes "CO" for "Co" in SQLite.
    return query.where(sa.func.substr(column, 1, len(prefix)) == prefix) if prefix else query
