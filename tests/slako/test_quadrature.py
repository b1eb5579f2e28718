"""Tables as written, against the same integrals by a quadrature of twenty times the points."""

import numpy as np
import pytest

from dftbparam.skf.model import SIMPLE_COLUMNS
from dftbparam.slako.build import pair_files
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.slako.twocentre import two_centre_integrals
from dftbparam.space import load_parameter_set

STEPS = np.array([75, 84, 99, 105, 123, 141, 177, 219, 228, 252, 318, 405, 600])
DISTANCES = 0.02 * STEPS
"""Bohr; among them the worst ones of all multiples of 0.06 Bohr between 1.5 and 12."""

FOUND = {
    ("Ti", "Ti"): (4.9e-6, 1.1e-6, 3.9e-6),
    ("Ti", "O"): (9.6e-7, 2.1e-7, 3.2e-6),
    ("W", "W"): (2.6e-5, 1.3e-5, 3.1e-5),
    ("Pb", "Pb"): (7.3e-5, 3.2e-5, 6.1e-5),
}
"""Largest errors of H found on those multiples, Hartree: below 2.5 Bohr, up to 4.5 (where fewer points begin), beyond.

All are the quadrature's own except next to 4.5 Bohr, where the step from one number of points to the other also enters
through the spline.
"""


def tables_and_integrals(pair, points):
    """H and S of every channel at ``DISTANCES``, (2, n, channels): from the files, and integrated anew."""
    ptbp = load_parameter_set("ptbp")
    first = solve_pseudo_atom(ptbp.element(pair[0]))
    second = first if pair[0] == pair[1] else solve_pseudo_atom(ptbp.element(pair[1]))
    forward, backward = pair_files(first, second, cutoff=12.5)
    channels, h, s = two_centre_integrals(DISTANCES, first.tables, second.tables, points=points)
    table = np.empty((2, *h.shape))
    for c, (i, j, m) in enumerate(channels):
        l1, l2 = first.shells[i][1], second.shells[j][1]
        file, sign = (forward, 1.0) if l1 <= l2 else (backward, (-1.0) ** (l1 + l2))
        column = SIMPLE_COLUMNS.index((min(l1, l2), max(l1, l2), m))
        table[0, :, c] = sign * file.hamiltonian[STEPS - 1, column]
        table[1, :, c] = sign * file.overlap[STEPS - 1, column]
    return table, np.stack([h, s])


@pytest.mark.parametrize("pair", FOUND, ids="-".join)
def test_tables_against_a_fine_quadrature(pair):
    table, fine = tables_and_integrals(pair, (200, 300))
    error = np.abs(table - fine).max(axis=2)
    parts = (DISTANCES < 2.5, (DISTANCES >= 2.5) & (DISTANCES < 4.5), DISTANCES >= 4.5)
    for part, found in zip(parts, FOUND[pair], strict=True):
        assert error[0, part].max() < 2.0 * found
    assert error[1].max() < 2e-8  # found 9e-9


def test_the_fine_quadrature_is_converged_itself():
    # Lead is the worst case: found 4e-7 Hartree, a hundredth of what the test above allows.
    atom = solve_pseudo_atom(load_parameter_set("ptbp").element("Pb"))
    r = DISTANCES[:6]
    _, h, s = two_centre_integrals(r, atom.tables, atom.tables, points=(200, 300))
    _, finer_h, finer_s = two_centre_integrals(r, atom.tables, atom.tables, points=(300, 400))
    np.testing.assert_allclose(h, finer_h, atol=1e-6)
    np.testing.assert_allclose(s, finer_s, atol=5e-9)
