"""The parts of the proposers whose right answer is known."""

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import qmc

from dftbparam.errors import ParameterError
from dftbparam.propose import proposer, proposer_names
from dftbparam.propose.posterior import Kernel, Posterior, Transform, log_h, subset
from dftbparam.propose.skopt import SkoptProposer
from dftbparam.propose.sobol import sobol_points
from dftbparam.propose.success import SuccessModel


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        ParameterError, match=r"no proposer 'skpt'; there are: skopt, sobol, random, .*; did you mean 'skopt'"
    ):
        proposer("skpt")


def test_unknown_option() -> None:
    with pytest.raises(ParameterError, match="colour"):
        proposer("skopt", colour="red")
    with pytest.raises(ParameterError, match="candidates"):
        proposer("skopt", candidates=0)


def test_naming_a_proposer_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dftbparam.propose import proposer; proposer('skopt'); proposer('cmaes'); "
        "import dftbparam.propose.botorch, dftbparam.propose.turbo; "
        "print(sorted({'skopt', 'sklearn', 'cmaes', 'torch', 'botorch', 'gpytorch', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sobol_points_are_the_sequence() -> None:
    whole = qmc.Sobol(3, scramble=True, rng=np.random.default_rng(11)).random(16)
    np.testing.assert_array_equal(sobol_points(0, 16, 3, 11), whole)
    np.testing.assert_array_equal(sobol_points(5, 4, 3, 11), whole[5:9])
    assert sobol_points(3, 0, 3, 11).shape == (0, 3)


def test_log_h_against_many_digits() -> None:
    """Reference: mpmath with 80 digits."""
    exact = {
        8.0: 2.0794415416798357,
        1.0: 0.08002621884930694,
        0.0: -0.9189385332046728,
        -0.5: -1.6205162643873199,
        -0.9999: -2.484930602199176,
        -1.0001: -2.485311456445883,
        -5.0: -16.74430116266099,
        -30.0: -457.724653760598,
        -900.0: -405014.52373176353,
        -1100.0: -605014.9250719302,
    }
    np.testing.assert_allclose(log_h(np.array(list(exact))), list(exact.values()), rtol=1e-10, atol=1e-15)
    assert np.isfinite(log_h(np.array([-1e6, 1e6, -1e3]))).all()


def test_transform_keeps_order_and_tames_the_tail() -> None:
    y = np.array([1.0, 1.1, 1.2, 1.4, 2.0, 1e9])
    t = Transform.of(y)(y)
    assert (np.diff(t) > 0).all()
    assert t[0] == 0.0
    assert t[-1] < 25.0
    np.testing.assert_allclose(Transform.of(3.0 * y + 7.0)(3.0 * y + 7.0), t, rtol=1e-7)
    same = np.full(4, 2.0)
    np.testing.assert_array_equal(Transform.of(same)(same), np.zeros(4))


@pytest.mark.parametrize(("mean", "deviation"), [(0.4, 0.5), (-0.3, 0.2), (1.5, 0.6), (0.0, 1.0)])
def test_improvement_is_that_of_the_untransformed_objective(mean: float, deviation: float) -> None:
    """Against the integral over draws of t, taken back to y."""
    transform = Transform.of(np.array([3.0, 3.5, 4.0, 9.0, 20.0]))
    grid = np.linspace(-9, 9, 200_001)
    weights = np.exp(-0.5 * grid**2)
    y = transform.low + transform.scale * np.expm1(mean + deviation * grid)
    expected = (weights * np.maximum(3.0 - y, 0.0)).sum() / weights.sum()
    assert transform.improvement(mean, deviation) == pytest.approx(expected, rel=1e-5)


def test_improvement_at_the_ends() -> None:
    transform = Transform.of(np.array([3.0, 3.5, 4.0, 9.0, 20.0]))
    assert transform.improvement(5.0, 0.0) == 0.0
    assert transform.improvement(800.0, 30.0) == pytest.approx(0.0, abs=1e-9)
    # All but certain to be e^-2 of the scale below the best.
    assert transform.improvement(-2.0, 1e-9) == pytest.approx(transform.scale * (1 - np.exp(-2.0)))


def test_subset_holds_the_best() -> None:
    t = np.random.default_rng(0).random(350)
    rows = subset(t, 100)
    assert len(rows) == len(set(rows)) == 100
    assert set(np.argsort(t)[:50]) <= set(rows)
    np.testing.assert_array_equal(subset(t[:20], 100), np.arange(20))


