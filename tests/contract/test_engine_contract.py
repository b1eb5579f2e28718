"""The conformance suite of engines: what `dftbparam.engine.base.Engine` promises, for every engine there is.

A new engine adds one entry to ``ENGINES`` and inherits every test.
"""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.special import expit

from dftbparam.engine.base import Result, Settings
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
from dftbparam.errors import (
    DftbparamError,
    ElementError,
    EngineMissing,
    InputError,
    ParameterError,
    ScfNotConverged,
    StructureError,
)
from dftbparam.skf import SKSet, read_set
from dftbparam.units import BOHR, BOLTZMANN

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


def embedded():
    from dftbparam.engine.embedded import EmbeddedEngine

    return EmbeddedEngine()


def fake():
    from dftbparam.engine.fake import FakeEngine

    return FakeEngine()


def dftbplus():
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        return DftbPlusEngine(timeout=120.0)
    except EngineMissing as error:
        pytest.skip(str(error))


ENGINES = [embedded, fake, pytest.param(dftbplus, marks=pytest.mark.dftbplus)]


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param()


@pytest.fixture(scope="module")
def tables():
    return read_set(MODEL)


def crystal():
    return Atoms(
        "SiO",
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )


def molecule():
    return Atoms("OSiO", [[0, 0, -1.6], [0, 0.1, 0], [0, 0, 1.55]])


SETTINGS = Settings(kpts=(2, 2, 1), temperature=2000.0, scc_tolerance=1e-9)
EVERYTHING = replace(SETTINGS, forces=True, stress=True, eigenvalues=True)


def good(outcomes):
    for found in outcomes:
        assert isinstance(found, Result), found
    return outcomes


def energy_parts(found):
    return (
        found.band_energy
        + found.scc_energy
        + found.third_order_energy
        + found.spin_energy
        + found.dispersion_energy
        + found.repulsive_energy
    )


def test_has_a_name_and_versions(engine):
    assert engine.name
    versions = engine.versions()
    assert versions
    assert all(isinstance(k, str) and isinstance(v, str) and v for k, v in versions.items())


def test_one_entry_per_structure_in_order(engine, tables):
    structures = [crystal(), molecule(), bulk("Si", "fcc", a=3.9)]
    found = good(engine.compute(tables, structures, SETTINGS))
    assert [len(r.charges) for r in found] == [2, 3, 1]
    assert engine.compute(tables, [], SETTINGS) == []


def test_settings_may_differ_per_structure(engine, tables):
    hot = replace(SETTINGS, temperature=6000.0)
    cold, warm = good(engine.compute(tables, [crystal(), crystal()], [SETTINGS, hot]))
    assert warm.energy - warm.free_energy > cold.energy - cold.free_energy
    with pytest.raises(ParameterError):
        engine.compute(tables, [crystal()], [SETTINGS, hot])


def test_what_is_not_asked_for_is_none(engine, tables):
    found = good(engine.compute(tables, [crystal()], SETTINGS))[0]
    assert found.forces is None
    assert found.stress is None
    assert found.eigenvalues is None
    assert found.kpoints is None
    assert found.weights is None


def test_shapes_signs_and_sums(engine, tables):
    found = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    assert found.energy == pytest.approx(energy_parts(found), abs=1e-9)
    assert found.free_energy <= found.extrapolated_energy <= found.energy
    assert found.forces.shape == (2, 3)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-6
    assert found.stress.shape == (3, 3)
    assert found.stress == pytest.approx(found.stress.T)
    assert found.charges.shape == (2,)
    assert found.charges.sum() == pytest.approx(0.0, abs=1e-6)
    assert found.kpoints.shape == (len(found.weights), 3)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.eigenvalues.shape[0] == len(found.weights)
    assert (np.diff(found.eigenvalues, axis=1) >= 0.0).all()


def test_molecules_have_one_k_point_and_no_stress(engine, tables):
    found = good(engine.compute(tables, [molecule()], EVERYTHING))[0]
    assert found.stress is None
    assert found.forces.shape == (3, 3)
    assert not found.kpoints.any()
    assert found.weights == pytest.approx([1.0])


