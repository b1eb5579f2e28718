"""What a report reads from a run folder, checked on reading.

The models here hold what is shown and nothing else: fields that later versions add are passed over, fields that
earlier versions lacked have defaults. A ``schema_version`` above the one known is refused, because numbers may then
mean something else. Units are those of `dftbparam.score.card`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dftbparam.errors import FileFormatError
from dftbparam.score import is_compound, means_by_kind

SCORE_NAME: Final = "score.json"
SET_NAME: Final = "scores.json"
PARAMETERS_NAME: Final = "parameters.json"
TRIALS_NAME: Final = "trials.csv"
BANDS_NAME: Final = "bands.json"
MANIFEST_NAME: Final = "manifest.json"

KNOWN_VERSION: Final = 1
"""The ``schema_version`` of all these JSON files that this code understands."""

PARAMETER_PREFIX: Final = "parameter."
"""Of the columns of trials.csv that hold search parameters."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class StoredWell(_Stored):
    """A well deeper than a crystal's minimum, ``relative_volume`` in units of the reference volume, ``depth`` in eV."""

    relative_volume: float
    depth: float


class StoredCrystal(_Stored):
    """One crystal of a card; see `dftbparam.score.CrystalScore`."""

    prototype: str
    reference_volume: float = Field(gt=0.0)
    reference_bulk_modulus: float
    reference_bulk_modulus_derivative: float
    reference_phase_energy: float
    volume: float | None = None
    energy: float | None = None
    bulk_modulus: float | None = None
    bulk_modulus_derivative: float | None = None
    dV: float | None = None
    dB: float | None = None
    delta: float | None = None
    phase_energy: float | None = None
    phase_energy_error: float | None = None
    sound: bool = False
    deeper_well: StoredWell | None = None
    status: str = "ok"

    @property
    def implodes(self) -> bool:
        """Whether a deeper well waits at a smaller volume than the minimum's, so that compression goes on by itself."""
        well = self.deeper_well
        return (
            well is not None and self.volume is not None and well.relative_volume < self.volume / self.reference_volume
        )


class StoredBands(_Stored):
    """One band structure of a card, eV; see `dftbparam.score.BandScore`."""

    crystal: str
    rms_near: float
    max_abs_near: float | None = None
    mean: float = 0.0
    per_band: tuple[float, ...] = ()
    gap: float | None = None
    reference_gap: float | None = None
    gap_error: float | None = None
    n_missing: int = 0


class StoredFormation(_Stored):
    """One formation energy of a card, eV/atom."""

    crystal: str
    formation_energy: float
    reference_formation_energy: float
    error: float


class StoredCard(_Stored):
    """One report card; see `dftbparam.score.ReportCard`."""

    symbol: str
    stable: str = ""
    crystals: tuple[StoredCrystal, ...] = ()
    mean_abs_dV: float | None = None
    mean_abs_dB: float | None = None
    mean_abs_phase_error: float | None = None
    mean_delta: float | None = None
    max_abs_dV: float | None = None
    max_abs_dB: float | None = None
    max_abs_phase_error: float | None = None
    n_without_minimum: int | None = None
    sound: bool | None = None
    right_ground_state: bool | None = None
    bands: tuple[StoredBands, ...] = ()
    formation: tuple[StoredFormation, ...] = ()
    forces: dict[str, Any] | None = None
    stress: dict[str, Any] | None = None
    missing: dict[str, str] = Field(default_factory=dict)
    mean_band_error: float | None = None
    mean_abs_gap_error: float | None = None
    mean_abs_formation_error: float | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)

    @property
    def implosions(self) -> int | None:
        """Crystals that implode, see `StoredCrystal.implodes`; None where that is not known of all."""
        unknown = any(one.volume is not None and not one.sound and one.deeper_well is None for one in self.crystals)
        return None if unknown or not self.crystals else sum(one.implodes for one in self.crystals)

    @property
    def has_compounds(self) -> bool:
        """Whether compounds are among its crystals."""
        return any(is_compound(one.prototype) for one in self.crystals)

    @cached_property
    def by_kind(self) -> dict[str, float | None]:
        """Means over own crystals and over compounds, see `dftbparam.score.means_by_kind`."""
        return means_by_kind(one.model_dump(exclude={"deeper_well"}) for one in self.crystals)

    def crystal(self, name: str) -> StoredCrystal | None:
        """Return a crystal by name; None where it was not scored."""
        return next((crystal for crystal in self.crystals if crystal.prototype == name), None)


class StoredSpread(_Stored):
    """A number over the near-optimal trials; see `dftbparam.score.uncertainty.Spread`."""

    best: float
    mean: float
    std: float
    low: float
    high: float


class StoredParameterSpread(_Stored):
    """One search parameter over the near-optimal trials."""

    name: str
    spread: StoredSpread
    share_of_range: float | None = None
    interval: tuple[float, float] | None = None
    total_effect: float | None = None


class StoredCrystalSpread(_Stored):
    """Errors of one crystal over the near-optimal trials."""

    name: str
    dV: StoredSpread | None = None
    dB: StoredSpread | None = None
    dE: StoredSpread | None = None


class StoredUncertainty(_Stored):
    """See `dftbparam.score.uncertainty.Uncertainty`."""

    tolerance: float
    members: tuple[int, ...] = ()
    parameters: tuple[StoredParameterSpread, ...] = ()
    crystals: tuple[StoredCrystalSpread, ...] = ()
    model_r2: float | None = None


class StoredMember(_Stored):
    """One near-optimal trial."""

    index: int
    objective: float
    parameters: dict[str, Any] = Field(default_factory=dict)


