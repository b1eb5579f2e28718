"""Finds run folders and reads them; what is damaged or missing is said, and the rest is read all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dftbparam.elements import all_symbols
from dftbparam.errors import DftbparamError, FileFormatError, InputError, ParameterError, StoreError
from dftbparam.reference import DEFAULT_DATASET, load_dataset
from dftbparam.report.html.delta import SUFFIX, DeltaFile, is_model_file, read_delta
from dftbparam.report.html.records import (
    BANDS_NAME,
    MANIFEST_NAME,
    PARAMETERS_NAME,
    SCORE_NAME,
    SET_NAME,
    TRIALS_NAME,
    StoredBandFile,
    StoredCard,
    StoredLevels,
    StoredManifest,
    StoredParameters,
    StoredScore,
    StoredSet,
    StoredTrial,
    read_record,
    read_trials,
)
from dftbparam.store import STORE_NAME, RunOverview, TrialStore

OURS: Final = "this fit"
PUBLISHED: Final = "published PTBP"
"""Names of the two cards in score.json, as fits write them."""


@dataclass(frozen=True)
class Problem:
    """Something that could not be read: where (for people), what is wrong, and whose element it is, where known."""

    where: str
    message: str
    symbol: str = ""


@dataclass(frozen=True)
class Result:
    """One element's run folder.

    ``source`` is its name under the folder that was given, ``levels`` are its bands, ``remark`` is what a reader should
    know of the numbers, ``left_out`` why a published set does not have the element, empty where it has.
    """

    symbol: str
    source: str
    score: StoredScore
    parameters: StoredParameters | None = None
    manifest: StoredManifest | None = None
    trials: tuple[StoredTrial, ...] = ()
    levels: tuple[StoredLevels, ...] = ()
    remark: str = ""
    left_out: str = ""

    @property
    def ours(self) -> StoredCard:
        """The card of the fit: by name, else the first."""
        cards = self.score.cards
        return cards.get(OURS) or next(iter(cards.values()))

    @property
    def published(self) -> StoredCard | None:
        """The card of the published set, where there is one."""
        return self.score.cards.get(PUBLISHED)


@dataclass(frozen=True)
class Collection:
    """All that was found.

    Attributes
    ----------
    sources
        Names of the folders given.
    results
        By symbol, in order of atomic number.
    reasons
        Symbol to why there is no result, for every element without one, those left out among them.
    problems
        What could not be read. A report of a collection with problems is not the whole truth.
    notes
        What a reader should know: elements found twice, runs without a manifest.
    deltas
        Delta models, in the order found.
    left_out
        Elements that a published set left out, by symbol, in order of atomic number; None where it has no report card.
        They are no results: they count in no mean.
    only
        The elements that were asked for; empty: all.
    """

    sources: tuple[str, ...]
    results: dict[str, Result]
    reasons: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    deltas: tuple[DeltaFile, ...] = ()
    left_out: dict[str, Result | None] = field(default_factory=dict)
    only: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The elements that tables have rows of: those asked for, else H to Cm."""
        return self.only or tuple(all_symbols())


def restrict(collection: Collection, symbols: Sequence[str]) -> Collection:
    """Keep some elements of a collection, and all delta models; the others' damaged files are no problem any more.

    Raises
    ------
    InputError
        No symbol, one that is no element, or none of them has a result, is left out of a set, or is damaged.
    """
    unknown = [symbol for symbol in symbols if symbol not in all_symbols()]
    if unknown or not symbols:
        given = ", ".join(repr(symbol[:60]) for symbol in unknown) or "no element"
        raise InputError(f"{given} given; right would be symbols from H to Cm, such as Ti,O", symbols=list(unknown))
    only = tuple(symbol for symbol in all_symbols() if symbol in symbols)
    problems = tuple(one for one in collection.problems if not one.symbol or one.symbol in only)
    known = {*collection.results, *collection.left_out, *(one.symbol for one in problems)}
    if not known & set(only):
        found = " ".join(collection.results) or "none"
        raise InputError(f"no result of {', '.join(only)}; elements with a result are: {found}", symbols=list(only))
    others = {symbol: "not asked for" for symbol in all_symbols() if symbol not in only}
    return replace(
        collection,
        results={symbol: one for symbol, one in collection.results.items() if symbol in only},
        reasons={symbol: others.get(symbol, why) for symbol, why in {**others, **collection.reasons}.items()},
        problems=problems,
        notes=tuple(note for note in collection.notes if note.partition(" ")[0].rstrip(":") not in others),
        left_out={symbol: one for symbol, one in collection.left_out.items() if symbol in only},
        only=only,
    )


