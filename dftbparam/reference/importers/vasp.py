"""VASP runs: ``vasprun.xml``, packed or not, or a folder of runs.

Structures, energies (extrapolated to no smearing, and free), forces and stress are read by ASE, which knows the traps
of these files (pressure in the energy, the missing dispersion). Read here are the settings, which tell whether runs
belong together, and whether the electrons converged; and the file is read to its end first, because a run that was cut
off looks like a shorter one otherwise.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isclose
from pathlib import Path
from typing import Any, Final

import numpy as np

from dftbparam.errors import FileFormatError, ReferenceDataError
from dftbparam.reference.importers.files import read_bytes
from dftbparam.reference.importers.frame import Frame, Intake, ReadOptions, Source, check_frame
from dftbparam.reference.importers.settings import Setting, functional_name

RUN: Final = re.compile(r"vasprun.*\.xml(\.gz|\.bz2|\.xz)?", re.IGNORECASE)
"""Names of runs in a folder."""

DISPERSION: Final = {1: "D2", 10: "D2", 11: "D3", 12: "D3BJ", 13: "D4"}
"""VASP's IVDW; other values are written as they are."""

SCREENED: Final = (0.2, 0.21)
"""HFSCREEN of HSE06 in 1/Angstrom, as VASP's manual and 0.11/Bohr give it."""


def read_vasp(path: Path, options: ReadOptions) -> Source:
    """Read a run, or all runs in a folder and those below it.

    Raises
    ------
    FileFormatError
        Not a vasprun.xml, or one that breaks off.
    ReferenceDataError
        A folder without runs, or a run whose electrons did not converge.
    StructureError
        See `check_frame`.
    """
    intake = Intake(options)
    if path.is_dir():
        runs = sorted(file for file in path.rglob("*") if file.is_file() and RUN.fullmatch(file.name))
        if not runs:
            raise ReferenceDataError(f"{path}: the folder holds no vasprun.xml", path=str(path))
    else:
        runs = [path]
    frames: list[Frame] = []
    for run in runs:
        label = run.name if run == path else str(run.relative_to(path))
        frames.extend(intake.take(partial(_run, run, label, intake)) or ())
    if not frames:
        raise ReferenceDataError(f"{path}: no run is left to import", path=str(path))
    return Source(str(path), "VASP", tuple(frames), notes=tuple(intake.notes))


@dataclass
class _Run:
    """What is needed beside ASE's results."""

    parameters: dict[str, str] = field(default_factory=dict)
    version: str = ""
    types: list[tuple[str, str]] = field(default_factory=list)
    converged: list[bool] = field(default_factory=list)


def _run(path: Path, label: str, intake: Intake) -> list[Frame]:
    from ase.io import read

    content = read_bytes(path)
    run = _parse(content, path)
    if not run.converged:
        raise FileFormatError("the run has no finished ionic step", path=str(path))
    try:
        images: Any = read(io.StringIO(content.decode("utf-8", errors="replace")), index=":", format="vasp-xml")
    except Exception as error:  # ASE's reader raises whatever it stumbles over
        raise FileFormatError(f"not a complete VASP run ({type(error).__name__}: {error})", path=str(path)) from None
    if len(images) != len(run.converged):
        raise FileFormatError(f"{len(images)} structures in {len(run.converged)} ionic steps", path=str(path))
    settings = _settings(run)
    steps = range(len(images)) if intake.options.all_steps else [len(images) - 1]
    frames = []
    for step in steps:
        where = f"{label}#{step + 1}"
        frame = intake.take(partial(_frame, images[step], where, run.converged[step], settings))
        if frame is not None:
            frames.append(frame)
    return frames


def _frame(image: Any, where: str, converged: bool, settings: Mapping[str, Setting]) -> Frame:
    if not converged:
        raise ReferenceDataError(f"{where}: the electrons did not converge within NELM steps", source=where)
    from ase import Atoms

    results = image.calc.results
    energy, free = float(results["energy"]), results.get("free_energy")
    forces, stress = results.get("forces"), results.get("stress")
    return check_frame(
        Frame(
            atoms=Atoms(image.numbers, positions=image.positions, cell=image.cell, pbc=True),
            energy=energy,
            source=where,
            name=str(Path(where).parent) if "/" in where else "",
            free_energy=None if free is None or float(free) == energy else float(free),
            forces=None if forces is None else np.array(forces, dtype=np.float64),
            stress=None if stress is None else np.array(stress, dtype=np.float64),
            settings=settings,
        )
    )