def test_net_charge(engine, tables):
    found = good(engine.compute(tables, [molecule()], replace(SETTINGS, charge=1.0)))[0]
    assert found.charges.sum() == pytest.approx(1.0, abs=1e-6)


def test_forces_and_stress_are_derivatives(engine, tables):
    atoms, h = crystal(), 1e-3
    moved = []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.positions[1, 2] += sign * h * BOHR
        moved.append(copy)
    for sign in (1, -1):
        copy = atoms.copy()
        strain = np.eye(3)
        strain[0, 0] += sign * h
        copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        moved.append(copy)
    energies = [r.free_energy for r in good(engine.compute(tables, moved, SETTINGS))]
    found = good(engine.compute(tables, [atoms], EVERYTHING))[0]
    volume = atoms.get_volume() / BOHR**3
    assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(found.forces[1, 2], abs=1e-5)
    assert (energies[2] - energies[3]) / (2 * h) / volume == pytest.approx(found.stress[0, 0], abs=1e-5)


def test_repulsion_can_be_left_out(engine, tables):
    whole, electronic = good(
        engine.compute(tables, [crystal(), crystal()], [SETTINGS, replace(SETTINGS, repulsion=False)])
    )
    assert electronic.repulsive_energy == 0.0
    assert electronic.energy == pytest.approx(whole.energy - whole.repulsive_energy, abs=1e-7)


def test_directory_and_memory_give_the_same(engine, tables):
    from_memory = good(engine.compute(tables, [crystal()], SETTINGS))[0]
    from_disk = good(engine.compute(MODEL, [crystal()], SETTINGS))[0]
    assert from_memory.energy == pytest.approx(from_disk.energy, abs=1e-9)


def test_repeats_itself_and_keeps_no_state(engine, tables):
    first = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    engine.compute(tables, [molecule(), Atoms("Xe")], SETTINGS)
    again = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    assert first.free_energy == again.free_energy
    assert np.array_equal(first.forces, again.forces)


def test_structures_are_not_modified(engine, tables):
    atoms = crystal()
    atoms.positions += [7.0, -9.0, 0.1]
    copy = atoms.copy()
    good(engine.compute(tables, [atoms], EVERYTHING))
    assert atoms == copy
    assert atoms.calc is None


def test_results_survive_pickling(engine, tables):
    found = good(engine.compute(tables, [crystal()], EVERYTHING))[0]
    copy = pickle.loads(pickle.dumps(found))
    assert copy.energy == found.energy
    assert np.array_equal(copy.forces, found.forces)


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (Atoms(), StructureError),
        (Atoms("O2", [[0, 0, 0], [0, 0, 0.1]]), StructureError),
        (Atoms("O", [[0, 0, np.nan]]), StructureError),
        (Atoms("Si", cell=[3, 3, 0], pbc=True), StructureError),
        (Atoms("Si", cell=[3, 3, 9], pbc=(True, True, False)), StructureError),
        (Atoms("Xe"), ElementError),
    ],
    ids=["empty", "too close", "NaN", "flat cell", "slab", "unknown element"],
)
def test_a_bad_structure_is_returned_and_hides_nothing(engine, tables, atoms, kind):
    before, failed, after = engine.compute(tables, [crystal(), atoms, crystal()], SETTINGS)
    assert isinstance(failed, kind), failed
    assert isinstance(pickle.loads(pickle.dumps(failed)), kind)
    assert isinstance(before, Result)
    assert isinstance(after, Result)


def test_missing_tables_are_raised(engine, tmp_path):
    for where in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError):
            engine.compute(where, [crystal()], SETTINGS)


def test_unconverged_charges_are_returned_with_their_data(engine, tables):
    if engine.name == "fake":
        return  # it has nothing to converge
    found = engine.compute(tables, [crystal()], replace(SETTINGS, max_scc_iterations=2, scc_tolerance=1e-12))[0]
    assert isinstance(found, ScfNotConverged)
    assert found.iterations == 2
    assert found.residual > 0.0