class StoredTransfer(_Stored):
    """One crystal of a partner that was left out of the fit, with one set."""

    partner: str
    crystal: str
    set: str
    dV: float | None = None
    dB: float | None = None
    phase_energy_error: float | None = None
    sound: bool | None = None
    status: str = ""


class StoredLeaveOneOut(_Stored):
    """Transfer to partners left out."""

    rows: tuple[StoredTransfer, ...] = ()


class StoredScore(_Stored):
    """score.json."""

    schema_version: int
    symbol: str
    cards: dict[str, StoredCard] = Field(min_length=1)
    uncertainty: StoredUncertainty | None = None
    ensemble: tuple[StoredMember, ...] = ()
    leave_one_out: StoredLeaveOneOut | None = None


class StoredLevels(_Stored):
    """Bands of one crystal, see `dftbparam.report.bands.bands_content`; levels (n, k), eV."""

    crystal: str
    volume: float | None = None
    x: tuple[float, ...] = Field(min_length=1)
    labels: tuple[tuple[float, str], ...] = ()
    breaks: tuple[int, ...] = ()
    window: tuple[float, float]
    skipped: int = 0
    dft: tuple[tuple[float, ...], ...]
    sets: dict[str, tuple[tuple[float, ...], ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shape(self) -> Self:
        for name, bands in {"dft": self.dft, **self.sets}.items():
            if not bands or any(len(band) != len(self.x) for band in bands):
                raise ValueError(f"bands of {name} do not have one level for each of {len(self.x)} points")
        if self.skipped >= len(self.dft):
            raise ValueError(f"{self.skipped} of {len(self.dft)} bands are skipped")
        return self


class StoredBandFile(_Stored):
    """bands.json."""

    schema_version: int
    symbol: str
    structures: tuple[StoredLevels, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)


class StoredSetElement(_Stored):
    """One element of a published set: cards under ``ours`` and ``ptbp``."""

    cards: dict[str, StoredCard] = Field(default_factory=dict)
    uncertainty: StoredUncertainty | None = None


class StoredSet(_Stored):
    """scores.json of a published set."""

    schema_version: int
    elements: dict[str, StoredSetElement] = Field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class StoredParameters(_Stored):
    """parameters.json."""

    schema_version: int
    name: str = ""
    functional: str = ""
    superposition: str = ""
    elements: dict[str, dict[str, Any]] = Field(default_factory=dict)
    source: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)


class StoredFile(_Stored):
    """A file of a run folder."""

    path: str
    bytes: int
    sha256: str


class StoredManifest(_Stored):
    """manifest.json."""

    schema_version: int
    name: str = ""
    created: str = ""
    command: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    platform: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    reference: dict[str, Any] | None = None
    seed: int | None = None
    trials: dict[str, int] = Field(default_factory=dict)
    files: tuple[StoredFile, ...] = ()


class StoredTrial(_Stored):
    """A row of trials.csv: ``objective`` None where the trial failed; ``parameters`` by name."""

    index: int
    status: str
    objective: float | None = None
    error: str = ""
    parameters: dict[str, float | str] = Field(default_factory=dict)


_Record = TypeVar("_Record", bound=_Stored)


def read_record(path: Path, kind: type[_Record]) -> _Record:
    """Read a JSON file.

    Raises
    ------
    FileFormatError
        It cannot be read, is no JSON, lacks something, or has a newer ``schema_version``.
    """
    text = _text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"not JSON: {error.msg}", path=str(path), line=error.lineno) from None
    except RecursionError:
        raise FileFormatError("not a record of a run: nested too deeply", path=str(path)) from None
    version = value.get("schema_version") if isinstance(value, Mapping) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FileFormatError(f"schema_version {version!r}; right would be {KNOWN_VERSION}", path=str(path))
    if version > KNOWN_VERSION:
        raise FileFormatError(
            f"schema_version {version}; this version of dftbparam reads {KNOWN_VERSION}, upgrade it", path=str(path)
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f" (given: {str(first['input'])[:60]!r})"
        raise FileFormatError(f"{place}: {first['msg']}{given}", path=str(path)) from None


def read_trials(path: Path) -> tuple[StoredTrial, ...]:
    """Read trials.csv, in order of index.

    Raises
    ------
    FileFormatError
        It cannot be read, or a row is malformed.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    columns = reader.fieldnames or ()
    if missing := [name for name in ("index", "status", "objective") if name not in columns]:
        raise FileFormatError(f"column {', '.join(missing)} is missing", path=str(path), line=1)
    trials = []
    try:
        for row in reader:
            try:
                trials.append(_trial(row))
            except ValueError as error:
                reason = str(error).splitlines()[0]
                raise FileFormatError(f"malformed trial: {reason}", path=str(path), line=reader.line_num) from None
    except csv.Error as error:
        raise FileFormatError(f"not CSV: {error}", path=str(path), line=reader.line_num) from None
    return tuple(sorted(trials, key=lambda trial: trial.index))


def _trial(row: Mapping[str | Any, str | Any]) -> StoredTrial:
    text = row.get("objective")
    objective = float(text) if text else None
    return StoredTrial(
        index=int(row["index"] or ""),
        status=row["status"] or "",
        objective=objective if objective is not None and math.isfinite(objective) else None,
        error=row.get("error") or "",
        parameters={
            name.removeprefix(PARAMETER_PREFIX): _value(value)
            for name, value in row.items()
            # A row that is too long has its rest under None.
            if isinstance(name, str) and name.startswith(PARAMETER_PREFIX) and value
        },
    )


def _value(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", path=str(path)) from None
    except UnicodeDecodeError as error:
        raise FileFormatError(f"not UTF-8 text ({error.reason})", path=str(path)) from None
