"""The error tree.

::

    DftbparamError                 exit code 1
    ├── InputError                 2  a value the user can correct
    │   ├── ElementError           2  unknown or unsupported element
    │   ├── ParameterError         2  a parameter outside its range, or contradictory
    │   ├── StructureError         2  atoms on top of each other, zero-volume cell ...
    │   ├── ReferenceDataError     2  missing or malformed reference data
    │   └── FileFormatError        2  malformed file; carries path and line
    ├── CalculationError           1  the physics gave no answer: an outcome to report
    │   ├── AtomError              1  the confined atom did not converge
    │   ├── ScfNotConverged        1  SCC did not converge; carries iterations and residual
    │   ├── OverlapError           1  overlap matrix not positive definite
    │   └── NoMinimum              1  an E(V) curve without a minimum
    ├── EngineError                3  the engine itself failed
    │   ├── EngineMissing          3
    │   ├── EngineTimeout          3
    │   └── UnreadableOutput       3
    └── StoreError                 3  the trial store is locked, foreign, or of another version

Every error carries its data as attributes and survives pickling, because evaluations run in other processes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DftbparamError(Exception):
    """Base of all errors raised on purpose by dftbparam.

    Parameters
    ----------
    message
        One sentence: what is wrong, with the offending value, and what would be right.
    data
        Picklable details, also available as attributes.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{type(self).__name__} carries no {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.data)


def _rebuild(kind: type[DftbparamError], message: str, data: dict[str, Any]) -> DftbparamError:
    return kind(message, **data)


class InputError(DftbparamError):
    """A value the user gave is wrong; the message shows it and what would be right."""

    exit_code = 2


class ElementError(InputError):
    """Unknown or unsupported chemical element."""


class ParameterError(InputError):
    """A parameter is missing, out of range, or contradicts another."""


class StructureError(InputError):
    """A structure is unphysical: atoms on top of each other, zero-volume cell."""


class ReferenceDataError(InputError):
    """Reference data are missing or malformed."""


class FileFormatError(InputError):
    """A file is malformed. Carries ``path`` and ``line`` (1-based, or None)."""

    def __init__(self, message: str, *, path: str, line: int | None = None, **data: Any) -> None:
        where = path if line is None else f"{path}:{line}"
        prefix = f"{where}: "
        text = message if message.startswith(prefix) else prefix + message
        super().__init__(text, path=path, line=line, **data)


class CalculationError(DftbparamError):
    """The physics gave no answer. An outcome to report, never a number."""


class AtomError(CalculationError):
    """The confined atom did not converge."""


class ScfNotConverged(CalculationError):
    """SCC did not converge. Carries ``iterations`` and ``residual``."""


class OverlapError(CalculationError):
    """The overlap matrix is not positive definite."""


class NoMinimum(CalculationError):
    """An E(V) curve has no minimum near its reference."""


class EngineError(DftbparamError):
    """A DFTB engine failed for a reason of its own."""

    exit_code = 3


class EngineMissing(EngineError):
    """The engine's program is not installed."""


class EngineTimeout(EngineError):
    """The engine exceeded its wall-time limit."""


class UnreadableOutput(EngineError):
    """The engine left output that cannot be read."""


class StoreError(DftbparamError):
    """The trial store is locked, damaged, or of another version."""

    exit_code = 3
