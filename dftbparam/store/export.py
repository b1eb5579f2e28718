"""Trials as CSV and JSON: written as they are read, so that millions of them need no memory.

A file appears whole or not at all: it is written under a temporary name beside its place, flushed and renamed.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from dftbparam.errors import InputError
from dftbparam.store.records import Run, Trial, flat_row

EXPORT_VERSION: Final = 1
"""Raised when an exported JSON file can no longer be read by the previous code."""

LONGEST_FIELD: Final = 2**31 - 1
"""Characters of a CSV field that is read back; the limit of Python's reader is made for files of strangers."""


def export_csv(path: Path, trials: Iterable[Trial]) -> int:
    """Write the rows of `dftbparam.store.flat_row`; return their number.

    Columns stand in order of first appearance, None is an empty field, floats read back bit for bit. A column that
    only later trials have, as when the first ones failed, is empty in the earlier rows.

    Raises
    ------
    InputError
        The file cannot be written; nothing is left behind, and an older file of this name stays as it was.
    """
    columns: list[str] = []
    rows = 0
    with _appearing(path) as file, _scratch(path) as body:
        parts: list[tuple[int, int, int]] = []  # rows of so many columns begin here, at the row of this number
        writer = csv.writer(body, lineterminator="\n")
        for trial in trials:
            row = flat_row(trial)
            new = [name for name in row if name not in columns]
            if new:
                columns += new
                parts.append((body.tell(), rows, len(columns)))
            writer.writerow([row.get(name) for name in columns])
            rows += 1
        csv.writer(file, lineterminator="\n").writerow(columns)
        for number, (begin, first, width) in enumerate(parts):
            body.seek(begin)
            if width == len(columns):
                shutil.copyfileobj(body, file)
            else:
                _copy_widened(body, parts[number + 1][1] - first, len(columns), file)
    return rows


def export_json(file: IO[str], run: Run, trials: Iterable[Trial]) -> int:
    """Write a run and its trials as one JSON object, a trial a line; return the number of trials.

    Keys: ``schema_version`` (1), ``run`` (the fields of `dftbparam.store.Run`), ``trials`` (the fields of
    `dftbparam.store.Trial` without ``run_id``). Floats read back bit for bit.
    """
    file.write(f'{{"schema_version": {EXPORT_VERSION},\n"run": {_json(asdict(run))},\n"trials": [')
    number = 0
    for trial in trials:
        record = {name: value for name, value in vars(trial).items() if name != "run_id"}
        file.write(f"{',' if number else ''}\n{_json(record)}")
        number += 1
    file.write("\n]}\n")
    return number


def export_json_file(path: Path, run: Run, trials: Iterable[Trial]) -> int:
    """Write the JSON of `export_json` to a file; return the number of trials. Errors: see `export_csv`."""
    with _appearing(path) as file:
        return export_json(file, run, trials)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _copy_widened(body: IO[str], rows: int, width: int, file: IO[str]) -> None:
    """Copy the next rows with empty fields at their ends."""
    writer = csv.writer(file, lineterminator="\n")
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        for row in itertools.islice(csv.reader(body), rows):
            writer.writerow(row + [""] * (width - len(row)))
    finally:
        csv.field_size_limit(limit)


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[IO[str]]:
    """Open a file that takes its place when all was written."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written ({error.strerror}); choose another place", path=str(path)
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[IO[str]]:
    """Open a file for rows whose columns are not all known yet; it is gone afterwards."""
    scratch = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.rows.tmp")
    with scratch.open("w+", encoding="utf-8", errors="backslashreplace", newline="") as file:
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink()