def _parse(content: bytes, path: Path) -> _Run:
    """Read the file to its end; `FileFormatError` where it is not XML or not VASP's."""
    run, root = _Run(), None
    try:
        for event, node in ET.iterparse(io.BytesIO(content), events=("start", "end")):
            if root is None:
                root = node
                if node.tag != "modeling":
                    raise FileFormatError(f"XML of something else than VASP (<{node.tag}>)", path=str(path))
            if event == "start":
                continue
            if node.tag == "generator":
                run.version = next((_text(n) for n in node.iter("i") if n.get("name") == "version"), "")
            elif node.tag in ("incar", "parameters"):
                # What VASP made of the input, which comes later in the file, goes before the input itself.
                run.parameters.update({str(n.get("name")).upper(): _text(n) for n in node.iter() if n.tag in "iv"})
            elif node.tag == "array" and node.get("name") == "atomtypes":
                rows = [[_text(cell) for cell in row] for row in node.iter("rc")]
                run.types = [(row[1], row[4]) for row in rows if len(row) > 4]
            elif node.tag == "calculation":
                run.converged.append(_converged(node, run.parameters))
                node.clear()
            elif node.tag in ("eigenvalues", "dos", "projected"):
                node.clear()
    except ET.ParseError as error:
        what = "not XML" if root is None else "truncated or damaged XML"
        raise FileFormatError(f"{what}: {error.msg}", path=str(path), line=error.position[0]) from None
    return run


def _text(node: ET.Element) -> str:
    return (node.text or "").strip()


def _converged(step: ET.Element, parameters: Mapping[str, str]) -> bool:
    """Whether the electrons converged: fewer cycles than allowed, or a last change below the threshold."""
    cycles = step.findall("scstep")
    limit = int(_float(parameters.get("NELM"), 60.0))
    if len(cycles) < limit:
        return bool(cycles)
    energies = [_float(_text(n), np.nan) for c in cycles[-2:] for n in c.findall("energy/i[@name='e_fr_energy']")]
    return len(energies) == 2 and abs(energies[1] - energies[0]) < _float(parameters.get("EDIFF"), 1e-4)


def _float(text: str | None, default: float) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        return default


def _true(parameters: Mapping[str, str], name: str) -> bool:
    return parameters.get(name, "").strip(".").upper().startswith("T")


def _settings(run: _Run) -> dict[str, Setting]:
    p = run.parameters
    settings: dict[str, Setting] = {"code": "VASP"}
    functional = _functional(run)
    if functional:
        settings["functional"] = functional
    if run.version:
        settings["version"] = run.version
    cutoff = _float(p.get("ENMAX") or p.get("ENCUT"), 0.0)
    if cutoff > 0.0:
        settings["cutoff"] = cutoff
    scheme = int(_float(p.get("ISMEAR"), 1.0))
    settings["scheme"] = f"ISMEAR={scheme}"
    if scheme > -4 and "SIGMA" in p:  # the tetrahedron methods (-4, -5) have no width
        settings["smearing"] = _float(p["SIGMA"], 0.0)
    settings["spin"] = (
        "spin-orbit" if _true(p, "LSORBIT") else "collinear" if _float(p.get("ISPIN"), 1.0) == 2.0 else "none"
    )
    # "PAW_PBE Ti_pv 07Sep2000": the date tells nothing that the name does not, for one version of the files.
    names = sorted({" ".join(potential.split()[:2]) for _, potential in run.types if potential})
    if names:
        settings["potentials"] = ",".join(names)
    if _true(p, "LDAU"):
        values = p.get("LDAUU", "").split()
        pairs = zip((symbol for symbol, _ in run.types), values, strict=False)
        settings["hubbard"] = ",".join(sorted(f"{symbol}:{_float(value, 0.0):g}" for symbol, value in pairs))
    return settings


def _functional(run: _Run) -> str:
    """Name the functional; empty where neither parameters nor potentials tell."""
    p = run.parameters
    gga, meta = p.get("GGA", "--").upper(), p.get("METAGGA", "--").upper()
    family = run.types[0][1].split()[0].upper() if run.types and run.types[0][1] else ""
    if _true(p, "LHFCALC"):
        exact, screen = _float(p.get("AEXX"), 0.25), _float(p.get("HFSCREEN"), 0.0)
        if isclose(exact, 0.25) and SCREENED[0] - 1e-6 <= screen <= SCREENED[1]:
            name = "HSE06"
        elif isclose(exact, 0.25) and screen == 0.0:
            name = "PBE0"
        else:
            name = f"hybrid with AEXX={exact:g} HFSCREEN={screen:g}"
    elif meta not in ("", "--", "NONE"):
        name = functional_name(meta)
    elif gga not in ("", "--"):
        name = functional_name(gga)
    else:
        # Without a GGA tag the functional is that of the potentials.
        name = {"PAW_PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA", "PAW_LDA": "LDA"}.get(family, "")
    if not name:
        return ""
    if _true(p, "LDAU"):
        name += "+U"
    if _true(p, "LUSE_VDW"):
        name += "+vdW"
    dispersion = int(_float(p.get("IVDW"), 0.0))
    return f"{name}+{DISPERSION.get(dispersion, f'IVDW={dispersion}')}" if dispersion else name
