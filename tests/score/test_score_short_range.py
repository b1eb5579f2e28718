import numpy as np
import pytest

from dftbparam.errors import ElementError, InputError
from dftbparam.score.short_range import DISTANCES, LARGEST, contact_distance, wall_violation

X = np.array(DISTANCES)


def morse(x, depth=3.0, x0=0.9, a=4.0):
    return depth * ((1.0 - np.exp(-a * (x - x0))) ** 2 - 1.0)


def test_a_bond_with_a_wall_is_sound():
    assert wall_violation(X, morse(X)) == 0.0
    assert wall_violation(X, morse(X) - 1000.0) == 0.0
    assert wall_violation(X, 5.0 / X) == 0.0  # purely repulsive


def test_shortest_real_dimers_are_allowed():
    assert wall_violation(X, morse(X, x0=0.62, a=8.0)) == 0.0


def test_collapse_is_a_violation():
    assert wall_violation(X, -1.0 / X) == LARGEST
    hole = morse(X)
    hole[0] = hole[1] - 0.5
    assert wall_violation(X, hole) == pytest.approx(0.5)
    low = morse(X, depth=0.001, a=1.0)  # rises, but not by as much as an atom's core demands
    assert 0.9 < wall_violation(X, low) < 1.0


def test_missing_energies_cannot_be_vouched_for():
    e = morse(X)
    e[3] = np.nan
    assert wall_violation(X, e) == LARGEST


def test_bad_curves():
    with pytest.raises(InputError, match="increasing"):
        wall_violation(X[::-1], X)
    with pytest.raises(InputError, match="both sides"):
        wall_violation([0.7, 0.8], [1.0, 0.0])


def test_contact():
    assert contact_distance("H") == 2.0
    assert contact_distance("Si") == pytest.approx(2.0 * 1.11 / 0.529177249)
    with pytest.raises(ElementError):
        contact_distance("Xx")
