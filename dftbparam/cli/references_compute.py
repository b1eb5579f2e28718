"""``dftbparam references compute``: DFT references of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dftbparam.cli.output import Column, JsonOption, note, present
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    from dftbparam.campaign.compute import Step
    from dftbparam.reference.dft import Request


def compute(
    compounds: Annotated[
        list[str] | None, typer.Argument(metavar="COMPOUND...", help="Elements, e.g. Si, and binaries, e.g. Mg-O.")
    ] = None,
    prototypes: Annotated[
        str, typer.Option(help="Prototypes, separated by commas, or 'all'; see 'dftbparam references prototypes'.")
    ] = "all",
    binaries: Annotated[
        str | None, typer.Option(metavar="SYMBOL,...", help="Add the binaries that represent these elements in fits.")
    ] = None,
    structures: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Extended xyz file: energies, forces and stress of these, too.")
    ] = None,
    properties: Annotated[
        str, typer.Option(help="Of eos, bands, forces, atoms and convergence, separated by commas.")
    ] = "eos",
    workers: Annotated[int, typer.Option(min=0, help="Worker processes here; 0 computes in this process.")] = 1,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A running Dask scheduler instead.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the data set.")] = Path("references-computed"),
    code: Annotated[
        str | None,
        typer.Option(metavar="gpaw|PACKAGE.MODULE:NAME", help="The DFT code: GPAW, or any ASE calculator."),
    ] = None,
    functional: Annotated[
        str | None, typer.Option(help="Exchange-correlation functional; with another code than GPAW it must be said.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings that differ from the element's default.")
    ] = None,
    cutoff: Annotated[float | None, typer.Option(help="Plane-wave cutoff, eV.")] = None,
    density: Annotated[
        float | None, typer.Option("--kpoint-density", help="k-point divisions per 1/Å of the reciprocal vectors.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Displaced and strained copies per compound.")] = 8,
    bands_of: Annotated[
        int, typer.Option("--bands-of", min=1, help="Crystals per compound with bands, the stable one first.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the displaced copies.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed calculations again.")] = False,
    collect_only: Annotated[
        bool, typer.Option("--collect-only", help="Run nothing; write the data set from what is there.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compute reference data by DFT; started again, it goes on where it stopped."""
    from dftbparam.campaign.compute import compute as run
    from dftbparam.campaign.executor import executor
    from dftbparam.reference.dataset import CRYSTALS_FILE, DESCRIPTION_FILE, FRAMES_FILE
    from dftbparam.reference.dft import Archive
    from dftbparam.reference.dft.code import available
    from dftbparam.reference.dft.collect import collect

    archive = Archive(out / "calculations")
    if (out / DESCRIPTION_FILE).exists() and not archive.folder.is_dir():
        raise ParameterError(
            f"{out} holds a data set but no calculations, which a run would replace; choose another --out", out=str(out)
        )
    computed = None
    if not collect_only:
        request = _request(
            compounds,
            prototypes,
            binaries,
            structures,
            properties,
            recipe,
            code,
            functional,
            cutoff,
            density,
            frames,
            bands_of,
            seed,
        )
        available(str(request.changes.get("code", "gpaw")), bands="bands" in request.properties)
        computed = run(request, archive, executor(workers, scheduler=scheduler), _report, retry_failed=retry_failed)
        note(f"{computed.finished} calculations run, {computed.failed} failed; {computed.found} were there already")
    elif not archive.folder.is_dir():
        raise ParameterError(f"{out} has no folder 'calculations': there is nothing to collect", out=str(out))
    summary = collect(archive, out)
    rows = [{"file": name, "rows": count} for name, count in summary.files.items()]
    value = {
        "out": str(out),
        "files": summary.files,
        "failed": dict(summary.failed),
        "no_minimum": dict(summary.no_minimum),
        "left_out": dict(summary.left_out),
        "finished": 0 if computed is None else computed.finished,
        "interrupted": computed is not None and computed.interrupted,
    }
    if summary.files or json is not None:
        present(json, value, f"Data set in {out}", [Column("file", "file", left=True), Column("rows", "entries")], rows)
    for reason in summary.failed.values():
        note(reason)
    for label, reason in summary.no_minimum.items():
        note(f"{label}: {reason}")
    if computed is not None and computed.interrupted:
        note("interrupted; the same command goes on")
        raise typer.Exit(1)
    for compound, count in summary.left_out.items():
        note(f"{compound}: {count} calculations with other settings, code version or data sets are left out")
    if not summary.files:
        note("nothing was computed that a data set could hold")
        raise typer.Exit(1)
    if not {CRYSTALS_FILE, FRAMES_FILE} & set(summary.files):
        note("no crystal and no structure yet: --references cannot take this folder")
    if computed is not None and computed.finished and computed.failed == computed.finished:
        note("every calculation of this run failed")
        raise typer.Exit(1)


