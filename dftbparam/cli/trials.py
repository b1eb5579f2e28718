"""``dftbparam trials``: what a trial store holds, as a table, CSV or JSON."""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, present, show_table
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.store import RunOverview, TrialStore

LISTED: Final = 200
"""Trials that a table shows; more are not read on a screen."""

RUN_COLUMNS: Final = (
    Column("run_id", "run", left=True),
    Column("state", "state", left=True),
    Column("finished", "finished"),
    Column("failed", "failed"),
    Column("evaluations", "of"),
    Column("best_objective", "best", ".6g"),
    Column("best_index", "trial"),
    Column("seconds", "seconds", ".1f"),
    Column("updated", "updated", left=True),
    Column("message", "message", left=True),
)

FIRST_COLUMNS: Final = (
    Column("index", "trial"),
    Column("status", "status", left=True),
    Column("objective", "objective", ".6g"),
    Column("seconds", "seconds", ".2f"),
)


class Status(StrEnum):
    """How a trial ended."""

    finished = "finished"
    failed = "failed"


def trials(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="A trial store: its path, the folder of a run, a campaign file (.toml), or a database address.",
            show_default=False,
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Which run; needed where there are several.", show_default=False),
    ] = None,
    status: Annotated[
        Status | None, typer.Option("--status", help="Only trials that ended like this.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.csv|FILE.json",
            help="Write all trials to a file, as its name says.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs and their totals instead of trials.")] = False,
    json: JsonOption = None,
) -> None:
    """List or export the trials of a run.

    A CSV file has a row a trial: parameters, metrics, objective, error. A JSON file has all that is known of each.
    Drivers that are at work are not disturbed.
    """
    from dftbparam.store import TrialStore

    if runs and (run is not None or status is not None):
        raise ParameterError("--runs lists all runs; leave --run and --status out, or leave --runs out")
    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise ParameterError(f"--out {str(out)!r}: its name must end in .csv or .json", path=str(out))
    for target in (None if out is None else str(out), json):
        prepare_json(target)
    with TrialStore.open(location_of(store), create=False) as opened:
        overview = opened.overview()
        if runs:
            _list_runs(opened.where, overview, out, json)
            return
        chosen = _choose(opened, overview, run, wanted=out is not None or json is not None)
        if chosen is None:
            _list_runs(opened.where, overview, None, None)
            note("several runs; --run RUN lists the trials of one")
            return
        _present(opened, chosen, status, out, json)


def location_of(store: str) -> str | Path:
    """Return what `dftbparam.store.TrialStore.open` takes, for a path, a folder, a campaign file or an address.

    Raises
    ------
    ParameterError
        A folder without a store, or with several that could be meant.
    """
    from dftbparam.store import STORE_NAME

    if "://" in store:
        return store
    path = Path(store)
    if path.suffix == ".toml":
        from dftbparam.campaign.campaign_head import CampaignHead

        return CampaignHead(path).store
    if not path.is_dir() or (path / STORE_NAME).exists():
        return path / STORE_NAME if path.is_dir() else path
    found = sorted(path.glob("*.sqlite"))
    if len(found) == 1:
        return found[0]
    there = f"it has {', '.join(one.name for one in found)}; name one" if found else "has a search been run there?"
    raise ParameterError(f"folder {store!r} has no {STORE_NAME}; {there}", path=store)


def _choose(store: TrialStore, overview: list[RunOverview], run: str | None, *, wanted: bool) -> RunOverview | None:
    """Return the run that is meant; None where there are several, to be listed, unless ``wanted`` makes it an error."""
    by_name = {one.run_id: one for one in overview}
    if run is not None:
        if run not in by_name:
            store.load_run(run)  # says which there are
        return by_name[run]
    with_trials = [one for one in overview if one.finished + one.failed]
    candidates = with_trials or overview
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ParameterError(f"{store.where} holds no run; has a search been run there?")
    if wanted:
        names = [one.run_id for one in candidates]
        listed = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
        raise ParameterError(f"{store.where} holds {len(names)} runs; name one with --run: {listed}")
    return None


def _list_runs(where: str, overview: list[RunOverview], out: Path | None, json: str | None) -> None:
    rows = [asdict(one) for one in overview]
    value = {"store": where, "runs": rows}
    if out is not None:
        from dftbparam.publish import write_csv, write_json

        if out.suffix.lower() == ".csv":
            write_csv(out, rows)
        else:
            write_json(out, value)
        note(f"wrote {len(rows)} runs to {out}")
    present(json, value, f"runs of {where}", RUN_COLUMNS, [row | {"state": row["state"] or None} for row in rows])


def _present(store: TrialStore, run: RunOverview, status: Status | None, out: Path | None, json: str | None) -> None:
    from dftbparam.store.export import export_csv, export_json, export_json_file

    number = {None: run.finished + run.failed, Status.finished: run.finished, Status.failed: run.failed}[status]
    wanted = None if status is None else status.value
    if out is not None or json is not None:
        record = store.load_run(run.run_id)
        if out is not None:
            found = store.iter_trials(run.run_id, wanted)
            csv = out.suffix.lower() == ".csv"
            written = export_csv(out, found) if csv else export_json_file(out, record, found)
            note(f"wrote {written} trials to {out}")
        if json == STDOUT:
            export_json(sys.stdout, record, store.iter_trials(run.run_id, wanted))
        elif json is not None:
            export_json_file(Path(json), record, store.iter_trials(run.run_id, wanted))
        return
    _show(store, run.run_id, wanted, number)


def _show(store: TrialStore, run_id: str, status: str | None, number: int) -> None:
    from dftbparam.store import flat_row

    rows: list[dict[str, Any]] = []
    for trial in itertools.islice(store.iter_trials(run_id, status), LISTED):
        rows.append(flat_row(trial))
    names = dict.fromkeys(key for row in rows for key in row if key.startswith("parameter."))
    columns = [*FIRST_COLUMNS, *(Column(name, name.partition(".")[2], ".4f") for name in names)]
    if any(row["error"] for row in rows):
        columns.append(Column("error", "error", left=True))
    show_table(f"{store.where}, run {run_id}", columns, rows)
    if number > len(rows):
        note(f"the first {len(rows)} of {number} trials; --out FILE.csv writes all of them")
