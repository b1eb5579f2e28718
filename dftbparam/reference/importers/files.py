"""Bytes of source files, unpacked where they are compressed, and text and JSON from them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import FileFormatError, ReferenceDataError

_MAGIC: Final[Mapping[bytes, tuple[str, Callable[[bytes], bytes]]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if it is a gzip, bzip2 or xz file.

    Raises
    ------
    ReferenceDataError
        It does not exist or cannot be read.
    FileFormatError
        Empty, truncated or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReferenceDataError(f"{str(path)!r} cannot be read ({error.strerror})", path=str(path)) from None
    for magic, (name, unpack) in _MAGIC.items():
        if content.startswith(magic):
            try:
                content = unpack(content)
            except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise FileFormatError(f"truncated or damaged {name} file ({error})", path=str(path)) from None
    if not content.strip():
        raise FileFormatError("the file is empty", path=str(path))
    return content


def as_text(content: bytes, path: Path) -> str:
    """Decode UTF-8 text; `FileFormatError` names the first line that is none."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FileFormatError(f"not a text file in UTF-8 ({error.reason})", path=str(path), line=line) from None


def as_json(content: bytes, path: Path) -> Any:
    """Parse JSON; `FileFormatError` says where it breaks off."""
    try:
        return json.loads(as_text(content, path))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"not JSON, or truncated: {error.msg}", path=str(path), line=error.lineno) from None
    except RecursionError:
        raise FileFormatError("JSON nested too deeply", path=str(path)) from None
