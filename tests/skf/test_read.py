import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from dftbparam.errors import FileFormatError, InputError
from dftbparam.skf import (
    PolynomialRepulsion,
    SplineRepulsion,
    infer_max_angular,
    read_set,
    read_skf,
)
from dftbparam.skf.read import pair_of_name

ROW = " ".join(f"{0.1 * (k + 1):.1f}" for k in range(20))
ROWS = [ROW] * 11
ON_SITE = "0.1 -0.2 -0.4 0.0 0.11 0.22 0.33 0.0 2.0 2.0"
MASS = "28.0 19*0.0"
SPLINE = ["Spline", "2 3.0", "2.0 1.0 -0.5", "1.0 2.0 0.3 -0.2 0.1 0.0", "2.0 3.0 0.2 -0.1 0.05 0.0 0.0 0.0"]


def write(tmp_path, lines, name="Si-Si.skf", newline="\n"):
    path = tmp_path / name
    path.write_bytes(newline.join([*lines, ""]).encode())
    return path


def homo(rows=None, grid="0.1 12", on_site=ON_SITE, mass=MASS, tail=SPLINE):
    return [grid, on_site, mass, *(ROWS if rows is None else rows), *tail]


def refuse(path, line, *words, **keywords):
    with pytest.raises(FileFormatError) as caught:
        read_skf(path, **keywords)
    error = caught.value
    assert error.path == str(path)
    assert error.line == line
    assert f"{path}:{line}: " in str(error)
    for word in words:
        assert word in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_plain_homonuclear_file(tmp_path):
    file = read_skf(write(tmp_path, homo()))
    assert file.grid_step == 0.1
    assert file.hamiltonian.shape == file.overlap.shape == (11, 10)
    np.testing.assert_allclose(file.hamiltonian[3], 0.1 * np.arange(1, 11))
    np.testing.assert_allclose(file.overlap[3], 0.1 * np.arange(11, 21))
    # In memory by l, in the file d first.
    np.testing.assert_array_equal(file.on_site.energies, [-0.4, -0.2, 0.1, 0.0])
    np.testing.assert_array_equal(file.on_site.hubbard, [0.33, 0.22, 0.11, 0.0])
    np.testing.assert_array_equal(file.on_site.occupations, [2.0, 2.0, 0.0, 0.0])
    assert file.mass == 28.0
    assert isinstance(file.repulsion, SplineRepulsion)
    np.testing.assert_array_equal(file.repulsion.knots, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(file.repulsion.coefficients[0], [0.3, -0.2, 0.1, 0.0, 0.0, 0.0])
    assert file.repulsion.exponential == (2.0, 1.0, -0.5)
    assert not file.extended


@pytest.mark.parametrize(
    "row",
    [
        ROW.replace(" ", ","),
        ROW.replace(" ", ", ") + ",",
        ROW + " 99.0 surplus, NaN",
        ROW.replace("0.1 ", "1.0D-1 ", 1),
        ROW.replace("0.1 ", "1.0-1 ", 1),
        ROW.replace("0.1 ", "+.1 ", 1),
        ROW.replace("0.1 ", "\t1*0.1\t", 1),
    ],
)
def test_what_fortran_takes_is_taken(tmp_path, row):
    rows = [*ROWS[:5], row, *ROWS[6:]]
    file = read_skf(write(tmp_path, homo(rows)))
    np.testing.assert_allclose(file.hamiltonian[5], file.hamiltonian[4], rtol=1e-15)
    np.testing.assert_allclose(file.overlap[5], file.overlap[4], rtol=1e-15)


def test_a_slash_ends_a_row_and_leaves_zeros(tmp_path):
    file = read_skf(write(tmp_path, homo([*ROWS[:5], "0.1 0.2 / 0.3", *ROWS[6:]])))
    np.testing.assert_array_equal(file.hamiltonian[5], [0.1, 0.2, *[0.0] * 8])
    assert not file.overlap[5].any()
    np.testing.assert_allclose(file.hamiltonian[6, 9], 1.0)


def test_rows_may_be_wrapped_and_blank_lines_lie_between(tmp_path):
    values = ROW.split()
    wrapped = [" ".join(values[:7]), "  " + " ".join(values[7:])]
    file = read_skf(write(tmp_path, homo([*ROWS[:5], *wrapped, "", *ROWS[6:]])))
    np.testing.assert_array_equal(file.hamiltonian[5], file.hamiltonian[4])
    assert len(file.hamiltonian) == 11


@pytest.mark.parametrize("extra", [0, 1, 30])
def test_n_grid_minus_one_rows_are_used(tmp_path, extra):
    file = read_skf(write(tmp_path, homo(ROWS + [ROW] * extra)))
    assert len(file.hamiltonian) == 11


def test_line_ends_of_windows_and_latin_1(tmp_path):
    path = write(tmp_path, [*homo(), "<Documentation>", "by Kähler", "</Documentation>"], newline="\r\n")
    assert read_skf(path).documentation == "by Kähler"
    path.write_bytes(path.read_bytes().decode().encode("latin-1"))
    assert read_skf(path).documentation == "by Kähler"


def test_repeat_counts(tmp_path):
    file = read_skf(write(tmp_path, homo(["20*0.0,"] * 4 + ["5*0.5 5*0.25 10*0"] * 7)))
    assert not file.hamiltonian[3].any()
    np.testing.assert_array_equal(file.hamiltonian[4], [0.5] * 5 + [0.25] * 5)


def test_a_heteronuclear_file_has_no_on_site_line(tmp_path):
    path = write(tmp_path, ["0.1, 12", "20*0.0", *ROWS, *SPLINE], "Si-C.skf")
    file = read_skf(path)
    assert file.on_site is None
    assert file.mass == 0.0
    np.testing.assert_allclose(file.hamiltonian[0, 0], 0.1)


def test_an_extended_file(tmp_path):
    row = " ".join(str(k) for k in range(40))
    on_site = "-0.3 0.1 -0.2 -0.4 0.0 0.44 0.11 0.22 0.33 7 1 0 2"
    file = read_skf(write(tmp_path, ["@ f shells", "0.1 12", on_site, MASS, *[row] * 11, *SPLINE], "Eu-Eu.skf"))
    assert file.extended
    np.testing.assert_array_equal(file.overlap[0], np.arange(20, 40))
    np.testing.assert_array_equal(file.on_site.energies, [-0.4, -0.2, 0.1, -0.3])
    np.testing.assert_array_equal(file.on_site.occupations, [2, 0, 1, 7])


def test_a_polynomial_from_the_mass_line(tmp_path):
    mass = "28.0 0.1 0.2 6*0.0 3.5 10*0.0"
    file = read_skf(write(tmp_path, homo(mass=mass, tail=[])))
    assert isinstance(file.repulsion, PolynomialRepulsion)
    np.testing.assert_array_equal(file.repulsion.coefficients, [0.1, 0.2, *[0.0] * 6])
    assert file.repulsion.cutoff == 3.5
    assert isinstance(read_skf(write(tmp_path, homo(mass=mass))).repulsion, SplineRepulsion)
    assert read_skf(write(tmp_path, homo(tail=[]))).repulsion is None
    assert read_skf(write(tmp_path, homo(mass="28.0 /", tail=[]))).repulsion is None


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("Si-C.skf", ("Si", "C")),
        ("SiC.skf", ("Si", "C")),
        ("CC.skf", ("C", "C")),
        ("CO.skf", ("C", "O")),
        ("Si_C.skf", ("Si", "C")),
        ("Ga1-As.skf", ("Ga1", "As")),
        ("h-h.skf", ("h", "h")),
        ("table.skf", None),
    ],
)
def test_pairs_from_names(name, pair):
    assert pair_of_name(Path("some.folder") / name) == pair


