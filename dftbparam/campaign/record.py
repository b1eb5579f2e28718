"""What the store keeps of a campaign beside its trials: the file it was begun with, its settings, and versions.

The record is a run without trials under the campaign's name; the runs of the elements are ``NAME/SYMBOL``.
"""

from __future__ import annotations

from typing import Any, Final

from dftbparam.campaign.campaign_file import CampaignFile, differences
from dftbparam.campaign.run import provenance_of_trials
from dftbparam.errors import ParameterError
from dftbparam.store import Run, TrialStore
from dftbparam.store.connection import without_password

FORMAT: Final = 1
"""Raised when a record can no longer be read by the previous code."""


def _without_passwords(text: str) -> str:
    """Return a file without the passwords of its addresses; an address stands on one line, in quotes."""
    return "".join(without_password(line) for line in text.splitlines(keepends=True))


def begin_campaign(store: TrialStore, campaign: CampaignFile, *, resume: bool) -> list[str]:
    """Put a campaign on record, or compare it with its record.

    Parameters
    ----------
    resume
        Go on with the campaign where the store has it, else begin it. Without it, a campaign of this name is an error
        once an element of it has been begun: one whose workers never came is begun again like a new one.

    Returns
    -------
    One line on everything that differs from the file it went on with last.

    Raises
    ------
    ParameterError
        The store has the campaign, and ``resume`` is False; or the file changes what elements that have been begun are
        fitted with. Budgets may change.
    StoreError
        The store cannot be used.
    """
    content: dict[str, Any] = {"file": _without_passwords(campaign.text), "elements": campaign.settings}
    if not store.has_run(campaign.name):
        run = Run(
            run_id=campaign.name,
            settings={"campaign": campaign.name, "format": FORMAT},
            budget=content,
            provenance=provenance_of_trials(),
        )
        try:
            store.create_run(run)
            return []
        except ParameterError:
            # Another driver was quicker by a moment.
            if not store.has_run(campaign.name):
                raise
    stored = store.load_run(campaign.name)
    if stored.settings.get("campaign") != campaign.name:
        raise ParameterError(
            f"{store.where} holds a run {campaign.name!r} that is no campaign; choose another name or store",
            run_id=campaign.name,
        )
    if stored.settings.get("format") != FORMAT:
        raise ParameterError(
            f"campaign {campaign.name!r} in {store.where} has format {stored.settings.get('format')}, this version "
            f"reads {FORMAT}",
            run_id=campaign.name,
        )
    if not resume and any(store.has_run(one.run_id) for one in store.overview(f"{campaign.name}/")):
        raise ParameterError(
            f"{store.where} holds a campaign {campaign.name!r} already; go on with it (dftbparam campaign resume "
            f"{campaign.path}), or choose another name or store",
            run_id=campaign.name,
        )
    notes = _compare(store, campaign, stored.budget.get("elements", {}))
    if stored.budget != content:
        store.set_budget(campaign.name, content)
    return notes


def _compare(store: TrialStore, campaign: CampaignFile, before: dict[str, Any]) -> list[str]:
    """Tell what differs from the last file; `ParameterError` for what must not."""
    notes: list[str] = []
    refused: list[str] = []
    for symbol in dict.fromkeys([*campaign.elements, *before]):
        if symbol not in campaign.elements:
            notes.append(f"{symbol} is no longer in the file; its trials are kept")
        elif symbol not in before:
            notes.append(f"{symbol} is new")
        else:
            begun = store.has_run(campaign.run_id(symbol))
            used = store.load_run(campaign.run_id(symbol)).settings.get("campaign", {}) if begun else {}
            budget, others = differences(before[symbol], campaign.elements[symbol].settings, used)
            notes += [f"{symbol}: {line}" for line in budget]
            (refused if begun else notes).extend(f"{symbol}: {line}" for line in others)
    if refused:
        listed = "".join(f"\n  {line}" for line in refused)
        raise ParameterError(
            f"{campaign.path}: elements of campaign {campaign.name!r} were begun with other settings; go on with "
            f"those, or choose another name:{listed}",
            differing=refused,
        )
    return notes
