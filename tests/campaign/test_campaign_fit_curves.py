from types import SimpleNamespace

import numpy as np
import pytest

from dftbparam.campaign.fit_curves import OURS, PLOTTED, PUBLISHED, SCANNED, cards_of, fit_curves, plotted_range
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.reference import load_dataset
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set


@pytest.fixture(scope="module")
def published_carbon():
    """The published set as if it had been fitted."""
    tables = build_tables(load_parameter_set("ptbp"), ["C"])
    card = SimpleNamespace(symbol="C")
    return SimpleNamespace(tables=tables, card=card, published=card, published_tables=None)


def test_cards_by_name(published_carbon):
    assert list(cards_of(published_carbon)) == [OURS, PUBLISHED]
    alone = SimpleNamespace(card=published_carbon.card, published=None)
    assert list(cards_of(alone)) == [OURS]


def test_both_sets_are_computed_at_the_same_volumes(published_carbon):
    crystals = [c for c in load_dataset().crystals_of("C") if c.prototype in ("diamond", "fcc")]
    curves = fit_curves(published_carbon, crystals, EmbeddedEngine(), (0.95, 1.0, 1.05))
    assert list(curves) == [OURS, PUBLISHED]
    for crystal in crystals:
        volumes, energies = curves[OURS][crystal.prototype]
        np.testing.assert_allclose(volumes, crystal.volume * np.array([0.95, 1.0, 1.05]))
        assert np.isfinite(energies).all()
        np.testing.assert_array_equal(curves[PUBLISHED][crystal.prototype][1], energies)
    diamond = curves[OURS]["diamond"][1]
    assert diamond[1] < min(diamond[0], diamond[2])


def _card(volume):
    return SimpleNamespace(crystal=lambda _: SimpleNamespace(volume=volume, reference_volume=10.0))


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((10.0, None), PLOTTED),
        ((None,), PLOTTED),
        ((10.0, 12.5), (0.85, 1.35)),
        ((8.0, 10.0), (0.736, 1.15)),
        ((5.0, 15.9), SCANNED),
    ],
)
def test_plots_reach_beyond_every_minimum(volumes, expected):
    assert plotted_range("fcc", [_card(volume) for volume in volumes]) == pytest.approx(expected)
