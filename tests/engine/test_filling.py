"""Occupation of states."""

import math

import numpy as np
import pytest

from dftbparam.engine.base import Settings
from dftbparam.engine.embedded.filling import fill
from dftbparam.errors import StructureError
from dftbparam.units import BOLTZMANN

RNG = np.random.default_rng(1)
EIGENVALUES = np.sort(RNG.uniform(-0.5, 0.3, size=(5, 12)), axis=1)
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.15, 0.25])
FILLINGS = [
    {"filling": "fermi"},
    {"filling": "methfessel-paxton", "filling_order": 0},
    {"filling": "methfessel-paxton", "filling_order": 1},
    {"filling": "methfessel-paxton", "filling_order": 3},
]


@pytest.mark.parametrize("kind", FILLINGS)
@pytest.mark.parametrize("electrons", [1.0, 7.3, 12.0, 23.9])
def test_electrons_are_counted(kind, electrons):
    found = fill(EIGENVALUES, WEIGHTS, electrons, Settings(temperature=3000.0, **kind))
    assert WEIGHTS @ found.occupations.sum(axis=1) == pytest.approx(electrons, abs=1e-12)


@pytest.mark.parametrize("kind", FILLINGS)
def test_free_energy_is_stationary(kind):
    """d(E - TS) = sum f d(eps): what makes forces its derivative."""
    settings = Settings(temperature=4000.0, **kind)
    direction = RNG.normal(size=EIGENVALUES.shape)

    def free(x):
        eps = EIGENVALUES + x * direction
        found = fill(eps, WEIGHTS, 9.0, settings)
        return WEIGHTS @ (found.occupations * eps).sum(axis=1) - found.entropy

    h = 2e-6
    slope = (free(h) - free(-h)) / (2 * h)
    expected = WEIGHTS @ (fill(EIGENVALUES, WEIGHTS, 9.0, settings).occupations * direction).sum(axis=1)
    assert slope == pytest.approx(expected, abs=1e-7)


def test_fermi_function():
    settings = Settings(temperature=2000.0)
    found = fill(EIGENVALUES, WEIGHTS, 9.5, settings)
    x = (EIGENVALUES - found.level) / (BOLTZMANN * 2000.0)
    f = 1.0 / (1.0 + np.exp(np.clip(x, -300, 300)))
    assert np.abs(found.occupations - 2 * f).max() < 1e-12
    g = np.clip(f, 1e-300, 1 - 1e-16)
    entropy = -2 * WEIGHTS @ (g * np.log(g) + (1 - g) * np.log(1 - g)).sum(axis=1) * BOLTZMANN * 2000.0
    assert found.entropy == pytest.approx(entropy, abs=1e-12)


def test_level_sits_in_the_middle_of_a_gap():
    eigenvalues = np.array([[-0.5, -0.4, 0.3], [-0.6, -0.45, 0.2]])
    found = fill(eigenvalues, np.array([0.5, 0.5]), 4.0, Settings(temperature=300.0))
    assert found.level == pytest.approx(0.5 * (-0.4 + 0.2))
    assert found.entropy == pytest.approx(0.0, abs=1e-20)
    assert np.allclose(found.occupations, [[2, 2, 0], [2, 2, 0]], rtol=0, atol=1e-15)


def test_zero_temperature_shares_a_degenerate_level():
    found = fill(np.array([[-1.0, 0.0, 0.0, 1.0]]), np.ones(1), 4.0, Settings(temperature=0.0))
    assert np.allclose(found.occupations, [[2, 1, 1, 0]])


def test_full_and_empty_bands():
    settings = Settings()
    assert (fill(EIGENVALUES, WEIGHTS, 24.0, settings).occupations == 2.0).all()
    assert (fill(EIGENVALUES, WEIGHTS, 0.0, settings).occupations == 0.0).all()
    with pytest.raises(StructureError, match="do not fit into 12 orbitals"):
        fill(EIGENVALUES, WEIGHTS, 24.5, settings)
    with pytest.raises(StructureError, match="leaves -1 electrons"):
        fill(EIGENVALUES, WEIGHTS, -1.0, Settings(charge=3.0))


def test_extreme_levels_do_not_overflow():
    found = fill(np.array([[-1e3, 0.0, 1e3]]), np.ones(1), 3.0, Settings(temperature=1.0))
    assert math.isfinite(found.entropy)
    assert found.occupations.sum() == pytest.approx(3.0)


def test_of_several_levels_bisection_decides():
    """Methfessel-Paxton's count is not monotonic; DFTB+ bisects, from 0.01 Hartree around the eigenvalues."""
    settings = Settings(temperature=10000.0, filling="methfessel-paxton")
    width = BOLTZMANN * settings.temperature
    eigenvalues = np.array([[0.0, 9.0], [4.5, 13.0]]) * width
    weights = np.full(2, 0.5)

    def count(level):
        x = (eigenvalues - level) / width
        occupations = 0.5 * np.vectorize(math.erfc)(x) - x * np.exp(-x * x) / (2.0 * math.sqrt(math.pi))
        return 2.0 * weights @ occupations.sum(axis=1)

    electrons = 3.02
    excess = [count(level) - electrons for level in np.linspace(0.0, 13.0 * width, 2000)]
    assert np.count_nonzero(np.diff(np.sign(excess))) == 3
    low, high = -0.01, 13.0 * width + 0.01
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if count(middle) < electrons else (low, middle)
    assert fill(eigenvalues, weights, electrons, settings).level == pytest.approx(low, abs=1e-12)


def test_a_channel_without_a_level_of_its_own_says_so():
    settings = Settings()
    for electrons, whole in ((0.0, True), (12.0, True), (5.0, False)):
        assert fill(EIGENVALUES, WEIGHTS, electrons, settings, capacity=1).whole is whole
