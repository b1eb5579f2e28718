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
from dftbparam.engine.embedded import scc as scc_module
from dftbparam.engine.embedded import solver as solver_module
from dftbparam.engine.embedded.bloch import inverse_factors, solve
from dftbparam.engine.embedded.kpoints import Mesh, identity
from dftbparam.engine.hamiltonian import Spin
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


@pytest.mark.parametrize("name", ["energies", "hubbard", "occupations"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_impossible_numbers_of_an_atom_are_named(tables, name, value):
    site = tables.files["Si", "Si"].on_site
    numbers = getattr(site, name).copy()
    numbers[1] = value
    silicon = replace(tables.files["Si", "Si"], on_site=replace(site, **{name: numbers}))
    damaged = SKSet({**tables.files, ("Si", "Si"): silicon}, tables.max_angular)
    refused, other = ENGINE.compute(damaged, [distorted(), Atoms("O2", [[0, 0, 0], [0, 0, 1.2]])], TIGHT)
    assert type(refused) is errors.InputError
    assert refused.message.startswith("Si-Si.skf: ")
    assert refused.symbol == "Si"
    assert isinstance(other, Result)
    # a shell that is not there may hold anything
    numbers[1:] = [getattr(site, name)[1], value, value]
    silicon = replace(silicon, on_site=replace(site, **{name: numbers}))
    assert isinstance(outcome(SKSet({**tables.files, ("Si", "Si"): silicon}, {"Si": 1, "O": 1}), distorted()), Result)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("complex_", [True, False])
def test_numbers_that_have_no_eigenvalues(vectors, complex_):
    """NaN, however it arose, ends in a typed error, with S factorised beforehand and without."""
    S = np.stack([np.eye(3)] * 2).astype(complex if complex_ else float)
    points = np.array([[0, 0, 0], [0.5, 0, 0]])
    damaged = S.copy()
    damaged[1, 2, 2] = np.nan
    for H, overlap, factors in ((damaged, S, inverse_factors(S)), (damaged, S, None), (S, damaged, None)):
        with pytest.raises(errors.OverlapError, match=r"H or S is not finite at k = \(0.5, 0, 0\)"):
            solve(H, overlap, points, vectors, factors)
    values, _ = solve(S, S, points, vectors, inverse_factors(S))
    assert values == pytest.approx(np.ones((2, 3)))


def test_an_eigensolver_that_gives_up_is_asked_again(monkeypatch):
    """The fast path that does not converge leaves the work to LAPACK's generalised solver."""

    def give_up(matrix):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    S = np.stack([np.eye(3) + 0.1] * 2)
    H = np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 5.0, 6.0])])
    expected, _ = solve(H, S, np.zeros((2, 3)), True, None)
    monkeypatch.setattr(np.linalg, "eigh", give_up)
    monkeypatch.setattr(np.linalg, "eigvalsh", give_up)
    for vectors in (True, False):
        values, states = solve(H, S, np.zeros((2, 3)), vectors, inverse_factors(S))
        assert values == pytest.approx(expected)
        assert (states is not None) == vectors


def test_too_many_unpaired_electrons_are_named(tables):
    spin = Spin({"Si": -0.02, "O": -0.03}, unpaired=20.0)
    found = outcome(tables, distorted(), replace(TIGHT, spin=spin))  # 10 electrons in 13 orbitals
    assert isinstance(found, errors.StructureError)
    assert "unpaired = 20: of 10 electrons in 13 orbitals at most 10 can be unpaired" in found.message
    assert found.unpaired == 20.0
    full = outcome(tables, distorted(), replace(TIGHT, charge=-14.0, spin=replace(spin, unpaired=3.0)))
    assert "unpaired = 3: of 24 electrons in 13 orbitals at most 2 can be unpaired" in full.message


def test_an_empty_spin_channel_has_the_level_of_the_other(tables):
    """One electron, and all spin up: nothing says where the level of the empty channel is."""
    spin = Spin({"Si": -0.02, "O": -0.03}, unpaired=1.0)
    atoms = Atoms("Si", magmoms=[1.0])
    settings = replace(TIGHT, charge=3.0, temperature=300.0, eigenvalues=True)
    found = compute(tables, atoms, replace(settings, spin=spin))
    assert found.fermi_levels[0] == found.fermi_levels[1]
    assert abs(found.fermi_level - found.eigenvalues[0, 0, 0]) < 0.5
    down = compute(tables, atoms, replace(settings, spin=replace(spin, unpaired=-1.0)))
    assert down.fermi_levels == pytest.approx(found.fermi_levels)
    assert down.energy == pytest.approx(found.energy)


def test_charge_on_an_atom_without_electrons_of_its_own(tables):
    """An ion whose neutral atom the tables give none: the charge begins spread evenly, not lost."""
    site = tables.files["Si", "Si"].on_site
    bare = replace(tables.files["Si", "Si"], on_site=replace(site, occupations=np.zeros(4)))
    empty = SKSet({("Si", "Si"): bare}, {"Si": 2})
    for settings in (replace(TIGHT, charge=-1.0), replace(TIGHT, charge=-1.0, shell_resolved=True)):
        for atoms in (bulk("Si", "fcc", a=3.9), Atoms("Si2", [[0, 0, 0], [0, 0, 2.2]])):
            found = compute(empty, atoms, settings)
            assert found.charges == pytest.approx(np.full(len(atoms), -1.0 / len(atoms)), abs=1e-9)
            assert found.scc_energy != 0.0


def test_damage_that_shows_in_the_charges_only(tables, monkeypatch):
    """What does not converge because it is no number says so."""
    monkeypatch.setattr(scc_module, "output", lambda system, solution: (np.full((2, 4), np.nan), None))
    found = outcome(tables, distorted())
    assert isinstance(found, errors.ScfNotConverged)
    assert "no longer finite" in found.message
    assert "atom 0" in found.message


def test_a_tolerance_below_rounding_is_named(tables):
    found = outcome(tables, distorted(), replace(TIGHT, scc_tolerance=1e-18, max_scc_iterations=80))
    assert isinstance(found, errors.ScfNotConverged)
    assert "rounding: a larger tolerance would be right" in found.message


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
