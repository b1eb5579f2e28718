"""Densities of states: closed forms, sums and integrals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftbparam.engine.base import Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.hamiltonian import Spin
from dftbparam.engine.spectrum import density_of_states, energy_grid, projected_density_of_states
from dftbparam.errors import ParameterError

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


def made_up(eigenvalues, weights, projections=None):
    return Result(
        energy=0.0,
        free_energy=0.0,
        band_energy=0.0,
        repulsive_energy=0.0,
        scc_energy=0.0,
        fermi_level=0.0,
        charges=np.zeros(2),
        eigenvalues=np.asarray(eigenvalues, dtype=np.float64),
        weights=np.asarray(weights, dtype=np.float64),
        projections=projections,
    )


def integral(values, grid):
    return np.trapezoid(values, grid, axis=-1)


def gaussian(x, width):
    return np.exp(-0.5 * (x / width) ** 2) / (width * np.sqrt(2.0 * np.pi))


def test_two_levels_have_their_closed_form():
    grid, width = np.linspace(-1.0, 1.0, 301), 0.05
    found = density_of_states(made_up([[-0.3, 0.4]], [1.0]), grid, width)
    assert found == pytest.approx(2.0 * (gaussian(grid + 0.3, width) + gaussian(grid - 0.4, width)), abs=1e-12)
    polarised = density_of_states(made_up([[[-0.3, 0.4]], [[-0.1, 0.6]]], [1.0]), grid, width)
    assert polarised.shape == (2, 301)
    assert polarised[0] == pytest.approx(0.5 * found, abs=1e-12)
    assert polarised[1] == pytest.approx(gaussian(grid + 0.1, width) + gaussian(grid - 0.6, width), abs=1e-12)


def test_two_levels_on_two_atoms():
    share = np.zeros((1, 2, 2, 4))
    share[0, 0, 0, 0], share[0, 0, 1, 1] = 0.7, 0.3  # the lower state: 70 % s of the first atom
    share[0, 1, 0, 0], share[0, 1, 1, 1] = 0.3, 0.7
    grid, width = np.linspace(-1.0, 1.0, 301), 0.05
    found = projected_density_of_states(made_up([[-0.3, 0.4]], [1.0], share), grid, width)
    low, high = gaussian(grid + 0.3, width), gaussian(grid - 0.4, width)
    assert found.shape == (2, 4, 301)
    assert found[0, 0] == pytest.approx(2.0 * (0.7 * low + 0.3 * high), abs=1e-12)
    assert found[1, 1] == pytest.approx(2.0 * (0.3 * low + 0.7 * high), abs=1e-12)
    assert not found[0, 1:].any()


def test_free_electrons_in_three_dimensions():
    """States of one parabola E = |k|^2 / 2 in a volume V: V sqrt(2 E) / pi^2 with both spins (Ashcroft, Mermin)."""
    step = 0.025
    axis = (np.arange(80) + 0.5) * step - 1.0
    k = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    # The zone is a cube of side 2: its volume is (2 pi)^3 / V, and one state a spin lies in it.
    volume = (2.0 * np.pi) ** 3 / 8.0
    energies = 0.5 * (k**2).sum(axis=1)
    grid = np.array([0.15, 0.25, 0.35])  # inside the sphere |k| < 1 that the cube holds, E < 1/2
    found = density_of_states(made_up(energies[None, :], [1.0]), grid, 0.02) / len(k)
    assert found == pytest.approx(volume * np.sqrt(2.0 * grid) / np.pi**2, rel=5e-3)


def distorted():
    cell = [[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]]
    return Atoms("SiO", [[0, 0, 0], [1.3, 1.1, 1.7]], cell=cell, pbc=True)


SETTINGS = Settings(kpts=(3, 2, 2), temperature=3000.0, projections=True)
SPIN = Spin({"Si": -0.02, "O": -0.03}, unpaired=1.0)


@pytest.mark.parametrize("spin", [None, SPIN], ids=["both spins", "spin-polarised"])
def test_integrals_and_sums(spin):
    atoms = distorted()
    found = EmbeddedEngine().compute(MODEL, [atoms], replace(SETTINGS, spin=spin))[0]
    width = 0.02
    grid = energy_grid(found, width)
    total, parts = (f(found, grid, width) for f in (density_of_states, projected_density_of_states))
    n_bands = found.eigenvalues.shape[-1]
    lead = () if spin is None else (2,)
    assert total.shape == (*lead, len(grid))
    assert parts.shape == (*lead, 2, 4, len(grid))
    assert integral(total, grid) == pytest.approx(np.full(lead, 2.0 * n_bands if spin is None else n_bands), abs=1e-6)
    assert parts.sum(axis=(-3, -2)) == pytest.approx(total, abs=1e-6)
    assert not parts[..., 3, :].any()  # there are no f shells
    # C C^+ = S^-1: the weights of all states on one orbital sum to 1
    orbitals = np.array([[1.0, 3.0, 5.0, 0.0], [1.0, 3.0, 0.0, 0.0]]) * (2.0 if spin is None else 1.0)
    assert integral(parts, grid) == pytest.approx(np.broadcast_to(orbitals, parts.shape[:-1]), abs=1e-6)


def test_equivalent_atoms_have_equal_densities():
    atoms = bulk("Si", "diamond", a=5.4)
    found = EmbeddedEngine().compute(MODEL, [atoms], replace(SETTINGS, kpts=(4, 4, 4)))[0]
    assert len(found.weights) < 32
    grid = energy_grid(found, 0.01)
    parts = projected_density_of_states(found, grid, 0.01)
    assert parts[0] == pytest.approx(parts[1], abs=1e-9)


def test_what_cannot_be_is_refused():
    good = made_up([[-0.3, 0.4]], [1.0])
    for width in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="width"):
            density_of_states(good, [0.0], width)
        with pytest.raises(ParameterError, match="width"):
            energy_grid(good, width)
    with pytest.raises(ParameterError, match="larger width"):
        energy_grid(good, 1e-7)
    with pytest.raises(ParameterError, match=r"projections=True"):
        projected_density_of_states(good, [0.0], 0.1)
    with pytest.raises(ParameterError, match=r"eigenvalues=True"):
        density_of_states(replace(good, eigenvalues=None), [0.0], 0.1)
    for energies in ([], [[0.0]], [np.nan]):
        with pytest.raises(ParameterError, match="energies"):
            density_of_states(good, energies, 0.1)
