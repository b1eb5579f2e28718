"""Search spaces as files: what ships, what a user may write, and what is refused."""

import json
from pathlib import Path

import pytest

from dftbparam.elements import all_symbols, element
from dftbparam.errors import ElementError, FileFormatError, ParameterError
from dftbparam.repulsion.forms import get_form
from dftbparam.space import Parameter, Prior
from dftbparam.space.build import build_space
from dftbparam.space.definition import ROLES, load_space, space_names
from dftbparam.space.definition_file import read_definition
from dftbparam.space.element_space import element_parameters, element_space

HEAD = 'format = 1\nname = "mine"\n'


def space_of(text, symbol="Si", form="screened-power"):
    atom = element(symbol)
    parameters = get_form(form).parameters(atom.number, atom.covalent_radius)
    return build_space(symbol, read_definition(HEAD + text, "mine.toml"), parameters)


def by_name(space):
    return {p.name: p for p in space.space.parameters}


def test_shipped_spaces():
    assert space_names() == ("default", "ptbp", "radii", "shells", "woods-saxon")
    for name in space_names():
        definition = load_space(name)
        assert definition.name == name
        assert definition.description


@pytest.mark.parametrize("name", ["default", "ptbp", "radii", "shells", "woods-saxon"])
def test_shipped_spaces_fit_every_element(name):
    definition = load_space(name)
    for symbol in all_symbols():
        space = build_space(symbol, definition)
        for x in (0.0, 0.5, 1.0):
            values = space.complete(space.space.from_unit([x] * len(space.space)))
            record = element_parameters(symbol, values, free_levels=dict.fromkeys(element(symbol).valence, 0.0))
            kinds = {c.kind for c in (*record.shells.values(), record.density)}
            assert kinds == {"woods-saxon" if name == "woods-saxon" else "power"}


def test_dimensions_of_the_shipped_spaces():
    def names(name, symbol="Si"):
        return build_space(symbol, load_space(name)).space.names

    radii = ("radius_3s", "radius_3p", "radius_3d", "radius_density")
    assert names("default") == (*radii, "power", "shift_3d") == element_space("Si").names
    assert names("radii") == radii
    assert names("shells") == (*radii, "power_3s", "power_3p", "power_3d", "power_density", "shift_3d")
    assert names("woods-saxon") == (*radii, "height", "steepness", "shift_3d")
    assert names("ptbp") == ("radius", "radius_density")
    assert names("woods-saxon", "C") == ("radius_2s", "radius_2p", "radius_density", "height", "steepness")


def test_the_shipped_default_is_what_it_always_was():
    for symbol in ("H", "C", "Si", "W", "Ce"):
        atom = element(symbol)
        shells = tuple(Parameter(f"radius_{nl}", *atom.shell_radius_range, "log", "Bohr") for nl in atom.valence)
        space = build_space(symbol, load_space("default"))
        assert space.fixed == {}
        assert space.space.parameters[: len(shells)] == shells
        assert by_name(space)["power"] == Parameter("power", 1.5, 10.0, "log")
    assert by_name(build_space("Si", load_space("default")))["shift_3d"] == Parameter(
        "shift_3d", -0.10, 0.30, unit="Hartree"
    )


def test_fixed_values():
    fixed = load_space("default").fix("power", 2.0).fix("shift", 0.0)
    space = build_space("Si", fixed)
    assert space.space.names == ("radius_3s", "radius_3p", "radius_3d", "radius_density")
    # What is at its default was never said: runs that were begun before there were spaces go on.
    assert space.fixed == {}
    assert build_space("Si", load_space("default").fix("power", 4.0)).fixed == {"power": 4.0}


def test_a_wall_per_shell_and_a_parabola_for_the_density():
    space = space_of(
        """
        confinement = "woods-saxon"
        density_confinement = "power"
        density_radius = "element"
        density_power = 3.0
        height = 4.0
        [shell_radius]
        range = ["1 r_cov", "5 r_cov"]
        scale = "log"
        [steepness]
        per = "shell"
        range = ["1 / r_cov", "8 / r_cov"]
        [steepness.d]
        fixed = 1.5
        """
    )
    radius = element("Si").covalent_radius
    assert space.space.names == ("radius_3s", "radius_3p", "radius_3d", "steepness_3s", "steepness_3p")
    assert by_name(space)["radius_3s"].high == pytest.approx(5 * radius)
    assert by_name(space)["steepness_3s"].low == pytest.approx(1 / radius)
    record = element_parameters("Si", space.complete(space.space.from_unit([0.5] * 5)))
    assert {nl: c.kind for nl, c in record.shells.items()} == dict.fromkeys(("3s", "3p", "3d"), "woods-saxon")
    assert (record.shells["3d"].steepness, record.shells["3s"].height) == (1.5, 4.0)
    assert (record.density.kind, record.density.power) == ("power", 3.0)
    assert record.density.radius == element("Si").default_density_radius