def collect_results(folders: Sequence[Path], *, dataset: str | Path = DEFAULT_DATASET) -> Collection:
    """Read run folders, and folders of run folders, in the order given; of two results of an element the last stays.

    Parameters
    ----------
    folders
        Each a run folder (it holds score.json), a folder of such folders, looked into one level deep, by name, a
        published set (it holds scores.json), or the file of a delta model. Delta models are found in folders, too.
    dataset
        Reference set that tells which elements could have been fitted at all.

    Raises
    ------
    InputError
        No folder given, a folder is missing, or nothing in them is a result, damaged or not.
    """
    if not folders:
        raise InputError("a report needs at least one folder")
    given = [Path(folder) for folder in folders]
    for folder in given:
        if not folder.is_dir() and not (folder.is_file() and is_model_file(folder)):
            what = "is a file" if folder.exists() else "does not exist"
            raise InputError(
                f"{str(folder)!r} {what}; right would be a run folder (with {SCORE_NAME}), a folder of run folders, or "
                f"a delta model ({SUFFIX})",
                path=str(folder),
            )
    folders = [folder for folder in given if folder.is_dir()]
    found: dict[str, Result] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    left_out: dict[str, Result | None] = {}
    missing: dict[str, str] = {}
    for folder in folders:
        for result in _results(Path(folder), problems, notes, left_out, missing):
            if result.left_out:
                left_out[result.symbol] = result
                continue
            earlier = found.pop(result.symbol, None)
            if earlier is not None:
                notes.append(f"{result.symbol} was found twice: {result.source} is shown, {earlier.source} is not")
            found[result.symbol] = result
    notes += [f"{s} was left out of a set given; {found[s].source} is shown" for s in left_out if s in found]
    deltas = _deltas(given, problems)
    if not found and not problems and not missing and not deltas:
        raise InputError(
            f"no results in {', '.join(repr(str(folder)) for folder in folders)}: neither they nor the folders in them "
            f"hold {SCORE_NAME} or delta models ({SUFFIX}), nor are they published sets with {SET_NAME}",
            folders=[str(folder) for folder in folders],
        )
    results = {symbol: found[symbol] for symbol in all_symbols() if symbol in found}
    return Collection(
        sources=tuple(_name(folder) for folder in given),
        results=results,
        reasons=_reasons([Path(folder) for folder in folders], results, problems, notes, dataset)
        | {symbol: why for symbol, why in missing.items() if symbol not in results},
        problems=tuple(problems),
        notes=tuple(notes),
        deltas=deltas,
        # Where another folder has a result of it, that is shown.
        left_out={symbol: left_out[symbol] for symbol in all_symbols() if symbol in left_out and symbol not in results},
    )


def _deltas(given: Sequence[Path], problems: list[Problem]) -> tuple[DeltaFile, ...]:
    """Read the delta models given, and those in the folders given and in the folders in them, each once."""
    found: dict[Path, str] = {}
    for path in given:
        if path.is_file():
            found.setdefault(path.resolve(), path.name)
            continue
        for pattern in (f"*{SUFFIX}", f"*/*{SUFFIX}"):
            for file in sorted(path.glob(pattern)):
                if file.is_file():
                    found.setdefault(file.resolve(), f"{_name(path)}/{file.relative_to(path).as_posix()}")
    models = []
    for path, source in found.items():
        try:
            models.append(read_delta(path, source))
        except DftbparamError as error:
            problems.append(Problem(source, _without_path(error.message, path)))
    return tuple(models)


def _name(folder: Path) -> str:
    return folder.resolve().name or "/"


def _shown(path: Path, folder: Path) -> str:
    """A path as the page names it: from the folder given on, so that it does not tell where that folder lies."""
    return _name(folder) if path == folder else f"{_name(folder)}/{path.name}"


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / SCORE_NAME).exists():
        yield folder
        return
    yield from sorted(path for path in folder.iterdir() if path.is_dir() and (path / SCORE_NAME).exists())


def _results(
    folder: Path,
    problems: list[Problem],
    notes: list[str],
    left_out: dict[str, Result | None],
    missing: dict[str, str],
) -> Iterator[Result]:
    """Yield the results of a published set, or of the run folders in a folder."""
    if (folder / SET_NAME).exists():
        yield from _read_set(folder, problems, left_out, missing)
        return
    for path in _run_folders(folder):
        result = read_run(path, _shown(path, folder), problems, notes)
        if result is not None:
            yield result


def _read_set(
    folder: Path, problems: list[Problem], left_out: dict[str, Result | None], missing: dict[str, str]
) -> list[Result]:
    """Read a published set: cards, uncertainty and parameters; its trials stayed with the runs.

    ``left_out`` gets the elements that the set left out, ``missing`` those that are no result, with the reason.
    """
    try:
        scores = read_record(folder / SET_NAME, StoredSet)
    except DftbparamError as error:
        problems.append(Problem(f"{_name(folder)}/{SET_NAME}", _without_path(error.message, folder / SET_NAME)))
        return []
    parameters = None
    try:
        parameters = read_record(folder / PARAMETERS_NAME, StoredParameters)
    except DftbparamError as error:
        message = _without_path(error.message, folder / PARAMETERS_NAME)
        problems.append(Problem(f"{_name(folder)}/{PARAMETERS_NAME}", message))
    reasons = {symbol: "; ".join(why) or "no reason given" for symbol, why in scores.left_out.items()}
    left_out |= dict.fromkeys(reasons)
    missing |= {symbol: f"left out of the set: {why}" for symbol, why in reasons.items()}
    found = []
    for symbol in all_symbols():
        one = scores.elements.get(symbol)
        if one is None:
            continue
        cards = {name: one.cards[key] for name, key in ((OURS, "ours"), (PUBLISHED, "ptbp")) if key in one.cards}
        if OURS not in cards:
            missing.setdefault(symbol, "the set has parameters of it, and no report card")
            continue
        score = StoredScore(schema_version=1, symbol=symbol, cards=cards, uncertainty=one.uncertainty)
        why = reasons.get(symbol, "")
        found.append(Result(symbol, _name(folder), score, parameters, left_out=why))
    return found


