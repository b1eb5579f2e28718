"""Figures: what they show, and that they leave no trace in matplotlib's global state."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dftbparam.errors import InputError, ParameterError
from dftbparam.reference import EosFit, load_dataset
from dftbparam.report import (
    Curve,
    RadialCurve,
    card_curves,
    plot_atom,
    plot_convergence,
    plot_crystals,
    plot_energy_volume,
    plot_references,
    plot_skf,
    render,
)
from dftbparam.score import build_card
from dftbparam.skf import OnSite, SKFile, SplineRepulsion, zero_repulsion

PNG = b"\x89PNG\r\n\x1a\n"


def crystals():
    return load_dataset().crystals_of("Si")


def card(shift=0.0, scale=1.0, without=()):
    """A report card whose every crystal is the reference, scaled in volume and shifted in energy."""
    from dftbparam.errors import NoMinimum

    scans, fits = {}, {}
    for c in crystals():
        v = c.volume * np.linspace(0.6, 1.6, 21)
        fit = EosFit(v0=c.volume * scale, e0=c.energy - 100.0 + shift, b0=c.bulk_modulus, b0_prime=4.0)
        scans[c.prototype] = (v, fit.energies(v))
        fits[c.prototype] = NoMinimum("none") if c.prototype in without else fit
    return build_card("Si", crystals(), scans, fits)


def labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def rows(n=12, failed=()):
    return [
        {
            "index": i,
            "status": "failed" if i in failed else "finished",
            "objective": None if i in failed else 2.0 / (i + 1),
        }
        for i in range(n)
    ]


def skfile(repulsion="spline"):
    r = 0.02 * np.arange(1, 400)
    table = np.exp(-r)[:, None] * np.linspace(-1.0, 1.0, 10)
    chosen = {
        "spline": SplineRepulsion(np.array([2.0, 4.0]), np.zeros((1, 6)), (1.0, 1.0, 0.0)),
        "zero": zero_repulsion(),
        "none": None,
    }[repulsion]
    return SKFile(0.02, table, table, OnSite(np.zeros(4), np.zeros(4), np.zeros(4)), repulsion=chosen)


def test_axes_carry_units():
    figures = [
        plot_references("Si", crystals(), 0.8, 1.2),
        plot_crystals("Si", card_curves(crystals(), {"this set": card()})),
        plot_convergence("Si", rows()),
        plot_skf("Si-Si", skfile()),
    ]
    for figure in figures[:2]:
        for axes in figure.axes:
            x, y = labels(axes)
            assert "Å³/atom" in x
            assert "eV/atom" in y
    assert labels(figures[2].axes[0]) == ("trial", "objective")
    assert [labels(a)[0] for a in figures[3].axes] == ["distance (Bohr)"] * 3
    assert "Hartree" in labels(figures[3].axes[0])[1]


@pytest.mark.parametrize(("kind", "magic"), [("png", PNG), (".PNG", PNG), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_render_gives_the_content_of_a_file(kind, magic):
    assert render(plot_convergence("Si", rows()), kind).startswith(magic)


def test_render_is_reproducible():
    assert render(plot_convergence("Si", rows())) == render(plot_convergence("Si", rows()))


@pytest.mark.parametrize("kind", ["jpg", "", "exe"])
def test_render_names_the_known_formats(kind):
    with pytest.raises(ParameterError, match="png, svg, pdf"):
        render(plot_convergence("Si", rows()), kind)


def test_no_pyplot_and_no_global_settings():
    code = (
        "import sys; from matplotlib import rcParams as r; "
        # Asking for the backend alone would import pyplot.
        "now = lambda: {k: r[k] for k in r if k != 'backend'}; before = now(); "
        "from dftbparam.report import plot_convergence, render; render(plot_convergence('x', [])); "
        "print('matplotlib.pyplot' in sys.modules, before == now())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["False", "True"]


def test_importing_the_reports_does_not_import_matplotlib():
    code = "import sys, dftbparam.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_card_curves_put_both_sides_on_the_stable_crystal():
    curves = card_curves(crystals(), {"this set": card(shift=3.0)})
    diamond = curves["diamond"]
    assert [c.role for c in diamond] == ["reference", "ours"]
    assert diamond[0].energies.min() == pytest.approx(0.0, abs=1e-3)
    assert diamond[1].energies.min() == pytest.approx(0.0, abs=1e-3)
    expected = {c.prototype: c.energy for c in crystals()}
    fcc = curves["fcc"]
    assert fcc[1].energies.min() == pytest.approx(expected["fcc"] - expected["diamond"], abs=2e-3)


def test_card_curves_have_a_zero_per_composition():
    """A fit of magnesium to its own crystals and oxides, in which everything is right but the zero."""
    data = load_dataset("acwf-oxides-pbe")
    chosen = [
        c for c in (*data.crystals_of("Mg"), *data.binaries_of("Mg")) if c.prototype in ("fcc", "bcc", "rocksalt")
    ]
    scans, fits = {}, {}
    for c in chosen:
        v = c.volume * np.linspace(0.6, 1.6, 21)
        fits[c.name] = EosFit(v0=c.volume, e0=c.energy - 55.0, b0=c.bulk_modulus, b0_prime=c.bulk_modulus_derivative)
        scans[c.name] = (v, fits[c.name].energies(v))
    drawn = card_curves(chosen, {"ours": build_card("Mg", chosen, scans, fits)})
    for name, (reference, ours) in drawn.items():
        np.testing.assert_allclose(ours.energies, reference.energies, atol=1e-6, err_msg=name)
    assert drawn["Mg-O rocksalt"][0].energies.min() == pytest.approx(0.0, abs=1e-3)


def test_card_curves_show_a_crystal_without_a_minimum_from_its_scan():
    lost = card(without=("fcc",))
    curves = card_curves(crystals(), {"this set": lost})
    assert np.isnan(curves["fcc"][1].energies).all()
    v = np.linspace(13.0, 16.0, 9)
    scanned = card_curves(crystals(), {"this set": lost}, scans={"this set": {"fcc": (v, -v)}})
    assert np.isfinite(scanned["fcc"][1].energies).all()


def test_card_curves_survive_a_lost_stable_crystal():
    curves = card_curves(crystals(), {"this set": card(without=("diamond",)), "other": card()})
    assert np.isfinite(curves["fcc"][1].energies).all()
    assert curves["fcc"][2].role == "other"


def test_a_curve_outside_the_frame_is_named():
    c = crystals()[0]
    v = c.volume * np.linspace(0.94, 1.06, 7)
    reference = Curve("DFT", v, c.energies(v), "reference")
    figure = plot_energy_volume("sc", [reference, Curve("far", v, c.energies(v) - 0.7, "other")])
    assert any("far: lowest point outside, 0.70 eV/atom below" in text.get_text() for text in figure.axes[0].texts)
    bottom, top = figure.axes[0].get_ylim()
    assert bottom < c.energies(v).min() < c.energies(v).max() < top


def test_our_minimum_is_framed_and_the_notes_figure_is_the_cards():
    c = crystals()[0]
    v = c.volume * np.linspace(0.8, 1.2, 41)
    zero = float(c.energies(v).min())
    curves = [
        Curve("DFT", v, c.energies(v), "reference"),
        Curve("ours", v, c.energies(v) - 0.9, "ours", -0.9),
        Curve("theirs", v, c.energies(v) - 3.0, "other", -2.5),
    ]
    axes = plot_energy_volume("sc", curves).axes[0]
    bottom, top = axes.get_ylim()
    assert zero - 2.5 < bottom < zero - 0.9 < zero < top
    assert [text.get_text() for text in axes.texts] == ["theirs: minimum outside, 2.50 eV/atom below DFT's"]


def test_tables_are_framed_beyond_the_core_and_their_lines_named():
    hamiltonian, overlap, repulsion = plot_skf("Si-Si", skfile()).axes
    for axes in (hamiltonian, overlap):
        low, high = axes.get_ylim()
        assert 0.9 * np.exp(-2.0) < max(-low, high) < 1.2 * np.exp(-2.0)
    named = [text.get_text() for text in repulsion.get_legend().get_texts()]
    assert named == ["repulsion", "first knot of the spline", "cutoff"]
    assert hamiltonian.get_title() == ""
    pair = SKFile(**{**vars(skfile()), "on_site": None})
    assert "reversed pair" in plot_skf("Ti-O", pair).axes[0].get_title()


def test_empty_plots_say_so():
    assert "no trial" in plot_convergence("Si", rows(3, failed=(0, 1, 2))).axes[0].texts[0].get_text()
    assert "none" in plot_skf("Si-Si", skfile("none")).axes[2].texts[0].get_text()
    assert "zero everywhere" in plot_skf("Si-Si", skfile("zero")).axes[2].texts[0].get_text()
    v = np.array([1.0, 2.0])
    nothing = plot_energy_volume("x", [Curve("a", v, np.full(2, np.nan))])
    assert "no energies" in nothing.axes[0].texts[0].get_text()
    render(plot_crystals("nothing", {}))
    render(plot_atom("nothing", [], None))


def test_convergence_shows_best_failures_and_comparison():
    figure = plot_convergence("Si", rows(12, failed=(3,)), n_initial=5, other=("PTBP", 0.7))
    text = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert text == ["trial", "best so far", "PTBP", "failed (1)"]
    best = next(line for line in figure.axes[0].lines if line.get_label() == "best so far")
    assert np.all(np.diff(best.get_ydata()) <= 0.0)


def test_the_outer_lobe_of_an_orbital_points_upwards():
    r = np.linspace(0.01, 10.0, 200)
    p = r * (1.0 - r) * np.exp(-r)
    figure = plot_atom("Si", [RadialCurve("3s", r, p, -p, 4.0)], RadialCurve("density", r, np.exp(-r), None, 6.0))
    confined, free = figure.axes[0].lines[:2]
    assert confined.get_ydata()[120] > 0.0
    np.testing.assert_allclose(confined.get_ydata(), free.get_ydata())
    assert render(figure).startswith(PNG)


def test_bad_data_are_refused():
    with pytest.raises(InputError, match="role 'mine'"):
        Curve("x", np.zeros(3), np.zeros(3), "mine")
    with pytest.raises(InputError, match="both must be"):
        Curve("x", np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="upside down"):
        plot_references("Si", crystals(), 1.2, 0.8)
    with pytest.raises(InputError, match="no reference crystal"):
        plot_references("Si", [], 0.8, 1.2)


def test_uncertainty():
    from dftbparam.report import plot_uncertainty
    from dftbparam.score.uncertainty import uncertainty

    x = np.random.default_rng(0).random((30, 2))
    found = uncertainty(
        x,
        1.0 + ((x - 0.5) ** 2).sum(axis=1),
        [{"fcc": {"dV": 10.0 * p[0], "dB": None, "dE": 0.1}} for p in x],
        names=("radius", "kind"),
        from_unit=lambda u: {"radius": 2.0 * 4.0 ** u[0], "kind": "power"},
        ranges={"radius": (2.0, 8.0, True), "kind": (0, 1, False)},
    )
    figure = plot_uncertainty("Xy", found.model_dump(mode="json"), {"radius": (2.0, 8.0, True), "kind": (0, 1, False)})
    left, volumes, bulk, _ = figure.axes
    # The choice without a number has no line; the best point sits where it was in the cube, on the log scale.
    assert [label.get_text().split(" = ")[0] for label in left.get_yticklabels()] == ["radius"]
    assert left.lines[-1].get_xdata()[0] == pytest.approx(x[found.members[0], 0])
    assert volumes.get_xlabel() == "ΔV, %"
    assert len(bulk.lines) == 1
    assert render(figure).startswith(PNG)
