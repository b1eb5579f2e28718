"""Options that commands of ``dftbparam delta`` share, what they read from words and files, and what they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dftbparam.cli.options import EngineName
from dftbparam.cli.output import Column, note
from dftbparam.errors import InputError, ParameterError

if TYPE_CHECKING:
    from ase import Atoms

    from dftbparam.delta.data import Base, ReferenceFrame
    from dftbparam.delta.evaluate import Evaluation
    from dftbparam.delta.inputs import BaseFeatures
    from dftbparam.delta.kernels import RadialKernel
    from dftbparam.delta.model import DeltaModel


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


def outside_notes(row: dict[str, Any], level: str, levels: list[str]) -> list[str]:
    """Say at which level a structure lies outside the domain, the one that is predicted first, and in what."""
    lines = []
    for name in sorted(levels, key=lambda one: one != level):
        reasons = "; ".join(row["outside_levels"][name])
        if not reasons:
            continue
        of = "" if len(levels) == 1 else f" of {name}" if name == level else f" of {name}, which is not predicted here"
        lines.append(f"structure {row['structure']} is outside the training domain{of}: {reasons}")
    return lines


def count_stage(tell: Callable[[str, str, int, int], None], stage: str, total: int, done: int) -> None:
    """Report how much of a stage is done."""
    tell(stage, "", done, total)


def read_levels(sources: list[str], levels: list[str]) -> list[tuple[str, float, list[str]]]:
    """Name, cost and sources of each level in order."""
    if sources and levels:
        raise ParameterError("give either sources, for one level, or --level for each of several")
    if sources:
        return [("reference", 1.0, sources)]
    if not levels:
        raise ParameterError("no source is given: reference sets, files, or --level NAME=SOURCE")
    found: dict[str, tuple[float, list[str]]] = {}
    for text in levels:
        head, source = name_and_value(text, "--level")
        name, colon, price = head.partition(":")
        cost = as_number(price, "--level") if colon else 1.0
        if not cost > 0.0:
            raise ParameterError(f"--level {text}: the cost must be positive")
        if name in found and colon and found[name][0] != cost:
            raise ParameterError(f"--level {name} has two costs, {found[name][0]:g} and {cost:g}")
        found.setdefault(name, (cost, []))[1].append(source)
    return [(name, cost, some) for name, (cost, some) in found.items()]


def split_words(text: str | None) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def name_and_value(text: str, option: str) -> tuple[str, str]:
    """Split NAME=VALUE; `ParameterError` names the option where it is none."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ParameterError(f"{option} {text!r}: right would be NAME={'1.5' if option == '--cost' else 'FILE'}")
    return name, value


def as_number(text: str, option: str) -> float:
    """Read a number of an option."""
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{option}: {text!r} is no number") from None


def as_kernel(text: str) -> RadialKernel:
    """Read KIND:LENGTH."""
    from dftbparam.delta.kernels import RadialKernel

    kind, colon, length = text.partition(":")
    return RadialKernel(kind, as_number(length, "--kernel") if colon else 2.0)


def element_set(text: str | None) -> set[str] | None:
    """Read symbols between commas; None where nothing is given."""
    from dftbparam.cli.options import check_symbol

    if text is None:
        return None
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names):
        check_symbol(name)
    return names


def reference_frames(sources: list[str], group_key: str | None, elements: set[str] | None) -> list[ReferenceFrame]:
    """Read the structures of some sources, of these elements alone where any are given."""
    from dftbparam.delta.data import read_reference

    found = [one for source in sources for one in read_reference(source, group_key=group_key)]
    if elements is not None:
        found = [one for one in found if set(one.frame.elements) <= elements]
        if not found:
            raise InputError(f"{', '.join(sources)}: no structure of {', '.join(sorted(elements))} alone")
    return found


def new_base(
    skf: Path | None, direct: bool, engine: EngineName, dftbplus: str | None, density: float, temperature: float
) -> Base | None:
    """The DFTB calculation underneath a new model; None for one that learns directly."""
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


def load_with_base(path: Path, skf: Path | None) -> tuple[DeltaModel, Base | None]:
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


def read_images(path: Path) -> list[Any]:
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


def base_features(base: Base, structures: Sequence[Any]) -> list[BaseFeatures | None]:
    """Compute DFTB's results that a model takes as inputs; the first error of a structure is raised."""
    from dftbparam.errors import DftbparamError

    found = []
    for outcome in base.compute(structures):
        if isinstance(outcome, DftbparamError):
            raise outcome
        found.append(outcome.features)
    return found


def candidate(atoms: Any, number: int, group_key: str | None) -> Atoms:
    """A structure for the DFT runner: bare, and named after its crystal, so that results are grouped as before.

    The crystal is what ``group_key`` says, else the key ``crystal``, else the name without the number at its end.
    """
    from ase import Atoms as AseAtoms

    from dftbparam.delta.data import without_number

    if group_key is not None and group_key not in atoms.info:
        known = ", ".join(sorted(map(str, atoms.info))) or "none"
        raise ParameterError(f"candidate {number} has no {group_key!r} to group by; it has the keys {known}")
    name = atoms.info.get(group_key or "crystal") or without_number(str(atoms.info.get("name", "")))
    bare = AseAtoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info = {**({"name": str(name)} if name else {}), "candidate": number}
    return bare


def freeze(atoms: Any, results: dict[str, Any]) -> None:
    """Let a structure carry its results instead of the calculator."""
    from ase.calculators.singlepoint import SinglePointCalculator

    calculator: Any = SinglePointCalculator
    known = {key: results[key] for key in ("energy", "free_energy", "forces", "stress") if key in results}
    atoms.calc = calculator(atoms, **known)
    atoms.info["energy_std"] = results["energy_std"]
    atoms.info["outside_domain"] = results["outside_domain"]
    if results["outside_levels"]:
        atoms.info["outside_levels"] = ",".join(results["outside_levels"])


def write_frames(path: Path, images: list[Atoms]) -> None:
    """Write an extended xyz file, whole or not at all."""
    import io

    from ase.io import write

    from dftbparam.publish import write_bytes

    buffer = io.StringIO()
    write(buffer, images, format="extxyz")
    write_bytes(path, buffer.getvalue().encode())


def structure_rows(result: Evaluation) -> list[dict[str, Any]]:
    """Each structure of an evaluation, for JSON."""
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


def draw_evaluation(folder: Path, title: str, result: Evaluation) -> None:
    """Write the plots of parity and calibration."""
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
