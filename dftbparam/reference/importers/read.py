"""Finds out what a source is, and reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import FileFormatError, ReferenceDataError
from dftbparam.reference.importers.acwf import is_acwf, read_acwf
from dftbparam.reference.importers.entries import is_entries, read_entries
from dftbparam.reference.importers.files import as_json, read_bytes
from dftbparam.reference.importers.frame import ReadOptions, Source
from dftbparam.reference.importers.frames import SQLITE, read_database, read_extxyz
from dftbparam.reference.importers.vasp import read_vasp

KNOWN: Final = (
    "an extended xyz file, an ASE database (.db, .json), an ACWF result file, a vasprun.xml or folder of runs, "
    "or JSON of ComputedStructureEntry"
)


def read_source(path: str | Path, options: ReadOptions | None = None) -> Source:
    """Read a file or folder of any known format; what it is, is decided by what stands in it, not by its name.

    Raises
    ------
    ReferenceDataError
        It does not exist, is a folder without VASP runs, or see the readers.
    FileFormatError
        Empty, or none of the known formats; see also the readers.
    StructureError
        See `dftbparam.reference.importers.frame.check_frame`.
    """
    path = Path(path)
    options = options or ReadOptions()
    if path.is_dir():
        return read_vasp(path, options)
    if not path.exists():
        raise ReferenceDataError(f"{str(path)!r} does not exist; a source is {KNOWN}", path=str(path))
    reader = _reader(path)
    return reader(path, options)


def _reader(path: Path) -> Callable[[Path, ReadOptions], Source]:
    content = read_bytes(path)
    if content.startswith(SQLITE):
        return read_database
    head = content[:2000].lstrip()
    if head.startswith(b"<"):
        return read_vasp
    if head[:1] in (b"{", b"["):
        value: Any = as_json(content, path)
        if is_acwf(value):
            return lambda path, options: read_acwf(path, value, options)
        # ASE's JSON database: rows under their ids, which are listed.
        if isinstance(value, dict) and ("ids" in value or "nextid" in value):
            return read_database
        if is_entries(value):
            return lambda path, options: read_entries(path, value, options)
        raise FileFormatError("JSON of no known layout", path=str(path))
    if head.split(b"\n", 1)[0].strip().isdigit():
        return read_extxyz
    raise FileFormatError(f"neither {KNOWN}", path=str(path))
