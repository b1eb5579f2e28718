"""Campaigns over whole numbers and choices: placed points, resumed runs, a space that runs out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dftbparam.campaign.result import TrialResult
from dftbparam.campaign.run import CampaignOutcome, run_campaign
from dftbparam.campaign.state import CampaignState
from dftbparam.errors import ParameterError
from dftbparam.propose import proposer
from dftbparam.space import Parameter, Prior, SearchSpace
from dftbparam.store import TrialStore

MIXED = SearchSpace(
    (
        Parameter("radius", 2.0, 8.0, "log", "Bohr", prior=Prior(3.0, 1.5)),
        Parameter.integer("power", 2, 9),
        Parameter.categorical("kind", ("power", "woods-saxon")),
    )
)
SMALL = SearchSpace((Parameter.integer("power", 2, 4), Parameter.categorical("kind", ("power", "woods-saxon"))))


def bowl(values: dict[str, Any], _context: Any) -> TrialResult:
    off = 0.3 if values["kind"] == "power" else 0.0
    return TrialResult(objective=(values.get("radius", 3.2) - 3.2) ** 2 + 0.1 * (values["power"] - 5) ** 2 + off)


def run(path: Path, space: SearchSpace = MIXED, **options: Any) -> CampaignOutcome:
    arguments: dict[str, Any] = {"evaluations": 20, "in_flight": 3, "proposer": "skopt", "seed": 2} | options
    with TrialStore.open(path) as store:
        return run_campaign(space, bowl, None, store=store, run_id="test", **arguments)


def listed(outcome: CampaignOutcome) -> list[tuple[Any, ...]]:
    return [(t.index, t.x, t.parameters, t.objective) for t in outcome.trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> CampaignOutcome:
    return run(tmp_path_factory.mktemp("whole") / "t.sqlite")


def test_values_are_what_parameters_can_take(undisturbed):
    for trial in undisturbed.trials:
        for parameter in MIXED.parameters:
            parameter.check(trial.parameters[parameter.name])
        assert type(trial.parameters["power"]) is int
        np.testing.assert_array_equal(MIXED.snap(trial.x), trial.x)
    assert undisturbed.best.parameters["kind"] == "woods-saxon"
    assert len({trial.x for trial in undisturbed.trials}) == 20


def test_a_resumed_run_is_the_same(undisturbed, tmp_path):
    path = tmp_path / "t.sqlite"
    run(path, evaluations=11)
    assert listed(run(path, resume=True)) == listed(undisturbed)


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        (Parameter("radius", 2.0, 8.0, "log", "Bohr", prior=Prior(3.0, 1.6)), "space.radius.prior.width"),
        (Parameter("radius", 2.0, 8.0, "log", "Bohr"), "space.radius.prior"),
        (Parameter.integer("radius", 2, 8, "log", "Bohr", prior=Prior(3.0, 1.5)), "space.radius.kind"),
    ],
)
def test_a_run_goes_on_with_its_own_space_only(tmp_path, parameter, name):
    path = tmp_path / "t.sqlite"
    run(path, evaluations=2, proposer="sobol")
    other = SearchSpace((parameter, *MIXED.parameters[1:]))
    with pytest.raises(ParameterError, match=name):
        run(path, other, evaluations=2, proposer="sobol", resume=True)


def test_a_space_without_another_point_ends_the_run(tmp_path):
    for name in ("sobol", "random", "skopt"):
        path = tmp_path / f"{name}.sqlite"
        outcome = run(path, SMALL, proposer=name)
        assert len(outcome.trials) == SMALL.size == 6
        assert len({tuple(trial.parameters.values()) for trial in outcome.trials}) == 6
        assert outcome.best.parameters == {"power": 4, "kind": "woods-saxon"}
        # It is at its end, however often it is resumed.
        assert listed(run(path, SMALL, proposer=name, resume=True)) == listed(outcome)


def test_the_state_says_that_the_space_is_used_up():
    state = CampaignState(2, proposer("sobol"), seed=1, evaluations=20, in_flight=4, n_initial=9, place=SMALL.place)
    while trial := state.next_ready():
        state.tell(*trial, 1.0)
    assert (state.ended, len(state.finished)) == ("space", 6)


def test_points_do_not_depend_on_the_order_of_results():
    def points(order: int) -> list[tuple[float, ...]]:
        state = CampaignState(3, proposer("skopt"), seed=3, evaluations=16, in_flight=4, n_initial=6, place=MIXED.place)
        while ready := state.ready() or list(state.running.items()):
            for index, x in ready[::order]:
                if index in state.running:
                    state.tell(index, x, bowl(MIXED.from_unit(x), None).objective)
        return [trial.x for trial in state.finished.values()]

    assert points(1) == points(-1)


def test_starting_points_of_all_kinds(tmp_path):
    start = {"radius": 3.0, "power": 4, "kind": "power"}
    outcome = run(tmp_path / "t.sqlite", starting_points=[start, start], evaluations=2, proposer="sobol")
    assert outcome.trials[0].parameters == pytest.approx(start)
    assert outcome.trials[1].parameters != outcome.trials[0].parameters
    for wrong, message in (
        ({"power": 4.5}, "starting point: power = 4.5 is not a whole number"),
        ({"kind": "hard"}, "'hard' is no choice; choices are: power, woods-saxon"),
        ({"radius": 9.0}, "radius = 9.0 Bohr lies outside"),
    ):
        with pytest.raises(ParameterError, match=message):
            run(tmp_path / "w.sqlite", starting_points=[start | wrong], evaluations=2, proposer="sobol")
