"""``dftbparam validate``: both engines side by side on somebody's SKF files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.options import check_symbol
from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, show_json, show_table
from dftbparam.cli.progress import counting

if TYPE_CHECKING:
    from dftbparam.engine.base import Engine
    from dftbparam.engine.validation import Comparison, Validation

COLUMNS: Final = [
    Column("name", "system", left=True),
    Column("atoms", "atoms"),
    Column("energy", "energy/atom", ".0e"),
    Column("forces", "forces", ".0e"),
    Column("stress", "stress", ".0e"),
    Column("eigenvalues", "eigenvalues", ".0e"),
    Column("charges", "charges", ".0e"),
    Column("iterations", "iterations"),
    Column("verdict", "verdict", left=True),
]

REASON_WIDTH: Final = 300
"""Characters of an engine's words that are printed; JSON has all of them."""


def validate(
    folder: Annotated[Path, typer.Argument(metavar="SKF_DIR", help="Folder with X-Y.skf files.")],
    symbols: Annotated[
        list[str] | None, typer.Argument(metavar="[SYMBOL...]", help="Elements; all of the folder unless given.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base", metavar="SKF_DIR", help="The set that this one extends: files it lacks come from there."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every pair of elements in every kind of system, not in two of them.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="E", help="Hartree per atom; ten times that in everything else.")
    ] = 1e-6,
    dftbplus: Annotated[
        str | None,
        typer.Option("--dftbplus", metavar="COMMAND", help="The DFTB+ program, if not dftb+ on the PATH."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Run the embedded engine and DFTB+ on crystals and molecules of these files; exit code 1 where they disagree.

    Differences are the largest of a system, in atomic units. Where both engines refuse a system for the same reason,
    that is said and is no disagreement.
    """
    from dftbparam.engine.validation import Verdict, files_of, standard_systems
    from dftbparam.engine.validation import validate as run

    for symbol in symbols or []:
        check_symbol(symbol)
    prepare_json(json)
    pair = engines(dftbplus)
    total = len(standard_systems(files_of(folder, base), symbols or None, full))
    with counting("validating", total) as tell:
        found = run(folder, symbols or None, full, base=base, tolerance=tolerance, engines=pair, tell=tell)
    if json != STDOUT:
        show_table(title(found), COLUMNS, [row(one) for one in found.comparisons] + summary(found))
        for one in found.comparisons:
            if one.verdict is not Verdict.agree:
                note(f"{one.system.name}: {one.verdict.value}: {one.reason[:REASON_WIDTH]}")
        if found.missing:
            note("no tables for " + ", ".join(f"{a}-{b}" for a, b in found.missing) + ": in no system")
        note(conclusion(found))
    if json is not None:
        show_json(json, found.record())
    if not found.agree:
        raise typer.Exit(1)


def engines(command: str | None) -> tuple[Engine, Engine]:
    """Return the embedded engine and DFTB+; `EngineMissing` before anything is computed where there is no DFTB+."""
    from dftbparam.engine.dftbplus import DftbPlusEngine
    from dftbparam.engine.factory import make_engine

    other = DftbPlusEngine(command, keep="never")
    other.release()
    return make_engine("embedded"), other


def title(found: Validation) -> str:
    """Return what was run against what."""
    versions = [f"{name} {v.get(name, v.get('dftbparam', ''))}".strip() for name, v in found.engines.items()]
    return f"{' against '.join(versions)}: {', '.join(found.elements)}, atomic units"


def row(one: Comparison) -> dict[str, Any]:
    """Return one system's row."""
    iterations = " / ".join("-" if n is None else str(n) for n in one.iterations)
    return {
        "name": one.system.name,
        "atoms": len(one.system.atoms),
        **one.differences,
        "iterations": iterations,
        "verdict": one.verdict.value,
    }


def summary(found: Validation) -> list[dict[str, Any]]:
    """Return the rows below the systems: the worst of all, and what is asked."""
    return [
        {"name": "worst", **found.worst, "verdict": "agree" if found.agree else "disagree"},
        {"name": "asked", **found.tolerances},
    ]


def conclusion(found: Validation) -> str:
    """Return the verdict over everything in one line."""
    from dftbparam.engine.validation import Verdict

    number = {verdict: sum(one.verdict is verdict for one in found.comparisons) for verdict in Verdict}
    parts = [f"{number[Verdict.agree]} systems agree", f"{number[Verdict.disagree]} disagree"]
    if number[Verdict.refused]:
        parts.append(f"{number[Verdict.refused]} are refused by both")
    if not found.compared:
        parts.append("nothing could be compared")
    return ", ".join(parts)
