import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dftbparam.errors import InputError
from dftbparam.skf import (
    OnSite,
    PolynomialRepulsion,
    SKFile,
    SplineRepulsion,
    format_skf,
    read_skf,
    repulsion_values,
    write_skf,
    zero_repulsion,
)
from dftbparam.skf.read import parse_skf

number = st.floats(allow_nan=False, allow_infinity=False, width=64)
positive = st.floats(1e-6, 1e6)


def same(one, two):
    assert one.grid_step == two.grid_step
    assert one.mass == two.mass
    assert one.extended == two.extended
    assert one.documentation == two.documentation
    np.testing.assert_array_equal(one.hamiltonian, two.hamiltonian)
    np.testing.assert_array_equal(one.overlap, two.overlap)
    assert (one.on_site is None) == (two.on_site is None)
    if one.on_site is not None:
        np.testing.assert_array_equal(one.on_site.energies, two.on_site.energies)
        np.testing.assert_array_equal(one.on_site.hubbard, two.on_site.hubbard)
        np.testing.assert_array_equal(one.on_site.occupations, two.on_site.occupations)
        assert one.on_site.spin_polarisation_error == two.on_site.spin_polarisation_error
    assert type(one.repulsion) is type(two.repulsion)
    if isinstance(one.repulsion, SplineRepulsion):
        np.testing.assert_array_equal(one.repulsion.knots, two.repulsion.knots)
        np.testing.assert_array_equal(one.repulsion.coefficients, two.repulsion.coefficients)
        assert one.repulsion.exponential == two.repulsion.exponential
    elif one.repulsion is not None:
        np.testing.assert_array_equal(one.repulsion.coefficients, two.repulsion.coefficients)
        assert one.repulsion.cutoff == two.repulsion.cutoff


@st.composite
def splines(draw):
    n = draw(st.integers(1, 6))
    steps = draw(st.lists(st.floats(1e-3, 2.0), min_size=n + 1, max_size=n + 1))
    coefficients = draw(arrays(float, (n, 6), elements=number))
    coefficients[:-1, 4:] = 0.0
    return SplineRepulsion(np.cumsum(steps), coefficients, (draw(number), draw(number), draw(number)))


polynomials = st.builds(
    PolynomialRepulsion, arrays(float, 8, elements=number).filter(lambda c: bool(c.any())), positive
)
text = st.text(st.characters(codec="utf-8", exclude_characters="\r")).filter(
    lambda t: not any(line.rstrip() in ("Spline", "RangeSep") or "ocumentation>" in line for line in t.split("\n"))
)


@st.composite
def files(draw):
    extended = draw(st.booleans())
    shape = (draw(st.integers(9, 14)), 20 if extended else 10)
    table = arrays(float, shape, elements=number, fill=st.just(0.0))
    site = None
    if draw(st.booleans()):
        e, u, f = (draw(arrays(float, 4, elements=number)) for _ in range(3))
        if not extended:
            e[3] = u[3] = f[3] = 0.0
        site = OnSite(e, u, f, draw(number))
    return SKFile(
        grid_step=draw(positive),
        hamiltonian=draw(table),
        overlap=draw(table),
        on_site=site,
        mass=draw(number),
        repulsion=draw(st.one_of(st.none(), splines(), polynomials)),
        extended=extended,
        documentation=draw(text),
    )


@settings(max_examples=150, deadline=None)
@given(files())
def test_round_trip_to_the_last_bit(file):
    formatted = format_skf(file)
    back, notes = parse_skf(formatted, path="table", heteronuclear=file.on_site is None)
    same(file, back)
    assert notes.rows_in_file == len(file.hamiltonian)
    assert format_skf(back) == formatted


def sample(**changes):
    values = {
        "grid_step": 0.02,
        "hamiltonian": np.linspace(-0.5, 0.0, 120).reshape(12, 10),
        "overlap": np.zeros((12, 10)),
        "on_site": OnSite(np.array([-0.4, -0.1, 0, 0]), np.array([0.3, 0.3, 0, 0]), np.array([2.0, 2.0, 0, 0])),
        "mass": 12.011,
        "repulsion": zero_repulsion(),
    }
    return SKFile(**(values | changes))


def test_through_a_file(tmp_path):
    path = tmp_path / "C-C.skf"
    write_skf(path, sample())
    same(sample(), read_skf(path))
    assert [p.name for p in tmp_path.iterdir()] == ["C-C.skf"]
    lines = path.read_text().split("\n")
    assert lines[0] == "0.02 13"
    assert lines[1] == "0.0 -0.1 -0.4 0.0 0.0 0.3 0.3 0.0 2.0 2.0"
    assert lines[2] == "12.011 19*0.0"
    assert lines[3].endswith(" 10*0.0")


def test_a_zero_repulsion_is_zero():
    value, slope, curvature = repulsion_values(zero_repulsion(), np.linspace(0.01, 2.0, 50))
    assert not value.any()
    assert not slope.any()
    assert not curvature.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hamiltonian": np.full((12, 10), np.nan)}, "NaN"),
        ({"overlap": np.zeros((11, 10))}, "shape"),
        ({"extended": True}, "shape"),
        ({"hamiltonian": np.zeros((8, 10)), "overlap": np.zeros((8, 10))}, "at least 9"),
        ({"grid_step": 0.0}, "positive"),
        ({"documentation": "a\nSpline\nb"}, "must not hold"),
        ({"documentation": "a\n</Documentation>"}, "must not hold"),
        ({"on_site": OnSite(np.ones(4), np.ones(4), np.ones(4))}, "f shell"),
        ({"repulsion": SplineRepulsion(np.array([1.0, 1.0]), np.zeros((1, 6)), (1.0, 0.0, 0.0))}, "increase"),
        ({"repulsion": SplineRepulsion(np.array([1.0, 2.0]), np.zeros((2, 6)), (1.0, 0.0, 0.0))}, "knots"),
        ({"repulsion": SplineRepulsion(np.array([1.0, 2.0, 3.0]), np.ones((2, 6)), (1.0, 0.0, 0.0))}, "4th"),
        ({"repulsion": PolynomialRepulsion(np.zeros(8), 1.0)}, "polynomial"),
    ],
)
def test_what_cannot_be_written(changes, message):
    with pytest.raises(InputError, match=message):
        format_skf(sample(**changes))


def test_name_and_kind_must_agree(tmp_path):
    with pytest.raises(InputError, match="must not have on-site values"):
        write_skf(tmp_path / "C-O.skf", sample())
    with pytest.raises(InputError, match="needs on-site values"):
        write_skf(tmp_path / "C-C.skf", sample(on_site=None))
    with pytest.raises(InputError, match="cannot be written"):
        write_skf(tmp_path / "nowhere" / "C-C.skf", sample())
    assert not list(tmp_path.iterdir())
