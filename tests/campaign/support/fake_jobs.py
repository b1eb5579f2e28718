"""Elements of a campaign without physics, for the driver: a search in two dimensions, a result of one file."""

import json
import math
import random
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_results import write

from dftbparam.campaign.result import TrialResult
from dftbparam.campaign.run import run_campaign
from dftbparam.errors import InputError, ScfNotConverged
from dftbparam.space import Parameter, SearchSpace

SPACE = SearchSpace((Parameter("a", 1.0, 10.0, "log"), Parameter("b", 0.0, 5.0)))


def evaluate(parameters: dict[str, float], context: dict[str, Any]) -> TrialResult:
    """Deterministic value, random duration up to ``longest`` seconds, a note of each call in the folder ``notes``."""
    a, b = parameters["a"], parameters["b"]
    if context.get("notes"):
        (Path(context["notes"]) / uuid.uuid4().hex).write_text(f"{context['symbol']} {a!r} {b!r}")
    time.sleep(random.SystemRandom().uniform(0.0, context.get("longest", 0.0)))
    if context.get("hopeless") or a > 8.0:
        raise ScfNotConverged("planted failure", iterations=200, residual=0.1)
    if context.get("bad"):
        raise InputError("a planted bad input")
    value = (math.log(a) - 1.0) ** 2 + (b - context["optimum"]) ** 2
    return TrialResult(value, metrics={"a": a})


@dataclass
class FakeJob:
    """See `dftbparam.campaign.driver.Job`."""

    symbol: str
    folder: Path
    evaluations: int = 8
    needs: tuple[str, ...] = ()
    replaceable: frozenset[str] = frozenset()
    share: float = 1.0
    fault: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    in_flight: int | None = 3
    proposer: Any = "sobol"
    done: list[list[str]] = field(default_factory=list)
    trials: int = 0

    @property
    def run_id(self) -> str:
        return f"test/{self.symbol}"

    def search(self, store, executor, workers, done, on_progress, stop):
        self.done.append(list(done))
        # A partner's result decides what is computed, as in a fit.
        partners = [json.loads((self.folder / f"{name}.json").read_text())["trials"] for name in done]
        outcome = run_campaign(
            SPACE,
            evaluate,
            {"symbol": self.symbol, "optimum": 1.0 + 0.1 * len(self.symbol) + sum(partners), **self.context},
            store=store,
            run_id=self.run_id,
            proposer=self.proposer,
            seed=len(self.needs),
            evaluations=self.evaluations,
            n_initial=4,
            in_flight=self.in_flight,
            settings={"partners": partners},
            executor=executor,
            resume=True,
            on_progress=on_progress,
            stop=stop,
            held=True,
        )
        self.trials = len(outcome.trials)
        return outcome

    def is_published(self, trials):
        try:
            return json.loads((self.folder / f"{self.symbol}.json").read_text())["trials"] == trials
        except FileNotFoundError:
            return False

    def publication(self):
        return write, (str(self.folder), self.symbol, self.trials, self.fault)
