"""Writing Slater-Koster files: every bit comes back on reading, and DFTB+ reads every row.

The same record always gives the same bytes. Numbers are the shortest decimals that read back to the same double
(at most 17 digits); runs of zeros are written as ``5*0.0``. nGrid is the number of rows plus one, because DFTB+ reads
nGrid - 1 rows (``type/oldskdata.F90``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dftbparam.errors import InputError
from dftbparam.skf.model import OnSite, PolynomialRepulsion, SKFile, SplineRepulsion
from dftbparam.skf.read import KNOT_TOLERANCE, MIN_ROWS, pair_of_name

_RESERVED = ("Spline", "RangeSep")
"""Lines that DFTB+ looks for anywhere in a file, documentation included."""


def zero_repulsion(cutoff: float = 1.0) -> SplineRepulsion:
    """A repulsion that is zero everywhere, one interval long.

    For files without repulsion that DFTB+ should read by default: it stops where it finds no ``Spline``. The head is
    exp(-1000) (zero to double precision) because the format knows no empty head.
    """
    return SplineRepulsion(
        knots=np.array([0.5 * cutoff, cutoff]), coefficients=np.zeros((1, 6)), exponential=(1.0, -1000.0, 0.0)
    )


def write_skf(path: str | Path, file: SKFile) -> None:
    """Write one Slater-Koster file; it appears whole or not at all.

    Raises
    ------
    InputError
        The record cannot be written so that DFTB+ reads it back (see `format_skf`), on-site values and file name
        contradict each other, or the folder is not writable.
    """
    path = Path(path)
    text = format_skf(file)
    pair = pair_of_name(path)
    if pair is not None and (pair[0] == pair[1]) != (file.on_site is not None):
        needed = "needs on-site values" if pair[0] == pair[1] else "must not have on-site values"
        raise InputError(f"{path}: by its name {pair[0]}-{pair[1]}, this file {needed}", path=str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8"))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})", path=str(path)) from None


def format_skf(file: SKFile) -> str:
    """Format one Slater-Koster file. Homonuclear if it has on-site values.

    A file without repulsion gets no ``Spline``: DFTB+ then reads it only with polynomial repulsion switched on (see
    `zero_repulsion`).

    Raises
    ------
    InputError
        Shapes do not fit, a number is not finite, there are too few rows, the spline is no spline, or the
        documentation would be mistaken for data.
    """
    _check(file)
    n_shells = 4 if file.extended else 3
    lines = ["@"] if file.extended else []
    lines.append(f"{_real(file.grid_step)} {len(file.hamiltonian) + 1}")
    if file.on_site is not None:
        lines.append(_on_site(file.on_site, n_shells))
    polynomial = file.repulsion if isinstance(file.repulsion, PolynomialRepulsion) else None
    if polynomial is None:
        lines.append(f"{_real(file.mass)} 19*0.0")
    else:
        lines.append(_row([file.mass, *polynomial.coefficients.tolist(), polynomial.cutoff]) + " 10*0.0")
    lines.extend(_row(row) for row in np.concatenate([file.hamiltonian, file.overlap], axis=1).tolist())
    if isinstance(file.repulsion, SplineRepulsion):
        lines.extend(_spline(file.repulsion))
    if file.documentation:
        lines += ["<Documentation>", *file.documentation.split("\n"), "</Documentation>"]
    return "\n".join(lines) + "\n"


def _real(value: float) -> str:
    return repr(float(value))


def _row(values: Iterable[float]) -> str:
    """Values separated by blanks, runs of zeros as ``n*0.0``."""
    out: list[str] = []
    zeros = 0
    for value in values:
        if value == 0.0:
            zeros += 1
            continue
        if zeros:
            out.append(f"{zeros}*0.0" if zeros > 1 else "0.0")
            zeros = 0
        out.append(repr(value))
    if zeros:
        out.append(f"{zeros}*0.0" if zeros > 1 else "0.0")
    return " ".join(out)


def _on_site(site: OnSite, n_shells: int) -> str:
    # Spelled out, without repeat counts: people read this line.
    values = [
        *site.energies[:n_shells][::-1],
        site.spin_polarisation_error,
        *site.hubbard[:n_shells][::-1],
        *site.occupations[:n_shells][::-1],
    ]
    return " ".join(_real(v) for v in values)


def _spline(spline: SplineRepulsion) -> list[str]:
    n = len(spline.coefficients)
    knots = spline.knots.tolist()
    lines = ["Spline", f"{n} {_real(spline.cutoff)}", " ".join(_real(a) for a in spline.exponential)]
    for i, row in enumerate(spline.coefficients.tolist()):
        numbers = [knots[i], knots[i + 1], *row[: 4 if i < n - 1 else 6]]
        lines.append(" ".join(repr(x) for x in numbers))
    return lines


def _check(file: SKFile) -> None:
    name = file.path or "Slater-Koster file"
    shape = (len(file.hamiltonian), len(file.columns))
    if file.hamiltonian.shape != shape or file.overlap.shape != shape:
        raise InputError(
            f"{name}: H {file.hamiltonian.shape} and S {file.overlap.shape} must both have the shape "
            f"(rows, {len(file.columns)})"
        )
    if shape[0] < MIN_ROWS:
        raise InputError(f"{name}: {shape[0]} rows; DFTB+ needs at least {MIN_ROWS}")
    if not file.grid_step > 0.0 or not np.isfinite(file.grid_step):
        raise InputError(f"{name}: grid step {file.grid_step} must be positive")
    numbers = [file.hamiltonian.ravel(), file.overlap.ravel(), np.array([file.mass])]
    site, repulsion = file.on_site, file.repulsion
    if site is not None:
        numbers += [site.energies, site.hubbard, site.occupations, np.array([site.spin_polarisation_error])]
        if not file.extended and (site.energies[3] or site.hubbard[3] or site.occupations[3]):
            raise InputError(f"{name}: an f shell needs an extended file (extended=True)")
    if isinstance(repulsion, SplineRepulsion):
        numbers += [repulsion.knots, repulsion.coefficients.ravel(), np.array(repulsion.exponential)]
        _check_spline(name, repulsion)
    elif repulsion is not None:
        numbers += [repulsion.coefficients, np.array([repulsion.cutoff])]
        if repulsion.coefficients.shape != (8,) or not repulsion.cutoff > 0.0 or not repulsion.coefficients.any():
            raise InputError(f"{name}: a polynomial needs 8 coefficients, not all zero, and a positive cutoff")
    if not all(bool(np.isfinite(x).all()) for x in numbers):
        raise InputError(f"{name}: NaN or infinity in the data; DFTB+ would read it without complaint")
    for line in file.documentation.split("\n"):
        if line.rstrip() in _RESERVED or line.strip() == "</Documentation>" or "\r" in line:
            raise InputError(f"{name}: the documentation must not hold the line {line!r}")


def _check_spline(name: str, spline: SplineRepulsion) -> None:
    n = len(spline.coefficients)
    if n < 1 or spline.knots.shape != (n + 1,) or spline.coefficients.shape != (n, 6):
        raise InputError(
            f"{name}: a spline of n >= 1 intervals has knots (n+1,) and coefficients (n, 6), got "
            f"{spline.knots.shape} and {spline.coefficients.shape}"
        )
    if not bool(np.all(np.diff(spline.knots) > KNOT_TOLERANCE)):
        raise InputError(f"{name}: spline knots must increase")
    if spline.coefficients[:-1, 4:].any():
        raise InputError(f"{name}: only the last spline interval may have 4th and 5th powers")
