import numpy as np
import pytest

from dftbparam.errors import InputError
from dftbparam.reference import birch_murnaghan
from dftbparam.score import soundness

VOLUMES = 20.0 * np.linspace(0.6, 1.6, 41)


@pytest.fixture
def energies():
    return birch_murnaghan(VOLUMES, -4.0, 20.4, 0.5, 4.0)


def judge(energies, **options):
    return soundness(VOLUMES, energies, 20.4, -4.0, 20.0, **options)


def test_a_plain_curve_is_sound(energies):
    verdict = judge(energies)
    assert verdict.sound
    assert verdict.reason == ""
    assert verdict.deeper_well is None


def test_implosion_counts_by_its_edge(energies):
    energies[:3] = [-9.0, -6.0, -1.0]
    verdict = judge(energies)
    assert not verdict.sound
    assert verdict.deeper_well.at_edge
    assert verdict.deeper_well.relative_volume == pytest.approx(0.6)
    assert verdict.deeper_well.depth == pytest.approx(5.0)
    assert "deeper by 5.000 eV/atom at relative volume 0.600" in verdict.reason


def test_a_deeper_well_inside(energies):
    energies[35] = -4.01
    verdict = judge(energies)
    assert not verdict.sound
    assert not verdict.deeper_well.at_edge
    assert verdict.deeper_well.relative_volume == pytest.approx(VOLUMES[35] / 20.0)


def test_tolerance(energies):
    energies[3] = -4.0009
    assert judge(energies).sound
    assert not judge(energies, tolerance=0.0005).sound


def test_own_well_does_not_count(energies):
    near = np.argmin(np.abs(VOLUMES - 20.4))
    energies[near] = -4.005
    assert judge(energies).sound


def test_points_outside_the_window_do_not_count(energies):
    volumes = np.append(VOLUMES, [8.0, 40.0])
    verdict = soundness(volumes, np.append(energies, [-99.0, -99.0]), 20.4, -4.0, 20.0)
    assert verdict.sound


def test_a_failed_point_cannot_be_vouched_for(energies):
    energies[0] = np.nan
    verdict = judge(energies)
    assert not verdict.sound
    assert verdict.reason == "no energy at relative volume 0.600"
    assert verdict.deeper_well is None


def test_deeper_well_is_named_before_failed_points(energies):
    energies[[0, 1]] = [np.nan, -8.0]
    assert judge(energies).deeper_well.depth == pytest.approx(4.0)


def test_scan_must_reach_the_ends(energies):
    with pytest.raises(InputError, match=r"spans relative volumes 0\.600 to 1\.550; a verdict needs 0\.6 to 1\.6"):
        soundness(VOLUMES[:-2], energies[:-2], 20.4, -4.0, 20.0)
    assert soundness(VOLUMES[:-2], energies[:-2], 20.4, -4.0, 20.0, high=1.5).sound
    with pytest.raises(InputError, match="as many"):
        soundness([], [], 20.4, -4.0, 20.0)
