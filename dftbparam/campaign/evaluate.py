"""One evaluation: confinement parameters in, objective out. Pure; what a Dask worker runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np

from dftbparam.campaign.repulsion_fit import RepulsionSearch
from dftbparam.campaign.result import TrialResult
from dftbparam.campaign.scoring import (
    KPT_DENSITY,
    SCAN,
    TEMPERATURE,
    TRAINING_SCAN,
    dimer_curve,
    energy_curves,
)
from dftbparam.elements import element
from dftbparam.engine.base import Engine
from dftbparam.engine.factory import make_engine
from dftbparam.errors import CalculationError
from dftbparam.reference import CrystalReference
from dftbparam.score.objective import Measures, Objective, Weights
from dftbparam.score.short_range import DISTANCES
from dftbparam.slako.build import build_tables
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.space import ElementParameters, ParameterSet, RepulsionParameters
from dftbparam.space.element_space import element_parameters

MAX_FAILED: Final = 0.25
"""Share of the structures that may fail (all of them at the compressed end, in practice) before the trial does."""

VOLUMES: Final = (*TRAINING_SCAN, *SCAN)
"""Relative volumes at which a fit sees every crystal."""

EVALUATION_VERSION: Final = 3
"""Raised whenever the same point would get another objective than before: a run begun with another is not resumed."""


@dataclass(frozen=True)
class FitContext:
    """What evaluations of one element share; a few kilobytes, shipped once per worker.

    ``form`` names the repulsion; ``engine`` is ``embedded`` or ``dftb+``, ``command`` the program of the latter.
    """

    symbol: str
    references: tuple[CrystalReference, ...]
    form: str = "screened-power"
    engine: str = "embedded"
    command: str | None = None
    functional: str = "PBE"
    superposition: str = "density"
    weights: Weights = field(default_factory=Weights)

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON."""
        return {
            "symbol": self.symbol,
            "repulsion": self.form,
            "engine": self.engine,
            "functional": self.functional,
            "superposition": self.superposition,
            "weights": asdict(self.weights),
            "references": [reference.model_dump(mode="json") for reference in self.references],
            "scan": list(VOLUMES),
            "dimer": list(DISTANCES),
            "kpt_density": KPT_DENSITY,
            "temperature_K": TEMPERATURE,
            "evaluation_version": EVALUATION_VERSION,
        }


_SEARCHES: OrderedDict[FitContext, RepulsionSearch] = OrderedDict()
"""Neighbour lists per context: the same for every trial of a campaign, and a second's work to make."""


def repulsion_search(context: FitContext) -> RepulsionSearch:
    """Return the inner search of a context, made once per process."""
    if context not in _SEARCHES:
        objective = Objective(context.references, VOLUMES, context.weights)
        _SEARCHES[context] = RepulsionSearch(context.symbol, context.form, context.references, objective)
        while len(_SEARCHES) > 16:
            _SEARCHES.popitem(last=False)
    return _SEARCHES[context]


@cache
def _engine(name: str, command: str | None) -> Engine:
    """Return the engine, made once per process, so that DFTB+ is asked for its release once and not at every trial.

    Structures that fail are no news in a search: their scratch folders are not kept.
    """
    return make_engine(name, command=command, keep="never")


def parameters_of(
    context: FitContext, values: Mapping[str, float], repulsion: RepulsionParameters | None = None
) -> ElementParameters:
    """Return the record that a point of the search space stands for."""
    atom = element(context.symbol)
    free = free_atom(atom.symbol, atom.configuration_text, atom.valence, context.functional)
    return element_parameters(context.symbol, values, repulsion, free.levels)


def parameter_set(context: FitContext, record: ElementParameters, name: str, **more: Any) -> ParameterSet:
    """Return a set of this one element, with the context's functional and superposition."""
    return ParameterSet.model_validate(
        {
            "name": name,
            "functional": context.functional,
            "superposition": context.superposition,
            "elements": {context.symbol: record},
            **more,
        }
    )


def evaluate(values: dict[str, float], context: FitContext) -> TrialResult:
    """Build tables, compute electronic energies, fit the repulsion, and take the objective.

    Raises
    ------
    CalculationError
        The atom did not converge, or too many structures have no energy (an overlap that is not positive definite
        under compression, say).
    """
    tables = build_tables(
        parameter_set(context, parameters_of(context, values), "trial"), [context.symbol], repulsion=False
    )
    search = repulsion_search(context)
    engine = _engine(context.engine, context.command)
    volumes: dict[str, Any] = {reference.name: reference.volume * np.array(VOLUMES) for reference in context.references}
    curves, errors = energy_curves(tables, context.references, engine, volumes, repulsion=False)
    electronic = np.array([curves[reference.name][1] for reference in context.references])
    if np.isnan(electronic).sum() > MAX_FAILED * electronic.size:
        raise CalculationError(
            f"{len(errors)} of {electronic.size} structures have no energy; the first: {errors[0]}",
            failed=len(errors),
            first=type(errors[0]).__name__,
        )
    fitted = search.fit(electronic, dimer_curve(tables, context.symbol, engine, repulsion=False))
    measures = search.objective.measure(electronic + fitted.energies)
    return TrialResult(
        objective=fitted.objective,
        metrics={**_metrics(measures, len(errors)), "wall_violation": fitted.wall},
        details={
            "repulsion": fitted.parameters.model_dump(mode="json"),
            "crystals": {
                reference.name: {
                    "dV": _number(measures.dV[i]),
                    "dB": _number(measures.dB[i]),
                    "dE": _number(measures.dE[i]),
                    "unsound": float(measures.unsound[i]),
                }
                for i, reference in enumerate(context.references)
            },
        },
    )


def _metrics(measures: Measures, failed: int) -> dict[str, Any]:
    others = np.arange(len(measures.dE)) != measures.stable
    return {
        "mean_abs_dV": _mean(measures.dV),
        "mean_abs_dB": _mean(measures.dB),
        "mean_abs_dE": _mean(measures.dE[others]),
        "sound": bool((measures.unsound == 0.0).all()),
        "failed_structures": failed,
    }


def _mean(values: Any) -> float | None:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.mean()) if len(finite) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
