"""Fit one element: from a request to a parameter set with its report card. What ``dftbparam fit`` calls."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dftbparam.campaign.binary_cards import score_crystals
from dftbparam.campaign.ensemble import ensemble, members
from dftbparam.campaign.evaluate import (
    FitContext,
    band_errors,
    band_scores,
    evaluate,
    given_repulsion,
    pair_curves,
    parameter_set,
    parameters_of,
    repulsion_search,
    tables_of,
    zeros_of,
)
from dftbparam.campaign.executor import Executor
from dftbparam.campaign.executor import executor as make_executor
from dftbparam.campaign.fit_plan import FitPlan, FitRequest, plan_fit
from dftbparam.campaign.partners import pair_tables
from dftbparam.campaign.run import CampaignOutcome, Progress, run_campaign
from dftbparam.campaign.scoring import energy_curves, score_tables
from dftbparam.campaign.warm_start import PUBLISHED as PUBLISHED_START
from dftbparam.elements import parse_configuration
from dftbparam.engine.base import Engine
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError
from dftbparam.reference import CrystalReference, Dataset
from dftbparam.score import ReportCard
from dftbparam.score.objective import Targets
from dftbparam.score.short_range import DISTANCES, contact_distance
from dftbparam.score.soundness import TOLERANCE
from dftbparam.score.uncertainty import Uncertainty
from dftbparam.skf import SKSet
from dftbparam.slako.build import build_tables
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.space import ElementParameters, ParameterSet, RepulsionParameters, SearchSpace, load_parameter_set
from dftbparam.store import STORE_NAME, Trial, TrialStore

__all__ = [
    "FitOutcome",
    "FitPlan",
    "FitRequest",
    "FitResult",
    "at_border",
    "plan_fit",
    "published_card",
    "run_fit",
    "search_fit",
]

RUN_ID: Final = "fit"
"""Name of the only run in the store of a single fit."""

CANDIDATES: Final = 8
"""Trials that are scored with the report card before one is chosen."""

BINARY_CANDIDATES: Final = 3
"""The same in a fit on binaries, where a card takes as long as several trials."""

PASSED_OVER: Final = 9
"""How many trials whose crystals collapse may be passed over for others when one is chosen."""

COMPRESSED: Final = (0.5, 0.525, 0.55, 0.575)
"""Relative volumes at which the element's own crystals are looked at again when a trial on binaries is chosen."""

PUBLISHED: Final = "ptbp"
"""The published set that every fit is compared with."""


@dataclass(frozen=True)
class FitResult:
    """What a fit that ran to its end found.

    ``best`` is the trial chosen: of the `CANDIDATES` (on binaries `BINARY_CANDIDATES`) best by the objective of the
    search the one whose report card gives the best, because the card's fits are finer, and none whose crystals collapse
    under compression where there is another. ``at_border`` names parameters that ended at an end of their range;
    ``tables`` are its Slater-Koster files with repulsion, in a fit on binaries
    those of the element, of each partner and of the two; ``card`` and ``published`` (None where PTBP lacks an element)
    are report cards by the same engine on the same crystals, ``crystals``; ``published_tables`` are PTBP's files.
    ``uncertainty`` describes the trials that are as good as the best, ``ensemble`` lists them, and ``space`` is what
    was searched.
    """

    best: Trial
    parameters: ParameterSet
    tables: SKSet
    card: ReportCard
    published: ReportCard | None
    engine_versions: Mapping[str, str]
    uncertainty: Uncertainty
    ensemble: Sequence[Mapping[str, Any]]
    space: SearchSpace
    at_border: Sequence[str] = ()
    crystals: Sequence[CrystalReference] = ()
    published_tables: SKSet | None = None


