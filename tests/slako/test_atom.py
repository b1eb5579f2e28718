import csv
from pathlib import Path

import numpy as np
import pytest

from dftbparam.elements import element, parse_configuration
from dftbparam.errors import ParameterError
from dftbparam.slako import xc
from dftbparam.slako.atom import confining_potential, hubbard, solve_atom
from dftbparam.slako.pseudoatom import free_atom
from dftbparam.slako.radial import RadialGrid, hartree_potential, solve_shell
from dftbparam.space import Confinement
from dftbparam.units import SPEED_OF_LIGHT

GOLDEN = Path(__file__).parents[1] / "golden" / "ptbp_free_atoms.csv"

LOOSE_LEVELS = {
    "Ne 2s": 0.7e-3, "I 5s": 0.7e-3, "Xe 5s": 0.8e-3, "Ir 6s": 0.6e-3, "Pt 6s": 0.8e-3, "Au 6s": 0.8e-3,
    "Hg 6s": 0.8e-3, "Tl 6s": 1.2e-3, "Pb 6s": 1.6e-3, "Bi 6s": 2.0e-3, "Po 6s": 2.4e-3, "At 6s": 2.9e-3,
    "Rn 6s": 3.4e-3, "Th 7s": 0.6e-3,
}  # fmt: skip
"""Published s levels with an error of their own, Hartree.

Their radial grid begins at 0.01/Z, with P ~ r there; a scalar-relativistic s orbital of a point nucleus goes as
r^sqrt(1 - (Z/c)^2). Solved with that start, our levels move onto the published ones (Rn 6s: -0.80046 against -0.80075,
with the correct start -0.80393).
"""


