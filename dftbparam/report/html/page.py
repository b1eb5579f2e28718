"""Puts data and template together: one HTML file that needs nothing else.

The data are JSON in a script element of a type that browsers do not run; ``<``, ``>`` and ``&`` are escaped in it, so
that no text in it can end the element. The page's script puts text into the page as text, never as markup. A content
security policy allows this script alone, by its hash, and no connection to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Any, Final

from dftbparam.elements import all_symbols, element
from dftbparam.report.html.collect import Collection, Result
from dftbparam.report.html.delta import delta_content
from dftbparam.report.html.elements import element_content, shorten
from dftbparam.report.html.figures import HEADLINES, Figure, available, summarise, value_of
from dftbparam.report.html.places import places
from dftbparam.report.scales import CIVIDIS, DIVERGING

SET_LABELS: Final = {"ours": "this fit", "published": "published PTBP", "difference": "difference"}
"""What the page calls the sets."""

SCRIPTS: Final = ("scales.js", "chart.js", "detail.js", "delta.js", "table.js")
"""The page's script, in this order."""

LIVE_SCRIPTS: Final = (*SCRIPTS[:-1], "live.js", SCRIPTS[-1])
"""The script of a page that is served while a campaign runs."""


def render_page(collection: Collection, title: str | None = None, *, data: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Default: the names of the folders.
    data
        What it shows, in place of `page_data`; with ``live`` in it the page asks its server for newer numbers.
    """
    kind = "Delta models" if collection.deltas and not collection.results else "DFTB parameters"
    title = title or f"{kind}: {', '.join(dict.fromkeys(collection.sources))}"
    live = data is not None and "live" in data
    return Template(_file("page.html")).substitute(
        title=html.escape(title),
        policy=live_policy() if live else _policy(SCRIPTS),
        style=_file("page.css"),
        data=embedded_json(page_data(collection, title) if data is None else data),
        script=_script(LIVE_SCRIPTS if live else SCRIPTS),
    )


@cache
def live_policy() -> str:
    """Content security policy of a live page: it may ask its own server."""
    return f"{_policy(LIVE_SCRIPTS)}; connect-src 'self'"


def _policy(scripts: tuple[str, ...]) -> str:
    digest = base64.b64encode(hashlib.sha256(_script(scripts).encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script(names: tuple[str, ...]) -> str:
    return "\n".join(_file(name) for name in names)


def page_data(collection: Collection, title: str, *, details: bool = True) -> dict[str, Any]:
    """Return everything that the page shows, as JSON values; without ``details`` of single elements where they wait."""
    results = list(collection.results.values())
    figures = available(results)
    return {
        "title": title,
        "sets": SET_LABELS,
        "cividis": CIVIDIS,
        "diverging": DIVERGING,
        "figures": [_figure(figure) for figure in figures],
        "summary": [
            {key: shorten(value, 5) for key, value in row.items() if value is not None}
            for row in summarise(results, figures)
        ],
        "headlines": list(HEADLINES),
        "only": list(collection.only),
        "elements": [_element(symbol, collection, figures, details) for symbol in all_symbols()],
        "problems": [[problem.where, problem.message] for problem in collection.problems],
        "notes": list(collection.notes),
        "deltas": [delta_content(one) for one in collection.deltas],
    }


def embedded_json(value: Any) -> str:
    """Write JSON that can stand inside a script element: no character in it means anything to an HTML parser.

    Raises
    ------
    ValueError
        A number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate, which JSON can hold and UTF-8 cannot.
    return text.encode("utf-8", "replace").decode()


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "key": figure.key,
        "label": figure.label,
        "unit": figure.unit,
        "kind": figure.kind,
        "digits": figure.digits,
        "text": figure.text,
    }


def _element(symbol: str, collection: Collection, figures: list[Figure], details: bool) -> dict[str, Any]:
    one = element(symbol)
    value: dict[str, Any] = {"symbol": symbol, "number": one.number, "name": one.name, "place": places(symbol)}
    value["valence"] = " ".join(f"{shell}{electrons:g}" for shell, electrons in one.valence_occupations.items())
    value["choice"] = one.notes
    result = collection.results.get(symbol)
    if result is None:
        value["reason"] = collection.reasons.get(symbol, "not in the folders given")
        if symbol in collection.left_out:
            rejected = collection.left_out[symbol]
            # Under a name of its own, so that nothing takes its figures for those of a result.
            value["left_out"] = {} if rejected is None else _card(rejected, figures, details)
        return value
    return value | _card(result, figures, details)


def _card(result: Result, figures: list[Figure], details: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "ours": [shorten(value_of(result.ours, figure), 4) for figure in figures],
        "published": None
        if result.published is None
        else [shorten(value_of(result.published, figure), 4) for figure in figures],
    }
    return value | {"detail": element_content(result)} if details else value


def _file(name: str) -> str:
    return (resources.files("dftbparam.report.html") / "data" / name).read_text(encoding="utf-8")