@dataclass(frozen=True)
class FitOutcome:
    """How a fit ended: its trials, the same as flat rows, and the result, None after an interruption.

    ``proposals`` and ``proposal_seconds`` are the number and mean time of proposals of this process, ``why`` is why the
    search ended before its budget, empty where it did not.
    """

    trials: list[Trial]
    trial_rows: list[dict[str, Any]]
    result: FitResult | None = None
    proposals: int = 0
    proposal_seconds: float | None = None
    why: str = ""

    @property
    def timing(self) -> dict[str, Any]:
        """What a manifest says of the proposals; empty where none was made, in a run that was complete already."""
        if self.proposal_seconds is None:
            return {}
        return {"number": self.proposals, "mean_seconds": round(self.proposal_seconds, 4)}


def run_fit(
    request: FitRequest,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    published: bool = True,
    store: TrialStore | None = None,
    run_id: str = RUN_ID,
    executor: Executor | None = None,
    stop: threading.Event | None = None,
    held: bool = False,
) -> FitOutcome:
    """Fit an element.

    Every finished trial is in the store before the next is asked for; with ``resume`` a run goes on where it stopped,
    and ends with the same list of trials as an undisturbed one.

    Parameters
    ----------
    published
        Whether to score the published parameters beside the result.
    store, run_id
        Where trials are kept, and under which name; default ``request.out / trials.sqlite``. A store that is given
        stays open.
    executor
        Where to evaluate; default what the request asks for. It is closed here.
    stop
        Once set, the fit ends as after Ctrl-C.
    held
        Whether the caller holds the run's lock already.

    Raises
    ------
    InputError
        What `plan_fit` refuses, an unusable folder, an existing run without ``resume``, other settings than the run
        was begun with.
    EngineError
        The engine or the scheduler is missing.
    CalculationError
        No trial succeeded.
    """
    plan = plan_fit(request)
    data, context = plan.data, plan.context
    engine = make_engine(request.engine, command=request.dftbplus, keep="never")
    versions = engine.versions()
    with contextlib.ExitStack() as stack:
        if store is None:
            store = stack.enter_context(TrialStore.open(request.out / STORE_NAME))
        if executor is None:
            executor = make_executor(request.workers, scheduler=request.scheduler, cluster=request.cluster)
        outcome = search_fit(
            plan, request, on_progress, store=store, run_id=run_id, executor=executor, stop=stop, held=held
        )
        rows = store.rows(run_id)
    if outcome.interrupted:
        return FitOutcome(outcome.trials, rows)
    if outcome.best is None:
        kinds = ", ".join(f"{n} {name}" for name, n in outcome.failures.items())
        raise CalculationError(f"{request.symbol}: none of {len(outcome.trials)} trials succeeded ({kinds})")
    chosen = _choose(context, data, engine, outcome.trials)
    record = chosen.record
    border = at_border(plan.space.space, chosen.trial.parameters) + at_border(
        repulsion_search(context).space, _fitted_inside(context, chosen.trial, record.repulsion)
    )
    provenance: dict[str, Any] = {
        "trial": chosen.trial.index,
        "objective": chosen.objective,
        "objective_of_trial": chosen.trial.objective,
        "at_border": border,
        **({"collapses": True} if chosen.collapses else {}),
        "dimer": {
            "distance_bohr": [x * contact_distance(request.symbol) for x in DISTANCES],
            "energy_eV": [float(e) if np.isfinite(e) else None for e in chosen.dimers[0]],
        },
        "settings": outcome.run.settings,
        "versions": {**outcome.run.provenance, **versions},
    }
    if context.partners is not None:
        provenance["partners"] = {
            "set": context.partners.name,
            "source": context.partners.source,
            "doi": context.partners.doi,
            "elements": {name: one.model_dump(mode="json") for name, one in context.frozen.items()},
        }
    parameters = parameter_set(
        context,
        record,
        f"dftbparam-{request.symbol}",
        source=f"dftbparam fit {request.symbol} --seed {request.seed} --evaluations {request.evaluations}"
        + ("" if context.partners is None else f" --partners {context.partners.name}")
        + ("" if context.targets == Targets() else f" --targets {context.targets}"),
        provenance=provenance,
    )
    theirs = _published(context, data, engine) if published else None
    spread = ensemble(outcome.trials, plan.space.space)
    result = FitResult(
        best=chosen.trial,
        parameters=parameters,
        tables=chosen.tables,
        card=chosen.card,
        uncertainty=spread,
        ensemble=members(spread, outcome.trials),
        space=plan.space.space,
        at_border=border,
        published=None if theirs is None else theirs.card,
        engine_versions=versions,
        crystals=_scored(context, data),
        published_tables=None if theirs is None else theirs.tables,
    )
    return FitOutcome(outcome.trials, rows, result, outcome.proposals, outcome.proposal_seconds, outcome.why)


