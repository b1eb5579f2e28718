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

SUMMARY: Final = [
    Column("name", "largest difference in", left=True),
    Column("worst", "worst", ".1e"),
    Column("asked", "asked", ".0e"),
    Column("system", "of system", left=True),
]

LABELS: Final = {
    "energy": "energy, Hartree/atom",
    "forces": "forces, Hartree/Bohr",
    "stress": "stress, Hartree/Bohr³",
    "eigenvalues": "eigenvalues, Hartree",
    "charges": "charges, e",
    "shell_populations": "shell populations, e",
    "moments": "magnetic moments, e",
    "fermi_level": "Fermi level, Hartree",
}

REASON_WIDTH: Final = 300
"""Characters of an engine's words that are printed; JSON has all of them."""


def validate(
    folder: Annotated[Path, typer.Argument(metavar="SKF_DIR", help="Folder with X-Y.skf files.")],
    symbols: Annotated[
        list[str] | None, typer.Argument(metavar="[SYMBOL...]", help="Elements; all of the folder unless given.")
    ] = None,
    base: Annotated[
        list[Path] | None,
        typer.Option(
            "--base",
            metavar="SKF_DIR",
            help="The set that this one extends: files it lacks come from there. May be given more than once.",
            show_default=False,
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
    every: Annotated[bool, typer.Option("--all", help="Show every system, not only those that do not agree.")] = False,
    json: JsonOption = None,
) -> None:
    """Run the embedded engine and DFTB+ on crystals and molecules of these files; exit code 1 where they disagree.

    Differences are the largest of a system, in atomic units. Where both engines refuse a system for the same reason,
    that is said and is no disagreement; nor is it where the charges of only one converge ("unproven"). DFTB+'s folders
    of systems that disagree or are unproven are kept and named.
    """
    from dftbparam.engine.validation import Verdict, files_of, standard_systems
    from dftbparam.engine.validation import validate as run

    for symbol in symbols or []:
        check_symbol(symbol)
    prepare_json(json)
    pair = engines(dftbplus)
    bases = base or []
    files = files_of(folder, *bases)
    total = len(standard_systems(files, symbols or None, full))
    with counting("validating", total) as tell:
        found = run(folder, symbols or None, full, base=bases, tolerance=tolerance, engines=pair, tell=tell)
    if json != STDOUT:
        show_table(title(found), SUMMARY, summary(found))
        shown = [one for one in found.comparisons if every or one.verdict is not Verdict.agree]
        if shown:
            show_table("largest differences per system, atomic units", COLUMNS, [row(one) for one in shown])
        for one in found.comparisons:
            if one.verdict is not Verdict.agree:
                kept = f" (kept: {', '.join(one.scratch)})" if one.scratch else ""
                note(f"{one.system.name}: {one.verdict.value}: {shortened(one.reason)}{kept}")
        note(f"elements: {', '.join(found.elements)}")
        alone = sorted({a for a, b in files if a != b and (a, a) not in files})
        if alone:
            note(f"no X-X.skf for {', '.join(alone)}: in no system; if the set extends another, name that with --base")
        if found.missing:
            note("no tables for " + ", ".join(f"{a}-{b}" for a, b in found.missing) + ": in no system")
        note(conclusion(found))
    if json is not None:
        show_json(json, found.record())
    if not found.agree:
        raise typer.Exit(1)


def engines(command: str | None) -> tuple[Engine, Engine]:
    """Return the embedded engine and DFTB+; `EngineMissing` before anything is computed where there is no DFTB+."""
    from dftbparam.engine.validation import default_engines

    return default_engines(command)


def shortened(text: str) -> str:
    """Return an engine's words on one line, without the end of long ones."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_WIDTH else line[:REASON_WIDTH] + " ..."


def title(found: Validation) -> str:
    """Return what was run against what."""
    versions = [f"{name} {v.get(name, v.get('dftbparam', ''))}".strip() for name, v in found.engines.items()]
    return " against ".join(versions)


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
    """Return a row per quantity: the worst of all systems, and what is asked."""
    asked = found.tolerances
    return [
        {
            "name": LABELS.get(name, name),
            "worst": one.differences[name],
            "asked": asked.get(name, asked["charges"]),
            "system": one.system.name,
        }
        for name, one in found.worst_systems.items()
    ]


def conclusion(found: Validation) -> str:
    """Return the verdict over everything in one line."""
    from dftbparam.engine.validation import Verdict

    parts = [f"{found.count(Verdict.agree)} systems agree", f"{found.count(Verdict.disagree)} disagree"]
    if found.count(Verdict.unproven):
        parts.append(f"{found.count(Verdict.unproven)} are unproven: the charges of one engine alone converge")
    if found.count(Verdict.refused):
        parts.append(f"{found.count(Verdict.refused)} are refused by both")
    if not found.compared:
        parts.append("nothing could be compared")
    return ", ".join(parts)
