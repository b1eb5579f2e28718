"""``dftbparam references import`` and ``check``: other people's DFT data in, and whether a set can be trusted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, present, show_json
from dftbparam.units import GPA_PER_EV_PER_A3


class SpinName(StrEnum):
    """Treatments of spin by the names that data sets use."""

    none = "none"
    collinear = "collinear"
    spin_orbit = "spin-orbit"


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Extended xyz files, ASE databases, ACWF result files, vasprun.xml or folders of runs, JSON of "
            "ComputedStructureEntry.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder of the set.", show_default=False)],
    source: Annotated[
        str,
        typer.Option("--source", metavar="TEXT", help="Who computed it, where it is published.", show_default=False),
    ],
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="E.g. CC-BY-4.0.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the set.", show_default="name of DIR")
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="What it is, in a line.", show_default="made up")
    ] = None,
    functional: Annotated[
        str | None,
        typer.Option(
            "--functional", metavar="NAME", help="E.g. PBE; needed where the sources do not say.", show_default=False
        ),
    ] = None,
    offsets: Annotated[
        str | None,
        typer.Option(
            "--offsets",
            metavar="CHOICE",
            help="Energy zero per element, eV per atom: Si=-0.8,O=-1.9, a TOML file, from-atoms (isolated atoms of the "
            "source) or none. Needed where elements meet in a structure.",
            show_default=False,
        ),
    ] = None,
    spin: Annotated[
        SpinName | None, typer.Option("--spin", help="Where the sources do not say, or differ.", show_default=False)
    ] = None,
    doi: Annotated[str, typer.Option("--doi", metavar="DOI", help="Of the publication.", show_default=False)] = "",
    energy_zero: Annotated[
        str, typer.Option("--energy-zero", metavar="TEXT", help="What energies are relative to.", show_default=False)
    ] = "",
    energy_key: Annotated[
        str | None,
        typer.Option("--energy-key", metavar="KEY", help="Where files have energies, eV.", show_default="energy"),
    ] = None,
    forces_key: Annotated[
        str | None,
        typer.Option("--forces-key", metavar="KEY", help="Where files have forces, eV/Å.", show_default="forces"),
    ] = None,
    all_steps: Annotated[
        bool, typer.Option("--all-steps", help="Every ionic step of VASP runs, not the last one alone.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out structures that would be refused, and list them.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Import DFT data as a reference set: E(V) curves of known crystals, structures with forces, isolated atoms."""
    from dftbparam.reference.importers import Provenance, ReadOptions, import_references, parse_offsets

    prepare_json(json)
    label = name or out.name
    provenance = Provenance(
        name=label,
        title=title or f"Imported from {', '.join(path.name for path in sources)}",
        source=source,
        licence=licence,
        doi=doi,
        energy_zero=energy_zero,
    )
    result = import_references(
        sources,
        out,
        provenance,
        functional=functional,
        spin=None if spin is None else spin.value,
        offsets=None if offsets is None else parse_offsets(offsets),
        options=ReadOptions(energy_key=energy_key, forces_key=forces_key, all_steps=all_steps, skip_bad=skip_bad),
    )
    made, fits = result.collection, result.collection.fits
    rows: list[dict[str, Any]] = []
    for crystal, curve in zip(made.crystals, made.curves, strict=True):
        fit = fits[curve.name]
        rows.append(
            {
                "compound": crystal.compound,
                "prototype": crystal.prototype,
                "points": len(curve.volumes),
                "volume": fit.v0,
                "bulk_modulus": fit.b0,
                "bulk_modulus_GPa": fit.b0 * GPA_PER_EV_PER_A3,
                "bulk_modulus_derivative": fit.b0_prime,
                "energy": fit.e0,
                "rms": fit.rms,
                "source": curve.source,
            }
        )
    columns = [
        Column("compound", "compound", left=True),
        Column("prototype", "crystal", left=True),
        Column("points", "points"),
        Column("volume", "V0, Å³/atom", ".4f"),
        Column("bulk_modulus_GPa", "B0, GPa", ".2f"),
        Column("bulk_modulus_derivative", "B0'", ".2f"),
        Column("rms", "rms of the fit, eV/atom", ".5f"),
    ]
    value = {
        "folder": str(out),
        "name": label,
        "checksum": result.dataset.checksum,
        "functional": made.functional,
        "spin": made.spin,
        "sources": [{"path": s.path, "kind": s.kind} for s in result.sources],
        "crystals": rows,
        "frames": len(made.frames),
        "atoms": {atom.symbol: atom.energy for atom in made.atoms},
        "offsets": dict(made.offsets),
        "settings": dict(made.settings),
        "notes": list(made.notes),
    }
    if rows:
        present(json, value, f"{label}, {made.functional}", columns, rows)
    elif json is not None:
        show_json(json, value)
    for text in made.notes:
        note(text)
    note(
        f"wrote {out}: {len(rows)} E(V) rows, {len(made.frames)} structures, {len(made.atoms)} isolated atoms; "
        f"next: dftbparam references check {out}"
    )


def check(
    dataset: Annotated[str, typer.Argument(metavar="NAME|DIR", help="Reference set.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 on a warning too.")] = False,
    json: JsonOption = None,
) -> None:
    """Look for duplicates, outliers, kinks in E(V), missing offsets, mixed settings; exit code 1 on an error."""
    from dftbparam.reference.check import check_dataset

    prepare_json(json)
    report = check_dataset(dataset)
    rows = [finding.model_dump() for finding in report.findings]
    columns = [
        Column("severity", "severity", left=True),
        Column("kind", "what", left=True),
        Column("subject", "where", left=True),
        Column("message", "finding", left=True),
    ]
    value = report.model_dump()
    errors, warnings = len(report.errors), len(report.findings) - len(report.errors)
    looked = (
        f"{report.name}: {report.crystals} crystals, {report.points} points, {report.frames} structures, "
        f"{report.bands} band structures, {report.atoms} atoms"
    )
    if rows:
        present(json, value, looked, columns, rows, caption=f"{errors} errors, {warnings} warnings")
    else:
        if json is not None:
            show_json(json, value)
        if json != STDOUT:
            typer.echo(f"{looked}: nothing found")
    if errors or (strict and warnings):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add both commands to ``dftbparam references``."""
    app.command("import")(import_)
    app.command("check")(check)
