"""``dftbparam score``: the report card of somebody's SKF files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dftbparam.cli.cards import CRYSTAL_COLUMNS, crystal_rows, summary_columns, summary_rows
from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption, ReferencesOption, check_symbol
from dftbparam.cli.output import STDOUT, JsonOption, show_json, show_table
from dftbparam.cli.progress import counting
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.score import ReportCard


def score(
    folder: Annotated[Path, typer.Argument(metavar="SKF_DIR", help="Folder with X-X.skf files.")],
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="Elements to score.")],
    references: ReferencesOption = None,
    engine: EngineOption = EngineName.embedded,
    dftbplus: DftbPlusOption = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="SKF_DIR", help="A second set, scored the same way beside it.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Score SKF files on the reference crystals of elements; exit code 1 where one is not sound.

    Sound means: every crystal has a minimum, and no deeper well waits between 0.6 and 1.6 of the reference volume.
    """
    from dftbparam.campaign.scoring import score_tables
    from dftbparam.engine.factory import make_engine
    from dftbparam.reference import DEFAULT_DATASET, load_dataset
    from dftbparam.skf import read_set

    double = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if double:
        raise ParameterError(f"elements are named twice: {', '.join(double)}")
    for symbol in symbols:
        check_symbol(symbol)
    data = load_dataset(references or DEFAULT_DATASET)
    for symbol in symbols:
        data.crystals_of(symbol)
    folders = {"this set": folder} if against is None else {str(folder): folder, str(against): against}
    if len(folders) < 1 + (against is not None):
        raise ParameterError(f"--against {against} is the set itself; name another one")
    solver = make_engine(engine.value, command=dftbplus, keep="never")
    # Read before anything is computed: a malformed file of the last element shows at once.
    tables = {name: {symbol: read_set(path, [symbol]) for symbol in symbols} for name, path in folders.items()}
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
                card = score_tables(tables[name][symbol], symbol, data, solver)
                all_cards.setdefault(symbol, {})[name] = card
                tell(symbol)
    for symbol, cards in all_cards.items():
        value["elements"][symbol] = {name: card.model_dump(mode="json") for name, card in cards.items()}
        sound = sound and next(iter(cards.values())).sound
        if json != STDOUT:
            rows = crystal_rows(cards)
            columns = [c for c in CRYSTAL_COLUMNS if c.key != "symbol" and (c.key != "set" or against is not None)]
            show_table(f"{symbol} against {data.functional} ({data.name})", columns, rows)
            show_table("", summary_columns(list(cards)), summary_rows(cards))
    if json is not None:
        show_json(json, value)
    if not sound:
        raise typer.Exit(1)