@pytest.mark.parametrize("allowed", [1, 3])
def test_the_limit_of_iterations_is_kept_exactly(engine, tables, allowed):
    if engine.name == "fake":
        return
    tight = replace(SETTINGS, scc_tolerance=1e-12, max_scc_iterations=allowed)
    found = engine.compute(tables, [crystal()], tight)[0]
    assert isinstance(found, ScfNotConverged)
    assert found.iterations == allowed
    # and a search that needs as many may have them
    needed = good(engine.compute(tables, [crystal()], SETTINGS))[0].scc_iterations
    enough, few = (
        engine.compute(tables, [crystal()], replace(SETTINGS, max_scc_iterations=limit))[0] for limit in (2 * needed, 2)
    )
    assert isinstance(enough, Result)
    assert enough.scc_iterations == needed
    assert isinstance(few, ScfNotConverged)


# ------------------------------------------------------------------------- optional parts: an engine may refuse them

SPIN = Spin({"Si": ((-0.020, -0.015, -0.010), (-0.015, -0.018, -0.009), (-0.010, -0.009, -0.014)), "O": -0.03})
FIXED = Spin(SPIN.constants, unpaired=1.5)
THIRD = ThirdOrder({"Si": -0.07, "O": -0.16, "H": -0.19})
D3 = Dispersion("d3bj", s8=3.209, a1=0.746, a2=4.191)
D4 = Dispersion("d4", s8=0.4727337, a1=0.5467502, a2=4.4955068, s9=1.0)
PATH = ((0.0, 0.0, 0.0), (0.1, 0.2, -0.3), (0.5, 0.0, 0.25))

FEATURES = {
    "shell_resolved": {"shell_resolved": True},
    "spin": {"spin": SPIN},
    "fixed spin": {"spin": FIXED},
    "spin per shell": {"spin": FIXED, "shell_resolved": True},
    "third_order": {"third_order": THIRD},
    "third_order on site": {"third_order": ThirdOrder(THIRD.derivatives, full=False)},
    "hydrogen_damping": {"third_order": THIRD, "hydrogen_damping": 4.0},
    "dispersion": {"dispersion": D3},
    "all of DFTB3": {"third_order": THIRD, "hydrogen_damping": 4.0, "dispersion": D3, "spin": FIXED},
}
OPTIONAL = {
    "shell_resolved": True,
    "spin": SPIN,
    "third_order": THIRD,
    "hydrogen_damping": 4.0,
    "dispersion": D3,
    "band_points": PATH,
    "projections": True,
}


@pytest.fixture(scope="module")
def hydrides(tables):
    """The model set with its oxygen called hydrogen: DFTB+ knows the elements to damp by their mass."""
    names = {"Si": "Si", "O": "H"}
    files = {(names[a], names[b]): file for (a, b), file in tables.files.items()}
    files["H", "H"] = replace(files["H", "H"], mass=1.008)
    return SKSet(files=files, max_angular={names[a]: l for a, l in tables.max_angular.items()})


def magnetic(atoms=None):
    atoms = crystal() if atoms is None else atoms
    atoms.set_initial_magnetic_moments(np.linspace(1.0, 0.5, len(atoms)))
    return atoms


def hydride():
    atoms = crystal()
    atoms.symbols[1] = "H"
    return atoms


def asked(engine, tables, structures, settings):
    """Results; the test is skipped where the engine says that it lacks one of these settings."""
    each = [settings] if isinstance(settings, Settings) else settings
    try:
        found = engine.compute(tables, structures, settings)
    except (ParameterError, EngineMissing) as error:
        found = [error]
    for error in found:
        if isinstance(error, EngineMissing) and any(one.dispersion for one in each):
            pytest.skip(f"{engine.name}: a library for dispersion is missing")
        name = error.data.get("name") if isinstance(error, ParameterError) else None
        if name in OPTIONAL and any(one.uses(name) for one in each):
            pytest.skip(f"the engine {engine.name} has no {name}")
    return good(found)


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_part_is_served_or_refused_by_name(engine, tables, name):
    settings = replace(SETTINGS, **{name: OPTIONAL[name]})
    error = None
    try:
        good(engine.compute(tables, [magnetic()], settings))
    except EngineMissing as missing:
        pytest.skip(missing.message)
    except ParameterError as refusal:
        error = refusal
    if error is not None:
        assert error.data["name"] == name
        assert name in error.message
        assert engine.name in error.message
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is ParameterError
        assert (copy.message, copy.data) == (error.message, error.data)


