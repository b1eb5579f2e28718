import itertools
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.errors import ParameterError
from dftbparam.space import Parameter, Prior, SearchSpace
from dftbparam.space.parameters import MOST_VALUES, SAME

SPACE = SearchSpace((Parameter("r_s", 2.1, 14.7, unit="Bohr"), Parameter("sigma", 0.1, 3.0, scale="log")))
MIXED = SearchSpace(
    (
        Parameter("radius", 2.0, 8.0, "log", "Bohr"),
        Parameter.integer("power", 2, 9),
        Parameter.categorical("kind", ("power", "woods-saxon", 3.5)),
    )
)
CELLS = SearchSpace((Parameter.integer("n", 1, 3), Parameter.categorical("kind", ("a", "b"))))


@st.composite
def priors(draw, low, high, scale):
    share = draw(st.floats(0.01, 3.0))
    at = draw(st.floats(0.0, 1.0))
    if scale == "log":
        return Prior(min(max(low * (high / low) ** at, low), high), (high / low) ** share)
    return Prior(min(max(low + at * (high - low), low), high), share * (high - low))


@st.composite
def parameters(draw, with_prior=False):
    scale = draw(st.sampled_from(["linear", "log"]))
    low = draw(st.floats(1e-3, 1e3) if scale == "log" else st.floats(-1e3, 1e3))
    high = low + draw(st.floats(1e-3, 1e3))
    prior = draw(priors(low, high, scale)) if with_prior and high > low * 1.001 else None
    return Parameter("p", low, high, scale=scale, prior=prior)


@st.composite
def discrete(draw):
    if draw(st.booleans()):
        choices = draw(
            st.lists(st.one_of(st.text(max_size=4), st.integers(-9, 9)), min_size=2, max_size=9, unique=True)
        )
        return Parameter.categorical("p", choices)
    scale = draw(st.sampled_from(["linear", "log"]))
    low = draw(st.integers(1 if scale == "log" else -50, 50))
    high = low + draw(st.integers(1, 60))
    prior = draw(st.none() | priors(low, high, scale))
    return Parameter.integer("p", low, high, scale, prior=prior)


@settings(deadline=None)
@given(parameters(), st.floats(0.0, 1.0))
def test_unit_cube_and_back(parameter, x):
    value = parameter.from_unit(x)
    assert parameter.low <= value <= parameter.high
    # A range narrow against its distance from zero keeps fewer digits of x.
    digits = 1e-15 * max(abs(parameter.low), abs(parameter.high)) / (parameter.high - parameter.low)
    assert parameter.to_unit(value) == pytest.approx(x, abs=1e-9 + 100 * digits)


@settings(deadline=None)
@given(parameters(with_prior=True), st.floats(0.0, 1.0))
def test_a_prior_is_a_change_of_variable(parameter, x):
    value = parameter.from_unit(x)
    assert parameter.low <= value <= parameter.high
    digits = 1e-15 * max(abs(parameter.low), abs(parameter.high)) / (parameter.high - parameter.low)
    # Where the prior is steep, rounding of the value weighs more.
    assert parameter.to_unit(value) == pytest.approx(x, abs=1e-9 + 1e4 * digits)
    assert parameter.from_unit(0.0) == pytest.approx(parameter.low, rel=1e-12)
    assert parameter.from_unit(1.0) == pytest.approx(parameter.high, rel=1e-12)


