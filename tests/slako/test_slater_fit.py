"""Radial functions as sums of Slater functions."""

from __future__ import annotations

import numpy as np
import pytest

from dftbparam.elements import element
from dftbparam.errors import ParameterError
from dftbparam.slako.pseudoatom import solve_pseudo_atom
from dftbparam.slako.radial import RadialGrid
from dftbparam.slako.slater_fit import fit_slater
from dftbparam.space import load_parameter_set


def test_a_slater_function_is_found_again():
    grid = RadialGrid.make(1e-4, 60.0, 900)
    p = 2.0 * grid.r * np.exp(-grid.r)  # hydrogen 1s
    fit = fit_slater(grid.r, grid.weights, p, 0, 1)
    assert fit.error < 1e-4
    r = np.linspace(0.0, 6.0, 50)
    np.testing.assert_allclose(fit.evaluate(r), 2.0 * np.exp(-r), atol=5e-4)
    assert fit.evaluate(np.array([fit.cutoff + 0.1]))[0] == 0.0


@pytest.mark.parametrize("symbol", ["O", "Ti", "Pb"])
def test_confined_orbitals_are_fitted_to_a_thousandth(symbol):
    atom = solve_pseudo_atom(load_parameter_set("ptbp").element(symbol))
    for nl, l in atom.shells:
        run = atom.runs[nl]
        fit = fit_slater(run.grid.r, run.grid.weights, run.shells[nl][1], l, element(symbol).number)
        assert fit.error < 1e-3
        values = fit.evaluate(run.grid.r) * run.grid.r
        assert np.sum(run.grid.weights * values**2) == pytest.approx(1.0, abs=1e-3)


def test_nothing_cannot_be_fitted():
    grid = RadialGrid.make(1e-4, 60.0, 100)
    with pytest.raises(ParameterError, match="zero everywhere"):
        fit_slater(grid.r, grid.weights, np.zeros(100), 0, 1)
