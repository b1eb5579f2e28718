"""DFTB+ with spin, third order, dispersion, shell-resolved charges, bands, projections and restarts, against the
embedded engine: two codes that share nothing but the tables. Needs the program and the published sets."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule

from dftbparam import errors
from dftbparam.engine.base import Result, Settings
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
from tests.golden.dftbplus_cases import SetMissing, locate

pytestmark = pytest.mark.dftbplus

ENERGY = 1e-6  # Hartree per atom
OTHERS = 1e-5  # atomic units

# Spin constants of the sets mio-1-1 and pbc-0-3 (their .spinw.txt), Hubbard derivatives of 3ob-3-1 (its README).
SPIN = {
    "N": ((-0.0332, -0.0275), (-0.0275, -0.0255)),
    "O": ((-0.0352, -0.0296), (-0.0296, -0.0278)),
    "Fe": ((-0.0160, -0.0124, -0.0035), (-0.0124, -0.0280, -0.0010), (-0.0035, -0.0010, -0.0155)),
}
HUBBARD_DERIVATIVES = {"H": -0.1857, "C": -0.1492, "N": -0.1535, "O": -0.1575}
D3 = Dispersion("d3bj", s8=3.209, a1=0.746, a2=4.191)
D4 = Dispersion("d4", s8=0.4727337, a1=0.5467502, a2=4.4955068, s9=1.0)

FULL = Settings(kpts=(2, 3, 2), temperature=500.0, scc_tolerance=1e-10, forces=True, stress=True, eigenvalues=True)
SPINNING = replace(FULL, spin=Spin(SPIN))
FIXED = replace(FULL, spin=Spin(SPIN, unpaired=2.0))


def moments(atoms, values):
    atoms = atoms.copy()
    atoms.set_initial_magnetic_moments(values)
    return atoms


def rattled(atoms, amplitude=0.03):
    atoms = atoms.copy()
    atoms.rattle(amplitude, seed=1)
    return atoms


def oxygen():
    return moments(rattled(molecule("O2")), [1, 1])


def nitrogen_dioxide():
    return moments(rattled(molecule("NO2")), [1, 0.1, 0.1])


def iron(*values):
    cell = bulk("Fe", "bcc", 2.87, cubic=len(values) == 2)
    return moments(rattled(cell) if len(values) == 2 else cell, list(values))


def water():
    two = rattled(molecule("H2O"))
    other = two.copy()
    other.rotate(40, "z")
    other.translate([2.9, 0.4, 0.3])
    return two + other


def boxed(atoms, size=5.0):
    atoms = atoms.copy()
    atoms.set_cell([[size + 1.0, 0.3, 0], [0, size, 0.2], [0.1, 0, size + 0.5]])
    atoms.pbc = True
    return atoms


def hydrogen_cyanide():
    return rattled(molecule("HCN"))


def rutile():
    from ase.spacegroup import crystal

    basis = [(0, 0, 0), (0.305, 0.305, 0)]
    cell = crystal(["Ti", "O"], basis, spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90])
    return rattled(cell)


DAMPED = replace(FULL, hydrogen_damping=4.0)
CASES = {
    "O2 triplet": ("mio/mio-1-1", oxygen, FIXED),
    "O2 triplet, shell-resolved": ("mio/mio-1-1", oxygen, replace(FIXED, shell_resolved=True)),
    "NO2": ("mio/mio-1-1", nitrogen_dioxide, SPINNING),
    "NO2, fixed, from no moments": (
        "mio/mio-1-1",
        lambda: moments(nitrogen_dioxide(), [0, 0, 0]),
        replace(FULL, spin=Spin(SPIN, unpaired=1.0)),
    ),
    "NO2, one constant per element": (
        "mio/mio-1-1",
        nitrogen_dioxide,
        replace(FULL, spin=Spin({"N": -0.0275, "O": -0.03})),
    ),
    "Fe": ("pbc/pbc-0-3", lambda: iron(3), replace(SPINNING, kpts=(4, 4, 4))),
    "Fe, two atoms": ("pbc/pbc-0-3", lambda: iron(3, 3), replace(SPINNING, kpts=(3, 3, 3))),
    "Fe, antiferromagnetic": ("pbc/pbc-0-3", lambda: iron(3, -3), replace(SPINNING, kpts=(4, 4, 4))),
    "Fe, fixed moment": (
        "pbc/pbc-0-3",
        lambda: iron(3),
        replace(FULL, kpts=(4, 4, 4), spin=Spin(SPIN, unpaired=2.5)),
    ),
    "Fe, Methfessel-Paxton": (
        "pbc/pbc-0-3",
        lambda: iron(3),
        replace(SPINNING, kpts=(4, 4, 4), filling="methfessel-paxton", filling_order=2, temperature=3000.0),
    ),
    "third order": (
        "3ob/3ob-3-1",
        hydrogen_cyanide,
        replace(DAMPED, third_order=ThirdOrder(HUBBARD_DERIVATIVES)),
    ),
    "third order without damping": (
        "3ob/3ob-3-1",
        hydrogen_cyanide,
        replace(FULL, third_order=ThirdOrder(HUBBARD_DERIVATIVES)),
    ),
    "third order in a crystal": (
        "3ob/3ob-3-1",
        lambda: boxed(hydrogen_cyanide(), 9.0),
        replace(DAMPED, third_order=ThirdOrder(HUBBARD_DERIVATIVES)),
    ),
    # Here atoms, and images of one, share a Hubbard parameter.
    "third order, water": ("3ob/3ob-3-1", water, replace(DAMPED, third_order=ThirdOrder(HUBBARD_DERIVATIVES))),
    "third order, water in a box": (
        "3ob/3ob-3-1",
        lambda: boxed(water()),
        replace(DAMPED, third_order=ThirdOrder(HUBBARD_DERIVATIVES)),
    ),
    "third order on site": (
        "3ob/3ob-3-1",
        water,
        replace(DAMPED, third_order=ThirdOrder(HUBBARD_DERIVATIVES, full=False)),
    ),
    "damping": ("3ob/3ob-3-1", lambda: boxed(water()), DAMPED),
    "damping, shell-resolved": ("3ob/3ob-3-1", lambda: boxed(water()), replace(DAMPED, shell_resolved=True)),
    "rutile, shell-resolved": ("matsci/matsci-0-3", rutile, replace(FULL, shell_resolved=True)),
    "D3": ("3ob/3ob-3-1", water, replace(FULL, dispersion=D3)),
    "D3 in a crystal": ("3ob/3ob-3-1", lambda: boxed(water()), replace(FULL, dispersion=D3)),
    "D3, rutile": ("matsci/matsci-0-3", rutile, replace(FULL, dispersion=D3)),
    "D3 with triples": ("3ob/3ob-3-1", water, replace(FULL, dispersion=replace(D3, s9=1.0))),
    "D3 with triples in a crystal": (
        "3ob/3ob-3-1",
        lambda: boxed(water()),
        replace(FULL, dispersion=replace(D3, s9=1.0)),
    ),
    "D4": ("3ob/3ob-3-1", water, replace(FULL, dispersion=D4)),
    "D4 of a cation": (
        "3ob/3ob-3-1",
        water,
        replace(FULL, dispersion=D4, charge=1.0, temperature=3000.0),
    ),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    try:
        return DftbPlusEngine(scratch=tmp_path_factory.mktemp("dftbplus"), timeout=120.0)
    except errors.EngineMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def reference():
    return EmbeddedEngine()


def tables(folder):
    try:
        return locate(folder)
    except SetMissing as missing:
        pytest.skip(str(missing))


def run(engine, folder, structures, settings):
    try:
        found = engine.compute(tables(folder), structures, settings)
    except errors.EngineMissing as missing:  # this build lacks s-dftd3, or the library is not installed
        pytest.skip(str(missing))
    for one in found:
        assert isinstance(one, Result), one
    return found


def same(a, b, tolerance):
    assert (a is None) == (b is None)
    if a is not None:
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def spectrum(result, projected=None):
    """Density of states (points, ...) of both spins, so that meshes of different symmetry compare."""
    levels = result.eigenvalues.reshape(-1, *result.eigenvalues.shape[-2:])
    at = np.linspace(levels.min() - 0.1, levels.max() + 0.1, 50)
    peaks = np.exp(-(((at[:, None, None, None] - levels) / 0.03) ** 2))
    if projected is None:
        return np.einsum("xskb,k->xs", peaks, result.weights)
    weights = projected.reshape(len(levels), *projected.shape[-4:])
    return np.einsum("xskb,skbal,k->xsal", peaks, weights, result.weights)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_embedded_engine(engine, reference, name):
    folder, make, settings = CASES[name]
    atoms = make()
    (ours,), (theirs,) = run(engine, folder, [atoms], settings), run(reference, folder, [atoms], settings)
    for part in ("energy", "free_energy", "band_energy", "scc_energy", "third_order_energy", "spin_energy",
                 "dispersion_energy", "repulsive_energy"):  # fmt: skip
        assert getattr(ours, part) == pytest.approx(getattr(theirs, part), abs=ENERGY * len(atoms)), part
    for field in ("forces", "stress", "charges", "moments", "fermi_levels"):
        same(getattr(ours, field), getattr(theirs, field), OTHERS)
    same(ours.shell_populations, theirs.shell_populations, OTHERS)
    assert ours.eigenvalues.ndim == theirs.eigenvalues.ndim
    np.testing.assert_allclose(spectrum(ours), spectrum(theirs), rtol=0, atol=OTHERS * ours.eigenvalues.shape[-1])


@pytest.mark.parametrize("name", CASES)
def test_parts_add_up(engine, name):
    folder, make, settings = CASES[name]
    (found,) = run(engine, folder, [make()], settings)
    parts = (found.band_energy, found.scc_energy, found.third_order_energy, found.spin_energy,
             found.dispersion_energy, found.repulsive_energy)  # fmt: skip
    assert found.energy == pytest.approx(sum(parts), abs=1e-9)
    assert (found.spin_energy != 0.0) == (settings.spin is not None)
    assert (found.third_order_energy != 0.0) == (settings.third_order is not None)
    assert (found.dispersion_energy != 0.0) == (settings.dispersion is not None)


def test_spin_has_a_level_for_each_only_if_the_moment_is_fixed(engine):
    (free,) = run(engine, "mio/mio-1-1", [nitrogen_dioxide()], SPINNING)
    (fixed,) = run(engine, "mio/mio-1-1", [oxygen()], FIXED)
    assert free.fermi_levels is None
    assert fixed.fermi_levels[0] != fixed.fermi_levels[1]
    assert fixed.fermi_level == pytest.approx(np.mean(fixed.fermi_levels))
    assert fixed.moments.sum() == pytest.approx(2.0, abs=1e-8)
    assert fixed.shell_populations.sum() == pytest.approx(12.0, abs=1e-8)


@pytest.mark.parametrize(
    ("folder", "make", "settings"),
    [
        ("pbc/pbc-0-3", lambda: iron(3, 3), SPINNING),
        ("pbc/pbc-0-3", lambda: iron(3), replace(FULL, spin=Spin(SPIN, unpaired=2.5))),
        ("matsci/matsci-0-3", rutile, replace(FULL, shell_resolved=True)),
        ("matsci/matsci-0-3", rutile, replace(FULL, scc=False)),
        ("mio/mio-1-1", nitrogen_dioxide, SPINNING),
    ],
    ids=["Fe", "Fe, fixed moment", "rutile", "rutile without SCC", "NO2"],
)
def test_bands_and_projections(engine, reference, folder, make, settings):
    # The point that is not of the mesh shows that bands are not simply looked up.
    points = ((0.25, 1 / 3, 0.25), (0.1, 0.2, 0.3), (0.25, 0.0, 0.25))
    settings = replace(settings, band_points=points, projections=True, eigenvalues=False)
    atoms = make()
    (ours,), (theirs,) = run(engine, folder, [atoms], settings), run(reference, folder, [atoms], settings)
    np.testing.assert_allclose(ours.bands, theirs.bands, rtol=0, atol=OTHERS)
    for i, point in enumerate(points if any(atoms.pbc) else points[:1]):
        for k in np.flatnonzero(np.abs(ours.kpoints - point).max(axis=1) < 1e-9):
            np.testing.assert_allclose(ours.bands[..., i, :], ours.eigenvalues[..., k, :], rtol=0, atol=1e-9)
    assert ours.projections.shape == (*ours.eigenvalues.shape, len(atoms), 4)
    np.testing.assert_allclose(ours.projections.sum(axis=(-2, -1)), 1.0, rtol=0, atol=1e-12)
    assert np.isfinite(theirs.projections).all()
    # DFTB+ prints six decimals; a peak holds a handful of states.
    np.testing.assert_allclose(
        spectrum(ours, ours.projections), spectrum(theirs, theirs.projections), rtol=0, atol=OTHERS
    )


@pytest.mark.parametrize(
    ("folder", "make", "settings"),
    [
        ("pbc/pbc-0-3", lambda: iron(3, 3), SPINNING),
        ("mio/mio-1-1", oxygen, FIXED),
        ("matsci/matsci-0-3", rutile, replace(FULL, shell_resolved=True)),
    ],
    ids=["Fe", "O2", "rutile"],
)
def test_reused_charges_save_iterations_and_change_nothing(engine, folder, make, settings):
    curve = []
    for scale in (1.0, 1.004, 1.008):
        atoms = make()
        if any(atoms.pbc):
            atoms.set_cell(scale * atoms.cell.array)
        atoms.positions *= scale
        curve.append(atoms)
    fresh = run(engine, folder, curve, settings)
    reused = run(engine, folder, curve, replace(settings, reuse_charges=True))
    for a, b in zip(fresh, reused, strict=True):
        assert b.energy == pytest.approx(a.energy, abs=1e-9)
        same(a.forces, b.forces, 1e-6)
    assert reused[0].scc_iterations == fresh[0].scc_iterations
    assert sum(r.scc_iterations for r in reused) < sum(r.scc_iterations for r in fresh)


def test_charges_are_reused_only_where_they_fit(engine):
    atoms = nitrogen_dioxide()
    reordered = atoms[[1, 0, 2]]
    settings = replace(SPINNING, reuse_charges=True)
    fixed = replace(settings, spin=Spin(SPIN, unpaired=1.0))
    cation = replace(settings, charge=1.0)
    each = [settings, settings, fixed, cation, replace(settings, spin=None), settings]
    structures = [atoms, reordered, atoms, atoms, atoms, atoms]
    found = run(engine, "mio/mio-1-1", structures, each)
    alone = [run(engine, "mio/mio-1-1", [a], [s])[0] for a, s in zip(structures, each, strict=True)]
    assert [r.scc_iterations for r in found] == [r.scc_iterations for r in alone]


def test_one_iteration_leaves_no_charges(engine):
    """Enough for silicon, whose atoms are neutral; but DFTB+ then writes no charges.bin."""
    silicon = bulk("Si", "diamond", a=5.43)
    once = replace(FULL, kpts=(2, 2, 2), max_scc_iterations=1)
    reused = run(engine, "pbc/pbc-0-3", [silicon] * 2, replace(once, reuse_charges=True))
    assert [r.scc_iterations for r in reused] == [1, 1]
    with pytest.raises(errors.ParameterError, match="max_scc_iterations = 1 with band_points") as caught:
        engine.compute(tables("pbc/pbc-0-3"), [silicon], replace(once, band_points=((0, 0, 0),)))
    assert caught.value.name == "max_scc_iterations"
    assert run(engine, "pbc/pbc-0-3", [silicon], replace(once, max_scc_iterations=2, band_points=((0, 0, 0),)))


def test_d4_in_a_crystal_is_refused_by_name(engine):
    found = engine.compute(tables("3ob/3ob-3-1"), [boxed(water())], replace(FULL, dispersion=D4))[0]
    assert isinstance(found, errors.ParameterError)
    assert "'d4' in a periodic cell" in str(found)
    assert found.name == "dispersion"


def test_missing_constants_name_the_element(engine):
    settings = [replace(FULL, spin=Spin({"N": -0.02})), replace(FULL, third_order=ThirdOrder({"O": -0.1}))]
    for one, symbol in zip(settings, "ON", strict=True):
        found = engine.compute(tables("mio/mio-1-1"), [nitrogen_dioxide()], one)[0]
        assert isinstance(found, errors.ParameterError)
        assert found.symbol == symbol
