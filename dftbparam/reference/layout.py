"""How the files of a reference set are written (layout: ``references/README.md``); text in, text out."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

CRYSTAL_COLUMNS: Final = (
    "symbol", "partner", "prototype", "volume", "bulk_modulus", "bulk_modulus_derivative", "energy", "energy_spread",
    "n_codes",
)  # fmt: skip
UNITS: Final = {"volume": "angstrom^3/atom", "bulk_modulus": "eV/angstrom^3", "energy": "eV/atom"}
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")

VOLUME_RANGE: Final = {"low": 0.94, "high": 1.06, "points": 7}
"""Where E(V) points are generated from a row: the range of the Delta project."""


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name, flushed to the disk, then renamed. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's are for the owner alone
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def checksums(files: Mapping[str, tuple[bytes, int]]) -> dict[str, dict[str, Any]]:
    """Table ``files`` of dataset.toml, from the content and the number of entries of each."""
    return {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "rows": rows} for name, (content, rows) in files.items()
    }


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write a table as comma-separated text, UTF-8; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return buffer.getvalue().encode()


def toml(table: Mapping[str, Any]) -> str:
    """Write a table of texts, numbers, lists and tables as TOML; plain values come before tables, as TOML wants it."""
    lines: list[str] = []
    _toml(table, (), lines)
    return "\n".join(lines) + "\n"


def _toml(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            inner = (*path, key)
            if not all(isinstance(part, Mapping) for part in value.values()):
                lines.extend(("", f"[{'.'.join(map(_key, inner))}]"))
            _toml(value, inner, lines)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    # Texts of JSON are texts of TOML but for one character, which JSON leaves as it is and TOML forbids.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
