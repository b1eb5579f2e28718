"""CMA-ES from a replayed history."""

import cmaes
import numpy as np
import pytest

import dftbparam.propose.cmaes as module
from dftbparam.errors import EngineMissing
from dftbparam.propose import proposer
from dftbparam.propose.cmaes import SIGMA, replay
from dftbparam.propose.sobol import sobol_points

OPTIMUM = np.array([0.31, 0.62, 0.77])


def objective(X: np.ndarray) -> np.ndarray:
    return ((X - OPTIMUM) ** 2).sum(axis=1)


def test_replay_is_what_the_library_does_generation_by_generation() -> None:
    X = np.random.default_rng(0).random((25, 3))
    y = objective(X)
    expected = cmaes.CMA(np.full(3, 0.5), SIGMA, bounds=np.tile([0.0, 1.0], (3, 1)), seed=0)
    size = expected.population_size
    assert size == 7
    for g in range(3):
        rows = range(g * size, (g + 1) * size)
        expected.tell([(X[i], float(y[i])) for i in rows])
    # Trials 21 to 24 belong to a generation that is not complete.
    replayed = replay(X, y, ahead=2, index=27, count=1)
    np.testing.assert_allclose(replayed.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(replayed._C, expected._C, rtol=1e-10)
    assert replayed.generation == 3


def test_failures_are_the_worst_of_their_generation() -> None:
    X = np.random.default_rng(1).random((7, 3))
    y = objective(X)
    worst = int(np.argmax(y))
    failed = np.where(np.arange(7) == worst, np.nan, y)
    np.testing.assert_array_equal(
        replay(X, failed, ahead=0, index=7, count=1).mean, replay(X, y, ahead=0, index=7, count=1).mean
    )


def test_a_converged_search_begins_anew_without_what_was_under_way() -> None:
    """The points that were proposed before the restart lie at the old optimum; they must not pull the new search."""
    X = np.clip(0.2 + 1e-8 * np.random.default_rng(0).standard_normal((400, 3)), 0, 1)

    def state(n: int) -> cmaes.CMA:
        return replay(X[:n], objective(X[:n]), ahead=5, index=n + 5, count=1)

    restart = next(n for n in range(0, 400, 7) if state(n).population_size > 7)
    assert state(restart).population_size == 14
    np.testing.assert_array_equal(state(restart).mean, np.full(3, 0.5))
    # Five were pending, and the new generation has fourteen.
    assert state(restart + 5 + 13).generation == 0
    assert state(restart + 5 + 14).generation == 1


def test_restarts_keep_to_whole_blocks() -> None:
    X = np.clip(0.2 + 1e-8 * np.random.default_rng(0).standard_normal((400, 3)), 0, 1)

    def state(n: int) -> cmaes.CMA:
        return replay(X[:n], objective(X[:n]), ahead=5, index=n + 5, count=4)

    restart = next(n for n in range(0, 400, 7) if state(n).population_size > 7)
    first = restart + 5
    # Blocks begin where index - first is a whole number of fours; the length of the history moves with the index here.
    assert state(first + 14 + 3).generation == 1
    assert state(first + 13).generation == 0


def test_a_bowl_is_gone_down() -> None:
    chosen = proposer("cmaes")
    X = sobol_points(0, 7, 3, 0)
    for k in range(7, 160):
        proposal = chosen.propose(X, objective(X), np.ones(len(X), bool), np.empty((0, 3)), k, 0)
        X = np.vstack([X, proposal.points])
    assert objective(X).min() < 1e-4


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match="pip install cmaes") as caught:
        proposer("cmaes")
    assert caught.value.exit_code == 3
