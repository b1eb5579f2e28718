import numpy as np
import pytest

from dftbparam.errors import ParameterError
from dftbparam.slako import xc


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(1)
    n = 10.0 ** rng.uniform(-6, 3, 3000)
    s = 10.0 ** rng.uniform(-1.5, 0.7, 3000)  # the reduced gradient of atoms and bonds
    grad = 2.0 * (3.0 * np.pi**2) ** (1.0 / 3.0) * n ** (4.0 / 3.0) * s
    return n, grad**2


@pytest.mark.parametrize("functional", ["LDA", "PBE"])
def test_agrees_with_libxc(points, functional):
    n, sigma = points
    ours = xc.derivatives(functional, n, sigma)
    theirs = xc.libxc_derivatives(functional, n, sigma)
    # Scale of each derivative: products with n and sigma have the size of n eps_x.
    size = np.abs(theirs[0])
    for k, scale in enumerate((size, size / n, size / sigma, size / n / sigma, size / sigma**2)):
        assert np.max(np.abs(ours[k] - theirs[k]) / scale) < 2e-7


def test_derivatives_are_derivatives(points):
    n, sigma = (values[:200] for values in points)
    f, f_n, f_s, f_sn, f_ss = xc.derivatives("PBE", n, sigma)
    h = 1e-5
    up, down = (xc.derivatives("PBE", n * (1 + k * h), sigma) for k in (1, -1))
    np.testing.assert_allclose((up[0] - down[0]) / (2 * h * n), f_n, rtol=1e-7)
    np.testing.assert_allclose((up[2] - down[2]) / (2 * h * n), f_sn, rtol=1e-6, atol=1e-6 * np.abs(f_s / n).max())
    up, down = (xc.derivatives("PBE", n, sigma * (1 + k * h)) for k in (1, -1))
    assert np.max(np.abs((up[0] - down[0]) / (2 * h) - f_s * sigma) / np.abs(f)) < 1e-9
    assert np.max(np.abs((up[2] - down[2]) / (2 * h) - f_ss * sigma) * sigma / np.abs(f)) < 1e-9


def test_vanishing_density_is_zero():
    assert not xc.derivatives("PBE", np.array([0.0, 1e-16]), np.array([0.0, 1e-20])).any()


def test_unknown_functional():
    with pytest.raises(ParameterError, match="LDA, PBE"):
        xc.derivatives("B3LYP", np.ones(1), np.ones(1))
