"""Known parameters as points of whatever space is searched."""

import numpy as np
import pytest

from dftbparam.elements import all_symbols, element
from dftbparam.slako.atom import confining_potential
from dftbparam.space import Confinement, ElementParameters, RepulsionParameters, load_parameter_set
from dftbparam.space.build import build_space
from dftbparam.space.definition import load_space, space_names
from dftbparam.space.definition_file import read_definition
from dftbparam.space.element_space import element_parameters, element_space, starting_points
from dftbparam.space.starts import (
    Start,
    default_starts,
    group_neighbours,
    period_neighbours,
    start_from_record,
)

SILICON = ("3s", "3p", "3d")


def start(radii=(3.0, 4.0, 6.0), power=2.0, density=8.0, **more):
    shells = {nl: Confinement(radius=r, power=power) for nl, r in zip(SILICON, radii, strict=True)}
    return Start("test", shells, Confinement(radius=density, power=power), **more)


def space(text, symbol="Si"):
    return build_space(symbol, read_definition('format = 1\nname = "test"\n' + text, "test.toml"))


@pytest.mark.parametrize("name", space_names())
def test_default_starts_lie_in_every_shipped_space(name):
    definition = load_space(name)
    for symbol in all_symbols():
        found = build_space(symbol, definition)
        for one in default_starts(symbol):
            values, _ = one.in_space(found)
            assert tuple(values) == found.space.names
            for parameter in found.space.parameters:
                parameter.check(values[parameter.name])


def test_the_first_start_is_the_published_record():
    values, moved = default_starts("Si")[0].in_space(build_space("Si", load_space("default")))
    assert moved == []
    assert values == starting_points("Si", element_space("Si"))[0]
    assert element_parameters("Si", values).shells == load_parameter_set("ptbp").element("Si").shells


def test_a_record_goes_there_and_back():
    found = build_space("Si", load_space("shells"))
    values, moved = start(power=3.0, shifts={"3d": 0.1}).in_space(found)
    assert moved == []
    record = element_parameters("Si", values, free_levels={"3s": -0.4, "3p": -0.2, "3d": 0.3})
    again = start_from_record("Si", record, "again", {"3s": -0.4, "3p": -0.2, "3d": 0.3})
    assert again.in_space(found)[0] == pytest.approx(values)


def test_what_lies_outside_is_moved_in_and_said():
    found = space('[shell_radius]\nrange = [3.5, 5.0]\n[power]\nrange = [2, 4]\nkind = "integer"\n')
    values, moved = start(power=2.6).in_space(found)
    assert values == {"radius_3s": 3.5, "radius_3p": 4.0, "radius_3d": 5.0, "power": 3}
    assert moved == ["radius_3s = 3 Bohr to 3.5", "radius_3d = 6 Bohr to 5", "power = 2.6 to 3"]


def test_a_shared_radius_is_the_geometric_mean():
    found = space('[shell_radius]\nper = "element"\nrange = [1.0, 20.0]\n')
    assert start((2.0, 4.0, 8.0)).in_space(found)[0]["radius"] == pytest.approx(4.0)
    assert start((3.65, 3.65, 3.65)).in_space(found)[0]["radius"] == 3.65


@pytest.mark.parametrize("power", [2.0, 6.0])
def test_a_wall_meets_the_power_at_half_its_height(power):
    found = space(
        'confinement = "woods-saxon"\nheight = 4.0\n[shell_radius]\nrange = [1.0, 20.0]\n'
        '[density_radius]\nrange = [1.0, 30.0]\n[steepness]\nper = "shell"\nrange = [0.01, 50.0]\n'
    )
    given = start(power=power)
    record = element_parameters("Si", found.complete(given.in_space(found)[0]))
    for nl in SILICON:
        wall, parabola = record.shells[nl], given.shells[nl]
        assert wall.kind == "woods-saxon"
        r = wall.radius + np.array([-1e-4, 0.0, 1e-4])
        v, w = confining_potential(wall, r), confining_potential(parabola, r)
        assert (v[1], w[1]) == (pytest.approx(2.0), pytest.approx(2.0))
        assert v[2] - v[0] == pytest.approx(w[2] - w[0], rel=1e-6)
    # And back.
    back = start_from_record("Si", record, "back").in_space(build_space("Si", load_space("shells")))[0]
    assert back["radius_3s"] == pytest.approx(given.shells["3s"].radius)
    assert back["power_3d"] == pytest.approx(power)


def test_the_form_of_the_start_is_taken_where_both_are_searched():
    text = '[confinement]\nchoices = ["woods-saxon", "power"]\n[shell_radius]\nrange = [1.0, 20.0]\n'
    values, _ = start().in_space(space(text))
    assert (values["confinement"], values["radius_3s"]) == ("power", 3.0)


def test_repulsion_of_the_element_is_taken_over():
    definition = read_definition(
        'format = 1\nname = "test"\n[repulsion.length]\nrange = "element"\nscale = "log"\n', "test.toml"
    )
    from dftbparam.repulsion.forms import get_form

    atom = element("Si")
    found = build_space("Si", definition, get_form("screened-power").parameters(14, atom.covalent_radius))
    given = RepulsionParameters(form="screened-power", values={"length": 1.25, "charge": 9.0, "exponent": 2.0})
    assert start(repulsion=given).in_space(found)[0]["repulsion_length"] == 1.25
    middle = start().in_space(found)[0]["repulsion_length"]
    assert found.space.to_unit({"repulsion_length": middle})[0] == pytest.approx(0.5)


def test_another_element_is_scaled_by_covalent_radii():
    germanium = load_parameter_set("ptbp").element("Ge")
    ratio = element("Si").covalent_radius / element("Ge").covalent_radius
    found = start_from_record("Si", germanium, "Ge of ptbp")
    assert tuple(found.shells) == SILICON
    assert found.shells["3d"].radius == pytest.approx(germanium.shells["4d"].radius * ratio)
    assert found.density.radius == pytest.approx(germanium.density.radius * ratio)
    assert found.repulsion is None
    # Carbon has no d shell: the default radius stands in.
    carbon = start_from_record("Si", load_parameter_set("ptbp").element("C"), "C of ptbp")
    assert carbon.shells["3d"].radius == element("Si").default_shell_radius


def test_walls_of_another_element_are_scaled():
    wall = Confinement(kind="woods-saxon", radius=6.0, height=4.0, steepness=2.0)
    atom = element("Ge")
    record = ElementParameters(
        symbol="Ge", configuration=atom.configuration_text, shells={"4s": wall, "4p": wall, "4d": wall}, density=wall
    )
    ratio = element("Si").covalent_radius / atom.covalent_radius
    scaled = start_from_record("Si", record, "Ge").shells["3s"]
    assert (scaled.radius, scaled.height, scaled.steepness) == (
        pytest.approx(6.0 * ratio),
        4.0,
        pytest.approx(2.0 / ratio),
    )


def test_neighbours():
    known = load_parameter_set("ptbp").elements
    assert group_neighbours("Si", known)[:3] == ["C", "Ge", "Sn"]
    assert period_neighbours("Si", known)[:4] == ["Al", "P", "Mg", "S"]
    assert group_neighbours("Ce", known) == []
    assert period_neighbours("Ce", known)[0] == "La"
    assert "Si" not in group_neighbours("Si", known)
