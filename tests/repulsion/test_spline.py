import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.errors import ParameterError
from dftbparam.repulsion import FORMS, MAX_INTERVALS, get_form, to_spline
from dftbparam.repulsion.spline import ABSOLUTE_BELOW
from dftbparam.skf import repulsion_values
from dftbparam.space import load_parameter_set


def jumps(spline):
    """Largest jump of value, slope and curvature over all knots, the head and the cutoff included."""
    below = repulsion_values(spline, np.nextafter(spline.knots, 0.0))
    above = repulsion_values(spline, spline.knots)
    return [float(np.abs(p - q).max()) for p, q in zip(below, above, strict=True)]


@st.composite
def potentials(draw):
    form = FORMS[draw(st.sampled_from(sorted(FORMS)))]
    number, radius = draw(st.integers(1, 96)), draw(st.floats(0.55, 4.7))
    values = {p.name: p.from_unit(draw(st.floats(0.0, 1.0))) for p in form.parameters(number, radius)}
    return form.homonuclear(values, number=number, radius=radius)


@settings(max_examples=150, deadline=None)
@given(potentials())
def test_any_potential_within_the_ranges(potential):
    spline = to_spline(potential)
    assert len(spline.coefficients) <= MAX_INTERVALS
    assert not spline.coefficients[:-1, 4:].any()
    value, slope, _ = jumps(spline)
    assert value < 1e-9
    assert slope < 1e-9
    r = np.linspace(spline.knots[0], spline.cutoff, 7001)
    exact = potential(r)
    assert (np.abs(repulsion_values(spline, r)[0] - exact) <= 1.01e-6 * np.maximum(1.0, exact / ABSOLUTE_BELOW)).all()
    everywhere = np.linspace(0.2 * spline.knots[0], spline.cutoff + 1.0, 4000)
    v, dv, _ = repulsion_values(spline, everywhere)
    assert v.min() >= -1e-12
    assert dv.max() <= 1e-12
    # The wall goes on below the first knot.
    a1, _, _ = spline.exponential
    assert a1 > 0.0
    # Nothing is lost beyond the end.
    assert potential(np.array([spline.cutoff]))[0] <= 1e-7


@pytest.mark.parametrize(
    ("symbol", "number", "radius", "sigma"),
    [
        ("H", 1, 0.31, 1.088),
        ("C", 6, 0.76, 0.626),
        ("Si", 14, 1.11, 0.523),
        ("Fe", 26, 1.32, 0.432),
        ("W", 74, 1.62, 0.380),
    ],
)
def test_published_repulsions(symbol, number, radius, sigma):
    bohr = radius / 0.529177
    potential = get_form("screened-nuclear").homonuclear({"sigma": sigma}, number=number, radius=bohr)
    spline = to_spline(potential)
    assert 0.6 <= spline.knots[0] <= 1.0
    assert len(spline.coefficients) <= 200
    r = np.linspace(max(spline.knots[0], 0.5 * bohr), spline.cutoff, 5000)
    r = r[potential(r) < ABSOLUTE_BELOW]
    assert np.abs(repulsion_values(spline, r)[0] - potential(r)).max() <= 1e-6
    value, slope, curvature = jumps(spline)
    assert value < 1e-10
    assert slope < 1e-9
    assert curvature < 1e-6 * potential.evaluate(spline.knots[:1])[2][0]


def test_the_same_potential_gives_the_same_numbers():
    form = get_form("screened-power")
    si, o = form.defaults(14, 2.1), form.defaults(8, 1.25)
    one = to_spline(form.pair(si, o, numbers=(14, 8), radii=(2.1, 1.25)))
    two = to_spline(form.pair(o, si, numbers=(8, 14), radii=(1.25, 2.1)))
    np.testing.assert_array_equal(one.knots, two.knots)
    np.testing.assert_array_equal(one.coefficients, two.coefficients)
    assert one.exponential == two.exponential


class Analytic:
    """A potential given by three functions."""

    def __init__(self, cutoff, *functions):
        self.cutoff = cutoff
        self.functions = functions

    def evaluate(self, r):
        return tuple(f(r) for f in self.functions)


def test_a_concave_head_keeps_value_and_slope():
    potential = Analytic(
        3.0,
        lambda r: (9 - r**2) ** 3,
        lambda r: -6 * r * (9 - r**2) ** 2,
        lambda r: -6 * (9 - r**2) ** 2 + 24 * r**2 * (9 - r**2),
    )
    spline = to_spline(potential, r_min=0.7)
    value, slope, _ = jumps(spline)
    assert value < 1e-9
    assert slope < 1e-9
    assert spline.exponential[2] == pytest.approx(0.0, abs=1e-9)


def test_a_tighter_tolerance_and_a_given_first_knot():
    potential = get_form("screened-nuclear").homonuclear({"sigma": 0.5}, number=6, radius=1.44)
    coarse = to_spline(potential, r_min=1.2, tolerance=1e-4)
    fine = to_spline(potential, r_min=1.2, tolerance=1e-7)
    assert coarse.knots[0] == fine.knots[0] == 1.2
    assert len(coarse.coefficients) < len(fine.coefficients)
    r = np.linspace(1.2, fine.cutoff, 3000)
    assert np.abs(repulsion_values(fine, r)[0] - potential(r)).max() <= 1e-7


def test_potentials_that_make_no_spline():
    repulsion = get_form("screened-nuclear").homonuclear({"sigma": 0.5}, number=6, radius=1.44)
    with pytest.raises(ParameterError, match=r"still .* Hartree at the cutoff of 2 Bohr"):
        to_spline(repulsion, cutoff=2.0)
    with pytest.raises(ParameterError, match="must lie between"):
        to_spline(repulsion, r_min=30.0)
    with pytest.raises(ParameterError, match="at most 20 intervals"):
        to_spline(repulsion, max_intervals=20)
    hump = Analytic(
        4.0, lambda r: r * (4 - r) ** 3, lambda r: (4 - r) ** 2 * (4 - 4 * r), lambda r: -12 * (4 - r) * (2 - r)
    )
    with pytest.raises(ParameterError, match="fall with distance"):
        to_spline(hump)
    nothing = Analytic(4.0, np.zeros_like, np.zeros_like, np.zeros_like)
    with pytest.raises(ParameterError, match="is zero"):
        to_spline(nothing)


def test_the_whole_published_set():
    form = get_form("screened-nuclear")
    counts = []
    for symbol, element in load_parameter_set("ptbp").elements.items():
        if element.repulsion is None or element.repulsion.form != form.name:
            continue
        potential = form.homonuclear(element.repulsion.values, number=40, radius=2.5)
        counts.append(len(to_spline(potential).coefficients))
        assert counts[-1] <= 220, symbol
    assert len(counts) > 70
