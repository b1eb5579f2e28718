"""An element of a campaign file as the driver runs it: `dftbparam.campaign.driver.Job` for a fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from dftbparam.campaign.campaign_file import CAMPAIGN, CampaignFile, ElementPlan
from dftbparam.campaign.executor import Executor, SerialExecutor
from dftbparam.campaign.fit import FitRequest, search_fit
from dftbparam.campaign.fit_plan import check_fit, plan_fit
from dftbparam.campaign.loop import CampaignOutcome, Progress
from dftbparam.campaign.partners import common_form, load_partners
from dftbparam.campaign.run import default_batch, default_in_flight
from dftbparam.errors import InputError, ParameterError
from dftbparam.space import ElementParameters, ParameterSet
from dftbparam.store import TrialStore

PARTNERS_NAME: Final = "partners.json"
"""In an element's folder: the parameters of the partners it was fitted with, of this campaign."""

Publish = Callable[[FitRequest, str, str, dict[str, Any]], None]
"""``publish(request, store, run_id, timing)`` scores and writes the result of a search that is in the store; ``timing``
tells of its proposals."""

IsPublished = Callable[[Path, int | None, Mapping[str, Any]], bool]
"""``is_published(folder, trials, settings)``: whether a folder is the complete result of so many trials (None: of any
number) of a run with these settings; `ParameterError` where it is that of another run."""


