"""Runs one calculation: an SCF with stated remedies, then forces, stress or bands where asked for.

Remedies: an SCF that does not converge is tried again from scratch with what usually helps, in the order of `REMEDIES`,
none of which changes the converged energy. The record says which attempt succeeded. What fails all of them is a failed
calculation, with GPAW's reason, and no reason to stop the others.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from dftbparam import __version__
from dftbparam.errors import (
    CalculationError,
    EngineError,
    EngineMissing,
    EngineTimeout,
    ParameterError,
    ScfNotConverged,
    StructureError,
)
from dftbparam.reference.dft.paths import require_seekpath
from dftbparam.reference.dft.recipe import GPAW, Recipe
from dftbparam.reference.dft.tasks import Task

REMEDIES: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("defaults", {}),
    ("slower density mixing", {"mixer": {"beta": 0.02, "nmaxold": 8, "weight": 100.0}}),
    ("slower density mixing, other eigensolver, more steps", {
        "mixer": {"beta": 0.01, "nmaxold": 5, "weight": 100.0}, "eigensolver": {"name": "rmm-diis"}, "steps": 4}),
)  # fmt: skip
"""Name and GPAW arguments of each attempt; ``steps`` multiplies the number of SCF steps."""

SPARE_BANDS: Final = 4
"""Bands computed above those asked for and thrown away: the highest ones of an iterative solver converge last."""

BANDS_PER_ATOM: Final = 4
"""Empty bands per atom kept in a band structure: as many as an s and a p shell can have."""

CLOSE: Final = 0.3
"""Angstrom; nuclei nearer than this are a mistake in the structure."""

INSTALL: Final = (
    "GPAW is not installed; on Debian or Ubuntu: apt install libxc-dev libopenblas-dev libfftw3-dev g++ python3-dev, "
    "then CC=g++ pip install gpaw (it comes with its PBE data sets); with conda: conda install -c conda-forge gpaw; "
    "docs/guide.md says more"
)


def available(code: str = GPAW, *, bands: bool = False) -> None:
    """Raise `EngineMissing` where a code, or what ``bands`` need, cannot run here, with the way to install it.

    `ParameterError` where the code has no bands.
    """
    if bands and code != GPAW:
        raise ParameterError(f"bands are computed with GPAW only, not with {code}; leave them out of --properties")
    if bands:
        require_seekpath()
    if code == GPAW:
        with _quiet():
            try:
                import gpaw  # noqa: F401
            except ImportError:
                raise EngineMissing(INSTALL, code=code) from None
    else:
        _calculator_class(code)


def versions(code: str = GPAW) -> dict[str, str]:
    """Versions of everything behind a number."""
    import ase

    found = {"dftbparam": __version__, "ase": ase.__version__}
    module = importlib.import_module(code.partition(":")[0])
    found[code] = str(getattr(module, "__version__", "unknown"))
    return found


def run_task(task: Task) -> dict[str, Any]:
    """Run a calculation; returns its record: ``result`` or ``error``, ``seconds``, ``versions``.

    The energies in ``result`` are eV per cell: ``energy`` extrapolated to zero smearing, ``energy_free`` with the
    electronic entropy; ``forces`` (n, 3) eV/Angstrom, ``stress`` (6,) eV/Angstrom^3 in ASE's order and sign. Where the
    free energy is what forces are the derivative of, it is the one to train on.

    Raises
    ------
    EngineMissing, ParameterError
        The code is not there, or its address is wrong: no calculation could succeed.
    """
    available(task.recipe.code)
    began = time.perf_counter()
    record: dict[str, Any] = {"result": None, "error": None}
    try:
        _check(task)
        with _quiet():
            record["result"] = _gpaw(task) if task.recipe.code == GPAW else _ase(task)
    except (CalculationError, EngineError, StructureError) as error:
        if isinstance(error, EngineMissing):
            raise
        record["error"] = {"type": type(error).__name__, "message": error.message, **_plain(error.data)}
    except ParameterError:
        raise
    except Exception as error:  # a defect of the code that is driven is this calculation's failure, not the run's
        record["error"] = {
            "type": type(error).__name__,
            "message": f"{task.label}: unexpected {type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
    record["seconds"] = round(time.perf_counter() - began, 3)
    record["versions"] = versions(task.recipe.code)
    return record


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if isinstance(v, str | int | float | list | None)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out warnings of other packages about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(task: Task) -> None:
    from ase.neighborlist import neighbor_list

    atoms = task.atoms()
    if not atoms.cell.volume > 1e-3:
        raise StructureError(f"{task.label}: the cell has no volume ({atoms.cell.volume:.3g} cubic Angstrom)")
    find: Any = neighbor_list
    close = find("d", atoms, CLOSE)
    if len(close):
        raise StructureError(f"{task.label}: two nuclei are {close.min():.3g} Angstrom apart")


class _Scf(NamedTuple):
    """A converged SCF: its calculator, the energy, and which of `REMEDIES` it took."""

    calculator: Any
    energy: float
    attempt: int


def _gpaw(task: Task) -> dict[str, Any]:
    """SCF by GPAW, then what the kind of the task asks for."""
    atoms: Any = task.atoms()
    scf = _converge(task, atoms)
    result: dict[str, Any] = {
        "energy": scf.energy,
        "energy_free": float(scf.calculator.get_potential_energy(atoms, force_consistent=True)),
        "iterations": int(scf.calculator.get_number_of_iterations()),
        "attempt": scf.attempt,
        "remedy": REMEDIES[scf.attempt][0],
        "setups": _setups(scf.calculator),
    }
    if task.kind == "forces":
        result["forces"] = np.asarray(atoms.get_forces()).tolist()
        result["stress"] = np.asarray(atoms.get_stress()).tolist()
    if task.kind == "atom":
        # Two spins at a fixed moment have two Fermi levels.
        result["magnetic_moment"] = float(atoms.get_magnetic_moment())
    else:
        result["fermi"] = float(scf.calculator.get_fermi_level())
    if task.kind == "bands":
        result.update(_gpaw_bands(task, scf.calculator, len(atoms)))
    return result


def _converge(task: Task, atoms: Any) -> _Scf:
    """Go through the remedies until one converges; `ScfNotConverged` names what each of them ended in."""
    from gpaw import KohnShamConvergenceError

    reasons: list[str] = []
    for attempt, (remedy, arguments) in enumerate(REMEDIES):
        calculator = _gpaw_calculator(task, arguments)
        atoms.calc = calculator
        try:
            return _Scf(calculator, float(atoms.get_potential_energy()), attempt)
        except KohnShamConvergenceError:
            reasons.append(f"{remedy}: not converged after {calculator.get_number_of_iterations()} steps")
        except MemoryError:
            raise CalculationError(f"{task.label}: out of memory") from None
        except (RuntimeError, ValueError, FloatingPointError, np.linalg.LinAlgError, FileNotFoundError) as error:
            text = (str(error).strip() or "no reason given").splitlines()[0]
            if isinstance(error, FileNotFoundError) or "setup" in text:
                symbols = " ".join(sorted(set(atoms.get_chemical_symbols())))
                raise EngineError(f"{task.label}: GPAW has no data set for one of {symbols} ({text})") from None
            reasons.append(f"{remedy}: {type(error).__name__}: {text}")
    raise ScfNotConverged(
        f"{task.label}: SCF failed in {len(REMEDIES)} attempts ({'; '.join(reasons)})",
        iterations=task.recipe.max_iterations,
        attempts=reasons,
    )


def _gpaw_calculator(task: Task, remedy: Mapping[str, Any]) -> Any:
    import gpaw

    recipe = task.recipe
    more = dict(remedy)
    steps = int(more.pop("steps", 1))
    mixer = more.get("mixer")
    arguments: dict[str, Any] = {
        "mode": gpaw.PW(recipe.cutoff),
        "xc": recipe.functional,
        "kpts": {"size": task.kpts, "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": recipe.smearing},
        "convergence": {
            "energy": recipe.energy,
            "density": recipe.density,
            "eigenstates": recipe.eigenstates,
        },
        "maxiter": recipe.max_iterations * steps,
        "txt": None,
    }
    if task.kind == "atom":
        # The ground state of an open shell breaks the symmetry of the sphere; the box does so from the start.
        arguments |= {"hund": True, "occupations": {"name": "fermi-dirac", "width": 0.01, "fixmagmom": True}}
        if mixer:
            more["mixer"] = {**mixer, "method": "difference"}
    elif mixer:
        more["mixer"] = dict(mixer)
    return gpaw.GPAW(**{**arguments, **more, **recipe.options})


def _setups(calculator: Any) -> dict[str, str]:
    """Fingerprint of the data set of every element, as ``<file> <md5>``."""
    return {
        setup.symbol: f"{os.path.basename(str(setup.filename))} {setup.fingerprint}" for setup in calculator.wfs.setups
    }


def _gpaw_bands(task: Task, calculator: Any, n_atoms: int) -> dict[str, Any]:
    """Energies along the path, relative to the Fermi level of the SCF."""
    electrons = float(calculator.get_number_of_electrons())
    keep = int(np.ceil(electrons / 2.0)) + BANDS_PER_ATOM * n_atoms
    bands = calculator.fixed_density(
        kpts=np.array(task.path),
        symmetry="off",
        nbands=keep + SPARE_BANDS,
        convergence={"bands": keep},
        maxiter=max(200, task.recipe.max_iterations),
        txt=None,
    )
    # Sorted before the cut: a band that an iterative solver found late must not fall off.
    energies = np.array([np.sort(bands.get_eigenvalues(kpt=k))[:keep] for k in range(len(task.path))])
    return {"electrons": electrons, "bands": (energies - calculator.get_fermi_level()).tolist()}


def _calculator_class(code: str) -> Any:
    module, _, name = code.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise EngineMissing(f"the calculator {code} cannot be imported ({error})", code=code) from None
    except AttributeError:
        raise ParameterError(f"module {module!r} has no {name!r}; a code is package.module:Calculator") from None


def _ase(task: Task) -> dict[str, Any]:
    """Energy, forces and stress by any ASE calculator, in a scratch folder of its own."""
    from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError

    if task.kind == "bands":
        raise CalculationError(
            f"{task.label}: band structures are computed with GPAW alone, not with {task.recipe.code}"
        )
    atoms: Any = task.atoms()
    with tempfile.TemporaryDirectory(prefix="dftbparam-dft-") as directory:
        atoms.calc = _calculator_class(task.recipe.code)(**_filled(task.recipe, task.kpts, Path(directory)))
        try:
            energy = float(atoms.get_potential_energy())
            try:
                free = float(atoms.get_potential_energy(force_consistent=True))
            except PropertyNotImplementedError:
                free = energy
            result: dict[str, Any] = {"energy": energy, "energy_free": free, "attempt": 0, "remedy": "defaults"}
            if task.kind == "forces":
                result["forces"] = np.asarray(atoms.get_forces()).tolist()
                result["stress"] = np.asarray(atoms.get_stress()).tolist()
        except TimeoutError as error:
            raise EngineTimeout(f"{task.label}: {error}") from None
        except Exception as error:  # a calculator may raise anything, and one failure must not stop the rest
            kind = ScfNotConverged if isinstance(error, CalculatorError) else EngineError
            raise kind(f"{task.label}: {type(error).__name__}: {error}") from None
    if not np.isfinite(energy):
        raise CalculationError(f"{task.label}: {task.recipe.code} returned {energy} as energy")
    return result


def _filled(recipe: Recipe, kpts: tuple[int, int, int], directory: Path) -> dict[str, Any]:
    """Options with their placeholders filled in."""
    stand_ins = {"{kpts}": kpts, "{directory}": str(directory)}
    return {name: stand_ins.get(v, v) if isinstance(v, str) else v for name, v in recipe.options.items()}
