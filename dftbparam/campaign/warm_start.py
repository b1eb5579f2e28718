"""Warm starts: parameters that are known already, to begin a fit with.

What may be named, and what it gives:

====================  ==============================================================================================
``published``         the element's default radii (the published ones where there are) and two families of good ones
``none``              nothing: the initial design alone
``group``             the nearest elements of the same group of the periodic table in the published set
``period``            the nearest elements of the same period
``group:SET``         the same from another parameter set: a file, the folder of a finished run, or a shipped name
a parameter set       the element's own parameters in a ``parameters.json``, in the folder of a finished run, or shipped
a trial store         the best points of earlier runs of the element: a ``trials.sqlite``, or a folder with one
====================  ==============================================================================================

A start is expressed in whatever space is searched (`dftbparam.space.starts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import log
from pathlib import Path
from typing import Any, Final

from dftbparam.campaign.partners import PARAMETERS_NAME
from dftbparam.elements import element
from dftbparam.errors import ParameterError
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.space import ElementParameters, ParameterSet, RepulsionParameters, load_parameter_set
from dftbparam.space.build import ElementSpace
from dftbparam.space.element_space import element_parameters
from dftbparam.space.starts import Start, default_starts, group_neighbours, period_neighbours, start_from_record
from dftbparam.store import STORE_NAME, Run, Trial, TrialStore

PUBLISHED: Final = "published"
NONE: Final = "none"
WORDS: Final = (PUBLISHED, NONE, "group", "period")
"""What may be named beside files and folders."""

PUBLISHED_SET: Final = "ptbp"
"""The set that neighbours are taken from unless another is named."""

NEIGHBOURS: Final = 3
"""Elements taken of a group or a period: beyond, radii say more about the other element than about this one."""

BEST: Final = 5
"""Points taken of each earlier run."""

DISTINCT: Final = 0.03
"""Points of an earlier run differ by more than this share in some radius: a search ends in a cluster of points, which
tell a new one little more than their best does."""

_SQLITE: Final = b"SQLite format 3\x00"


@dataclass(frozen=True)
class PlannedStart:
    """A start as a point of the space that is searched: its origin, its values, and what was moved for it."""

    origin: str
    values: Mapping[str, Any]
    moved: tuple[str, ...] = ()


def plan_starts(names: Sequence[str], space: ElementSpace) -> tuple[PlannedStart, ...]:
    """Find what is named, and express it in a space.

    Raises
    ------
    ParameterError
        Something named is neither a word, nor a file, nor a folder; it lacks the element or neighbours of it; ``none``
        stands beside others.
    FileFormatError, StoreError
        A file cannot be read as what it seems to be.
    """
    planned: list[PlannedStart] = []
    for start in find_starts(names, space.symbol):
        values, moved = start.in_space(space)
        planned.append(PlannedStart(start.origin, values, () if start.rough else tuple(moved)))
    return tuple(planned)


def find_starts(names: Sequence[str], symbol: str) -> list[Start]:
    """Find what is named; see `plan_starts`."""
    if NONE in names and len(names) > 1:
        raise ParameterError(f"to start from {', '.join(names)} contradicts itself: {NONE!r} stands alone")
    starts: list[Start] = []
    for name in dict.fromkeys(names):
        word, _, source = name.partition(":")
        if name == PUBLISHED:
            starts += default_starts(symbol)
        elif word in ("group", "period"):
            if not source and word != name:
                raise ParameterError(f"to start from {name!r}: a set must follow the colon, e.g. {word}:ptbp")
            starts += _from_neighbours(word, symbol, _load_set(source) if source else load_parameter_set(PUBLISHED_SET))
        elif name != NONE:
            starts += _from_file(name, symbol)
    return starts


def _from_neighbours(word: str, symbol: str, known: ParameterSet) -> list[Start]:
    neighbours = group_neighbours if word == "group" else period_neighbours
    found = neighbours(symbol, known.elements)[:NEIGHBOURS]
    if not found:
        atom = element(symbol)
        number = atom.group if word == "group" else atom.period
        where = (
            f"is in no {word}" if number is None else f"is in {word} {number}, and {known.name!r} has no other of it"
        )
        raise ParameterError(f"to start from {word!r}: {symbol} {where}", symbol=symbol)
    return [_from_record(symbol, known.element(other), known) for other in found]


def _from_record(symbol: str, record: ElementParameters, known: ParameterSet) -> Start:
    levels = None
    if record.on_site:
        levels = free_atom(record.symbol, record.configuration, tuple(record.shells), known.functional).levels
    return start_from_record(symbol, record, f"{record.symbol} of {known.name}", levels)


def _from_file(name: str, symbol: str) -> list[Start]:
    path = Path(name)
    if path.is_dir():
        if not (path / PARAMETERS_NAME).is_file() and (path / STORE_NAME).is_file():
            return _from_store(path / STORE_NAME, symbol)
    elif path.is_file() and _is_store(path):
        return _from_store(path, symbol)
    known = _load_set(name)
    return [_from_record(symbol, known.element(symbol), known)]


def _load_set(name: str) -> ParameterSet:
    path = Path(name)
    if path.is_dir():
        if not (path / PARAMETERS_NAME).is_file():
            raise ParameterError(
                f"to start from folder {name!r}: it has no {PARAMETERS_NAME} of a finished run, and no {STORE_NAME}",
                name=name,
            )
        return load_parameter_set(path / PARAMETERS_NAME)
    try:
        return load_parameter_set(name)
    except ParameterError:
        close = get_close_matches(name, WORDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ParameterError(
            f"to start from {name!r}: it is none of {', '.join(WORDS)}, no shipped set, no file and no folder{hint}",
            name=name,
        ) from None


def _is_store(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _from_store(path: Path, symbol: str) -> list[Start]:
    with TrialStore.open(path, create=False) as store:
        runs = store.runs()
        mine = [run for run in runs if _symbol(run) == symbol]
        if not mine:
            there = ", ".join(sorted({_symbol(run) for run in runs})) or "none"
            raise ParameterError(f"{store.where} has no run of {symbol}; it has runs of: {there}", symbol=symbol)
        starts = [start for run in mine for start in _best(run, store.trials(run.run_id), symbol)]
        if not starts:
            raise ParameterError(f"{store.where}: no trial of {symbol} succeeded", symbol=symbol)
    return starts


def _symbol(run: Run) -> str:
    return str(run.settings.get("evaluation", {}).get("symbol", "?"))


def _best(run: Run, trials: Sequence[Trial], symbol: str) -> list[Start]:
    """The best trials of a run that differ from each other."""
    good = [trial for trial in trials if trial.objective is not None]
    found: list[Start] = []
    for trial in sorted(good, key=lambda trial: (trial.objective, trial.index)):
        start = _from_trial(run, trial, symbol)
        if all(_apart(start, other) for other in found):
            found.append(start)
        if len(found) == BEST:
            break
    return found


def _from_trial(run: Run, trial: Trial, symbol: str) -> Start:
    values = {**run.settings["evaluation"].get("fixed", {}), **trial.parameters}
    # Levels of zero: the record's on-site energies then are the shifts themselves.
    zero = dict.fromkeys(element(symbol).valence, 0.0)
    given = trial.details.get("repulsion")
    repulsion = None if given is None else RepulsionParameters.model_validate(given)
    record = element_parameters(symbol, values, repulsion, zero)
    return start_from_record(symbol, record, f"trial {trial.index} of run {run.run_id}", zero)


def _apart(one: Start, other: Start) -> bool:
    pairs = [(one.density, other.density), *((one.shells[nl], other.shells[nl]) for nl in one.shells)]
    return any(abs(log(a.radius / b.radius)) > DISTINCT for a, b in pairs)
