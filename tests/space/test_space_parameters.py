import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.errors import ParameterError
from dftbparam.space import Parameter, SearchSpace

SPACE = SearchSpace((Parameter("r_s", 2.1, 14.7, unit="Bohr"), Parameter("sigma", 0.1, 3.0, scale="log")))


@st.composite
def parameters(draw):
    scale = draw(st.sampled_from(["linear", "log"]))
    low = draw(st.floats(1e-3, 1e3) if scale == "log" else st.floats(-1e3, 1e3))
    return Parameter("p", low, low + draw(st.floats(1e-3, 1e3)), scale=scale)


@settings(deadline=None)
@given(parameters(), st.floats(0.0, 1.0))
def test_unit_cube_and_back(parameter, x):
    value = parameter.from_unit(x)
    assert parameter.low <= value <= parameter.high
    # A range narrow against its distance from zero keeps fewer digits of x.
    digits = 1e-15 * max(abs(parameter.low), abs(parameter.high)) / (parameter.high - parameter.low)
    assert parameter.to_unit(value) == pytest.approx(x, abs=1e-9 + 100 * digits)


@given(parameters())
def test_ends_are_met_exactly(parameter):
    assert parameter.from_unit(0.0) == pytest.approx(parameter.low, rel=1e-14)
    assert parameter.from_unit(1.0) == pytest.approx(parameter.high, rel=1e-14)


@pytest.mark.parametrize(
    ("low", "high", "scale", "reason"),
    [
        (2.0, 1.0, "linear", r"upside down or empty; did you mean \[1.0, 2.0\]"),
        (1.0, 1.0, "linear", "upside down or empty"),
        (0.0, float("inf"), "linear", "must be finite"),
        (float("nan"), 1.0, "linear", "must be finite"),
        (0.0, 1.0, "log", "needs low > 0"),
        (0.0, 1.0, "cubic", "neither 'linear' nor 'log'"),
    ],
)
def test_bad_range(low, high, scale, reason):
    with pytest.raises(ParameterError, match=reason):
        Parameter("p", low, high, scale=scale)


def test_space_round_trip():
    values = {"r_s": 3.65, "sigma": 0.52}
    x = SPACE.to_unit(values)
    assert x.shape == (len(SPACE),) == (2,)
    assert SPACE.from_unit(x) == pytest.approx(values)
    assert SPACE.from_unit(np.array([0.5, 0.5]))["sigma"] == pytest.approx((0.1 * 3.0) ** 0.5)
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE


def test_bad_space():
    with pytest.raises(ParameterError, match="at least one"):
        SearchSpace(())
    with pytest.raises(ParameterError, match="names twice: r_s"):
        SearchSpace((SPACE.parameters[0], SPACE.parameters[0]))
    with pytest.raises(ParameterError, match="miss the parameters sigma"):
        SPACE.to_unit({"r_s": 3.0})
    with pytest.raises(ParameterError, match="3 numbers does not fit a space of 2"):
        SPACE.from_unit([0.1, 0.2, 0.3])
