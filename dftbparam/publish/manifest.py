"""The manifest of a parameter set: what was computed, from what, with what, and the checksums of the result.

It is written last. A folder with a manifest is complete; `verify_folder` says whether it still is what it was.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import dftbparam
from dftbparam.errors import FileFormatError, InputError
from dftbparam.publish.files import write_bytes

MANIFEST_NAME: Final = "manifest.json"

SCHEMA_VERSION: Final = 1
"""Raised when a manifest can no longer be read by the previous code."""

LIBRARIES: Final = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "ase",
    "spglib",
    "pyscf",
    "scikit-optimize",
    "scikit-learn",
    "dask",
    "distributed",
    "pydantic",
    "SQLAlchemy",
    "matplotlib",
    "typer",
    "rich",
)
"""Packages whose version is recorded: those that can change a number, and those that a bug report needs."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """A file of the folder: ``path`` relative to it with forward slashes, size in bytes, SHA-256."""

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ReferenceRecord(_Record):
    """The reference data of a run; ``checksum`` is the SHA-256 of the data file."""

    name: str
    version: str = ""
    checksum: str
    source: str = ""
    doi: str = ""
    licence: str = ""


class Manifest(_Record):
    """Provenance of one run.

    Attributes
    ----------
    name
        Of the run: the name of its folder.
    created
        ISO 8601, UTC.
    command
        The command line, or the Python call.
    elements
        Symbols that the set holds.
    versions
        Name to version: this package, Python, the libraries, the engine.
    settings
        Everything that decides the result.
    seed
        Seed of the search; None where there was no search.
    parameters
        The fitted parameters, as in parameters.json.
    trials
        Numbers of evaluations: done, and how many of them failed.
    files
        Every file of the folder but the manifest itself and the trial store, which goes on changing.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    created: str
    command: str
    elements: tuple[str, ...]
    versions: dict[str, str]
    platform: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any]
    reference: ReferenceRecord | None = None
    seed: int | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    trials: dict[str, int] = Field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries it computes with; a library that is missing is left out."""
    found = {"dftbparam": dftbparam.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Operating system and processor type; no host name, no user, no path."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "implementation": platform.python_implementation(),
    }


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def public_path(text: str) -> str:
    """Reduce an absolute path to its last part, also after a word and a colon; anything else stays as it is.

    What is published must not tell where on somebody's machine it was made.
    """
    word, colon, rest = text.partition(":")
    if colon and word.isalpha() and Path(rest).is_absolute():
        return f"{word}:{public_path(rest)}"
    path = Path(text)
    return (path.name or "/") if path.is_absolute() else text


def public_command(words: Iterable[str]) -> str:
    """Write a command line as a shell would take it, without absolute paths and addresses of schedulers."""
    shown: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        if not (option.startswith("--") and equals):
            option, equals, value = "", "", word
        named = option or (shown[-1] if shown else "")
        shown.append(option + equals + ("ADDRESS" if named == "--scheduler" else public_path(value)))
    return shlex.join(shown)


def record_files(folder: Path, names: Iterable[str]) -> tuple[FileRecord, ...]:
    """Take size and checksum of files of a folder, in order of name.

    Raises
    ------
    InputError
        One of them is missing.
    """
    return tuple(_record(folder, name) for name in sorted(set(names)))


def _record(folder: Path, name: str) -> FileRecord:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / name}: cannot be read ({error.strerror})", path=str(folder / name)) from None
    return FileRecord(path=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write ``manifest.json`` and return its path. Call it last: it says that the folder is complete."""
    path = Path(folder) / MANIFEST_NAME
    write_bytes(path, (manifest.model_dump_json(indent=1) + "\n").encode())
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    InputError
        There is none: the folder is no finished run.
    FileFormatError
        It is malformed or of another version.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); a finished run has a manifest, an interrupted one gets it "
            "when it is resumed",
            path=str(path),
        ) from None
    except UnicodeDecodeError as error:
        raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
    try:
        return Manifest.model_validate(json.loads(content))
    except json.JSONDecodeError as error:
        raise FileFormatError(f"not JSON: {error.msg}", path=str(path), line=error.lineno) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FileFormatError(
            f"{place}: {first['msg']} (given: {str(first['input'])[:60]!r})", path=str(path)
        ) from None


def verify_folder(folder: Path) -> list[str]:
    """Compare the files of a folder with its manifest; one sentence per difference, none where all is as it was."""
    folder = Path(folder)
    differences = []
    for known in read_manifest(folder).files:
        try:
            found = _record(folder, known.path)
        except InputError:
            differences.append(f"{known.path} is missing")
            continue
        if found.sha256 != known.sha256:
            differences.append(f"{known.path} has changed: {found.bytes} bytes, were {known.bytes}")
    return differences