class ElementJob:
    """One element of a campaign file; see `dftbparam.campaign.driver.Job`.

    Parameters
    ----------
    publish, is_published
        Writing results is above this package: whoever drives the campaign brings it. ``publish`` is called in another
        process, and must be importable by name.
    """

    def __init__(self, campaign: CampaignFile, plan: ElementPlan, publish: Publish, is_published: IsPublished) -> None:
        self.campaign, self.plan = campaign, plan
        self.symbol, self.run_id = plan.symbol, campaign.run_id(plan.symbol)
        self.needs, self.replaceable, self.share = plan.needs, plan.replaceable, plan.share
        self._publish, self._is_published = publish, is_published
        self._request = plan.request
        self._timing: dict[str, Any] = {}
        self._settings: Mapping[str, Any] = {}

    def search(
        self,
        store: TrialStore,
        executor: Executor,
        workers: int,
        done: Collection[str],
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> CampaignOutcome:
        """See `dftbparam.campaign.driver.Job`."""
        request = self.request(store, done)
        # Refused before anything is computed where the folder holds another run's result.
        settings = store.load_run(self.run_id).settings if store.has_run(self.run_id) else {}
        self._is_published(request.out, None, settings)
        # A budget below what has been done already asks for nothing more; the trials are kept.
        present = {one.run_id: one.finished + one.failed for one in store.overview(self.run_id)}.get(self.run_id, 0)
        if present > request.evaluations:
            request = request.model_copy(update={"evaluations": present})
        self._request = request
        if not (store.has_run(self.run_id) or isinstance(executor, SerialExecutor)):
            # Of a run that is there, and where one evaluation runs at a time, `run_campaign` knows better.
            request = request.model_copy(
                update={
                    "in_flight": request.in_flight or default_in_flight(workers),
                    "batch": request.batch or default_batch(workers),
                }
            )
        outcome = search_fit(
            plan_fit(request),
            request,
            on_progress,
            store=store,
            run_id=self.run_id,
            executor=executor,
            stop=stop,
            held=True,
        )
        self._settings = outcome.run.settings
        if outcome.proposal_seconds is not None:
            self._timing = {"number": outcome.proposals, "mean_seconds": round(outcome.proposal_seconds, 4)}
        return outcome

    def request(self, store: TrialStore, done: Collection[str]) -> FitRequest:
        """Return the request with its partners settled; those of the campaign are written to the element's folder.

        Raises
        ------
        ParameterError
            A partner's result is not in the campaign's folder, or is another run's; or partners do not belong to one
            kind of set.
        """
        plan = self.plan
        if plan.request.partners != CAMPAIGN:
            return plan.request
        sets = {symbol: self._result(store, symbol) for symbol in plan.needs if symbol in done}
        if plan.fallback is not None:
            other = load_partners(plan.fallback)
            sets |= {symbol: other for symbol in sorted(plan.replaceable) if symbol not in sets}
        elements: dict[str, ElementParameters] = {symbol: one.element(symbol) for symbol, one in sets.items()}
        for what in ("functional", "superposition"):
            found = {symbol: getattr(one, what) for symbol, one in sets.items()}
            if len(set(found.values())) != 1:
                raise ParameterError(f"partners of {self.symbol} do not have one {what}: {found}", symbol=self.symbol)
        first = next(iter(sets.values()))
        partners = ParameterSet(
            name=f"{self.campaign.name}-partners-of-{self.symbol}",
            functional=first.functional,
            superposition=first.superposition,
            elements=elements,
            source="; ".join(dict.fromkeys(f"{symbol}: {one.name}" for symbol, one in sets.items())),
        )
        path = plan.request.out / PARTNERS_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partners.save(path)
        except OSError as error:
            raise ParameterError(f"{path} cannot be written ({error.strerror})", path=str(path)) from None
        return plan.request.model_copy(update={"partners": str(path)})

    def _result(self, store: TrialStore, symbol: str) -> ParameterSet:
        """The parameters of an element that is done."""
        folder = self.campaign.out / symbol
        run = store.load_run(self.campaign.run_id(symbol))
        if not self._is_published(folder, None, run.settings):
            raise ParameterError(
                f"{symbol} is done, but its parameters are not in {folder}, or not as they were written; drivers of "
                "one campaign share its folder of results",
                symbol=symbol,
            )
        return load_partners(str(folder))

    def is_published(self, trials: int) -> bool:
        """See `dftbparam.campaign.driver.Job`."""
        return self._is_published(self.plan.request.out, trials, self._settings)

    def publication(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """See `dftbparam.campaign.driver.Job`."""
        return self._publish, (self._request, self.campaign.store, self.run_id, self._timing)


def check_elements(campaign: CampaignFile, wanted: Collection[str]) -> list[str]:
    """Plan elements as far as that is possible before others are done; return one line on each that cannot be fitted.

    A line ends with where the element stands in the file; the setting at fault is there or in the defaults.

    Raises
    ------
    EngineMissing
        The library of a sampler is missing.
    """
    problems = []
    for symbol in wanted:
        plan = campaign.elements[symbol]
        try:
            if plan.request.partners == CAMPAIGN:
                check_fit(plan.request, [*plan.needs, *plan.replaceable], _form_of_partners(campaign, plan))
            else:
                plan_fit(plan.request)
        except InputError as error:
            problems.append(f"{symbol}: {error.message} ({campaign.where(symbol)})")
    return problems


def _form_of_partners(campaign: CampaignFile, plan: ElementPlan) -> str:
    """The form of repulsion that all partners of an element are going to have."""
    forms = {symbol: _form(campaign, campaign.elements[symbol]) for symbol in plan.needs}
    if plan.fallback is not None:
        other = load_partners(plan.fallback)
        forms |= {s: common_form({s: other.element(s)}) for s in sorted(plan.replaceable) if s not in forms}
    if len(set(forms.values())) > 1:
        listed = ", ".join(f"{symbol} {form}" for symbol, form in forms.items())
        raise ParameterError(f"its partners have several forms of repulsion, which do not combine: {listed}")
    return next(iter(forms.values()))


def _form(campaign: CampaignFile, plan: ElementPlan) -> str:
    """The form of repulsion that an element is going to have."""
    if plan.request.partners == CAMPAIGN:
        return _form_of_partners(campaign, plan)
    return plan.request.repulsion if plan.request.partners is None else plan_fit(plan.request).context.form
