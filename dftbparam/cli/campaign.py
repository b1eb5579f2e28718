"""``dftbparam campaign``: many elements, from one file."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from dftbparam.cli.output import Column, JsonOption, complain, note, prepare_json, present
from dftbparam.cli.progress import clock
from dftbparam.errors import DftbparamError, EngineMissing, InputError, ParameterError

if TYPE_CHECKING:
    from dftbparam.campaign.campaign_file import CampaignFile
    from dftbparam.campaign.driver import CampaignResult, Event
    from dftbparam.campaign.fit import FitRequest
    from dftbparam.campaign.status import RunStatus
    from dftbparam.store import TrialStore

app = typer.Typer(
    name="campaign",
    help="Fit many elements, as a campaign file says: run, resume, status.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED: Final = 1
"""Exit code where an element failed."""

INTERRUPTED: Final = 130
"""128 + SIGINT, the shell's custom."""

STATUS_COLUMNS: Final = (
    Column("name", "element", left=True),
    Column("state", "state", left=True),
    Column("trials", "trials"),
    Column("failed", "failed"),
    Column("best_objective", "best", ".5g"),
    Column("per_minute", "per minute", ".1f"),
    Column("left", "time left"),
    Column("message", "", left=True),
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The campaign file, TOML.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=0, help="Local worker processes; 0 evaluates in this process.", show_default="2"
    ),
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that is already running.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="PROFILE", help="Workers by a batch system: a profile's name or file."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="SYMBOL", help="This element, and those it needs; may be repeated."),
]
DashboardOption = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        metavar="ADDRESS",
        help="Show Dask's dashboard of the local workers there, e.g. 127.0.0.1:8787; needs bokeh.",
    ),
]
AtOnceOption = Annotated[
    int | None,
    typer.Option(
        "--at-once",
        metavar="N",
        min=1,
        help="Elements at the same time; fewer leave some to other drivers of the campaign.",
        show_default="as many as workers, at least 2",
    ),
]


@app.command("run")
def run(
    file: FileArgument,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    only: OnlyOption = None,
    at_once: AtOnceOption = None,
    dashboard: DashboardOption = None,
    json: JsonOption = None,
) -> None:
    """Begin a campaign and run it to its end.

    Elements share the workers; each that is done gets its folder. Ctrl-C and crashes lose no finished trial:
    'campaign resume' goes on. Exit code 1 where an element failed; the others are done all the same.
    """
    _drive(file, workers, scheduler, cluster, only, at_once, dashboard, json, resume=False)


@app.command("resume")
def resume(
    file: FileArgument,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    only: OnlyOption = None,
    at_once: AtOnceOption = None,
    dashboard: DashboardOption = None,
    json: JsonOption = None,
) -> None:
    """Go on with a campaign, or begin it; failed elements are tried again.

    The file may have other budgets than before, and more elements. Several drivers may go on with one campaign at the
    same time, on one store and one folder.
    """
    _drive(file, workers, scheduler, cluster, only, at_once, dashboard, json, resume=True)


@app.command("status")
def status(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|STORE", help="A campaign file (.toml), or a trial store: its path or address."),
    ],
    json: JsonOption = None,
) -> None:
    """Tell how a campaign stands: from the store alone, also while another process runs it."""
    from dftbparam.campaign.status import run_statuses
    from dftbparam.store import TrialStore

    prepare_json(json)
    if not source.strip() or ("://" not in source and Path(source).is_dir()):
        raise ParameterError(
            f"{source!r} is no campaign file and no trial store; give a file such as campaign.toml or trials.sqlite, "
            "or a database's address"
        )
    if "://" not in source and source.endswith(".toml"):
        from dftbparam.campaign.campaign_head import CampaignHead

        head = CampaignHead(Path(source))
        if "://" not in head.store and not Path(head.store).exists():
            _present(head.name, head.store, [], json, head.symbols)
            return
        with TrialStore.open(head.store, create=False) as store:
            _present(head.name, store.where, run_statuses(store, head.name), json, head.symbols)
        return
    with TrialStore.open(source, create=False) as store:
        _present(None, store.where, run_statuses(store), json)


