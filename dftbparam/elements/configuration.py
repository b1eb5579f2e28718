"""Electron configurations in noble-gas notation: ``[Ne] 3s2 3p2 3d0``."""

from __future__ import annotations

import re
from typing import Final

from dftbparam.errors import ParameterError

ANGULAR: Final = "spdf"
"""Shell letters in order of angular momentum."""

_CORES: Final = {
    "He": "1s2",
    "Ne": "[He] 2s2 2p6",
    "Ar": "[Ne] 3s2 3p6",
    "Kr": "[Ar] 3d10 4s2 4p6",
    "Xe": "[Kr] 4d10 5s2 5p6",
    "Rn": "[Xe] 4f14 5d10 6s2 6p6",
}
"""Noble-gas cores; the configuration each stands for."""

_SHELL = re.compile(r"(?P<n>[1-9])(?P<l>[spdf])(?P<occupation>\d+(?:\.\d*)?)")


def parse_configuration(text: str) -> dict[str, float]:
    """Expand a configuration into all its shells, ordered by n, then l.

    ``"[Ne] 3s2 3p2 3d0"`` gives ``{"1s": 2.0, "2s": 2.0, "2p": 6.0, "3s": 2.0, "3p": 2.0, "3d": 0.0}``. Fractional
    occupations are allowed (``5d0.5``); shells written with zero electrons are kept.

    Raises
    ------
    ParameterError
        Not of this form, a shell twice, a shell that does not exist (``2d``), or more electrons than fit.
    """

    def refuse(reason: str) -> ParameterError:
        return ParameterError(
            f"configuration {text!r}: {reason}; right would be e.g. '[Ne] 3s2 3p2 3d0'", configuration=text
        )

    words = text.split()
    if not words:
        raise refuse("it is empty")
    shells: dict[str, float] = {}
    if words[0].startswith("["):
        core = words.pop(0)
        if core[1:-1] not in _CORES or not core.endswith("]"):
            raise refuse(f"{core!r} is none of the cores {' '.join(f'[{name}]' for name in _CORES)}")
        shells = parse_configuration(_CORES[core[1:-1]])
    for word in words:
        match = _SHELL.fullmatch(word)
        if match is None:
            raise refuse(f"{word!r} is not a shell with its electrons")
        name, angular = match["n"] + match["l"], ANGULAR.index(match["l"])
        occupation, most = float(match["occupation"]), 2 * (2 * angular + 1)
        if angular >= int(match["n"]):
            raise refuse(f"there is no {name} shell")
        if occupation > most:
            raise refuse(f"{name} holds at most {most} electrons, not {match['occupation']}")
        if name in shells:
            raise refuse(f"{name} occurs twice")
        shells[name] = occupation
    return dict(sorted(shells.items(), key=lambda item: (int(item[0][0]), ANGULAR.index(item[0][1]))))
