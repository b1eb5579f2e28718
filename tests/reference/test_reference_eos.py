import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dftbparam.reference import birch_murnaghan, birch_murnaghan_derivatives

PARAMETERS = {
    "v0": st.floats(3.0, 200.0),
    "b0": st.floats(1e-3, 3.0),
    "b0_prime": st.floats(1.0, 10.0),
    "ratio": st.floats(0.6, 1.6),
}


@settings(deadline=None)
@given(**PARAMETERS)
def test_derivatives_agree_with_finite_differences(v0, b0, b0_prime, ratio):
    volume, h = ratio * v0, 1e-4 * v0

    def energy(v):
        return birch_murnaghan(v, 0.0, v0, b0, b0_prime)

    first, second = birch_murnaghan_derivatives(volume, v0, b0, b0_prime)
    scale = b0 * (1.0 + b0_prime)  # of the pressure; errors of central differences are of order 1e-7 of it
    assert_allclose(first, (energy(volume + h) - energy(volume - h)) / (2 * h), atol=1e-5 * scale)
    h = 1e-3 * v0
    difference = (energy(volume + h) - 2 * energy(volume) + energy(volume - h)) / h**2
    assert_allclose(second * v0, difference * v0, atol=1e-3 * scale)


@settings(deadline=None)
@given(v0=PARAMETERS["v0"], b0=PARAMETERS["b0"], b0_prime=PARAMETERS["b0_prime"])
def test_values_at_the_minimum(v0, b0, b0_prime):
    assert birch_murnaghan(v0, -1.5, v0, b0, b0_prime) == pytest.approx(-1.5)
    first, second = birch_murnaghan_derivatives(v0, v0, b0, b0_prime)
    assert first == pytest.approx(0.0, abs=1e-12)
    assert v0 * second == pytest.approx(b0)
    # B' = dB/dP with B = V E'' and P = -E'.
    volumes = v0 * np.array([1 - 1e-5, 1 + 1e-5])
    first, second = birch_murnaghan_derivatives(volumes, v0, b0, b0_prime)
    assert np.diff(volumes * second)[0] / np.diff(-first)[0] == pytest.approx(b0_prime, rel=1e-4)


def test_broadcasting():
    v0 = np.array([10.0, 20.0])[:, None]
    volumes = np.linspace(0.9, 1.1, 5) * v0
    assert birch_murnaghan(volumes, 0.0, v0, 0.5, 4.0).shape == (2, 5)
    assert birch_murnaghan_derivatives(volumes, v0, 0.5, 4.0)[1].shape == (2, 5)
