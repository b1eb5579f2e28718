"""``dftbparam report``: results as one HTML page, and as CSV and image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dftbparam.cli.output import complain, note
from dftbparam.cli.progress import counting
from dftbparam.errors import ParameterError


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...", help="Run folders, or folders of run folders: a campaign's out, a parameter set."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The page.")] = Path("report.html"),
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="DIR", help="Write everything as CSV tables there.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="DIR", help="Write every table and plot as PNG there.")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Of the page; default: the names of the folders.", show_default=False)
    ] = None,
) -> None:
    """Show results as one HTML page with a periodic table; it needs no network and no other file.

    Of two results of one element the last is shown, and it is said. Files that cannot be read are named, on standard
    error and in the page, the rest is shown, and the exit code is 1.
    """
    from dftbparam.publish import prepare_file, prepare_folder, write_bytes, write_csv
    from dftbparam.report import render
    from dftbparam.report.html import collect_results, element_plots, render_page, report_tables, table_plots

    prepare_file(out)
    for option, folder in (("--csv", csv), ("--png", png)):
        if folder is not None:
            try:
                prepare_folder(folder)
            except ParameterError as error:
                raise ParameterError(error.message.replace("--out", option), **error.data) from None
    collection = collect_results(folders)
    for text in collection.notes:
        note(text)
    for problem in collection.problems:
        complain(f"{problem.where}: {problem.message}")
    write_bytes(out, render_page(collection, title).encode())
    note(f"wrote {out}: {len(collection.results)} of {len(collection.results) + len(collection.reasons)} elements")
    if csv is not None:
        tables = report_tables(collection)
        for name, rows in tables.items():
            write_csv(csv / name, rows)
        note(f"wrote {len(tables)} tables to {csv}")
    if png is not None:
        written = 0
        with counting("drawing", 1 + len(collection.results)) as tell:
            for name, drawing in table_plots(collection):
                write_bytes(png / f"{name}.png", render(drawing))
                written += 1
            tell("periodic table")
            for result in collection.results.values():
                for name, drawing in element_plots(result):
                    write_bytes(png / f"{name}.png", render(drawing))
                    written += 1
                tell(result.symbol)
        note(f"wrote {written} images to {png}")
    if collection.problems:
        raise typer.Exit(1)
