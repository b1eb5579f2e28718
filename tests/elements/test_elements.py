import pickle
import subprocess
import sys

import pytest
from ase.data import atomic_masses, atomic_numbers, covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from dftbparam.elements import all_symbols, element, parse_configuration, search_range
from dftbparam.errors import ElementError, ParameterError
from dftbparam.space import load_parameter_set
from dftbparam.units import BOHR

SYMBOLS = all_symbols()


def test_h_to_cm_in_order():
    assert len(SYMBOLS) == 96
    assert [element(symbol).number for symbol in SYMBOLS] == list(range(1, 97))
    assert [atomic_numbers[symbol] for symbol in SYMBOLS] == list(range(1, 97))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_record_is_consistent(symbol):
    record = element(symbol)
    assert sum(record.configuration.values()) == record.number
    assert [shell[1] for shell in record.valence] == list("spdf")[: len(record.valence)]
    assert set(record.valence) <= set(record.configuration)
    assert record.max_angular == len(record.valence) - 1
    if record.polarisation is not None:
        assert record.polarisation in record.valence
        assert record.configuration[record.polarisation] == 0.0
    # Whatever is not valence is a closed shell: an open one frozen into the core would be a slip.
    for shell, electrons in record.configuration.items():
        if shell not in record.valence:
            assert electrons == 2 * (2 * "spdf".index(shell[1]) + 1), shell
    for default, (low, high) in (
        (record.default_shell_radius, record.shell_radius_range),
        (record.default_density_radius, record.density_radius_range),
    ):
        assert 0.0 < low < default < high
    assert record.covalent_radius == pytest.approx(covalent_radii[record.number] / BOHR)
    assert record.mass == pytest.approx(atomic_masses[record.number])
    assert record.notes.endswith(".")
    assert pickle.loads(pickle.dumps(record)) == record
    assert hash(record) == hash(element(symbol))


def test_published_elements_are_as_published():
    published = load_parameter_set("ptbp").elements
    assert {s for s in SYMBOLS if element(s).radii_from == "published"} == set(published)
    for symbol, parameters in published.items():
        record = element(symbol)
        assert record.configuration_text == parameters.configuration
        assert record.valence == tuple(parameters.shells)
        assert {c.radius for c in parameters.shells.values()} == {record.default_shell_radius}
        assert record.default_density_radius == parameters.density.radius


def test_scaled_radii_follow_the_stated_rule():
    for symbol in SYMBOLS:
        record = element(symbol)
        if record.radii_from == "published":
            continue
        donor = element(record.radii_from)
        factor = record.covalent_radius / donor.covalent_radius
        assert record.default_shell_radius == pytest.approx(factor * donor.default_shell_radius, abs=6e-4)
        assert record.default_density_radius == pytest.approx(factor * donor.default_density_radius, abs=6e-4)


def test_ranges_follow_the_stated_rule():
    for symbol in SYMBOLS:
        record = element(symbol)
        radius = max(record.covalent_radius, 1.0)
        for found, default, factors in (
            (record.shell_radius_range, record.default_shell_radius, (0.8, 5.0)),
            (record.density_radius_range, record.default_density_radius, (1.5, 9.0)),
        ):
            low, high = (factor * radius for factor in factors)
            assert found[0] == pytest.approx(min(max(1.5, low), 0.9 * default), abs=0.02)
            assert found[1] == pytest.approx(max(high, 1.1 * default), abs=0.02)
            assert found[0] < default < found[1]
    assert search_range("power") == (1.5, 10.0)
    assert search_range("shift")[0] < 0.0 < search_range("shift")[1]


def test_known_facts():
    assert element("Cu").configuration["3d"] == 10.0
    assert element("Cu").configuration["4s"] == 1.0
    assert element("Si").valence == ("3s", "3p", "3d")
    assert element("Si").valence_electrons == 4.0
    assert element("Si").valence_occupations == {"3s": 2.0, "3p": 2.0, "3d": 0.0}
    assert element("Gd").valence == ("6s", "6p", "5d", "4f")
    assert element("Lu").valence == ("6s", "6p", "5d")
    assert (element("Fe").group, element("Fe").period, element("Fe").block) == (8, 4, "d")
    assert element("Gd").group is None


@pytest.mark.parametrize(
    ("given_text", "suggestion"), [("si", "Si"), ("SI", "Si"), ("silicon", "Si"), ("tungstn", "W"), ("Xx", "Xe")]
)
def test_unknown_element_names_the_nearest(given_text, suggestion):
    with pytest.raises(ElementError, match=f"{given_text!r}.*{suggestion}") as caught:
        element(given_text)
    assert suggestion in caught.value.suggestions


def test_hopeless_symbol_names_the_range():
    with pytest.raises(ElementError, match="96 elements from H to Cm"):
        element("12345")


def test_parse_configuration():
    assert parse_configuration("1s1") == {"1s": 1.0}
    assert list(parse_configuration("[Ar] 4s1 4p0 3d10")) == ["1s", "2s", "2p", "3s", "3p", "3d", "4s", "4p"]
    assert parse_configuration("[Xe] 4f7 5d0.5 6s1.5")["5d"] == 0.5
    assert sum(parse_configuration("[Rn]").values()) == 86.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("[Zz] 3s2", "cores"),
        ("[Ne 3s2", "cores"),
        ("3x2", "not a shell"),
        ("3s", "not a shell"),
        ("3s-1", "not a shell"),
        ("3snan", "not a shell"),
        ("2d1", "no 2d shell"),
        ("[Ne] 3s3", "at most 2"),
        ("[Ne] 2p6", "2p occurs twice"),
    ],
)
def test_malformed_configuration(text, reason):
    with pytest.raises(ParameterError, match=reason):
        parse_configuration(text)


@settings(deadline=None)
@given(st.sampled_from(SYMBOLS))
def test_configuration_survives_being_written_in_full(symbol):
    configuration = element(symbol).configuration
    text = " ".join(f"{shell}{electrons:g}" for shell, electrons in configuration.items())
    assert parse_configuration(text) == configuration


def test_importing_reads_no_file():
    code = (
        "import sys, dftbparam.elements as e, dftbparam.elements.table as t\n"
        "assert t._table.cache_info().currsize == 0\n"
        "assert 'ase' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
