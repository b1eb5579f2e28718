"""Reading Slater-Koster files: what DFTB+ accepts is accepted, what it would choke on or misread is refused.

The format is slakoformat v1.0 with the extended '@' files (f shells), read as DFTB+ 25.1 does
(``type/oldskdata.F90``):

====================  ==============================================================================================
``@``                 first character of an extended file
grid line             ``step nGrid``; nGrid - 1 rows are used, row i at the distance i * step, whatever follows them
on-site line          homonuclear files only: E_d E_p E_s SPE U_d U_p U_s f_d f_p f_s (extended: f first)
mass line             mass c_2 ... c_9 rcut and ten dummies
table                 H, then S, in the order of `SIMPLE_COLUMNS` or `EXTENDED_COLUMNS`
``Spline``            alone in its line, from column 1; ``nInt cutoff``, ``a1 a2 a3``, nInt - 1 cubic rows, one quintic
``<Documentation>``   free text, never read by DFTB+
====================  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dftbparam.errors import FileFormatError, InputError
from dftbparam.skf.fortran import ListReader
from dftbparam.skf.model import (
    EXTENDED_COLUMNS,
    SIMPLE_COLUMNS,
    Array,
    OnSite,
    PolynomialRepulsion,
    Repulsion,
    SKFile,
    SKSet,
    SplineRepulsion,
)

MIN_ROWS = 9
"""DFTB+'s interpolation refuses tables with fewer rows (one more than the eight points of its polynomial)."""

KNOT_TOLERANCE = 1e-8
"""Largest gap in Bohr between spline intervals that DFTB+ lets pass."""

COLUMN_THRESHOLD = 1e-10
"""A column whose H and S stay below this (Hartree, and dimensionless) holds no data."""

_SYMBOL = r"[A-Z][a-z]?"
_PAIR_NAME = re.compile(rf"({_SYMBOL})[-_.]?({_SYMBOL})")
_DASHED_NAME = re.compile(r"([A-Za-z][A-Za-z0-9]*)[-_]([A-Za-z][A-Za-z0-9]*)")


@dataclass(frozen=True)
class ReadNotes:
    """What the file says beyond the record: for the lint.

    ``rows_in_file`` counts lines between the mass line and whatever ends the table; ``header_cutoff`` is the cutoff in
    the spline's head line, which DFTB+ overrides with the end of the last interval.
    """

    rows_in_file: int
    header_cutoff: float | None
    range_separated: bool
    heteronuclear: bool


def pair_of_name(path: str | Path) -> tuple[str, str] | None:
    """Species pair that a file name stands for: ``Si-C.skf``, ``Si_C.skf``, ``SiC.skf``, ``Ga1-As.skf``; or None."""
    stem = Path(path).name.split(".")[0]
    match = _PAIR_NAME.fullmatch(stem) or _DASHED_NAME.fullmatch(stem)
    return None if match is None else (match[1], match[2])


def read_skf(path: str | Path, *, heteronuclear: bool | None = None) -> SKFile:
    """Read one Slater-Koster file.

    Parameters
    ----------
    path
        The file. UTF-8 or Latin-1.
    heteronuclear
        Whether the file lacks the on-site line. None: from the file name (X-Y.skf, XY.skf); where that says nothing,
        from the number of values in the line after the grid line.

    Returns
    -------
    SKFile
        Bohr and Hartree. A spline wins over a polynomial, as it does in DFTB+ by default; a polynomial without a
        non-zero coefficient or without a cutoff counts as none.

    Raises
    ------
    InputError
        No such file, or unreadable.
    FileFormatError
        Malformed, with file and line: what DFTB+ would stop on, and what it would read wrongly in silence.
    """
    return read_with_notes(path, heteronuclear=heteronuclear)[0]


def read_with_notes(path: str | Path, *, heteronuclear: bool | None = None) -> tuple[SKFile, ReadNotes]:
    """As `read_skf`, with what the lint wants to know besides."""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such Slater-Koster file", path=str(path)) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", path=str(path)) from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return parse_skf(text, path=str(path), heteronuclear=heteronuclear)