def _request(
    compounds: list[str] | None,
    prototypes: str,
    binaries: str | None,
    structures: Path | None,
    properties: str,
    recipe: Path | None,
    code: str | None,
    functional: str | None,
    cutoff: float | None,
    density: float | None,
    frames: int,
    bands_of: int,
    seed: int,
) -> Request:
    import tomllib

    from dftbparam.reference.dft import Request
    from dftbparam.reference.dft.partners import binaries_for
    from dftbparam.reference.dft.plan import parse_system
    from dftbparam.reference.dft.recipe import GPAW, recipe_for
    from dftbparam.reference.dft.structures import read_structures, structure_tasks

    changes: dict[str, object] = {}
    if recipe is not None:
        try:
            changes = tomllib.loads(recipe.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ParameterError(f"{recipe} is no readable TOML file: {error}") from None
    changes |= {
        name: value
        for name, value in (("code", code), ("functional", functional), ("cutoff", cutoff), ("kpoint_density", density))
        if value is not None
    }
    names = None if prototypes == "all" else [name.strip() for name in prototypes.split(",") if name.strip()]
    systems = [parse_system(text, names) for text in dict.fromkeys(compounds or ())]
    for symbol in [s.strip() for s in (binaries or "").split(",") if s.strip()]:
        known = {system.name for system in systems}
        systems += [system for system in binaries_for(symbol) if system.name not in known]
    if recipe_for((), **changes).code != GPAW and "functional" not in changes:
        raise ParameterError(f"with {changes['code']} the functional must be said, e.g. --functional PBE")
    return Request(
        systems=systems,
        tasks=() if structures is None else tuple(structure_tasks(read_structures(structures), **changes)),
        properties=tuple(name.strip() for name in properties.split(",") if name.strip()),
        changes=changes,
        frames=frames,
        bands_of=bands_of,
        seed=seed,
    )


def _report(step: Step) -> None:
    verdict = "" if step.error is None else f"  FAILED: {step.error.get('message', '')}"
    note(f"{step.task.label}  {step.seconds:.1f} s  ({step.finished} done, {step.waiting} waiting){verdict}")


def prototypes(
    binaries: Annotated[
        str | None, typer.Option(metavar="SYMBOL", help="List the binaries that represent an element instead.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """List the prototype structures, or the binaries that represent an element in fits."""
    from dftbparam.reference import PROTOTYPES
    from dftbparam.reference.dft.partners import binaries_for, reason

    if binaries is not None:
        systems = binaries_for(binaries)
        rows = [{"compound": system.name, "prototypes": ", ".join(system.prototypes)} for system in systems]
        columns = [Column("compound", "compound", left=True), Column("prototypes", "prototypes", left=True)]
        value = {"symbol": binaries, "reason": reason(binaries), "binaries": rows}
        present(json, value, f"Binaries for {binaries}", columns, rows, caption=reason(binaries))
        return
    listed: list[dict[str, object]] = [
        {
            "name": name,
            "elements": 2 if p.binary else 1,
            "dimensions": p.dimensions,
            "coordination": p.coordination,
            "atoms": len(p.positions),
            "spacegroup": f"{p.spacegroup} ({p.spacegroup_number})",
            "aliases": ", ".join(p.aliases),
            "title": p.title,
        }
        for name, p in PROTOTYPES.items()
    ]
    columns = [
        Column("name", "prototype", left=True),
        Column("elements", "elements"),
        Column("dimensions", "periodic in"),
        Column("coordination", "coordination"),
        Column("atoms", "atoms in the cell"),
        Column("spacegroup", "space group", left=True),
        Column("aliases", "also", left=True),
        Column("title", "what it is", left=True),
    ]
    present(json, listed, "Prototypes", columns, listed, caption="and 'ground-state': the element's own crystal")
