import json
from pathlib import Path

import numpy as np
import pytest

from dftbparam.skf import (
    PolynomialRepulsion,
    SplineRepulsion,
    interpolate,
    read_skf,
    repulsion_values,
    table_cutoff,
    table_values,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "skf"
VALUES = json.loads((GOLDEN / "values.json").read_text())


@pytest.mark.parametrize("case", VALUES["tables"], ids=lambda c: f"{c['file']}-{c['column']}")
def test_tables_as_dftbplus_interpolates_them(case):
    file = read_skf(GOLDEN / f"{case['file']}.skf")
    r = np.array(case["r"])
    both = np.concatenate(table_values(file, r), axis=1)
    error = np.abs(both[:, case["column"] - 1] - case["value"])
    inside = r < len(file.hamiltonian) * file.grid_step
    assert inside.sum() > 5
    assert (~inside).sum() > 5
    assert error[inside].max() < 1e-12
    assert error[~inside].max() < 1e-9


@pytest.mark.parametrize("case", VALUES["repulsions"], ids=lambda c: c["file"])
def test_repulsions_as_dftbplus_evaluates_them(case):
    repulsion = read_skf(GOLDEN / f"{case['file']}.skf").repulsion
    for mine, key in zip(repulsion_values(repulsion, case["r"]), ("value", "first", "second"), strict=True):
        np.testing.assert_allclose(mine, case[key], rtol=1e-10, atol=1e-12)


def test_interpolation_is_exact_for_polynomials_of_seventh_order():
    step = 0.1
    r = step * np.arange(1, 41)
    coefficients = np.array([0.3, -0.5, 0.2, 0.1, -0.05, 0.01, 0.003, -0.0005])
    table = np.polynomial.polynomial.polyval(r, coefficients)[:, None]
    x = np.linspace(0.02, 3.999, 77)
    expected = np.polynomial.polynomial.polyval(x, coefficients)
    np.testing.assert_allclose(interpolate(table, step, x)[:, 0], expected, rtol=0, atol=1e-11)


def test_the_tail_is_smooth_and_ends_one_bohr_out():
    file = read_skf(GOLDEN / "Si-Si.skf")
    end, cutoff = len(file.hamiltonian) * file.grid_step, table_cutoff(file)
    assert cutoff == pytest.approx(end + 1.0)
    h = 1e-3
    for joint in (end, cutoff):
        x = joint + h * np.array([-3, -2, -1, 0, 1, 2, 3.0])
        y = table_values(file, x)[0]
        # Third differences across the joint are of third order in h only if the curvature is continuous.
        assert np.abs(np.diff(y, n=3, axis=0)).max() < 1e-6
    assert not table_values(file, [cutoff, cutoff + 5.0])[0].any()


def test_derivatives_of_both_kinds_of_repulsion():
    spline = SplineRepulsion(
        np.array([1.0, 1.5, 2.5]),
        np.array([[2.0, -3.0, 1.0, 0.2, 0, 0], [0.8, -1.9, 1.3, 0.5, -0.7, 0.1]]),
        (2.0, 2.5, -0.1),
    )
    polynomial = PolynomialRepulsion(np.array([0.1, 0.2, -0.1, 0.05, 0.01, 0.02, -0.01, 0.005]), 3.0)
    h = 1e-5
    for repulsion, x in ((spline, np.array([0.3, 0.8, 1.2, 1.9])), (polynomial, np.array([0.5, 1.5, 2.9]))):
        value, slope, curvature = repulsion_values(repulsion, x)
        up, down = repulsion_values(repulsion, x + h), repulsion_values(repulsion, x - h)
        np.testing.assert_allclose(slope, (up[0] - down[0]) / (2 * h), rtol=1e-8)
        np.testing.assert_allclose(curvature, (up[1] - down[1]) / (2 * h), rtol=1e-8)
        assert value.shape == x.shape
    for repulsion in (spline, polynomial, None):
        for part in repulsion_values(repulsion, np.array([[3.0, 9.0]])):
            assert part.shape == (1, 2)
            assert not part.any()
