"""Model files: one zip archive (NumPy's npz) with a JSON header and arrays, no pickle.

``header``
    UTF-8 JSON as bytes: format and version, what the model corrects (checksums of Slater-Koster files, engine,
    settings), descriptors, results of DFTB that are inputs, kernel, levels with costs and calibration, the domain of
    each, metrics, data checksum, versions, seed, and the SHA-256 of every array.
arrays
    ``map-14-mean``, ``map-14-axes``, ``points-14`` (per atomic number), ``mixing``, ``offsets``, ``mean``,
    ``triangle`` (upper, row by row).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from dftbparam.atomic_write import write_bytes
from dftbparam.delta.basis import Basis
from dftbparam.delta.data import skf_checksums
from dftbparam.delta.descriptors import DescriptorSettings
from dftbparam.delta.domain import Domain
from dftbparam.delta.evidence import Hyperparameters, Posterior
from dftbparam.delta.features import ElementMap
from dftbparam.delta.inputs import InputScale
from dftbparam.delta.kernels import RadialKernel
from dftbparam.delta.model import DeltaModel, Level
from dftbparam.errors import DftbparamError, FileFormatError, InputError, ParameterError

FORMAT: Final = "dftbparam-delta"
VERSION: Final = 2
"""Raised when files can no longer be read by the previous code. 2: one domain for each level, inputs."""

READABLE: Final = (1, VERSION)
"""Versions that are read. In files of version 1 all levels share one domain, that of their data together."""

HEADER: Final = "header"

LARGEST_HEADER: Final = 50_000_000
"""Bytes; the largest header seen has 0.1 MB, a list of group names."""


def save_model(model: DeltaModel, path: str | Path) -> str:
    """Write a model; returns the SHA-256 of the file. The file appears whole or not at all.

    Raises
    ------
    InputError
        It cannot be written.
    """
    arrays = _arrays(model)
    header = header_of(model)
    header["arrays"] = {name: _checksum(array) for name, array in arrays.items()}
    text = json.dumps(header, indent=1, ensure_ascii=False, allow_nan=False).encode()
    content = {HEADER: np.frombuffer(text, dtype=np.uint8), **arrays}
    buffer = io.BytesIO()
    # As np.savez_compressed does, but with one fixed date: the same model gives the same bytes.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in content.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), part.getvalue(), zipfile.ZIP_DEFLATED
            )
    write_bytes(Path(path), buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def header_of(model: DeltaModel) -> dict[str, Any]:
    """What a file says about itself, without the checksums of its arrays."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "elements": list(model.symbols),
        "base": dict(model.base),
        "descriptors": {"library": "featomic", "kind": "SOAP power spectrum", **model.basis.settings.record()},
        "kernel": {"kind": model.basis.kernel.kind, "length": model.basis.kernel.length},
        "features": list(model.basis.features),
        "structure": model.structure,
        "inducing": {str(z): len(model.basis.points[z]) for z in model.basis.numbers},
        "maps": {
            str(z): {
                "scale": chart.scale,
                "pairs": [[a, b, first, last] for (a, b), (first, last) in chart.pairs.items()],
                **({"inputs": chart.inputs.record()} if chart.inputs.names else {}),
            }
            for z, chart in model.basis.maps.items()
        },
        "noise": [[level, kind, value] for (level, kind), value in model.hyper.noise.items()],
        "evidence": model.hyper.evidence,
        "levels": [{"name": one.name, "cost": one.cost, "calibration": one.calibration} for one in model.levels],
        "domains": {one.name: domain.record() for one, domain in zip(model.levels, model.domains, strict=True)},
        "metrics": dict(model.metrics),
        "provenance": dict(model.provenance),
    }


def read_header(path: str | Path) -> dict[str, Any]:
    """Read what a model file says about itself.

    Raises
    ------
    FileFormatError
        Not a model file, of a later version, or damaged.
    """
    with _open(path) as archive:
        return _header(archive, path)


def load_model(path: str | Path, skf_dir: str | Path | None = None) -> DeltaModel:
    """Read a model.

    Parameters
    ----------
    skf_dir
        The Slater-Koster files that it is to be used with; they must be those that it was trained on.

    Raises
    ------
    FileFormatError
        Not a model file, of a later version, or damaged.
    ParameterError
        The Slater-Koster files are others than the model's.
    """
    path = Path(path)
    with _open(path) as archive:
        header = _header(archive, path)
        arrays = {}
        for name, checksum in header["arrays"].items():
            try:
                array = np.asarray(archive[name])
            except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
                raise FileFormatError(f"array {name!r} is missing or damaged ({error})", path=str(path)) from None
            if _checksum(array) != checksum:
                raise FileFormatError(f"array {name!r} is not what the header says: damaged", path=str(path))
            arrays[name] = array
    try:
        model = _model(header, arrays)
    except DftbparamError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FileFormatError(
            f"incomplete or contradictory ({type(error).__name__}: {error})", path=str(path)
        ) from None
    if skf_dir is not None:
        check_base(model.base, Path(skf_dir), model.symbols, str(path))
    return model


