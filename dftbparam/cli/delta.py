"""``dftbparam delta``: train, evaluate and use delta models, and what to compute next."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dftbparam.cli.delta_data import (
    SCORES,
    ElementsOption,
    EnergiesOption,
    GroupKeyOption,
    LevelOption,
    MixedOption,
    ModelArgument,
    SkfOption,
    as_kernel,
    as_number,
    base_features,
    candidate,
    count_stage,
    draw_evaluation,
    element_set,
    freeze,
    load_with_base,
    name_and_value,
    new_base,
    outside_notes,
    read_images,
    read_levels,
    reference_frames,
    split_words,
    structure_rows,
    write_frames,
)
from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption
from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, present, show_json, show_table
from dftbparam.cli.progress import stages
from dftbparam.errors import ParameterError

if TYPE_CHECKING:
    pass

app = typer.Typer(help="Delta models: from DFTB to the level of DFT, with error bars.", no_args_is_help=True)


class GroupName(StrEnum):
    """What is held out together."""

    crystal = "crystal"
    composition = "composition"


class StructureName(StrEnum):
    """How levels share what they learn."""

    autoregressive = "autoregressive"
    coregional = "coregional"


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The model file.", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="Reference sets by name or folder, extended xyz files, ASE databases, VASP runs: one level.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            "--level",
            metavar="NAME[:COST]=SOURCE",
            help="A level of theory and its structures, from the lowest to the highest; several sources by several "
            "options of one name. COST is that of one structure, in any unit.",
            show_default=False,
        ),
    ] = None,
    skf: SkfOption = None,
    direct: Annotated[bool, typer.Option("--direct", help="Learn the reference itself, without DFTB.")] = False,
    engine: EngineOption = EngineName.embedded,
    dftbplus: DftbPlusOption = None,
    kpt_density: Annotated[float, typer.Option("--kpt-density", metavar="D", help="k-points for DFTB per 2π/Å.")] = 3.0,
    temperature: Annotated[float, typer.Option("--temperature", metavar="K", help="Of DFTB's electrons.")] = 1000.0,
    elements: ElementsOption = None,
    group_by: Annotated[GroupName, typer.Option("--group-by", help="What is held out together.")] = GroupName.crystal,
    group_key: GroupKeyOption = None,
    energies_only: EnergiesOption = False,
    require: Annotated[
        str | None,
        typer.Option(
            "--require", metavar="NAMES", help="Refuse structures without: forces,stress.", show_default=False
        ),
    ] = None,
    free_energy: Annotated[
        bool, typer.Option("--free-energy", help="Learn the reference's Mermin free energy.")
    ] = False,
    allow_mixed: MixedOption = False,
    cutoff: Annotated[float, typer.Option("--cutoff", metavar="Å", help="Of the descriptors.")] = 5.0,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="KIND:LENGTH",
            help="matern52, rbf or rq; chosen by marginal likelihood unless given.",
            show_default=False,
        ),
    ] = None,
    inducing: Annotated[int, typer.Option("--inducing", metavar="N", help="Inducing environments at most.")] = 600,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="NAMES",
            help="Results of DFTB that are inputs, too, of charges,band-energy,fermi-level. The model then learns and "
            "gives energies, no forces.",
            show_default=False,
        ),
    ] = None,
    structure: Annotated[
        StructureName, typer.Option("--structure", help="How several levels share what they learn.")
    ] = StructureName.autoregressive,
    seed: Annotated[int, typer.Option("--seed", metavar="N")] = 0,
    json: JsonOption = None,
) -> None:
    """Train a model on what a reference adds to DFTB, and say how good it is on crystals held out.

    Exit code 1 where it is worse on them than a model without DFTB would be: the model is written, and says so.
    """
    from dftbparam.delta.data import differences
    from dftbparam.delta.descriptors import DescriptorSettings
    from dftbparam.delta.kernels import gpytorch_modules
    from dftbparam.delta.model import Level
    from dftbparam.delta.model_file import save_model
    from dftbparam.delta.training import KERNELS, TrainingOptions
    from dftbparam.delta.training import train as run
    from dftbparam.publish import prepare_file

    named = read_levels(sources or [], level or [])
    options = TrainingOptions(
        descriptors=DescriptorSettings(cutoff=cutoff),
        kernels=KERNELS if kernel is None else (as_kernel(kernel),),
        inducing=inducing,
        structure=structure.value,
        seed=seed,
        features=split_words(features),
    )
    base = new_base(skf, direct, engine, dftbplus, kpt_density, temperature)
    wanted = element_set(elements)
    needed = split_words(require)
    unknown = sorted(set(needed) - {"forces", "stress"})
    if unknown:
        raise ParameterError(f"--require {unknown[0]}: it must be forces, stress or both")
    if options.features and (direct or needed):
        other = "--direct: they are DFTB's" if direct else "--require: a model with them learns energies alone"
        raise ParameterError(f"--features and {other}")
    prepare_json(json)
    prepare_file(out)
    gpytorch_modules()
    frames = [(name, cost, reference_frames(some, group_key, wanted)) for name, cost, some in named]
    samples: list[Any] = []
    levels = []
    with stages() as tell:
        for at, (name, cost, some) in enumerate(frames):
            found = differences(
                some,
                base,
                level=at,
                group_by=group_by.value,
                require=needed,
                energies_only=energies_only or bool(options.features),
                free_energy=free_energy,
                allow_mixed=allow_mixed,
                tell=partial(count_stage, tell, f"DFTB for {name}", len(some)),
            )
            for line in found.notes:
                note(line)
            samples += found.samples
            levels.append(Level(name, cost))
    left = sum(one.frame.forces is not None or one.frame.stress is not None for _, _, some in frames for one in some)
    if options.features and left:
        note(f"forces and stress of {left} structures are left out: with --features a model learns energies alone")
    symbols = sorted({str(s) for sample in samples for s in sample.atoms.symbols})
    model = run(samples, levels, options, base=None if base is None else base.record(symbols), tell=note)
    checksum = save_model(model, out)
    rows = [{"level": name, **scores} for name, scores in model.metrics["levels"].items()]
    value = {
        "model": str(out),
        "sha256": checksum,
        "elements": list(model.symbols),
        "features": list(model.basis.features),
        "inducing": model.basis.size,
        "kernel": {"kind": model.basis.kernel.kind, "length": model.basis.kernel.length},
        "metrics": model.metrics,
        "provenance": model.provenance,
    }
    columns = [
        Column("level", "level", left=True),
        Column("structures", "structures"),
        Column("rmse", "rms error, eV/atom", ".4f"),
        Column("mae", "mean |error|", ".4f"),
        Column("rmse_without_base", "without DFTB", ".4f"),
        Column("within_one_std", "within 1σ", ".0%"),
        Column("within_two_std", "within 2σ", ".0%"),
        Column("calibration", "error bars times", ".2f"),
    ]
    held = f"{group_by.value}s held out" if model.metrics["grouped"] else "one crystal only: parts of it held out"
    present(json, value, f"{out}: {held} in {model.metrics['folds']} parts", columns, rows)
    worse = [row["level"] for row in rows if row.get("negative_transfer")]
    if worse:
        note(f"DFTB does not help: for {', '.join(worse)} a model without it is better on what was held out (--direct)")
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: ModelArgument,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="References, as for `delta train`.")],
    skf: SkfOption = None,
    level: LevelOption = None,
    elements: ElementsOption = None,
    group_key: GroupKeyOption = None,
    energies_only: EnergiesOption = False,
    allow_mixed: MixedOption = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Write plots of parity and calibration there.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Compare a model with references that it has not seen."""
    from dftbparam.delta.data import differences
    from dftbparam.delta.evaluate import evaluate as run
    from dftbparam.publish import prepare_folder

    loaded, base = load_with_base(model, skf)
    name = loaded.levels[loaded.level(level)].name
    prepare_json(json)
    if plot is not None:
        prepare_folder(plot)
    frames = reference_frames(sources, group_key, element_set(elements))
    with stages() as tell:
        found = differences(
            frames,
            base,
            energies_only=energies_only or bool(loaded.basis.features),
            allow_mixed=allow_mixed,
            tell=lambda done: tell("DFTB", "", done, len(frames)),
        )
        for line in found.notes:
            note(line)
        result = run(
            loaded, found.samples, level=name, tell=lambda done: tell("correction", "", done, len(found.samples))
        )
    scores, groups = result.scores(), result.by_group()
    value = {"model": str(model), "scores": scores, "groups": groups, "structures": structure_rows(result)}
    if json != STDOUT:
        show_table(f"{model}: {name}", [Column("group", "crystal", left=True), *SCORES], groups)
        show_table(
            "",
            [
                *SCORES,
                Column("rmse_within_groups", "within crystals", ".4f"),
                Column("rmse_forces", "forces, eV/Å", ".4f"),
                Column("rmse_stress", "stress, eV/Å³", ".5f"),
            ],
            [scores],
        )
    if plot is not None:
        draw_evaluation(plot, f"{', '.join(loaded.symbols)}: {name}", result)
    if json is not None:
        show_json(json, value)