def test_other_settings_of_a_call_do_not_hide_a_refusal(engine, tables):
    """One structure's setting that an engine lacks is wrong for the call, not left out."""
    found = asked(engine, tables, [crystal(), magnetic()], [SETTINGS, replace(SETTINGS, spin=SPIN)])
    assert found[0].moments is None
    assert found[1].moments is not None


@pytest.mark.parametrize("name", FEATURES)
def test_with_each_part_forces_and_stress_are_derivatives_and_energies_add_up(engine, hydrides, tables, name):
    damped = "hydrogen_damping" in FEATURES[name]
    if damped:
        more = {**FEATURES[name]}
        if "spin" in more:
            more["spin"] = Spin({"Si": -0.02, "H": -0.03}, unpaired=1.5)
        tables, atoms = hydrides, magnetic(hydride())
    else:
        more, atoms = FEATURES[name], magnetic()
    settings, h = replace(SETTINGS, **more, scc_tolerance=1e-10), 1e-3
    volume = atoms.get_volume() / BOHR**3
    moved = [atoms]
    for sign in (1, -1):
        copy = atoms.copy()
        copy.positions[1, 2] += sign * h * BOHR
        moved.append(copy)
    for sign in (1, -1):
        copy = atoms.copy()
        strain = np.eye(3)
        strain[0, 1] += 0.5 * sign * h
        strain[1, 0] += 0.5 * sign * h
        copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        moved.append(copy)
    first = replace(settings, forces=True, stress=True, eigenvalues=True)
    found, *others = asked(engine, tables, moved, [first] + [settings] * 4)
    energies = [one.free_energy for one in others]
    assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(found.forces[1, 2], abs=1e-5)
    assert (energies[2] - energies[3]) / (2 * h) / volume == pytest.approx(found.stress[0, 1], abs=1e-5)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-6
    assert found.energy == pytest.approx(energy_parts(found), abs=1e-8)
    for part, on in (
        ("third_order_energy", "third_order" in more),
        ("dispersion_energy", "dispersion" in more),
        ("spin_energy", getattr(more.get("spin"), "unpaired", None) is not None),
    ):
        assert (abs(getattr(found, part)) > 1e-6) is on, part
    plain = good(engine.compute(tables, [atoms], SETTINGS))[0]
    assert name == "spin" or abs(found.energy - plain.energy) > 1e-6


def test_d4_forces_of_a_molecule_are_derivatives(engine, tables):
    settings, h = replace(SETTINGS, dispersion=D4), 1e-3
    moved = [molecule() for _ in range(3)]
    for copy, sign in zip(moved[1:], (1, -1), strict=True):
        copy.positions[1, 1] += sign * h * BOHR
    found, up, down = asked(engine, tables, moved, [replace(settings, forces=True), settings, settings])
    assert -(up.free_energy - down.free_energy) / (2 * h) == pytest.approx(found.forces[1, 1], abs=1e-5)
    assert found.dispersion_energy < -1e-6
    assert found.energy == pytest.approx(energy_parts(found), abs=1e-8)


@pytest.mark.parametrize("make", [crystal, molecule])
def test_a_fixed_moment_is_kept_with_a_fermi_level_for_each_spin(engine, tables, make):
    unpaired = 1.5
    found = asked(engine, tables, [magnetic(make())], replace(EVERYTHING, spin=FIXED))[0]
    assert found.moments.shape == (len(make()),)
    assert found.moments.sum() == pytest.approx(unpaired, abs=1e-6)
    assert len(found.fermi_levels) == 2
    assert abs(found.fermi_levels[0] - found.fermi_levels[1]) > 1e-3
    assert found.fermi_level == pytest.approx(np.mean(found.fermi_levels), abs=1e-9)
    assert found.eigenvalues.shape[:2] == (2, len(found.weights))
    assert found.spin_energy < 0.0
    assert found.shell_populations.shape == (len(make()), 4)


