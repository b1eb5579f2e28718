"""``dftbparam fit``: from an element to a parameter set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.cards import CRYSTAL_COLUMNS, crystal_rows, summary_columns, summary_rows
from dftbparam.cli.options import EngineName, EngineOption, ReferencesOption
from dftbparam.cli.output import JsonOption, complain, note, present, show_table
from dftbparam.cli.progress import Reporter
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.campaign.fit import FitRequest, FitResult
    from dftbparam.score import ReportCard

OURS: Final = "this fit"
PUBLISHED: Final = "published PTBP"

INTERRUPTED: Final = 130
"""128 + SIGINT, the shell's custom."""


def fit(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Element to fit, e.g. Si.")],
    references: ReferencesOption = None,
    engine: EngineOption = EngineName.embedded,
    sampler: Annotated[
        str | None, typer.Option("--sampler", metavar="NAME", help="Who proposes points: skopt, sobol or random.")
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option("--evaluations", metavar="N", min=1, help="Number of points to evaluate.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=0, help="Local worker processes; 0 evaluates in this process."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that is already running.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of the search.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run. [default: skf_out/SYMBOL]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    json: JsonOption = None,
) -> None:
    """Fit an element to its reference crystals and write its parameter set.

    Leaves SKF files, parameters, scores, plots and a manifest in the output folder. Ctrl-C and crashes lose no finished
    trial: the same command with --resume goes on.
    """
    from dftbparam.campaign.fit import run_fit
    from dftbparam.elements import element
    from dftbparam.publish import prepare_folder

    element(symbol)
    if workers is not None and scheduler is not None:
        raise ParameterError(
            f"--workers {workers} and --scheduler {scheduler} contradict each other: workers are started here, a "
            "scheduler has its own; give one of them"
        )
    folder = out or Path("skf_out") / symbol
    request = _request(
        symbol=symbol,
        references=references,
        engine=engine.value,
        sampler=sampler,
        evaluations=evaluations,
        workers=workers,
        scheduler=scheduler,
        seed=seed,
        out=folder,
        resume=resume,
    )
    prepare_folder(folder)
    with Reporter(f"fit {symbol}") as reporter:
        outcome = run_fit(request, reporter)
    if outcome.result is None:
        complain(f"interrupted after {reporter.done} trials, which are kept; go on with: {_resume_command(folder)}")
        raise typer.Exit(INTERRUPTED)
    note(f"search done: {len(outcome.trials)} trials; writing {folder}")
    cards = cards_of(outcome.result)
    write_outcome(folder, request, outcome.result, outcome.trial_rows)
    _show(symbol, folder, cards, json)


def _request(**given: Any) -> FitRequest:
    """Make the request; what was not given is left to its defaults."""
    from pydantic import ValidationError

    from dftbparam.campaign.fit import FitRequest

    try:
        return FitRequest(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ParameterError(f"{place or 'options'}: {first['msg']} (given: {str(first['input'])[:60]!r})") from None


def _resume_command(folder: Path) -> str:
    """The command that was typed, with --resume and its folder named."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if "--out" not in words:
        words += ["--out", str(folder)]
    return shlex.join(["dftbparam", *words, "--resume"])


def cards_of(outcome: FitResult) -> dict[str, ReportCard]:
    """Report cards by name: this fit's, then the published one where there is one."""
    cards = {OURS: outcome.card}
    if outcome.published is not None:
        cards[PUBLISHED] = outcome.published
    return cards


def write_outcome(folder: Path, request: FitRequest, outcome: FitResult, rows: list[dict[str, Any]]) -> None:
    """Draw the plots and write the folder."""
    from dftbparam.publish import write_run_folder
    from dftbparam.reference import load_dataset
    from dftbparam.report import (
        atom_curves,
        card_curves,
        plot_atom,
        plot_convergence,
        plot_crystals,
        plot_energy_volume,
        render,
    )

    symbol = request.symbol
    data = load_dataset(request.references)
    cards = cards_of(outcome)
    curves = card_curves(data.crystals_of(symbol), cards, reference_label=f"DFT ({data.functional})")
    plots = {
        "energy-volume.png": render(plot_crystals(f"{symbol}: E(V) against DFT", curves)),
        "convergence.png": render(plot_convergence(f"{symbol}: search", rows)),
        "atom.png": render(
            plot_atom(f"{symbol}: confined and free atom", *atom_curves(outcome.parameters.element(symbol)))
        ),
    }
    for prototype, drawn in curves.items():
        plots[f"energy-volume-{prototype}.png"] = render(plot_energy_volume(f"{symbol} {prototype}", drawn))
    write_run_folder(
        folder,
        tables=outcome.tables,
        parameters=outcome.parameters,
        score={
            "schema_version": 1,
            "symbol": symbol,
            "cards": {name: c.model_dump(mode="json") for name, c in cards.items()},
        },
        trials=rows,
        plots=plots,
        command=shlex.join(["dftbparam", *sys.argv[1:]]),
        settings=request.model_dump(mode="json", exclude={"out"}),
        reference=data,
        seed=request.seed,
        engine_versions=outcome.engine_versions,
    )


def _show(symbol: str, folder: Path, cards: dict[str, ReportCard], json: str | None) -> None:
    if json != "-":
        columns = [column for column in CRYSTAL_COLUMNS if column.key != "symbol"]
        show_table(f"{symbol}, crystal by crystal", columns, crystal_rows(cards))
    value = {"symbol": symbol, "folder": str(folder), "cards": {n: c.model_dump(mode="json") for n, c in cards.items()}}
    present(json, value, f"{symbol}, in short", summary_columns(list(cards)), summary_rows(cards))
