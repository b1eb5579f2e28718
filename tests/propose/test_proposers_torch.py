"""What the proposers with PyTorch are made of; skipped, visibly, where it is not installed (the extra ``bo``)."""

import numpy as np
import pytest

from dftbparam.propose import proposer
from dftbparam.propose.posterior import Transform
from dftbparam.propose.sobol import sobol_points
from dftbparam.propose.success import SuccessModel

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'dftbparam[bo]'")
pytest.importorskip("botorch", reason="BoTorch is not installed: pip install 'dftbparam[bo]'")

NONE = np.empty((0, 2))


def planted(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = sobol_points(0, n, 2, 3)
    return X, 2.0 + ((X - 0.4) ** 2).sum(axis=1)


@pytest.mark.parametrize("name", ["botorch", "turbo"])
def test_torch_is_left_as_it_was(name: str) -> None:
    import torch

    torch.set_num_threads(2)
    state, kind = torch.get_rng_state(), torch.get_default_dtype()
    X, y = planted(12)
    proposer(name).propose(X, y, np.ones(12, bool), NONE, 12, 0, 3)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == kind
    torch.manual_seed(5)
    again = proposer(name).propose(X, y, np.ones(12, bool), NONE, 12, 0, 3)
    torch.manual_seed(6)
    assert proposer(name).propose(X, y, np.ones(12, bool), NONE, 12, 0, 3).points.tobytes() == again.points.tobytes()


def test_log_success_is_that_of_numpy() -> None:
    import torch

    from dftbparam.propose.torch_model import log_success, tensor

    X = np.random.default_rng(0).random((50, 2))
    model = SuccessModel(X, X.sum(axis=1) > 0.7)
    points = np.random.default_rng(1).random((5, 1, 2))
    values = log_success(model)(tensor(points))
    assert values.shape == (5, 1)
    np.testing.assert_allclose(np.exp(values.numpy()[:, 0]), model(points[:, 0]), rtol=1e-9)
    assert torch.autograd.gradcheck(log_success(model), tensor(points).requires_grad_())
    certain = log_success(SuccessModel(X, np.ones(50, bool)))
    assert (certain(tensor(points)) == 0.0).all()


def test_the_model_knows_a_bowl() -> None:
    from dftbparam.propose.torch_model import Model, torch_numbers

    X, y = planted(30)
    transform = Transform.of(y)
    with torch_numbers(0):
        model = Model(X, transform(y))
        assert model.best == pytest.approx((transform(y).mean() - 0.0) / transform(y).std())
        at_best = model.improvement(np.array([0.4, 0.4]), transform)
        far = model.improvement(np.array([0.99, 0.01]), transform)
    assert at_best == pytest.approx(y.min() - 2.0, rel=0.3)
    assert far < 1e-3 * at_best
    assert model.lengths.shape == (2,)


def test_more_trials_than_the_posterior_holds() -> None:
    X, y = planted(350)
    proposal = proposer("botorch").propose(X, y, np.ones(350, bool), NONE, 350, 0)
    assert np.abs(proposal.points - 0.4).max() < 0.05


def test_a_cloud_is_chosen_from_by_success_and_apart_from_what_is_pending() -> None:
    from dftbparam.propose.botorch import _from_cloud
    from dftbparam.propose.torch_model import Model, torch_numbers

    X, y = planted(12)
    cloud = np.random.default_rng(4).random((200, 2))
    likely = np.where(cloud[:, 0] > 0.5, 1e-6, 1.0)
    with torch_numbers(0):
        model = Model(X, Transform.of(y)(y))
        alone = _from_cloud(model, NONE, cloud, np.ones(200), 6)
        wary = _from_cloud(model, NONE, cloud, likely, 6)
    assert len(np.unique(alone, axis=0)) == 6
    assert (wary[:, 0] <= 0.5).all()


@pytest.mark.parametrize("name", ["botorch", "turbo"])
def test_expected_improvement_fades(name: str) -> None:
    X, y = planted(8)
    promised = []
    for k in range(8, 20):
        proposal = proposer(name).propose(X, y, np.ones(len(X), bool), NONE, k, 0)
        assert proposal.improvement is not None
        promised.append(proposal.improvement)
        X = np.vstack([X, proposal.points])
        y = 2.0 + ((X - 0.4) ** 2).sum(axis=1)
    assert max(promised[:3]) < 1.0
    assert min(promised[-3:]) < 0.1 * max(promised[:3])


def test_failures_are_avoided() -> None:
    X = sobol_points(0, 8, 2, 0)
    for k in range(8, 20):
        feasible = X.sum(axis=1) > 0.8
        y = np.where(feasible, ((X - 0.55) ** 2).sum(axis=1), np.nan)
        X = np.vstack([X, proposer("botorch").propose(X, y, feasible, NONE, k, 0).points])
    assert np.count_nonzero(X[8:].sum(axis=1) <= 0.8) <= 3
    assert np.abs(X - 0.55).max(axis=1).min() < 0.02