def published():
    lines = [line for line in GOLDEN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


@pytest.mark.parametrize("row", published(), ids=lambda row: row["symbol"])
def test_free_atom_against_published(row):
    atom = element(row["symbol"])
    free = free_atom(atom.symbol, atom.configuration_text, atom.valence)
    for nl in atom.valence:
        if atom.configuration[nl] == 0.0:
            continue
        level, u = float(row["E" + nl[-1]]), float(row["U" + nl[-1]])
        assert free.levels[nl] == pytest.approx(level, abs=LOOSE_LEVELS.get(f"{atom.symbol} {nl}", 5e-4)), nl
        assert free.hubbard[nl] == pytest.approx(u, rel=0.03), nl


def test_boxed_polarisation_shell_as_published():
    # Unbound: the level is that of the box, which the element table states.
    free = solve_atom("Si", element("Si").configuration)
    assert free.energies["3d"] == pytest.approx(0.0836862587, abs=1e-4)


def test_hydrogenic_levels():
    grid = RadialGrid.make(1e-5, 120.0, 1200)
    p, q = np.empty_like(grid.r), np.empty_like(grid.r)
    for n in range(1, 5):
        for l in range(n):
            energy, ok = solve_shell(grid.r, grid.weights, -1.0 / grid.r, l, n - l - 1, -0.3, 1.0, 0.0, grid.step, p, q)
            assert ok
            assert energy == pytest.approx(-0.5 / n**2, abs=2e-7)
            assert np.sum(grid.weights * p * p) == pytest.approx(1.0, abs=1e-10)


def bare_nucleus(z, n, l, *, relativistic=True, points=3000):
    """Level of the one-electron ion of nuclear charge z."""
    grid = RadialGrid.make(1e-6 / z, 60.0 * n * n / z, points)
    p, q = np.empty_like(grid.r), np.empty_like(grid.r)
    half_alpha2 = 0.5 / SPEED_OF_LIGHT**2 if relativistic else 0.0
    guess = -0.51 * (z / n) ** 2
    energy, ok = solve_shell(grid.r, grid.weights, -z / grid.r, l, n - l - 1, guess, z, half_alpha2, grid.step, p, q)
    assert ok
    return energy


def dirac(z, n, kappa):
    """Sommerfeld's formula, rest energy subtracted."""
    depth = n - abs(kappa) + np.sqrt(kappa**2 - (z / SPEED_OF_LIGHT) ** 2)
    return SPEED_OF_LIGHT**2 * (1.0 / np.sqrt(1.0 + (z / SPEED_OF_LIGHT / depth) ** 2) - 1.0)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_s_levels_of_a_bare_nucleus_are_those_of_dirac(n):
    # The spin-orbit term that Koelling and Harmon drop is proportional to kappa + 1 and vanishes for s (kappa = -1):
    # their s equation is Dirac's for the large component. Found: relative differences of 4e-12, tungsten's 1s and 2s.
    assert bare_nucleus(74.0, n, 0) == pytest.approx(dirac(74.0, n, -1), rel=1e-11)


def test_p_level_of_a_bare_nucleus_lies_near_the_spin_orbit_mean():
    # Found 0.5 % above the mean of 2p1/2 and 2p3/2 with weights 1 : 2: 6 % of their splitting.
    low, high = dirac(74.0, 2, 1), dirac(74.0, 2, -2)
    energy = bare_nucleus(74.0, 2, 1)
    assert low < energy < high
    assert energy == pytest.approx((low + 2.0 * high) / 3.0, rel=0.01)


@pytest.mark.parametrize("z", [2.0, 5.0, 10.0])
@pytest.mark.parametrize(("n", "l", "factor"), [(1, 0, -1 / 8), (2, 0, -5 / 128), (2, 1, -7 / 384)])
def test_relativistic_shift_is_that_of_perturbation_theory(z, n, l, factor):
    # Mass-velocity and Darwin terms of order Z^4/c^2, spin-orbit left out; the next order is about (Z/c)^2 / 2 of it.
    shift = bare_nucleus(z, n, l) - bare_nucleus(z, n, l, relativistic=False)
    assert shift == pytest.approx(factor * z**4 / SPEED_OF_LIGHT**2, rel=0.6 * (z / SPEED_OF_LIGHT) ** 2 + 2e-5)


def test_box_states_of_a_free_particle():
    grid = RadialGrid.make(1e-4, 10.0, 1500)
    p, q = np.empty_like(grid.r), np.empty_like(grid.r)
    first_zeros = (np.pi, 4.493409458, 5.763459197)  # of the spherical Bessel functions j_l
    for l, zero in enumerate(first_zeros):
        energy, ok = solve_shell(grid.r, grid.weights, np.zeros_like(grid.r), l, 0, 0.1, 1e-9, 0.0, grid.step, p, q)
        assert ok
        assert energy == pytest.approx(0.5 * (zero / 10.0) ** 2, rel=1e-5)


def test_hartree_potential_of_a_slater_charge():
    grid = RadialGrid.make(1e-5, 60.0, 900)
    r = grid.r
    v = np.empty_like(r)
    hartree_potential(r, grid.step, 4.0 * r * r * np.exp(-2.0 * r), v)
    np.testing.assert_allclose(v, 1.0 / r - np.exp(-2.0 * r) * (1.0 + 1.0 / r), atol=2e-7)


@pytest.mark.parametrize("symbol", ["O", "Fe", "W"])
def test_grid_is_converged(symbol):
    configuration = element(symbol).configuration
    coarse = solve_atom(symbol, configuration).energies
    fine = solve_atom(symbol, configuration, points=3600).energies
    for nl in element(symbol).valence:
        assert coarse[nl] == pytest.approx(fine[nl], abs=2e-6)


def test_libxc_gives_the_same_atom():
    configuration = element("Ti").configuration
    ours = solve_atom("Ti", configuration).energies
    theirs = solve_atom("Ti", configuration, xc=xc.libxc_derivatives).energies
    assert ours["3d"] == pytest.approx(theirs["3d"], abs=1e-7)


def test_confinement_raises_levels_and_shrinks_orbitals():
    configuration = element("Si").configuration
    free = solve_atom("Si", configuration)
    loose = solve_atom("Si", configuration, Confinement(radius=8.0))
    tight = solve_atom("Si", configuration, Confinement(radius=3.0))
    radius = [float(np.sum(run.grid.weights * run.shells["3p"][1] ** 2 * run.grid.r)) for run in (free, loose, tight)]
    assert free.energies["3p"] < loose.energies["3p"] < tight.energies["3p"]
    assert radius[0] > radius[1] > radius[2]


@pytest.mark.parametrize("symbol", ["Si", "Ga"])
def test_unbound_polarisation_shell_is_solved(symbol):
    atom = element(symbol)
    run = solve_atom(symbol, atom.configuration, Confinement(radius=4.0))
    assert run.energies[atom.polarisation] > 0.0


NIST = {
    "C": {"1s": -9.947718, "2s": -0.500866, "2p": -0.199186},
    "Ne": {"1s": -30.305855, "2s": -1.322809, "2p": -0.498034},
}
"""Non-relativistic LDA levels, Hartree: NIST Standard Reference Database 141; Phys. Rev. A 55, 191 (1997)."""


def vwn(_functional, n, _sigma):
    """Slater exchange and the correlation of Vosko, Wilk and Nusair: the functional of NIST's tables."""
    from pyscf.dft import libxc

    energy, potential = libxc.eval_xc("LDA_X,LDA_C_VWN", n, deriv=1)[:2]
    out = np.zeros((5, len(n)))
    out[0], out[1] = n * energy, potential[0]
    out[:, n < xc.DENSITY_FLOOR] = 0.0
    return out


@pytest.mark.parametrize("symbol", NIST)
def test_lda_levels_against_nist(symbol):
    configuration = element(symbol).configuration
    options = {"functional": "LDA", "relativistic": False}
    same = solve_atom(symbol, configuration, Confinement(kind="none"), xc=vwn, **options).energies
    ours = solve_atom(symbol, configuration, Confinement(kind="none"), **options).energies
    boxed = solve_atom(symbol, configuration, **options).energies
    for nl, level in NIST[symbol].items():
        assert same[nl] == pytest.approx(level, abs=1e-6), nl  # found 5e-7: NIST's last digit
        assert ours[nl] == pytest.approx(level, abs=2.5e-4), nl  # Perdew and Wang's correlation: up to 2.1e-4
        # The box holds levels up by 1e-5 (Ne) to 9e-5 (C).
        assert 0.0 < boxed[nl] - ours[nl] < 1e-4, nl


def test_woods_saxon_potential():
    wall = Confinement(kind="woods-saxon", radius=5.0, height=3.0, steepness=2.0)
    # By hand: half the height at the radius; 3 / (1 + e) half a Bohr inside, 3 / (1 + 1/e) half a Bohr outside.
    values = confining_potential(wall, np.array([4.5, 5.0, 5.5]))
    np.testing.assert_allclose(values, [0.8068242641, 1.5, 2.1931757359], rtol=1e-9)
    # Far inside an exponential, far outside the height.
    inside = np.array([1e-6, 1.0, 2.0])
    far = np.array([25.0, 60.0, 1000.0])
    np.testing.assert_allclose(confining_potential(wall, inside), 3.0 * np.exp(2.0 * (inside - 5.0)), rtol=3e-3)
    np.testing.assert_allclose(confining_potential(wall, far), 3.0, rtol=1e-15)
    assert (np.diff(confining_potential(wall, np.linspace(0.0, 20.0, 400))) > 0.0).all()
    steep = wall.model_copy(update={"steepness": 1e4})
    np.testing.assert_array_equal(confining_potential(steep, np.array([0.1, 4.9, 5.1, 60.0])) > 1.5, [0, 0, 1, 1])


def test_power_potential():
    box = Confinement(radius=4.0, power=3.0)
    np.testing.assert_allclose(confining_potential(box, np.array([0.4, 2.0, 4.0, 8.0])), [1e-3, 0.125, 1.0, 8.0])
    r = np.linspace(0.01, 60.0, 400)
    assert (np.diff(confining_potential(box, r)) > 0.0).all()
    # Kept finite where a steep power would overflow the radial equation.
    assert confining_potential(Confinement(radius=1.0, power=20.0), r).max() == 1e6
    assert not confining_potential(Confinement(kind="none"), r).any()


def test_woods_saxon():
    confinement = Confinement(kind="woods-saxon", radius=5.0, height=3.0, steepness=2.0)
    run = solve_atom("C", element("C").configuration, confinement)
    p = run.shells["2p"][1]
    assert abs(p[np.searchsorted(run.grid.r, 12.0)]) < 1e-5


def test_hubbard_is_a_slope():
    configuration = element("Si").configuration
    wide = hubbard("Si", configuration, ["3p"])["3p"]
    narrow = hubbard("Si", configuration, ["3p"], step=0.05)["3p"]
    assert wide == pytest.approx(narrow, rel=0.05)


def test_hubbard_where_the_ion_wavers():
    # The anion of erbium has no bound 4f shell any more; U still lies between those of its neighbours.
    before, here, after = (hubbard(s, element(s).configuration, ["4f"])["4f"] for s in ("Ho", "Er", "Tm"))
    assert before < here < after
    assert here == pytest.approx(0.5 * (before + after), rel=3e-3)


@pytest.mark.parametrize(
    ("text", "message"), [({"1s": 3.0}, "occupation 3.0"), ({"1x": 1.0}, "'1x'"), ({"1p": 1.0}, "'1p'")]
)
def test_impossible_configurations(text, message):
    with pytest.raises(ParameterError, match=message):
        solve_atom("H", text)


def test_spin_constants_against_published():
    from dftbparam.slako.spin import spin_constants

    # mio-1-1's constants (PBE atoms), Hartree: Kohler et al., Phys. Chem. Chem. Phys. 3, 5109 (2001).
    w = spin_constants("O", parse_configuration("[He] 2s2 2p4"), ["2s", "2p"])
    np.testing.assert_allclose(w, [[-0.035, -0.030], [-0.030, -0.028]], atol=0.0015)
    w = spin_constants("H", {"1s": 1.0}, ["1s"])
    assert w[0, 0] == pytest.approx(-0.072, abs=0.001)
    # 3ob-3-1's of bromine, whose atom wavers with a few electrons in the empty 4d shell.
    bromine = element("Br")
    w = spin_constants("Br", parse_configuration(bromine.configuration_text), bromine.valence)
    np.testing.assert_allclose(w[:2, :2], [[-0.0185, -0.01439], [-0.01439, -0.01377]], atol=1e-4)
