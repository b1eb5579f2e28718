"""Random crystals: what is asked for, what is drawn, and what is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from dftbparam.errors import ElementError, EngineMissing, InputError, ParameterError
from dftbparam.reference import random_crystals
from dftbparam.reference.compositions import Composition, formula, parse_composition, parse_spacegroups
from dftbparam.reference.limits import Limits, nearest_distance, volume_guesses
from dftbparam.reference.random_crystals import DrawSettings, Unlike, draw_crystals, symmetry


class TestCompositions:
    @pytest.mark.parametrize(
        ("text", "symbols", "ratio", "name"),
        [
            ("Si", ("Si",), None, "Si"),
            ("Si2", ("Si",), None, "Si"),
            ("Si-O", ("Si", "O"), None, "Si-O"),
            ("SiO2", ("Si", "O"), (1, 2), "SiO2"),
            ("Si2O4", ("Si", "O"), (1, 2), "SiO2"),
            ("CaTiO3", ("Ca", "Ti", "O"), (1, 1, 3), "CaTiO3"),
            ("CO", ("C", "O"), (1, 1), "CO"),
            ("Co", ("Co",), None, "Co"),
        ],
    )
    def test_reading(self, text, symbols, ratio, name):
        found = parse_composition(text)
        assert (found.symbols, found.ratio, found.name) == (symbols, ratio, name)

    @pytest.mark.parametrize("text", ["", "-", "si", "Si-", "Si-O2", "SiO0", "O-O", "SiOSi", "Si O", "Si,O", "Xx2"])
    def test_refusals_show_the_text(self, text):
        with pytest.raises(InputError) as caught:
            parse_composition(text)
        assert caught.value.exit_code == 2

    def test_a_misspelt_element_is_named(self):
        with pytest.raises(ElementError, match="Xy"):
            parse_composition("Si-Xy")

    def test_too_many_elements(self):
        with pytest.raises(ParameterError, match="5 elements"):
            parse_composition("H-C-N-O-F")

    def test_cells_of_any_stoichiometry(self):
        cells = Composition(("Si", "O")).cells(4)
        assert cells == ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 1))
        assert Composition(("Si",)).cells(3) == ((1,), (2,), (3,))
        assert Composition(("Si", "O", "Ti")).cells(3) == ((1, 1, 1),)

    def test_cells_of_one_stoichiometry(self):
        assert parse_composition("SiO2").cells(8) == ((1, 2), (2, 4))
        assert parse_composition("SiO2").cells(2) == ()

    def test_formula(self):
        assert formula(("Si", "O"), (2, 4)) == "Si2O4"
        assert formula(("Si", "O"), (1, 0)) == "Si"

    @pytest.mark.parametrize(
        ("text", "groups"),
        [("227", (227,)), ("1-3", (1, 2, 3)), ("2, 195-196,2", (2, 195, 196)), ("1-230", tuple(range(1, 231)))],
    )
    def test_spacegroups(self, text, groups):
        assert parse_spacegroups(text) == groups

    @pytest.mark.parametrize("text", ["", "0", "231", "5-3", "1-231", "a", "1..3", "-4", "1,,2", "227.5"])
    def test_no_spacegroups(self, text):
        with pytest.raises(ParameterError, match="space groups"):
            parse_spacegroups(text)


class TestLimits:
    @pytest.mark.parametrize(
        ("symbols", "counts", "volume"),
        [
            # Experiment, Angstrom^3/atom: diamond, fcc copper, bcc sodium; rock salt, rutile, quartz and stishovite.
            ("Si", (1,), 20.0), ("Cu", (1,), 11.8), ("Na", (1,), 39.5),
            ("Mg O", (1, 1), 9.35), ("Ti O", (1, 2), 10.4), ("Si O", (1, 2), 12.6), ("Si O", (1, 2), 7.8),
            ("Ni Al", (1, 1), 12.0), ("Cu Au", (3, 1), 13.2), ("Na Cl", (1, 1), 22.4),
        ],
    )  # fmt: skip
    def test_known_crystals_lie_in_the_range_that_is_drawn(self, symbols, counts, volume):
        low, high = volume_guesses(symbols.split(), counts)
        settings = DrawSettings()
        assert low * settings.volume_spread[0] < volume < high * settings.volume_spread[1]

    def test_of_a_compound_lie_between_those_of_its_elements_and_an_ordered_crystal(self):
        # Little oxygen in silicon is like silicon.
        assert volume_guesses(("Si", "O"), (19, 1))[0] == pytest.approx(volume_guesses(("Si",), (1,))[0], rel=0.1)
        assert volume_guesses(("Si", "O"), (1, 0)) == volume_guesses(("Si",), (1,))

    def test_a_good_crystal(self):
        assert Limits.of(("Si",), (2,)).violation(bulk("Si")) is None

    @pytest.mark.parametrize(
        ("length", "status", "reason"), [(3.5, "imploded", "Angstrom"), (8.0, "exploded", "plausible is")]
    )
    def test_squeezed_and_stretched(self, length, status, reason):
        found = Limits.of(("Si",), (2,)).violation(bulk("Si", a=length))
        assert found is not None
        assert found[0] == status
        assert reason in found[1]

    def test_two_atoms_too_close_in_a_large_cell(self):
        atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1.5]], cell=[3.5, 3.5, 3.5], pbc=True)
        found = Limits.of(("Si",), (2,)).violation(atoms)
        assert found == ("imploded", "Si-Si 1.5 Angstrom apart, 0.68 of the covalent radii's sum")

    def test_an_image_counts_as_an_atom(self):
        atoms = Atoms("Si", cell=[1.5, 4.0, 4.0], pbc=True)
        assert Limits.of(("Si",), (1,)).violation(atoms)[0] == "imploded"

    def test_a_lonely_atom(self):
        limits = Limits(0.7, 3.5, (1.0, 1000.0))
        atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 6.0]], cell=[6.0, 6.0, 12.0], pbc=True)
        assert limits.violation(atoms) == ("exploded", "Si has no neighbour within 3.5 Angstrom")
        # One of two is alone; the other has its own images.
        atoms = Atoms("SiO", positions=[[0, 0, 0], [0, 0, 6.0]], cell=[3.0, 6.0, 12.0], pbc=True)
        assert Limits(0.7, 2.9, (1.0, 1000.0)).violation(atoms)[0] == "exploded"

    def test_no_numbers(self):
        atoms = bulk("Si")
        atoms.positions[0, 0] = np.nan
        assert Limits.of(("Si",), (2,)).violation(atoms) == ("exploded", "coordinates that are no numbers")

    @pytest.mark.parametrize("name", ["N2", "CO", "C2H2", "H2", "F2", "O2"])
    def test_bonds_of_molecules_are_no_implosion(self, name):
        atoms = molecule(name, cell=[3.0, 3.0, 4.5], pbc=True)
        symbols = sorted(set(atoms.get_chemical_symbols()))
        limits = Limits.of(symbols, [atoms.get_chemical_symbols().count(s) for s in symbols])
        broken = Limits(limits.distance_factor, 4.0, (0.1, 1000.0)).violation(atoms)
        assert broken is None

    def test_nearest_distance(self):
        assert nearest_distance(bulk("Si"), 4.0) == pytest.approx(5.43 * np.sqrt(3.0) / 4.0)
        assert nearest_distance(bulk("Cu"), 1.0) == pytest.approx(3.61 / np.sqrt(2.0), abs=1e-9)
        assert nearest_distance(Atoms("He", cell=[9, 9, 9], pbc=True), 4.0) == 4.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"atoms": 0}, "atoms"),
        ({"atoms": 21}, "atoms"),
        ({"seed": -1}, "seed"),
        ({"distance_factor": 0.0}, "distance_factor"),
        ({"distance_factor": float("nan")}, "distance_factor"),
        ({"volume_spread": (1.2, 0.9)}, "volume_spread"),
        ({"aspect": 1.0}, "aspect"),
        ({"spacegroups": ()}, "spacegroups"),
        ({"spacegroups": (231,)}, "spacegroups"),
    ],
)
def test_settings_out_of_range(change, name):
    with pytest.raises(ParameterError, match=name):
        DrawSettings(**change)


def test_without_pyxtal_the_install_line_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxtal.crystal", None)
    monkeypatch.setitem(sys.modules, "pymatgen.core", None)
    with pytest.raises(EngineMissing, match=r"pip install 'dftbparam\[dft\]'") as caught:
        draw_crystals(parse_composition("Si"), 1)
    assert caught.value.exit_code == 3


FEW = (2, 5, 12, 15, 31, 62, 63, 71, 123, 136, 139, 148, 164, 166, 191, 194, 221, 225)
"""Groups of all crystal systems that small cells have: drawing is fast."""

SETTINGS = DrawSettings(atoms=6, spacegroups=FEW)


@pytest.fixture(scope="module")
def silicon():
    pytest.importorskip("pyxtal", exc_type=ImportError)
    return draw_crystals(parse_composition("Si"), 8, SETTINGS)


@pytest.fixture(scope="module")
def oxides():
    pytest.importorskip("pyxtal", exc_type=ImportError)
    return draw_crystals(parse_composition("Ti-O"), 8, SETTINGS)


def same(one, other):
    return [(c.name, c.spacegroup) for c in one] == [(c.name, c.spacegroup) for c in other] and all(
        np.array_equal(a.atoms.positions, b.atoms.positions)
        and np.array_equal(a.atoms.cell.array, b.atoms.cell.array)
        and np.array_equal(a.atoms.numbers, b.atoms.numbers)
        for a, b in zip(one, other, strict=True)
    )


class TestDrawing:
    def test_as_many_as_were_asked_for(self, silicon, oxides):
        assert len(silicon.crystals) == len(oxides.crystals) == 8
        assert not silicon.exhausted
        assert len({c.name for c in silicon.crystals}) == 8

    def test_no_space_group_twice_before_all_others_had_their_turn(self, silicon):
        groups = [c.spacegroup for c in silicon.crystals] + [group for group, _ in silicon.empty]
        assert len(set(groups)) == len(groups)

    def test_the_space_group_is_the_one_that_spglib_finds(self, silicon, oxides):
        for crystal in (*silicon.crystals, *oxides.crystals):
            assert symmetry(crystal.atoms, 1e-3)[0] == crystal.spacegroup

    def test_cells_are_primitive_and_small(self, silicon, oxides):
        for crystal in (*silicon.crystals, *oxides.crystals):
            assert len(crystal.atoms) <= 6
            assert len(symmetry(crystal.atoms, 1e-3)[1]) == len(crystal.atoms)

    def test_both_elements_in_the_order_of_the_composition(self, oxides):
        assert len({crystal.formula for crystal in oxides.crystals}) > 2
        for crystal in oxides.crystals:
            symbols = crystal.atoms.get_chemical_symbols()
            assert symbols == sorted(symbols, reverse=True)  # Ti before O
            assert {"Ti", "O"} == set(symbols)

    def test_distances_by_brute_force(self, oxides):
        shifts = np.array(list(product(range(-3, 4), repeat=3)))
        for crystal in oxides.crystals:
            atoms = crystal.atoms
            vectors = atoms.positions[:, None] - atoms.positions[None]
            distances = np.linalg.norm(vectors[:, :, None] + shifts @ atoms.cell.array, axis=-1)
            radii = covalent_radii[atoms.numbers]
            ratio = distances / (radii[:, None] + radii[None])[..., None]
            assert ratio[distances > 1e-6].min() > 0.7

    def test_the_same_seed_gives_the_same_and_a_longer_run_begins_with_a_shorter_one(self, silicon):
        again = draw_crystals(parse_composition("Si"), 4, SETTINGS)
        assert same(again.crystals, silicon.crystals[:4])

    def test_another_seed_gives_others(self, silicon):
        other = draw_crystals(parse_composition("Si"), 2, DrawSettings(atoms=6, spacegroups=FEW, seed=1))
        assert not same(other.crystals, silicon.crystals[:2])

    def test_numpys_global_state_is_neither_used_nor_touched(self, silicon):
        np.random.seed(5)  # noqa: NPY002 - it is this generator that is meant
        again = draw_crystals(parse_composition("Si"), 2, SETTINGS)
        assert same(again.crystals, silicon.crystals[:2])
        drawn = np.random.random()  # noqa: NPY002
        np.random.seed(5)  # noqa: NPY002
        assert drawn == np.random.random()  # noqa: NPY002

    @pytest.mark.slow
    def test_another_process_gives_the_same(self, silicon):
        code = (
            "from dftbparam.reference.compositions import parse_composition\n"
            "from dftbparam.reference.random_crystals import DrawSettings, draw_crystals\n"
            f"settings = DrawSettings(atoms=6, spacegroups={FEW})\n"
            "for c in draw_crystals(parse_composition('Si'), 3, settings).crystals:\n"
            "    print(c.name, c.atoms.positions.tobytes().hex())\n"
        )
        for seed in ("1", "2"):
            printed = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert printed == "".join(f"{c.name} {c.atoms.positions.tobytes().hex()}\n" for c in silicon.crystals[:3])

    def test_one_stoichiometry_and_a_few_groups(self):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        drawn = draw_crystals(parse_composition("SiO2"), 4, DrawSettings(atoms=6, spacegroups=(12, 136, 227)))
        assert {c.formula for c in drawn.crystals} <= {"SiO2", "Si2O4"}
        assert {c.spacegroup for c in drawn.crystals} <= {12, 136, 227}
        assert len(drawn.crystals) == 4

    def test_a_group_that_can_be_drawn_once_only(self):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        drawn = draw_crystals(parse_composition("Cu"), 3, DrawSettings(atoms=1, spacegroups=(225,)))
        assert [c.spacegroup for c in drawn.crystals] == [225]
        assert drawn.exhausted
        assert drawn.duplicates > 0
        assert all("is like Cu 0001" in reason for _, reason in drawn.empty)

    def test_a_group_that_small_cells_cannot_have(self):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        drawn = draw_crystals(parse_composition("Cu"), 1, DrawSettings(atoms=4, spacegroups=(195,)))
        assert drawn.crystals == []
        assert drawn.exhausted
        assert len(drawn.empty) == random_crystals.STRIKES

    def test_no_wyckoff_position_fits(self):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        # The smallest positions of Ia-3d hold 8 atoms of the primitive cell.
        drawn = draw_crystals(parse_composition("Cu"), 1, DrawSettings(atoms=4, spacegroups=(230,)))
        assert drawn.crystals == drawn.empty == []
        assert drawn.exhausted

    def test_a_crash_of_pyxtal_is_a_lost_drawing(self, monkeypatch):
        crystal = pytest.importorskip("pyxtal.crystal", exc_type=ImportError)

        def crash(*_, **__):
            print("something on standard output")  # noqa: T201
            raise IndexError("list index out of range")

        monkeypatch.setattr(crystal, "random_crystal", crash)
        drawn = draw_crystals(parse_composition("Cu"), 1, DrawSettings(spacegroups=(225,)))
        assert drawn.exhausted
        assert drawn.empty[0] == (225, "pyxtal: IndexError: list index out of range")

    def test_nothing_reaches_standard_output(self, capsys):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        draw_crystals(parse_composition("Cu"), 1, DrawSettings(atoms=2, spacegroups=(139, 221, 225)))
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("symbol", ["H", "Cm"])
    def test_the_ends_of_the_table_of_elements(self, symbol):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        assert draw_crystals(parse_composition(symbol), 1, DrawSettings(atoms=2, spacegroups=(12, 221))).crystals

    def test_more_elements_than_atoms(self):
        with pytest.raises(ParameterError, match="SiO2 takes 3 atoms at least"):
            draw_crystals(parse_composition("SiO2"), 1, DrawSettings(atoms=2))
        with pytest.raises(ParameterError, match="count is 0"):
            draw_crystals(parse_composition("Si"), 0)


class TestUnlike:
    @pytest.fixture
    def unlike(self):
        pytest.importorskip("pyxtal", exc_type=ImportError)
        found = Unlike()
        assert found.add("diamond", bulk("Si")) is None
        return found

    def test_another_size_is_alike(self, unlike):
        assert unlike.find(bulk("Si", a=6.5)) == "diamond"

    def test_a_rotated_cell_with_another_origin_is_alike(self, unlike):
        atoms = bulk("Si")
        atoms.rotate(33.0, (1, 2, 3), rotate_cell=True)
        atoms.positions += 0.3
        assert unlike.add("rotated", atoms) == "diamond"

    def test_another_crystal_of_as_many_atoms_is_not(self, unlike):
        assert unlike.add("hcp", bulk("Si", "hcp", a=2.9)) is None
        assert unlike.find(bulk("Si", "hcp", a=2.9)) == "hcp"

    def test_another_element_is_not(self, unlike):
        assert unlike.find(bulk("Ge")) is None


def test_symmetry_of_nothing_sensible_is_none():
    assert symmetry(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]], cell=[3, 3, 3], pbc=True), 1e-2) is None
