import csv
import json
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from dftbparam.elements import parse_configuration
from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.space import Confinement, ElementParameters, ParameterSet, RepulsionParameters, load_parameter_set
from dftbparam.space.parameter_set import PUBLISHED

FREE_ATOMS = Path(__file__).parents[1] / "golden" / "ptbp_free_atoms.csv"


@pytest.fixture(scope="module")
def ptbp():
    return load_parameter_set("ptbp")


def test_published_set(ptbp):
    assert len(ptbp.elements) == 75
    assert (ptbp.functional, ptbp.superposition, ptbp.doi) == ("PBE", "density", "10.1021/acs.jctc.4c00228")
    silicon = ptbp.element("Si")
    assert silicon.configuration == "[Ne] 3s2 3p2 3d0"
    assert silicon.shells == dict.fromkeys(("3s", "3p", "3d"), Confinement(kind="power", radius=3.65, power=2.0))
    assert silicon.density == Confinement(kind="power", radius=7.038, power=2.0)
    assert silicon.repulsion == RepulsionParameters(form="screened-nuclear", values={"sigma": 0.52264063})
    assert silicon.max_angular == 2


def test_published_set_is_of_one_kind(ptbp):
    for parameters in ptbp.elements.values():
        assert len(set(parameters.shells.values())) == 1  # one radius for all shells
        assert all(c.kind == "power" and c.power == 2.0 for c in (*parameters.shells.values(), parameters.density))
        assert parameters.repulsion.form == "screened-nuclear"
        assert set(parameters.repulsion.values) == {"sigma"}
        assert set(parameters.shells) <= set(parse_configuration(parameters.configuration))
        assert [shell[1] for shell in parameters.shells] == list("spdf")[: len(parameters.shells)]


def test_golden_free_atoms_belong_to_the_published_set(ptbp):
    lines = [line for line in FREE_ATOMS.read_text().splitlines() if not line.startswith("#")]
    rows = {row["symbol"]: row for row in csv.DictReader(lines)}
    assert set(rows) == set(ptbp.elements)
    for symbol, row in rows.items():
        parameters = ptbp.element(symbol)
        assert row["configuration"] == parameters.configuration
        given = {letter for letter in "spd" if row[f"E{letter}"]}
        assert given == {letter for letter in "spd" if row[f"U{letter}"]}
        assert given == {shell[1] for shell in parameters.shells}


def test_missing_element_lists_what_there_is(ptbp):
    with pytest.raises(ParameterError, match="no element 'Ce'; it has: Ag Al"):
        ptbp.element("Ce")


def test_save_and_load(ptbp, tmp_path):
    path = tmp_path / "mine.json"
    ptbp.save(path)
    assert load_parameter_set(path) == ptbp
    assert load_parameter_set(str(path)) == ptbp
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]


def test_unknown_name_lists_the_shipped():
    with pytest.raises(ParameterError, match=r"shipped: dftbparam-2026\.1, ptbp"):
        load_parameter_set("pbtp")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("name"), "name: Field required"),
        (lambda d: d["elements"]["Si"]["density"].update(radius=-1.0), r"elements\.Si\.density\.radius"),
        (lambda d: d["elements"]["Si"].update(shells={}), "at least one valence shell"),
        (lambda d: d["elements"]["Si"].update(shells={"3x": {"radius": 3.0}}), "must be named like '3s'"),
        (lambda d: d["elements"].update(C=d["elements"]["Si"]), "element 'C' holds the parameters of 'Si'"),
        (lambda d: d["elements"]["Si"].update(symbol="C"), r"elements\.Si: configuration .* 14 electrons, but C has 6"),
        (lambda d: d["elements"]["Si"].update(symbol="si"), r"elements\.Si: unknown element 'si'; did you mean Si"),
        (lambda d: d["elements"]["Si"].update(configuration="[Ne] 3s2 3p1 3d0"), "13 electrons, but Si has 14"),
        (lambda d: d["elements"]["Si"].update(configuration="[Ne] 3s2 3p2"), "shell '3d' is not in .*as 3d0"),
        (lambda d: d["elements"]["Si"].update(configuration="[Ne] 3s9 3p2"), "3s holds at most 2 electrons"),
        (lambda d: d["elements"]["Si"].update(on_site={"4s": 0.1}), "on_site names the shell '4s'.*3s, 3p, 3d"),
        (lambda d: d.update(colour="red"), "colour: Extra inputs"),
    ],
)
def test_malformed_file(ptbp, tmp_path, change, reason):
    data = json.loads(ptbp.model_dump_json())
    change(data)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match=reason) as caught:
        load_parameter_set(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_records_are_checked_when_made_in_python():
    shells = {"3s": Confinement(radius=3.0)}
    with pytest.raises(ValidationError, match="10 electrons, but Si has 14"):
        ElementParameters(symbol="Si", configuration="[Ne]", shells=shells, density=Confinement(radius=7.0))
    fractional = "[Ne] 3s1.5 3p2.5 3d0"
    record = ElementParameters(symbol="Si", configuration=fractional, shells=shells, density=Confinement(radius=7.0))
    assert record.configuration == fractional


def test_not_json(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('{\n "name": oops\n}')
    with pytest.raises(FileFormatError, match=r"bad\.json:2: not JSON"):
        load_parameter_set(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        load_parameter_set(path)


def test_element_with_f_shell():
    element = ElementParameters(
        symbol="Ce",
        configuration="[Xe] 4f1 5d1 6s2 6p0",
        shells={"6s": Confinement(radius=5.0), "4f": Confinement(radius=3.0)},
        density=Confinement(radius=9.0),
    )
    assert element.max_angular == 3
    assert ParameterSet(name="f", elements={"Ce": element}).element("Ce") is element


def test_the_published_set_is_there_by_name():
    ours = load_parameter_set("dftbparam-2026.1")
    assert len(ours.elements) > 90
    assert ours.name == "dftbparam-2026.1"


def test_the_published_set_is_in_wheel_and_source_distribution():
    root = Path(__file__).resolve().parents[2]
    hatch = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    for name in PUBLISHED:
        file = f"skf_out/{name}/parameters.json"
        assert (root / file).is_file()
        assert hatch["wheel"]["force-include"][file] == f"dftbparam/space/data/{name}.json"
        assert f"/{file}" in hatch["sdist"]["include"]
