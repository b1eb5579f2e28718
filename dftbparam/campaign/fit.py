"""Fit one element: from a request to a parameter set with its report card. What ``dftbparam fit`` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dftbparam.campaign.evaluate import FitContext, evaluate, parameter_set, parameters_of, repulsion_search
from dftbparam.campaign.executor import executor
from dftbparam.campaign.run import Progress, run_campaign
from dftbparam.campaign.scoring import dimer_curve, score_tables
from dftbparam.elements import element
from dftbparam.engine.base import Engine
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError, ParameterError
from dftbparam.propose import proposer_names
from dftbparam.reference import DEFAULT_DATASET, Dataset, load_dataset
from dftbparam.repulsion.forms import get_form
from dftbparam.score import ReportCard
from dftbparam.score.short_range import DISTANCES, contact_distance, wall_violation
from dftbparam.skf import SKSet
from dftbparam.slako.build import build_tables
from dftbparam.space import ElementParameters, ParameterSet, RepulsionParameters, SearchSpace, load_parameter_set
from dftbparam.space.element_space import element_space, starting_points
from dftbparam.store import Trial, TrialStore

STORE_NAME: Final = "trials.sqlite"
"""Name of the trial store in a run's folder."""

RUN_ID: Final = "fit"
"""Name of the only run in the store of a single fit."""

CANDIDATES: Final = 8
"""Trials that are scored with the report card before one is chosen."""

PUBLISHED: Final = "ptbp"
"""The published set that every fit is compared with."""


