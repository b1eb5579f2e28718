"""The embedded engine as a whole: derivatives, invariances, symmetry, errors (DFTB+: see tests/golden)."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from dftbparam import errors
from dftbparam.engine.base import Result, Settings
from dftbparam.engine.embedded import EmbeddedEngine, neighbour_shells, repulsive_energy
from dftbparam.engine.embedded import solver as solver_module
from dftbparam.engine.embedded.kpoints import Mesh, identity
from dftbparam.engine.kpoints import divisions, time_reversed_mesh
from dftbparam.skf import SKSet, read_set, repulsion_values
from dftbparam.units import BOHR

MODELS = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf"
MODEL = MODELS / "model-spd"
ENGINE = EmbeddedEngine()


@pytest.fixture(scope="module")
def tables():
    return read_set(MODEL)


def distorted(symbols="SiO"):
    return Atoms(
        symbols,
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )


def compute(tables, atoms, settings):
    found = ENGINE.compute(tables, [atoms], settings)[0]
    assert isinstance(found, Result), found
    return found


# ------------------------------------------------------------------------------------------------------- derivatives

TIGHT = Settings(kpts=(3, 2, 2), temperature=3000.0, scc_tolerance=1e-11)
CASES = {
    "two elements": (distorted(), TIGHT),
    "Methfessel-Paxton": (distorted(), replace(TIGHT, filling="methfessel-paxton", filling_order=2)),
    "charged": (distorted(), replace(TIGHT, charge=0.6)),
    "without SCC": (distorted(), replace(TIGHT, scc=False)),
    "without repulsion": (distorted(), replace(TIGHT, repulsion=False)),
    "equivalent atoms": (bulk("Si", "hcp", a=3.0, c=5.1), replace(TIGHT, kpts=(3, 3, 2))),
    "symmetric, SCC": (Atoms("SiO", [[0, 0, 0], [1.6, 1.6, 1.7]], cell=[3.2, 3.2, 3.6], pbc=True), TIGHT),
    "Gamma": (distorted(), replace(TIGHT, kpts=(1, 1, 1))),
    "molecule": (Atoms("SiO2", [[0, 0, 0], [1.6, 0.2, 0], [-1.4, 0.1, 0.6]]), replace(TIGHT, charge=1.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_forces_and_stress_are_derivatives_of_the_free_energy(tables, name):
    atoms, settings = CASES[name]
    found = compute(tables, atoms, replace(settings, forces=True, stress=True))
    h = 2e-4
    moved, expected = [], []
    for i in range(len(atoms)):
        for c in range(3):
            for sign in (1, -1):
                copy = atoms.copy()
                copy.positions[i, c] += sign * h * BOHR
                moved.append(copy)
            expected.append(-found.forces[i, c])
    if atoms.pbc.any():
        volume = atoms.get_volume() / BOHR**3
        for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += 0.5 * sign * h
                strain[b, a] += 0.5 * sign * h
                copy = atoms.copy()
                copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                moved.append(copy)
            expected.append(found.stress[a, b] * volume)
    else:
        assert found.stress is None
    energies = np.array([r.free_energy for r in ENGINE.compute(tables, moved, settings)])
    slopes = (energies[::2] - energies[1::2]) / (2 * h)
    assert np.abs(slopes - expected).max() < 1e-6
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-12


# ------------------------------------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("name", ["two elements", "equivalent atoms"])
def test_energy_is_invariant(tables, name):
    atoms, settings = CASES[name]
    settings = replace(settings, forces=True, stress=True)
    reference = compute(tables, atoms, settings)

    turned = atoms.copy()
    turned.rotate(37.0, (1, 2, -0.5), rotate_cell=True)
    shifted = atoms.copy()
    shifted.positions += [0.37, -12.4, 5.5]
    reordered = atoms[[1, 0]]
    other_cell = atoms.copy()
    other_cell.set_cell([[1, 0, 0], [0, 1, 0], [0, 2, 1]] @ atoms.cell.array)
    for copy in (turned, shifted, reordered):
        found = compute(tables, copy, settings)
        assert abs(found.free_energy - reference.free_energy) < 1e-8
        assert abs(found.energy - reference.energy) < 1e-8
    assert np.abs(compute(tables, reordered, settings).forces[[1, 0]] - reference.forces).max() < 1e-8
    rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
    found = compute(tables, turned, settings)
    assert np.abs(found.forces - reference.forces @ rotation).max() < 1e-8
    assert np.abs(found.stress - rotation.T @ reference.stress @ rotation).max() < 1e-8
    # a different basis of the same lattice holds the same mesh if all divisions are the same odd number
    odd = replace(settings, kpts=(3, 3, 3))
    assert abs(compute(tables, other_cell, odd).free_energy - compute(tables, atoms, odd).free_energy) < 1e-8


def test_supercell(tables):
    atoms = distorted()
    small = compute(tables, atoms, replace(TIGHT, kpts=(3, 3, 3), forces=True, stress=True))
    large = compute(tables, atoms * (3, 1, 1), replace(TIGHT, kpts=(1, 3, 3), forces=True, stress=True))
    assert abs(large.free_energy - 3 * small.free_energy) < 1e-8
    assert np.abs(large.forces - np.tile(small.forces, (3, 1))).max() < 1e-8
    assert np.abs(large.stress - small.stress).max() < 1e-8
    assert np.abs(large.charges - np.tile(small.charges, 3)).max() < 1e-8


@pytest.mark.parametrize(
    "atoms",
    [bulk("SiO", "rocksalt", a=4.6), bulk("SiO", "wurtzite", a=3.3, c=5.3), bulk("Si", "diamond", a=5.4), distorted()],
    ids=["rocksalt", "wurtzite", "diamond", "low"],
)
@pytest.mark.parametrize("kpts", [(2, 2, 2), (3, 3, 4)])
def test_symmetry_changes_nothing(tables, monkeypatch, atoms, kpts):
    settings = replace(TIGHT, kpts=kpts, forces=True, stress=True)
    reduced = compute(tables, atoms, settings)

    def full_mesh(structure, size, moments=None):
        return Mesh(*time_reversed_mesh(size), identity(len(structure.symbols)))

    monkeypatch.setattr(solver_module, "reduced_mesh", full_mesh)
    full = compute(tables, atoms, settings)
    assert abs(full.free_energy - reduced.free_energy) < 1e-9
    assert np.abs(full.forces - reduced.forces).max() < 1e-8
    assert np.abs(full.stress - reduced.stress).max() < 1e-8
    assert np.abs(full.charges - reduced.charges).max() < 1e-8


def test_equivalent_atoms_need_no_iteration(tables):
    settings = replace(TIGHT, eigenvalues=True)
    neutral = compute(tables, bulk("Si", "diamond", a=5.4), settings)
    assert neutral.scc_iterations == 1
    assert not neutral.charges.any()
    assert neutral.scc_energy == 0.0
    charged = compute(tables, bulk("Si", "diamond", a=5.4), replace(settings, charge=0.5))
    assert charged.charges == pytest.approx([0.25, 0.25])
    assert charged.scc_energy != 0.0


def test_parts_and_switches(tables):
    found = compute(tables, distorted(), TIGHT)
    assert found.energy == pytest.approx(found.band_energy + found.scc_energy + found.repulsive_energy, abs=1e-14)
    assert found.free_energy < found.extrapolated_energy < found.energy
    assert found.forces is None
    assert found.stress is None
    assert found.eigenvalues is None
    electronic = compute(tables, distorted(), replace(TIGHT, repulsion=False))
    assert electronic.energy == pytest.approx(found.energy - found.repulsive_energy, abs=1e-12)
    assert electronic.repulsive_energy == 0.0


def test_many_structures_are_independent(tables):
    structures = [distorted(), bulk("Si", "fcc", a=3.9), distorted("SiSi"), Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])]
    together = ENGINE.compute(tables, structures, TIGHT)
    alone = [ENGINE.compute(tables, [s], TIGHT)[0] for s in structures]
    from_disk = ENGINE.compute(MODEL, structures, TIGHT)
    for a, b, c in zip(together, alone, from_disk, strict=True):
        assert a.free_energy == b.free_energy == c.free_energy


def test_kpt_density(tables):
    atoms = bulk("Si", "fcc", a=3.9)
    dense = Settings(kpt_density=3.0)
    assert divisions(atoms, dense) == (9, 9, 9)
    explicit = compute(tables, atoms, Settings(kpts=(9, 9, 9)))
    assert compute(tables, atoms, dense).energy == explicit.energy


# --------------------------------------------------------------------------------------------------------- repulsion


@pytest.mark.parametrize("atoms", [distorted(), bulk("Si", "diamond", a=5.0)], ids=["SiO", "Si"])
def test_repulsion_agrees_with_the_reader(tables, atoms):
    energy = repulsive_energy(tables, [atoms, atoms * (2, 1, 1)])
    assert energy[1] == pytest.approx(2 * energy[0], abs=1e-12)
    assert energy[0] == pytest.approx(compute(tables, atoms, TIGHT).repulsive_energy, abs=1e-13)
    total = 0.0
    symbols = sorted(set(atoms.symbols))
    for a in symbols:
        for b in symbols[symbols.index(a) :]:
            file = tables.files[a, b]
            if file.repulsion is None:
                continue
            distances, counts = neighbour_shells(atoms, file.repulsion.cutoff, (a, b))
            total += 0.5 * len(atoms) * float(counts @ repulsion_values(file.repulsion, distances)[0])
    assert energy[0] == pytest.approx(total, abs=1e-12)


# ------------------------------------------------------------------------------------------------------------ errors


def outcome(tables, atoms, settings=TIGHT):
    return ENGINE.compute(tables, [atoms], settings)[0]


def test_errors_are_returned_in_their_place(tables):
    structures = [distorted(), Atoms("Xe"), Atoms("O2", [[0, 0, 0], [0, 0, 0.1]]), distorted()]
    found = ENGINE.compute(tables, structures, TIGHT)
    assert isinstance(found[1], errors.ElementError)
    assert isinstance(found[2], errors.StructureError)
    assert found[0].energy == found[3].energy
    again = pickle.loads(pickle.dumps(found[2]))
    assert again.atoms == (0, 1)
    assert "0.10 Å" in str(again)


def test_unconverged_charges(tables):
    found = outcome(tables, distorted(), replace(TIGHT, max_scc_iterations=2))
    assert isinstance(found, errors.ScfNotConverged)
    assert found.iterations == 2
    assert found.residual > 1e-11


def test_overlap_that_is_not_positive_definite(tables):
    file = tables.files["Si", "Si"]
    wild = SKSet({("Si", "Si"): replace(file, overlap=30.0 * file.overlap)}, {"Si": 2})
    found = outcome(wild, bulk("Si", "fcc", a=3.6))
    assert isinstance(found, errors.OverlapError)
    assert len(found.kpoint) == 3


def test_missing_hubbard(tables):
    site = tables.files["Si", "Si"].on_site
    files = {
        **tables.files,
        ("Si", "Si"): replace(tables.files["Si", "Si"], on_site=replace(site, hubbard=np.zeros(4))),
    }
    found = outcome(SKSet(files, tables.max_angular), distorted())
    assert isinstance(found, errors.InputError)
    assert "Hubbard" in str(found)


def test_too_many_electrons(tables):
    found = outcome(tables, Atoms("O"), Settings(charge=-3.0))
    assert isinstance(found, errors.StructureError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kpts": (0, 1, 1)},
        {"kpts": (2, 2)},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"filling": "gauss"},
        {"filling_order": -1},
        {"kpt_density": 0.0},
        {"charge": float("nan")},
        {"scc_tolerance": 0.0},
        {"max_scc_iterations": 0},
    ],
)
def test_bad_settings_are_refused_at_once(wrong):
    with pytest.raises(errors.ParameterError, match=next(iter(wrong))):
        Settings(**wrong)


def test_versions():
    assert {"dftbparam", "numpy", "scipy", "numba", "spglib"} <= set(ENGINE.versions())


def test_files_that_disagree_on_the_repulsion_are_refused_as_dftbplus_does(tables):
    file = tables.files["Si", "Si"]
    spline = file.repulsion
    other = replace(spline, coefficients=spline.coefficients * (1 + 1e-6))
    files = dict(tables.files)
    files["Si", "O"] = replace(files["Si", "O"], repulsion=spline)
    files["O", "Si"] = replace(files["O", "Si"], repulsion=other)
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 1.6]])
    wrong = replace(tables, files=files)
    refused = EmbeddedEngine().compute(wrong, [atoms], Settings())[0]
    assert isinstance(refused, errors.InputError)
    assert "differ in their repulsion" in refused.message
    assert isinstance(EmbeddedEngine().compute(wrong, [atoms], Settings(repulsion=False))[0], Result)
