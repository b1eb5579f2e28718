"""Lint for Slater-Koster files: what DFTB+ reads without complaint and a person would not want.

Every defect has a stable code. *Errors* make results wrong or stop DFTB+; *warnings* are oddities that a sound
published set may have. Tolerances are tied to the published sets at dftb.org (mio, 3ob, matsci, pbc, auorg, hyb,
halorg, trans3d ...): across their 667 splines, the interior knots are continuous to 1e-7 Hartree, and nine in ten
exponential heads to 1e-14; the exceptions are defects (3ob 3-1 F-S: 1e104 Hartree).

============================  ========  ============================================================================
code                          severity  meaning
============================  ========  ============================================================================
format                        error     unreadable or malformed
not-finite                    error     NaN or infinity
repulsion-jump                either    value or slope jumps at the head, a knot, or the cutoff
repulsion-head                error     the exponential head falls towards shorter distances
repulsion-overflow            error     the repulsion is not a finite number between 0.5 Bohr and its cutoff
repulsion-attractive          warning   the repulsion is negative
repulsion-not-monotonic       warning   the repulsion rises with distance
repulsion-missing             warning   no repulsion: DFTB+ stops unless polynomials are asked for
repulsion-longer-than-table   warning   the repulsion reaches beyond H and S
spline-cutoff                 warning   head line and last interval disagree on the cutoff (DFTB+ takes the latter)
unused-rows                   warning   the file holds rows that nGrid keeps DFTB+ from reading
range-separated               warning   made for a range-separated functional (``RangeSep``)
table-empty                   error     no integral differs from zero
table-end                     warning   H or S have not decayed at the last row
table-spike                   warning   a single row sticks out of its neighbours
overlap-range                 error     an overlap beyond 1 in magnitude
on-site-occupation            error     occupation negative, beyond 4 l + 2, or no electrons at all
on-site-hubbard               either    U of an occupied shell not positive (error), of another negative (warning)
on-site-energy                warning   an energy beyond `ENERGY_LIMIT` (electronvolts?), or p below s, both occupied
shell-without-data            error     an occupied shell has no integrals
partner-missing               either    error: A-B without B-A; warning: an element pair or a homonuclear file missing
grid-mismatch                 error     A-B and B-A differ in step or number of rows
repulsion-mismatch            error     A-B and B-A differ in repulsion by more than 1e-8
symmetry-mismatch             warning   A-B and B-A differ in a column (l, l, m)
============================  ========  ============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dftbparam.errors import DftbparamError
from dftbparam.skf.evaluate import repulsion_values, table_cutoff
from dftbparam.skf.model import (
    REPULSION_TOLERANCE,
    OnSite,
    PolynomialRepulsion,
    SKFile,
    SplineRepulsion,
    repulsion_difference,
)
from dftbparam.skf.read import (
    COLUMN_THRESHOLD,
    ReadNotes,
    find_files,
    pair_of_name,
    placeholder_rows,
    read_with_notes,
)

Severity = Literal["error", "warning"]

JUMP: Final = 1e-6
"""Hartree, and Hartree/Bohr: a larger jump of the repulsion is a warning ..."""

LARGE_JUMP: Final = 1e-3
"""... and one larger than this an error: 0.03 eV appear or vanish as two atoms pass the knot."""

ATTRACTION: Final = 1e-4
"""Hartree below zero that a repulsion may reach unremarked."""

SHORTEST: Final = 0.5
"""Bohr: closer pairs do not occur in any calculation, and heads may overflow there."""

TABLE_END: Final = 1e-3
"""Hartree, or overlap: the most that a table may have left at its last row, which DFTB+ takes to zero within 1 Bohr."""

OVERLAP_TOLERANCE: Final = 1e-4
"""How far beyond 1 an overlap may come out of numerical integration."""

ENERGY_LIMIT: Final = 5.0
"""Hartree: valence levels lie above -2 Hartree; larger numbers were probably meant in electronvolt."""

SYMMETRY_TOLERANCE: Final = 1e-4
"""Hartree, or overlap, between A-B and B-A; quadrature noise of published tables stays below."""

SPIKE_SIZE: Final = 1e-3
SPIKE_RATIO: Final = 50.0
SPIKE_START: Final = 1.5
"""A spike exceeds `SPIKE_SIZE` (Hartree, or overlap), is `SPIKE_RATIO` times rougher than its surroundings, and lies
beyond `SPIKE_START` Bohr."""


@dataclass(frozen=True)
class Defect:
    """One finding. ``path`` is the file (or, for a record without one, a name for it)."""

    severity: Severity
    code: str
    message: str
    path: str

    def __str__(self) -> str:
        return f"{self.path}: {self.severity}: {self.message} [{self.code}]"


def check_file(file: SKFile | str | Path) -> list[Defect]:
    """Check one file, read or not yet read; a malformed one gives a single ``format`` defect, never an exception."""
    notes: ReadNotes | None = None
    if not isinstance(file, SKFile):
        try:
            file, notes = read_with_notes(file)
        except DftbparamError as error:
            return [_format_defect(error, str(file))]
    return _check_record(file, notes)


def check_set(directory: str | Path) -> list[Defect]:
    """Check every Slater-Koster file of a directory, and that they fit one another.

    Raises
    ------
    InputError
        No such directory. (An empty one is a ``partner-missing`` error.)
    """
    paths = find_files(directory)
    if not paths:
        return [Defect("error", "partner-missing", "no Slater-Koster files here", str(directory))]
    defects: list[Defect] = []
    files: dict[tuple[str, str], SKFile] = {}
    for pair, path in paths.items():
        try:
            files[pair], notes = read_with_notes(path, heteronuclear=pair[0] != pair[1])
        except DftbparamError as error:
            defects.append(_format_defect(error, str(path)))
            continue
        defects.extend(_check_record(files[pair], notes))
    symbols = sorted({symbol for pair in paths for symbol in pair})
    for i, a in enumerate(symbols):
        for b in symbols[i:]:
            defects.extend(_check_presence(paths, a, b, str(directory)))
            if a != b and (a, b) in files and (b, a) in files:
                defects.extend(_check_partners(files[a, b], files[b, a], str(paths[b, a])))
    return defects


def _format_defect(error: DftbparamError, path: str) -> Defect:
    message, line = error.message, error.data.get("line")
    if line is not None:
        message = message.replace(f"{path}:{line}: ", f"line {line}: ", 1)
    return Defect("error", "format", message.removeprefix(f"{path}: "), path)


def _check_presence(paths: dict[tuple[str, str], Path], a: str, b: str, where: str) -> Iterator[Defect]:
    if (a, b) in paths and (b, a) in paths:
        return
    if (a, b) in paths or (b, a) in paths:
        have, lack = ((a, b), (b, a)) if (a, b) in paths else ((b, a), (a, b))
        message = f"{lack[0]}-{lack[1]} is missing, its partner {have[0]}-{have[1]} is there"
        yield Defect("error", "partner-missing", message, str(paths[have]))
    else:
        yield Defect("warning", "partner-missing", f"no file for {a}-{b}", where)


def _check_record(file: SKFile, notes: ReadNotes | None) -> list[Defect]:
    path = file.path or "Slater-Koster file"
    found = [*_check_finite(file, path)]
    if found:
        # Every other check would only repeat it.
        return found
    found += _check_table(file, path, notes)
    found += _check_repulsion(file, path, notes)
    if file.on_site is not None:
        found += _check_on_site(file, file.on_site, path)
    return found


def _check_finite(file: SKFile, path: str) -> Iterator[Defect]:
    for name, table in (("H", file.hamiltonian), ("S", file.overlap)):
        bad = np.argwhere(~np.isfinite(table))
        if len(bad):
            row, column = bad[0].tolist()
            message = f"{name} holds {table[row, column]} at {(row + 1) * file.grid_step:.4g} Bohr ({len(bad)} in all)"
            yield Defect("error", "not-finite", message, path)
    site, repulsion = file.on_site, file.repulsion
    if site is not None and not all(np.isfinite(x).all() for x in (site.energies, site.hubbard, site.occupations)):
        yield Defect("error", "not-finite", "NaN or infinity in the on-site line", path)
    if isinstance(repulsion, SplineRepulsion):
        numbers = [repulsion.knots, repulsion.coefficients, np.array(repulsion.exponential)]
        if not all(np.isfinite(x).all() for x in numbers):
            yield Defect("error", "not-finite", "NaN or infinity in the spline", path)
    elif repulsion is not None and not np.isfinite([*repulsion.coefficients, repulsion.cutoff]).all():
        yield Defect("error", "not-finite", "NaN or infinity in the polynomial", path)


def _check_table(file: SKFile, path: str, notes: ReadNotes | None) -> Iterator[Defect]:
    n = len(file.hamiltonian)
    if notes is not None:
        # Tables usually carry the one row (nGrid) that DFTB+ leaves out.
        unused = notes.rows_in_file - n - 1
        if unused > 0:
            message = f"nGrid = {n + 1} leaves {unused} of {notes.rows_in_file} rows unread"
            yield Defect("warning", "unused-rows", message, path)
        if notes.range_separated:
            message = "made for a range-separated functional (RangeSep)"
            yield Defect("warning", "range-separated", message, path)
    first = int(placeholder_rows(file).sum())
    ham, over = file.hamiltonian[first:], file.overlap[first:]
    if not ham.size or not (ham.any() or over.any()):
        yield Defect("error", "table-empty", "no integral differs from zero", path)
        return
    for name, table, unit in (("H", ham, " Hartree"), ("S", over, "")):
        left = float(np.abs(table[-1]).max())
        if left > TABLE_END:
            column = int(np.abs(table[-1]).argmax())
            message = f"{name} {_column(file, column)} is still {left:.1e}{unit} at the last row ({n} rows)"
            yield Defect("warning", "table-end", message, path)
        # Tables often start, and are rarely smooth, closer than any two atoms come.
        skip = max(int(SPIKE_START / file.grid_step) - first, 0)
        for row, column in _spikes(table[skip:]):
            row += skip
            distance = (first + row + 1) * file.grid_step
            message = f"{name} {_column(file, column)} has a spike at {distance:.4g} Bohr: {table[row, column]:.6g}"
            yield Defect("warning", "table-spike", message, path)
    excess = np.abs(over) - 1.0
    if excess.max() > OVERLAP_TOLERANCE:
        peak_row, peak_column = divmod(int(excess.argmax()), excess.shape[1])
        message = (
            f"overlap {_column(file, peak_column)} is {over[peak_row, peak_column]:.6g} at "
            f"{(first + peak_row + 1) * file.grid_step:.4g} Bohr; normalised orbitals cannot exceed 1"
        )
        yield Defect("error", "overlap-range", message, path)


def _column(file: SKFile, column: int) -> str:
    l1, l2, m = file.columns[column]
    return f"{'spdf'[l1]}{'spdf'[l2]}{('sigma', 'pi', 'delta', 'phi')[m]}"


def _spikes(table: np.ndarray) -> list[tuple[int, int]]:
    """Rows that stick out: (row, column), one per column at most.

    The distance of a row from the cubic through its four neighbours is compared with the median of the same over the
    rows 5 to 20 steps away.
    """
    if len(table) < 45:
        return []
    middle = table[2:-2]
    rough = np.abs(middle - (4.0 * (table[1:-3] + table[3:-1]) - table[:-4] - table[4:]) / 6.0)
    out = []
    for column in range(table.shape[1]):
        row = int(rough[:, column].argmax())
        size = rough[row, column]
        around = np.r_[rough[max(row - 20, 0) : max(row - 4, 0), column], rough[row + 5 : row + 21, column]]
        if size > SPIKE_SIZE and size > SPIKE_RATIO * np.median(around):
            out.append((row + 2, column))
    return out


def _check_repulsion(file: SKFile, path: str, notes: ReadNotes | None) -> Iterator[Defect]:
    repulsion = file.repulsion
    if repulsion is None:
        yield Defect("warning", "repulsion-missing", "no repulsion; DFTB+ stops where it finds no Spline", path)
        return
    if repulsion.cutoff > table_cutoff(file):
        message = f"repulsion reaches {repulsion.cutoff:.4g} Bohr, H and S only {table_cutoff(file):.4g} Bohr"
        yield Defect("warning", "repulsion-longer-than-table", message, path)
    if isinstance(repulsion, SplineRepulsion):
        yield from _check_spline(repulsion, path)
        cutoff = None if notes is None else notes.header_cutoff
        if cutoff is not None and abs(cutoff - repulsion.cutoff) > 1e-6:
            message = f"head line says cutoff {cutoff:.6g} Bohr, the last interval ends at {repulsion.cutoff:.6g}"
            yield Defect("warning", "spline-cutoff", message, path)
    yield from _check_shape(repulsion, path)


def _check_spline(spline: SplineRepulsion, path: str) -> Iterator[Defect]:
    knots = spline.knots
    with np.errstate(over="ignore"):
        below = repulsion_values(spline, np.nextafter(knots, -np.inf))
        above = repulsion_values(spline, knots)
    for i in range(len(knots)):
        where = "exponential head" if i == 0 else "cutoff" if i == len(knots) - 1 else f"knot {i + 1}"
        value, slope = (float(abs(above[k][i] - below[k][i])) for k in (0, 1))
        worst = max(value, slope)
        if worst <= JUMP:
            continue
        message = f"repulsion jumps by {value:.1e} Hartree (slope {slope:.1e}) at its {where}, {knots[i]:.5g} Bohr"
        yield Defect("error" if worst > LARGE_JUMP else "warning", "repulsion-jump", message, path)
    if float(below[1][0]) > JUMP:
        message = f"the exponential head falls towards shorter distances (a1 = {spline.exponential[0]:.4g})"
        yield Defect("error", "repulsion-head", message, path)


def _check_shape(repulsion: SplineRepulsion | PolynomialRepulsion, path: str) -> Iterator[Defect]:
    start = min(SHORTEST, 0.5 * repulsion.cutoff)
    r = np.linspace(start, repulsion.cutoff, 1000)
    if isinstance(repulsion, SplineRepulsion):
        # The head has its own check, and may be as steep as it likes.
        r = np.unique(np.r_[r, repulsion.knots[repulsion.knots > start]])
    with np.errstate(over="ignore", invalid="ignore"):
        value, slope, _ = repulsion_values(repulsion, r)
    if not np.isfinite(value).all():
        message = f"repulsion is not finite at {r[~np.isfinite(value)][-1]:.4g} Bohr and below"
        yield Defect("error", "repulsion-overflow", message, path)
        return
    low = int(value.argmin())
    if value[low] < -ATTRACTION:
        message = f"repulsion is attractive: {value[low]:.3g} Hartree at {r[low]:.4g} Bohr"
        yield Defect("warning", "repulsion-attractive", message, path)
    rising = slope > ATTRACTION
    if isinstance(repulsion, SplineRepulsion):
        rising &= r >= repulsion.knots[0]
    if rising.any():
        message = (
            f"repulsion rises with distance from {r[rising][0]:.4g} to {r[rising][-1]:.4g} Bohr "
            f"(slope up to {slope[rising].max():.2g} Hartree/Bohr)"
        )
        yield Defect("warning", "repulsion-not-monotonic", message, path)


def _check_on_site(file: SKFile, site: OnSite, path: str) -> Iterator[Defect]:
    used = ~placeholder_rows(file)
    peak = np.maximum(
        np.abs(file.hamiltonian[used]).max(axis=0, initial=0.0), np.abs(file.overlap[used]).max(axis=0, initial=0.0)
    )
    filled = {l1 for (l1, l2, _), p in zip(file.columns, peak, strict=True) if l1 == l2 and p > COLUMN_THRESHOLD}
    for shell, name in enumerate("spdf"):
        electrons, hubbard, energy = (float(x[shell]) for x in (site.occupations, site.hubbard, site.energies))
        if electrons < 0.0 or electrons > 4 * shell + 2:
            message = f"{electrons:g} electrons in the {name} shell, which holds 0 to {4 * shell + 2}"
            yield Defect("error", "on-site-occupation", message, path)
        if hubbard < 0.0 or (electrons > 0.0 and hubbard == 0.0):
            severity: Severity = "error" if electrons > 0.0 else "warning"
            yield Defect(severity, "on-site-hubbard", f"U_{name} = {hubbard:g} Hartree must be positive", path)
        if electrons > 0.0 and shell not in filled:
            message = f"the {name} shell holds {electrons:g} electrons but has no integrals"
            yield Defect("error", "shell-without-data", message, path)
        if abs(energy) > ENERGY_LIMIT:
            message = f"E_{name} = {energy:g} Hartree is beyond +-{ENERGY_LIMIT:g}; was it meant in eV?"
            yield Defect("warning", "on-site-energy", message, path)
    if not site.occupations.sum() > 0.0:
        yield Defect("error", "on-site-occupation", "the atom has no electrons", path)
    if site.occupations[0] > 0.0 and site.occupations[1] > 0.0 and site.energies[1] < site.energies[0]:
        message = f"E_p = {site.energies[1]:g} lies below E_s = {site.energies[0]:g} Hartree: are they swapped?"
        yield Defect("warning", "on-site-energy", message, path)


def _check_partners(ab: SKFile, ba: SKFile, path: str) -> Iterator[Defect]:
    """Check what DFTB+ demands of A-B and B-A (``dftbplus/parser.F90``), and the columns that must be equal."""
    pair = pair_of_name(path)
    name = "its partner" if pair is None else f"{pair[1]}-{pair[0]}"
    if ab.grid_step != ba.grid_step or len(ab.hamiltonian) != len(ba.hamiltonian):
        message = (
            f"{len(ba.hamiltonian)} rows of {ba.grid_step:g} Bohr, {name} has {len(ab.hamiltonian)} of {ab.grid_step:g}"
        )
        yield Defect("error", "grid-mismatch", message, path)
    else:
        yield from _check_symmetry(ab, ba, name, path)
    difference = repulsion_difference(ab.repulsion, ba.repulsion)
    if difference > REPULSION_TOLERANCE:
        size = "in kind or number of intervals" if np.isinf(difference) else f"by up to {difference:.1e}"
        message = f"repulsion differs from that of {name} {size}; DFTB+ stops beyond {REPULSION_TOLERANCE:.0e}"
        yield Defect("error", "repulsion-mismatch", message, path)


def _check_symmetry(ab: SKFile, ba: SKFile, name: str, path: str) -> Iterator[Defect]:
    if ab.extended != ba.extended:
        yield Defect("error", "grid-mismatch", f"only one of this file and {name} is extended", path)
        return
    # Rows closer than 1 Bohr are often filled differently, and never used.
    start = max(int(1.0 / ab.grid_step), int(placeholder_rows(ab).sum()), int(placeholder_rows(ba).sum()))
    for label, one, two in (("H", ab.hamiltonian, ba.hamiltonian), ("S", ab.overlap, ba.overlap)):
        for column, (l1, l2, _) in enumerate(ab.columns):
            if l1 != l2 or start >= len(one):
                continue
            worst = float(np.abs(one[start:, column] - two[start:, column]).max())
            if worst > SYMMETRY_TOLERANCE:
                message = f"{label} {_column(ab, column)} differs from that of {name} by up to {worst:.1e}"
                yield Defect("warning", "symmetry-mismatch", message, path)
