"""The manifest of a published set: where each element came from, and the checksums of all files.

A set's folder is complete when it has its manifest, which is written last. `verify_set` says whether it still is what
it was; its tables can be built again, bit for bit, from its parameters.json with the versions that it names.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dftbparam.errors import FileFormatError, InputError
from dftbparam.publish.files import write_bytes
from dftbparam.publish.manifest import MANIFEST_NAME, FileRecord, ReferenceRecord

SET_SCHEMA_VERSION = 1

SET_KIND: Final = "parameter set"

RUN_FIELDS: Final = ("created", "command", "seed", "versions", "settings", "reference", "trials")
"""What a set's manifest repeats of an element's run."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ElementRecord(_Record):
    """Provenance of one element.

    Attributes
    ----------
    origin
        Name of the run, or of the parameter set.
    parameters_sha256
        Of the element's parameters as sorted JSON without blanks.
    created, command, seed, versions, settings, reference, trials
        Of the run, as in its manifest; empty where there was none.
    """

    origin: str
    parameters_sha256: str
    created: str = ""
    command: str = ""
    seed: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    reference: ReferenceRecord | None = None
    trials: dict[str, int] = Field(default_factory=dict)


class SetManifest(_Record):
    """Provenance of a set.

    Attributes
    ----------
    versions
        What the set was built with.
    tables
        Grid and elements of the tables that are in the folder.
    gate
        What the gate looked at, and what it could not (no DFTB+).
    left_out
        Elements and pairs that are not in the set, and why.
    """

    schema_version: Literal[1] = 1
    kind: Literal["parameter set"] = "parameter set"
    name: str
    created: str
    command: str
    versions: dict[str, str]
    platform: dict[str, str]
    functional: str
    superposition: str
    tables: dict[str, Any]
    gate: dict[str, Any]
    elements: dict[str, ElementRecord]
    left_out: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    files: tuple[FileRecord, ...] = ()


def write_set_manifest(folder: Path, manifest: SetManifest) -> None:
    """Write it. Call it last: it says that the folder is complete."""
    write_bytes(folder / MANIFEST_NAME, (manifest.model_dump_json(indent=1) + "\n").encode())


def read_set_manifest(folder: Path) -> SetManifest:
    """Read the manifest of a set's folder.

    Raises
    ------
    InputError
        There is none: the folder is no finished set.
    FileFormatError
        It is malformed, or that of something else.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        return SetManifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); a finished set has a manifest", path=str(path)
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise FileFormatError(f"no manifest of a set: {place}: {first['msg']}", path=str(path)) from None
    except ValueError as error:
        raise FileFormatError(f"not JSON ({error})", path=str(path)) from None


def verify_set(folder: Path) -> list[str]:
    """Compare the files of a set with its manifest; one sentence per difference."""
    differences = []
    for known in read_set_manifest(folder).files:
        try:
            content = (Path(folder) / known.path).read_bytes()
        except OSError:
            differences.append(f"{known.path} is missing")
            continue
        if hashlib.sha256(content).hexdigest() != known.sha256:
            differences.append(f"{known.path} has changed: {len(content)} bytes, were {known.bytes}")
    return differences
