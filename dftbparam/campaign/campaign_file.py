"""Campaign files: many elements to fit, as TOML.

::

    name = "oxides"                  # of the campaign; its runs in the store are oxides/Mg, oxides/Ca, ...
    store = "oxides.sqlite"          # a path beside this file, or a database address
    out = "oxides"                   # folder of the results, one folder an element
    elements = ["Mg", "Ca"]          # or tables [elements.Mg], [elements.Ca]

    [defaults]                       # for every element; the fields of `dftbparam.campaign.fit.FitRequest`
    references = "gpaw-pbe"
    evaluations = 100

    [groups.anions]                  # for the elements of a group
    elements = ["O"]
    partners = "campaign"

An element's own table counts before its group's, and that before the defaults. ``partners = "campaign"`` fits an
element on binaries with elements of this campaign, once those are done: ``needs`` names them, else they are all
partners that the references have. Such dependencies must not form a circle.

A text is taken for a path, relative to the file's folder, where it has a slash in it, or ends in ``.json``, ``.toml``
or ``.sqlite``; else for a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dftbparam.campaign.campaign_head import CampaignHead
from dftbparam.campaign.fit import FitRequest
from dftbparam.campaign.partners import load_partners
from dftbparam.elements import element
from dftbparam.errors import DftbparamError, ElementError, FileFormatError, InputError
from dftbparam.reference import load_dataset
from dftbparam.space.toml_lines import line_of

CAMPAIGN: Final = "campaign"
"""What stands for the elements of the campaign where partners are named."""

MACHINE: Final = frozenset({"symbol", "workers", "scheduler", "cluster", "out", "resume"})
"""Fields of a request that are no matter of an element: what the command says, or the file as a whole."""

PATHS: Final = frozenset({"references", "space", "partners", "start_from"})
"""Settings that may be a path."""

LISTS: Final = frozenset({"start_from", "crystals", "exclude_partners"})
"""Settings of several texts, of which one may stand without brackets."""

OWN: Final = frozenset({"needs", "share"})
"""Settings of an element beside those of a request."""

BUDGET: Final = frozenset({"evaluations", "patience", "min_improvement"})
"""Settings that decide where a list of trials ends, not what is in it: a campaign may be resumed with others."""


@dataclass(frozen=True)
class ElementPlan:
    """One element of a campaign.

    Attributes
    ----------
    request
        What to fit; ``partners`` are settled once the elements of ``needs`` are done.
    needs
        Elements of the campaign that must be done before.
    fallback
        Parameter set that replaces partners which the campaign lacks, or which failed; None where there is none.
    replaceable
        Partners that the fallback has.
    share
        Weight when the workers are shared.
    settings
        All that was asked for, with defaults, as JSON values and without what depends on the machine.
    places
        Where the file says how to fit it: its own table or the list of elements, and its group, as far as there are.
    """

    symbol: str
    request: FitRequest
    needs: tuple[str, ...] = ()
    fallback: str | None = None
    replaceable: frozenset[str] = frozenset()
    share: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    places: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class CampaignFile:
    """A campaign file that was read and checked.

    Attributes
    ----------
    store
        Path, or database address; may carry a password: never to be shown.
    elements
        By symbol, in an order in which every element comes after those it needs.
    text
        The file as it is.
    """

    name: str
    path: Path
    store: str
    out: Path
    elements: dict[str, ElementPlan]
    text: str

    def run_id(self, symbol: str) -> str:
        """Name of an element's run in the store."""
        return f"{self.name}/{symbol}"

    def where(self, symbol: str) -> str:
        """Lines at which the file says how to fit an element: ``line 16, elements.Mg; line 10, groups.metals``."""
        found = []
        for place in self.elements[symbol].places:
            line = line_of(self.text, place)
            found.append(f"{'' if line is None else f'line {line}, '}{'.'.join(place[:2])}")
        return "; ".join(found)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Settings of all elements, by symbol."""
        return {symbol: plan.settings for symbol, plan in self.elements.items()}


def read_campaign(path: Path) -> CampaignFile:
    """Read a campaign file, and check all that can be checked before anything runs.

    Raises
    ------
    FileFormatError
        The file cannot be read or is no TOML; an unknown key, a value that does not fit, an element that is unknown,
        named twice or needs what the campaign lacks, elements that need each other, or reference data or a set to fall
        back on that are missing where dependencies are to be taken from them. Carries path and, where it can be told,
        line.
    """
    return _Reader(CampaignHead(path)).read()


class _Reader:
    """Reads one file; knows its text, to name lines."""

    def __init__(self, head: CampaignHead) -> None:
        self.head, self.fail, self.known = head, head.fail, head.known

    def read(self) -> CampaignFile:
        head = self.head
        settings = self._settings()
        if not settings:
            raise self.fail('no element is named; write e.g. elements = ["Si", "Ge"], or a table [elements.Si]')
        plans = {symbol: self._plan(symbol, own, head.out / symbol, set(settings)) for symbol, own in settings.items()}
        order = self._order({symbol: plan.needs for symbol, plan in plans.items()})
        return CampaignFile(
            name=head.name,
            path=head.path,
            store=head.store,
            out=head.out,
            elements={symbol: plans[symbol] for symbol in order},
            text=head.text,
        )

    def _settings(self) -> dict[str, dict[str, Any]]:
        """Settings by element: defaults, then the group's, then its own."""
        head = self.head
        known = {*FitRequest.model_fields} - MACHINE | OWN
        self.known(head.defaults, known, "settings", "defaults")
        if isinstance(head.elements, list):
            own: dict[str, dict[str, Any]] = {symbol: {} for symbol in head.elements}
            if len(own) != len(head.elements):
                double = next(one for one in head.elements if head.elements.count(one) > 1)
                raise self.fail(f"{double} is named twice", "elements")
        else:
            own = dict(head.elements)
        for symbol, given in own.items():
            self._symbol(symbol, "elements", symbol)
            self.known(given, known, "settings", "elements", symbol)
        group_of: dict[str, str] = {}
        order: list[str] = []
        for name, given in head.groups.items():
            self.known(given, {*known, "elements"}, "a group", "groups", name)
            members = given.get("elements")
            if not (isinstance(members, list) and members and all(isinstance(one, str) for one in members)):
                raise self.fail('a group needs its elements, e.g. elements = ["Li", "Na"]', "groups", name, "elements")
            for symbol in members:
                self._symbol(symbol, "groups", name, "elements")
                if symbol in group_of:
                    raise self.fail(
                        f"{symbol} is in {group_of[symbol]!r} already"
                        if group_of[symbol] != name
                        else f"{symbol} is named twice",
                        "groups",
                        name,
                        "elements",
                    )
                group_of[symbol] = name
                order.append(symbol)
        settings: dict[str, dict[str, Any]] = {}
        for symbol in dict.fromkeys([*own, *order]):
            group = dict(head.groups[group_of[symbol]]) if symbol in group_of else {}
            group.pop("elements", None)
            settings[symbol] = {**head.defaults, **group, **own.get(symbol, {})}
        return settings

    def _symbol(self, symbol: str, *place: str) -> None:
        try:
            element(symbol)
        except ElementError as error:
            raise self.fail(error.message, *place) from None

    def _where(self, symbol: str, key: str) -> tuple[str, ...]:
        """Where a setting of an element stands: in its own table, its group's, or the defaults."""
        own = self.head.elements
        if isinstance(own, dict) and key in own.get(symbol, {}):
            return ("elements", symbol, key)
        for name, group in self.head.groups.items():
            if symbol in group.get("elements", ()) and key in group:
                return ("groups", name, key)
        if key in self.head.defaults:
            return ("defaults", key)
        return self._places(symbol)[0]

    def _places(self, symbol: str) -> tuple[tuple[str, ...], ...]:
        """Where an element stands: in its own table or the list of elements, and in its group; one of them at least."""
        own = [("elements", symbol)] if symbol in self.head.elements else []
        groups = self.head.groups.items()
        return (*own, *(("groups", name, "elements", symbol) for name, one in groups if symbol in one["elements"]))

    def _plan(self, symbol: str, given: dict[str, Any], out: Path, campaign: set[str]) -> ElementPlan:
        own = {key: given[key] for key in given if key in OWN}
        asked = {key: self._beside(given[key]) if key in PATHS else given[key] for key in given if key not in OWN}
        for key in LISTS & asked.keys():
            if isinstance(asked[key], str):
                asked[key] = [asked[key]]
        source = asked.pop("partners", None)
        share = own.get("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < float("inf"):
            raise self.fail(f"must be a number above 0, got {share!r}", *self._where(symbol, "share"))
        with_campaign, other = self._sources(symbol, source)
        request = self._request(symbol, asked, out, CAMPAIGN if with_campaign else other)
        needs: tuple[str, ...] = ()
        replaceable: frozenset[str] = frozenset()
        if with_campaign:
            needs, replaceable = self._needs(symbol, request, own.get("needs"), other, campaign)
        elif "needs" in own:
            raise self.fail('has a meaning with partners = "campaign" only', *self._where(symbol, "needs"))
        settings = request.model_dump(mode="json", exclude=set(MACHINE | {"dftbplus"}) - {"symbol"})
        # As written: where a file lies is no matter of what is fitted.
        settings |= {
            key: [given[key]] if key in LISTS and isinstance(given[key], str) else given[key]
            for key in PATHS
            if key in given
        }
        settings |= {"needs": list(needs), "share": float(share)}
        return ElementPlan(
            symbol=symbol,
            request=request,
            needs=needs,
            fallback=other if with_campaign else None,
            replaceable=replaceable,
            share=float(share),
            settings=settings,
            places=self._places(symbol),
        )

    def _sources(self, symbol: str, source: Any) -> tuple[bool, str | None]:
        """Whether partners are of the campaign, and the other set: the only one, or the fallback."""
        listed = [source] if source is None or isinstance(source, str) else source
        if not (
            isinstance(listed, list)
            and all(one is None or isinstance(one, str) for one in listed)
            and (len(listed) == 1 or (len(listed) == 2 and listed[0] == CAMPAIGN != listed[1]))
        ):
            raise self.fail(
                'must be "campaign", a parameter set, or ["campaign", SET] with a set for partners that the campaign '
                f"lacks or that fail; given: {source!r}",
                *self._where(symbol, "partners"),
            )
        if listed[0] == CAMPAIGN:
            return True, listed[1] if len(listed) == 2 else None
        return False, listed[0]

    def _request(self, symbol: str, asked: dict[str, Any], out: Path, partners: str | None) -> FitRequest:
        try:
            return FitRequest(symbol=symbol, out=out, resume=True, partners=partners, **asked)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            key = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] in ("tuple_type", "list_type"):
                message = "must be a list of texts"
            shown = f"{message} (given: {first['input']!r})" if key and first["type"] != "value_error" else message
            if key:
                raise self.fail(shown, *self._where(symbol, key)) from None
            raise self.fail(shown, *self._places(symbol)[0]) from None
        except DftbparamError as error:
            raise self.fail(error.message, *self._places(symbol)[0]) from None

    def _needs(
        self, symbol: str, request: FitRequest, named: Any, fallback: str | None, campaign: set[str]
    ) -> tuple[tuple[str, ...], frozenset[str]]:
        """Elements of the campaign that are partners, and the partners that the fallback has."""
        if named is not None and not (isinstance(named, list) and named and all(isinstance(one, str) for one in named)):
            raise self.fail(f'must be symbols, e.g. ["Mg", "Ca"]; given: {named!r}', *self._where(symbol, "needs"))
        try:
            data = load_dataset(request.references)
        except InputError as error:
            raise self.fail(error.message, *self._where(symbol, "references")) from None
        there = dict.fromkeys(s for crystal in data.binaries_of(symbol) for s in crystal.symbols if s != symbol)
        found = [one for one in there if one not in request.exclude_partners]
        wanted = found if named is None else list(dict.fromkeys(named))
        place = self._where(symbol, "partners" if named is None else "needs")
        if symbol in wanted:
            raise self.fail(f"{symbol} cannot be its own partner", *place)
        strange = [one for one in wanted if one not in found]
        if strange or not wanted:
            raise self.fail(
                f"{data.name!r} has no binaries of {symbol} with {', '.join(strange) or 'any element'}; it has them "
                f"with: {', '.join(found) or 'none'}",
                *place,
            )
        replaceable: frozenset[str] = frozenset()
        if fallback is not None:
            try:
                replaceable = frozenset(wanted) & frozenset(load_partners(fallback).elements)
            except InputError as error:
                raise self.fail(error.message, *self._where(symbol, "partners")) from None
        missing = [one for one in wanted if one not in campaign and one not in replaceable]
        if missing:
            raise self.fail(
                f"{symbol} needs {', '.join(missing)}, which this campaign does not fit: add {missing[0]} to its "
                "elements, name the partners it is to have (needs), or give a set to fall back on (partners = "
                '["campaign", "ptbp"])',
                *place,
            )
        return tuple(one for one in wanted if one in campaign), replaceable

    def _order(self, needs: Mapping[str, Sequence[str]]) -> list[str]:
        """Symbols in the order of the file, but each after those it needs."""
        order: list[str] = []
        while len(order) < len(needs):
            free = [one for one in needs if one not in order and all(other in order for other in needs[one])]
            if not free:
                raise self._circle({one: needs[one] for one in needs if one not in order})
            order.append(free[0])
        return order

    def _circle(self, needs: Mapping[str, Sequence[str]]) -> FileFormatError:
        """The error of elements of which each needs another one of them."""
        trail = [next(iter(needs))]
        while trail[-1] not in trail[:-1]:
            trail.append(next(one for one in needs[trail[-1]] if one in needs))
        circle = trail[trail.index(trail[-1]) :]
        return self.fail(
            f'elements need each other: {" needs ".join(circle)}; take one of them from a set, e.g. partners = "ptbp"',
            *self._where(circle[0], "partners"),
        )

    def _beside(self, value: Any) -> Any:
        """Make a path relative to the file's folder one that is found from here."""
        if isinstance(value, list):
            return [self._beside(one) for one in value]
        if not isinstance(value, str) or not is_path(value):
            return value
        word, colon, rest = value.partition(":")
        if colon and word in ("group", "period"):
            return f"{word}:{self.head.path.parent / rest}"
        return str(self.head.path.parent / value)


def is_path(text: str) -> bool:
    """Whether a text is taken for a path rather than a name."""
    return "/" in text or text.endswith((".json", ".toml", ".sqlite"))


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], used: Mapping[str, Any] | None = None
) -> tuple[list[str], list[str]]:
    """Compare an element's settings with those of an earlier file.

    Parameters
    ----------
    used
        What the run took for settings that the earlier file left open, as it is in the store: naming that is no change.

    Returns
    -------
    budget, others
        One line per setting that differs: those a run may be resumed with, and those it may not.
    """
    lists: tuple[list[str], list[str]] = ([], [])
    for key in sorted({*old, *new}):
        was, now = (one.get(key, _default(key)) for one in (old, new))
        if was is None and now is not None and now == (used or {}).get(key):
            continue
        if was != now:
            lists[key not in BUDGET and key != "share"].append(f"{key}: was {was!r}, now {now!r}")
    return lists


def _default(key: str) -> Any:
    """What a setting was before it existed, in files of older versions."""
    known = FitRequest.model_fields.get(key)
    value = None if known is None else known.get_default()
    return list(value) if isinstance(value, tuple) else value