def search_fit(
    plan: FitPlan,
    request: FitRequest,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    store: TrialStore,
    run_id: str,
    executor: Executor,
    stop: threading.Event | None = None,
    held: bool = False,
) -> CampaignOutcome:
    """Search only: evaluate the trials of a fit, without the report card at the end. Arguments as of `run_fit`.

    `run_fit` on the same store then finds all trials there, and goes on with the report card.

    Raises
    ------
    NoMinimum
        Formation energies are a target, and a partner's stable crystal has no minimum by its own tables.
    """
    data, context = plan.data, plan.context
    # A partner without a minimum would fail every trial: said before the first one.
    zeros_of(context)
    settings = {**context.settings(), "dataset": data.name, "dataset_checksum": data.checksum}
    if request.start_from != (PUBLISHED_START,):
        settings["start_from"] = [{"origin": one.origin, "values": dict(one.values)} for one in plan.starts]
    return run_campaign(
        plan.space.space,
        evaluate,
        context,
        store=store,
        run_id=run_id,
        proposer=request.sampler,
        seed=request.seed,
        evaluations=request.evaluations,
        n_initial=None if request.design is None else plan.initial,
        starting_points=[start.values for start in plan.starts],
        settings=settings,
        executor=executor,
        in_flight=request.in_flight,
        batch=request.batch,
        patience=request.patience,
        min_improvement=request.min_improvement,
        resume=request.resume,
        on_progress=on_progress,
        stop=stop,
        held=held,
    )


@dataclass(frozen=True)
class _Scored:
    """Tables with their card."""

    tables: SKSet
    card: ReportCard


@dataclass(frozen=True)
class _Candidate(_Scored):
    trial: Trial
    record: ElementParameters
    dimers: NDArray[np.float64]
    objective: float
    collapses: bool = False


def _choose(context: FitContext, data: Dataset, engine: Engine, trials: Sequence[Trial]) -> _Candidate:
    """Choose by the report card among the best trials.

    Those that collapse (`_collapses`) are passed over, for the next best, `PASSED_OVER` at most; where all do, the best
    of them is taken.
    """
    n = BINARY_CANDIDATES if context.binary else CANDIDATES
    standing: list[_Candidate] = []
    collapsing: list[_Candidate] = []
    for trial in _leaders(context, trials, n + PASSED_OVER):
        candidate = _candidate(context, data, engine, trial)
        if _collapses(context, engine, candidate):
            collapsing.append(replace(candidate, collapses=True))
        else:
            standing.append(candidate)
        if len(standing) == n:
            break
    return min(standing or collapsing, key=lambda candidate: (candidate.objective, candidate.trial.index))


def _collapses(context: FitContext, engine: Engine, candidate: _Candidate) -> bool:
    """Whether an own crystal of the element, strongly compressed, lies lower than at its minimum or has no energy.

    Fits on binaries look at few volumes there (`BINARY_VOLUMES`), and a well as narrow as their distance escapes them;
    `dftbparam.publish.gate` would refuse it. Other fits see these volumes.
    """
    if not context.binary:
        return False
    own = [reference for reference in context.references if reference.partner is None]
    lowest = {crystal.prototype: crystal.energy for crystal in candidate.card.crystals}
    volumes = {reference.name: reference.volume * np.array(COMPRESSED) for reference in own}
    for name, (_, energies) in energy_curves(candidate.tables, own, engine, volumes)[0].items():
        minimum = lowest[name]
        if not np.isfinite(energies).all() or (minimum is not None and energies.min() < minimum - TOLERANCE):
            return True
    return False


