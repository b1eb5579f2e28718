"""Output files, which appear whole or not at all (`dftbparam.atomic_write`), and the folders they lie in."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dftbparam.atomic_write import write_bytes
from dftbparam.errors import ParameterError

__all__ = ["prepare_file", "prepare_folder", "write_bytes", "write_csv", "write_json"]


def prepare_folder(folder: Path) -> Path:
    """Create a folder for output where it is missing and make sure that files can be written there.

    Called before a long computation, so that an unwritable folder costs no time.

    Raises
    ------
    ParameterError
        The folder cannot be created or written; the message says why.
    """
    folder = Path(folder)
    probe = folder / f".writable.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Trying beats asking: access bits say nothing about read-only mounts, quotas, or the superuser.
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ParameterError(
            f"output folder {str(folder)!r} cannot be written ({error.strerror}); choose another one with --out",
            path=str(folder),
        ) from None
    return folder


def prepare_file(path: Path) -> Path:
    """Make sure that a file can be written later; an older one of this name stays as it is.

    Called before a long computation, so that an unwritable place costs no time.

    Raises
    ------
    ParameterError
        Its folder is missing or cannot be written, or the path is a folder; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        raise ParameterError(f"output file {str(path)!r} is a folder; name a file in it", path=str(path))
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ParameterError(
            f"output file {str(path)!r} cannot be written ({error.strerror}); choose another place", path=str(path)
        ) from None
    return path


def write_json(path: Path, value: Any) -> None:
    """Write JSON: indented, UTF-8, numbers that read back bit for bit; NaN and infinity are refused (`ValueError`)."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; columns are the keys in order of first appearance, None is an empty field."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, buffer.getvalue().encode())
