"""The parts of the proposers whose right answer is known."""

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import qmc

from dftbparam.errors import ParameterError
from dftbparam.propose import proposer, proposer_names
from dftbparam.propose.skopt import FIT_POINTS, SkoptProposer, fit_subset, log_h, success_probability, transform
from dftbparam.propose.sobol import sobol_points


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        ParameterError, match=r"no proposer 'skpt'; there are: skopt, sobol, random; did you mean 'skopt'"
    ):
        proposer("skpt")


def test_unknown_option() -> None:
    with pytest.raises(ParameterError, match="colour"):
        proposer("skopt", colour="red")
    with pytest.raises(ParameterError, match="candidates"):
        proposer("skopt", candidates=0)


def test_naming_a_proposer_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dftbparam.propose import proposer; proposer('skopt'); "
        "print(sorted({'skopt', 'sklearn', 'torch', 'dask'} & set(sys.modules)))"
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
    t = transform(y)
    assert (np.diff(t) > 0).all()
    assert t[0] == 0.0
    assert t[-1] < 25.0
    np.testing.assert_allclose(transform(3.0 * y + 7.0), t, rtol=1e-7)
    np.testing.assert_array_equal(transform(np.full(4, 2.0)), np.zeros(4))


def test_fit_subset_holds_the_best() -> None:
    t = np.random.default_rng(0).random(350)
    rows = fit_subset(t)
    assert len(rows) == len(set(rows)) == FIT_POINTS
    assert set(np.argsort(t)[: FIT_POINTS // 2]) <= set(rows)
    np.testing.assert_array_equal(fit_subset(t[:20]), np.arange(20))


def test_success_probability_finds_the_border() -> None:
    X = np.random.default_rng(0).random((60, 2))
    feasible = X[:, 0] > 0.3
    p = success_probability(np.array([[0.05, 0.5], [0.9, 0.5]]), X, feasible)
    assert p[0] < 0.05
    assert p[1] > 0.95
    assert (success_probability(X, X, np.ones(60, bool)) == 1.0).all()
    assert (success_probability(X, X, np.zeros(60, bool)) < 0.5).all()


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
