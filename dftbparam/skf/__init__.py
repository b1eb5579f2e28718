"""Slater-Koster files: records, reading, writing, reference evaluation, lint."""

from dftbparam.skf.check import Defect, check_file, check_set
from dftbparam.skf.evaluate import interpolate, repulsion_values, table_cutoff, table_values
from dftbparam.skf.model import (
    EXTENDED_COLUMNS,
    SIMPLE_COLUMNS,
    OnSite,
    PolynomialRepulsion,
    Repulsion,
    SKFile,
    SKSet,
    SplineRepulsion,
)
from dftbparam.skf.read import find_files, infer_max_angular, read_set, read_skf
from dftbparam.skf.write import format_skf, write_skf, zero_repulsion

__all__ = [
    "EXTENDED_COLUMNS",
    "SIMPLE_COLUMNS",
    "Defect",
    "OnSite",
    "PolynomialRepulsion",
    "Repulsion",
    "SKFile",
    "SKSet",
    "SplineRepulsion",
    "check_file",
    "check_set",
    "find_files",
    "format_skf",
    "infer_max_angular",
    "interpolate",
    "read_set",
    "read_skf",
    "repulsion_values",
    "table_cutoff",
    "table_values",
    "write_skf",
    "zero_repulsion",
]
