"""Where text goes: tables and JSON to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dftbparam.errors import ParameterError

STDOUT: Final = "-"
"""What stands for standard output where a file is asked for."""

PIPE_WIDTH: Final = 160
"""Columns of a table that does not go to a terminal: wide enough that nothing is broken into two lines."""

JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the result as JSON to FILE; '-' is standard output.", show_default=False
    ),
]


@dataclass(frozen=True)
class Column:
    """A column: the key in the rows, its head, and how numbers are written (`format` of `str.format`)."""

    key: str
    head: str
    form: str = ""
    left: bool = False


def out() -> Console:
    """Return a console on standard output, made anew because tests and pipes replace it."""
    return _console(sys.stdout)


def err() -> Console:
    """Return a console on standard error."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    terminal = stream.isatty()
    return Console(
        file=stream, width=None if terminal else PIPE_WIDTH, highlight=False, emoji=False, soft_wrap=not terminal
    )


def note(text: str) -> None:
    """Print one line of information on standard error."""
    err().print(escape(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print one error on standard error."""
    err().print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def show_table(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
    """Print rows as a table."""
    table = Table(title=title or None, caption=caption or None, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column.head, justify="left" if column.left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell(row.get(column.key), column.form)) for column in columns))
    out().print(table, soft_wrap=False)


def cell(value: Any, form: str = "") -> str:
    """Write one value: a dash for None, yes and no for truth values."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if form and isinstance(value, int | float):
        return format(value, form)
    return str(value)


def angular_letters(max_angular: Mapping[str, int]) -> dict[str, str]:
    """Return the highest shell per element as DFTB+ wants it: ``{"Si": "d"}``."""
    return {symbol: "spdf"[l] for symbol, l in sorted(max_angular.items())}


def angular_block(max_angular: Mapping[str, int]) -> str:
    """Return the block that DFTB+'s input needs beside the files, on one line."""
    inner = "; ".join(f'{symbol} = "{letter}"' for symbol, letter in angular_letters(max_angular).items())
    return f"for DFTB+: MaxAngularMomentum {{ {inner} }}"


def prepare_json(target: str | None) -> None:
    """Make sure, before a long computation, that `show_json` can write; `ParameterError` if not."""
    if target is not None and target != STDOUT:
        from dftbparam.publish import prepare_file  # here, because it takes a third of what `campaign status` takes

        prepare_file(Path(target))


def show_json(target: str, value: Any) -> None:
    """Write a value as JSON to a file or, for ``-``, to standard output."""
    if target == STDOUT:
        typer.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        from dftbparam.publish import write_json

        write_json(Path(target), value)


def present(
    target: str | None,
    value: Any,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Mapping[str, Any]],
    caption: str = "",
) -> None:
    """Print the table, unless JSON was asked for on standard output; write the JSON where it was asked for."""
    if target is not None:
        show_json(target, value)
    if target != STDOUT:
        show_table(title, columns, rows, caption)


def check_structures_file(out: Path, json: str | Path | None, overwrite: bool) -> None:
    """Raise `ParameterError` where ``--out`` is no extended xyz file, would replace one unasked, or is ``--json``'s."""
    if out.suffix not in (".extxyz", ".xyz"):
        raise ParameterError(f"--out {out}: the format is extended xyz; name the file .extxyz", path=str(out))
    if out.exists() and not out.is_dir() and not overwrite:
        raise ParameterError(f"{out} is there already; replace it with --overwrite, or choose another --out")
    if json not in (None, STDOUT) and Path(str(json)).resolve() == out.resolve():
        raise ParameterError(f"--json and --out name the same file, {out}")
