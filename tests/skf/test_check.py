import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dftbparam.errors import InputError
from dftbparam.repulsion import get_form, to_spline
from dftbparam.skf import (
    OnSite,
    PolynomialRepulsion,
    SKFile,
    SplineRepulsion,
    check_file,
    check_set,
    read_skf,
    write_skf,
)

R = 0.05 * np.arange(1, 241)[:, None]
SPLINE = to_spline(
    get_form("screened-power").homonuclear({"charge": 3.0, "length": 0.8, "exponent": 1.8}, number=6, radius=1.4)
)


def good(**changes):
    decay = np.exp(-0.5 * R**1.3)
    values = {
        "grid_step": 0.05,
        "hamiltonian": -0.3 * decay * np.ones(10),
        "overlap": 0.9 * decay * np.ones(10),
        "on_site": OnSite(np.array([-0.5, -0.2, 0.1, 0]), np.array([0.4, 0.4, 0.3, 0]), np.array([2.0, 2.0, 0, 0])),
        "mass": 12.0,
        "repulsion": SPLINE,
    }
    return SKFile(**(values | changes))


def codes(file, severity=None):
    return [d.code for d in check_file(file) if severity in (None, d.severity)]


def test_nothing_to_say_about_a_good_file(tmp_path):
    assert check_file(good()) == []
    write_skf(tmp_path / "C-C.skf", good())
    assert check_set(tmp_path) == []
    assert check_file(tmp_path / "C-C.skf") == []


def spoiled(array, index, value):
    out = array.copy()
    out[index] = value
    return out


def site(**changes):
    return dataclasses.replace(good().on_site, **changes)


def spline(**changes):
    return dataclasses.replace(SPLINE, **changes)


@pytest.mark.parametrize(
    ("changes", "severity", "code"),
    [
        ({"hamiltonian": spoiled(good().hamiltonian, (100, 3), np.nan)}, "error", "not-finite"),
        ({"hamiltonian": spoiled(good().hamiltonian, (100, 3), 0.4)}, "warning", "table-spike"),
        ({"hamiltonian": np.zeros((240, 10)), "overlap": np.zeros((240, 10))}, "error", "table-empty"),
        ({"hamiltonian": good().hamiltonian[:80], "overlap": good().overlap[:80]}, "warning", "table-end"),
        ({"overlap": 1.3 * good().overlap}, "error", "overlap-range"),
        ({"on_site": site(occupations=np.array([2.5, 2, 0, 0]))}, "error", "on-site-occupation"),
        ({"on_site": site(occupations=np.array([-1.0, 2, 0, 0]))}, "error", "on-site-occupation"),
        ({"on_site": site(occupations=np.zeros(4))}, "error", "on-site-occupation"),
        ({"on_site": site(hubbard=np.array([0.4, 0.0, 0.3, 0]))}, "error", "on-site-hubbard"),
        ({"on_site": site(hubbard=np.array([0.4, 0.4, -2.5, 0]))}, "warning", "on-site-hubbard"),
        ({"on_site": site(energies=np.array([-13.6, -0.2, 0, 0]))}, "warning", "on-site-energy"),
        ({"on_site": site(energies=np.array([-0.2, -0.5, 0, 0]))}, "warning", "on-site-energy"),
        ({"repulsion": None}, "warning", "repulsion-missing"),
        ({"repulsion": spline(exponential=(2.0, 9.0, 0.0))}, "error", "repulsion-jump"),
        ({"repulsion": spline(exponential=(-80.0, 0.0, 0.0))}, "error", "repulsion-head"),
        ({"repulsion": spline(exponential=(3000.0, 2500.0, 0.0))}, "error", "repulsion-overflow"),
        (
            {"repulsion": spline(coefficients=spoiled(SPLINE.coefficients, (5, 0), SPLINE.coefficients[5, 0] + 2e-5))},
            "warning",
            "repulsion-jump",
        ),
        ({"repulsion": PolynomialRepulsion(np.array([-0.1, *[0.0] * 7]), 3.0)}, "warning", "repulsion-attractive"),
        ({"repulsion": PolynomialRepulsion(np.array([-0.1, *[0.0] * 7]), 3.0)}, "warning", "repulsion-not-monotonic"),
        (
            {"repulsion": PolynomialRepulsion(np.array([0.1, *[0.0] * 7]), 20.0)},
            "warning",
            "repulsion-longer-than-table",
        ),
    ],
)
def test_each_defect_is_found(changes, severity, code):
    found = check_file(good(**changes))
    assert (severity, code) in [(d.severity, d.code) for d in found]
    assert code in str(found[0]) or len(found) > 1