KERNEL = Kernel(amplitude=1.3, lengths=np.array([0.3, 0.6]), noise=1e-4)


def planted(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = sobol_points(0, n, 2, 3)
    return X, ((X - 0.4) ** 2).sum(axis=1)


def test_posterior_goes_through_the_data() -> None:
    X, y = planted(30)
    none = np.empty((0, 2))
    posterior = Posterior(KERNEL, X, y, none, none)
    cloud = posterior.candidates(X)
    for j in (0, 7, 29):
        mean, deviation = posterior.of_t(cloud, j)
        assert mean == pytest.approx(y[j], abs=2e-3)
        assert deviation < 0.02
    assert posterior.of_t(posterior.candidates(np.array([[0.999, 0.001]])), 0)[1] > 0.02


def test_believed_one_by_one_as_all_at_once() -> None:
    X, y = planted(20)
    extra, points = np.random.default_rng(1).random((6, 2)), np.random.default_rng(2).random((40, 2))
    none = np.empty((0, 2))
    grown = Posterior(KERNEL, X, y, none, none, room=6)
    cloud = grown.candidates(points, room=6)
    for x in extra:
        grown.choose(grown.candidates(x[None, :]), 0, cloud)
    at_once = Posterior(KERNEL, X, y, extra, none)
    expected = at_once.candidates(points)
    np.testing.assert_allclose(cloud.variance, expected.variance, atol=1e-10)
    np.testing.assert_allclose(cloud.mean, expected.mean, atol=1e-10)
    assert grown.best == pytest.approx(at_once.best, abs=1e-10)
    # Failed points take uncertainty away, but are nobody's best.
    failed = Posterior(KERNEL, X, y, none, extra)
    np.testing.assert_allclose(failed.candidates(points).variance, expected.variance, atol=1e-10)
    assert failed.best == pytest.approx((y.min() - y.mean()) / y.std())


def test_success_probability_finds_the_border() -> None:
    X = np.random.default_rng(0).random((60, 2))
    feasible = X[:, 0] > 0.3
    p = SuccessModel(X, feasible)(np.array([[0.05, 0.5], [0.9, 0.5]]))
    assert p[0] < 0.05
    assert p[1] > 0.95
    assert (SuccessModel(X, np.ones(60, bool))(X) == 1.0).all()
    assert (SuccessModel(X, np.zeros(60, bool))(X) < 0.5).all()


def test_expected_improvement_fades() -> None:
    """On a bowl that the model knows ever better, what it promises must shrink, and be of the size of what is left."""
    X = sobol_points(0, 6, 2, 0)
    promised = []
    for k in range(6, 24):
        y = 2.0 + ((X - 0.55) ** 2).sum(axis=1)
        proposal = SkoptProposer().propose(X, y, np.ones(len(X), bool), np.empty((0, 2)), k, 0)
        assert proposal.improvement is not None
        promised.append(proposal.improvement)
        X = np.vstack([X, proposal.points])
    assert max(promised) < 1.0
    assert max(promised[-3:]) < 1e-3
    assert max(promised[:4]) > 10 * max(promised[-3:])


def test_failures_are_avoided() -> None:
    """A third of the square fails and the minimum is not far from it; few trials may be wasted there."""
    X = sobol_points(0, 8, 2, 0)
    for k in range(8, 30):
        feasible = X.sum(axis=1) > 0.8
        y = np.where(feasible, ((X - 0.55) ** 2).sum(axis=1), np.nan)
        X = np.vstack([X, SkoptProposer().propose(X, y, feasible, np.empty((0, 2)), k, 0).points])
    assert np.count_nonzero(X[8:].sum(axis=1) <= 0.8) <= 4
    assert np.abs(X - 0.55).max(axis=1).min() < 0.005


def test_a_hundred_points_take_half_a_second() -> None:
    X = np.random.default_rng(0).random((100, 6))
    y = ((X - 0.3) ** 2).sum(axis=1)
    chosen = SkoptProposer()
    chosen.propose(X[:5], y[:5], np.ones(5, bool), np.empty((0, 6)), 5, 0)  # imports
    begun = time.process_time()
    chosen.propose(X, y, np.ones(100, bool), np.empty((0, 6)), 100, 0)
    # Processor time, which other programs on the machine do not lengthen; measured 0.15 s.
    assert time.process_time() - begun < 0.5


def test_names() -> None:
    assert proposer_names()[0] == "skopt"
