import timeit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from dftbparam.errors import ParameterError
from dftbparam.repulsion import FORMS, NEGLIGIBLE, get_form

unit = st.floats(0.0, 1.0)


@st.composite
def atoms(draw, form):
    number = draw(st.integers(1, 96))
    radius = draw(st.floats(0.55, 4.7))
    values = {p.name: p.from_unit(draw(unit)) for p in form.parameters(number, radius)}
    return values, number, radius


@st.composite
def pairs(draw):
    form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    (va, za, ra), (vb, zb, rb) = draw(atoms(form)), draw(atoms(form))
    return form, va, vb, (za, zb), (ra, rb)


def distances(potential):
    return np.linspace(0.3, 1.1 * potential.cutoff + 0.3, 300)


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_positive_falling_convex_and_zero_beyond_the_cutoff(case):
    form, va, vb, numbers, radii = case
    potential = form.pair(va, vb, numbers=numbers, radii=radii)
    r = distances(potential)
    value, slope, curvature = potential.evaluate(r)
    np.testing.assert_allclose(potential(r), value, rtol=1e-10, atol=1e-30)
    assert value.min() >= 0.0
    assert slope.max() <= 0.0
    assert (curvature >= -1e-9 * np.abs(curvature).max()).all()
    assert (np.diff(value) <= 0.0).all()
    beyond = r >= potential.cutoff
    for part in (value, slope, curvature):
        assert not part[beyond].any()
    if r[0] < potential.cutoff:
        just_below = potential(np.array([potential.cutoff * (1 - 1e-9)]))[0]
        assert just_below <= 1.01 * NEGLIGIBLE


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_a_b_equals_b_a_bit_for_bit(case):
    form, va, vb, (za, zb), (ra, rb) = case
    one = form.pair(va, vb, numbers=(za, zb), radii=(ra, rb))
    two = form.pair(vb, va, numbers=(zb, za), radii=(rb, ra))
    assert one.cutoff == two.cutoff
    r = distances(one)
    for p, q in zip(one.evaluate(r), two.evaluate(r), strict=True):
        np.testing.assert_array_equal(p, q)


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_derivatives(case):
    form, va, vb, numbers, radii = case
    potential = form.pair(va, vb, numbers=numbers, radii=radii)
    r = np.linspace(0.3, 0.95 * potential.cutoff, 40)
    # One-sided truncation at NEGLIGIBLE would show in a difference quotient.
    r = r[(r > 0.25) & (potential(r) > 1e-6)]
    h = 1e-5
    value, slope, curvature = potential.evaluate(r)
    up, down = potential.evaluate(r + h), potential.evaluate(r - h)
    for exact, numerical, scale in (
        (slope, (up[0] - down[0]) / (2 * h), np.abs(value) / h * 1e-15),
        (curvature, (up[1] - down[1]) / (2 * h), np.abs(slope) / h * 1e-15),
    ):
        assert (np.abs(exact - numerical) <= 1e-6 * np.abs(exact) + 100 * scale).all()


@pytest.mark.parametrize("name", sorted(FORMS))
def test_equal_atoms_get_their_own_curve(name):
    form = FORMS[name]
    values = form.defaults(14, 2.1)
    for parameter in form.parameters(14, 2.1):
        assert parameter.low <= values[parameter.name] <= parameter.high
    assert form.names == tuple(p.name for p in form.parameters(14, 2.1)) == tuple(values)
    potential = form.homonuclear(values, number=14, radius=2.1)
    r = np.linspace(1.0, 6.0, 50)
    if name == "screened-nuclear":
        a = values["sigma"] * 2.1
        expected = 14**2 * (1 / r - erf(r / np.sqrt(2 * a * a)) / r)
    elif name == "screened-power":
        w = (r / values["length"]) ** values["exponent"] / (1 - (r / 8.4) ** 4)
        expected = values["charge"] ** 2 / r * np.exp(-w)
    else:
        expected = values["amplitude"] * (1 - r / (2 * values["cutoff"])) ** values["exponent"]
    np.testing.assert_allclose(potential(r), np.where(expected < NEGLIGIBLE, 0.0, expected), rtol=1e-9, atol=2e-8)


def test_an_unlike_pair_by_hand():
    # PTBP's formula for Ti-O with its published widths.
    form = get_form("screened-nuclear")
    ti, o = 1.60 / 0.529177, 0.66 / 0.529177
    potential = form.pair({"sigma": 0.434}, {"sigma": 0.555}, numbers=(22, 8), radii=(ti, o))
    gamma = 1 / np.sqrt((0.434 * ti) ** 2 + (0.555 * o) ** 2)
    r = np.array([2.0, 3.0, 3.7])
    np.testing.assert_allclose(potential(r), 22 * 8 * (1 / r - erf(gamma * r) / r), rtol=1e-9)


@pytest.mark.parametrize("name", ["screened-power", "convex-cubic"])
def test_the_scale_is_what_the_form_says(name):
    form = FORMS[name]
    parameter, power = form.scale
    values = form.defaults(30, 2.3)
    r = np.linspace(2.0, 6.0, 20)
    one = form.homonuclear(values, number=30, radius=2.3)(r)
    three = form.homonuclear(values | {parameter: 3 * values[parameter]}, number=30, radius=2.3)(r)
    np.testing.assert_allclose(three, 3.0**power * one, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("screened-nuclear", {"sigma": -0.1}, "sigma = -0.1 must be positive"),
        ("screened-nuclear", {"sigma": float("nan")}, "positive"),
        ("screened-nuclear", {"width": 0.1}, "no parameter 'width'"),
        ("screened-power", {"exponent": 3.5}, r"\[1, 3\]"),
        ("screened-power", {"length": 1e3}, "exceeds the cutoff"),
        ("convex-cubic", {"exponent": 2.0}, "at least 3"),
    ],
)
def test_bad_values(name, changes, message):
    form = get_form(name)
    with pytest.raises(ParameterError, match=message):
        form.homonuclear(form.defaults(6, 1.4) | changes, number=6, radius=1.4)


def test_missing_values_unknown_forms_and_bad_radii():
    with pytest.raises(ParameterError, match="needs the parameter 'length'"):
        get_form("screened-power").homonuclear({"charge": 1.0, "exponent": 2.0}, number=6, radius=1.4)
    with pytest.raises(ParameterError, match="there are: screened-nuclear"):
        get_form("morse")
    with pytest.raises(ParameterError, match="radii"):
        get_form("screened-nuclear").homonuclear({"sigma": 0.4}, number=6, radius=0.0)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_inner_loops_are_cheap(name):
    form = FORMS[name]
    values = form.defaults(14, 2.1)
    r = np.linspace(3.0, 8.0, 100)
    seconds = min(timeit.repeat(lambda: form.homonuclear(values, number=14, radius=2.1).value(r), number=500, repeat=5))
    # 4 to 9 microseconds on the machine it was written on; the bound leaves room for a busy one.
    assert seconds / 500 < 50e-6
