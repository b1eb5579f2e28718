"""``dftbparam references displaced``: displaced and strained copies of the crystals of a reference set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dftbparam import __version__
from dftbparam.cli.output import Column, JsonOption, check_structures_file, prepare_json, present
from dftbparam.errors import ParameterError


def displaced(
    compounds: Annotated[
        list[str], typer.Argument(metavar="COMPOUND...", help="Elements, e.g. Si, and binaries, e.g. Mg-O.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Extended xyz file for the structures.")],
    references: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="Reference set whose crystals, at their V0, are displaced.")
    ] = "gpaw-pbe",
    prototypes: Annotated[
        str, typer.Option(help="Prototypes, separated by commas, or 'all' that the set has.")
    ] = "all",
    crystals: Annotated[
        int | None, typer.Option(min=1, help="Crystals per compound, the stable one first.", show_default="all")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Copies of each crystal.")] = 8,
    atoms: Annotated[int, typer.Option(min=1, max=512, help="Least number of atoms in a copy.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and options: the same structures.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    json: JsonOption = None,
) -> None:
    """Displace and strain crystals: bare structures for 'references compute --structures' and delta models."""
    from dftbparam.publish import prepare_file, write_bytes
    from dftbparam.reference import load_dataset
    from dftbparam.reference.dft.frames import crystals_to_displace, displaced_copies
    from dftbparam.reference.random_frames import extxyz

    check_structures_file(out, json, overwrite)
    dataset = load_dataset(references)
    names = None if prototypes == "all" else [name.strip() for name in prototypes.split(",")]
    chosen = [c for compound in compounds for c in crystals_to_displace(dataset, compound, names, crystals)]
    found = [f"{crystal.compound} {crystal.prototype}" for crystal in chosen]
    if double := sorted({name for name in found if found.count(name) > 1}):
        raise ParameterError(f"named twice: {', '.join(double)}")
    frames = displaced_copies(chosen, copies, atoms, seed)
    for frame in frames:
        frame.info |= {"references": dataset.name, "checksum": dataset.checksum[:12], "dftbparam": __version__}
    prepare_file(out)
    prepare_json(json)
    write_bytes(out, extxyz(frames).encode())
    rows = [
        _row(str(frames[i * copies].info["name"]), frames[i * copies : (i + 1) * copies]) for i in range(len(chosen))
    ]
    value = {
        "out": str(out),
        "frames": len(frames),
        "seed": seed,
        "references": {"name": dataset.name, "checksum": dataset.checksum},
        "crystals": rows,
    }
    columns = [
        Column("crystal", "crystal", left=True),
        Column("structures", "structures"),
        Column("atoms", "atoms"),
        Column("low", "from, Å³/atom", ".2f"),
        Column("high", "to, Å³/atom", ".2f"),
    ]
    present(json, value, f"Displaced copies in {out}", columns, rows)


def _row(name: str, copies: list[Any]) -> dict[str, Any]:
    volumes = [float(atoms.get_volume()) / len(atoms) for atoms in copies]
    return {
        "crystal": name,
        "structures": len(copies),
        "atoms": len(copies[0]),
        "low": min(volumes),
        "high": max(volumes),
    }