def _leaders(context: FitContext, trials: Sequence[Trial], n: int) -> list[Trial]:
    """The best n trials, best first; the earlier of equals first.

    Trials whose on-site shift puts an empty shell below an occupied one are passed over where there are others: such an
    atom is another one as soon as it is in a compound, and `dftbparam.publish.gate` refuses it.
    """
    finished = [trial for trial in trials if trial.objective is not None]
    chosen = [trial for trial in finished if _in_order(context, trial)] or finished
    return sorted(chosen, key=lambda trial: (trial.objective, trial.index))[:n]


def _in_order(context: FitContext, trial: Trial) -> bool:
    """Whether the empty shells of the element lie above all occupied ones."""
    record = parameters_of(context, trial.parameters)
    if not record.on_site:
        return True
    occupations = parse_configuration(record.configuration)
    free = free_atom(context.symbol, record.configuration, tuple(record.shells), context.functional)
    levels = {**free.levels, **record.on_site}
    top = max(levels[nl] for nl in record.shells if occupations[nl] > 0.0)
    return all(levels[nl] > top for nl in record.shells if occupations[nl] == 0.0)


def _scored(context: FitContext, data: Dataset) -> tuple[CrystalReference, ...]:
    """The crystals of a fit's report card: all of the element's own, or the binaries that are fitted."""
    return context.references if context.binary else data.crystals_of(context.symbol)


def _score(context: FitContext, data: Dataset, engine: Engine, tables: SKSet) -> ReportCard:
    """Make the card: of all that the data have of an element, or of the binaries that are fitted."""
    if not context.binary:
        return score_tables(tables, context.symbol, data, engine)
    return score_crystals(tables, context.symbol, context.references, data, engine)


def _candidate(context: FitContext, data: Dataset, engine: Engine, trial: Trial) -> _Candidate:
    """Build a trial's tables anew and score them with the report card."""
    repulsion = RepulsionParameters.model_validate(trial.details["repulsion"])
    record = parameters_of(context, trial.parameters, repulsion)
    tables = tables_of(context, record)
    card = _score(context, data, engine, tables)
    search = repulsion_search(context)
    dimers = pair_curves(tables, search.dimers, engine)
    other = search.objective.electronic(band_errors(band_scores(tables, context.bands, engine)))
    return _Candidate(
        tables=tables,
        card=card,
        trial=trial,
        record=record,
        dimers=dimers,
        objective=search.objective.of_card(card, search.wall(dimers), other),
    )


def at_border(space: SearchSpace, values: Mapping[str, Any]) -> list[str]:
    """Name the parameters that ended within 1 % of an end of their range, where a wider one might do better."""
    return [
        f"{p.name} = {values[p.name]:.4g} {p.unit}".rstrip()
        for p in space.parameters
        if p.name in values and p.at_border(values[p.name])
    ]


def _fitted_inside(context: FitContext, trial: Trial, repulsion: RepulsionParameters | None) -> dict[str, float]:
    """Parameters of a trial's repulsion that the inner search found."""
    if repulsion is None:
        return {}
    given = given_repulsion(context, trial.parameters)
    return {name: value for name, value in repulsion.values.items() if name not in given}


def published_card(symbol: str, data: Dataset, engine: Engine) -> ReportCard | None:
    """Return the card of the published PTBP parameters, built and scored here; None where PTBP lacks the element."""
    ptbp = load_parameter_set(PUBLISHED)
    if symbol not in ptbp.elements:
        return None
    return score_tables(build_tables(ptbp, [symbol]), symbol, data, engine)


def _published(context: FitContext, data: Dataset, engine: Engine) -> _Scored | None:
    """Score the published PTBP parameters of all elements on the crystals of a fit; None where it lacks one."""
    ptbp = load_parameter_set(PUBLISHED)
    names = (context.symbol, *context.frozen)
    if any(name not in ptbp.elements for name in names):
        return None
    tables = pair_tables(
        ptbp.element(context.symbol),
        {name: ptbp.element(name) for name in names[1:]},
        functional=ptbp.functional,
        superposition=ptbp.superposition,
    )
    return _Scored(tables, _score(context, data, engine, tables))