def test_a_free_moment_shares_one_fermi_level(engine, tables):
    found = asked(engine, tables, [magnetic()], replace(EVERYTHING, spin=SPIN))[0]
    assert found.fermi_levels is None
    assert found.moments.shape == (2,)
    assert found.eigenvalues.ndim == 3


def test_without_initial_moments_a_free_moment_stays_zero(engine, tables):
    spin, plain = asked(engine, tables, [crystal(), crystal()], [replace(EVERYTHING, spin=SPIN), EVERYTHING])
    assert np.abs(spin.moments).max() < 1e-8
    assert spin.energy == pytest.approx(plain.energy, abs=1e-7)
    assert spin.free_energy == pytest.approx(plain.free_energy, abs=1e-7)
    assert spin.spin_energy == pytest.approx(0.0, abs=1e-12)
    assert spin.eigenvalues[0] == pytest.approx(spin.eigenvalues[1], abs=1e-8)
    assert np.abs(spin.forces - plain.forces).max() < 1e-6


def test_missing_constants_of_an_element_are_named(engine, tables):
    for name, value in (("spin", Spin({"Si": -0.02})), ("third_order", ThirdOrder({"Si": -0.07}))):
        settings = replace(SETTINGS, **{name: value})
        try:
            found = engine.compute(tables, [magnetic()], settings)[0]
        except ParameterError as error:
            found = error
        assert isinstance(found, ParameterError)
        if found.data.get("name") != name:  # no refusal of the setting as a whole
            assert "O" in found.message.replace("DFTB+", "")
            assert found.symbol == "O"


# ----------------------------------------------------------------------------------------------- bands and projections


def on_mesh(spin):
    settings = replace(SETTINGS, kpts=(3, 2, 1), eigenvalues=True, spin=spin)
    return settings, magnetic() if spin is not None else crystal()


@pytest.mark.parametrize("spin", [None, FIXED], ids=["both spins", "spin-polarised"])
def test_bands_at_points_of_the_mesh_are_its_eigenvalues(engine, tables, spin):
    settings, atoms = on_mesh(spin)
    mesh = asked(engine, tables, [atoms], settings)[0]
    points = [*mesh.kpoints[::-1], mesh.kpoints[0] + [1.0, -2.0, 0.0]]  # the last by a reciprocal vector
    found = asked(engine, tables, [atoms], replace(settings, band_points=tuple(map(tuple, points))))[0]
    lead = () if spin is None else (2,)
    assert found.bands.shape == (*lead, len(points), mesh.eigenvalues.shape[-1])
    expected = np.concatenate([mesh.eigenvalues[..., ::-1, :], mesh.eigenvalues[..., :1, :]], axis=-2)
    assert found.bands == pytest.approx(expected, abs=1e-6)
    assert found.energy == pytest.approx(mesh.energy, abs=1e-8)
    only = asked(engine, tables, [atoms], replace(settings, eigenvalues=False, band_points=PATH))[0]
    assert only.bands.shape == (*lead, 3, mesh.eigenvalues.shape[-1])


