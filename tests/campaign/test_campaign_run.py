"""The loop: planted optimum, budget, resuming, interrupts, contradictions."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_evaluation import OPTIMUM, bowl, by_kind
from threadpoolctl import threadpool_info

from dftbparam.campaign.executor import SerialExecutor
from dftbparam.campaign.executor import executor as make_executor
from dftbparam.campaign.result import Outcome, TrialResult, run_one
from dftbparam.campaign.run import CampaignOutcome, Progress, default_batch, default_in_flight, run_campaign
from dftbparam.errors import EngineError, EngineMissing, ParameterError, StoreError
from dftbparam.propose.base import Proposal
from dftbparam.propose.sobol import sobol_points
from dftbparam.space import Parameter, SearchSpace
from dftbparam.store import Trial, TrialStore

SPACE = SearchSpace(
    (
        Parameter("r_s", 2.0, 8.0, "log", "Bohr"),
        Parameter("r_p", 2.0, 9.0, unit="Bohr"),
        Parameter("r_d", 2.0, 9.0, unit="Bohr"),
    )
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trials.sqlite"


def run(path: Path, evaluate: Callable[[dict[str, float], Any], TrialResult] = bowl, **options: Any) -> CampaignOutcome:
    arguments = {"evaluations": 14, "in_flight": 3, "proposer": "skopt", "seed": 2} | options
    space = arguments.pop("space", SPACE)
    with TrialStore.open(path) as store:
        return run_campaign(space, evaluate, arguments.pop("context", None), store=store, run_id="test", **arguments)


def listed(trials: list[Trial]) -> list[tuple[object, ...]]:
    """What must not depend on how a run went."""
    return [(t.index, t.x, t.parameters, t.status, t.objective, t.metrics, t.settings_hash) for t in trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    return listed(run(tmp_path_factory.mktemp("whole") / "t.sqlite").trials)


class Countdown:
    """An evaluation that does something at its n-th call and counts all of them."""

    def __init__(self, at: int, do: Callable[[], None]) -> None:
        self.at, self.do = at, do
        self.points: list[dict[str, float]] = []

    def __call__(self, parameters: dict[str, float], context: Any) -> TrialResult:
        self.points.append(parameters)
        if len(self.points) == self.at:
            self.do()
        return bowl(parameters, context)


def test_planted_optimum_is_recovered(path: Path) -> None:
    outcome = run(path, evaluations=40)
    assert outcome.best is not None
    assert outcome.best.objective == pytest.approx(0.25, abs=0.003)
    for name, value in (("r_s", 3.1), ("r_p", 5.2)):
        assert outcome.best.parameters[name] == pytest.approx(value, abs=0.15), OPTIMUM
    assert len(outcome.trials) == outcome.evaluated == 40
    assert not outcome.interrupted
    assert set(outcome.failures) <= {"ScfNotConverged"}
    assert outcome.run.settings["campaign"]["in_flight"] == 3


def test_what_is_returned_is_what_is_stored(path: Path) -> None:
    outcome = run(path)
    with TrialStore.open(path) as store:
        stored = store.trials("test")
    assert stored == outcome.trials
    for trial in stored:
        assert trial.parameters == SPACE.from_unit(trial.x)
        assert (trial.status == "finished") == (trial.objective is not None) == (trial.error is None)


def test_same_seed_same_trials_other_seed_other_trials(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    assert listed(run(path).trials) == undisturbed
    other = run(path.with_name("other.sqlite"), seed=3, evaluations=3)
    assert [t.x for t in other.trials] != [t[1] for t in undisturbed[:3]]


def test_two_workers_give_the_trials_of_one(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    outcome = run(path, executor=make_executor(2), context={"sleep": 0.05})
    assert listed(outcome.trials) == undisturbed
    assert len({trial.details["pid"] for trial in outcome.trials if trial.details}) == 2


def test_every_result_is_stored_before_the_next_is_asked_for(path: Path) -> None:
    class Watching(SerialExecutor):
        collected = 0

        def submit(self, index: int, parameters: dict[str, float]) -> None:
            with TrialStore.open(path) as store:
                assert len(store.trials("test")) == self.collected
            super().submit(index, parameters)

        def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
            ended = super().collect(timeout)
            self.collected += len(ended)
            return ended

    place = Watching()
    run(path, executor=place)
    assert place.collected == 14


# --- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 9, 14])
def test_a_crash_and_a_resume(path: Path, undisturbed: list[tuple[object, ...]], at: int) -> None:
    class PulledPlugError(BaseException):
        pass

    def pull() -> None:
        raise PulledPlugError

    evaluate = Countdown(at, pull)
    with pytest.raises(PulledPlugError):
        run(path, evaluate)
    with TrialStore.open(path) as store:
        assert listed(store.trials("test")) == undisturbed[: at - 1]
    again = Countdown(0, pull)
    outcome = run(path, again, resume=True)
    assert listed(outcome.trials) == undisturbed
    assert outcome.evaluated == len(again.points) == 14 - at + 1


def test_resuming_a_finished_run_does_nothing(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    run(path)
    outcome = run(path, Countdown(1, lambda: pytest.fail("evaluated again")), resume=True)
    assert listed(outcome.trials) == undisturbed
    assert outcome.evaluated == 0


def test_a_bigger_budget_goes_on(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    assert len(run(path, evaluations=9).trials) == 9
    outcome = run(path, evaluations=14, resume=True)
    assert listed(outcome.trials) == undisturbed
    assert outcome.evaluated == 5
    assert outcome.run.budget == {"evaluations": 14, "patience": None}


def test_resuming_keeps_the_depth_whatever_the_workers(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    run(path, evaluations=9)
    assert listed(run(path, resume=True, in_flight=None, n_initial=None).trials) == undisturbed


def test_resume_begins_what_is_not_there(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    assert listed(run(path, resume=True).trials) == undisturbed


def test_an_existing_run_is_not_touched_without_resume(path: Path) -> None:
    run(path, evaluations=2)
    with pytest.raises(ParameterError, match=r"already; go on with it \(--resume\), or choose another --out"):
        run(path)


def test_a_run_without_trials_is_begun_again(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    class Nowhere(SerialExecutor):
        def start(self, evaluate: object, context: object) -> None:
            raise EngineError("no workers")

    with pytest.raises(EngineError, match="no workers"):
        run(path, executor=Nowhere())
    with pytest.raises(ParameterError, match="other settings"):
        run(path, seed=3)
    assert listed(run(path).trials) == undisturbed


def test_evaluations_in_this_process_have_one_thread(path: Path) -> None:
    def evaluate(parameters: dict[str, float], context: object) -> TrialResult:
        seen.update(info["num_threads"] for info in threadpool_info())
        return bowl(parameters, context)

    seen: set[int] = set()
    run(path, evaluate, evaluations=3)
    assert seen == {1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 5}, "campaign.seed: was 2, now 5"),
        ({"proposer": "sobol"}, "campaign.proposer: was 'skopt', now 'sobol'"),
        ({"in_flight": 2}, "campaign.in_flight: was 3, now 2"),
        ({"n_initial": 5}, "campaign.n_initial: was 8, now 5"),
        ({"settings": {"engine": "dftb+"}}, "evaluation.engine: was 'embedded', now 'dftb\\+'"),
        (
            {"starting_points": [{"r_s": 3.0, "r_p": 3.0, "r_d": 3.0}], "n_initial": 8},
            "campaign.starting_points differs",
        ),
        ({"space": SearchSpace((*SPACE.parameters[:2], Parameter("r_d", 2.0, 9.5, unit="Bohr")))}, "space.r_d.high"),
        ({"space": SearchSpace(SPACE.parameters[::-1])}, "parameters: was"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_contradictions_are_named(path: Path, changes: dict[str, Any], words: str) -> None:
    run(path, evaluations=2, settings={"engine": "embedded"})
    with pytest.raises(ParameterError, match=words):
        run(path, resume=True, **({"settings": {"engine": "embedded"}} | changes))


def test_contradictions_stand_one_a_line_the_element_first(path: Path) -> None:
    run(path, evaluations=2, settings={"engine": "a", "references": "x" * 900, "symbol": "Si"})
    with pytest.raises(ParameterError) as caught:
        run(path, resume=True, settings={"engine": "b", "references": "y" * 900, "symbol": "Ge"})
    assert str(caught.value).splitlines()[1:] == [
        "  evaluation.symbol: was 'Si', now 'Ge'",
        "  evaluation.engine: was 'a', now 'b'",
        "  evaluation.references differs",
    ]


def test_a_smaller_budget_than_there_are_trials_is_refused(path: Path) -> None:
    run(path, evaluations=4)
    with pytest.raises(ParameterError, match="has 4 trials already, more than the 3 asked for"):
        run(path, evaluations=3, resume=True)


def test_two_drivers_on_one_run(path: Path) -> None:
    with TrialStore.open(path) as store, store.exclusive("test"), pytest.raises(StoreError, match="another process"):
        run(path)


# --- interrupts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(path: Path, undisturbed: list[tuple[object, ...]], number: signal.Signals) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    outcome = run(path, Countdown(5, lambda: os.kill(os.getpid(), number)))
    assert outcome.interrupted
    # The evaluation that was running has been kept.
    assert listed(outcome.trials) == undisturbed[:5]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert listed(run(path, resume=True).trials) == undisturbed


def test_an_impatient_second_interrupt(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    outcome = run(path, Countdown(5, twice))
    assert outcome.interrupted
    assert listed(outcome.trials) == undisturbed[:4]
    assert listed(run(path, resume=True).trials) == undisturbed


def test_outside_the_main_thread(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    outcomes: list[CampaignOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(path)))
    thread.start()
    thread.join()
    assert listed(outcomes[0].trials) == undisturbed


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error"), [(2, ParameterError), (7, EngineMissing)])
def test_errors_that_end_a_campaign(path: Path, kind: int, error: type[Exception]) -> None:
    space = SearchSpace((Parameter("kind", 0.0, 9.0),))
    starts = [{"kind": 0.5}, {"kind": kind + 0.5}]
    with pytest.raises(error):
        run(path, by_kind, space=space, starting_points=starts)
    with TrialStore.open(path) as store:
        assert [t.objective for t in store.trials("test")] == [1.5]


def test_nothing_succeeds(path: Path) -> None:
    space = SearchSpace((Parameter("kind", 1.0, 1.9),))
    outcome = run(path, by_kind, space=space, evaluations=10)
    assert outcome.best is None
    assert outcome.failures == {"ScfNotConverged": 10}
    assert outcome.trials[0].error == {
        "type": "ScfNotConverged",
        "message": "not converged",
        "data": {"iterations": 7, "residual": 0.5},
    }


def test_defects_are_recorded_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = SearchSpace((Parameter("kind", 3.0, 3.9),))
    outcome = run(path, by_kind, space=space, evaluations=2)
    assert outcome.failures == {"ValueError": 2}
    assert "unexpected error" in caplog.text


# --- starting points, budget, progress ------------------------------------------------------------------------------


def test_starting_points_come_first(path: Path) -> None:
    published = {"r_s": 3.0, "r_p": 4.0, "r_d": 9.0}
    outcome = run(path, starting_points=[published, {"r_s": 4.0, "r_p": 4.0, "r_d": 5.0}, published], evaluations=3)
    assert outcome.trials[0].parameters == pytest.approx(published, rel=1e-12)
    assert outcome.trials[1].parameters["r_s"] == pytest.approx(4.0)
    # The one that was given twice is evaluated once.
    assert outcome.trials[2].parameters["r_d"] != 9.0
    assert outcome.run.settings["campaign"]["n_initial"] == 2 + 8


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"r_s": 1.0, "r_p": 4.0, "r_d": 4.0}, r"r_s = 1.0 Bohr lies outside \[2, 8\]"),
        ({"r_s": 3.0, "r_p": float("nan"), "r_d": 4.0}, "r_p = nan"),
        ({"r_s": 3.0, "r_p": 4.0}, "miss the parameters r_d"),
        ({"r_s": 3.0, "r_p": 4.0, "r_d": 4.0, "r_f": 4.0}, "names r_f, which the space lacks"),
    ],
)
def test_bad_starting_points(path: Path, point: dict[str, float], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        run(path, starting_points=[point])


def test_bad_numbers(path: Path) -> None:
    with pytest.raises(ParameterError, match="evaluations must be at least 1, got 0"):
        run(path, evaluations=0)
    with pytest.raises(ParameterError, match="no proposer 'tea leaves'"):
        run(path, proposer="tea leaves")
    with TrialStore.open(path) as store:
        assert store.runs() == []


def test_patience(path: Path) -> None:
    outcome = run(path, evaluations=200, patience=12, proposer="sobol")
    assert outcome.best is not None
    assert 12 < len(outcome.trials) < 200
    assert len(outcome.trials) >= outcome.best.index + 12


def test_progress(path: Path) -> None:
    events: list[Progress] = []
    outcome = run(path, on_progress=events.append)
    assert [e.done for e in events] == list(range(15))
    assert events[0].latest is None
    assert events[0].remaining is None
    assert all(e.remaining is not None and e.remaining > 0 for e in events[1:-1])
    assert events[-1].remaining == 0.0
    assert {e.total for e in events} == {14}
    assert events[-1].best == outcome.best
    assert events[-1].failed == sum(outcome.failures.values())
    assert events[-1].trial_seconds > 0
    objectives = [e.best.objective for e in events if e.best is not None]
    assert list(np.minimum.accumulate(objectives)) == objectives


def test_stop_event(path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    stop = threading.Event()
    outcome = run(path, Countdown(5, stop.set), stop=stop)
    assert outcome.interrupted
    assert outcome.ended is None
    assert listed(outcome.trials) == undisturbed[:5]
    assert listed(run(path, resume=True).trials) == undisturbed


class Planned:
    """A proposer of Sobol points that says what it expects, and waits where it is told to."""

    name, version = "planned", "1"

    def __init__(self, improvement: float | None = None, wait: Callable[[int], None] = lambda index: None) -> None:
        self.improvement, self.wait = improvement, wait
        self.asked: list[tuple[int, int]] = []

    def propose(self, X: Any, y: Any, feasible: Any, pending: Any, index: int, seed: int, count: int = 1) -> Proposal:
        self.asked.append((index, count))
        self.wait(index)
        return Proposal(sobol_points(index, count, X.shape[1], seed), self.improvement)


def test_results_are_stored_while_a_proposal_is_computed(path: Path) -> None:
    """Ended evaluations must not wait for the proposer: a driver killed meanwhile would lose them."""
    seen: list[int] = []

    class Immediate(SerialExecutor):
        """Hands over every result at once, as workers elsewhere do."""

        workers = 2

        def collect(self, timeout: float | None) -> list[tuple[int, Outcome]]:
            # Not by the class's own way, which waits for proposals in the same process.
            assert self._evaluate is not None
            done = [(index, run_one(self._evaluate, parameters, self._context)) for index, parameters in self._queue]
            self._queue.clear()
            return done

    def wait_for_all_but_one(index: int) -> None:
        end = time.monotonic() + 60
        with TrialStore.open(path) as store:
            while (found := len(store.trials("test"))) < index and time.monotonic() < end:
                time.sleep(0.01)
        seen.append(found)

    place = Immediate()
    outcome = run(path, executor=place, in_flight=4, n_initial=4, proposer=Planned(wait=wait_for_all_but_one))
    assert seen == list(range(4, 14))
    assert outcome.proposals == 10
    assert outcome.proposal_seconds is not None


def test_blocks(path: Path) -> None:
    proposer = Planned()
    outcome = run(path, proposer=proposer, n_initial=4, batch=4, evaluations=14)
    assert [t.index for t in outcome.trials] == list(range(14))
    assert proposer.asked == [(4, 4), (8, 4), (12, 4)]
    assert outcome.run.settings["campaign"]["batch"] == 4
    # A resumed run keeps its blocks; another number contradicts it.
    more = run(path, proposer=Planned(), n_initial=None, evaluations=17, resume=True)
    assert more.run.settings == outcome.run.settings
    with pytest.raises(ParameterError, match=r"campaign\.batch: was 4"):
        run(path, proposer=Planned(), batch=1, evaluations=17, resume=True)


def test_blocks_of_one_are_no_setting(path: Path) -> None:
    assert "batch" not in run(path, evaluations=1, batch=1).run.settings["campaign"]


def test_ends_where_no_improvement_is_expected(path: Path) -> None:
    outcome = run(path, proposer=Planned(0.01), n_initial=4, in_flight=1, min_improvement=0.02, evaluations=50)
    assert outcome.ended == "improvement"
    assert len(outcome.trials) == 4 + 2
    assert outcome.run.budget == {"evaluations": 50, "patience": None, "min_improvement": 0.02}
    assert len(run(path, proposer=Planned(0.01), n_initial=4, in_flight=1, evaluations=9, resume=True).trials) == 9


def test_time_of_proposals_is_reported(path: Path) -> None:
    events: list[Progress] = []
    outcome = run(path, proposer=Planned(), n_initial=13, on_progress=events.append)
    assert outcome.proposals == 1
    assert [e.proposal_seconds for e in events[:10]] == [None] * 10
    assert events[-1].proposal_seconds == outcome.proposal_seconds


def test_defaults_follow_the_workers(path: Path) -> None:
    settings = run(path, in_flight=None, evaluations=1).run.settings["campaign"]
    # In this process nothing is gained by proposing ahead.
    assert settings["in_flight"] == 1
    assert [default_in_flight(n) for n in (1, 2, 4, 8, 16, 256)] == [2, 4, 8, 16, 32, 512]
    assert [default_batch(n) for n in (1, 2, 7, 16, 31, 32, 256)] == [1, 1, 1, 4, 7, 16, 128]


def test_a_run_says_how_it_stands(path: Path) -> None:
    """So that `campaign status` tells a fit that ended early from one that was interrupted."""

    def state() -> tuple[str, str]:
        with TrialStore.open(path) as store:
            (found,) = store.overview("test")
        return found.state, found.message

    stop = threading.Event()
    run(path, Countdown(5, stop.set), stop=stop, proposer=Planned(0.5), n_initial=4)
    assert state() == ("interrupted", "")
    outcome = run(path, resume=True, proposer=Planned(0.5), n_initial=4, min_improvement=1.0)
    assert outcome.ended == "improvement"
    assert state() == ("finished", "no improvement expected")