def check_base(base: Mapping[str, Any], skf_dir: Path, symbols: Iterable[str], path: str) -> None:
    """Raise `ParameterError` where files differ from those that a model corrects, `ElementError` where some lack."""
    if not base:
        raise ParameterError(
            f"{path} is a model without DFTB underneath: it predicts the reference itself and goes with no files",
            path=path,
        )
    known = base["skf_sha256"]
    found = skf_checksums(skf_dir, symbols)
    different = [pair for pair in sorted(known) if found.get(pair) != known[pair]]
    if different:
        raise ParameterError(
            f"{path} corrects the set {base['name']!r}; {skf_dir} has other files for {', '.join(different[:6])}"
            f"{' and more' if len(different) > 6 else ''}: a correction of one set is wrong for another",
            path=path,
            pairs=different,
        )


def _arrays(model: DeltaModel) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for z in model.basis.numbers:
        arrays[f"map-{z}-mean"] = model.basis.maps[z].mean
        arrays[f"map-{z}-axes"] = model.basis.maps[z].axes
        arrays[f"points-{z}"] = model.basis.points[z]
    arrays["mixing"] = model.hyper.mixing
    arrays["offsets"] = model.offsets
    arrays["mean"] = model.posterior.mean
    size = len(model.posterior.mean)
    arrays["triangle"] = model.posterior.triangle[np.triu_indices(size)]
    return arrays


def _model(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> DeltaModel:
    maps, points = {}, {}
    for key, chart in header["maps"].items():
        z = int(key)
        pairs = {(int(a), int(b)): (int(first), int(last)) for a, b, first, last in chart["pairs"]}
        names = header.get("features", [])
        inputs = InputScale.from_record(names, chart["inputs"]) if names else InputScale()
        maps[z] = ElementMap(pairs, arrays[f"map-{z}-mean"], arrays[f"map-{z}-axes"], float(chart["scale"]), inputs)
        points[z] = arrays[f"points-{z}"]
    own = {key: value for key, value in header["descriptors"].items() if key not in ("library", "kind")}
    kernel = RadialKernel(header["kernel"]["kind"], float(header["kernel"]["length"]))
    size = len(arrays["mean"])
    triangle = np.zeros((size, size))
    triangle[np.triu_indices(size)] = arrays["triangle"]
    noise = {(int(level), str(kind)): float(value) for level, kind, value in header["noise"]}
    return DeltaModel(
        Basis(DescriptorSettings(**own), maps, kernel, points),
        header["structure"],
        Hyperparameters(arrays["mixing"], noise, float(header["evidence"])),
        Posterior(arrays["mean"], triangle),
        arrays["offsets"],
        tuple(Level(one["name"], float(one["cost"]), float(one["calibration"])) for one in header["levels"]),
        _domains(header),
        header["base"],
        header["metrics"],
        header["provenance"],
    )


def _domains(header: Mapping[str, Any]) -> tuple[Domain, ...]:
    """Read the domain of each level."""
    if header["version"] == 1:
        return (Domain.from_record(header["domain"]),) * len(header["levels"])
    return tuple(Domain.from_record(header["domains"][one["name"]]) for one in header["levels"])


def _checksum(array: Any) -> str:
    plain = np.ascontiguousarray(array)
    return hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode() + plain.tobytes()).hexdigest()


def _open(path: str | Path) -> Any:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such model file", path=str(path)) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", path=str(path)) from None
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"not a delta model ({error})", path=str(path)) from None
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise FileFormatError("not a delta model: a single array", path=str(path))
    return found


def _header(archive: Any, path: str | Path) -> dict[str, Any]:
    if HEADER not in archive.files:
        raise FileFormatError("not a delta model: it has no header", path=str(path))
    try:
        raw = np.asarray(archive[HEADER])
        if raw.dtype != np.uint8 or raw.ndim != 1 or raw.size > LARGEST_HEADER:
            raise ValueError("the header is no text")
        header = json.loads(raw.tobytes().decode())
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"not a delta model ({error})", path=str(path)) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError("not a delta model: the header says something else", path=str(path))
    if header.get("version") not in READABLE:
        raise FileFormatError(
            f"version {header.get('version')!r} of the format; this program reads up to version {VERSION}",
            path=str(path),
        )
    return header
