import pickle
import time

import numpy as np
import pytest
from ase.utils.deltacodesdft import delta as ase_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dftbparam.errors import InputError, NoMinimum
from dftbparam.reference import (
    CrystalReference,
    EosFit,
    EosFitter,
    birch_murnaghan,
    e_of_v,
    fit_birch_murnaghan,
    load_dataset,
    locate_minimum,
)
from dftbparam.score import delta_gauge

PLANTED = {
    "e0": st.floats(-1e4, 1e4),
    "v0": st.floats(3.0, 200.0),
    "b0": st.floats(1e-2, 3.0),
    "b0_prime": st.floats(-2.0, 12.0),
}
GRID = np.linspace(0.94, 1.06, 7)


@settings(deadline=None)
@given(**PLANTED, shift=st.floats(-0.05, 0.05))
def test_fit_recovers_planted_parameters(e0, v0, b0, b0_prime, shift):
    volumes = v0 * (GRID + shift)
    fit = fit_birch_murnaghan(volumes, birch_murnaghan(volumes, e0, v0, b0, b0_prime))
    # The energies carry rounding of 1e-16 |e0|; the curve's own scale on this interval is v0 b0 0.06^2.
    noise = 1e-15 * (1.0 + abs(e0)) / (v0 * b0 * 0.06**2) + 1e-12
    assert fit.v0 == pytest.approx(v0, rel=1e2 * noise)
    assert fit.e0 == pytest.approx(e0, abs=1e-11 * (1.0 + abs(e0)))
    assert fit.b0 == pytest.approx(b0, rel=1e3 * noise)
    assert fit.b0_prime == pytest.approx(b0_prime, abs=1e5 * noise)
    assert fit.rms < 1e-11 * (1.0 + abs(e0))


@settings(deadline=None)
@given(**PLANTED)
def test_fit_ignores_order_zero_and_units(e0, v0, b0, b0_prime):
    volumes = v0 * GRID
    energies = birch_murnaghan(volumes, e0, v0, b0, b0_prime)
    plain = fit_birch_murnaghan(volumes, energies, extrapolate=True)
    turned = fit_birch_murnaghan(volumes[::-1], energies[::-1], extrapolate=True)
    assert turned.v0 == pytest.approx(plain.v0, rel=1e-6)
    assert turned.b0 == pytest.approx(plain.b0, rel=1e-4)
    bigger = fit_birch_murnaghan(2.0 * volumes, energies, extrapolate=True)
    assert bigger.v0 == pytest.approx(2.0 * plain.v0, rel=1e-6)
    assert bigger.b0 == pytest.approx(0.5 * plain.b0, rel=1e-4)


def test_every_reference_crystal_survives_its_own_points():
    for reference in load_dataset().crystals:
        fit = fit_birch_murnaghan(*e_of_v(reference))
        assert fit.v0 == pytest.approx(reference.volume, rel=1e-9)
        assert fit.b0 == pytest.approx(reference.bulk_modulus, rel=1e-7)
        assert fit.b0_prime == pytest.approx(reference.bulk_modulus_derivative, abs=1e-5)
        assert delta_gauge(fit, reference) == pytest.approx(0.0, abs=1e-6)


def test_fit_leaves_failed_points_out():
    volumes = 20.0 * GRID
    energies = birch_murnaghan(volumes, -1.0, 20.0, 0.5, 4.0)
    energies[[1, 5]] = np.nan
    assert fit_birch_murnaghan(volumes, energies).v0 == pytest.approx(20.0)
    energies[[0, 6]] = np.inf
    with pytest.raises(NoMinimum, match="only 3 of 7 points"):
        fit_birch_murnaghan(volumes, energies)


