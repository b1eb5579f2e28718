"""Plots of band structures: axes, labels, breaks, what is drawn how."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dftbparam.errors import InputError
from dftbparam.reference import BandReference
from dftbparam.report import bands_content, path_labels, path_lengths, plot_band_content, plot_bands, render

POINTS = [(0.0, 0.0, 0.0), (0.25, 0.0, 0.25), (0.5, 0.0, 0.5), (0.625, 0.25, 0.625), (0.0, 0.0, 0.0)]
LEVELS = np.array([[-60.0, -8.0, -0.3, 0.9]] * 5) + np.linspace(-0.1, 0.1, 5)[:, None]
A = (4.0 * 10.0) ** (1.0 / 3.0)


def reference(**more):
    given = {
        "symbol": "Al", "prototype": "fcc", "volume": 10.0, "points": POINTS, "energies": LEVELS.tolist(),
        "electrons": 6.0, "smearing": 0.1, "labels": {0: "GAMMA", 2: "X", 3: "U_2", 4: "G"}, "breaks": (3,),
    }  # fmt: skip
    return BandReference.model_validate(given | more)


def test_lengths_along_a_path():
    """Gamma to X of a face-centred cubic cell is 2 pi/a; a break has no length; U to Gamma is |(1, 1/4, 1/4)|."""
    unit = 2.0 * np.pi / A
    assert path_lengths(reference()) == pytest.approx([0.0, 0.5 * unit, unit, unit, unit * (1.0 + np.sqrt(1.125))])


def test_labels_at_a_break_are_joined():
    places = path_labels(reference())
    assert [name for _, name in places] == ["Γ", "X|U$_{2}$", "Γ"]
    with pytest.raises(InputError, match="'X' at point 9 of 5"):
        path_labels(reference(labels={9: "X"}))


def test_what_a_plot_shows():
    own = LEVELS[:, 1:]
    figure = plot_bands("Al, fcc", reference(), {"this set": own + 0.1, "another": own}, skipped=1)
    (axes,) = figure.axes
    assert axes.get_title() == "Al, fcc"
    assert axes.get_ylabel() == "energy above the Fermi level (eV)"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Γ", "X|U$_{2}$", "Γ"]
    labels = [line.get_label() for line in axes.get_lines() if not line.get_label().startswith("_")]
    assert labels == ["DFT", "this set", "another"]
    bottom, top = axes.get_ylim()
    assert -11.0 < bottom < -8.0  # the semicore band is not framed
    assert top == pytest.approx(9.0 + 0.8)  # above the lowest empty level
    assert all(len(line.get_xdata()) in (2, 3) for line in axes.get_lines() if len(line.get_ydata()) != 2)
    assert render(figure)[:4] == b"\x89PNG"


def test_a_metal_and_no_set_at_all():
    figure = plot_bands("Al", reference(electrons=5.0, labels={}, breaks=()), {})
    assert figure.axes[0].get_ylim()[1] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": LEVELS[1:]}, r"bands 'a' of shape \(4, 4\) for 5 points"),
        ({"a": LEVELS, "b": LEVELS, "c": LEVELS}, "3 sets of bands; a plot holds 2"),
    ],
)
def test_bands_that_do_not_fit(sets, message):
    with pytest.raises(InputError, match=message):
        plot_bands("Al", reference(), sets)


def test_content_is_enough_to_draw_the_same():
    one, sets = reference(), {"this set": LEVELS[:, 1:] + 0.1}
    content = json.loads(json.dumps(bands_content(one, 1, sets)))
    assert content["labels"][1][1] == "X|U₂"
    # Five eV beyond both edges: -0.4 .. 0.8 is between the bands.
    assert content["window"] == pytest.approx([-5.2, 5.8])
    np.testing.assert_allclose(np.transpose(content["dft"]), LEVELS, atol=5e-5)
    np.testing.assert_allclose(np.transpose(content["sets"]["this set"]), sets["this set"], atol=5e-5)
    direct, again = plot_bands("Al", one, sets, skipped=1).axes[0], plot_band_content("Al", content).axes[0]
    assert again.get_ylim() == pytest.approx(direct.get_ylim(), abs=1e-3)
    assert len(again.get_lines()) == len(direct.get_lines())
    for a, b in zip(again.get_lines(), direct.get_lines(), strict=True):
        np.testing.assert_allclose(np.array(a.get_data(), dtype=float), np.array(b.get_data(), dtype=float), atol=1e-4)
