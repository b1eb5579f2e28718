"""Atoms in Woods-Saxon walls, over the whole of the shipped search space."""

import itertools

import numpy as np
import pytest

from dftbparam.elements import element
from dftbparam.slako.pseudoatom import free_atom, solve_pseudo_atom
from dftbparam.space.build import build_space
from dftbparam.space.definition import load_space
from dftbparam.space.element_space import element_parameters


@pytest.mark.parametrize("symbol", ["H", "C", "Si", "Cu", "Ga", "W", "Ce"])
def test_atoms_converge_at_the_corners_of_the_space(symbol):
    """Radii and walls at either end of their ranges; the free atom does not bind the polarisation shells."""
    space = build_space(symbol, load_space("woods-saxon"))
    atom = element(symbol)
    free = free_atom(symbol, atom.configuration_text, atom.valence)
    kinds = ("radius", "height", "steepness")
    for corner in itertools.product((0.0, 1.0), repeat=3):
        place = dict(zip(kinds, corner, strict=True))
        x = [place.get(name.split("_")[0], 0.5) for name in space.space.names]
        values = space.complete(space.space.from_unit(x))
        solved = solve_pseudo_atom(element_parameters(symbol, values, free_levels=free.levels))
        for nl, run in solved.runs.items():
            norm = np.sum(run.grid.weights * (run.shells[nl][1] ** 2))
            assert norm == pytest.approx(1.0, abs=0.02)  # the small component has the rest


def test_a_wall_shortens_the_orbital():
    """The radial maximum moves in, and the level up, as the wall comes nearer."""
    levels = []
    for radius in (9.0, 6.0, 4.0):
        values = dict.fromkeys(("radius_3s", "radius_3p", "radius_3d", "radius_density"), radius)
        values |= {"confinement": "woods-saxon", "height": 5.0, "steepness": 2.0}
        run = solve_pseudo_atom(element_parameters("Si", values)).runs["3p"]
        levels.append((run.energies["3p"], run.grid.r[np.argmax(np.abs(run.shells["3p"][1]))]))
    energies, maxima = zip(*levels, strict=True)
    assert energies[0] < energies[1] < energies[2]
    assert maxima[0] > maxima[1] > maxima[2]