def test_an_occupied_shell_without_integrals():
    ham, over = good().hamiltonian.copy(), good().overlap.copy()
    ham[:, 5:7] = over[:, 5:7] = 0.0
    assert codes(good(hamiltonian=ham, overlap=over), "error") == ["shell-without-data"]


def test_what_only_the_file_tells(tmp_path):
    path = tmp_path / "C-C.skf"
    write_skf(path, good())
    lines = path.read_text().split("\n")
    path.write_text("\n".join(["0.05 100", *lines[1:]]))
    assert "unused-rows" in codes(path)
    head = lines.index("Spline") + 1
    path.write_text("\n".join([*lines[:head], f"{lines[head].split()[0]} 99.0", *lines[head + 1 :]]))
    assert codes(path) == ["spline-cutoff"]
    path.write_text("\n".join([*lines, "RangeSep", "LC 0.3", ""]))
    assert codes(path) == ["range-separated"]
    path.write_text("\n".join([*lines[:50], "NaN " + lines[50], *lines[51:]]))
    (defect,) = check_file(path)
    assert (defect.severity, defect.code, defect.path) == ("error", "format", str(path))
    assert "line 51" in defect.message
    assert codes(tmp_path / "O-O.skf") == ["format"]


def hetero(**changes):
    return good(**({"on_site": None} | changes))


def make_set(folder, **changes):
    for a in "CO":
        write_skf(folder / f"{a}-{a}.skf", good())
    write_skf(folder / "C-O.skf", hetero())
    write_skf(folder / "O-C.skf", hetero(**changes))
    return check_set(folder)


def test_a_sound_set(tmp_path):
    assert make_set(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "severity", "code"),
    [
        ({"hamiltonian": good().hamiltonian[:-1], "overlap": good().overlap[:-1]}, "error", "grid-mismatch"),
        ({"grid_step": 0.0501}, "error", "grid-mismatch"),
        ({"hamiltonian": 1.01 * good().hamiltonian}, "warning", "symmetry-mismatch"),
        ({"repulsion": spline(coefficients=SPLINE.coefficients + np.eye(1, 6) * 1e-7)}, "error", "repulsion-mismatch"),
        ({"repulsion": PolynomialRepulsion(np.array([0.1, *[0.0] * 7]), 3.0)}, "error", "repulsion-mismatch"),
    ],
)
def test_partners_that_do_not_fit(tmp_path, changes, severity, code):
    assert (severity, code) in [(d.severity, d.code) for d in make_set(tmp_path, **changes)]


def test_partners_missing(tmp_path):
    make_set(tmp_path)
    (tmp_path / "O-C.skf").unlink()
    assert [(d.severity, d.code) for d in check_set(tmp_path)] == [("error", "partner-missing")]
    (tmp_path / "C-O.skf").unlink()
    assert [(d.severity, d.code) for d in check_set(tmp_path)] == [("warning", "partner-missing")]
    for path in tmp_path.iterdir():
        path.unlink()
    assert [d.severity for d in check_set(tmp_path)] == ["error"]
    with pytest.raises(InputError, match="no such directory"):
        check_set(tmp_path / "nowhere")


def test_a_jump_like_those_that_have_been_published(tmp_path):
    # 3ob 3-1 Cl-P: a1 and a2 with the wrong sign.
    head = SplineRepulsion(SPLINE.knots, SPLINE.coefficients, (-2.033, 1.0, 0.0))
    write_skf(tmp_path / "C-C.skf", good(repulsion=head))
    assert {d.code for d in check_set(tmp_path) if d.severity == "error"} == {"repulsion-jump", "repulsion-head"}


def test_golden_files_are_clean_but_for_what_they_lack():
    folder = Path(__file__).parents[1] / "golden" / "skf"
    assert not [d for d in check_file(read_skf(folder / "Si-Si.skf")) if d.code.startswith("repulsion")]