def test_one_radius_for_all_but_the_d_shell():
    space = space_of('[shell_radius]\nper = "element"\nrange = "element"\n[shell_radius.d]\nrange = [3.0, 9.0]\n')
    assert space.space.names == ("radius", "radius_3d")
    assert space.fixed == {"radius_density": element("Si").default_density_radius}
    record = element_parameters("Si", space.complete({"radius": 3.0, "radius_3d": 7.0}))
    assert {nl: c.radius for nl, c in record.shells.items()} == {"3s": 3.0, "3p": 3.0, "3d": 7.0}
    # The density's radius is its own.
    with pytest.raises(ParameterError, match="miss radius_density"):
        element_parameters("Si", {"radius": 3.0})


def test_a_density_takes_the_shared_power_unless_it_has_its_own():
    shared = space_of("[power]\nrange = [2.0, 8.0]\n")
    assert element_parameters("Si", shared.complete({"power": 5.0})).density.power == 5.0
    own = space_of("density_power = 2.0\n[power]\nrange = [2.0, 8.0]\n")
    assert element_parameters("Si", own.complete({"power": 5.0})).density.power == 2.0
    apart = space_of("[power.s]\nrange = [2.0, 8.0]\n[power.p]\nrange = [2.0, 8.0]\n[power.d]\nrange = [2.0, 8.0]\n")
    assert apart.space.names == ("power_3s", "power_3p", "power_3d")
    assert element_parameters("Si", apart.complete(dict.fromkeys(apart.space.names, 6.0))).density.power == 2.0


def test_kinds_and_priors():
    space = space_of(
        """
        [confinement]
        choices = ["power", "woods-saxon"]
        [shell_radius]
        range = "element"
        scale = "log"
        prior = { centre = "element", width = 1.5 }
        [density_radius]
        range = ["2 r_cov", "9 r_cov"]
        prior = { centre = "3 r_cov", width = 0.5 }
        [power]
        range = [2, 8]
        kind = "integer"
        [height]
        choices = [2.0, 5.0, 20.0]
        """
    )
    atom, found = element("Si"), by_name(space)
    assert found["confinement"].choices == ("power", "woods-saxon")
    assert found["radius_3p"].prior == Prior(atom.default_shell_radius, 1.5)
    # On a linear scale the width is measured as the centre is.
    assert found["radius_density"].prior == Prior(3 * atom.covalent_radius, 0.5 * atom.covalent_radius)
    assert (found["power"].kind, found["power"].values) == ("integer", tuple(range(2, 9)))
    assert found["height"].choices == (2.0, 5.0, 20.0)
    json.dumps(space.space.settings())
    values = space.complete(space.space.from_unit([0.9] * len(space.space)))
    record = element_parameters("Si", values)
    assert (record.density.kind, record.density.height) == ("woods-saxon", 20.0)


