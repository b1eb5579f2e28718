"""``dftbparam fit``: from an element to a parameter set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.cards import CRYSTAL_COLUMNS, crystal_rows, summary_columns, summary_rows
from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption, ReferencesOption, check_symbol
from dftbparam.cli.output import (
    STDOUT,
    JsonOption,
    angular_block,
    angular_letters,
    complain,
    note,
    prepare_json,
    present,
    show_table,
)
from dftbparam.cli.progress import Reporter
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.campaign.fit import FitRequest, FitResult

SCORE_VERSION: Final = 1
"""Raised when a score.json can no longer be read by the previous code."""

INTERRUPTED: Final = 130
"""128 + SIGINT, the shell's custom."""


def fit(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Element to fit, e.g. Si.")],
    references: ReferencesOption = None,
    engine: EngineOption = EngineName.embedded,
    dftbplus: DftbPlusOption = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler", metavar="NAME", help="Who proposes points: skopt, sobol or random.", show_default="skopt"
        ),
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option("--evaluations", metavar="N", min=1, help="Number of points to evaluate.", show_default="300"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            help="Local worker processes; 0 evaluates in this process.",
            show_default="2",
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that is already running.")
    ] = None,
    repulsion: Annotated[
        str | None,
        typer.Option(
            "--repulsion",
            metavar="NAME",
            help="Form of the repulsion: screened-power, convex-cubic or screened-nuclear.",
            show_default="screened-power",
        ),
    ] = None,
    fixed_power: Annotated[
        bool, typer.Option("--fixed-power", help="Keep the confinement (r/r0)^2 instead of searching its power.")
    ] = False,
    no_shift: Annotated[
        bool, typer.Option("--no-shift", help="Keep the polarisation shell's level of the free atom.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of the search.", show_default="0")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run.", show_default="skf_out/SYMBOL")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    json: JsonOption = None,
) -> None:
    """Fit an element to its reference crystals and write its parameter set.

    Leaves SKF files, parameters, scores, plots and a manifest in the output folder. Ctrl-C and crashes lose no finished
    trial: the same command with --resume goes on.
    """
    from dftbparam.campaign.fit import run_fit
    from dftbparam.engine.factory import make_engine
    from dftbparam.publish import prepare_folder
    from dftbparam.reference import load_dataset

    check_symbol(symbol)
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
        dftbplus=dftbplus,
        sampler=sampler,
        evaluations=evaluations,
        workers=workers,
        scheduler=scheduler,
        repulsion=repulsion,
        power=not fixed_power,
        shift=not no_shift,
        seed=seed,
        out=folder,
        resume=resume,
    )
    load_dataset(request.references).crystals_of(symbol)
    make_engine(request.engine, command=request.dftbplus).versions()  # a missing engine is said before files are made
    prepare_folder(folder)
    prepare_json(json)
    with Reporter(f"fit {symbol}") as reporter:
        try:
            outcome = run_fit(request, reporter)
        except KeyboardInterrupt:
            # Once the search is over, run_fit scores its result; the trials are in the store then, too.
            outcome = None
    result = None if outcome is None else outcome.result
    if outcome is None or result is None:
        complain(f"interrupted after {reporter.done} trials, which are kept; go on with: {_resume_command(folder)}")
        raise typer.Exit(INTERRUPTED)
    note(f"fit {symbol}: {len(outcome.trials)} trials done, the best is trial {result.best.index}; drawing and writing")
    write_outcome(folder, request, result, outcome.trial_rows)
    _show(symbol, folder, result, json)
    note(f"wrote {folder}")


def _request(**given: Any) -> FitRequest:
    """Make the request; what was not given is left to its defaults."""
    from pydantic import ValidationError

    from dftbparam.campaign.fit import FitRequest

    try:
        return FitRequest(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        place = " ".join(f"--{part}" for part in first["loc"])
        raise ParameterError(f"{place}: {message}" if place else message) from None


def _resume_command(folder: Path) -> str:
    """The command that was typed, with --resume and its folder named."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return shlex.join(["dftbparam", *words, "--resume"])


def write_outcome(folder: Path, request: FitRequest, result: FitResult, rows: list[dict[str, Any]]) -> None:
    """Draw the plots and write the folder."""
    from dftbparam.campaign.fit_curves import cards_of
    from dftbparam.publish import public_command, write_run_folder
    from dftbparam.reference import load_dataset

    data = load_dataset(request.references)
    cards = {name: card.model_dump(mode="json") for name, card in cards_of(result).items()}
    write_run_folder(
        folder,
        tables=result.tables,
        parameters=result.parameters,
        score={"schema_version": SCORE_VERSION, "symbol": request.symbol, "cards": cards},
        trials=rows,
        plots=draw(request, result, rows),
        command=public_command(["dftbparam", *sys.argv[1:]]),
        settings={"request": _asked(request), "run": result.parameters.provenance["settings"]},
        reference=data,
        seed=request.seed,
        engine_versions=result.engine_versions,
    )


def _asked(request: FitRequest) -> dict[str, Any]:
    """The request as it is published: without where it ran and where it was written."""
    from dftbparam.publish import public_path

    asked = request.model_dump(mode="json", exclude={"resume", "scheduler", "dftbplus"})
    return {**asked, "references": public_path(request.references), "out": public_path(str(request.out))}


def draw(request: FitRequest, result: FitResult, rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """Draw the plots of a fit, as PNG files by name."""
    from dftbparam.campaign.fit_curves import cards_of, fit_curves, plotted_range
    from dftbparam.engine.factory import make_engine
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
    crystals = data.crystals_of(symbol)
    cards = cards_of(result)
    curves = card_curves(
        crystals,
        cards,
        reference_label=f"DFT ({data.functional})",
        ranges={crystal.name: plotted_range(crystal.name, cards.values()) for crystal in crystals},
        scans=fit_curves(result, crystals, make_engine(request.engine, command=request.dftbplus)),
    )
    n_initial = int(result.parameters.provenance["settings"]["campaign"]["n_initial"])
    record = result.parameters.element(symbol)
    atom = atom_curves(record, result.parameters.functional, result.parameters.superposition)
    figures = {
        "energy-volume": plot_crystals(f"{symbol}: energy against volume", curves),
        "convergence": plot_convergence(f"{symbol}: search, seed {request.seed}", rows, n_initial=n_initial),
        "atom": plot_atom(f"{symbol}: confined and free atom", *atom),
    }
    for prototype, drawn in curves.items():
        figures[f"energy-volume-{prototype}"] = plot_energy_volume(f"{symbol}, {prototype}", drawn)
    return {f"{name}.png": render(figure) for name, figure in figures.items()}


def _show(symbol: str, folder: Path, result: FitResult, json: str | None) -> None:
    from dftbparam.campaign.fit_curves import cards_of

    cards = cards_of(result)
    if json != STDOUT:
        columns = [column for column in CRYSTAL_COLUMNS if column.key != "symbol"]
        show_table(f"{symbol}, crystal by crystal", columns, crystal_rows(cards))
    value = {
        "symbol": symbol,
        "folder": str(folder),
        "cards": {name: card.model_dump(mode="json") for name, card in cards.items()},
        "at_border": list(result.at_border),
        "max_angular_momentum": angular_letters(result.tables.max_angular),
    }
    present(json, value, f"{symbol}, in short", summary_columns(list(cards)), summary_rows(cards))
    if result.at_border:
        note(f"at the end of their range: {', '.join(result.at_border)}; a wider space might do better")
    note(angular_block(result.tables.max_angular))
