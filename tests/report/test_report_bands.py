"""Plots of band structures: axes, labels, breaks, what is drawn how."""

from __future__ import annotations

import numpy as np
import pytest

from dftbparam.errors import InputError
from dftbparam.reference import BandReference
from dftbparam.report import path_labels, path_lengths, plot_bands, render

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
