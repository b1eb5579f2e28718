"""The conformance suite of proposers: every registered one is held to the contract of `propose.base.Proposer`."""

import numpy as np
import pytest

from dftbparam.errors import EngineMissing, ParameterError
from dftbparam.propose import Proposal, Proposer, proposer, proposer_names
from dftbparam.propose.base import SEPARATION, distances
from dftbparam.propose.sobol import sobol_points

NONE = np.empty((0, 3))


@pytest.fixture(params=proposer_names())
def chosen(request: pytest.FixtureRequest) -> Proposer:
    try:
        return proposer(request.param)
    except EngineMissing as missing:
        pytest.skip(missing.message)


def history(n: int, d: int = 3, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n points, a smooth objective with its minimum in the cube, and every fourth trial failed."""
    X = np.random.default_rng(seed).random((n, d))
    y = ((X - 0.4) ** 2).sum(axis=1)
    feasible = np.arange(n) % 4 != 3
    return X, np.where(feasible, y, np.nan), feasible


def check(proposal: Proposal, d: int, *known: np.ndarray, count: int = 1) -> np.ndarray:
    """Hold a proposal to the contract; return its first point."""
    points = proposal.points
    assert points.shape == (count, d)
    assert points.dtype == np.float64
    assert np.isfinite(points).all()
    assert points.min() >= 0.0
    assert points.max() <= 1.0
    for rows in known:
        assert distances(points, rows).min() >= SEPARATION
    for j in range(1, count):
        assert distances(points[j : j + 1], points[:j])[0] >= SEPARATION
    if proposal.improvement is not None:
        assert isinstance(proposal.improvement, float)
        assert proposal.improvement >= 0.0
    first: np.ndarray = points[0]
    return first


def test_is_a_proposer(chosen: Proposer) -> None:
    assert isinstance(chosen, Proposer)
    assert chosen.name in proposer_names()
    assert chosen.version


@pytest.mark.parametrize("count", [1, 5])
def test_same_arguments_same_points(chosen: Proposer, count: int) -> None:
    X, y, feasible = history(12)
    pending = np.random.default_rng(6).random((2, 3))
    copies = [array.copy() for array in (X, y, feasible, pending)]
    first = chosen.propose(X, y, feasible, pending, 14, 3, count)
    np.random.default_rng(1).random(100)
    chosen.propose(*history(9), NONE, 9, 4)
    again = proposer(chosen.name).propose(X, y, feasible, pending, 14, 3, count)
    assert first.points.tobytes() == again.points.tobytes()
    assert first.improvement == again.improvement
    for array, copy in zip((X, y, feasible, pending), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_global_random_state_is_left_alone(chosen: Proposer) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is the global state that is tested
    chosen.propose(*history(8), NONE, 8, 0)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_seed_and_index_matter(chosen: Proposer) -> None:
    points = [
        chosen.propose(NONE, np.empty(0), np.empty(0, bool), NONE, k, s).points[0] for k, s in ((0, 0), (1, 0), (0, 1))
    ]
    assert distances(points[0][None], np.array(points[1:]))[0] > 1e-3


@pytest.mark.parametrize("d", [1, 2, 6])
def test_nothing_known(chosen: Proposer, d: int) -> None:
    empty = np.empty((0, d))
    check(chosen.propose(empty, np.empty(0), np.empty(0, bool), empty, 0, 0), d)


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_few_and_many(chosen: Proposer, n: int) -> None:
    X, y, feasible = history(n)
    check(chosen.propose(X, y, feasible, NONE, n, 0), 3, X)


def test_all_infeasible(chosen: Proposer) -> None:
    X, _, _ = history(10)
    check(chosen.propose(X, np.full(10, np.nan), np.zeros(10, bool), NONE, 10, 0), 3, X)


def test_one_success(chosen: Proposer) -> None:
    X, _, _ = history(10)
    feasible = np.arange(10) == 4
    check(chosen.propose(X, np.where(feasible, 1.0, np.nan), feasible, NONE, 10, 0), 3, X)


def test_repeated_rows(chosen: Proposer) -> None:
    X, y, feasible = history(6)
    X, y, feasible = np.vstack([X] * 4), np.tile(y, 4), np.tile(feasible, 4)
    check(chosen.propose(X, y, feasible, X[:2], 26, 0), 3, X)


def test_points_in_a_heap(chosen: Proposer) -> None:
    X = np.clip(0.5 + 1e-7 * np.random.default_rng(0).standard_normal((40, 3)), 0, 1)
    check(chosen.propose(X, X.sum(axis=1), np.ones(40, bool), NONE, 40, 0), 3, X)


def test_corners(chosen: Proposer) -> None:
    X = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.5]])
    check(chosen.propose(X, np.arange(4.0), np.ones(4, bool), NONE, 4, 0), 3, X)


@pytest.mark.parametrize(
    "y",
    [
        np.full(8, 2.5),
        np.zeros(8),
        np.logspace(-3, 12, 8),
        np.array([-1e300, 1e300, 0, 0, 0, 0, 0, 1.0]),
        np.arange(-8.0, 0),
    ],
    ids=["equal", "zero", "wide", "huge", "negative"],
)
def test_objectives_of_any_size(chosen: Proposer, y: np.ndarray) -> None:
    X, _, _ = history(8)
    check(chosen.propose(X, y, np.ones(8, bool), NONE, 8, 0), 3, X)


def test_pending_points_are_new_ones(chosen: Proposer) -> None:
    X, y, feasible = history(12)
    pending = NONE
    for k in range(12, 20):
        x = check(chosen.propose(X, y, feasible, pending, k, 0), 3, X, pending)
        pending = np.vstack([pending, x])


def test_not_finite_counts_as_failed(chosen: Proposer) -> None:
    X, y, feasible = history(12)
    told = chosen.propose(X, y, feasible, NONE, 12, 0)
    untold = chosen.propose(X, np.where(feasible, y, np.inf), np.ones(12, bool), NONE, 12, 0)
    assert told.points.tobytes() == untold.points.tobytes()


@pytest.mark.parametrize("n", [0, 1, 12, 40])
def test_a_block(chosen: Proposer, n: int) -> None:
    X, y, feasible = history(n)
    pending = np.random.default_rng(2).random((3, 3))
    check(chosen.propose(X, y, feasible, pending, n + 3, 0, 8), 3, X, pending, count=8)


def test_a_block_of_infeasible_history(chosen: Proposer) -> None:
    X, _, _ = history(10)
    check(chosen.propose(X, np.full(10, np.nan), np.zeros(10, bool), NONE, 10, 0, 5), 3, X, count=5)


def test_a_block_is_spread(chosen: Proposer) -> None:
    """Points to be evaluated side by side must not sit on each other: each has to tell something of its own."""
    X, y, feasible = history(20)
    points = chosen.propose(X, y, feasible, NONE, 20, 0, 8).points
    nearest = [distances(points[j : j + 1], np.delete(points, j, axis=0))[0] for j in range(8)]
    assert np.median(nearest) > 1e-3


@pytest.mark.parametrize("count", [0, -1])
def test_no_point_asked_for(chosen: Proposer, count: int) -> None:
    with pytest.raises(ParameterError, match=f"count = {count}"):
        chosen.propose(*history(6), NONE, 6, 0, count)


@pytest.mark.parametrize(
    ("X", "y", "pending"),
    [
        (np.zeros(3), np.zeros(3), NONE),
        (np.zeros((2, 3)), np.zeros(3), NONE),
        (np.zeros((2, 3)), np.zeros(2), np.zeros((1, 2))),
        (np.full((2, 3), 1.5), np.zeros(2), NONE),
        (np.full((2, 3), np.nan), np.zeros(2), NONE),
    ],
    ids=["one-dimensional", "too many objectives", "pending of another space", "outside", "not a number"],
)
def test_wrong_arrays_are_refused(chosen: Proposer, X: np.ndarray, y: np.ndarray, pending: np.ndarray) -> None:
    with pytest.raises(ParameterError):
        chosen.propose(X, y, np.ones(len(y), bool), pending, 0, 0)


def minimise(chosen: Proposer, seed: int, trials: int = 24) -> float:
    """Best of a planted quadratic with two evaluations always in flight and a corner that fails."""
    optimum = np.array([0.31, 0.62, 0.77])
    X = sobol_points(0, 8, 3, seed)
    for k in range(8, trials):
        done = X[: k - 1]
        y = ((done - optimum) ** 2).sum(axis=1)
        feasible = done.sum(axis=1) > 0.8
        proposal = chosen.propose(done, np.where(feasible, y, np.nan), feasible, X[k - 1 :], k, seed)
        X = np.vstack([X, proposal.points])
    y = ((X - optimum) ** 2).sum(axis=1)
    return float(y[X.sum(axis=1) > 0.8].min())


def test_planted_quadratic(chosen: Proposer) -> None:
    """Model-based proposers must beat random search by far; the others must not be far worse than it."""
    seeds = (0,) if chosen.name in ("botorch", "turbo") else (0, 1, 2)
    best = np.median([minimise(chosen, seed) for seed in seeds])
    yardstick = np.median([minimise(proposer("random"), seed) for seed in seeds])
    # Twenty-four trials are three generations of an evolution strategy, and a region's first box: no feat is asked yet.
    factor = {"skopt": 0.1, "botorch": 0.1, "turbo": 1.0}.get(chosen.name, 5.0)
    assert best <= factor * yardstick
