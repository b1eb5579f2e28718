"""Keys of what is built: equal keys mean equal bytes.

A key covers the parameters, what they are built with (grid, functional, versions of the libraries that decide bits) and
the source of the code that builds, so that nothing old is taken for new after a change of any of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from typing import Any, Final

from dftbparam.space import ElementParameters

BUILDERS: Final = ("slako", "repulsion", "skf", "elements")
"""Parts of the package whose code and data decide the bytes of a table."""

LIBRARIES: Final = ("numpy", "scipy", "numba", "llvmlite")


@cache
def code_checksum(*parts: str) -> str:
    """SHA-256 over the files of parts of the package: all that decide tables, unless some are named."""
    total = hashlib.sha256()
    for part in parts or BUILDERS:
        folder = resources.files("dftbparam") / part
        files = [*folder.iterdir(), *((folder / "data").iterdir() if (folder / "data").is_dir() else [])]
        for file in sorted(files, key=lambda one: one.name):
            if file.is_file() and file.name.endswith((".py", ".toml")):
                total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide bits."""
    return {name: metadata.version(name) for name in LIBRARIES}


def key(what: str, value: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, of the code and of the libraries."""
    whole = {"what": what, "value": value, "code": code_checksum(), "libraries": library_versions()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, allow_nan=False).encode()).hexdigest()


def record_value(record: ElementParameters) -> dict[str, Any]:
    """What of an element's record decides its tables; notes do not."""
    return record.model_dump(mode="json", exclude={"notes"})
