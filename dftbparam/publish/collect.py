"""Results of many runs as one set: run folders, folders of them, parameter files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dftbparam.elements import element
from dftbparam.errors import FileFormatError, InputError, ParameterError
from dftbparam.publish.manifest import MANIFEST_NAME, Manifest, read_manifest
from dftbparam.publish.run_folder import PARAMETERS_NAME, SCORE_NAME
from dftbparam.publish.set_manifest import RUN_FIELDS, SET_KIND, SetManifest, read_set_manifest
from dftbparam.space import ElementParameters, ParameterSet, load_parameter_set

OURS: Final = "this fit"
PTBP: Final = "published PTBP"
"""Names of the cards in a run's score.json."""

SHORT: Final = {"ours": OURS, "ptbp": PTBP}
"""Their short names, which a published set has in its scores."""

SET_SCORES_NAME: Final = "scores.json"


@dataclass(frozen=True)
class ElementResult:
    """One element as it was found.

    Attributes
    ----------
    cards
        Report cards by name, as JSON values; empty where there is no score.json.
    uncertainty
        As JSON values (`dftbparam.score.uncertainty.Uncertainty`), or None.
    manifest
        Of its run; None where the parameters come from a file without a run.
    origin
        Name of the run, or of the parameter set.
    """

    symbol: str
    parameters: ElementParameters
    cards: dict[str, Any]
    uncertainty: dict[str, Any] | None
    manifest: Manifest | None
    origin: str
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Collection:
    """All elements in order of atomic number, and what they have in common."""

    elements: dict[str, ElementResult]
    functional: str
    superposition: str

    def parameter_set(self, name: str, symbols: Iterable[str] | None = None) -> ParameterSet:
        """Return the parameters of ``symbols`` (all unless given) as a set."""
        chosen = list(self.elements) if symbols is None else list(symbols)
        return ParameterSet.model_validate(
            {
                "name": name,
                "functional": self.functional,
                "superposition": self.superposition,
                "elements": {symbol: self.elements[symbol].parameters for symbol in chosen},
                "source": f"dftbparam publish --name {name}",
                "provenance": {symbol: self.elements[symbol].provenance for symbol in chosen},
            }
        )


def collect(results: Iterable[str | Path], only: Iterable[str] | None = None) -> Collection:
    """Read results.

    Parameters
    ----------
    only
        Elements to take; the others take no part in any check. None: all.
    results
        Each the folder of a finished run, a folder that holds such folders (those without a manifest are unfinished and
        left out), the folder of a published set, a parameter file, a folder with a parameters.json, or the name of a
        shipped set.

    Raises
    ------
    ParameterError
        Nothing there, an element twice, or results that do not belong to one kind of set.
    FileFormatError
        A malformed file.
    """
    found: dict[str, ElementResult] = {}
    kinds: dict[tuple[str, str], str] = {}
    wanted = None if only is None else tuple(only)
    there: dict[str, None] = {}
    for given in results:
        for folder, path in _sources(given):
            parameters = load_parameter_set(path)
            published = _Published.read(folder) if folder is not None and _is_set(folder) else None
            there.update(dict.fromkeys(parameters.elements))
            taken = {s: one for s, one in parameters.elements.items() if wanted is None or s in wanted}
            if taken:
                kinds.setdefault((parameters.functional, parameters.superposition), str(path))
            for symbol, record in taken.items():
                if symbol in found:
                    raise ParameterError(
                        f"{symbol} is in {found[symbol].origin!r} and again in {str(path)!r}; name only one of them",
                        symbol=symbol,
                    )
                if published is not None:
                    found[symbol] = published.result(symbol, record, parameters)
                else:
                    found[symbol] = _result(symbol, record, parameters, folder)
    absent = [symbol for symbol in wanted or () if symbol not in found]
    if wanted is not None and (absent or not wanted):
        raise ParameterError(
            f"no results for {', '.join(absent) or 'no element'}; there are some for {' '.join(there)}",
            symbol=absent[0] if absent else "",
        )
    if not found:
        raise ParameterError("no results given; name run folders, a campaign's folder of results, or a parameter file")
    if len(kinds) > 1:
        raise ParameterError(
            "results of different kinds do not make a set: "
            + "; ".join(f"{path}: {functional}, {superposition}" for (functional, superposition), path in kinds.items())
        )
    forms = {symbol: r.parameters.repulsion and r.parameters.repulsion.form for symbol, r in found.items()}
    if len(set(forms.values())) > 1:
        first = {str(form): symbol for symbol, form in reversed(forms.items())}
        raise ParameterError(
            "elements of one set need one form of repulsion, or pairs have none; found "
            + ", ".join(f"{form} ({symbol})" for form, symbol in first.items())
        )
    ((functional, superposition),) = kinds
    ordered = dict(sorted(found.items(), key=lambda item: element(item[0]).number))
    return Collection(ordered, functional, superposition)


