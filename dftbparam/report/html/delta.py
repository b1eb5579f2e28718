"""Delta models in the report: what their files record of held-out structures, as content, tables and figures.

A model file is a zip archive of NumPy arrays (`docs/delta.md`), of which the JSON header alone is read. Nothing is
predicted here and no model is loaded: parity, calibration and learning curves are those that training wrote down.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dftbparam.errors import FileFormatError
from dftbparam.report.delta_plots import plot_calibration, plot_learning, plot_parity

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SUFFIX: Final = ".delta"
"""Of model files, where they are looked for in folders."""

FORMAT: Final = "dftbparam-delta"
KNOWN_VERSION: Final = 2
"""The version of the format that this code understands."""

HEADER: Final = "header.npy"
LARGEST_HEADER: Final = 50_000_000
"""Bytes, as `dftbparam.delta.model_file` has it."""

PARTS: Final = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Parts of a normal distribution at which calibration is shown."""

UNIT: Final = "eV/atom"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class StoredLevel(_Stored):
    """A level of theory, its cost, and the factor of its error bars."""

    name: str
    cost: float = 1.0
    calibration: float = 1.0


class StoredScores(_Stored):
    """Held-out errors of one level, eV/atom."""

    structures: int
    rmse: float
    mae: float
    within_one_std: float
    within_two_std: float
    rmse_without_base: float | None = None
    negative_transfer: bool | None = None


class StoredHeldOut(_Stored):
    """Every held-out energy of one level, eV/atom without element offsets; ``group`` are places in ``groups``."""

    groups: tuple[str, ...]
    group: tuple[int, ...]
    reference: tuple[float, ...]
    predicted: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        sizes = {len(values) for values in (self.group, self.reference, self.predicted, self.std)}
        if len(sizes) > 1:
            raise ValueError("held-out values are not equally many")
        if any(not 0 <= k < len(self.groups) for k in self.group):
            raise ValueError("held-out structures are of groups that there are not")
        if any(std <= 0.0 for std in self.std):
            raise ValueError("an error bar is not positive")
        return self


class StoredCurves(_Stored):
    """Learning curves of one level: (structures, error in eV/atom)."""

    model: tuple[tuple[float, float], ...] = ()
    without_base: tuple[tuple[float, float], ...] | None = None


class StoredMetrics(_Stored):
    """What training found out; files of version 1 have errors alone."""

    grouped: bool = True
    folds: int = 0
    levels: dict[str, StoredScores] = Field(default_factory=dict)
    held_out: dict[str, StoredHeldOut] = Field(default_factory=dict)
    learning: dict[str, StoredCurves] = Field(default_factory=dict)


class StoredBase(_Stored):
    """The DFTB calculation underneath; no name where there is none."""

    name: str = ""
    engine: str = ""


class StoredModel(_Stored):
    """The header of a model file, as far as it is shown."""

    elements: tuple[str, ...]
    levels: tuple[StoredLevel, ...]
    base: StoredBase = StoredBase()
    features: tuple[str, ...] = ()
    kernel: dict[str, Any] = Field(default_factory=dict)
    inducing: dict[str, int] = Field(default_factory=dict)
    metrics: StoredMetrics = StoredMetrics()
    provenance: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class DeltaFile:
    """A model file under the name that the page gives it."""

    source: str
    stored: StoredModel

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        return slug(self.source.removesuffix(SUFFIX))

    @property
    def plain(self) -> str:
        """What the model without the base is called, or the model itself where it has none."""
        return "delta" if self.stored.base.name else "direct"


def slug(text: str) -> str:
    """Letters, digits, dots, underscores and hyphens of a text, for the name of a file."""
    return re.sub(r"[^A-Za-z0-9.+_]+", "-", text).strip("-.") or "model"


