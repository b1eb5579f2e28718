"""The trust region's state, replayed from objectives alone; needs no torch."""

import numpy as np
import pytest

import dftbparam.propose.torch_model as torch_model
from dftbparam.errors import EngineMissing
from dftbparam.propose import proposer
from dftbparam.propose.turbo import FIRST_LENGTH, LARGEST_LENGTH, LEAST_LENGTH, Region, _candidates, design_size, replay

D = 6
DESIGN = design_size(D)


def region(y: np.ndarray, ahead: int = 0, count: int = 1) -> Region:
    return replay(y, D, ahead=ahead, index=len(y) + ahead, count=count)


def history(*after: float) -> np.ndarray:
    """A design whose best is 10, and what came after it."""
    return np.concatenate([np.linspace(10.0, 20.0, DESIGN), after])


def test_the_design_changes_nothing() -> None:
    assert region(np.empty(0)) == Region(0, FIRST_LENGTH, 0)
    assert region(history()) == Region(0, FIRST_LENGTH, 0)


def test_successes_in_a_row_double_it() -> None:
    assert region(history(9.0, 8.0)).length == FIRST_LENGTH
    assert region(history(9.0, 8.0, 7.0)).length == 2 * FIRST_LENGTH == LARGEST_LENGTH
    assert region(history(9.0, 8.0, 8.0, 7.0)).length == FIRST_LENGTH
    assert region(history(*(9.0 - 0.5 * np.arange(12)))).length == LARGEST_LENGTH


def test_a_gain_too_small_is_none() -> None:
    assert region(history(9.999, 9.998, 9.997)).length == FIRST_LENGTH
    assert region(history(*np.full(D, 9.999))).length == FIRST_LENGTH / 2


def test_failures_halve_it() -> None:
    for value in (11.0, np.nan):
        assert region(history(*np.full(D - 1, value))).length == FIRST_LENGTH
        assert region(history(*np.full(D, value))).length == FIRST_LENGTH / 2
        assert region(history(*np.full(2 * D, value))).length == FIRST_LENGTH / 4


def test_a_round_is_a_block() -> None:
    # max(4, 6) / 3 = 2 rounds of three.
    assert region(history(*np.full(5, 11.0)), count=3).length == FIRST_LENGTH
    assert region(history(*np.full(6, 11.0)), count=3).length == FIRST_LENGTH / 2
    assert region(history(11.0, 11.0, 9.0, 11.0, 11.0, 11.0), count=3).length == FIRST_LENGTH


def test_nothing_but_failures_is_no_improvement() -> None:
    assert region(np.full(DESIGN + D, np.nan)).length == FIRST_LENGTH / 2


def test_a_region_too_small_is_given_up() -> None:
    halvings = int(np.ceil(np.log2(FIRST_LENGTH / LEAST_LENGTH)))
    assert FIRST_LENGTH / 2**halvings < LEAST_LENGTH
    last = DESIGN + halvings * D
    flat = history(*np.full(halvings * D, 11.0))
    assert region(flat[:-1]).number == 0
    assert region(flat, ahead=3) == Region(first=last + 3, length=FIRST_LENGTH, number=1)
    # The new region has a design of its own before its rounds count.
    more = np.concatenate([flat, np.full(3 + DESIGN + D - 1, 12.0)])
    assert replay(more, D, ahead=3, index=len(more) + 3, count=1).length == FIRST_LENGTH
    more = np.append(more, 12.0)
    assert replay(more, D, ahead=3, index=len(more) + 3, count=1).length == FIRST_LENGTH / 2


def test_a_new_region_begins_with_a_block() -> None:
    halvings = int(np.ceil(np.log2(FIRST_LENGTH / LEAST_LENGTH)))
    flat = history(*np.full(halvings * 2 * 4, 11.0))  # 6 / 4: two rounds of four
    index = len(flat) + 5
    found = replay(flat, D, ahead=5, index=index, count=4)
    assert found.number == 1
    assert found.first >= len(flat) + 5
    assert (index - found.first) % 4 == 0


def test_candidates_lie_in_the_box() -> None:
    centre, lengths = np.array([0.1, 0.5, 0.9]), np.array([0.5, 1.0, 2.0])
    points = _candidates(centre, lengths, 0.4, np.random.default_rng(0))
    assert points.min() >= 0.0
    assert points.max() <= 1.0
    assert (np.abs(points - centre) <= 0.2 * lengths + 1e-12).all()
    assert (points != centre).any(axis=1).all()


def test_of_many_parameters_only_some_move() -> None:
    points = _candidates(np.full(60, 0.5), np.ones(60), 0.4, np.random.default_rng(0))
    moved = (points != 0.5).sum(axis=1)
    assert moved.min() >= 1
    assert moved.mean() == pytest.approx(20.0, abs=1.0)


@pytest.mark.parametrize("name", ["turbo", "botorch"])
def test_missing_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "find_spec", lambda name: None)
    with pytest.raises(
        EngineMissing, match=rf"proposer '{name}' needs BoTorch.*pip install 'dftbparam\[bo\]'"
    ) as caught:
        proposer(name)
    assert caught.value.exit_code == 3
