"""``dftbparam references random``: random symmetric crystals for training and stress tests."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dftbparam.cli.output import Column, JsonOption, check_structures_file, note, prepare_json, present
from dftbparam.cli.progress import counting
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.reference.compositions import Composition
    from dftbparam.reference.random_frames import Outcome, RandomSet
    from dftbparam.reference.relaxation import MakeCalculator

DEFAULT_PARAMETERS = "ptbp"


def random(
    compositions: Annotated[
        list[str],
        typer.Argument(metavar="COMPOSITION...", help="Si, Si-O (any stoichiometry) or SiO2 (this one)."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Extended xyz file for the structures.")],
    count: Annotated[int, typer.Option(min=1, help="Crystals to draw per composition.")] = 20,
    atoms: Annotated[int, typer.Option(min=1, help="Most atoms in a primitive cell.")] = 8,
    spacegroups: Annotated[str, typer.Option(metavar="LIST", help="Space groups, e.g. 227 or 2,195-230.")] = "1-230",
    relax: Annotated[bool, typer.Option("--relax/--no-relax", help="Relax cell and positions with DFTB.")] = True,
    skf: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Slater-Koster files to relax with.", show_default=False)
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="Parameter set to build tables from instead.", show_default=DEFAULT_PARAMETERS
        ),
    ] = None,
    force: Annotated[float, typer.Option(help="Largest force of a relaxed crystal, eV/Å.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1, help="Most steps of a relaxation.")] = 150,
    density: Annotated[
        float, typer.Option("--kpoint-density", help="k-point divisions of DFTB per 1/Å of the reciprocal vectors.")
    ] = 2.0,
    perturb: Annotated[int, typer.Option(min=0, help="Displaced and strained copies of each crystal.")] = 0,
    distance: Annotated[
        float, typer.Option("--distance-factor", help="Least distance over the sum of the covalent radii.")
    ] = 0.7,
    energies: Annotated[
        bool, typer.Option("--energies", help="Store DFTB's energy, forces and stress with each structure.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, options and versions: the same structures.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    json: JsonOption = None,
) -> None:
    """Draw random symmetric crystals, relax them with DFTB, and add displaced copies."""
    from dftbparam.publish import prepare_file, write_bytes
    from dftbparam.reference.compositions import parse_spacegroups
    from dftbparam.reference.random_crystals import DrawSettings, require_pyxtal, versions
    from dftbparam.reference.random_frames import RandomRequest, extxyz, random_frames
    from dftbparam.reference.relaxation import RelaxationSettings

    wanted = _compositions(compositions, atoms)
    draw = DrawSettings(atoms=atoms, spacegroups=parse_spacegroups(spacegroups), seed=seed, distance_factor=distance)
    relaxation = RelaxationSettings(force, steps) if relax else None
    if not 0.1 <= density <= 50.0:
        raise ParameterError(f"--kpoint-density is {density}; it must be 0.1 to 50, e.g. 2", name="kpoint-density")
    if skf is not None and parameters is not None:
        raise ParameterError("--skf and --parameters both say where tables come from; give one of them")
    if (skf is not None or parameters is not None) and not (relax or energies):
        raise ParameterError("tables are of no use with --no-relax, unless --energies is given")
    check_structures_file(out, json, overwrite)
    prepare_file(out)
    prepare_json(json)
    require_pyxtal()
    method, make_calculator = _calculator(wanted, skf, parameters, density) if relax or energies else ("", None)

    sets: list[RandomSet] = []
    with counting("random crystals", count * len(wanted)) as tell:
        for composition in wanted:
            request = RandomRequest(composition, count, draw, relaxation, perturb, energies, method)
            sets.append(random_frames(request, make_calculator, lambda outcome: tell(_line(outcome))))
    frames = [frame for made in sets for frame in made.frames]
    if frames:
        write_bytes(out, extxyz(frames).encode())
    rows = [_row(composition.name, made) for composition, made in zip(wanted, sets, strict=True)]
    value = {
        "out": str(out) if frames else None,
        "frames": len(frames),
        "seed": seed,
        "method": method or None,
        "versions": versions(),
        "compositions": [
            {
                **row,
                "statuses": made.statuses,
                "exhausted": made.exhausted,
                "lost": made.lost,
                "empty": [{"spacegroup": group, "reason": reason} for group, reason in made.empty],
                "outcomes": [asdict(outcome) for outcome in made.outcomes],
            }
            for row, made in zip(rows, sets, strict=True)
        ],
    }
    columns = [
        Column("composition", "composition", left=True),
        Column("drawn", "drawn"),
        Column("kept", "kept"),
        Column("frames", "structures"),
        Column("spacegroups", "space groups"),
        Column("outcome", "outcome", left=True),
        Column("seconds", "s each", ".1f"),
    ]
    present(json, value, f"Random crystals in {out}" if frames else "Random crystals", columns, rows)
    for composition, made in zip(wanted, sets, strict=True):
        if made.exhausted:
            note(
                f"{composition.name}: {len(made.outcomes)} of {count} crystals found in cells of up to {atoms} atoms; "
                "no space group was left to try"
            )
        if made.lost:
            name, reason = next(iter(made.lost.items()))
            note(f"{composition.name}: {len(made.lost)} structures left out, the first is {name}: {reason}")
    if not frames:
        note("no structure was kept; no file was written")
        raise typer.Exit(1)


def _compositions(texts: list[str], atoms: int) -> list[Composition]:
    from dftbparam.reference.compositions import parse_composition

    found = [parse_composition(text) for text in texts]
    names = [composition.name for composition in found]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ParameterError(f"compositions are named twice: {', '.join(double)}")
    for composition in found:
        composition.check_fits(atoms)
    return found


def _calculator(
    wanted: list[Composition], skf: Path | None, parameters: str | None, density: float
) -> tuple[str, MakeCalculator]:
    """What is computed with, in words, and how; all that is wrong with the tables shows here."""
    from dftbparam.engine.ase import DftbCalculator
    from dftbparam.reference.relaxation import symmetric_mesh

    symbols = list(dict.fromkeys(symbol for composition in wanted for symbol in composition.symbols))
    tables: Any
    if skf is not None:
        from dftbparam.engine.embedded import load_tables

        source = skf.resolve().name
        # Only pairs that meet in a composition are needed: no set has all pairs of all elements.
        tables = load_tables(skf, *(composition.symbols for composition in wanted))
        pairs = {(a, b) for composition in wanted for a in composition.symbols for b in composition.symbols}
        if lacking := sorted(f"{a}-{b}" for a, b in pairs - set(tables.files)):
            raise ParameterError(f"{skf} has no tables of {', '.join(lacking)}", path=str(skf), missing=lacking)
    else:
        from dftbparam.slako.build import build_tables
        from dftbparam.space import load_parameter_set

        chosen = load_parameter_set(parameters or DEFAULT_PARAMETERS)
        source = chosen.name
        for symbol in symbols:
            chosen.element(symbol)
        with counting("building tables", len(symbols) * (len(symbols) + 1) // 2) as tell:
            tables = build_tables(chosen, symbols, on_pair=lambda a, b: tell(f"{a}-{b}"))

    def make(structure: Any) -> Any:
        return DftbCalculator(tables, kpts=symmetric_mesh(structure, density))

    return f"DFTB {source}, 1000 K, {density:g} k-points per 1/Angstrom", make


def _line(outcome: Outcome) -> str:
    """One crystal in a line."""
    text = f"{outcome.name} {outcome.formula} ({outcome.spacegroup_drawn}) {outcome.status}"
    return f"{text}: {outcome.reason}" if outcome.reason else text


def _row(name: str, made: RandomSet) -> dict[str, Any]:
    kept = [outcome for outcome in made.outcomes if outcome.frames]
    total = sum(outcome.seconds for outcome in made.outcomes)
    return {
        "composition": name,
        "drawn": len(made.outcomes),
        "kept": len(kept),
        "frames": len(made.frames),
        "spacegroups": len({outcome.spacegroup for outcome in kept}),
        "outcome": ", ".join(f"{n} {status}" for status, n in sorted(made.statuses.items())),
        "seconds": total / len(made.outcomes) if made.outcomes else None,
    }
