"""``dftbparam score``: the report card of somebody's SKF files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dftbparam.cli.cards import (
    SECTION_COLUMNS,
    crystal_columns,
    crystal_rows,
    section_rows,
    summary_columns,
    summary_rows,
)
from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption, ReferencesOption, check_symbol
from dftbparam.cli.output import STDOUT, JsonOption, note, prepare_json, show_json, show_table
from dftbparam.cli.progress import counting
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.engine.base import Engine
    from dftbparam.reference import Dataset
    from dftbparam.score import ReportCard
    from dftbparam.skf import SKSet


def score(
    folder: Annotated[Path, typer.Argument(metavar="SKF_DIR", help="Folder with X-Y.skf files.")],
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="Elements, Si, and binaries, Mg-O.")],
    references: ReferencesOption = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            metavar="NAMES",
            help="What to score, with commas: eos,bands,gaps,formation,forces,stress; default: all that the set has.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = EngineName.embedded,
    dftbplus: DftbPlusOption = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="SKF_DIR", help="A second set, scored the same way beside it.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Write plots of E(V) and of bands against DFT there.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Score SKF files on the reference data of elements and binaries; exit code 1 where one is not sound.

    Sound means: every crystal has a minimum, and no deeper well waits between 0.6 and 1.6 of the reference volume.
    """
    from dftbparam.campaign.scoring import choose_targets, elements_of, score_tables
    from dftbparam.engine.factory import make_engine
    from dftbparam.publish import prepare_folder
    from dftbparam.reference import DEFAULT_DATASET, load_dataset, load_frames
    from dftbparam.skf import read_set

    double = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if double:
        raise ParameterError(f"elements are named twice: {', '.join(double)}")
    for symbol in symbols:
        for element in elements_of(symbol):
            check_symbol(element)
    data = load_dataset(references or DEFAULT_DATASET)
    frames = load_frames(references or DEFAULT_DATASET)
    wanted = None if targets is None else [name.strip() for name in targets.split(",") if name.strip()]
    for symbol in symbols:
        choose_targets(symbol, data, wanted, frames)
    folders = {"this set": folder} if against is None else {str(folder): folder, str(against): against}
    if len(folders) < 1 + (against is not None):
        raise ParameterError(f"--against {against} is the set itself; name another one")
    solver = make_engine(engine.value, command=dftbplus, keep="never")
    # Read before anything is computed: a malformed file of the last element shows at once.
    tables = {
        symbol: {name: read_set(path, elements_of(symbol)) for name, path in folders.items()} for symbol in symbols
    }
    prepare_json(json)
    if plot is not None:
        try:
            prepare_folder(plot)
        except ParameterError as error:
            raise ParameterError(error.message.replace("--out", "--plot"), **error.data) from None
    value: dict[str, Any] = {
        "dataset": data.name,
        "checksum": data.checksum,
        "engine": solver.versions(),
        "elements": {},
    }
    sound = True
    with counting("scoring", len(symbols) * len(folders)) as tell:
        all_cards: dict[str, dict[str, ReportCard]] = {}
        for symbol in symbols:
            for name in folders:
                card = score_tables(tables[symbol][name], symbol, data, solver, targets=wanted, frames=frames)
                all_cards.setdefault(symbol, {})[name] = card
                tell(symbol)
    for symbol, cards in all_cards.items():
        value["elements"][symbol] = {name: card.model_dump(mode="json") for name, card in cards.items()}
        sound = sound and next(iter(cards.values())).sound is not False
        if json != STDOUT:
            _show(f"{symbol} against {data.functional} ({data.name})", cards)
        if plot is not None:
            _draw(plot, symbol, data, cards, tables[symbol], solver)
    if json is not None:
        show_json(json, value)
    if not sound:
        raise typer.Exit(1)


def _show(title: str, cards: Mapping[str, ReportCard]) -> None:
    """Print the tables of one element; the name of the set only where there are two."""

    def shown(columns: Any) -> list[Any]:
        return [c for c in columns if c.key != "symbol" and (c.key != "set" or len(cards) > 1)]

    if any(card.crystals for card in cards.values()):
        show_table(title, shown(crystal_columns(cards)), crystal_rows(cards))
        title = ""
    for section, columns in SECTION_COLUMNS.items():
        rows = section_rows(cards, section)
        if rows:
            show_table(title, shown(columns), rows)
            title = ""
    show_table(title, summary_columns(list(cards)), summary_rows(cards))


def _draw(
    folder: Path,
    symbol: str,
    data: Dataset,
    cards: Mapping[str, ReportCard],
    tables: Mapping[str, SKSet],
    engine: Engine,
) -> None:
    """Write the plots of one element: E(V) of all its crystals, and each band structure."""
    from dftbparam.campaign.fit_curves import plotted_range
    from dftbparam.campaign.score_plots import aligned_bands, score_curves
    from dftbparam.campaign.scoring import crystals_of
    from dftbparam.publish import write_bytes
    from dftbparam.report import card_curves, plot_bands, plot_crystals, render

    # The last part of a path is enough for a legend, where it tells the sets apart.
    short = {label: Path(label).name or label for label in cards}
    if len(set(short.values())) == len(short):
        cards = {short[label]: card for label, card in cards.items()}
        tables = {short[label]: one for label, one in tables.items()}
    dft = f"DFT ({data.functional})"
    figures = {}
    first = next(iter(cards.values()))
    if first.crystals:
        crystals = crystals_of(symbol, data)
        curves = card_curves(
            crystals,
            cards,
            reference_label=dft,
            ranges={crystal.name: plotted_range(crystal.name, cards.values()) for crystal in crystals},
            scans=score_curves(tables, cards, crystals, engine),
        )
        figures[f"{symbol}-energy-volume"] = plot_crystals(f"{symbol}: energy against volume", curves)
    if any(card.bands or card.gaps for card in cards.values()):
        for reference, skipped, sets in aligned_bands(tables, symbol, data, engine):
            title = f"{reference.compound}, {reference.prototype}, {reference.volume:.2f} Å³/atom"
            figures[f"{reference.compound}-bands-{reference.prototype}"] = plot_bands(
                title, reference, sets, skipped=skipped, reference_label=dft
            )
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        write_bytes(path, render(figure))
        note(f"wrote {path}")
