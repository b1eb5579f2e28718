"""Descriptors and their coordinates: derivatives, symmetries, small cells, the cutoff."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from dftbparam.delta.descriptors import DescriptorSettings, power_spectra
from dftbparam.delta.features import describe, fit_maps
from dftbparam.errors import ElementError, ParameterError, StructureError

SETTINGS = DescriptorSettings(max_radial=3, max_angular=3)


def small_cell():
    """Two atoms whose neighbours are mostly their own images."""
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.positions[1] += [0.1, -0.05, 0.07]
    return atoms


def slab():
    atoms = graphene("C2", vacuum=None)
    atoms.symbols = ["B", "N"]
    atoms.positions[1, 2] += 0.2
    return atoms


def free():
    return molecule("H2O")


def one_atom():
    atoms = bulk("Cu", "fcc", a=3.6)
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.01, 0], [0.01, 0.99, 0.03], [0, 0.03, 1.0]], scale_atoms=True)
    return atoms


def coordinates(atoms, maps):
    return [(one.x, one.rest) for one in describe(atoms, SETTINGS, maps)]


@pytest.fixture(params=[small_cell, slab, free, one_atom])
def structure(request):
    return request.param()


@pytest.fixture
def maps(structure):
    """Axes from other structures than the one looked at, fewer than it has coordinates: the remainder counts."""
    rng = np.random.default_rng(3)
    others = []
    for _ in range(3):
        other = structure.copy()
        other.positions += rng.normal(0.0, 0.15, other.positions.shape)
        if other.pbc.all():
            other.set_cell(other.cell.array * rng.uniform(0.95, 1.05), scale_atoms=True)
        others.append(other)
    return fit_maps(others, SETTINGS)


def test_derivatives_are_those_of_finite_differences(structure, maps):
    step = 1e-4
    found = describe(structure, SETTINGS, maps, derivatives=True)
    for which, one in enumerate(found):

        def along(change, which=which):
            plus, minus = (coordinates(change(sign * step), maps)[which] for sign in (1.0, -1.0))
            return [(a - b) / (2.0 * step) for a, b in zip(plus, minus, strict=True)]

        for atom in range(len(structure)):
            for axis in range(3):

                def moved(length, atom=atom, axis=axis):
                    copy = structure.copy()
                    copy.positions[atom, axis] += length
                    return copy

                dx, drest = np.zeros_like(one.x), np.zeros_like(one.rest)
                for pair in np.flatnonzero(one.neighbours == atom):
                    dx[one.centres[pair]] += one.dx[pair, axis]
                    drest[one.centres[pair]] += one.drest[pair, axis]
                expected = along(moved)
                assert dx == pytest.approx(expected[0], abs=2e-6)
                assert drest == pytest.approx(expected[1], abs=2e-6)
        if structure.pbc.all():
            for a in range(3):
                for b in range(3):

                    def strained(amount, a=a, b=b):
                        matrix = np.eye(3)
                        matrix[a, b] += amount
                        copy = structure.copy()
                        copy.set_cell(structure.cell.array @ matrix, scale_atoms=True)
                        return copy

                    expected = along(strained)
                    assert one.strain_x[:, a, b] == pytest.approx(expected[0], abs=2e-6)
                    assert one.strain_rest[:, a, b] == pytest.approx(expected[1], abs=2e-6)


def test_distances_in_coordinates_are_those_of_descriptors(structure, maps):
    """|x − X|² + rest against the distance of the power spectra themselves, X being the mean (x = 0)."""
    for block, one in zip(power_spectra(structure, SETTINGS), describe(structure, SETTINGS, maps), strict=True):
        chart = maps[one.number]
        dense = np.zeros((len(block.atoms), len(chart.mean)))
        for pair, values in block.values.items():
            dense[:, slice(*chart.pairs[pair])] = values / block.norms()[:, None]
        expected = ((dense - chart.mean) ** 2).sum(axis=1) / chart.scale**2
        assert (one.x**2).sum(axis=1) + one.rest == pytest.approx(expected, abs=1e-10)


def test_rotation_translation_order_and_repetition_change_nothing(structure, maps):
    before = describe(structure, SETTINGS, maps)
    turned = structure.copy()
    turned.rotate(37.0, (1.0, 2.0, -0.5), rotate_cell=True)
    turned.translate([0.3, -1.1, 2.2])
    turned = turned[::-1]
    for one, other in zip(before, describe(turned, SETTINGS, maps), strict=True):
        assert other.x[::-1] == pytest.approx(one.x, abs=1e-7)
    if structure.pbc.all():
        for one, other in zip(before, describe(structure.repeat((2, 1, 1)), SETTINGS, maps), strict=True):
            assert other.x[: len(one.x)] == pytest.approx(one.x, abs=1e-9)


def test_neighbours_enter_without_a_jump_or_kink():
    """Two atoms across the cutoff: value and slope of all components go to those of a lone atom."""

    def spectrum(distance):
        block = power_spectra(Atoms("Si2", [[0, 0, 0], [0, 0, distance]]), SETTINGS)[0]
        return next(iter(block.values.values()))[0]

    lone = spectrum(20.0)
    near = [np.abs(spectrum(SETTINGS.cutoff - gap) - lone).max() for gap in (0.1, 0.01)]
    # Quadratic in the gap: ten times nearer, a hundred times less.
    assert near[0] / near[1] == pytest.approx(100.0, rel=0.2)
    assert np.abs(spectrum(SETTINGS.cutoff + 1e-6) - lone).max() == 0.0


def test_unlike_environments_are_far_whatever_their_projection():
    """An element pair that the axes never saw shows in the remainder alone."""
    maps = fit_maps([bulk("Si", "diamond", a=a) for a in (5.3, 5.4, 5.5)], SETTINGS)
    known = describe(bulk("Si", "diamond", a=5.45), SETTINGS, maps)[0]
    oxide = bulk("SiO", "rocksalt", a=4.5)
    strange = describe(oxide, SETTINGS, {**maps, 8: maps[14]})[1]
    assert known.rest.max() < 1e-2
    assert strange.rest.min() > 100.0 * max(known.rest.max(), 1e-6)


def test_bad_input():
    with pytest.raises(StructureError, match="without atoms"):
        power_spectra(Atoms(), SETTINGS)
    with pytest.raises(StructureError, match="not all numbers"):
        power_spectra(Atoms("Si", [[np.nan, 0, 0]]), SETTINGS)
    with pytest.raises(StructureError, match="zero volume"):
        power_spectra(Atoms("Si", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), SETTINGS)
    with pytest.raises(ParameterError, match="cutoff"):
        DescriptorSettings(cutoff=0.5)
    maps = fit_maps([bulk("Si")], SETTINGS)
    with pytest.raises(ElementError, match=r"knows no Ge; it was trained on Si"):
        describe(bulk("Ge"), SETTINGS, maps)