def test_a_name_that_says_nothing(tmp_path):
    assert read_skf(write(tmp_path, homo(), "table.skf")).on_site is not None
    assert read_skf(write(tmp_path, ["0.1 12", "20*0.0", *ROWS, *SPLINE], "table.skf")).on_site is None


def test_kind_and_name_contradict(tmp_path):
    refuse(write(tmp_path, ["0.1 12", "20*0.0", *ROWS, *SPLINE]), 2, "is the file heteronuclear")
    path = write(tmp_path, homo(), "Si-C.skf")
    refuse(path, 2, "is the file homonuclear")
    assert read_skf(path, heteronuclear=False).on_site is not None


@pytest.mark.parametrize(
    "bad", ["NaN", "nan", "inf", "-Infinity", "1e999", "1_0", "0x10", "abc", "1.0.0", "1*", "0*1.0"]
)
def test_a_bad_number_in_the_table(tmp_path, bad):
    refuse(write(tmp_path, homo([*ROWS[:5], ROW.replace("0.3", bad), *ROWS[6:]])), 9, bad)


def test_a_row_one_number_short(tmp_path):
    short = " ".join(ROW.split()[:-1])
    refuse(write(tmp_path, homo([*ROWS[:5], short, *ROWS[6:]])), 9, "19 values", "20 are needed")


def test_an_empty_value(tmp_path):
    refuse(write(tmp_path, homo([*ROWS[:5], ROW.replace("0.3 ", ",,"), *ROWS[6:]])), 9, "empty value")


@pytest.mark.parametrize("grid", ["0.0 12", "-0.1 12"])
def test_a_bad_grid_step(tmp_path, grid):
    refuse(write(tmp_path, homo(grid=grid)), 1, "grid step")


@pytest.mark.parametrize("n", ["9", "0", "-500"])
def test_too_few_rows_asked_for(tmp_path, n):
    refuse(write(tmp_path, homo(grid=f"0.1 {n}")), 1, f"nGrid = {n}", "at least nGrid = 10")


def test_a_grid_number_that_is_none(tmp_path):
    refuse(write(tmp_path, homo(grid="0.1 12.0")), 1, "not an integer")


