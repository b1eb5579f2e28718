"""What every file of a set has to pass, homonuclear or not: the lint, decay, cutoffs, and the overlap of two atoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.elements import element
from dftbparam.skf import SKFile, check_file, table_cutoff

Array = NDArray[np.float64]

GATED_WARNINGS: Final = frozenset(
    {
        "repulsion-jump",
        "repulsion-attractive",
        "repulsion-missing",
        "table-end",
        "table-spike",
        "on-site-energy",
        "on-site-hubbard",
    }
)
"""Warnings of the lint that published sets of others may have, and one of ours may not."""

LONGEST_TABLE: Final = 25.0
"""Bohr; a longer table couples so many neighbours that a calculation of a crystal takes hours."""

LONGEST_REPULSION: Final = 20.0
"""Bohr; a repulsion does not reach farther than orbitals do."""

LEAST_OVERLAP_EIGENVALUE: Final = 1e-5
"""Of the overlap of two atoms: below, its inverse turns noise of 1e-8 in the tables into energies."""

SHORTEST: Final = 0.5
"""Distance relative to the sum of covalent radii (each at least 1 Bohr) from which the overlap has to be sound. The
shortest bonds there are (Cr2, Mo2) lie at 0.6."""


def pair_defects(files: Mapping[tuple[str, str], SKFile]) -> list[str]:
    """Check both files A-B and B-A of a pair, or A-A alone; return one sentence per defect, which names the file."""
    found = []
    for (a, b), file in files.items():
        name = f"{a}-{b}"
        for defect in check_file(file):
            if defect.severity == "error" or defect.code in GATED_WARNINGS:
                found.append(f"{name}: {defect.message} [{defect.code}]")
        if table_cutoff(file) > LONGEST_TABLE:
            found.append(f"{name}: tables reach {table_cutoff(file):.1f} Bohr, more than {LONGEST_TABLE:g} [cutoff]")
        if file.repulsion is not None and file.repulsion.cutoff > LONGEST_REPULSION:
            found.append(
                f"{name}: the repulsion reaches {file.repulsion.cutoff:.1f} Bohr, more than {LONGEST_REPULSION:g} "
                "[cutoff]"
            )
    if not found:
        (a, b), file = next(iter(files.items()))
        distance, least = least_overlap_eigenvalue(file, files[b, a], _start(a, b))
        if least < LEAST_OVERLAP_EIGENVALUE:
            found.append(
                f"{a}-{b}: the overlap of two atoms has the eigenvalue {least:.1e} at {distance:.2f} Bohr, less than "
                f"{LEAST_OVERLAP_EIGENVALUE:g} [overlap]"
            )
    return found


def _start(a: str, b: str) -> float:
    return SHORTEST * sum(max(element(symbol).covalent_radius, 1.0) for symbol in (a, b))


def least_overlap_eigenvalue(ab: SKFile, ba: SKFile, start: float) -> tuple[float, float]:
    """Return (distance, eigenvalue): the least eigenvalue of a dimer's overlap over all rows from ``start`` Bohr on.

    On the axis of two atoms the overlap is [[1, S_m], [S_m^T, 1]] for each m, with S_m (shells of A, shells of B) from
    the files; its least eigenvalue is 1 minus the largest singular value of S_m.
    """
    first = max(int(np.ceil(start / ab.grid_step)) - 1, 0)
    rows = min(len(ab.overlap), len(ba.overlap))
    if first >= rows:
        return start, 1.0
    columns = {name: i for i, name in enumerate(ab.columns)}
    top = 4 if ab.extended else 3
    worst = (start, 1.0)
    for m in range(top):
        s = np.zeros((rows - first, top - m, top - m))
        for i, l1 in enumerate(range(m, top)):
            for j, l2 in enumerate(range(m, top)):
                if l1 <= l2:
                    s[:, i, j] = ab.overlap[first:rows, columns[l1, l2, m]]
                else:
                    s[:, i, j] = (-1.0) ** (l1 + l2) * ba.overlap[first:rows, columns[l2, l1, m]]
        largest = np.linalg.svd(s, compute_uv=False)[:, 0]
        row = int(largest.argmax())
        if 1.0 - largest[row] < worst[1]:
            worst = ((first + row + 1) * ab.grid_step, float(1.0 - largest[row]))
    return worst
