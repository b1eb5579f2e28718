"""``dftbparam publish``: a parameter set from results."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dftbparam.cli.options import check_symbol
from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, show_json, show_table
from dftbparam.cli.progress import stages
from dftbparam.errors import ParameterError


class Pairs(StrEnum):
    """Which tables go into the folder."""

    all = "all"
    tracked = "tracked"
    none = "none"


COLUMNS = [Column("what", "element or pair", left=True), Column("defect", "why it does not pass", left=True)]


def publish(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT...",
            help="Folders of runs, a folder that holds such (a campaign's out), the folder of a published set, "
            "a parameter file, or a shipped set.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the set, as dftbparam-2026.1.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the set.")],
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="X,Y,...", help="Elements of the set; default: all that the results have."),
    ] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            "--elements",
            metavar="X,Y,...",
            help="Elements whose tables are built; default: all of the set. All of the set go through the gate.",
        ),
    ] = None,
    pairs: Annotated[
        Pairs, typer.Option("--pairs", help="Tables of all pairs of these, of the tracked dozen among them, or none.")
    ] = Pairs.all,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes; default: one per processor.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder; what is there is not built again.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Publish what passes the gate, and name what does not.")
    ] = False,
    grid_step: Annotated[
        float | None,
        typer.Option("--grid-step", metavar="BOHR", help="Spacing of the tables, for trials; `skf build` has 0.02."),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option("--cutoff", metavar="BOHR", help="Last distance of all tables, for trials.", show_default=False),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Make a parameter set: parameters, scores, manifest, tables, and what DFTB+ and waveplot need besides.

    Nothing is published that fails the gate (exit code 1, with the reasons), unless --keep-going leaves it out.
    """
    from dftbparam.publish import public_command
    from dftbparam.publish.pairs import Grid
    from dftbparam.publish.parameter_set import GateRefused, SetRequest, publish_set
    from dftbparam.publish.workers import processors
    from dftbparam.slako.build import GRID_STEP

    request = SetRequest(
        results=tuple(results),
        name=name,
        out=out,
        only=_symbols(only),
        elements=_symbols(elements),
        pairs=pairs.value,
        grid=Grid(GRID_STEP if grid_step is None else grid_step, cutoff),
        workers=workers or processors(),
        resume=resume,
        keep_going=keep_going,
        command=public_command(["dftbparam", *sys.argv[1:]]),
    )
    prepare_json(json)
    with _one_interrupt(), stages() as tell:
        try:
            found = publish_set(request, tell)
        except GateRefused as error:
            rows = [{"what": what, "defect": text} for what, texts in error.data["defects"].items() for text in texts]
            if json is not None:
                show_json(json, {"published": False, "defects": error.data["defects"]})
            if json != STDOUT:
                show_table("did not pass the gate", COLUMNS, rows)
            raise
    if found.left_out:
        rows = [{"what": what, "defect": text} for what, texts in found.left_out.items() for text in texts]
        if json != STDOUT:
            show_table("left out", COLUMNS, rows)
    if json is not None:
        show_json(
            json,
            {
                "published": True,
                "folder": str(out),
                "elements": list(found.elements),
                "tables": list(found.with_tables),
                "pairs_built": found.built,
                "pairs_reused": found.reused,
                "dftb+": found.dftbplus,
                "left_out": {what: list(texts) for what, texts in found.left_out.items()},
            },
        )
    if not found.dftbplus:
        note("DFTB+ is not installed: the gate did not ask it to read the tables")
    note(
        f"{out}: {len(found.elements)} elements, tables of {len(found.with_tables)} "
        f"({found.built} pairs built, {found.reused} were there)"
    )


def _symbols(text: str | None) -> tuple[str, ...] | None:
    """Elements of an option, each once; None where it was not given."""
    if text is None:
        return None
    found = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if not found:
        raise ParameterError(f"no element in {text!r}: name some, as in Ti,O, or leave the option out")
    for symbol in found:
        check_symbol(symbol)
    return found


@contextlib.contextmanager
def _one_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C interrupt, and no further one: `timeout -s INT` and terminals may send two at once.

    The second would strike the clearing up after the first, which takes seconds at most. Signals are ignored from the
    first one until the process ends.
    """
    # A process that was started to ignore Ctrl-C (nohup, in the background) goes on ignoring it.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)