def parse_skf(text: str, *, path: str, heteronuclear: bool | None = None) -> tuple[SKFile, ReadNotes]:
    """Parse the text of a Slater-Koster file; ``path`` is for messages and, if need be, for the pair."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise FileFormatError("the file is empty", path=path, line=1)
    reader = ListReader(lines, path)
    extended = lines[0].startswith("@")
    reader.position = int(extended)
    n_shells = 4 if extended else 3
    columns = EXTENDED_COLUMNS if extended else SIMPLE_COLUMNS

    step_item, grid_item = reader.take(2, "the grid line")
    grid_step = reader.real(step_item, "grid step")
    n_grid = reader.integer(grid_item, "nGrid")
    if grid_step <= 0.0:
        raise reader.error(f"grid step {grid_step} must be positive (Bohr)", step_item[1])
    if n_grid - 1 < MIN_ROWS:
        raise reader.error(
            f"nGrid = {n_grid} gives {n_grid - 1} rows; DFTB+ needs at least nGrid = {MIN_ROWS + 1}", grid_item[1]
        )

    hetero = _is_heteronuclear(reader, path, n_shells, heteronuclear)
    on_site = None if hetero else _read_on_site(reader, n_shells)
    mass, polynomial = _read_mass_line(reader)
    table_start = reader.position
    table = reader.table(n_grid - 1, 2 * len(columns), "the table")

    spline_line = next((i for i, line in enumerate(lines) if line.rstrip(" ") == "Spline"), None)
    documentation, doc_line = _documentation(lines)
    repulsion: Repulsion | None = polynomial
    header_cutoff = None
    if spline_line is not None:
        if spline_line < reader.position:
            raise reader.error("'Spline' stands within the table", spline_line)
        reader.position = spline_line + 1
        repulsion, header_cutoff = _read_spline(reader)
    else:
        end = len(lines) if doc_line is None else doc_line
        for i in range(reader.position, end):
            if lines[i].strip().lower() == "spline":
                raise reader.error(f"{lines[i]!r}: DFTB+ finds 'Spline' only alone in its line, from column 1", i)

    range_separated = any(line.rstrip(" ") == "RangeSep" for line in lines[table_start:])
    end = next(
        (i for i in range(table_start, len(lines)) if lines[i].strip()[:1].isalpha() or lines[i].strip()[:1] == "<"),
        len(lines),
    )
    file = SKFile(
        grid_step=grid_step,
        hamiltonian=np.ascontiguousarray(table[:, : len(columns)]),
        overlap=np.ascontiguousarray(table[:, len(columns) :]),
        on_site=on_site,
        mass=mass,
        repulsion=repulsion,
        extended=extended,
        documentation=documentation,
        path=path,
    )
    rows = sum(1 for i in range(table_start, end) if lines[i].strip())
    return file, ReadNotes(rows, header_cutoff, range_separated, hetero)


def _is_heteronuclear(reader: ListReader, path: str, n_shells: int, told: bool | None) -> bool:
    """Decide whether the on-site line is missing, and that what was told or named fits what is there."""
    start = reader.position
    while start < len(reader.lines) and not reader.lines[start].strip():
        start += 1
    if start == len(reader.lines):
        raise reader.error("the file ends after the grid line", start - 1)
    first = len(reader.items(start))
    n_on_site, n_mass = 3 * n_shells + 1, 20
    pair = pair_of_name(path)
    if told is None:
        told = first >= n_mass if pair is None else pair[0] != pair[1]
    if not told and first >= n_mass:
        raise reader.error(
            f"a homonuclear file has {n_on_site} on-site values here, found {first}: is the file heteronuclear?", start
        )
    if told and first < n_mass and first == n_on_site:
        raise reader.error(
            f"a heteronuclear file has {n_mass} values here (mass and polynomial), found {first}: "
            "is the file homonuclear?",
            start,
        )
    return told


def _read_on_site(reader: ListReader, n_shells: int) -> OnSite:
    values = reader.reals(3 * n_shells + 1, "the on-site line")

    def shells(start: int) -> Array:
        out = np.zeros(4)
        out[:n_shells] = values[start : start + n_shells][::-1]
        return out

    return OnSite(
        energies=shells(0),
        spin_polarisation_error=values[n_shells],
        hubbard=shells(n_shells + 1),
        occupations=shells(2 * n_shells + 1),
    )


def _read_mass_line(reader: ListReader) -> tuple[float, PolynomialRepulsion | None]:
    values = reader.reals(20, "the mass line", after_slash="0.0")
    coefficients, cutoff = np.array(values[1:9]), values[9]
    if not coefficients.any() or cutoff <= 0.0:
        return values[0], None
    return values[0], PolynomialRepulsion(coefficients=coefficients, cutoff=cutoff)


def _read_spline(reader: ListReader) -> tuple[SplineRepulsion, float]:
    n_item, cutoff_item = reader.take(2, "the spline's head line")
    n = reader.integer(n_item, "number of spline intervals")
    header_cutoff = reader.real(cutoff_item, "spline cutoff")
    if n < 1:
        raise reader.error(f"number of spline intervals is {n}, at least 1 is needed")
    a1, a2, a3 = reader.reals(3, "the spline's exponential head")
    knots: list[float] = []
    coefficients: list[list[float]] = []
    end = 0.0
    for i in range(n):
        n_values = 6 if i < n - 1 else 8
        start, stop, *row = reader.reals(n_values, f"spline interval {i + 1} of {n}")
        if stop <= start:
            raise reader.error(f"spline interval {i + 1} runs from {start} to {stop}: knots must increase")
        if i and abs(start - end) > KNOT_TOLERANCE:
            raise reader.error(f"gap in the spline: interval {i} ends at {end}, interval {i + 1} starts at {start}")
        knots.append(start)
        coefficients.append(row + [0.0] * (6 - len(row)))
        end = stop
    knots.append(end)
    spline = SplineRepulsion(knots=np.array(knots), coefficients=np.array(coefficients), exponential=(a1, a2, a3))
    return spline, header_cutoff


def _documentation(lines: list[str]) -> tuple[str, int | None]:
    """Text between the documentation tags (to the end of the file where the second is missing), and its line."""
    start = next((i for i, line in enumerate(lines) if line.strip() == "<Documentation>"), None)
    if start is None:
        return "", None
    stop = next((i for i in range(start + 1, len(lines)) if lines[i].strip() == "</Documentation>"), len(lines))
    return "\n".join(lines[start + 1 : stop]), start


def placeholder_rows(file: SKFile) -> NDArray[np.bool_]:
    """Mask (n,) of the leading rows that hold one number throughout H and one throughout S; none if all do."""
    ham, over = file.hamiltonian, file.overlap
    constant = np.all(ham == ham[:, :1], axis=1) & np.all(over == over[:, :1], axis=1)
    first_real = 0 if constant.all() else int(np.argmin(constant))
    mask = np.zeros(len(constant), dtype=bool)
    mask[:first_real] = True
    return mask


def infer_max_angular(file: SKFile) -> int:
    """Highest valence angular momentum of the element that a homonuclear file describes.

    The format does not say it. Rule: a shell l counts if it holds electrons, or if its own column pair (l, l, m) has
    data (H or S above `COLUMN_THRESHOLD`) *and* the on-site line has a value for it (energy or U; a shell whose
    on-site values are all zero is a leftover of the table generator). The highest shell that counts is the answer.
    Leading rows that hold one number throughout (H and S each) are placeholders, as published files start with (mio:
    twenty times 1.0), and are left out.

    Raises
    ------
    InputError
        The file is heteronuclear, or no shell counts.
    """
    if file.on_site is None:
        raise InputError(f"{file.path}: the highest angular momentum follows from homonuclear files only")
    used = ~placeholder_rows(file)
    peak = np.maximum(
        np.abs(file.hamiltonian[used]).max(axis=0, initial=0.0), np.abs(file.overlap[used]).max(axis=0, initial=0.0)
    )
    filled = {l1 for (l1, l2, _), p in zip(file.columns, peak, strict=True) if l1 == l2 and p > COLUMN_THRESHOLD}
    site = file.on_site
    counts = [
        shell
        for shell in range(4)
        if site.occupations[shell] > 0.0
        or (shell in filled and (site.energies[shell] != 0.0 or site.hubbard[shell] != 0.0))
    ]
    if not counts:
        raise InputError(f"{file.path}: no shell has both integrals and on-site values")
    return max(counts)


def find_files(directory: str | Path) -> dict[tuple[str, str], Path]:
    """Slater-Koster files of a directory by species pair; ``X-Y.skf`` wins over ``XY.skf``. Sorted by pair."""
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory of Slater-Koster files", path=str(folder))
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir(), key=lambda p: ("-" not in p.stem, p.name)):
        pair = pair_of_name(path) if path.suffix == ".skf" else None
        if pair is not None:
            found.setdefault(pair, path)
    return dict(sorted(found.items()))


def read_set(
    directory: str | Path,
    symbols: Iterable[str] | None = None,
    max_angular: Mapping[str, int] | None = None,
) -> SKSet:
    """Read all ordered pairs of a set of elements.

    Parameters
    ----------
    directory
        Holds ``X-Y.skf`` or ``XY.skf`` files.
    symbols
        The elements wanted; None: every element with a homonuclear file.
    max_angular
        Highest valence angular momentum per element, where it should not be inferred (`infer_max_angular`).

    Raises
    ------
    InputError
        A file is missing (named in the message), or no file is there at all.
    FileFormatError
        A file is malformed.
    """
    found = find_files(directory)
    if symbols is None:
        wanted = [a for a, b in found if a == b]
    else:
        wanted = list(dict.fromkeys(symbols))
    if not wanted:
        raise InputError(f"{directory}: no homonuclear Slater-Koster file (X-X.skf) here", path=str(directory))
    missing = [f"{a}-{b}.skf" for a in wanted for b in wanted if (a, b) not in found]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise InputError(f"{directory}: missing {shown}", path=str(directory), missing=missing)
    files = {(a, b): read_skf(found[a, b], heteronuclear=a != b) for a in wanted for b in wanted}
    angular: dict[str, int] = {}
    for symbol in wanted:
        given = None if max_angular is None else max_angular.get(symbol)
        angular[symbol] = infer_max_angular(files[symbol, symbol]) if given is None else given
    return SKSet(files=files, max_angular=angular, metadata={"directory": str(directory)})
