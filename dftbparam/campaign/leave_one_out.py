"""How an element that was fitted on binaries does with a partner it never saw: fits anew without each in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dftbparam.campaign.binary_cards import score_crystals
from dftbparam.campaign.evaluate import FitContext
from dftbparam.campaign.fit import FitOutcome, FitRequest, FitResult, plan_fit, run_fit
from dftbparam.campaign.partners import crystals_with, pair_tables
from dftbparam.campaign.run import Progress
from dftbparam.engine.factory import make_engine
from dftbparam.errors import ParameterError
from dftbparam.score import CrystalScore, ReportCard
from dftbparam.space import ElementParameters

FOLDER: Final = "leave-one-out"
"""Beneath the folder of the fit: one folder a partner, with the trials of the fit without it."""

LEFT_OUT: Final = "left out"
FITTED: Final = "fitted"
PUBLISHED: Final = "published PTBP"
"""Where a row's parameters come from: a fit without the partner, the fit with all, the published set."""


@dataclass(frozen=True)
class LeftOut:
    """A partner that was left out: the parameters found without it, and the card of the crystals with it."""

    partner: str
    parameters: ElementParameters
    objective: float | None
    trials: int
    card: ReportCard

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "objective": self.objective,
            "trials": self.trials,
            "parameters": self.parameters.model_dump(mode="json"),
            "card": self.card.model_dump(mode="json"),
        }


def partners_to_leave_out(request: FitRequest) -> tuple[str, ...]:
    """Partners of a fit, each of which can be left out.

    Raises
    ------
    ParameterError
        It is no fit on binaries, or has but one partner.
    InputError
        See `dftbparam.campaign.fit.plan_fit`.
    """
    if request.partners is None:
        raise ParameterError("to leave partners out, fit on binaries: name the set that the partners come from")
    plan = plan_fit(request)
    partners = tuple(plan.context.frozen)
    if len(partners) < 2:
        raise ParameterError(
            f"{request.symbol} has {len(partners)} partner ({', '.join(partners) or 'none'}); to leave one out, two or "
            "more are needed"
        )
    for partner in partners:
        # Now, not after hours of other fits: without this partner a target may have lost its only data.
        plan_fit(_without(request, plan.context, partner))
    return partners


def _without(request: FitRequest, context: FitContext, partner: str) -> FitRequest:
    """Ask for the same fit without one partner, in a folder of its own."""
    crystals = crystals_with(request.symbol, context.references, partner)
    return request.model_copy(
        update={
            "exclude_partners": (*request.exclude_partners, partner),
            "crystals": tuple(c.name for c in context.references if c not in crystals),
            "out": request.out / FOLDER / partner,
            "resume": True,
        }
    )


def fit_without(
    request: FitRequest,
    partner: str,
    evaluations: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LeftOut | None:
    """Fit without one partner and score the crystals with it; None after an interruption.

    The trials are kept in ``request.out / leave-one-out / partner``; a run that is there goes on.

    Parameters
    ----------
    evaluations
        Trials of this fit; None: as many as ``request`` asks for.

    Raises
    ------
    InputError
        See `dftbparam.campaign.fit.run_fit`.
    """
    plan = plan_fit(request)
    context = plan.context
    crystals = crystals_with(request.symbol, context.references, partner)
    reduced = _without(request, context, partner)
    if evaluations is not None:
        reduced = reduced.model_copy(update={"evaluations": evaluations})
    reduced.out.mkdir(parents=True, exist_ok=True)
    outcome: FitOutcome = run_fit(reduced, on_progress, published=False)
    if outcome.result is None:
        return None
    record = outcome.result.parameters.element(request.symbol)
    tables = pair_tables(
        record, {partner: context.frozen[partner]}, functional=context.functional, superposition=context.superposition
    )
    engine = make_engine(request.engine, command=request.dftbplus, keep="never")
    return LeftOut(
        partner=partner,
        parameters=record,
        objective=outcome.result.best.objective,
        trials=len(outcome.trials),
        card=score_crystals(tables, request.symbol, crystals, plan.data, engine),
    )


def rows(left_out: Sequence[LeftOut], result: FitResult) -> list[dict[str, Any]]:
    """One row per crystal and origin of the parameters: left out, fitted, and published where there is such a card."""
    found: list[dict[str, Any]] = []
    for one in left_out:
        for crystal in one.card.crystals:
            found.append(_row(one.partner, LEFT_OUT, crystal))
            found.append(_row(one.partner, FITTED, result.card.crystal(crystal.prototype)))
            if result.published is not None:
                found.append(_row(one.partner, PUBLISHED, result.published.crystal(crystal.prototype)))
    return found


def _row(partner: str, origin: str, crystal: CrystalScore) -> dict[str, Any]:
    return {
        "partner": partner,
        "crystal": crystal.prototype,
        "set": origin,
        "dV": crystal.dV,
        "dB": crystal.dB,
        "phase_energy_error": crystal.phase_energy_error,
        "sound": crystal.sound,
        "status": crystal.status,
    }