@settings(deadline=None)
@given(parameters(with_prior=True), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_larger_coordinates_are_larger_values(parameter, x, y):
    low, high = sorted((x, y))
    assert parameter.from_unit(low) <= parameter.from_unit(high)


@given(parameters())
def test_ends_are_met_exactly(parameter):
    assert parameter.from_unit(0.0) == pytest.approx(parameter.low, rel=1e-14)
    assert parameter.from_unit(1.0) == pytest.approx(parameter.high, rel=1e-14)


def test_a_uniform_design_follows_the_prior():
    parameter = Parameter("r", 1.0, 100.0, "log", prior=Prior(3.0, 1.3))
    values = np.array([parameter.from_unit(x) for x in (np.arange(2000) + 0.5) / 2000])
    inside = np.mean((values > 3.0 / 1.3) & (values < 3.0 * 1.3))
    own_share = 2 * math.log(1.3) / math.log(100.0)
    assert inside == pytest.approx(0.9 * 0.6827 + 0.1 * own_share, abs=0.002)


def test_tails_stay_within_reach_of_a_wrong_prior():
    parameter = Parameter("r", 0.0, 1.0, prior=Prior(0.0, 0.01))
    # Half of the range where the prior sees nothing still takes a twentieth of the cube.
    assert 1.0 - parameter.to_unit(0.5) == pytest.approx(0.05)
    assert parameter.from_unit(0.975) == pytest.approx(0.75)


@settings(deadline=None)
@given(discrete(), st.floats(0.0, 1.0))
def test_discrete_values_round_trip(parameter, x):
    space = SearchSpace((parameter,))
    value = parameter.from_unit(x)
    assert value in parameter.values
    middle = space.snap([x])
    assert space.from_unit(middle) == {"p": value}
    assert parameter.to_unit(value) == middle[0]
    np.testing.assert_array_equal(space.snap(middle), middle)
    parameter.check(value)


@settings(deadline=None)
@given(discrete())
def test_every_discrete_value_has_a_cell(parameter):
    cells = parameter.cells
    assert len(cells) == len(parameter.values)
    assert min(b - a for a, b in itertools.pairwise(cells)) > 2 * SAME
    assert [parameter.from_unit(x) for x in cells] == list(parameter.values)


def test_equal_values_have_equal_room():
    drawn = [Parameter.integer("n", 2, 5).from_unit(x) for x in (np.arange(400) + 0.5) / 400]
    assert [drawn.count(n) for n in (2, 3, 4, 5)] == [100] * 4
    assert type(drawn[0]) is int
    # On a log scale small numbers have more room, 1 the most.
    drawn = [Parameter.integer("n", 1, 50, "log").from_unit(x) for x in (np.arange(400) + 0.5) / 400]
    assert drawn.count(1) > drawn.count(2) > drawn.count(10) > 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_snap_leaves_real_coordinates_alone(x):
    snapped = MIXED.snap(x)
    assert snapped[0] == x[0]
    assert MIXED.from_unit(snapped) == MIXED.from_unit(x)
    np.testing.assert_array_equal(SPACE.snap(x[:2]), x[:2])


def test_place_is_the_identity_among_real_numbers():
    x = np.array([0.25, 0.5])
    np.testing.assert_array_equal(SPACE.place(x, [x]), x)
    assert (SPACE.discrete, SPACE.size) == (False, None)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2), min_size=8, max_size=12))
def test_a_finite_space_is_gone_through_once(points):
    taken = []
    for x in points:
        placed = CELLS.place(x, taken)
        if placed is None:
            break
        taken.append(placed)
    assert len(taken) == CELLS.size == 6
    assert len({tuple(CELLS.from_unit(x).values()) for x in taken}) == 6


def test_the_nearest_free_cell_is_taken():
    first = CELLS.place([0.5, 0.2], [])
    assert CELLS.from_unit(first) == {"n": 2, "kind": "a"}
    second = CELLS.place([0.5, 0.2], [first])
    assert CELLS.from_unit(second) == {"n": 1, "kind": "a"}  # a third of the cube away; the other kind is half of it
    again = CELLS.place([0.5, 0.2], np.array([first]))
    np.testing.assert_array_equal(again, second)


def test_a_mixed_space_never_runs_out():
    space = SearchSpace((Parameter("r", 0.0, 1.0), Parameter.integer("n", 1, 2)))
    taken = []
    for _ in range(6):
        x = space.place([0.5, 0.5], taken)
        assert all(np.abs(x - other).max() >= SAME for other in taken)
        taken.append(x)
    assert taken[1][0] == 0.5
    np.testing.assert_array_equal(space.place([0.5, 0.5], taken[:4]), taken[4])


