"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class EngineName(StrEnum):
    """The engines by the names the command line knows them by."""

    embedded = "embedded"
    dftbplus = "dftb+"


ReferencesOption = Annotated[
    str | None,
    typer.Option(
        "--references",
        metavar="NAME|DIR",
        help="Reference set or folder; the default covers H to Cm.",
        show_default=False,
    ),
]

EngineOption = Annotated[EngineName, typer.Option("--engine", help="What computes energies.")]
