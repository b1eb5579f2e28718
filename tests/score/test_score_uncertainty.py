"""Near-optimal ensembles, against functions whose sensitivities are known in closed form."""

import numpy as np
import pytest

from dftbparam.errors import ParameterError
from dftbparam.score.uncertainty import near_optimal, total_effects, uncertainty


def test_near_optimal_is_sorted_and_inclusive():
    assert near_optimal([3.0, 1.1, 1.0, 1.2, 1.1], 0.1).tolist() == [2, 1, 4]
    assert near_optimal([0.0, 1e-9], 0.1).tolist() == [0]


@pytest.mark.parametrize(("objectives", "tolerance"), [([], 0.1), ([1.0, np.nan], 0.1), ([1.0], 0.0), ([1.0], -1.0)])
def test_near_optimal_refuses(objectives, tolerance):
    with pytest.raises(ParameterError, match="ensemble"):
        near_optimal(objectives, tolerance)


def test_total_effects_of_ishigami():
    # Ishigami and Homma 1990: f = sin x1 + a sin^2 x2 + b x3^4 sin x1, x in [-pi, pi]; a = 7, b = 0.1.
    a, b = 7.0, 0.1

    def ishigami(u):
        x = np.pi * (2.0 * u - 1.0)
        return np.sin(x[:, 0]) + a * np.sin(x[:, 1]) ** 2 + b * x[:, 2] ** 4 * np.sin(x[:, 0])

    v1, v2 = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8
    v13 = b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    exact = np.array([v1 + v13, v2, v13]) / (v1 + v2 + v13)
    np.testing.assert_allclose(total_effects(ishigami, 3, points=4096), exact, atol=0.01)


def test_total_effects_of_a_constant():
    assert total_effects(lambda u: np.ones(len(u)), 2).tolist() == [0.0, 0.0]


def _bowl(n=80, seed=1):
    """Log objective is a quadratic bowl: 30 (x - 0.4)^2 + 1 (y - 0.6)^2 + nothing of z."""
    x = np.random.default_rng(seed).random((n, 3))
    x[0] = (0.4, 0.6, 0.5)
    log = 30.0 * (x[:, 0] - 0.4) ** 2 + (x[:, 1] - 0.6) ** 2
    crystals = [{"fcc": {"dV": 10.0 * p[0], "dB": None, "dE": 0.0}, "bcc": {"dV": None}} for p in x]
    return x, np.exp(log), crystals


def _found(tolerance=0.1, **kwargs):
    x, y, crystals = _bowl(**kwargs)
    return uncertainty(
        x,
        y,
        crystals,
        names=("a", "b", "c"),
        from_unit=lambda u: {"a": 10.0 * u[0], "b": 2.0 - u[1], "c": u[2]},
        ranges={"a": (0.0, 10.0, False), "b": (1.0, 2.0, False), "c": (0.0, 1.0, False)},
        indices=np.arange(len(y)) + 100,
        tolerance=tolerance,
    )


def test_bowl():
    found = _found()
    assert found.members[0] == 100
    assert found.best_objective == 1.0
    assert found.model_r2 > 0.99
    a, b, c = found.parameters
    # exp(30 u^2) = 1.1 at u = 0.0564; the second falls with the coordinate and its interval is turned round.
    assert a.interval == pytest.approx((10 * (0.4 - 0.0564), 10 * (0.4 + 0.0564)), abs=0.1)
    assert b.interval == pytest.approx((2 - 0.6 - 0.3087, 2 - 0.6 + 0.3087), abs=0.05)
    assert c.interval == (0.0, 1.0)
    assert a.total_effect > 0.9 > 0.1 > b.total_effect
    assert c.total_effect < 0.01
    assert a.spread.low <= a.spread.best <= a.spread.high
    assert a.spread.best == pytest.approx(4.0)


def test_crystals_of_the_ensemble():
    fcc, bcc = _found().crystals
    assert fcc.dV.best == pytest.approx(4.0)
    assert fcc.dV.high - fcc.dV.low < 2 * 0.6
    assert fcc.dB is None
    assert fcc.without_minimum == 0
    assert bcc.without_minimum == len(_found().members)


def test_share_of_the_range_is_on_the_scale_of_the_parameter():
    # The cube is stretched, as by a prior; the range is not.
    found = uncertainty(
        np.array([[0.1], [0.9]]),
        [1.0, 1.0],
        [{}, {}],
        names=("a",),
        from_unit=lambda u: {"a": 4.0 if u[0] < 0.5 else 8.0},
        ranges={"a": (1.0, 64.0, True)},
    )
    assert found.parameters[0].share_of_range == pytest.approx(1.0 / 6.0)


def test_few_trials_have_no_model():
    found = _found(n=5)
    assert found.model_r2 is None
    assert all(p.interval is None and p.total_effect is None for p in found.parameters)


def test_same_every_time():
    assert _found() == _found()


def test_shapes_must_fit():
    x, y, crystals = _bowl()
    with pytest.raises(ParameterError, match="do not fit"):
        uncertainty(x[:, :2], y, crystals, names=("a", "b", "c"), from_unit=lambda u: {}, ranges={})