class FitRequest(BaseModel):
    """What to fit and how. Validated at construction.

    Attributes
    ----------
    references
        Name of a reference set, or a folder in the same layout.
    dftbplus
        The DFTB+ program for the engine ``dftb+``; None: ``DFTBPLUS_COMMAND``, else ``dftb+`` on the PATH.
    workers
        Local worker processes; 0 evaluates in this process. Ignored with ``scheduler``.
    repulsion
        Name of a form of `dftbparam.repulsion.forms`.
    power, shift
        Whether the confinement power, and the on-site shift of the polarisation shell, are searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    references: str = DEFAULT_DATASET
    engine: Literal["embedded", "dftb+"] = "embedded"
    dftbplus: str | None = None
    sampler: str = "skopt"
    evaluations: int = Field(default=300, ge=1)
    workers: int = Field(default=2, ge=0)
    scheduler: str | None = None
    seed: int = Field(default=0, ge=0)
    out: Path
    resume: bool = False
    repulsion: str = "screened-power"
    power: bool = True
    shift: bool = True

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name not in proposer_names():
            raise ValueError(f"no sampler {name!r}; there are: {', '.join(proposer_names())}")
        return name

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        element(self.symbol)
        get_form(self.repulsion)
        return self


@dataclass(frozen=True)
class FitResult:
    """What a fit that ran to its end found.

    ``best`` is the trial chosen: of the `CANDIDATES` best by the objective of the search the one whose report card
    gives the best, because the card's fits are finer. ``at_border`` names parameters that ended at an end of their
    range; ``tables`` are its Slater-Koster files with repulsion; ``card`` and ``published`` (None
    where PTBP lacks the element) are report cards by the same engine on the same crystals.
    """

    best: Trial
    parameters: ParameterSet
    tables: SKSet
    card: ReportCard
    published: ReportCard | None
    engine_versions: Mapping[str, str]
    at_border: Sequence[str] = ()


@dataclass(frozen=True)
class FitOutcome:
    """How a fit ended: its trials, the same as flat rows, and the result, None after an interruption."""

    trials: list[Trial]
    trial_rows: list[dict[str, Any]]
    result: FitResult | None = None


def run_fit(request: FitRequest, on_progress: Callable[[Progress], None] | None = None) -> FitOutcome:
    """Fit an element.

    Every finished trial is in ``request.out / trials.sqlite`` before the next is asked for; with ``resume`` a run goes
    on where it stopped, and ends with the same list of trials as an undisturbed one.

    Raises
    ------
    InputError
        Unknown element or references, an unusable folder, an existing run without ``resume``, other settings than
        the run was begun with.
    EngineError
        The engine or the scheduler is missing.
    CalculationError
        No trial succeeded.
    """
    data = load_dataset(request.references)
    context = FitContext(
        symbol=request.symbol,
        references=tuple(data.crystals_of(request.symbol)),
        form=request.repulsion,
        engine=request.engine,
        command=request.dftbplus,
        functional=_functional(data),
    )
    engine = make_engine(request.engine, command=request.dftbplus, keep="never")
    versions = engine.versions()
    space = element_space(request.symbol, power=request.power, shift=request.shift)
    with TrialStore.open(request.out / STORE_NAME) as store:
        outcome = run_campaign(
            space,
            evaluate,
            context,
            store=store,
            run_id=RUN_ID,
            proposer=request.sampler,
            seed=request.seed,
            evaluations=request.evaluations,
            starting_points=starting_points(request.symbol, space),
            settings={**context.settings(), "dataset": data.name, "dataset_checksum": data.checksum},
            executor=executor(request.workers, scheduler=request.scheduler),
            resume=request.resume,
            on_progress=on_progress,
        )
        rows = store.rows(RUN_ID)
    if outcome.interrupted:
        return FitOutcome(outcome.trials, rows)
    if outcome.best is None:
        kinds = ", ".join(f"{n} {name}" for name, n in outcome.failures.items())
        raise CalculationError(f"{request.symbol}: none of {len(outcome.trials)} trials succeeded ({kinds})")
    candidates = [_candidate(context, data, engine, trial) for trial in _leaders(outcome.trials)]
    chosen = min(candidates, key=lambda candidate: (candidate.objective, candidate.trial.index))
    record = chosen.record
    border = at_border(space, chosen.trial.parameters) + at_border(
        repulsion_search(context).space, {} if record.repulsion is None else record.repulsion.values
    )
    parameters = parameter_set(
        context,
        record,
        f"dftbparam-{request.symbol}",
        source=f"dftbparam fit {request.symbol} --seed {request.seed} --evaluations {request.evaluations}",
        provenance={
            "trial": chosen.trial.index,
            "objective": chosen.objective,
            "objective_of_trial": chosen.trial.objective,
            "at_border": border,
            "dimer": {
                "distance_bohr": [x * contact_distance(request.symbol) for x in DISTANCES],
                "energy_eV": [float(e) if np.isfinite(e) else None for e in chosen.dimer],
            },
            "settings": outcome.run.settings,
            "versions": {**outcome.run.provenance, **versions},
        },
    )
    result = FitResult(
        best=chosen.trial,
        parameters=parameters,
        tables=chosen.tables,
        card=chosen.card,
        at_border=border,
        published=published_card(request.symbol, data, engine),
        engine_versions=versions,
    )
    return FitOutcome(outcome.trials, rows, result)


@dataclass(frozen=True)
class _Candidate:
    trial: Trial
    record: ElementParameters
    tables: SKSet
    card: ReportCard
    dimer: NDArray[np.float64]
    objective: float


def _leaders(trials: Sequence[Trial]) -> list[Trial]:
    """The best trials, best first; the earlier of equals first."""
    finished = [trial for trial in trials if trial.objective is not None]
    return sorted(finished, key=lambda trial: (trial.objective, trial.index))[:CANDIDATES]


def _candidate(context: FitContext, data: Dataset, engine: Engine, trial: Trial) -> _Candidate:
    """Build a trial's tables anew and score them with the report card."""
    repulsion = RepulsionParameters.model_validate(trial.details["repulsion"])
    record = parameters_of(context, trial.parameters, repulsion)
    tables = build_tables(parameter_set(context, record, "candidate"), [context.symbol])
    card = score_tables(tables, context.symbol, data, engine)
    dimer = dimer_curve(tables, context.symbol, engine)
    objective = repulsion_search(context).objective.of_card(card, wall_violation(DISTANCES, dimer))
    return _Candidate(trial, record, tables, card, dimer, objective)


def at_border(space: SearchSpace, values: Mapping[str, float]) -> list[str]:
    """Name the parameters that ended within 1 % of an end of their range, where a wider one might do better."""
    return [
        f"{p.name} = {values[p.name]:.4g} {p.unit}".rstrip()
        for p in space.parameters
        if p.name in values and not 0.01 <= p.to_unit(values[p.name]) <= 0.99
    ]


def published_card(symbol: str, data: Dataset, engine: Engine) -> ReportCard | None:
    """Return the card of the published PTBP parameters, built and scored here; None where PTBP lacks the element."""
    ptbp = load_parameter_set(PUBLISHED)
    if symbol not in ptbp.elements:
        return None
    return score_tables(build_tables(ptbp, [symbol]), symbol, data, engine)


def _functional(data: Dataset) -> str:
    if data.functional not in ("LDA", "PBE"):
        raise ParameterError(
            f"reference set {data.name!r} is {data.functional}; tables are made with LDA or PBE",
            functional=data.functional,
        )
    return data.functional