def _drive(
    file: Path,
    workers: int | None,
    scheduler: str | None,
    cluster: str | None,
    only: Sequence[str] | None,
    at_once: int | None,
    dashboard: str | None,
    json: str | None,
    *,
    resume: bool,
) -> None:
    from dftbparam.campaign.campaign_file import read_campaign
    from dftbparam.campaign.driver import drive
    from dftbparam.campaign.element_job import ElementJob, check_elements
    from dftbparam.campaign.executor import pool
    from dftbparam.campaign.record import announcing, begin_campaign
    from dftbparam.campaign.status import run_statuses
    from dftbparam.cli.campaign_progress import CampaignReporter
    from dftbparam.engine.factory import make_engine

    given = {"--workers": workers, "--scheduler": scheduler, "--cluster": cluster}
    if len(named := [option for option, value in given.items() if value is not None]) > 1:
        raise ParameterError(f"{' and '.join(named)} contradict each other: give one of them")
    if dashboard is not None:
        _check_dashboard(dashboard, workers, scheduler or cluster)
    campaign = read_campaign(file)
    wanted = _wanted(campaign, only)
    if problems := check_elements(campaign, wanted):
        raise ParameterError(
            f"{file}: {len(problems)} of {len(wanted)} elements cannot be fitted: " + "; ".join(problems)
        )
    for engine in {(campaign.elements[one].request.engine, campaign.elements[one].request.dftbplus) for one in wanted}:
        make_engine(engine[0], command=engine[1]).versions()
    # A wrong profile or address is said before files are made; workers are started when the first are wanted.
    workers_of_all = pool(
        2 if workers is None else workers, scheduler=scheduler, cluster=cluster, dashboard_address=dashboard
    )
    prepare_json(json)
    with _opened(campaign) as store:
        for line in begin_campaign(store, campaign, resume=resume):
            note(f"{campaign.name}: {line}")
        jobs = [
            ElementJob(campaign, plan, publish_element, is_published)
            for symbol, plan in campaign.elements.items()
            if symbol in wanted
        ]
        try:
            with (
                workers_of_all,
                announcing(store, campaign.name, workers_of_all) as say_dashboard,
                CampaignReporter(campaign.name, campaign.settings) as reporter,
            ):

                def show(event: Event) -> None:
                    if event.progress is not None:
                        say_dashboard()
                    reporter(event)

                result = drive(jobs, store, workers_of_all, at_once=at_once, on_event=show)
        except KeyboardInterrupt:
            _interrupted(file)
        statuses = [one for one in run_statuses(store, campaign.name) if one.name in wanted]
        _present(campaign.name, store.where, statuses, json, wanted, result)
    if result.interrupted:
        _interrupted(file)
    if result.failed:
        complain(f"failed: {', '.join(one.symbol for one in result.failed)}; 'campaign resume' tries them again")
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def _opened(campaign: CampaignFile) -> Iterator[TrialStore]:
    """The campaign's store, its folder prepared; where the store cannot be had, no empty folder is left."""
    from dftbparam.publish import prepare_folder
    from dftbparam.store import TrialStore

    new = not campaign.out.exists()
    try:
        prepare_folder(campaign.out)
    except ParameterError as error:
        text = error.message.replace("choose another one with --out", "name another one")
        raise ParameterError(f"{campaign.path}: out: {text}", **error.data) from None
    try:
        store = TrialStore.open(campaign.store)
    except DftbparamError as error:
        if new:
            with contextlib.suppress(OSError):
                campaign.out.rmdir()
        if isinstance(error, ParameterError):
            raise ParameterError(f"{campaign.path}: store: {error.message}", **error.data) from None
        raise
    with store:
        yield store


def _check_dashboard(address: str, workers: int | None, elsewhere: str | None) -> None:
    """Refuse a dashboard that nobody would show."""
    from importlib.util import find_spec

    if elsewhere is not None or workers == 0:
        raise ParameterError(
            "--dashboard is for workers that are started here; a scheduler has its own, and a cluster profile names it "
            "with 'dashboard'"
        )
    _, colon, port = address.rpartition(":")
    if not (colon and port.isdigit() and int(port) < 65536):
        raise ParameterError(f"--dashboard {address!r}: give a host and a port, e.g. 127.0.0.1:8787", address=address)
    if find_spec("bokeh") is None:
        raise EngineMissing(
            "Dask's dashboard needs bokeh; pip install 'dftbparam[dashboard]', or leave --dashboard out"
        )


def _interrupted(file: Path) -> NoReturn:
    complain(f"interrupted; all trials are kept, go on with: dftbparam campaign resume {file}")
    raise typer.Exit(INTERRUPTED)


