"""Line numbers for messages about TOML files: the parser of the standard library gives none."""

from __future__ import annotations

import re
from collections.abc import Sequence


def line_of(text: str, place: Sequence[str]) -> int | None:
    """Find the line, from 1, of a key in TOML text: of its assignment, else of the nearest table above it.

    Tables and assignments that begin a line are found; what stands inside of others is at the line of those.
    """
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0]
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = _parts(header.group(1))
            here = table
        elif key := re.match(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=", line):
            here = (*table, *_parts(key.group(1)))
        else:
            continue
        depth = len(here)
        if here == tuple(place[:depth]) and (best is None or depth > best[0]):
            best = (depth, number)
    return None if best is None else best[1]


def _parts(key: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
