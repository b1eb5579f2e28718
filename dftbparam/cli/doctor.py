"""``dftbparam doctor``: what is here, what is missing, and how to get it."""

from __future__ import annotations

import importlib
import math
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final

import typer

from dftbparam.cli.options import EngineName
from dftbparam.cli.output import Column, JsonOption, complain, present
from dftbparam.errors import DftbparamError

OLDEST_PYTHON: Final = (3, 11)

INSTALL_DFTBPLUS: Final = "optional; conda install -c conda-forge dftbplus"


DISPERSION: Final = "D3 and D4 dispersion"
"""Name of the check of the libraries that the embedded engine takes dispersion from."""


@dataclass(frozen=True)
class Check:
    """One finding: ``state`` is ok, missing or failed; ``advice`` says what to do about it."""

    name: str
    state: str
    found: str
    advice: str = ""


def checks() -> list[Check]:
    """Look at everything dftbparam stands on. Never raises: what goes wrong is a finding."""
    return [
        _python(),
        *_libraries(),
        _attempt("libxc", _libxc, "needed for other functionals than PBE and LDA; pip install pyscf"),
        _attempt(
            "numba cache",
            _numba_cache,
            "set NUMBA_CACHE_DIR to a folder you can write; without it every start compiles anew",
        ),
        _attempt("temporary files", _temporary, "set TMPDIR to a folder you can write"),
        _attempt("references", _references, "reinstall dftbparam"),
        _attempt("parameter set ptbp", _ptbp, "reinstall dftbparam"),
        _cores(),
        _dispersion(),
        *_dft(),
        *_dftbplus(),
    ]


def doctor(
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="Exit with code 3 if this engine is missing.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Report versions, what is missing, and how to get it."""
    found = checks()
    rows = [asdict(check) for check in found]
    columns = [
        Column("name", "what", left=True),
        Column("state", "state", left=True),
        Column("found", "found", left=True),
        Column("advice", "advice", left=True),
    ]
    present(json, rows, "dftbparam doctor", columns, rows)
    by_name = {check.name: check for check in found}
    if engine is EngineName.dftbplus and by_name["DFTB+"].state != "ok":
        complain(f"DFTB+: {by_name['DFTB+'].found}; {INSTALL_DFTBPLUS.removeprefix('optional; ')}")
        raise typer.Exit(3)
    broken = [check.name for check in found if check.state != "ok" and not check.advice.startswith("optional")]
    if broken:
        complain(f"not in order: {', '.join(broken)}")
        raise typer.Exit(3)


def _attempt(name: str, look: Callable[[], str], advice: str) -> Check:
    try:
        return Check(name, "ok", look())
    except DftbparamError as error:
        return Check(name, "failed", error.message, advice)
    except (ImportError, OSError, AttributeError, RuntimeError, ValueError) as error:
        return Check(name, "failed", f"{type(error).__name__}: {error}", advice)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", "failed", version, f"{'.'.join(map(str, OLDEST_PYTHON))} or newer is needed")
    return Check("python", "ok", version)


def _libraries() -> list[Check]:
    from dftbparam.publish import versions
    from dftbparam.publish.manifest import LIBRARIES

    known = versions()
    found = [Check("dftbparam", "ok", known["dftbparam"])]
    found += [
        Check(name, "ok", known[name]) if name in known else Check(name, "missing", "-", f"pip install {name}")
        for name in LIBRARIES
    ]
    return found


def _libxc() -> str:
    from pyscf.dft import libxc

    # A number, not only a version: the library must load and compute. Slater exchange at r_s = 1 Bohr.
    energy = float(libxc.eval_xc("LDA,", [0.75 / math.pi], deriv=0)[0][0])
    if abs(energy + 0.4581652932831429) > 1e-6:
        raise RuntimeError(f"Slater exchange at r_s = 1 came out as {energy} Hartree, not -0.458165")
    return f"{getattr(libxc, '__version__', 'unknown version')}, through pyscf"


def _numba_cache() -> str:
    given = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).resolve().parents[1] / "engine" / "__pycache__"
    candidates = [Path(given)] if given else [beside, Path.home() / ".cache" / "numba"]
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                where = "NUMBA_CACHE_DIR" if given else "beside the code" if folder == beside else "user cache"
                return f"{where}, writable"
        except OSError:
            continue
    raise OSError(f"{', '.join(map(str, candidates))} cannot be written")


def _temporary() -> str:
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
    return f"{free / 1e9:.1f} GB free"


def _references() -> str:
    from dftbparam.reference import list_datasets, load_dataset

    return "; ".join(f"{name}, {len(load_dataset(name).symbols)} elements" for name in list_datasets())


def _ptbp() -> str:
    from dftbparam.space import load_parameter_set

    return f"{len(load_parameter_set('ptbp').elements)} elements"


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("processor cores", "ok", str(count))


def _dft() -> list[Check]:
    """What DFT references of one's own need."""
    found = []
    for name, advice in (
        ("seekpath", "optional, for bands of references; pip install 'dftbparam[dft]', in a clone '.[dft]'"),
        ("pymatgen", "optional, for importers of references; pip install 'dftbparam[dft]', in a clone '.[dft]'"),
        ("pyxtal", "optional, for random crystals; pip install 'dftbparam[dft]', in a clone '.[dft]'"),
        ("gpaw", "optional, for references compute; docs/guide.md says how to install it"),
    ):
        # The version alone: importing GPAW takes seconds.
        try:
            found.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            found.append(Check(name, "missing", "-", advice))
    return found


def _dispersion() -> Check:
    """The libraries for D3 and D4 in the embedded engine."""
    found = []
    for name in ("dftd3", "dftd4"):
        try:
            importlib.import_module(f"{name}.interface")
            found.append(f"{name} {version(name)}")
        except (ImportError, OSError):
            return Check(
                DISPERSION, "missing", f"{name} is not installed", "optional; pip install 'dftbparam[dispersion]'"
            )
    return Check(DISPERSION, "ok", ", ".join(found))


def _dftbplus() -> list[Check]:
    """The program, and what it was built with."""
    from dftbparam.engine.dftbplus import DftbPlusEngine
    from dftbparam.engine.dftbplus_abilities import abilities

    try:
        engine = DftbPlusEngine(keep="never")
        versions = engine.versions()
    except DftbparamError as error:
        return [Check("DFTB+", "missing", error.message, INSTALL_DFTBPLUS)]
    where = shlex.join(engine.command)
    found = [Check("DFTB+", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()) + f", {where}")]
    words = {True: "yes", False: "not built in", None: "no answer"}
    for name, has in abilities(engine.command, engine.release()).items():
        found.append(Check(f"DFTB+: {name}", "ok" if has else "missing", words[has], "" if has else "optional"))
    return found