def _wanted(campaign: CampaignFile, only: Sequence[str] | None) -> list[str]:
    """The elements that were asked for, and those they need; in order of the campaign."""
    unknown = [one for one in only or () if one not in campaign.elements]
    if unknown:
        raise ParameterError(
            f"--only {unknown[0]}: campaign {campaign.name!r} has no such element; it has: "
            f"{', '.join(campaign.elements)}"
        )
    wanted = set(only or campaign.elements)
    for symbol in reversed(campaign.elements):
        if symbol in wanted:
            wanted |= set(campaign.elements[symbol].needs)
    return [symbol for symbol in campaign.elements if symbol in wanted]


def _present(
    campaign: str | None,
    where: str,
    statuses: Sequence[RunStatus],
    json: str | None,
    elements: Collection[str] = (),
    result: CampaignResult | None = None,
) -> None:
    """Print the table, write the JSON; elements that the store does not know wait to be begun."""
    from dftbparam.campaign.status import totals

    rows: list[dict[str, Any]] = [_row(one, campaign) for one in statuses]
    known = {one.name for one in statuses}
    rows += [{"name": one, "state": "not begun", "trials": "0"} for one in elements if one not in known]
    order = list(elements)
    if order:
        rows.sort(key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))
    whole = totals(statuses)
    value: dict[str, Any] = {
        "campaign": campaign,
        "store": where,
        "totals": whole,
        "elements": [one.to_json() for one in statuses],
        "not_begun": [one for one in elements if one not in known],
    }
    if result is not None:
        value["proposals"] = {
            symbol: {"number": one.proposals, "mean_seconds": one.proposal_seconds}
            for symbol, one in result.elements.items()
            if one.proposals
        }
    counted = ", ".join(f"{number} {state}" for state, number in whole["elements"].items())
    caption = f"{counted or 'nothing'}; {whole['done']} trials, {clock(whole['seconds'])} of evaluations"
    if whole["per_minute"] is not None:
        caption += f", {whole['per_minute']:.1f} a minute, {clock(whole['seconds_left'])} left"
    columns = STATUS_COLUMNS if any(row.get("message") for row in rows) else STATUS_COLUMNS[:-1]
    present(json, value, campaign or where, columns, rows, caption)


def _row(one: RunStatus, campaign: str | None) -> dict[str, Any]:
    shown = one.name if campaign is not None or not one.campaign else f"{one.campaign}/{one.name}"
    return {
        **one.to_json(),
        "name": shown,
        "trials": str(one.done) if one.evaluations is None else f"{one.done} of {one.evaluations}",
        "left": None if one.seconds_left is None else clock(one.seconds_left),
    }


def publish_element(request: FitRequest, location: str, run_id: str, timing: dict[str, Any]) -> None:
    """Score the result of a search that is in the store, and write its folder; runs in a process of its own.

    Raises
    ------
    DftbparamError
        See `dftbparam.campaign.fit.run_fit` and `dftbparam.publish.write_run_folder`.
    """
    from dftbparam.campaign.executor import SerialExecutor
    from dftbparam.campaign.fit import run_fit
    from dftbparam.cli.fit import write_outcome
    from dftbparam.publish import prepare_folder
    from dftbparam.store import TrialStore

    prepare_folder(request.out)
    with TrialStore.open(location, create=False) as store:
        outcome = run_fit(request, store=store, run_id=run_id, executor=SerialExecutor(), held=True)
    assert outcome.result is not None, "interrupted without a signal"
    write_outcome(request.out, request, outcome.result, outcome.trial_rows, timing=timing)


def is_published(folder: Path, trials: int | None, settings: Mapping[str, Any]) -> bool:
    """Whether a folder is the complete result of a run, every file as it was written.

    Parameters
    ----------
    trials
        Number that the result is to have been made of; None for any.
    settings
        Of the run, as the store has them.

    Raises
    ------
    ParameterError
        The folder holds the result of a run with other settings: another campaign's, which is not to be overwritten.
    """
    from dftbparam.publish import read_manifest, verify_folder
    from dftbparam.store import differing_settings

    try:
        manifest = read_manifest(folder)
    except InputError:
        return False
    written = manifest.settings.get("run")
    if written != dict(settings):
        differing = differing_settings(written if isinstance(written, dict) else {}, dict(settings))
        names = ", ".join(name for name, _, _ in differing[:6]) + (" ..." if len(differing) > 6 else "")
        raise ParameterError(
            f"{folder} holds the result of a run with other settings (another campaign's?); give this campaign another "
            f"'out', or move that folder away; what differs: {names}",
            path=str(folder),
        )
    return trials in (None, manifest.trials.get("done")) and not verify_folder(folder)