@pytest.mark.parametrize("spin", [None, FIXED], ids=["both spins", "spin-polarised"])
def test_projections_sum_to_one_and_give_the_populations(engine, tables, spin):
    """The populations are put together again from printed states: DFTB+ prints six decimals."""
    settings, atoms = on_mesh(spin)
    found = asked(engine, tables, [atoms], replace(settings, projections=True, forces=True))[0]
    lead = () if spin is None else (2,)
    assert found.projections.shape == (*lead, *found.eigenvalues.shape[-2:], 2, 4)
    assert found.projections.sum(axis=(-2, -1)) == pytest.approx(np.ones(found.eigenvalues.shape), abs=1e-5)
    width = settings.temperature * BOLTZMANN
    levels = found.fermi_level if found.fermi_levels is None else np.array(found.fermi_levels)[:, None, None]
    occupations = (2.0 if spin is None else 1.0) * expit((levels - found.eigenvalues) / width)
    share = (found.weights[:, None] * occupations)[..., None, None] * found.projections
    populations = share.sum(axis=(-4, -3))
    if spin is not None:
        assert (populations[0] - populations[1]).sum(axis=1) == pytest.approx(found.moments, abs=1e-4)
        populations = populations.sum(axis=0)
    assert populations == pytest.approx(found.shell_populations, abs=1e-4)
    assert not found.projections[..., 3].any()


def test_projections_of_all_states_on_a_shell_are_the_number_of_its_orbitals(engine, tables):
    """C C^+ = S^-1, so that the states' weights on one orbital sum to 1, also where symmetry reduced the mesh."""
    for atoms, orbitals in (
        (bulk("Si", "diamond", a=5.4), [[1, 3, 5, 0]] * 2),
        (crystal(), [[1, 3, 5, 0], [1, 3, 0, 0]]),
    ):
        found = asked(engine, tables, [atoms], replace(SETTINGS, kpts=(2, 2, 2), projections=True))[0]
        summed = np.einsum("k,kbal->al", found.weights, found.projections)
        assert summed == pytest.approx(np.array(orbitals, dtype=float), abs=1e-4)


# ---------------------------------------------------------------------------------------------------- along a curve


@pytest.mark.parametrize("name", ["plain", "fixed spin", "shell_resolved"])
def test_reused_charges_give_the_same_numbers_within_the_tolerance(engine, tables, name):
    settings = replace(SETTINGS, forces=True, **FEATURES.get(name, {}))
    curve = []
    for scale in (0.97, 0.99, 1.01, 1.03):
        atoms = magnetic()
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        curve.append(atoms)
    curve.insert(2, magnetic(molecule()))  # another structure between: nothing to take over
    fresh = asked(engine, tables, curve, settings)
    reused = asked(engine, tables, curve, replace(settings, reuse_charges=True))
    for a, b in zip(fresh, reused, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-8)
        assert np.abs(a.charges - b.charges).max() < 1e-6
        assert np.abs(a.forces - b.forces).max() < 1e-6
    if engine.name != "fake":  # it iterates nothing
        assert sum(b.scc_iterations for b in reused) < sum(a.scc_iterations for a in fresh)
    again = engine.compute(tables, curve[:1], replace(settings, reuse_charges=True))[0]
    assert again.energy == reused[0].energy  # nothing is kept from call to call


def test_other_initial_moments_begin_anew(engine, tables):
    """Charges are not reused by a structure that asks for other moments: they decide which solution is found."""
    parallel, antiparallel = crystal(), crystal()
    parallel.set_initial_magnetic_moments([1.0, 1.0])
    antiparallel.set_initial_magnetic_moments([1.0, -1.0])
    settings = replace(SETTINGS, spin=SPIN, reuse_charges=True)
    found = asked(engine, tables, [parallel, antiparallel, antiparallel], settings)
    alone = asked(engine, tables, [antiparallel], settings)[0]
    assert found[1].scc_iterations == alone.scc_iterations
    assert found[1].energy == pytest.approx(alone.energy, abs=1e-12)
    assert np.abs(found[1].moments - alone.moments).max() < 1e-10
    assert engine.name == "fake" or found[2].scc_iterations < alone.scc_iterations


# --------------------------------------------------------------------------------------------------------- the fake


def test_fake_engine_fails_on_demand(tables):
    from dftbparam.engine.fake import FakeEngine

    def fail(atoms) -> DftbparamError | None:
        return ScfNotConverged("told to", iterations=9, residual=0.1) if len(atoms) == 3 else None

    found = FakeEngine(fail).compute(tables, [crystal(), molecule()], SETTINGS)
    assert isinstance(found[0], Result)
    assert isinstance(found[1], ScfNotConverged)
    assert found[1].iterations == 9
