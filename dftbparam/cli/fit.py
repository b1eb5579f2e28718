"""``dftbparam fit``: from an element to a parameter set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from dftbparam.cli.cards import (
    SECTION_COLUMNS,
    UNCERTAINTY_COLUMNS,
    crystal_columns,
    crystal_rows,
    section_rows,
    summary_columns,
    summary_rows,
    uncertainty_rows,
)
from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption, ReferencesOption, check_symbol
from dftbparam.cli.output import (
    STDOUT,
    Column,
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
    from dftbparam.campaign.fit_bands import AlignedBands
    from dftbparam.campaign.leave_one_out import LeftOut
    from dftbparam.reference import Dataset

SCORE_VERSION: Final = 1
"""Raised when a score.json can no longer be read by the previous code."""

BANDS_VERSION: Final = 1
"""The same of a bands.json."""

LEFT_OUT_COLUMNS: Final = (
    Column("partner", "without", left=True),
    Column("crystal", "crystal", left=True),
    Column("set", "parameters", left=True),
    Column("dV", "ΔV, %", "+.2f"),
    Column("dB", "ΔB, %", "+.1f"),
    Column("phase_energy_error", "phase E, error, eV", "+.3f"),
    Column("status", "status", left=True),
)

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
            "--sampler",
            metavar="NAME",
            help="Who proposes points: skopt, sobol, random, cmaes, botorch, turbo.",
            show_default="skopt",
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
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="PROFILE",
            help="A batch system's profile, by name or file: workers are its jobs.",
            show_default=False,
        ),
    ] = None,
    design: Annotated[
        int | None,
        typer.Option(
            "--design",
            metavar="N",
            min=0,
            help="Sobol points after the starts, before the sampler is asked; default 2 d + 2 in d dimensions.",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            help="End early after N points in a row without a better one.",
            show_default=False,
        ),
    ] = None,
    min_improvement: Annotated[
        float | None,
        typer.Option(
            "--min-improvement",
            metavar="X",
            help="End early once the sampler expects to improve the objective by less than X.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME|FILE",
            help="What is searched: default, ptbp, radii, shells, woods-saxon, or a TOML file.",
            show_default="default",
        ),
    ] = None,
    start_from: Annotated[
        list[str] | None,
        typer.Option(
            "--start-from",
            metavar="WHAT",
            help="Parameters to begin with; may be repeated: published, none, group, period, group:SET, period:SET, a "
            "parameters.json, a folder of an earlier run, or its trials.sqlite.",
            show_default="published",
        ),
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
    partners: Annotated[
        str | None,
        typer.Option(
            "--partners",
            metavar="NAME|FILE|DIR",
            help="Fit on binaries, with the other elements' parameters from here: ptbp, a parameters.json, or the "
            "folder of a run.",
            show_default=False,
        ),
    ] = None,
    exclude_partner: Annotated[
        list[str] | None,
        typer.Option("--exclude-partner", metavar="SYMBOL", help="Leave a partner out; may be repeated."),
    ] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out", help="Fit anew without each partner in turn, and report how its crystals come out."
        ),
    ] = False,
    leave_one_out_evaluations: Annotated[
        int | None,
        typer.Option(
            "--leave-one-out-evaluations",
            metavar="N",
            min=1,
            help="Points to evaluate in each fit without a partner; default: as in the fit with all.",
            show_default=False,
        ),
    ] = None,
    crystals: Annotated[
        str | None,
        typer.Option(
            "--crystals",
            metavar="NAME,...",
            help="Crystals to fit, by prototype or name; default: all with three dimensions.",
            show_default=False,
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            metavar="NAME[:WEIGHT],...",
            help="What to fit: eos, bands, gaps, formation, each with a weight if need be, e.g. eos,bands:2.",
            show_default="eos",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of the search.", show_default="0")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run.", show_default="skf_out/SYMBOL")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    json: JsonOption = None,
) -> None:
    """Fit an element to its reference crystals, or to binaries with given partners, and write its parameter set.

    Leaves SKF files, parameters, scores, plots and a manifest in the output folder. Ctrl-C and crashes lose no finished
    trial: the same command with --resume goes on.
    """
    from dftbparam.campaign.fit import plan_fit, run_fit
    from dftbparam.campaign.leave_one_out import fit_without, partners_to_leave_out
    from dftbparam.engine.factory import make_engine
    from dftbparam.publish import prepare_folder

    check_symbol(symbol)
    places = {"--workers": workers, "--scheduler": scheduler, "--cluster": cluster}
    chosen = [f"{option} {value}" for option, value in places.items() if value is not None]
    if len(chosen) > 1:
        raise ParameterError(
            f"{' and '.join(chosen)} contradict each other: workers are started here, a scheduler and a cluster have "
            "their own; give one of them"
        )
    if leave_one_out_evaluations is not None and not leave_one_out:
        raise ParameterError("--leave-one-out-evaluations needs --leave-one-out")
    for option, given in (("--exclude-partner", exclude_partner), ("--leave-one-out", leave_one_out)):
        if given and partners is None:
            raise ParameterError(
                f"{option} needs a fit on binaries: say where partners come from, e.g. --partners ptbp"
            )
    for name in exclude_partner or ():
        check_symbol(name)
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
        cluster=cluster,
        design=design,
        patience=patience,
        min_improvement=min_improvement,
        space=space,
        start_from=None if not start_from else tuple(start_from),
        repulsion=repulsion,
        power=not fixed_power,
        shift=not no_shift,
        partners=partners,
        exclude_partners=None if exclude_partner is None else tuple(exclude_partner),
        crystals=None if crystals is None else _names("--crystals", crystals),
        targets=targets,
        seed=seed,
        out=folder,
        resume=resume,
    )
    plan = plan_fit(request)
    left_out = partners_to_leave_out(request) if leave_one_out else ()
    make_engine(request.engine, command=request.dftbplus).versions()  # a missing engine is said before files are made
    prepare_folder(folder)
    prepare_json(json)
    _warn_of(request.references)
    if plan.without_parameters:
        note(f"fit {symbol}: not in the partners' set, and left out: {', '.join(plan.without_parameters)}")
    for line in plan.moved:
        note(f"fit {symbol}: moved into the ranges, start of {line}")
    if request.evaluations <= plan.initial and request.sampler not in ("sobol", "random"):
        note(
            f"fit {symbol}: all {request.evaluations} points are starts and initial design (of {plan.initial}): "
            f"{request.sampler} proposes none"
        )
    with Reporter(f"fit {symbol}") as reporter:
        try:
            outcome = run_fit(request, reporter)
        except KeyboardInterrupt:
            # Once the search is over, run_fit scores its result; the trials are in the store then, too.
            outcome = None
    result = None if outcome is None else outcome.result
    if outcome is None or result is None:
        _interrupted(reporter.done, folder)
    note(f"fit {symbol}: {len(outcome.trials)} trials done, the best is trial {result.best.index}")
    if outcome.why:
        note(f"fit {symbol}: ended before {request.evaluations} trials: {outcome.why}")
    if outcome.proposal_seconds is not None:
        note(f"fit {symbol}: a proposal took {outcome.proposal_seconds:.2g} s in the mean")
    tests = []
    for partner in left_out:
        with Reporter(f"fit {symbol} without {partner}") as reporter:
            try:
                test = fit_without(request, partner, leave_one_out_evaluations, reporter)
            except KeyboardInterrupt:
                test = None
        if test is None:
            _interrupted(reporter.done, folder)
        tests.append(test)
    note(f"fit {symbol}: drawing and writing")
    write_outcome(folder, request, result, outcome.trial_rows, tests, outcome.timing)
    _show(symbol, folder, result, json, tests)
    note(f"wrote {folder}")


def _warn_of(references: str) -> None:
    """Say so where `references check` finds a set of the user's wrong; it is fitted all the same."""
    from dftbparam.reference import list_datasets
    from dftbparam.reference.check import check_dataset

    if references in list_datasets():
        return
    errors = check_dataset(references).errors
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        note(f"warning: {references} has errors: {errors[0].subject}: {errors[0].message}{more}; see")
        note(f"  dftbparam references check {references}")