@pytest.mark.parametrize(
    ("low", "high", "scale", "reason"),
    [
        (2.0, 1.0, "linear", r"upside down or empty; did you mean \[1.0, 2.0\]"),
        (1.0, 1.0, "linear", "upside down or empty"),
        (0.0, float("inf"), "linear", "must be finite"),
        (float("nan"), 1.0, "linear", "must be finite"),
        (0.0, 1.0, "log", "needs low > 0"),
        (0.0, 1.0, "cubic", "neither 'linear' nor 'log'"),
        ("0", 1.0, "linear", "'0' is not a number"),
        (False, 1.0, "linear", "False is not a number"),
    ],
)
def test_bad_range(low, high, scale, reason):
    with pytest.raises(ParameterError, match=reason):
        Parameter("p", low, high, scale=scale)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Parameter.integer("p", 1.5, 4), "must be whole numbers"),
        (lambda: Parameter.integer("p", 1, MOST_VALUES + 1), "take a real parameter"),
        (lambda: Parameter.integer("p", 0, 4, "log"), "needs low > 0"),
        (lambda: Parameter.categorical("p", ("a",)), "two choices or more"),
        (lambda: Parameter.categorical("p", ()), "two choices or more"),
        (lambda: Parameter.categorical("p", ("a", "b", "a")), "name one twice"),
        (lambda: Parameter.categorical("p", (2, 2.0)), "name one twice"),
        (lambda: Parameter.categorical("p", (True, "b")), "True is neither text nor a finite number"),
        (lambda: Parameter.categorical("p", ("a", float("nan"))), "neither text nor a finite number"),
        (lambda: Parameter("p", 0.0, 1.0, choices=("a", "b")), "belong to a categorical"),
        (lambda: Parameter("p", 0.0, 1.0, kind="boolean"), "none of 'real'"),
        (lambda: Parameter("p", 0, 1, "log", "", "categorical", ("a", "b")), "no scale and no range"),
        (lambda: Parameter("p", 0, 1, kind="categorical", choices=("a", "b"), prior=Prior(0, 1)), "have no order"),
        (lambda: Parameter("p", 0.0, 1.0, prior=Prior(2.0, 0.5)), r"centre 2.0 lies outside of \[0.0, 1.0\]"),
        (lambda: Parameter("p", 0.0, 1.0, prior=Prior(float("nan"), 0.5)), "centre nan lies outside"),
        (lambda: Parameter("p", 0.0, 1.0, prior=Prior(0.5, 0.0)), "width must be above 0"),
        (lambda: Parameter("p", 1.0, 2.0, "log", prior=Prior(1.5, 0.5)), "a factor above 1"),
        (lambda: Parameter("p", 0.0, 1.0, prior=Prior(0.5, 1e-6)), "fix the parameter instead"),
        (lambda: Parameter("p", 0.0, 1.0, prior=Prior(0.5, 50.0)), "leave the prior out"),
    ],
)
def test_bad_parameters(make, reason):
    with pytest.raises(ParameterError, match=reason):
        make()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("radius", 9.0, r"radius = 9.0 Bohr lies outside \[2, 8\]"),
        ("radius", float("nan"), "lies outside"),
        ("radius", "wide", "lies outside"),
        ("power", 2.5, "not a whole number"),
        ("kind", "square", "choices are: power, woods-saxon, 3.5"),
    ],
)
def test_values_that_a_parameter_cannot_take(name, value, reason):
    parameter = next(p for p in MIXED.parameters if p.name == name)
    with pytest.raises(ParameterError, match=reason):
        parameter.check(value)


def test_nearest_values():
    radius, power, kind = MIXED.parameters
    assert (radius.nearest(9.0), radius.nearest(3.0)) == (8.0, 3.0)
    assert (power.nearest(1.2), power.nearest(4.6), power.nearest(99)) == (2, 5, 9)
    assert (kind.nearest("power"), kind.nearest(7.0)) == ("power", 3.5)
    with pytest.raises(ParameterError, match="'square' is no choice"):
        kind.nearest("square")
    with pytest.raises(ParameterError, match="'square' is no choice"):
        kind.to_unit("square")


def test_borders():
    radius, power, kind = MIXED.parameters
    assert [radius.at_border(v) for v in (2.0, 2.02, 2.1, 7.99)] == [True, True, False, True]
    assert [power.at_border(v) for v in (2, 3, 9)] == [True, False, True]
    assert not kind.at_border("power")
    # The border is the range's: a prior that stretches it in the cube does not move it.
    steep = Parameter("p", 0.0, 1.0, prior=Prior(0.0, 0.01))
    assert steep.to_unit(0.05) > 0.9
    assert not steep.at_border(0.05)


def test_settings_tell_spaces_apart():
    plain = Parameter("r", 2.0, 8.0, "log", "Bohr")
    assert SearchSpace((plain,)).settings() == {"r": {"low": 2.0, "high": 8.0, "scale": "log", "unit": "Bohr"}}
    others = [
        Parameter("r", 2.0, 8.0, "log", "Bohr", prior=Prior(3.0, 1.5)),
        Parameter.integer("r", 2, 8, "log", "Bohr"),
        Parameter.categorical("r", (2.0, 8.0), "Bohr"),
    ]
    texts = {json.dumps(p.settings(), sort_keys=True) for p in (plain, *others)}
    assert len(texts) == 4


def test_space_round_trip():
    values = {"r_s": 3.65, "sigma": 0.52}
    x = SPACE.to_unit(values)
    assert x.shape == (len(SPACE),) == (2,)
    assert SPACE.from_unit(x) == pytest.approx(values)
    assert SPACE.from_unit(np.array([0.5, 0.5]))["sigma"] == pytest.approx((0.1 * 3.0) ** 0.5)
    for space in (SPACE, MIXED):
        space.snap([0.5] * len(space))
        assert pickle.loads(pickle.dumps(space)) == space


def test_bad_space():
    with pytest.raises(ParameterError, match="at least one"):
        SearchSpace(())
    with pytest.raises(ParameterError, match="names twice: r_s"):
        SearchSpace((SPACE.parameters[0], SPACE.parameters[0]))
    with pytest.raises(ParameterError, match="miss the parameters sigma"):
        SPACE.to_unit({"r_s": 3.0})
    for call in (SPACE.from_unit, SPACE.snap, SPACE.place):
        with pytest.raises(ParameterError, match="3 numbers does not fit a space of 2"):
            call([0.1, 0.2, 0.3])
