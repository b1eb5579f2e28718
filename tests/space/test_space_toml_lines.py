"""Lines of places in TOML files."""

import pytest

from dftbparam.space.toml_lines import line_of

TEXT = '# a = 0\na = 1 # b.c = 9\n[b] # [x]\nc = 2\n[b."d"]\n  e=3\nf.g = 4\n[[h]]\ni = 5\n'


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("a",), 2),
        (("b", "c"), 4),
        (("b", "d", "e"), 6),
        (("b", "d", "f", "g"), 7),
        (("b", "d", "missing"), 5),
        (("h", "i"), 9),
        (("missing",), None),
        (("x",), None),
        (("",), None),
    ],
)
def test_lines(place, line):
    assert line_of(TEXT, place) == line
