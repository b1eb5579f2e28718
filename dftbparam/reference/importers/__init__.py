"""Importers: other people's DFT data as reference sets.

`read_source` reads one file or folder, `assemble` makes a set of several, `write_dataset` writes it;
`import_references` does all three.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dftbparam.elements import all_symbols
from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.reference.importers.assemble import Collection, Offsets, Spin, assemble
from dftbparam.reference.importers.files import as_text, read_bytes
from dftbparam.reference.importers.frame import Curve, Frame, ReadOptions, Source, check_frame
from dftbparam.reference.importers.identify import Identity, identify, isolated_atom
from dftbparam.reference.importers.read import read_source
from dftbparam.reference.importers.write import Provenance, check_target, write_dataset
from dftbparam.reference.records import Dataset

__all__ = [
    "Collection",
    "Curve",
    "Frame",
    "Identity",
    "ImportResult",
    "Offsets",
    "Provenance",
    "ReadOptions",
    "Source",
    "Spin",
    "assemble",
    "check_frame",
    "identify",
    "import_references",
    "isolated_atom",
    "parse_offsets",
    "read_source",
    "write_dataset",
]


@dataclass(frozen=True)
class ImportResult:
    """What an import made: the set as it was read back, what went into it, and from which sources."""

    dataset: Dataset
    collection: Collection
    sources: tuple[Source, ...]


def import_references(
    paths: Sequence[str | Path],
    folder: str | Path,
    provenance: Provenance,
    *,
    functional: str | None = None,
    spin: Spin | None = None,
    offsets: Offsets | None = None,
    options: ReadOptions | None = None,
) -> ImportResult:
    """Import sources into a new reference set.

    Parameters
    ----------
    paths
        Files and folders, see `read_source`.
    folder
        Must not exist. It appears whole, or not at all.
    functional, spin, offsets
        See `assemble`.

    Raises
    ------
    ParameterError
        The folder exists or cannot be written, the name is none, or there is no source.
    FileFormatError, ReferenceDataError, StructureError
        See `read_source` and `assemble`.
    """
    if not paths:
        raise ParameterError("no source to import was given")
    check_target(Path(folder), provenance.name)
    sources = tuple(read_source(path, options) for path in paths)
    collection = assemble(sources, functional=functional, spin=spin, offsets=offsets)
    dataset = write_dataset(Path(folder), collection, provenance)
    return ImportResult(dataset, collection, sources)


def parse_offsets(text: str) -> Offsets:
    """Read a choice of offsets: ``from-atoms``, ``none``, ``Si=-0.8,O=-1.9`` (eV per atom), or a TOML file.

    The file has ``Si = -0.8`` lines, under ``[offsets]`` or at the top.

    Raises
    ------
    ParameterError
        Not a number, or not an element.
    FileFormatError
        Not such a file.
    """
    if text in ("from-atoms", "none"):
        return Offsets(from_atoms=text == "from-atoms", none=text == "none")
    if "=" in text and not Path(text).is_file():
        pairs = [part.partition("=")[::2] for part in text.split(",") if part.strip()]
        return Offsets({symbol.strip(): _offset(symbol.strip(), value) for symbol, value in pairs})
    path = Path(text)
    if not path.is_file():
        raise ParameterError(
            f"--offsets {text!r} is no file; right would be Si=-0.8,O=-1.9, a TOML file, from-atoms or none"
        )
    try:
        table = tomllib.loads(as_text(read_bytes(path), path))
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"not TOML: {error}", path=str(path)) from None
    values = table.get("offsets", table)
    if not isinstance(values, dict) or not values:
        raise FileFormatError("no offsets: lines like Si = -0.8 are needed", path=str(path))
    return Offsets({symbol: _offset(symbol, value) for symbol, value in values.items()})


def _offset(symbol: str, value: object) -> float:
    if symbol not in all_symbols():
        raise ParameterError(f"--offsets: {symbol!r} is no element from H to Cm", symbol=symbol)
    try:
        number = float(str(value)) if not isinstance(value, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if not -1e9 < number < 1e9:
        raise ParameterError(f"--offsets: {symbol} = {value!r} is not a number of eV per atom", symbol=symbol)
    return number
