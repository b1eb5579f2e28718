"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dftbparam.errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside its own, flush it to the disk, and rename it.

    Raises
    ------
    InputError
        It cannot be written. After this and any other error, an interruption included, nothing is left behind, and an
        older file of this name is as it was.
    """
    path = Path(path)
    # The process is part of the name, so that two that write the same file do not write into each other's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(
                f"{str(path)!r} cannot be written ({error.strerror}); choose another place", path=str(path)
            ) from None
        raise
