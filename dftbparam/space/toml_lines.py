"""Line numbers for messages about TOML files: the parser of the standard library gives none."""

from __future__ import annotations

import re
from collections.abc import Sequence


def line_of(text: str, place: Sequence[str]) -> int | None:
    """Find the line, from 1, of a key in TOML text: of its assignment, else of the nearest table above it.

    Tables and assignments that begin a line are found, and texts in an array that is assigned so, by the array's place
    and the text; what else stands inside of others is at the line of those. A table without a line of its own is at the
    first of its keys.
    """
    lines = [line.split("#", 1)[0] for line in text.splitlines()]
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = _parts(header.group(1))
            here = table
        elif key := re.match(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=", line):
            here = (*table, *_parts(key.group(1)))
        else:
            continue
        depth = min(len(here), len(place))
        if depth and here[:depth] == tuple(place[:depth]) and (best is None or depth > best[0]):
            best = (depth, number)
    if best is None:
        return None
    depth, number = best
    item = _line_in_array(lines, number, place[-1]) if depth == len(place) - 1 else None
    return number if item is None else item


def _line_in_array(lines: Sequence[str], first: int, text: str) -> int | None:
    """The line, from 1, of a text in the array that is assigned at line ``first``; None where there is none."""
    _, equals, value = lines[first - 1].partition("=")
    if not (equals and value.lstrip().startswith("[")):
        return None
    for number, line in enumerate([value, *lines[first:]], start=first):
        if re.search(rf"([\"']){re.escape(text)}\1", line):
            return number
        if "]" in line:
            break
    return None


def _parts(key: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
