"""``dftbparam references``: what DFT says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dftbparam.cli import references_compute, references_displaced, references_import, references_random
from dftbparam.cli.options import ReferencesOption, check_symbol
from dftbparam.cli.output import STDOUT, Column, JsonOption, note, present, show_json, show_table
from dftbparam.errors import ParameterError
from dftbparam.units import GPA_PER_EV_PER_A3

if TYPE_CHECKING:
    from dftbparam.reference import CrystalReference

app = typer.Typer(
    help="Reference data: list, show, plot, import, check, compute, random, displaced.", no_args_is_help=True
)
app.command("compute")(references_compute.compute)
app.command("prototypes")(references_compute.prototypes)
app.command("random")(references_random.random)
app.command("displaced")(references_displaced.displaced)


@app.command("list")
def list_(references: ReferencesOption = None, json: JsonOption = None) -> None:
    """List the reference sets that come with dftbparam, or describe one folder."""
    from dftbparam.reference import list_datasets, load_dataset

    rows: list[dict[str, Any]] = []
    for name in list_datasets() if references is None else (references,):
        data = load_dataset(name)
        rows.append(
            {
                "name": data.name,
                "title": data.title,
                "elements": len(data.symbols),
                "binaries": len(data.compounds),
                "crystals": len(data.crystals),
                "bands": len(data.bands),
                "frames": data.frames,
                "atoms": len(data.atoms),
                "offsets": sorted(data.offsets),
                "functional": data.functional,
                "spin": data.spin,
                "licence": data.licence,
                "source": data.source,
                "doi": data.doi,
                "version": data.version,
                "checksum": data.checksum,
                "symbols": list(data.symbols),
                "compounds": list(data.compounds),
            }
        )
    columns = [
        Column("name", "set", left=True),
        Column("elements", "elements"),
        Column("binaries", "binaries"),
        Column("crystals", "crystals"),
        Column("bands", "bands"),
        Column("frames", "structures"),
        Column("atoms", "atoms"),
        Column("functional", "functional", left=True),
        Column("spin", "spin", left=True),
        Column("licence", "licence", left=True),
        Column("source", "source", left=True),
    ]
    present(json, rows, "Reference sets", columns, rows)


def _check_compound(text: str) -> None:
    """Raise `ElementError` unless the text is an element or two, ``Mg-O``."""
    parts = text.split("-")
    for part in parts[:2]:
        check_symbol(part)
    if len(parts) > 2:
        raise ParameterError(f"{text!r} is more than a binary; right would be an element, or two as in Mg-O")


CompoundArgument = Annotated[
    str, typer.Argument(metavar="SYMBOL", help="Element, e.g. Si, or binary, e.g. Mg-O.", show_default=False)
]


@app.command()
def show(compound: CompoundArgument, references: ReferencesOption = None, json: JsonOption = None) -> None:
    """Show the reference crystals of an element, and the binaries that hold it; or of one binary."""
    from dftbparam.reference import DEFAULT_DATASET, load_dataset

    _check_compound(compound)
    data = load_dataset(references or DEFAULT_DATASET)
    binaries = () if "-" in compound else data.binaries_of(compound)
    # An element without a crystal of its own is represented by its binaries.
    crystals = () if binaries and compound not in data.symbols else data.crystals_named(compound)
    banded = [(b.compound, b.structure.name) for b in data.bands]

    def row(crystal: CrystalReference, zero: float | None) -> dict[str, Any]:
        return {
            "compound": crystal.compound,
            "prototype": crystal.prototype,
            "volume": crystal.volume,
            "bulk_modulus": crystal.bulk_modulus,
            "bulk_modulus_GPa": crystal.bulk_modulus * GPA_PER_EV_PER_A3,
            "bulk_modulus_derivative": crystal.bulk_modulus_derivative,
            "energy": crystal.energy,
            "phase_energy": None if zero is None else crystal.energy - zero,
            "bands": banded.count((crystal.compound, crystal.structure.name)),
            "energy_spread": crystal.energy_spread,
            "n_codes": crystal.n_codes,
        }

    def rows_of(group: Sequence[CrystalReference]) -> list[dict[str, Any]]:
        """Sort by compound and energy; energies relative to the lowest crystal of the same composition."""
        lowest: dict[tuple[str, float], float] = {}

        def key(crystal: CrystalReference) -> tuple[str, float]:
            return crystal.compound, sum(crystal.structure.sites) / len(crystal.structure.positions)

        for crystal in group:
            lowest[key(crystal)] = min(crystal.energy, lowest.get(key(crystal), crystal.energy))
        return [row(c, lowest[key(c)]) for c in sorted(group, key=lambda c: (key(c), c.energy))]

    own, others = rows_of(crystals), rows_of(binaries)
    parts = crystals[0].symbols if crystals else (compound,)
    atoms = {atom.symbol: atom.energy for atom in data.atoms if atom.symbol in parts}
    offsets = {symbol: data.offsets[symbol] for symbol in parts if symbol in data.offsets}
    columns = [
        Column("prototype", "crystal", left=True),
        Column("volume", "V0, Å³/atom", ".4f"),
        Column("bulk_modulus_GPa", "B0, GPa", ".2f"),
        Column("bulk_modulus_derivative", "B0'", ".3f"),
        Column("phase_energy", "E above lowest, eV/atom", ".4f"),
        Column("energy_spread", "spread, eV", ".4f"),
        Column("n_codes", "codes"),
        Column("bands", "bands"),
    ]
    value = {
        "dataset": data.name,
        "checksum": data.checksum,
        "symbol": compound,
        "crystals": own,
        "binaries": others,
        "atoms": atoms,
        "offsets": offsets,
    }
    more = [data.source]
    more += [f"isolated atom {symbol}: {energy:.6g} eV" for symbol, energy in atoms.items()]
    more += [f"energy zero of {symbol}: {energy:.6g} eV/atom" for symbol, energy in offsets.items()]
    if json is not None:
        show_json(json, value)
    if json == STDOUT:
        return
    title = f"{compound}, {data.functional}"
    if own:
        show_table(title, columns, own, "" if others else "\n".join(more))
    if others:
        binary = [Column("compound", "binary", left=True), *columns]
        show_table(f"binaries with {compound}, {data.functional}", binary, others, "\n".join(more))


@app.command()
def plot(
    compound: CompoundArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="PNG, SVG or PDF.", show_default="SYMBOL-reference.png")
    ] = None,
    references: ReferencesOption = None,
    low: Annotated[float, typer.Option("--from", help="Smallest volume, relative to V0.")] = 0.8,
    high: Annotated[float, typer.Option("--to", help="Largest volume, relative to V0.")] = 1.25,
) -> None:
    """Plot the reference E(V) curves of an element or a binary."""
    from dftbparam.publish import write_bytes
    from dftbparam.reference import DEFAULT_DATASET, load_dataset
    from dftbparam.report import plot_references, render

    _check_compound(compound)
    if not 0.0 < low < high:
        raise ParameterError(f"volumes --from {low} --to {high} are upside down; right would be e.g. 0.8 to 1.25")
    target = out or Path(f"{compound}-reference.png")
    data = load_dataset(references or DEFAULT_DATASET)
    figure = plot_references(f"{compound}, {data.functional} ({data.name})", data.crystals_named(compound), low, high)
    write_bytes(target, render(figure, target.suffix))
    note(f"wrote {target}")


references_import.register(app)
