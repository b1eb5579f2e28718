import pytest

from dftbparam.elements import all_symbols
from dftbparam.errors import ElementError, ParameterError
from dftbparam.space.element_space import element_parameters, element_space, starting_points


@pytest.mark.parametrize("symbol", all_symbols())
def test_every_element_has_a_space_that_holds_its_starts(symbol):
    space = element_space(symbol)
    for values in starting_points(symbol, space):
        unit = space.to_unit(values)
        assert ((unit >= 0.0) & (unit <= 1.0)).all()
        levels = dict.fromkeys((name.removeprefix("shift_") for name in space.names if name.startswith("shift_")), 0.0)
        record = element_parameters(symbol, values, free_levels=levels)
        assert {f"radius_{nl}" for nl in record.shells} <= set(space.names)


def test_dimensions():
    assert element_space("Si").names == ("radius_3s", "radius_3p", "radius_3d", "radius_density", "power", "shift_3d")
    assert element_space("C").names == ("radius_2s", "radius_2p", "radius_density", "power")
    assert element_space("Si", power=False, shift=False).names[-1] == "radius_density"


def test_a_point_becomes_a_record():
    values = {
        "radius_3s": 2.5,
        "radius_3p": 3.0,
        "radius_3d": 6.0,
        "radius_density": 8.0,
        "power": 3.0,
        "shift_3d": 0.1,
    }
    record = element_parameters("Si", values, free_levels={"3s": -0.4, "3p": -0.15, "3d": 0.08})
    assert record.shells["3d"].radius == 6.0
    assert record.shells["3d"].power == record.density.power == 3.0
    assert record.on_site == {"3d": pytest.approx(0.18)}


def test_bad_points():
    with pytest.raises(ParameterError, match="radius_3p"):
        element_parameters("Si", {"radius_3s": 2.5, "radius_3d": 6.0, "radius_density": 8.0})
    with pytest.raises(ParameterError, match="needs the free atom"):
        element_parameters("C", {"radius_2s": 2.0, "radius_2p": 2.0, "radius_density": 5.0, "shift_2p": 0.1})
    with pytest.raises(ElementError):
        element_space("Xx")
