"""``dftbparam skf``: build, check and plot Slater-Koster files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dftbparam.cli.options import check_symbol
from dftbparam.cli.output import Column, JsonOption, angular_block, angular_letters, note, present
from dftbparam.cli.progress import counting
from dftbparam.errors import InputError, ParameterError

if TYPE_CHECKING:
    from dftbparam.space import ParameterSet

app = typer.Typer(help="Slater-Koster files: build, check, plot.", no_args_is_help=True)


@app.command()
def build(
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="Elements; all ordered pairs are built.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the X-Y.skf files.")],
    parameters: Annotated[
        str,
        typer.Option(
            "--parameters",
            metavar="NAME|FILE|DIR",
            help="Parameter set: a shipped name, a JSON file, or a folder with a parameters.json.",
        ),
    ] = "ptbp",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    json: JsonOption = None,
) -> None:
    """Build the Slater-Koster files of all ordered pairs of elements from a parameter set."""
    from dftbparam.skf import write_skf
    from dftbparam.slako.build import build_tables

    double = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if double:
        raise ParameterError(f"elements are named twice: {', '.join(double)}")
    chosen = _load(parameters)
    for symbol in symbols:
        check_symbol(symbol)
        chosen.element(symbol)
    names = {(a, b): out / f"{a}-{b}.skf" for a in symbols for b in symbols}
    there = [path.name for path in names.values() if path.exists()]
    if there and not overwrite:
        raise ParameterError(
            f"{out} holds {', '.join(there[:4])}{' ...' if len(there) > 4 else ''} already; "
            "replace with --overwrite, or choose another --out"
        )
    rows = []
    with _output_folder(out):
        with counting("building tables", len(symbols) * (len(symbols) + 1) // 2) as tell:
            tables = build_tables(chosen, symbols, on_pair=lambda a, b: tell(f"{a}-{b}"))
        for pair, path in names.items():
            file = tables.files[pair]
            write_skf(path, file)
            rows.append(
                {
                    "file": path.name,
                    "grid_step": file.grid_step,
                    "rows": len(file.hamiltonian),
                    "table_end": file.grid_step * len(file.hamiltonian),
                    "extended": file.extended,
                    "repulsion_cutoff": None if file.repulsion is None else file.repulsion.cutoff,
                }
            )
    columns = [
        Column("file", "file", left=True),
        Column("grid_step", "step, Bohr", ".3f"),
        Column("rows", "rows"),
        Column("table_end", "last row, Bohr", ".2f"),
        Column("repulsion_cutoff", "repulsion to, Bohr", ".2f"),
        Column("extended", "extended"),
    ]
    value = {
        "parameters": chosen.name,
        "folder": str(out),
        "files": rows,
        "max_angular_momentum": angular_letters(tables.max_angular),
    }
    present(json, value, f"{out}: tables of {chosen.name}", columns, rows)
    note(angular_block(tables.max_angular))


def _load(parameters: str) -> ParameterSet:
    """Load a set: a folder such as that of a published set, a shipped name, or a file; a folder here goes first."""
    from dftbparam.publish.run_folder import PARAMETERS_NAME
    from dftbparam.space import load_parameter_set

    folder = Path(parameters)
    if (folder / PARAMETERS_NAME).is_file():
        return load_parameter_set(folder / PARAMETERS_NAME)
    try:
        return load_parameter_set(parameters)
    except ParameterError:
        if not folder.is_dir():
            raise
    raise ParameterError(
        f"{parameters!r} is a folder without {PARAMETERS_NAME}; name a parameter file, or the folder of a set"
    )


@contextlib.contextmanager
def _output_folder(out: Path) -> Iterator[None]:
    """Make the folder; if nothing gets into it before an error, remove what was made."""
    from dftbparam.publish import prepare_folder

    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        prepare_folder(out)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in new:
                folder.rmdir()
        raise


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE...", help="Slater-Koster files or folders of them.")],
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as defects.")] = False,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Also what a set has to pass to be published: overlaps, crystals under compression, dimers, U, and "
            "that DFTB+ reads it, if it is installed. Folders only.",
        ),
    ] = False,
    json: JsonOption = None,
) -> None:
    """Check Slater-Koster files; exit code 1 where one has a defect (warnings do not count)."""
    from dftbparam.skf import Defect, check_file, check_set
    from dftbparam.skf.read import find_files

    if gate and (alone := [str(path) for path in paths if path.is_file()]):
        raise InputError(
            f"{alone[0]}: --gate needs a folder of tables, not a file; name the folder, or leave --gate out",
            path=alone[0],
        )
    defects: list[Defect] = []
    checked = 0
    for path in paths:
        if path.is_dir():
            here = len(find_files(path))
            if not here:
                raise InputError(f"{path}: no Slater-Koster file here (X-Y.skf or XY.skf)", path=str(path))
            checked += here
            here_defects = check_set(path)
            defects += here_defects
            if gate and not any(defect.severity == "error" for defect in here_defects):
                from dftbparam.publish.gate import dftbplus_available, gate_folder

                asked = dftbplus_available()
                if not asked:
                    note("DFTB+ is not installed: it is not asked to read the tables")
                defects += gate_folder(path, dftbplus=asked)
        elif path.exists():
            checked += 1
            defects += check_file(path)
        else:
            raise InputError(f"{path}: no such file or folder", path=str(path))
    errors = sum(defect.severity == "error" for defect in defects)
    rows = [asdict(defect) for defect in defects]
    counts = f"{_count(errors, 'error')}, {_count(len(defects) - errors, 'warning')}"
    caption = f"{_count(checked, 'file')} checked: {counts}"
    if defects or json is not None:
        columns = [
            Column("path", "file", left=True),
            Column("severity", "severity", left=True),
            Column("code", "code", left=True),
            Column("message", "finding", left=True),
        ]
        value = {"files": checked, "errors": errors, "warnings": len(defects) - errors, "defects": rows}
        present(json, value, "Slater-Koster files", columns, rows, caption)
    else:
        note(f"{_count(checked, 'file')} checked: no defect found")
    if errors or (strict and defects):
        raise typer.Exit(1)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@app.command()
def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Slater-Koster file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="PNG, SVG or PDF.", show_default="name of the file, .png"),
    ] = None,
) -> None:
    """Plot Hamiltonian, overlap and repulsion of a Slater-Koster file against distance."""
    from dftbparam.publish import write_bytes
    from dftbparam.report import plot_skf, render
    from dftbparam.skf import read_skf

    target = out or Path(file.stem + ".png")
    content = read_skf(file)
    write_bytes(target, render(plot_skf(file.stem, content), target.suffix))
    note(f"wrote {target}")
