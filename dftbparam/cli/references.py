"""``dftbparam references``: what DFT says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dftbparam.cli import references_compute, references_import
from dftbparam.cli.options import ReferencesOption, check_symbol
from dftbparam.cli.output import Column, JsonOption, note, present
from dftbparam.errors import ParameterError
from dftbparam.units import GPA_PER_EV_PER_A3

app = typer.Typer(help="Reference data: list, show, plot, import, check, compute.", no_args_is_help=True)
app.command("compute")(references_compute.compute)
app.command("prototypes")(references_compute.prototypes)


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
                "crystals": len(data.crystals),
                "functional": data.functional,
                "spin": data.spin,
                "licence": data.licence,
                "source": data.source,
                "doi": data.doi,
                "version": data.version,
                "checksum": data.checksum,
                "symbols": list(data.symbols),
            }
        )
    columns = [
        Column("name", "set", left=True),
        Column("elements", "elements"),
        Column("crystals", "crystals"),
        Column("functional", "functional", left=True),
        Column("spin", "spin", left=True),
        Column("licence", "licence", left=True),
        Column("source", "source", left=True),
    ]
    present(json, rows, "Reference sets", columns, rows)


@app.command()
def show(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Element, e.g. Si.")],
    references: ReferencesOption = None,
    json: JsonOption = None,
) -> None:
    """Show the reference crystals of an element."""
    from dftbparam.reference import DEFAULT_DATASET, load_dataset

    check_symbol(symbol)
    data = load_dataset(references or DEFAULT_DATASET)
    stable = data.stable(symbol)
    rows = [
        {
            "prototype": crystal.prototype,
            "volume": crystal.volume,
            "bulk_modulus": crystal.bulk_modulus,
            "bulk_modulus_GPa": crystal.bulk_modulus * GPA_PER_EV_PER_A3,
            "bulk_modulus_derivative": crystal.bulk_modulus_derivative,
            "phase_energy": crystal.energy - stable.energy,
            "energy_spread": crystal.energy_spread,
            "n_codes": crystal.n_codes,
        }
        for crystal in sorted(data.crystals_of(symbol), key=lambda c: c.energy)
    ]
    columns = [
        Column("prototype", "crystal", left=True),
        Column("volume", "V0, Å³/atom", ".4f"),
        Column("bulk_modulus_GPa", "B0, GPa", ".2f"),
        Column("bulk_modulus_derivative", "B0'", ".3f"),
        Column("phase_energy", "E above lowest, eV/atom", ".4f"),
        Column("energy_spread", "spread of codes, eV", ".4f"),
        Column("n_codes", "codes"),
    ]
    value = {"dataset": data.name, "checksum": data.checksum, "symbol": symbol, "crystals": rows}
    present(json, value, f"{symbol}, {data.functional}", columns, rows, caption=data.source)


@app.command()
def plot(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Element, e.g. Si.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="PNG, SVG or PDF.", show_default="SYMBOL-reference.png")
    ] = None,
    references: ReferencesOption = None,
    low: Annotated[float, typer.Option("--from", help="Smallest volume, relative to V0.")] = 0.8,
    high: Annotated[float, typer.Option("--to", help="Largest volume, relative to V0.")] = 1.25,
) -> None:
    """Plot the reference E(V) curves of an element."""
    from dftbparam.publish import write_bytes
    from dftbparam.reference import DEFAULT_DATASET, load_dataset
    from dftbparam.report import plot_references, render

    check_symbol(symbol)
    if not 0.0 < low < high:
        raise ParameterError(f"volumes --from {low} --to {high} are upside down; right would be e.g. 0.8 to 1.25")
    target = out or Path(f"{symbol}-reference.png")
    data = load_dataset(references or DEFAULT_DATASET)
    figure = plot_references(f"{symbol}, {data.functional} ({data.name})", data.crystals_of(symbol), low, high)
    write_bytes(target, render(figure, target.suffix))
    note(f"wrote {target}")


references_import.register(app)
