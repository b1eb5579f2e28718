"""What `pseudoatom` hands to the integrator."""

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

from dftbparam.elements import parse_configuration
from dftbparam.slako.atom import ANGULAR, GRID_POINTS, solve_atom
from dftbparam.slako.pseudoatom import _tables
from dftbparam.slako.twocentre import N_DENSITY, ROOT_STEP
from dftbparam.space import load_parameter_set


@pytest.mark.parametrize(
    ("symbol", "points", "found"),
    [("O", GRID_POINTS, 3.7e-6), ("Ti", GRID_POINTS, 3.3e-5), ("O", 3600, 3e-7), ("Ti", 3600, 3e-7)],
)
def test_kinetic_and_slope_rows_are_derivatives_of_the_orbital(symbol, points, found):
    # The rows come from the radial equation; here P itself is differentiated, by a spline of ninth degree in ln r. The
    # largest difference lies between the shells (Ti: 0.60 Bohr), where the gradient of the density is small and PBE's
    # potential changes quickly; it falls as the fifth power of the grid's step, down to the interpolation's own.
    record = load_parameter_set("ptbp").element(symbol)
    configuration = parse_configuration(record.configuration)
    (confinement,) = set(record.shells.values())
    run = solve_atom(symbol, configuration, confinement, points=points)
    tables = _tables(dict.fromkeys(record.shells, run), run, "density")
    r = (np.arange(1, len(tables.coefficients)) * ROOT_STEP) ** 2
    inside = (r > 1e-3) & (r < tables.reach)
    r, at_knots = r[inside], tables.coefficients[1:, :, 3][inside]
    for a, nl in enumerate(record.shells):
        l = ANGULAR[nl[-1]]
        spline = make_interp_spline(np.log(run.grid.r), run.shells[nl][1], k=9)
        p, p_x, p_xx = (spline(np.log(r), nu=k) for k in range(3))
        value, kinetic, slope = at_knots.T[N_DENSITY + 3 * a : N_DENSITY + 3 * a + 3]
        expected = (-0.5 * (p_xx - p_x) + 0.5 * l * (l + 1) * p) / r**2  # -P''/2 + l (l+1) P / (2 r^2)
        np.testing.assert_allclose(value, p / r, rtol=0.0, atol=5e-8, err_msg=nl)
        np.testing.assert_allclose(slope, (p_x - p) / r**2, rtol=0.0, atol=2.5e-6, err_msg=nl)
        np.testing.assert_allclose(kinetic, expected, rtol=0.0, atol=2.0 * found, err_msg=nl)
