"""``dftbparam delta``: train, evaluate and use delta models, and what to compute next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.options import DftbPlusOption, EngineName, EngineOption
from dftbparam.cli.output import STDOUT, Column, JsonOption, note, prepare_json, present, show_json, show_table
from dftbparam.cli.progress import stages
from dftbparam.errors import InputError, ParameterError

if TYPE_CHECKING:
    from ase import Atoms

    from dftbparam.delta.data import Base, ReferenceFrame
    from dftbparam.delta.evaluate import Evaluation
    from dftbparam.delta.kernels import RadialKernel
    from dftbparam.delta.model import DeltaModel

app = typer.Typer(help="Delta models: from DFTB to the level of DFT, with error bars.", no_args_is_help=True)


class GroupName(StrEnum):
    """What is held out together."""

    crystal = "crystal"
    composition = "composition"


class StructureName(StrEnum):
    """How levels share what they learn."""

    autoregressive = "autoregressive"
    coregional = "coregional"


SkfOption = Annotated[
    Path | None,
    typer.Option("--skf", metavar="DIR", help="The frozen Slater-Koster files underneath.", show_default=False),
]
GroupKeyOption = Annotated[
    str | None,
    typer.Option(
        "--group-key",
        metavar="KEY",
        help="Key of extended xyz files that names the crystal a structure was made from.",
        show_default=False,
    ),
]
ElementsOption = Annotated[
    str | None,
    typer.Option(
        "--elements", metavar="SYMBOLS", help="Only structures of these elements, with commas.", show_default=False
    ),
]
EnergiesOption = Annotated[bool, typer.Option("--energies-only", help="Leave forces and stress out.")]
MixedOption = Annotated[
    bool, typer.Option("--allow-mixed", help="Take structures of one level that were computed differently.")
]
LevelOption = Annotated[
    str | None,
    typer.Option("--level", metavar="NAME", help="Level of theory; the model's highest.", show_default=False),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file of `delta train`.")]

SCORES: Final = [
    Column("structures", "structures"),
    Column("rmse", "rms error, eV/atom", ".4f"),
    Column("mae", "mean |error|", ".4f"),
    Column("largest", "largest", ".4f"),
    Column("mean_std", "error bar", ".4f"),
    Column("within_one_std", "within 1σ", ".0%"),
    Column("within_two_std", "within 2σ", ".0%"),
    Column("outside", "outside"),
]


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

    named = _levels(sources or [], level or [])
    options = TrainingOptions(
        descriptors=DescriptorSettings(cutoff=cutoff),
        kernels=KERNELS if kernel is None else (_kernel(kernel),),
        inducing=inducing,
        structure=structure.value,
        seed=seed,
    )
    base = _new_base(skf, direct, engine, dftbplus, kpt_density, temperature)
    wanted = _symbols(elements)
    needed = [name.strip() for name in (require or "").split(",") if name.strip()]
    unknown = sorted(set(needed) - {"forces", "stress"})
    if unknown:
        raise ParameterError(f"--require {unknown[0]}: it must be forces, stress or both")
    prepare_json(json)
    prepare_file(out)
    gpytorch_modules()
    frames = [(name, cost, _frames(some, group_key, wanted)) for name, cost, some in named]
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
                energies_only=energies_only,
                free_energy=free_energy,
                allow_mixed=allow_mixed,
                tell=partial(_count, tell, f"DFTB for {name}", len(some)),
            )
            for line in found.notes:
                note(line)
            samples += found.samples
            levels.append(Level(name, cost))
    symbols = sorted({str(s) for sample in samples for s in sample.atoms.symbols})
    model = run(samples, levels, options, base=None if base is None else base.record(symbols), tell=note)
    checksum = save_model(model, out)
    rows = [{"level": name, **scores} for name, scores in model.metrics["levels"].items()]
    value = {
        "model": str(out),
        "sha256": checksum,
        "elements": list(model.symbols),
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

    loaded, base = _load(model, skf)
    name = loaded.levels[loaded.level(level)].name
    prepare_json(json)
    if plot is not None:
        prepare_folder(plot)
    frames = _frames(sources, group_key, _symbols(elements))
    with stages() as tell:
        found = differences(
            frames,
            base,
            energies_only=energies_only,
            allow_mixed=allow_mixed,
            tell=lambda done: tell("DFTB", "", done, len(frames)),
        )
        for line in found.notes:
            note(line)
        result = run(
            loaded, found.samples, level=name, tell=lambda done: tell("correction", "", done, len(found.samples))
        )
    scores, groups = result.scores(), result.by_group()
    value = {"model": str(model), "scores": scores, "groups": groups, "structures": _structures(result)}
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
        _draw(plot, f"{', '.join(loaded.symbols)}: {name}", result)
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
    """Predict energies, forces and stress; exit code 1 where a structure is outside the training domain."""
    from dftbparam.delta.calculator import DeltaCalculator
    from dftbparam.publish import prepare_file

    loaded, base = _load(model, skf)
    images = _images(structures)
    prepare_json(json)
    if out is not None:
        prepare_file(out)
    calculator = DeltaCalculator(loaded, None if base is None else base.folder, level=level)
    rows = []
    with stages() as tell:
        for index, atoms in enumerate(images, start=1):
            atoms.calc = calculator
            forces = atoms.get_forces()
            results = dict(calculator.results)
            rows.append(
                {
                    "structure": index,
                    "formula": atoms.get_chemical_formula(),
                    "energy": float(results["energy"]),
                    "energy_per_atom": float(results["energy"]) / len(atoms),
                    "energy_std": float(results["energy_std"]),
                    "largest_force": float((forces**2).sum(axis=1).max() ** 0.5),
                    "outside_domain": bool(results["outside_domain"]),
                    "reasons": list(calculator.outside_reasons),
                    "forces": forces.tolist(),
                    "stress": [float(s) for s in results["stress"]] if "stress" in results else None,
                }
            )
            _freeze(atoms, results)
            tell("predicting", "", index, len(images))
    columns = [
        Column("structure", "#"),
        Column("formula", "formula", left=True),
        Column("energy", "energy, eV", ".6f"),
        Column("energy_per_atom", "eV/atom", ".6f"),
        Column("energy_std", "± eV/atom", ".4f"),
        Column("largest_force", "largest force, eV/Å", ".4f"),
        Column("outside_domain", "outside"),
    ]
    if out is not None:
        _write_frames(out, images)
        note(f"wrote {out}")
    name = calculator.level
    present(json, {"model": str(model), "level": name, "structures": rows}, f"{structures}: {name}", columns, rows)
    outside = [row for row in rows if row["outside_domain"]]
    for row in outside:
        note(f"structure {row['structure']} is outside the training domain: {'; '.join(row['reasons'])}")
    if outside:
        raise typer.Exit(1)


@app.command()
def suggest(
    model: ModelArgument,
    structures: Annotated[Path, typer.Argument(metavar="FILE", help="Candidates, in any format that ASE reads.")],
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

    loaded = load_model(model)
    images = _images(structures)
    running = [
        (atoms, name)
        for text in pending or []
        for name, file in [_pair(text, "--pending")]
        for atoms in _images(Path(file))
    ]
    costs = {name: _number(value, "--cost") for name, value in (_pair(text, "--cost") for text in cost or [])}
    prepare_json(json)
    if out is not None:
        prepare_folder(out)
    found = run(
        loaded,
        images,
        count,
        targets=None if target is None else _images(target),
        levels=level,
        pending=running,
        costs=costs,
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
        for name in dict.fromkeys(one.level for one in found):
            path = out / f"{name}.extxyz"
            _write_frames(path, [images[one.index] for one in found if one.level == name])
            note(f"wrote {path}")
    before = f"error bar now {found[0].std_before:.4f} eV/atom" if found else ""
    present(json, {"model": str(model), "suggestions": rows}, f"{structures}: {before}", columns, rows)


def _count(tell: Callable[[str, str, int, int], None], stage: str, total: int, done: int) -> None:
    tell(stage, "", done, total)


def _levels(sources: list[str], levels: list[str]) -> list[tuple[str, float, list[str]]]:
    """Name, cost and sources of each level in order."""
    if sources and levels:
        raise ParameterError("give either sources, for one level, or --level for each of several")
    if sources:
        return [("reference", 1.0, sources)]
    if not levels:
        raise ParameterError("no source is given: reference sets, files, or --level NAME=SOURCE")
    found: dict[str, tuple[float, list[str]]] = {}
    for text in levels:
        head, source = _pair(text, "--level")
        name, colon, price = head.partition(":")
        cost = _number(price, "--level") if colon else 1.0
        if not cost > 0.0:
            raise ParameterError(f"--level {text}: the cost must be positive")
        if name in found and colon and found[name][0] != cost:
            raise ParameterError(f"--level {name} has two costs, {found[name][0]:g} and {cost:g}")
        found.setdefault(name, (cost, []))[1].append(source)
    return [(name, cost, some) for name, (cost, some) in found.items()]


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ParameterError(f"{option} {text!r}: right would be NAME={'1.5' if option == '--cost' else 'FILE'}")
    return name, value


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{option}: {text!r} is no number") from None


def _kernel(text: str) -> RadialKernel:
    from dftbparam.delta.kernels import RadialKernel

    kind, colon, length = text.partition(":")
    return RadialKernel(kind, _number(length, "--kernel") if colon else 2.0)


def _symbols(text: str | None) -> set[str] | None:
    from dftbparam.cli.options import check_symbol

    if text is None:
        return None
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names):
        check_symbol(name)
    return names


def _frames(sources: list[str], group_key: str | None, elements: set[str] | None) -> list[ReferenceFrame]:
    from dftbparam.delta.data import read_reference

    found = [one for source in sources for one in read_reference(source, group_key=group_key)]
    if elements is not None:
        found = [one for one in found if set(one.frame.elements) <= elements]
        if not found:
            raise InputError(f"{', '.join(sources)}: no structure of {', '.join(sorted(elements))} alone")
    return found


def _new_base(
    skf: Path | None, direct: bool, engine: EngineName, dftbplus: str | None, density: float, temperature: float
) -> Base | None:
    from dftbparam.delta.data import Base
    from dftbparam.engine.base import Settings
    from dftbparam.engine.factory import make_engine

    if direct == (skf is not None):
        raise ParameterError("say which Slater-Koster files are underneath with --skf, or --direct for none, not both")
    if skf is None:
        return None
    settings = Settings(kpt_density=density, temperature=temperature)
    make_engine(engine.value, command=dftbplus)
    return Base(skf, settings, engine.value, dftbplus)


def _load(path: Path, skf: Path | None) -> tuple[DeltaModel, Base | None]:
    """Read a model and the base it goes with; refuses other Slater-Koster files."""
    from dftbparam.delta.data import Base, settings_from_record
    from dftbparam.delta.model_file import load_model

    model = load_model(path, skf)
    if not model.base:
        return model, None
    if skf is None:
        raise ParameterError(
            f"{path} corrects the Slater-Koster set {model.base['name']!r}; say where it is: --skf DIR"
        )
    return model, Base(skf, settings_from_record(model.base["settings"]), model.base["engine"])


def _images(path: Path) -> list[Any]:
    """Read structures of any format."""
    from ase.io import read

    if not path.is_file():
        raise InputError(f"{path}: no such file", path=str(path))
    try:
        found: Any = read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever they stumble over
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: no structures that ASE can read ({reason})", path=str(path)) from None
    if not found:
        raise InputError(f"{path}: no structures", path=str(path))
    return list(found)


def _freeze(atoms: Any, results: dict[str, Any]) -> None:
    """Let a structure carry its results instead of the calculator."""
    from ase.calculators.singlepoint import SinglePointCalculator

    calculator: Any = SinglePointCalculator
    known = {key: results[key] for key in ("energy", "free_energy", "forces", "stress") if key in results}
    atoms.calc = calculator(atoms, **known)
    atoms.info["energy_std"] = results["energy_std"]
    atoms.info["outside_domain"] = results["outside_domain"]


def _write_frames(path: Path, images: list[Atoms]) -> None:
    import io

    from ase.io import write

    from dftbparam.publish import write_bytes

    buffer = io.StringIO()
    write(buffer, images, format="extxyz")
    write_bytes(path, buffer.getvalue().encode())


def _structures(result: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "source": result.sources[k],
            "group": result.groups[k],
            "energy": float(result.energies[k]),
            "predicted": float(result.predicted[k]),
            "std": float(result.stds[k]),
            "outside": result.outside[k],
        }
        for k in range(len(result.sources))
    ]


def _draw(folder: Path, title: str, result: Evaluation) -> None:
    from dftbparam.publish import write_bytes
    from dftbparam.report import plot_calibration, plot_parity, render

    figures = {
        "parity": plot_parity(
            title, result.energies - result.base, result.predicted - result.base, result.stds, result.outside,
            "eV/atom above DFTB" if result.base.any() else "eV/atom",
        ),
        "calibration": plot_calibration(title, {result.level: result.calibration()}),
    }  # fmt: skip
    for name, figure in figures.items():
        path = folder / f"delta-{name}.png"
        write_bytes(path, render(figure))
        note(f"wrote {path}")