def _without_path(message: str, path: Path) -> str:
    """A message that does not tell where a file lies."""
    return message.replace(f"{path}", path.name, 1).removeprefix(f"{path.name}: ")


def read_run(path: Path, source: str, problems: list[Problem], notes: list[str]) -> Result | None:
    """Read one run folder; None where its score cannot be read. ``problems`` and ``notes`` are added to."""
    symbol = path.name if path.name in all_symbols() else ""

    def failed(error: DftbparamError, name: str) -> None:
        problems.append(Problem(f"{source}/{name}", _without_path(error.message, path / name), symbol))

    try:
        score = read_record(path / SCORE_NAME, StoredScore)
    except DftbparamError as error:
        failed(error, SCORE_NAME)
        return None
    if score.symbol not in all_symbols():
        problems.append(
            Problem(f"{source}/{SCORE_NAME}", f"{score.symbol[:60]!r} is no element from H to Cm; not shown", symbol)
        )
        return None
    symbol = score.symbol
    parameters = manifest = None
    trials: tuple[StoredTrial, ...] = ()
    try:
        parameters = read_record(path / PARAMETERS_NAME, StoredParameters)
    except DftbparamError as error:
        failed(error, PARAMETERS_NAME)
    if (path / TRIALS_NAME).exists():
        try:
            trials = read_trials(path / TRIALS_NAME)
        except DftbparamError as error:
            failed(error, TRIALS_NAME)
    levels: tuple[StoredLevels, ...] = ()
    if (path / BANDS_NAME).exists():
        try:
            bands = read_record(path / BANDS_NAME, StoredBandFile)
            if bands.symbol != symbol:
                raise FileFormatError(f"bands of {bands.symbol[:60]!r}, not of {symbol}", path=str(path / BANDS_NAME))
            levels = bands.structures
        except DftbparamError as error:
            failed(error, BANDS_NAME)
    if (path / MANIFEST_NAME).exists():
        try:
            manifest = read_record(path / MANIFEST_NAME, StoredManifest)
        except DftbparamError as error:
            failed(error, MANIFEST_NAME)
    else:
        notes.append(f"{symbol}: {source} has no {MANIFEST_NAME}; the run was interrupted, or is being written")
    return Result(symbol, source, score, parameters, manifest, trials, levels)


def _reasons(
    folders: Sequence[Path],
    results: dict[str, Result],
    problems: Sequence[Problem],
    notes: list[str],
    dataset: str | Path,
) -> dict[str, str]:
    """Say per element without a result why: what is damaged, what the store knows, what the references lack."""
    damaged = {problem.symbol: f"{problem.where}: {problem.message}" for problem in problems if problem.symbol}
    states = _states(folders, notes)
    data = load_dataset(dataset)
    covered = {crystal.symbol for crystal in data.crystals if crystal.partner is None}
    begun = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    reasons = {}
    for symbol in all_symbols():
        if symbol in results:
            continue
        if symbol in damaged:
            reasons[symbol] = damaged[symbol]
        elif symbol in states:
            reasons[symbol] = states[symbol]
        elif symbol in begun:
            reasons[symbol] = f"a folder without {SCORE_NAME}: the run has not finished"
        elif symbol not in covered:
            reasons[symbol] = f"not fitted; {data.name} has no elemental crystal of it"
        else:
            reasons[symbol] = "not in the folders given"
    return reasons


def _states(folders: Sequence[Path], notes: list[str]) -> dict[str, str]:
    """What the trial stores in the folders say of runs named after an element, ``NAME/Si``."""
    states: dict[str, str] = {}
    for folder in folders:
        if not (folder / STORE_NAME).is_file():
            continue
        try:
            with TrialStore.open(folder / STORE_NAME, read_only=True) as store:
                overview = store.overview()
        except (ParameterError, StoreError) as error:
            notes.append(f"{_name(folder)}/{STORE_NAME} tells nothing of runs ({type(error).__name__})")
            continue
        for run in overview:
            symbol = run.run_id.rpartition("/")[2]
            if symbol in all_symbols():
                states[symbol] = _state(run)
    return states


def _state(run: RunOverview) -> str:
    done = run.finished + run.failed
    budget = "" if run.evaluations is None else f" of {run.evaluations}"
    what = f"{run.state or 'begun'}, {done}{budget} trials" if done else (run.state or "begun, no trial yet")
    return f"{what}: {run.message}" if run.message else what
