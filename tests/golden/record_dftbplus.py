"""Record golden numbers from DFTB+, and tell how far the embedded engine is from them.

python tests/golden/record_dftbplus.py record [NAME ...]   run DFTB+ (all cases by default), write dftbplus/*.json
python tests/golden/record_dftbplus.py model-sets          write the made-up sets dftbplus/skf/*
python tests/golden/record_dftbplus.py table [--write]     embedded engine against the records; --write: into
                                                           docs/engines.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, graphene, make_supercell, molecule
from ase.spacegroup import crystal

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dftbplus_cases import HERE, TOLERANCES, Case, SetMissing, deviations, load, names, save

from dftbparam.engine.base import Result, Settings
from dftbparam.errors import DftbparamError
from dftbparam.skf import write_skf
from dftbparam.skf.model import (
    EXTENDED_COLUMNS,
    SIMPLE_COLUMNS,
    OnSite,
    PolynomialRepulsion,
    SKFile,
    SplineRepulsion,
)

PBC, MIO, MATSCI, THREEOB = "pbc/pbc-0-3", "mio/mio-1-1", "matsci/matsci-0-3", "3ob/3ob-3-1"
TIORG, ZNORG, TRANS3D = "tiorg/tiorg-0-1", "znorg/znorg-0-1", "trans3d/trans3d-0-1"
AUORG, RARE, HYB = "auorg/auorg-1-1", "rare/rare-0-2", "hyb/hyb-0-2"

EVERYTHING = Settings(forces=True, stress=True, eigenvalues=True, scc_tolerance=1e-9)
NO_BANDS = replace(EVERYTHING, eigenvalues=False)
"""For large meshes, whose eigenvalues would make large files."""


def say(text: str | None) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def rattled(atoms: Atoms, amplitude: float, seed: int, strain: float = 0.0) -> Atoms:
    """Move every atom, and shear the cell, by reproducible random amounts (Angstrom; strain as a fraction)."""
    rng = np.random.default_rng(seed)
    out = atoms.copy()
    if strain:
        out.set_cell(out.cell.array @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
    out.positions += amplitude * rng.uniform(-1, 1, out.positions.shape)
    out.positions = np.round(out.positions, 10)
    return out


def urea() -> Atoms:
    """A planar molecule like urea, CO(NH2)2; idealised bond lengths and angles."""
    half = np.deg2rad(58.5)
    n = np.array([1.37 * np.sin(half), 0.0, -1.37 * np.cos(half)])
    tilt = np.deg2rad(62.0)
    h1 = n + 1.01 * np.array([0.0, 0.0, -1.0])
    h2 = n + 1.01 * np.array([np.sin(tilt), 0.0, np.cos(tilt)])
    mirror = np.array([-1.0, 1.0, 1.0])
    places = [[0, 0, 0], [0, 0, 1.22], n, n * mirror, h1, h2, h1 * mirror, h2 * mirror]
    return Atoms("CON2H4", positions=np.round(places, 10))


def cases() -> Iterator[Case]:
    """All systems, smallest first within each kind."""
    s = EVERYTHING
    yield Case(
        "si-diamond",
        "diamond at rest: all atoms equivalent",
        (PBC,),
        bulk("Si", "diamond", 5.43),
        replace(s, kpts=(4, 4, 4)),
    )
    yield Case(
        "si-diamond-moved",
        "one atom off its place",
        (PBC,),
        rattled(bulk("Si", "diamond", 5.43), 0.08, 1),
        replace(s, kpts=(4, 4, 4)),
    )
    yield Case(
        "si-sc-dense",
        "one atom in a small cell with a large mesh",
        (PBC,),
        bulk("Si", "sc", 2.53),
        replace(NO_BANDS, kpts=(15, 15, 15)),
    )
    yield Case(
        "si-supercell",
        "16 atoms, all moved, Gamma excluded",
        (PBC,),
        rattled(make_supercell(bulk("Si", "diamond", 5.43), 2 * np.eye(3, dtype=int)), 0.1, 2),
        replace(s, kpts=(2, 2, 2), temperature=300.0),
    )
    yield Case(
        "sic-zincblende", "two elements at rest", (PBC,), bulk("SiC", "zincblende", 4.36), replace(s, kpts=(4, 4, 4))
    )
    yield Case(
        "sic-skewed",
        "two elements, sheared cell, no symmetry, odd and even divisions",
        (PBC,),
        rattled(bulk("SiC", "zincblende", 4.36), 0.12, 3, strain=0.06),
        replace(s, kpts=(3, 4, 2)),
    )
    yield Case(
        "tio2-rutile",
        "rutile; set extended by another",
        (TIORG, MIO),
        crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]),
        replace(s, kpts=(2, 2, 4)),
    )
    yield Case(
        "tio2-anatase",
        "anatase, primitive cell",
        (MATSCI,),
        crystal(
            ["Ti", "O"],
            [(0, 0, 0), (0, 0, 0.208)],
            spacegroup=141,
            cellpar=[3.785, 3.785, 9.514, 90, 90, 90],
            primitive_cell=True,
        ),
        replace(s, kpts=(3, 3, 3)),
    )
    yield Case(
        "zno-wurtzite",
        "hexagonal; the shifted mesh breaks its symmetry",
        (ZNORG, MIO),
        bulk("ZnO", "wurtzite", a=3.25, c=5.207),
        replace(s, kpts=(4, 4, 2)),
    )
    yield Case(
        "gan-wurtzite",
        "hexagonal, mesh with Gamma",
        (RARE,),
        bulk("GaN", "wurtzite", a=3.189, c=5.185),
        replace(s, kpts=(3, 3, 2)),
    )
    yield Case(
        "gaas-moved",
        "zinc blende, moved",
        (HYB,),
        rattled(bulk("GaAs", "zincblende", 5.65), 0.1, 4, 0.02),
        replace(s, kpts=(3, 3, 3)),
    )
    yield Case("al-fcc", "metal, Fermi filling, 1000 K", (MATSCI,), bulk("Al", "fcc", 4.05), replace(s, kpts=(6, 6, 6)))
    yield Case(
        "al-fcc-cold",
        "metal at 100 K",
        (MATSCI,),
        bulk("Al", "fcc", 4.05),
        replace(s, kpts=(7, 7, 7), temperature=100.0),
    )
    yield Case("ti-hcp", "hexagonal metal", (MATSCI,), bulk("Ti", "hcp", a=2.95, c=4.68), replace(s, kpts=(4, 4, 3)))
    yield Case(
        "cu-fcc",
        "d metal, Methfessel-Paxton of first order",
        (MATSCI,),
        bulk("Cu", "fcc", 3.61),
        replace(s, kpts=(6, 6, 6), filling="methfessel-paxton", temperature=3000.0),
    )
    yield Case(
        "cu-fcc-mp2",
        "d metal, second order, sheared",
        (MATSCI,),
        rattled(bulk("Cu", "fcc", 3.61), 0.0, 5, 0.05),
        replace(s, kpts=(4, 4, 4), filling="methfessel-paxton", filling_order=2, temperature=5000.0),
    )
    yield Case(
        "fe-bcc",
        "d metal, not spin-polarised, mesh by density",
        (TRANS3D,),
        bulk("Fe", "bcc", 2.87),
        replace(s, kpt_density=2.0),
    )
    yield Case(
        "au-fcc", "5d metal, dense mesh", (AUORG,), bulk("Au", "fcc", 4.08), replace(NO_BANDS, kpts=(12, 12, 12))
    )
    yield Case(
        "au-slab",
        "two layers of atoms that are not equivalent, vacuum",
        (AUORG,),
        rattled(
            Atoms(
                "Au3", scaled_positions=[[0, 0, 0.3], [0.5, 0.5, 0.5], [0, 0, 0.7]], cell=[2.88, 2.88, 10.2], pbc=True
            ),
            0.05,
            6,
        ),
        replace(s, kpts=(4, 4, 1)),
    )
    yield Case("mgo-rocksalt", "ionic", (THREEOB,), bulk("MgO", "rocksalt", 4.21), replace(s, kpts=(4, 4, 4)))
    yield Case(
        "cao-moved",
        "ionic, moved",
        (THREEOB,),
        rattled(bulk("CaO", "rocksalt", 4.81), 0.1, 7),
        replace(s, kpts=(2, 3, 2)),
    )
    yield Case(
        "nacl-rocksalt",
        "ionic, cubic cell of eight",
        (THREEOB,),
        bulk("NaCl", "rocksalt", 5.64, cubic=True),
        replace(s, kpts=(2, 2, 2)),
    )
    yield Case(
        "nacl-charged",
        "a missing electron in a periodic cell",
        (THREEOB,),
        rattled(bulk("NaCl", "rocksalt", 5.64), 0.1, 8),
        replace(s, kpts=(3, 3, 3), charge=1.0, stress=False),
    )
    graphite = graphene(a=2.46, vacuum=0.0)
    graphite.set_cell([*graphite.cell.array[:2], [0, 0, 3.4]])
    graphite.pbc = True
    yield Case(
        "graphite-aa",
        "layers, without self-consistent charges",
        (MIO,),
        graphite,
        replace(s, kpts=(5, 5, 2), scc=False),
    )
    yield Case(
        "water-in-box",
        "molecule in a large periodic cell, Gamma only",
        (MIO,),
        Atoms(molecule("H2O"), cell=[7.0, 7.5, 8.0], pbc=True),
        s,
    )
    yield Case("water", "molecule", (MIO,), molecule("H2O"), s)
    yield Case("benzene", "molecule", (MIO,), molecule("C6H6"), s)
    yield Case("urea", "molecule of four elements", (MIO,), urea(), replace(s, temperature=300.0))
    yield Case(
        "ammonium",
        "charged molecule",
        (MIO,),
        Atoms("NH4", positions=[[0, 0, 0], *(0.59 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))]),
        replace(s, charge=1.0),
    )
    yield Case("h2s-hot", "molecule with d orbitals, hot", (MIO,), molecule("SH2"), replace(s, temperature=8000.0))
    yield Case(
        "oxygen-cold",
        "open-shell molecule at 0 K without repulsion",
        (MIO,),
        Atoms("O2", positions=[[0, 0, 0], [0.2, 0.3, 1.2]]),
        replace(s, temperature=0.0, repulsion=False),
    )
    model = Atoms(
        "SiO", positions=[[0, 0, 0], [1.3, 1.1, 1.7]], cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]], pbc=True
    )
    yield Case(
        "model-spd",
        "made-up set: spd and sp, spline and polynomial repulsion",
        ("model-spd",),
        model,
        replace(s, kpts=(2, 3, 2)),
    )
    heavy = Atoms(
        "La2O",
        positions=[[0, 0, 0], [2.0, 1.9, 1.8], [0.3, 2.0, 2.4]],
        cell=[[4.1, 0.2, 0], [0.3, 4.3, 0.4], [0, 0.5, 4.0]],
        pbc=True,
    )
    yield Case("model-f", "made-up set: spdf and sp", ("model-f",), heavy, replace(s, kpts=(2, 1, 2)))
    yield Case(
        "model-f-molecule",
        "made-up set: spdf alone",
        ("model-f",),
        Atoms("La3", positions=[[0, 0, 0], [2.1, 1.5, 1.0], [-1.0, 2.4, 2.2]]),
        replace(s, temperature=3000.0),
    )


# -------------------------------------------------------------------------------------------------- made-up sets


def made_up_file(pair: tuple[str, str], extended: bool, repulsion: str | None, seed: int) -> SKFile:
    """Tables that fall off smoothly, with signs and sizes that differ for every integral; 32 rows of 0.25 Bohr.

    A-B and B-A differ where one holds the s and the other the p shell of A, but must agree where both shells are alike.
    """
    columns = EXTENDED_COLUMNS if extended else SIMPLE_COLUMNS
    r = 0.25 * np.arange(1, 33)
    overlap, hamiltonian = [], []
    for l1, l2, m in columns:
        who = sorted(pair) if l1 == l2 else pair
        rng = np.random.default_rng([seed, l1, l2, m, *"-".join(who).encode()])
        # Small enough for S to stay positive definite in the cases above; smaller for high l and m.
        size = 0.16 * rng.uniform(0.5, 1.0) * (-1.0) ** (l1 + m) / (1.0 + 0.5 * (l1 + l2) + m)
        width = rng.uniform(2.2, 2.8)
        shape = np.exp(-((r / width) ** 2) / 2.0) * (1.0 + 0.3 * r)
        overlap.append(size * shape)
        hamiltonian.append(-0.6 * size * shape * rng.uniform(0.8, 1.2) * (1.0 + 0.05 * r))
    return SKFile(
        grid_step=0.25,
        hamiltonian=np.round(np.array(hamiltonian).T, 9),
        overlap=np.round(np.array(overlap).T, 9),
        on_site=ON_SITES.get(pair[0]) if pair[0] == pair[1] else None,
        mass=10.0,
        repulsion=_made_up_repulsion(repulsion),
        extended=extended,
        documentation="Made up for tests: no chemistry.",
    )


def _on_site(energies: list[float], hubbard: list[float], occupations: list[float]) -> OnSite:
    def padded(values: list[float]) -> np.ndarray:
        return np.array(values + [0.0] * (4 - len(values)))

    return OnSite(energies=padded(energies), hubbard=padded(hubbard), occupations=padded(occupations))


ON_SITES = {
    "Si": _on_site([-0.42, -0.16, 0.11], [0.26, 0.24, 0.22], [2.0, 2.0, 0.0]),
    "O": _on_site([-0.85, -0.34], [0.49, 0.48], [2.0, 4.0]),
    "La": _on_site([-0.15, -0.07, -0.11, -0.05], [0.17, 0.15, 0.20, 0.40], [2.0, 0.0, 1.0, 0.5]),
}


def _made_up_repulsion(kind: str | None) -> SplineRepulsion | PolynomialRepulsion | None:
    if kind == "polynomial":
        return PolynomialRepulsion(np.array([0.004, 0.001, 0.0, 0.0002, 0.0, 0.0, 0.0, 1e-6]), 6.5)
    if kind is None:
        return None
    # 0.005 (7 - r)^3 expanded about each knot, so that it is one curve; the head matches value and slope.
    knots = np.array([2.0, 2.7, 3.6, 7.0])
    gap = 7.0 - knots[:-1]
    rows = 0.005 * np.stack([gap**3, -3 * gap**2, 3 * gap, -np.ones(3), np.zeros(3), np.zeros(3)], axis=1)
    value, slope = rows[0, :2]
    a1 = -slope / value
    return SplineRepulsion(knots, rows, (float(a1), float(np.log(value) + a1 * knots[0]), 0.0))


def write_model_sets() -> None:
    """Write the made-up sets."""
    sets = {
        "model-spd": {"Si": (False, "spline"), "O": (False, "polynomial")},
        "model-f": {"La": (True, "spline"), "O": (False, None)},
    }
    for name, elements in sets.items():
        folder = HERE / "skf" / name
        folder.mkdir(parents=True, exist_ok=True)
        for a, (extended_a, repulsion_a) in elements.items():
            for b, (extended_b, _) in elements.items():
                repulsion = repulsion_a if a == b else "polynomial"
                file = made_up_file((a, b), extended_a or extended_b, repulsion, len(name))
                write_skf(folder / f"{a}-{b}.skf", file)


# ------------------------------------------------------------------------------------------------------ commands


def record(chosen: list[str]) -> int:
    """Run DFTB+ and write the records."""
    from dftbparam.engine.dftbplus import DftbPlusEngine

    engine = DftbPlusEngine(timeout=600.0)
    version = engine.versions()["dftb+"]
    failures = 0
    for case in cases():
        if chosen and case.name not in chosen:
            continue
        try:
            result = engine.compute(case.tables(), [case.atoms], case.settings)[0]
        except SetMissing as error:
            result = DftbparamError(str(error))
        if isinstance(result, Result):
            save(case, result, version)
            say(f"{case.name:20s} {result.energy:.10f} Hartree, {result.scc_iterations} iterations")
        else:
            failures += 1
            say(f"{case.name:20s} FAILED: {result}")
    return int(failures > 0)


def table() -> str:
    """Markdown table of the embedded engine's disagreement with the records."""
    from dftbparam.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine()
    shown = ("energy", "forces", "stress", "eigenvalues", "charges", "fermi_level")
    rows = [
        "| system | atoms | energy/atom | forces | stress | eigenvalues | charges | Fermi level |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst = dict.fromkeys(shown, 0.0)
    for name in names():
        case = load(name)
        result = engine.compute(case.tables(), [case.atoms], case.settings)[0]
        if not isinstance(result, Result):
            rows.append(f"| {name} | {len(case.atoms)} | {type(result).__name__}: {result} |")
            continue
        found = deviations(case, result)
        for key, value in found.items():
            worst[key] = max(worst[key], value)
        cells = " | ".join(f"{found[key]:.0e}" if key in found else "" for key in shown)
        rows.append(f"| {name} | {len(case.atoms)} | {cells} |")
    rows.append("| **worst** | | " + " | ".join(f"**{worst[key]:.0e}**" for key in shown) + " |")
    rows.append("| asked | | " + " | ".join(f"{TOLERANCES[key]:.0e}" for key in shown) + " |")
    return "\n".join(rows)


def write_table() -> None:
    """Put the table between its marks in docs/engines.md."""
    path = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
    text = path.read_text(encoding="utf-8")
    start, stop = "<!-- table: record_dftbplus.py table --write -->\n", "<!-- end of table -->"
    head, _, rest = text.partition(start)
    _, _, tail = rest.partition(stop)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{head}{start}{table()}\n{stop}{tail}", encoding="utf-8")
    temporary.replace(path)


def main(arguments: list[str]) -> int:
    """Run one command."""
    command, *rest = arguments or ["help"]
    if command == "record":
        return record(rest)
    if command == "model-sets":
        write_model_sets()
    elif command == "table" and rest == ["--write"]:
        write_table()
    elif command == "table":
        say(table())
    else:
        say(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