@app.command()
def predict(
    model: ModelArgument,
    structures: Annotated[Path, typer.Argument(metavar="FILE", help="Structures, in any format that ASE reads.")],
    skf: SkfOption = None,
    level: LevelOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Extended xyz with energies, forces and stress.", show_default=False
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Predict energies, forces and stress; exit code 1 where a structure is outside the level's training domain.

    A model with DFTB's results as inputs (`delta train --features`) gives energies alone.
    """
    from dftbparam.delta.calculator import DeltaCalculator
    from dftbparam.publish import prepare_file

    loaded, base = load_with_base(model, skf)
    images = read_images(structures)
    prepare_json(json)
    if out is not None:
        prepare_file(out)
    calculator = DeltaCalculator(loaded, None if base is None else base.folder, level=level)
    rows = []
    with stages() as tell:
        for index, atoms in enumerate(images, start=1):
            atoms.calc = calculator
            # Of a model with inputs from DFTB the energy, which is all that it gives.
            forces = None if loaded.basis.features else atoms.get_forces()
            atoms.get_potential_energy()
            results = dict(calculator.results)
            rows.append(
                {
                    "structure": index,
                    "formula": atoms.get_chemical_formula(),
                    "energy": float(results["energy"]),
                    "energy_per_atom": float(results["energy"]) / len(atoms),
                    "energy_std": float(results["energy_std"]),
                    "largest_force": None if forces is None else float((forces**2).sum(axis=1).max() ** 0.5),
                    "outside_domain": bool(results["outside_domain"]),
                    "reasons": list(calculator.outside_reasons),
                    "outside_levels": {name: list(why) for name, why in calculator.outside_by_level.items()},
                    "outside_at": ", ".join(results["outside_levels"]),
                    "forces": None if forces is None else forces.tolist(),
                    "stress": [float(s) for s in results["stress"]] if "stress" in results else None,
                }
            )
            freeze(atoms, results)
            tell("predicting", "", index, len(images))
    columns = [
        Column("structure", "#"),
        Column("formula", "formula", left=True),
        Column("energy", "energy, eV", ".6f"),
        Column("energy_per_atom", "eV/atom", ".6f"),
        Column("energy_std", "± eV/atom", ".4f"),
        Column("largest_force", "largest force, eV/Å", ".4f"),
        Column("outside_domain", "outside"),
        *([Column("outside_at", "outside at", left=True)] if len(loaded.levels) > 1 else []),
    ]
    if loaded.basis.features:
        note(f"no forces: the model takes DFTB's {', '.join(loaded.basis.features)} as input, without derivatives")
    if out is not None:
        write_frames(out, images)
        note(f"wrote {out}")
    name = calculator.level
    present(json, {"model": str(model), "level": name, "structures": rows}, f"{structures}: {name}", columns, rows)
    for row in rows:
        for line in outside_notes(row, name, list(calculator.outside_by_level)):
            note(line)
    if any(row["outside_domain"] for row in rows):
        raise typer.Exit(1)


@app.command()
def suggest(
    model: ModelArgument,
    structures: Annotated[Path, typer.Argument(metavar="FILE", help="Candidates, in any format that ASE reads.")],
    skf: SkfOption = None,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Calculations in the batch.")] = 8,
    level: Annotated[
        list[str] | None,
        typer.Option("--level", metavar="NAME", help="Levels that can be computed; all.", show_default=False),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option("--cost", metavar="NAME=COST", help="Instead of the model's.", show_default=False),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target", metavar="FILE", help="Structures whose error bars count; the candidates.", show_default=False
        ),
    ] = None,
    pending: Annotated[
        list[str] | None,
        typer.Option(
            "--pending", metavar="LEVEL=FILE", help="Structures that are being computed at a level.", show_default=False
        ),
    ] = None,
    computed: Annotated[
        list[str] | None,
        typer.Option(
            "--computed",
            metavar="LEVEL=SOURCE",
            help="What is computed at a level already, as for `delta train`: it is not chosen again.",
            show_default=False,
        ),
    ] = None,
    group_key: GroupKeyOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write LEVEL.extxyz with the chosen structures there, for `references compute --structures`.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Say which structure to compute next at which level, for the most gain per cost."""
    from dftbparam.delta.model_file import load_model
    from dftbparam.delta.suggest import suggest as run
    from dftbparam.publish import prepare_folder

    loaded = load_model(model, skf)
    base = load_with_base(model, skf)[1] if loaded.basis.features else None
    images = read_images(structures)
    running = [
        (atoms, name)
        for text in pending or []
        for name, file in [name_and_value(text, "--pending")]
        for atoms in read_images(Path(file))
    ]
    done = [
        (one.frame.atoms, name)
        for text in computed or []
        for name, source in [name_and_value(text, "--computed")]
        for one in reference_frames([source], None, None)
    ]
    costs = {
        name: as_number(value, "--cost") for name, value in (name_and_value(text, "--cost") for text in cost or [])
    }
    prepare_json(json)
    if out is not None:
        for one in loaded.levels:
            if Path(one.name).name != one.name:
                raise ParameterError(f"--out: the level {one.name!r} cannot name a file")
        prepare_folder(out)
    found = run(
        loaded,
        images,
        count,
        targets=None if target is None else read_images(target),
        levels=level,
        pending=running,
        computed=done,
        costs=costs,
        features=None if base is None else partial(base_features, base),
    )
    rows = [
        {**asdict(one), "index": one.index + 1, "formula": images[one.index].get_chemical_formula()} for one in found
    ]
    columns = [
        Column("index", "#"),
        Column("formula", "formula", left=True),
        Column("level", "level", left=True),
        Column("cost", "cost", "g"),
        Column("gain", "variance less, (eV/atom)²", ".3g"),
        Column("std_after", "error bar after, eV/atom", ".4f"),
        Column("outside", "outside"),
    ]
    if out is not None:
        # What an earlier batch left there for another level would be computed as if it were of this one.
        for name in {one.name for one in loaded.levels} - {one.level for one in found}:
            (out / f"{name}.extxyz").unlink(missing_ok=True)
        for name in dict.fromkeys(one.level for one in found):
            path = out / f"{name}.extxyz"
            chosen = [one.index for one in found if one.level == name]
            write_frames(path, [candidate(images[index], index + 1, group_key) for index in chosen])
            note(f"wrote {path}")
    before = f"error bar now {found[0].std_before:.4f} eV/atom" if found else "nothing is left to compute"
    present(json, {"model": str(model), "suggestions": rows}, f"{structures}: {before}", columns, rows)