def test_repulsion_searched_outside():
    space = space_of('[repulsion.length]\nrange = [0.5, 2.0]\nscale = "log"\n[repulsion.exponent]\nfixed = 2.0\n')
    assert space.space.parameters == (Parameter("repulsion_length", 0.5, 2.0, "log", "Bohr"),)
    assert space.fixed["repulsion_exponent"] == 2.0
    own = space_of('[repulsion.exponent]\nrange = "element"\n')
    assert own.space.parameters == (Parameter("repulsion_exponent", 1.0, 3.0),)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[radius]\nrange = [1.0, 2.0]", 3, "radius: there is no role 'radius'"),
        ("[shell_radious]\nrange = [1.0, 2.0]", 3, "did you mean 'shell_radius'?"),
        ("[shell_radius]\nrang = [1.0, 2.0]", 4, "shell_radius.rang: unknown key 'rang'; did you mean 'range'?"),
        ("[power]\ncolour = 3", 4, "power.colour: unknown key 'colour'; keys are: range, choices"),
        ('[density_radius]\nper = "shell"\nrange = [1.0, 2.0]', 4, "density_radius.per: unknown key 'per'"),
        ('[power]\nper = "atom"\nrange = [2.0, 4.0]', 4, "power.per: 'atom' is neither"),
        ("[shell_radius]\nrange = [5.0, 2.0]", 4, "[5, 2] is upside down or empty; did you mean [2, 5]?"),
        ('[shell_radius]\nrange = ["5 r_cov", "5 r_cov"]', 4, "[5 r_cov, 5 r_cov] is upside down or empty"),
        ("[shell_radius]\nrange = [1.0]", 4, '[1.0] must be [low, high], or "element"'),
        ('[shell_radius]\nrange = "wide"', 4, "'wide' must be [low, high], or \"element\""),
        ("[shell_radius]\nrange = [-1.0, 2.0]", 4, "shell_radius.range: must be above 0 Bohr, got -1"),
        ('[shell_radius]\nrange = [0.0, 2.0]\nscale = "log"', 4, "must be above 0 Bohr, got 0"),
        ('[shift]\nrange = [-0.1, 0.2]\nscale = "log"', 4, "shift.range: a log scale needs low > 0, got -0.1"),
        ('[shell_radius]\nrange = ["0 r_cov", 2.0]', 4, "'0 r_cov' must be more than 0"),
        ('[shell_radius]\nrange = ["two r_cov", 2.0]', 4, "'two r_cov': give a finite number in Bohr, or a text"),
        ('[shell_radius]\nrange = ["2 / r_cov", 2.0]', 4, "'2 / r_cov': give a finite number in Bohr, or a text"),
        ('[power]\nrange = ["2 r_cov", 3.0]', 4, "'2 r_cov': give a finite number"),
        ("[power]\nrange = [0.5, 3.0]", 4, "power.range: must be between 1 and 20, got 0.5"),
        ("[power]\nrange = [nan, 3.0]", 4, "nan: give a finite number"),
        ("[power]\nrange = [true, 3.0]", 4, "True: give a finite number"),
        ('[power]\nrange = [2.0, 4.0]\nscale = "square"', 5, "power.scale: 'square' is none of 'linear', 'log'"),
        ('[power]\nrange = [2.0, 4.0]\nkind = "whole"', 5, "power.kind: 'whole' is none of"),
        ('[power]\nrange = [2.0, 4.0]\nkind = "categorical"', 5, "'categorical' does not go with range"),
        ('[power]\nrange = [2.0, 4.5]\nkind = "integer"', 4, "an integer's range has whole numbers at both ends"),
        ("[power]\nrange = [2.0, 4.0]\nfixed = 2.0", 3, "needs one of range (searched), choices (searched) and fixed"),
        ('[power]\nscale = "log"', 3, "it has none"),
        ("[power]", 3, "power: is empty"),
        ('[power]\nfixed = 2.0\nscale = "log"', 5, "power.scale: means nothing beside fixed"),
        ("[power]\nchoices = [2.0]", 4, "power.choices: [2.0] must be a list of two or more"),
        ("[power]\nchoices = [2.0, 2]", 4, "names one twice"),
        ("[power]\nchoices = [2.0, 3]\nprior = { centre = 2.0, width = 1.0 }", 5, "means nothing beside choices"),
        ("[power]\nrange = [2.0, 4.0]\nprior = 3.0", 5, "3.0 must be { centre = ..., width = ... }"),
        ("[power]\nrange = [2.0, 4.0]\nprior = { centre = 3.0, width = 0.0 }", 5, "power.prior.width: must be above 0"),
        (
            '[power]\nrange = [2.0, 4.0]\nscale = "log"\nprior = { centre = 3.0, width = 1.0 }',
            6,
            "must be a factor above 1",
        ),
        ('[power]\nrange = [2.0, 4.0]\nprior = { centre = "element", width = 1.0 }', 5, "no value of their own"),
        ('[power]\nfixed = "element"', 4, "power.fixed: elements have no value of their own"),
        ('[height]\nrange = "element"', 4, "height.range: elements have no range of their own"),
        (
            "[shell_radius.g]\nrange = [1.0, 2.0]",
            3,
            "shell_radius.g: no element has such a shell 'g'; write one of s, p",
        ),
        ("[shell_radius.3d]\nrange = [1.0, 2.0]", 3, "no element has such a shell '3d'; write one of s, p, d, f"),
        ("[shift.f]\nrange = [0.0, 0.1]", 3, "shift.f: no element has such an empty polarisation shell 'f'"),
        ("[height]\nrange = [1.0, 2.0]", 3, "height: a power confinement has no height"),
        ("density_steepness = 2.0", 3, "density_steepness: a power confinement has no steepness"),
        (
            'confinement = "woods-saxon"\n[power]\nrange = [2.0, 4.0]',
            4,
            "power: a woods-saxon confinement has no power",
        ),
        ('density_confinement = "none"\ndensity_radius = 3.0', 4, "not confined has no radius"),
        ('confinement = "hard"', 3, "confinement: 'hard' is none of 'power', 'woods-saxon'"),
        ("confinement = 3", 3, "3 is none of 'power'"),
        ("[confinement]\nrange = [1, 2]", 4, "confinement.range: has no range; give choices"),
        ('[confinement]\nchoices = ["power", "hard"]', 4, "'hard' is none of"),
        ("power = 3.0", None, "nothing is searched; give a role a range"),
        ("", None, "nothing is searched"),
        ("repulsion = 3", 3, "repulsion: holds one table a parameter"),
        ("[repulsion]\nlength = 1.0", 3, "repulsion: holds one table a parameter"),
        ("name = 3", 3, "not TOML: Cannot overwrite a value"),
        ("[power\nrange = 3", 3, "not TOML"),
        ("[[power]]\nrange = [2.0, 4.0]", 3, "power: is a list of tables; write [power] once"),
    ],
)
def test_bad_files(tmp_path, text, line, message):
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(FileFormatError) as caught:
        load_space(path)
    assert message in caught.value.message
    assert caught.value.line == line
    assert caught.value.message.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no format; this version reads format = 1"),
        ("format = 2", "has format = 2; this version reads format = 1"),
        ("format = true", "has format = True"),
        ("format = 1\n[power]\nrange = [2.0, 4.0]", "name: a search space needs a name"),
        ("format = 1\nname = 3\n", "name: a search space needs a name"),
        ('format = 1\nname = "x"\ndescription = 3\n', "description: a search space needs a description"),
    ],
)
def test_bad_heads(text, message):
    with pytest.raises(FileFormatError) as caught:
        read_definition(text, "mine.toml")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "symbol", "message"),
    [
        ('[shell_radius]\nrange = [3.0, "1 r_cov"]', "Si", "mine.toml: shell_radius, for Si: parameter 'radius_3s'"),
        (
            '[shell_radius]\nrange = [8.0, 9.0]\nprior = { centre = "element", width = 1.0 }',
            "Si",
            "the prior's centre 3.65 lies outside of [8.0, 9.0]",
        ),
        ("[shell_radius.d]\nrange = [3.0, 9.0]", "C", "mine.toml: nothing is searched for C"),
        ("[repulsion.sigma]\nrange = [0.1, 0.5]", "Si", "repulsion has no parameter 'sigma'; its parameters: charge"),
        ("[repulsion.exponent]\nrange = [1.0, 5.0]", "Si", "[1.0, 5.0] leaves what this repulsion may take, [1, 3]"),
        ("[repulsion.exponent]\nfixed = 9.0\n[power]\nrange = [2.0, 3.0]", "Si", "[9.0] leaves what this repulsion"),
    ],
)
def test_files_that_do_not_fit_an_element(text, symbol, message):
    with pytest.raises(ParameterError) as caught:
        space_of(text, symbol)
    assert message in caught.value.message


def test_places_that_hold_no_space(tmp_path):
    with pytest.raises(ParameterError, match="neither a file nor a shipped search space; shipped: default, ptbp"):
        load_space("woods")
    with pytest.raises(ParameterError, match="is a folder"):
        load_space(tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        load_space(tmp_path / "bad.toml")
    with pytest.raises(ElementError):
        build_space("Xx", load_space("default"))


def test_the_example_of_the_documentation_is_a_space():
    text = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")
    example = text.split("```toml\n", 1)[1].split("```", 1)[0]
    space = build_space(
        "Si",
        read_definition(example, "spaces.md"),
        get_form("screened-power").parameters(14, element("Si").covalent_radius),
    )
    assert {"radius_3d", "steepness_3p", "height", "repulsion_exponent"} <= set(space.space.names)
    assert space.fixed["shift_3d"] == 0.05
    assert all(f"| `{name}` |" in text for name in space_names())
    assert all(f"`{name}`" in text for name in ROLES)