def test_truncated_files(tmp_path):
    refuse(write(tmp_path, homo(ROWS[:6], tail=[])), 9, "6 rows", "the file ends", "11 rows")
    refuse(write(tmp_path, homo(ROWS[:6])), 10, "6 rows", "'Spline' follows")
    refuse(write(tmp_path, homo(tail=SPLINE[:-1])), 18, "the file ends within spline interval 2")
    refuse(write(tmp_path, ["0.1 12"]), 1, "the file ends")
    refuse(write(tmp_path, homo([*ROWS[:-1], "0.1 0.2"], tail=[])), 14, "file ends")
    path = tmp_path / "C-C.skf"
    path.write_text("")
    refuse(path, 1, "empty")


@pytest.mark.parametrize(
    ("index", "text", "line", "word"),
    [
        (1, "0 3.0", 16, "number of spline intervals"),
        (1, "3 3.0", 19, "spline interval 3"),
        (1, "1 3.0", 18, "6 values"),
        (2, "2.0 NaN 0.0", 17, "NaN"),
        (3, "1.0 1.9 0.3 -0.2 0.1 0.0", 19, "gap"),
        (3, "2.0 2.0 0.3 -0.2 0.1 0.0", 18, "knots must increase"),
        (4, "2.0 3.0 0.2 -0.1 0.05 0.0", 19, "6 of 8"),
        (0, " Spline", 15, "column 1"),
        (0, "spline", 15, "column 1"),
    ],
)
def test_bad_splines(tmp_path, index, text, line, word):
    tail = [*SPLINE]
    tail[index] = text
    if word == "spline interval 3":
        tail[-1] = "2.0 3.0 0.2 -0.1 0.05 0.0"
    refuse(write(tmp_path, homo(tail=tail)), line, word)


def test_a_short_mass_line_would_eat_the_table(tmp_path):
    refuse(write(tmp_path, homo(mass="28.0 18*0.0")), 3, "the mass line has 19 values")


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such Slater-Koster file"):
        read_skf(tmp_path / "C-C.skf")
    with pytest.raises(InputError, match="cannot be read"):
        read_skf(tmp_path)


def make_set(tmp_path, names):
    for name in names:
        a, b = pair_of_name(name)
        write(tmp_path, homo() if a == b else ["0.1 12", "20*0.0", *ROWS, *SPLINE], name)
    return tmp_path


def test_a_set(tmp_path):
    make_set(tmp_path, ["Si-Si.skf", "CC.skf", "C-Si.skf", "SiC.skf", "O-O.skf"])
    (tmp_path / "notes.txt").write_text("not a table")
    with pytest.raises(InputError, match=r"missing C-O\.skf, O-C\.skf, O-Si\.skf, Si-O\.skf"):
        read_set(tmp_path)
    tables = read_set(tmp_path, ["Si", "C"], max_angular={"C": 1})
    assert set(tables.files) == {("Si", "Si"), ("Si", "C"), ("C", "Si"), ("C", "C")}
    assert tables.max_angular == {"Si": 2, "C": 1}
    with pytest.raises(InputError, match=r"missing Ge-Ge\.skf"):
        read_set(tmp_path, ["Ge"])
    with pytest.raises(InputError, match="no such directory"):
        read_set(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no homonuclear"):
        read_set(tmp_path / "empty")


def test_highest_angular_momentum(tmp_path):
    # Columns: dd0-2 pd0-1 pp0-1 sd sp ss. Placeholders of ones first, as in mio.
    sp = ["20*1.0", *["5*0 0.1 0.2 0 0.3 0.4 5*0 0.1 0.2 0 0.3 0.4"] * 10]
    assert infer_max_angular(read_skf(write(tmp_path, homo(sp)))) == 1
    s = ["9*0 0.4 9*0 0.4"] * 11
    on_site = "0 0 -0.24 0 0.3 0.4 0.4 0 0 1"
    assert infer_max_angular(read_skf(write(tmp_path, homo(s, on_site=on_site)))) == 0
    # d integrals, but a d shell without energy, U or electrons: a leftover.
    on_site = "0.0 -0.2 -0.4 0.0 0.0 0.22 0.33 0.0 2.0 2.0"
    assert infer_max_angular(read_skf(write(tmp_path, homo(on_site=on_site)))) == 1
    hetero = write(tmp_path, ["0.1 12", "20*0.0", *ROWS, *SPLINE], "Si-C.skf")
    with pytest.raises(InputError, match="homonuclear"):
        infer_max_angular(read_skf(hetero))


def test_a_usual_file_takes_milliseconds(tmp_path):
    rng = np.random.default_rng(0)
    rows = [" ".join(f"{x:.12e}" for x in row) for row in rng.normal(size=(701, 20))]
    path = write(tmp_path, homo(rows, grid="0.02 701"))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        read_skf(path)
        times.append(time.perf_counter() - start)
    # About 4 ms; the bound leaves room for a busy machine.
    assert min(times) < 0.05
