"""What the store keeps of a campaign beside its trials: the file it was begun with, its settings, and versions.

The record is a run without trials under the campaign's name; the runs of the elements are ``NAME/SYMBOL``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from dftbparam.campaign.campaign_file import CampaignFile, differences
from dftbparam.campaign.executor import Pool
from dftbparam.campaign.run import provenance_of_trials
from dftbparam.errors import ParameterError, StoreError
from dftbparam.store import Run, TrialStore
from dftbparam.store.connection import without_password

FORMAT: Final = 1
"""Raised when a record can no longer be read by the previous code."""


def _without_passwords(text: str) -> str:
    """Return a file without the passwords of its addresses; an address stands on one line, in quotes."""
    return "".join(without_password(line) for line in text.splitlines(keepends=True))


DASHBOARD: Final = "Dask's dashboard: "


@contextlib.contextmanager
def announcing(store: TrialStore, campaign: str, pool: Pool) -> Iterator[Callable[[], None]]:
    """Give a function that has the record of a campaign say where Dask's dashboard is, until the end.

    Call it once workers are at work; asking a pool for its dashboard may start them. Of several drivers the address of
    the last stays. A driver that is killed leaves its own behind; the next one's, or its end, replaces it.
    """
    driver = f"{socket.gethostname()}:{os.getpid()}"
    said: list[str | None] = []

    def say() -> None:
        if not said:
            said.append(pool.dashboard)
            if said[0] is not None:
                store.set_state(campaign, "running", f"{DASHBOARD}{said[0]}", driver)

    try:
        yield say
    finally:
        if said and said[0] is not None:
            # The store may be what ended the campaign; that is said elsewhere.
            with contextlib.suppress(StoreError):
                store.set_state(campaign, "finished", "", driver)


def dashboard_of(store: TrialStore, campaign: str) -> str:
    """Return the address of Dask's dashboard that the record of a campaign names; empty where it names none.

    What is no address of the web is none: the store may be anybody's.
    """
    for one in store.overview(campaign):
        if one.run_id == campaign and one.message.startswith(DASHBOARD):
            address = one.message.removeprefix(DASHBOARD)
            return address if is_web_address(address) else ""
    return ""


def is_web_address(text: str) -> bool:
    """Whether a text is an address that a page may link to."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text


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