def _sources(given: str | Path) -> list[tuple[Path | None, str | Path]]:
    """(folder of a run or a set or None, parameter file or shipped name) of everything an argument means."""
    path = Path(given)
    if not path.is_dir():
        return [(None, given)]
    if _is_run(path):
        return [(path, path / PARAMETERS_NAME)]
    runs = sorted(inner for inner in path.iterdir() if inner.is_dir() and _is_run(inner))
    if runs:
        return [(run, run / PARAMETERS_NAME) for run in runs]
    if (path / PARAMETERS_NAME).is_file():
        return [(None, path / PARAMETERS_NAME)]
    raise ParameterError(
        f"{str(path)!r} holds neither a finished run ({MANIFEST_NAME} and {PARAMETERS_NAME}) nor folders of such runs",
        path=str(path),
    )


def _is_run(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file() and (folder / PARAMETERS_NAME).is_file()


def _is_set(folder: Path) -> bool:
    """Whether a manifest is that of a published set; a malformed one is for its reader to refuse."""
    try:
        value = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("kind") == SET_KIND


@dataclass(frozen=True)
class _Published:
    """A published set as a source: its manifest knows the runs, its scores.json the report cards."""

    folder: Path
    manifest: SetManifest
    scores: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Published:
        path = folder / SET_SCORES_NAME
        scores = _score(path).get("elements", {})
        if not isinstance(scores, dict):
            raise FileFormatError("elements must be an object, symbol to report cards", path=str(path))
        for symbol, one in scores.items():
            cards = one.get("cards", {}) if isinstance(one, dict) else None
            if not (isinstance(cards, dict) and all(isinstance(card, dict) for card in cards.values())):
                raise FileFormatError(f"{symbol}: no report cards as a set has them", path=str(path))
        return cls(folder, read_set_manifest(folder), scores)

    def result(self, symbol: str, record: ElementParameters, parameters: ParameterSet) -> ElementResult:
        known, score = self.manifest.elements.get(symbol), self.scores.get(symbol, {})
        if known is not None and known.parameters_sha256 != parameters_checksum(record):
            raise FileFormatError(
                f"{symbol}: the parameters are not those of the set's manifest, so that its report card is of others; "
                f"give {PARAMETERS_NAME} itself to publish them without a card",
                path=str(self.folder / PARAMETERS_NAME),
            )
        cards = {SHORT.get(short, short): card for short, card in score.get("cards", {}).items()}
        provenance = dict(parameters.provenance.get(symbol, {})) | {"set": parameters.name}
        run = None
        if known is not None and known.created:
            run = Manifest(
                name=known.origin,
                elements=(symbol,),
                **{name: getattr(known, name) for name in RUN_FIELDS},
            )
        origin = parameters.name if known is None else known.origin
        return ElementResult(symbol, record, cards, score.get("uncertainty"), run, origin, provenance)


def parameters_checksum(record: ElementParameters) -> str:
    """SHA-256 of an element's parameters, as the manifest of a set has it."""
    plain = json.dumps(record.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def _result(symbol: str, record: ElementParameters, parameters: ParameterSet, folder: Path | None) -> ElementResult:
    if folder is None:
        provenance: dict[str, Any] = {"set": parameters.name, "source": parameters.source, "doi": parameters.doi}
        return ElementResult(symbol, record, {}, None, None, parameters.name, provenance)
    manifest = read_manifest(folder)
    score = _score(folder / SCORE_NAME)
    provenance = {"run": manifest.name, "command": manifest.command, "seed": manifest.seed, "created": manifest.created}
    cards = score.get("cards", {}) if score.get("symbol", symbol) == symbol else {}
    return ElementResult(symbol, record, dict(cards), score.get("uncertainty"), manifest, manifest.name, provenance)


def _score(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", path=str(path)) from None
    except ValueError as error:
        raise FileFormatError(f"not JSON ({error})", path=str(path)) from None
    if not isinstance(value, dict):
        raise FileFormatError("not a JSON object", path=str(path))
    return value