def is_model_file(path: Path) -> bool:
    """Whether a file goes for a model: by its name, or because it is an archive."""
    if path.suffix == SUFFIX:
        return True
    try:
        with path.open("rb") as handle:
            return handle.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def read_delta(path: Path, source: str) -> DeltaFile:
    """Read what a model file says about itself.

    Raises
    ------
    FileFormatError
        Not a model file, of a later version, damaged, or incomplete.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(HEADER).file_size > LARGEST_HEADER:
                raise FileFormatError("not a delta model: its header is too large", path=str(path))
            raw = np.load(io.BytesIO(archive.read(HEADER)), allow_pickle=False)
        header = json.loads(np.asarray(raw, dtype=np.uint8).tobytes().decode())
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FileFormatError(f"not a delta model ({type(error).__name__})", path=str(path)) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError("not a delta model: the header says something else", path=str(path))
    version = header.get("version")
    if not isinstance(version, int) or not 1 <= version <= KNOWN_VERSION:
        raise FileFormatError(
            f"version {version!r} of the format; this version of dftbparam reads up to {KNOWN_VERSION}", path=str(path)
        )
    try:
        return DeltaFile(source, StoredModel.model_validate(header))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "header"
        raise FileFormatError(f"{where}: {first['msg']}", path=str(path)) from None


def calibration(held_out: StoredHeldOut) -> list[tuple[float, float]]:
    """Part of errors within the interval that should hold a part p of them, for several p."""
    from scipy.special import erfinv

    ratio = np.abs(np.array(held_out.predicted) - np.array(held_out.reference)) / np.array(held_out.std)
    return [(p, float(np.mean(ratio <= np.sqrt(2.0) * erfinv(p)))) for p in PARTS]


def delta_content(one: DeltaFile) -> dict[str, Any]:
    """What the page shows of a model, as JSON values."""
    stored = one.stored
    found = stored.provenance
    facts = [
        ["elements", ", ".join(stored.elements)],
        ["corrects", f"{stored.base.name} ({stored.base.engine})" if stored.base.name else "nothing: learns directly"],
        ["inputs", ", ".join(["surroundings of the atoms", *stored.features])],
        ["kernel", f"{stored.kernel.get('kind', '?')}, length {stored.kernel.get('length', '?')}"],
        ["inducing environments", ", ".join(f"{n} of Z = {z}" for z, n in stored.inducing.items())],
        ["held out", f"{'groups' if stored.metrics.grouped else 'parts of one group'}, {stored.metrics.folds} parts"],
        ["data", f"{found.get('samples', '?')} structures, SHA-256 {found.get('data_sha256', '?')}"],
    ]
    return {
        "source": one.source,
        "file": one.slug,
        "model": one.plain,
        "facts": facts,
        "levels": [
            {
                "name": level.name,
                "file": slug(level.name),
                "rows": _score_row(one, level),
                "held_out": _shown(stored.metrics.held_out.get(level.name)),
                "learning": None if (curve := stored.metrics.learning.get(level.name)) is None else curve.model_dump(),
            }
            for level in stored.levels
        ],
    }


def _score_row(one: DeltaFile, level: StoredLevel) -> dict[str, Any]:
    scores = one.stored.metrics.levels.get(level.name)
    return {
        "level": level.name,
        "cost": level.cost,
        "calibration": level.calibration,
        **({} if scores is None else scores.model_dump()),
    }


def _shown(held_out: StoredHeldOut | None) -> dict[str, Any] | None:
    """Held-out energies in ascending order of the reference, and how many of them lie where they should."""
    if held_out is None or not held_out.group:
        return None
    order = np.argsort(np.array(held_out.reference), kind="stable")
    values = {
        name: [float(f"{getattr(held_out, name)[k]:.5g}") for k in order] for name in ("reference", "predicted", "std")
    }
    return {
        **values,
        "group": [held_out.group[k] for k in order],
        "groups": list(held_out.groups),
        "calibration": calibration(held_out),
    }


def delta_tables(models: Sequence[DeltaFile]) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``delta-models``, ``delta-held-out``, ``delta-calibration`` and ``delta-learning``; eV/atom."""
    tables: dict[str, list[dict[str, Any]]] = {
        f"delta-{name}.csv": [] for name in ("models", "held-out", "calibration", "learning")
    }
    for one in models:
        metrics = one.stored.metrics
        for level in one.stored.levels:
            key = {"model": one.source, "level": level.name}
            row = _score_row(one, level)
            about = {"elements": " ".join(one.stored.elements), "base": one.stored.base.name}
            tables["delta-models.csv"].append(key | about | {name: row[name] for name in row if name != "level"})
            held_out = metrics.held_out.get(level.name)
            if held_out is not None and held_out.group:
                tables["delta-held-out.csv"] += [
                    key
                    | {"group": held_out.groups[held_out.group[k]], "reference_eV_per_atom": held_out.reference[k]}
                    | {"predicted_eV_per_atom": held_out.predicted[k], "std_eV_per_atom": held_out.std[k]}
                    for k in range(len(held_out.group))
                ]
                tables["delta-calibration.csv"] += [
                    key | {"should_be_within": p, "is_within": share} for p, share in calibration(held_out)
                ]
            for name, points in curves_of(one, level.name).items():
                tables["delta-learning.csv"] += [
                    key | {"method": name, "structures": n, "rmse_eV_per_atom": error} for n, error in points
                ]
    return {name: rows for name, rows in tables.items() if rows}


def curves_of(one: DeltaFile, level: str) -> dict[str, tuple[tuple[float, float], ...]]:
    """Learning curves of a level by method: the model's, and that of one without DFTB where it was recorded."""
    curves = one.stored.metrics.learning.get(level)
    if curves is None:
        return {}
    found = {one.plain: curves.model, "without DFTB": curves.without_base or ()}
    return {name: points for name, points in found.items() if points}


def delta_figures(models: Sequence[DeltaFile]) -> Iterator[tuple[str, Drawing]]:
    """Yield names and drawings: of each level parity, calibration and learning curve, as far as they are recorded."""
    for one in models:
        for level in one.stored.levels:
            name = f"delta-{one.slug}-{slug(level.name)}"
            title = f"{one.source}: {level.name}, held out"
            held_out = one.stored.metrics.held_out.get(level.name)
            if held_out is not None and held_out.group:
                flags = [False] * len(held_out.group)
                yield (
                    f"{name}-parity",
                    plot_parity(title, held_out.reference, held_out.predicted, held_out.std, flags, UNIT),
                )
                yield f"{name}-calibration", plot_calibration(title, {level.name: calibration(held_out)})
            curves = {
                label: [(n, 1e3 * error, 1e3 * error, 1e3 * error) for n, error in points]
                for label, points in curves_of(one, level.name).items()
            }
            if curves:
                yield f"{name}-learning", plot_learning(f"{one.source}: {level.name}", curves)
