"""What `check_dataset` finds, and how findings are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning"]

BINDING: Final = (-20.0, 15.0)
"""Energies relative to the offsets, eV/atom: the strongest bound solids (tungsten, diamond) have -8 to -9, and nothing
is bound twice as strongly."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Record):
    """Something wrong. ``kind`` is a word to sort by, ``subject`` the crystal, structure or file."""

    severity: Severity
    kind: str
    subject: str
    message: str


class CheckReport(_Record):
    """What was found in a set, and how much was looked at. No finding: nothing wrong was seen."""

    name: str
    checksum: str
    crystals: int
    points: int
    frames: int
    bands: int
    atoms: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make the set unfit for use."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def graded(value: float, limits: tuple[float, float], kind: str, subject: str, message: str) -> Iterator[Finding]:
    """Yield one finding if the value is above the limits for an error or a warning."""
    if value > limits[1]:
        yield Finding(severity="error" if value > limits[0] else "warning", kind=kind, subject=subject, message=message)


def error_at(kind: str, subject: str, message: str) -> Finding:
    """Return what makes a set unfit for use."""
    return Finding(severity="error", kind=kind, subject=subject, message=message)


def warning_at(kind: str, subject: str, message: str) -> Finding:
    """Return what is worth a look."""
    return Finding(severity="warning", kind=kind, subject=subject, message=message)


def crystal_label(crystal: Any) -> str:
    """``Si diamond``, ``Mg-O rocksalt``: the subject of findings about a crystal."""
    return f"{crystal.compound} {crystal.prototype}"
