"""Both engines side by side on a standard list of systems: `standard_systems` makes the list, `validate` runs it."""

from dftbparam.engine.validation.compare import TOLERANCES, differences
from dftbparam.engine.validation.run import Comparison, Validation, Verdict, default_engines, files_of, validate
from dftbparam.engine.validation.systems import System, standard_systems

__all__ = [
    "TOLERANCES",
    "Comparison",
    "System",
    "Validation",
    "Verdict",
    "default_engines",
    "differences",
    "files_of",
    "standard_systems",
    "validate",
]
