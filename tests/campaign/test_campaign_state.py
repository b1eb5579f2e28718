"""The state machine without a cluster: the trial list must not depend on the order in which results arrive."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.campaign.state import LOW_PROPOSALS, CampaignState
from dftbparam.errors import ParameterError, StoreError
from dftbparam.propose import Proposal, proposer
from dftbparam.propose.sobol import sobol_points


class Spy:
    """A proposer that is cheap, sensitive to every bit it is given, and remembers what it was asked."""

    name, version = "spy", "1"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def propose(self, X, y, feasible, pending, index, seed, count=1):  # type: ignore[no-untyped-def]
        self.calls.append((index, len(X), len(pending)))
        total = X.sum() * 1.7 + np.where(feasible, y, 0.3).sum() * 2.3 + pending.sum() * 3.1 + index + seed
        waves = np.sin(total * np.arange(1, count * X.shape[1] + 1)) * 997.0
        return Proposal(np.modf(np.abs(waves))[0].reshape(count, -1), self.expected(X))

    def expected(self, X):  # type: ignore[no-untyped-def]
        return None


class Fading(Spy):
    """Expects less the more it knows, not quite evenly: low at once for a single block, and then for good."""

    name = "fading"

    def expected(self, X):  # type: ignore[no-untyped-def]
        return 0.0 if len(X) == 30 else float(2.0 ** (-len(X) / 10))


def make_state(**changes: object) -> CampaignState:
    arguments: dict[str, object] = {"seed": 1, "evaluations": 25, "in_flight": 4, "n_initial": 6} | changes
    chosen = arguments.pop("proposer", None) or Spy()
    return CampaignState(2, chosen, **arguments)  # type: ignore[arg-type]


def objective(x: tuple[float, ...]) -> float | None:
    return None if x[0] < 0.2 else (x[0] - 0.6) ** 2 + (x[1] - 0.3) ** 2


def drive(
    state: CampaignState, choose: Callable[[list[int]], int]
) -> list[tuple[int, tuple[float, ...], float | None]]:
    """Run to the end; ``choose`` says which of the running trials ends next."""
    running: dict[int, tuple[float, ...]] = {}
    while True:
        running.update(state.ready())
        if not running:
            return [(k, trial.x, trial.objective) for k, trial in state.finished.items()]
        assert len(running) <= state.most_in_flight
        index = sorted(running)[choose(sorted(running)) % len(running)]
        x = running.pop(index)
        state.tell(index, x, objective(x))


IN_ORDER = drive(make_state(), lambda running: 0)


def test_the_whole_budget_is_used() -> None:
    assert [k for k, _, _ in IN_ORDER] == list(range(25))


@given(st.lists(st.integers(0, 3), min_size=25, max_size=25))
@settings(deadline=None)
def test_any_order_of_results_gives_the_same_trials(order: list[int]) -> None:
    turns = iter(order)
    assert drive(make_state(), lambda running: next(turns)) == IN_ORDER


@given(st.lists(st.integers(0, 3), min_size=25, max_size=25), st.integers(0, 25))
@settings(deadline=None)
def test_killed_anywhere_and_resumed(order: list[int], ended: int) -> None:
    """What had ended at the kill is told to a fresh machine, in any order; the rest is asked for again."""
    first = make_state()
    running: dict[int, tuple[float, ...]] = {}
    told = []
    for turn in order[:ended]:
        running.update(first.ready())
        index = sorted(running)[turn % len(running)]
        x = running.pop(index)
        first.tell(index, x, objective(x))
        told.append((index, x))
    running.update(first.ready())

    second = make_state()
    for index, x in reversed(told):
        second.tell(index, x, objective(x))
    again = dict(second.ready())
    assert again == running
    for index, x in again.items():
        second.tell(index, x, objective(x))
    assert drive(second, lambda running: -1) == IN_ORDER


def test_skopt_gives_the_same_trials_in_any_order() -> None:
    def make() -> CampaignState:
        return make_state(proposer=proposer("skopt"), evaluations=16)

    in_order = drive(make(), lambda running: 0)
    assert drive(make(), lambda running: -1) == in_order
    random = np.random.default_rng(0)
    assert drive(make(), lambda running: int(random.integers(4))) == in_order


def test_what_the_proposer_sees() -> None:
    spy = Spy()
    drive(make_state(proposer=spy), lambda running: -1)
    # Trial k: the results of 0 .. k-q, the points of the q-1 before it.
    assert spy.calls == [(k, k - 3, 3) for k in range(6, 25)]


def test_one_slow_trial_holds_the_rest_up_only_at_a_distance() -> None:
    state = make_state(n_initial=1, in_flight=3)
    assert [k for k, _ in state.ready()] == [0, 1, 2]
    for k in (1, 2):
        state.tell(k, state.running[k], 1.0)
    # Trial 3 = 0 + q waits for trial 0; nothing else may go.
    assert state.ready() == []
    state.tell(0, state.running[0], 1.0)
    assert [k for k, _ in state.ready()] == [3, 4, 5]


def test_initial_design() -> None:
    state = make_state(starting_points=[(0.1, 0.9), (0.5, 0.5)], in_flight=9)
    points = [x for _, x in state.ready()]
    assert points[:2] == [(0.1, 0.9), (0.5, 0.5)]
    np.testing.assert_array_equal(points[2:6], sobol_points(0, 4, 2, 1))


def test_the_initial_design_waits_for_no_result() -> None:
    state = make_state(in_flight=2)
    state.ready()
    state.tell(1, state.running[1], None)
    assert [k for k, _ in state.ready()] == [2]


def test_a_bigger_budget_extends_the_list() -> None:
    assert drive(make_state(evaluations=12), lambda running: 0) == IN_ORDER[:12]


def test_seeds_differ() -> None:
    assert drive(make_state(seed=2), lambda running: 0)[0] != IN_ORDER[0]


@given(st.lists(st.integers(0, 3), min_size=200, max_size=200))
@settings(deadline=None, max_examples=25)
def test_patience_is_deterministic_too(order: list[int]) -> None:
    def make() -> CampaignState:
        return make_state(evaluations=200, patience=20)

    expected = drive(make(), lambda running: 0)
    assert len(expected) < 200
    best = min((y, k) for k, _, y in expected if y is not None)
    # The rule sees results q trials late, q = 4.
    assert len(expected) >= best[1] + 20
    turns = iter(order)
    assert drive(make(), lambda running: next(turns)) == expected


def test_no_patience_is_lost_before_the_first_success() -> None:
    state = make_state(evaluations=30, patience=2)
    for _ in range(30):
        for index, x in state.ready():
            state.tell(index, x, None)
    assert len(state.finished) == 30


def test_a_result_is_never_replaced() -> None:
    state = make_state()
    (index, x), *_ = state.ready()
    state.tell(index, x, 1.0)
    with pytest.raises(StoreError, match="never replaced"):
        state.tell(index, x, 2.0)
    other, point = next(iter(state.running.items()))
    with pytest.raises(StoreError, match="another point"):
        state.tell(other, (point[0] / 2, point[1]), 1.0)
    with pytest.raises(StoreError, match="3 parameters"):
        state.tell(9, (0.1, 0.2, 0.3), 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluations": 0},
        {"in_flight": 0},
        {"n_initial": 0},
        {"seed": -1},
        {"patience": 0},
        {"batch": 0},
        {"min_improvement": 0.0},
        {"min_improvement": float("nan")},
        {"starting_points": [(0.5, 1.5)]},
        {"starting_points": [(0.5, 0.5)] * 7},
    ],
    ids=str,
)
def test_numbers_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        make_state(**changes)


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_a_block_sees_what_its_first_trial_may_see() -> None:
    spy = Spy()
    drive(make_state(proposer=spy, batch=5, evaluations=26), lambda running: -1)
    # Blocks begin at 6, 11, 16, 21; q = 4. All of the last is asked for, whatever the budget uses of it.
    assert spy.calls == [(6, 3, 3), (11, 8, 3), (16, 13, 3), (21, 18, 3)]


def test_a_block_is_in_flight_at_once() -> None:
    state = make_state(n_initial=2, in_flight=3, batch=4)
    assert [k for k, _ in state.ready()] == [0, 1, 2, 3, 4, 5]
    assert state.most_in_flight == 6
    for k in (1, 2, 3, 5):
        state.tell(k, state.running[k], 1.0)
    # The block of trial 6 needs the results of 0 .. 3.
    assert state.ready() == []
    state.tell(0, state.running[0], 1.0)
    assert [k for k, _ in state.ready()] == [6, 7, 8, 9]


@given(st.lists(st.integers(0, 7), min_size=40, max_size=40), st.integers(1, 6), st.integers(1, 4))
@settings(deadline=None)
def test_blocks_come_out_the_same_in_any_order(order: list[int], batch: int, depth: int) -> None:
    def make() -> CampaignState:
        return make_state(evaluations=40, batch=batch, in_flight=depth)

    turns = iter(order)
    assert drive(make(), lambda running: next(turns)) == drive(make(), lambda running: 0)


@given(st.lists(st.integers(0, 7), min_size=40, max_size=40), st.integers(0, 40), st.integers(2, 6))
@settings(deadline=None)
def test_killed_within_a_block_and_resumed(order: list[int], ended: int, batch: int) -> None:
    def make() -> CampaignState:
        return make_state(proposer=Fading(), evaluations=80, batch=batch, min_improvement=0.05)

    whole = drive(make(), lambda running: 0)
    assert 30 < len(whole) < 80
    first, told = make(), []
    running: dict[int, tuple[float, ...]] = {}
    for turn in order[:ended]:
        running.update(first.ready())
        if not running:
            break
        index = sorted(running)[turn % len(running)]
        x = running.pop(index)
        first.tell(index, x, objective(x))
        told.append((index, x))
    second = make()
    for index, x in reversed(told):
        second.tell(index, x, objective(x))
    assert drive(second, lambda running: -1) == whole


def test_a_bigger_budget_extends_the_blocks() -> None:
    assert drive(make_state(batch=6, evaluations=15), lambda running: 0) == drive(make_state(batch=6), lambda _: 0)[:15]


@pytest.mark.parametrize("batch", [1, 3])
def test_the_end_of_improvement(batch: int) -> None:
    state = make_state(proposer=Fading(), evaluations=200, batch=batch, min_improvement=0.05)
    trials = drive(state, lambda running: 0)
    assert state.ended == "improvement"
    assert state.improvement is not None
    assert state.improvement < 0.05
    # 2 ** (-n/10) < 0.05 from n = 44 results on; block s knows s - 3; the blocks are at 6, 6 + batch, ...
    low = next(s for s in range(6, 200, batch) if s - 3 >= 44)
    assert len(trials) == low + (LOW_PROPOSALS - 1) * batch


def test_improvement_that_nobody_knows_ends_nothing() -> None:
    state = make_state(min_improvement=1e3)
    assert len(drive(state, lambda running: 0)) == 25
    assert state.ended == "evaluations"
    assert state.improvement is None


def test_why_a_run_ended() -> None:
    state = make_state(evaluations=200, patience=20)
    assert state.ended is None
    drive(state, lambda running: 0)
    assert state.ended == "patience"


def test_a_block_of_the_wrong_size_is_caught() -> None:
    class Short(Spy):
        name = "short"

        def propose(self, X, y, feasible, pending, index, seed, count=1):  # type: ignore[no-untyped-def]
            return Proposal(np.zeros((1, 2)))

    state = make_state(proposer=Short(), n_initial=1, in_flight=1, batch=2)
    state.tell(0, state.ready()[0][1], 1.0)
    with pytest.raises(ParameterError, match=r"'short' was asked for 2 points of 2 parameters.* shape \(1, 2\)"):
        state.ready()


def test_a_proposer_outside_the_cube_is_caught() -> None:
    class Stray(Spy):
        name = "stray"

        def propose(self, X, y, feasible, pending, index, seed, count=1):  # type: ignore[no-untyped-def]
            return Proposal(np.array([[0.5, 1.0001]]))

    state = make_state(proposer=Stray(), n_initial=1, in_flight=1)
    state.tell(0, state.ready()[0][1], 1.0)
    with pytest.raises(ParameterError, match="'stray' left the unit cube"):
        state.ready()