def test_fit_without_a_minimum():
    volumes = 20.0 * GRID
    with pytest.raises(NoMinimum, match="no minimum"):
        fit_birch_murnaghan(volumes, -birch_murnaghan(volumes, 0.0, 20.0, 0.5, 4.0))
    with pytest.raises(NoMinimum, match="no minimum"):
        fit_birch_murnaghan(volumes, np.zeros(7))
    outside = birch_murnaghan(volumes, 0.0, 25.0, 0.5, 4.0)
    with pytest.raises(NoMinimum, match=r"25 A\^3/atom, lies outside") as caught:
        fit_birch_murnaghan(volumes, outside)
    assert caught.value.v0 == pytest.approx(25.0)
    assert fit_birch_murnaghan(volumes, outside, extrapolate=True).v0 == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("volumes", "energies"),
    [
        ([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]),
        ([1.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 2.0]),
        ([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0]),
        ([-1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0, float("nan")], [0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_bad_curves(volumes, energies):
    with pytest.raises(InputError):
        fit_birch_murnaghan(volumes, energies)


def test_fitter_agrees_with_single_fits():
    rng = np.random.default_rng(7)
    volumes = 15.0 * GRID
    v0 = rng.uniform(13.0, 17.0, (5, 3))
    energies = birch_murnaghan(volumes, -3.0, v0[..., None], 0.7, 4.5) + rng.normal(0.0, 1e-4, (5, 3, 7))
    energies[0, 0] *= -1.0
    energies[1, 1, 3] = np.nan
    fits = EosFitter(volumes).fit(energies)
    assert fits.v0.shape == fits.valid.shape == (5, 3)
    assert not fits.valid[0, 0]
    assert not fits.valid[1, 1]
    assert np.isnan(fits.v0[~fits.valid]).all()
    assert fits.inside.sum() < fits.valid.sum() == 13
    for index in zip(*np.nonzero(fits.valid), strict=True):
        single = fit_birch_murnaghan(volumes, energies[index], extrapolate=True)
        found = [a[index] for a in (fits.v0, fits.e0, fits.b0, fits.b0_prime, fits.rms)]
        assert_allclose(found, [single.v0, single.e0, single.b0, single.b0_prime, single.rms], rtol=1e-8)
        assert fits.inside[index] == (volumes[0] <= single.v0 <= volumes[-1])


def test_fitter_takes_volumes_per_curve():
    v0 = np.array([10.0, 20.0, 40.0])
    volumes = v0[:, None] * GRID
    fitter = EosFitter(volumes)
    energies = birch_murnaghan(volumes, 0.0, v0[:, None], 0.5, 4.0)
    assert_allclose(fitter.fit(energies).v0, v0)
    assert_allclose(fitter.fit(np.stack([energies, 2.0 * energies])).b0, [[0.5] * 3, [1.0] * 3])
    with pytest.raises(InputError, match="do not fit"):
        fitter.fit(energies[:, :-1])


@pytest.mark.parametrize("volumes", [5.0, [1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0], [[1, 2, 3, 4], [1, 1, 2, 3]]])
def test_fitter_refuses_bad_volumes(volumes):
    with pytest.raises(InputError):
        EosFitter(volumes)


def test_fitter_is_fast_enough_for_an_inner_loop():
    volumes = np.outer([10.0, 11.0, 12.0, 20.0], GRID)
    fitter = EosFitter(volumes)
    energies = birch_murnaghan(volumes, 0.0, volumes[:, 3:4], 0.5, 4.0)
    start = time.perf_counter()
    for _ in range(200):
        fitter.fit(energies)
    assert (time.perf_counter() - start) / 200 < 2e-3  # 0.1 ms on an idle core; this catches a slip, not a slow day


@settings(deadline=None)
@given(
    v0=PLANTED["v0"],
    b0=PLANTED["b0"],
    b0_prime=st.floats(3.0, 6.0),
    ratio=st.floats(0.75, 1.4),
    points=st.integers(15, 41),
)
def test_locate_minimum_finds_the_planted_one(v0, b0, b0_prime, ratio, points):
    reference = v0 / ratio
    volumes = reference * np.linspace(0.6, 1.6, points)
    energies = birch_murnaghan(volumes, -2.0, v0, b0, b0_prime)
    assert locate_minimum(volumes, energies, reference) == pytest.approx(v0, rel=2e-3)


def test_locate_minimum_takes_the_nearest_not_the_deepest():
    volumes = np.linspace(6.0, 20.0, 57)
    two_wells = np.minimum(
        birch_murnaghan(volumes, -5.0, 8.0, 6.0, 4.0), birch_murnaghan(volumes, -1.0, 15.0, 0.5, 4.0)
    )
    assert locate_minimum(volumes, two_wells, 14.0) == pytest.approx(15.0, rel=1e-3)
    assert locate_minimum(volumes, two_wells, 9.0) == pytest.approx(8.0, rel=1e-3)
    shuffled = np.random.default_rng(0).permutation(len(volumes))
    assert locate_minimum(volumes[shuffled], two_wells[shuffled], 14.0) == pytest.approx(15.0, rel=1e-3)


def test_locate_minimum_beside_an_implosion():
    volumes = np.linspace(8.0, 24.0, 17)
    energies = birch_murnaghan(volumes, -1.0, 15.0, 0.5, 4.0)
    energies[:5] = [-4000.0, -900.0, -60.0, -7.0, -2.0]
    energies[-1] = np.nan
    assert locate_minimum(volumes, energies, 15.0) == pytest.approx(15.0, rel=2e-3)


@pytest.mark.parametrize(
    ("energies", "lowest"),
    [
        ([-3.0, -2.0, -1.0, -0.5], "0.600"),
        ([3.0, 2.0, 1.0, 0.5], "1.600"),
        ([0.0, 0.0, 0.0, 0.0], "0.600"),
        ([-1.0, 0.5, 0.0, -0.5], "0.600"),
    ],
)
def test_no_minimum_inside(energies, lowest):
    volumes = 10.0 * np.linspace(0.6, 1.6, 4)
    with pytest.raises(NoMinimum, match=f"lowest at {lowest}") as caught:
        locate_minimum(volumes, energies, 10.0)
    assert pickle.loads(pickle.dumps(caught.value)).lowest_relative_volume == caught.value.lowest_relative_volume


def test_scan_of_failures():
    with pytest.raises(NoMinimum, match="only 2 of 4 points of the scan"):
        locate_minimum([1.0, 2.0, 3.0, 4.0], [1.0, np.nan, np.nan, 2.0], 2.0)
    with pytest.raises(InputError, match="must be positive"):
        locate_minimum([1.0, 2.0, 3.0], [1.0, 0.0, 1.0], 0.0)


@settings(deadline=None)
@given(
    v=st.floats(0.8, 1.25),
    b=st.floats(0.3, 3.0),
    b0_prime=st.floats(2.0, 7.0),
    reference=st.sampled_from(load_dataset().crystals),
)
def test_delta_agrees_with_ase(v, b, b0_prime, reference: CrystalReference):
    fit = EosFit(v0=v * reference.volume, e0=-7.0, b0=b * reference.bulk_modulus, b0_prime=b0_prime)
    theirs = ase_delta(
        fit.v0,
        fit.b0,
        fit.b0_prime,
        reference.volume,
        reference.bulk_modulus,
        reference.bulk_modulus_derivative,
    )
    # ASE integrates with 100 midpoints, which is good to about 1e-4 of the value.
    assert delta_gauge(fit, reference) == pytest.approx(1000.0 * theirs, rel=1e-3, abs=1e-6)
