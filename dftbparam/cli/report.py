"""``dftbparam report``: results as one HTML page, and as CSV and image files; or served while a campaign runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dftbparam.cli.output import complain, note
from dftbparam.cli.progress import counting
from dftbparam.errors import InputError, ParameterError

if TYPE_CHECKING:
    from dftbparam.report.html import Collection
    from dftbparam.report.live import Standing
    from dftbparam.store import TrialStore

LEAST_SECONDS: Final = 0.5
"""Of --every: more often, and the store would do little but answer."""


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...",
            help="Run folders, or folders of run folders: a campaign's out, a parameter set; delta models "
            "(.delta). With --serve one campaign file (.toml), trial store (path or address), or folder with a store.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="The page.", show_default="report.html")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="DIR", help="Write everything as CSV tables there.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="DIR", help="Write every table and plot as PNG there.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="Ti,O", help="Show and write these elements alone.", show_default="all"),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Of the page; default: the names of the folders.", show_default=False)
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page while a campaign runs, until Ctrl-C; nothing is written.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Of --serve; 0: any.", show_default="8050"),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Of --serve. Another one than this machine's loopback lets everybody who reaches it read the page.",
            show_default="127.0.0.1",
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", min=LEAST_SECONDS, help="How often --serve reads the store.", show_default="5"
        ),
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option("--dashboard", metavar="URL", help="Dask's dashboard, where the campaign's record has none."),
    ] = None,
) -> None:
    """Show results as one HTML page with a periodic table; it needs no network and no other file.

    Of two results of one element the last is shown, and it is said. Files that cannot be read are named, on standard
    error and in the page, the rest is shown, and the exit code is 1.
    """
    written = {"--out": out, "--csv": csv, "--png": png, "--only": only}
    served = {"--port": port, "--host": host, "--every": every, "--dashboard": dashboard}
    if useless := [name for name, value in (written if serve else served).items() if value is not None]:
        raise ParameterError(
            f"{' and '.join(useless)} and --serve contradict each other" if serve else f"{useless[0]} needs --serve"
        )
    if serve:
        _serve(sources, title, port=port, host=host, every=every, dashboard=dashboard)
    else:
        _write([Path(one) for one in sources], out or Path("report.html"), csv, png, title, only)


def _serve(
    sources: list[str],
    title: str | None,
    *,
    port: int | None,
    host: str | None,
    every: float | None,
    dashboard: str | None,
) -> None:
    from dftbparam.campaign.record import is_web_address
    from dftbparam.report.live import LiveSource, is_loopback, open_server
    from dftbparam.store import STORE_NAME, TrialStore

    if len(sources) != 1:
        raise ParameterError(f"--serve shows one campaign or store, {len(sources)} were given")
    if dashboard is not None and not is_web_address(dashboard):
        raise ParameterError(f"--dashboard {dashboard!r}: give an address such as http://127.0.0.1:8787/status")
    (source,) = sources
    name: str | None = None
    elements: tuple[str, ...] = ()
    folder: Path | None = None
    location = source
    if "://" not in source and source.endswith(".toml"):
        from dftbparam.campaign.campaign_head import CampaignHead

        head = CampaignHead(Path(source))
        name, elements, folder, location = head.name, tuple(head.symbols), head.out, str(head.store)
    elif "://" not in source and Path(source).is_dir():
        folder = Path(source)
        location = str(folder / STORE_NAME)
    with TrialStore.open(location, read_only=True) as store:

        def standing() -> Standing:
            return _standing(store, name, elements, dashboard)

        # The address of a server is nobody's business, and may hold a password.
        known = name or ("trial store" if "://" in location else Path(location).resolve().parent.name)
        shown = title or f"DFTB parameters: {known}"
        live = LiveSource(store, standing, shown, folder=folder, every=5.0 if every is None else every)
        live.snapshot()  # what is wrong with the store is said before anybody looks
        with open_server(live, host or "127.0.0.1", 8050 if port is None else port) as server:
            if not is_loopback(str(server.server_address[0])):
                complain(
                    f"warning: everybody who can reach {server.url} can read this view, without a password and "
                    "unencrypted; an SSH tunnel to 127.0.0.1 needs no --host"
                )
            note(f"serving {store.where} at {server.url} until Ctrl-C")
            server.serve_until_interrupted()
    note("ended")


def _standing(store: TrialStore, campaign: str | None, elements: tuple[str, ...], dashboard: str | None) -> Standing:
    """Ask the store how its runs stand, in the words of the live view."""
    from dftbparam.campaign.record import dashboard_of
    from dftbparam.campaign.status import run_statuses, totals
    from dftbparam.report.live import RunState, Standing

    found = run_statuses(store, campaign)
    known = RunState.__dataclass_fields__
    runs = tuple(
        RunState(
            run_id=f"{one.campaign}/{one.name}" if one.campaign else one.name,
            **{key: value for key, value in one.to_json().items() if key in known},
        )
        for one in found
    )
    link = dashboard or ""
    for name in dict.fromkeys([campaign] if campaign else [one.campaign for one in found if one.campaign]):
        # Where nothing runs the address is what a driver left behind.
        if not link and any(one.campaign == name and one.state == "running" for one in found):
            link = dashboard_of(store, str(name))
    return Standing(runs, totals(found), elements, link)


def _write(
    folders: list[Path], out: Path, csv: Path | None, png: Path | None, title: str | None, only: str | None
) -> None:
    from dftbparam.publish import prepare_file, prepare_folder, write_bytes, write_csv
    from dftbparam.report.html import collect_results, render_page, report_tables, restrict

    prepare_file(out)
    for option, folder in (("--csv", csv), ("--png", png)):
        if folder is not None:
            try:
                prepare_folder(folder)
            except ParameterError as error:
                raise ParameterError(error.message.replace("--out", option), **error.data) from None
    collection = collect_results(folders)
    if only is not None:
        try:
            collection = restrict(collection, [word for part in only.split(",") if (word := part.strip())])
        except InputError as error:
            raise InputError(f"--only {only[:60]!r}: {error.message}", **error.data) from None
    for text in collection.notes:
        note(text)
    for problem in collection.problems:
        complain(f"{problem.where}: {problem.message}")
    write_bytes(out, render_page(collection, title).encode())
    parts = [f"{len(collection.results)} of {len(collection.symbols)} elements"]
    if collection.left_out:
        parts.append(f"{len(collection.left_out)} left out of the set ({', '.join(collection.left_out)})")
    if collection.deltas:
        models = f"{len(collection.deltas)} delta model{'s' if len(collection.deltas) > 1 else ''}"
        parts = [*parts, models] if collection.results or collection.left_out else [models]
    note(f"wrote {out}: {', '.join(parts)}")
    if csv is not None:
        tables = report_tables(collection)
        for name, rows in tables.items():
            write_csv(csv / name, rows)
        note(f"wrote {len(tables)} tables to {csv}")
    if png is not None:
        note(f"wrote {_draw(collection, png)} images to {png}")
    if collection.problems:
        raise typer.Exit(1)


def _draw(collection: Collection, folder: Path) -> int:
    """Write every table and plot as an image; returns how many."""
    from dftbparam.publish import write_bytes
    from dftbparam.report import render
    from dftbparam.report.html import element_plots, table_plots

    written = 0
    with counting("drawing", 1 + len(collection.results)) as tell:
        for name, drawing in table_plots(collection):
            write_bytes(folder / f"{name}.png", render(drawing))
            written += 1
        tell("periodic table")
        for result in collection.results.values():
            for name, drawing in element_plots(result):
                write_bytes(folder / f"{name}.png", render(drawing))
                written += 1
            tell(result.symbol)
    return written