def _interrupted(done: int, folder: Path) -> NoReturn:
    complain(f"interrupted after {done} trials, which are kept; go on with: {_resume_command(folder)}")
    raise typer.Exit(INTERRUPTED)


def _names(option: str, text: str) -> tuple[str, ...]:
    """Names with a comma between them; `ParameterError` where one is empty."""
    names = tuple(part.strip() for part in text.split(","))
    if "" in names:
        raise ParameterError(f"{option} {text!r}: give names with a comma between them, e.g. rocksalt,zincblende")
    return names


def _request(**given: Any) -> FitRequest:
    """Make the request; what was not given is left to its defaults."""
    from pydantic import ValidationError

    from dftbparam.campaign.fit import FitRequest

    try:
        return FitRequest(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        place = " ".join(f"--{part}".replace("_", "-") for part in first["loc"])
        raise ParameterError(f"{place}: {message}" if place else message) from None


def _resume_command(folder: Path) -> str:
    """The command that was typed, with --resume and its folder named."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return shlex.join(["dftbparam", *words, "--resume"])


def write_outcome(
    folder: Path,
    request: FitRequest,
    result: FitResult,
    rows: list[dict[str, Any]],
    left_out: Sequence[LeftOut] = (),
    timing: Mapping[str, Any] | None = None,
) -> None:
    """Draw the plots and write the folder; ``timing`` (of proposals) goes to the manifest, which has no checksum."""
    from dftbparam.campaign.fit_bands import fit_bands
    from dftbparam.campaign.fit_curves import cards_of
    from dftbparam.engine.factory import make_engine
    from dftbparam.publish import public_command, write_run_folder
    from dftbparam.reference import load_dataset

    data = load_dataset(request.references)
    drawn = fit_bands(result, data, make_engine(request.engine, command=request.dftbplus, keep="never"))
    cards = {name: card.model_dump(mode="json") for name, card in cards_of(result).items()}
    write_run_folder(
        folder,
        tables=result.tables,
        parameters=result.parameters,
        score={
            "schema_version": SCORE_VERSION,
            "symbol": request.symbol,
            "cards": cards,
            "uncertainty": result.uncertainty.model_dump(mode="json"),
            "ensemble": list(result.ensemble),
            **_left_out(result, left_out),
        },
        trials=rows,
        plots=draw(request, result, rows, drawn),
        bands=_bands(request, result, data, drawn),
        command=public_command(["dftbparam", *sys.argv[1:]]),
        settings={
            "request": _asked(request),
            "run": result.parameters.provenance["settings"],
            **({"proposals": dict(timing)} if timing else {}),
        },
        reference=data,
        seed=request.seed,
        engine_versions=result.engine_versions,
    )


def _bands(
    request: FitRequest, result: FitResult, data: Dataset, drawn: Sequence[AlignedBands]
) -> dict[str, Any] | None:
    """What bands.json holds; None where there are no bands."""
    from dftbparam.campaign.target_scoring import BAND_KPT_DENSITY
    from dftbparam.report import bands_content

    if not drawn:
        return None
    reference = {key: getattr(data, key) for key in ("name", "version", "checksum", "doi", "licence")}
    return {
        "schema_version": BANDS_VERSION,
        "symbol": request.symbol,
        "unit": "eV",
        "zero": "Fermi level of DFT; sets are aligned with it as in their scores",
        "provenance": {
            "reference": reference,
            "parameters": result.parameters.name,
            "trial": result.best.index,
            "engine": request.engine,
            "versions": dict(result.parameters.provenance["versions"]),
            "kpt_density": BAND_KPT_DENSITY,
        },
        "structures": [bands_content(one.reference, one.skipped, one.sets) for one in drawn],
    }


def _left_out(result: FitResult, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """What a score holds of partners that were left out; nothing where none was."""
    from dftbparam.campaign.leave_one_out import rows

    if not left_out:
        return {}
    fits = {one.partner: one.to_json() for one in left_out}
    return {"leave_one_out": {"rows": rows(left_out, result), "fits": fits}}


def _asked(request: FitRequest) -> dict[str, Any]:
    """The request as it is published: without where it ran and where it was written."""
    from dftbparam.publish import public_path

    asked = request.model_dump(mode="json", exclude={"resume", "scheduler", "cluster", "dftbplus"})
    for name in ("references", "partners", "out", "space"):
        if asked[name] is not None:
            asked[name] = public_path(asked[name])
    asked["start_from"] = [public_path(one) for one in asked["start_from"]]
    return asked


def draw(
    request: FitRequest, result: FitResult, rows: list[dict[str, Any]], bands: Sequence[AlignedBands] = ()
) -> dict[str, bytes]:
    """Draw the plots of a fit, as PNG files by name."""
    from dftbparam.campaign.ensemble import ranges
    from dftbparam.campaign.fit_curves import cards_of, fit_curves, plotted_range
    from dftbparam.engine.factory import make_engine
    from dftbparam.reference import load_dataset
    from dftbparam.report import (
        atom_curves,
        card_curves,
        plot_atom,
        plot_bands,
        plot_convergence,
        plot_crystals,
        plot_energy_volume,
        plot_uncertainty,
        render,
    )

    symbol = request.symbol
    data = load_dataset(request.references)
    crystals = result.crystals
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
        "uncertainty": plot_uncertainty(
            f"{symbol}: parameters and crystals of the trials as good as the best",
            result.uncertainty.model_dump(mode="json"),
            ranges(result.space),
        ),
    }
    for prototype, drawn in curves.items():
        figures[f"energy-volume-{prototype.replace(' ', '-')}"] = plot_energy_volume(f"{symbol}, {prototype}", drawn)
    for one in bands:
        name = one.reference.name
        figures[f"bands-{name.replace(' ', '-')}"] = plot_bands(
            f"{symbol}, {name}", one.reference, one.sets, skipped=one.skipped
        )
    return {f"{name}.png": render(figure) for name, figure in figures.items()}


def _show(symbol: str, folder: Path, result: FitResult, json: str | None, left_out: Sequence[LeftOut] = ()) -> None:
    from dftbparam.campaign.fit_curves import cards_of
    from dftbparam.campaign.leave_one_out import rows

    cards = cards_of(result)
    if json != STDOUT:
        columns = [column for column in crystal_columns(cards) if column.key != "symbol"]
        show_table(f"{symbol}, crystal by crystal", columns, crystal_rows(cards))
        for section, more in SECTION_COLUMNS.items():
            if found := section_rows(cards, section):
                show_table("", more, found)
        spread = result.uncertainty
        show_table(
            f"{symbol}, trials within {100 * spread.tolerance:.0f} % of the best: {len(spread.members)}",
            UNCERTAINTY_COLUMNS,
            uncertainty_rows(spread),
        )
        if left_out:
            show_table(f"{symbol}, partners left out", LEFT_OUT_COLUMNS, rows(left_out, result))
    value = {
        "symbol": symbol,
        "folder": str(folder),
        "cards": {name: card.model_dump(mode="json") for name, card in cards.items()},
        "uncertainty": result.uncertainty.model_dump(mode="json"),
        "at_border": list(result.at_border),
        "max_angular_momentum": angular_letters(result.tables.max_angular),
        **_left_out(result, left_out),
    }
    present(json, value, f"{symbol}, in short", summary_columns(list(cards)), summary_rows(cards))
    if result.at_border:
        note(f"at the end of their range: {', '.join(result.at_border)}; a wider space might do better")
    note(angular_block(result.tables.max_angular))
