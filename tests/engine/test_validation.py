"""Validation of one engine by another: the list of systems, the comparison, the verdicts."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from dftbparam.engine.base import Settings
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.engine.fake import FakeEngine
from dftbparam.engine.kpoints import time_reversed_mesh
from dftbparam.engine.validation import TOLERANCES, Verdict, differences, standard_systems, validate
from dftbparam.errors import (
    ElementError,
    EngineError,
    EngineMissing,
    FileFormatError,
    InputError,
    ParameterError,
    ScfNotConverged,
)

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"


class Wrong(FakeEngine):
    """The fake engine with a fault; ``fault`` changes a result."""

    name = "wrong"

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def compute(self, tables, structures, settings):
        return [self.fault(r) for r in super().compute(tables, structures, settings)]


def complete(symbols):
    return {(a, b) for a in symbols for b in symbols}


# ------------------------------------------------------------------------------------------------------- the list


def test_one_element():
    names = [s.name for s in standard_systems(complete(["Si"]))]
    assert names == [
        "Si fcc", "Si bcc", "Si sc", "Si diamond", "Si distorted", "Si2", "Si2 cation",
    ]  # fmt: skip
    assert "SiH2" in [s.name for s in standard_systems(complete(["Si", "H"]))]


def test_three_elements_meet_in_every_kind_of_system():
    names = [s.name for s in standard_systems(complete(["Ti", "O", "H"]))]
    for pair in ("HO", "HTi", "OTi"):
        for kind in ("distorted", "rocksalt", "zincblende", "cation", "charged cell"):
            assert f"{pair} {kind}" in names
    assert {"O2Ti", "OTi2"} <= set(names)


def test_many_elements_meet_in_two_systems_each_unless_all_are_wanted():
    symbols = ["H", "C", "N", "O", "P", "S", "Zn", "Cl"]
    few, full = (standard_systems(complete(symbols), full=full) for full in (False, True))
    n_pairs = len(symbols) * (len(symbols) - 1) // 2
    meet = Counter(s.elements for s in few if len(s.elements) == 2)
    assert len(meet) == n_pairs
    assert all(2 <= n <= 3 for n in meet.values())  # a molecule with hydrogen may come on top
    assert {s.elements for s in few if s.name.endswith(" distorted")} == set(meet) | {(s,) for s in symbols}
    for kind in ("rocksalt", "zincblende", "cation", "charged cell"):
        assert any(s.name.endswith(kind) and len(s.elements) == 2 for s in few)
    assert {s.name for s in few} <= {s.name for s in full}
    assert len(full) == len(few) + 5 * n_pairs


def test_pairs_without_tables_are_in_no_system():
    systems = standard_systems({("Ti", "Ti"), ("C", "C"), ("N", "N"), ("Ti", "C"), ("C", "Ti"), ("Ti", "N")})
    assert {s.elements for s in systems} == {("Ti",), ("C",), ("N",), ("C", "Ti")}


def test_elements_can_be_chosen():
    pairs = complete(["Ti", "O", "H"])
    assert {e for s in standard_systems(pairs, ["O", "Ti"]) for e in s.elements} == {"O", "Ti", "H"}  # OH2
    with pytest.raises(ElementError, match=r"no tables for 'Xe'.*H, O, Ti"):
        standard_systems(pairs, ["Xe"])
    with pytest.raises(ParameterError, match="named twice: O"):
        standard_systems(pairs, ["O", "Ti", "O"])


def test_structures_are_sensible_and_alike_everywhere():
    systems = standard_systems(complete(["H", "Si", "Ti", "Au", "F"]), full=True)
    assert len({s.name for s in systems}) == len(systems)
    for system, again in zip(systems, standard_systems(complete(["H", "Si", "Ti", "Au", "F"]), full=True), strict=True):
        assert system.atoms == again.atoms
        atoms = system.atoms
        probe = atoms.repeat(2) if atoms.pbc.all() else atoms
        d = probe.get_all_distances(mic=True)
        radii = covalent_radii[probe.numbers]
        i, j = np.triu_indices(len(probe), 1)
        share = d[i, j] / (radii[i] + radii[j])
        assert share.min() > 0.78, system.name
        assert system.settings.stress is (system.settings.charge == 0.0 or not atoms.pbc.any())
    shaken = next(s for s in systems if s.name == "SiTi distorted").atoms
    assert np.abs(shaken.cell.angles() - 60.0).min() > 0.5
    assert atomic_numbers["Si"] in shaken.numbers


# -------------------------------------------------------------------------------------------------- the comparison


def computed(settings, atoms=None):
    atoms = (
        Atoms("SiO", [[0, 0, 0], [1.3, 1.1, 1.7]], cell=np.diag([3.1, 3.3, 3.6]), pbc=True) if atoms is None else atoms
    )
    return EmbeddedEngine().compute(MODEL, [atoms], settings)[0]


EVERYTHING = Settings(kpts=(2, 3, 2), temperature=3000.0, forces=True, stress=True, eigenvalues=True)


def test_a_result_differs_from_itself_by_nothing():
    found = computed(EVERYTHING)
    zero = differences(found, found, EVERYTHING, 12)
    assert set(TOLERANCES) - {"fermi_level"} <= set(zero)
    assert set(zero.values()) == {0.0}


@pytest.mark.parametrize(
    ("field", "quantity", "share"),
    [
        ("energy", "energy", 0.5),
        ("free_energy", "energy", 0.5),
        ("band_energy", "energy", 0.5),
        ("scc_energy", "energy", 0.5),
        ("repulsive_energy", "energy", 0.5),
        ("forces", "forces", 1.0),
        ("stress", "stress", 1.0),
        ("charges", "charges", 1.0),
        ("eigenvalues", "eigenvalues", 1.0),
    ],
)
def test_every_quantity_is_looked_at(field, quantity, share):
    found = computed(EVERYTHING)
    value = getattr(found, field)
    if isinstance(value, float):
        changed = value + 1e-3
    else:
        changed = value.copy()
        changed.flat[0] -= 1e-3
    other = differences(found, replace(found, **{field: changed}), EVERYTHING, 12)
    assert other[quantity] == pytest.approx(1e-3 * share)
    assert all(v == 0.0 for k, v in other.items() if k != quantity)


def test_a_mesh_reduced_by_symmetry_has_the_same_spectrum():
    from ase.build import bulk

    atoms, settings = bulk("Si", "fcc", a=3.9), replace(EVERYTHING, kpts=(3, 3, 3))
    reduced = computed(settings, atoms)
    _, weights = time_reversed_mesh((3, 3, 3))
    assert len(reduced.weights) < len(weights)
    moved = atoms.copy()
    moved.rotate(11.0, (1.0, 2.0, 3.0), rotate_cell=True)
    other = computed(settings, moved)
    found = differences(reduced, other, settings, 27)
    assert found["eigenvalues"] < 1e-9


def test_a_fermi_level_in_a_gap_is_not_compared():
    molecule = Atoms("OSiO", [[0, 0, -1.6], [0, 0.1, 0], [0, 0, 1.55]])
    for temperature, compared in ((10.0, False), (30000.0, True)):
        # The level is put into the widest gap, whatever the number of electrons.
        settings = replace(EVERYTHING, temperature=temperature, scc=False, stress=False)
        found = computed(settings, molecule)
        levels = found.eigenvalues[0]
        gap = int(np.argmax(np.diff(levels)))
        middle = 0.5 * (levels[gap] + levels[gap + 1])
        found = replace(found, fermi_level=middle)
        moved = differences(found, replace(found, fermi_level=middle + 1e-4), settings, 1)
        assert ("fermi_level" in moved) is compared


# ----------------------------------------------------------------------------------------------------- the verdicts


def test_the_same_engine_twice_agrees():
    seen = []
    found = validate(MODEL, engines=(FakeEngine(), FakeEngine()), tell=seen.append)
    assert found.agree
    assert seen == [one.system.name for one in found.comparisons]
    assert {one.verdict for one in found.comparisons} == {Verdict.agree}
    assert found.worst["energy"] == 0.0
    assert found.elements == ("O", "Si")
    assert found.pairs == (("O", "O"), ("O", "Si"), ("Si", "Si"))
    assert set(found.checksums) == {"O-O", "O-Si", "Si-O", "Si-Si"}


def test_a_difference_beyond_the_tolerance_is_a_disagreement():
    def fault(result):
        return replace(result, charges=result.charges + 2e-5)

    found = validate(MODEL, ["Si"], engines=(FakeEngine(), Wrong(fault)))
    assert not found.agree
    assert {one.verdict for one in found.comparisons} == {Verdict.disagree}
    assert found.comparisons[0].reason == "charges"
    assert validate(MODEL, ["Si"], engines=(FakeEngine(), Wrong(fault)), tolerance=3e-6).agree


def test_not_a_number_is_a_disagreement():
    found = validate(MODEL, ["Si"], engines=(FakeEngine(), Wrong(lambda r: replace(r, energy=float("nan")))))
    assert not found.agree


def test_one_engine_that_fails_is_a_disagreement_two_are_not():
    def fail(atoms):
        return ScfNotConverged("told to", iterations=9, residual=0.1) if len(atoms) == 2 else None

    def fail_otherwise(atoms):
        return EngineError("for another reason") if len(atoms) == 2 else None

    one = validate(MODEL, ["Si"], engines=(FakeEngine(fail_otherwise), FakeEngine()))
    both = validate(MODEL, ["Si"], engines=(FakeEngine(fail), FakeEngine(fail)))
    differently = validate(MODEL, ["Si"], engines=(FakeEngine(fail), FakeEngine(fail_otherwise)))
    assert not one.agree
    assert not differently.agree
    assert both.agree
    refused = next(c for c in both.comparisons if c.verdict is Verdict.refused)
    assert "ScfNotConverged: told to" in refused.reason
    assert refused.iterations == (None, None)


@pytest.mark.parametrize("first", [True, False])
def test_charges_that_converge_in_one_engine_only_prove_nothing(first):
    def fail(atoms):
        return ScfNotConverged("told to", iterations=9, residual=0.1) if len(atoms) == 2 else None

    pair = (FakeEngine(fail), FakeEngine())
    found = validate(MODEL, ["Si"], engines=pair if first else pair[::-1])
    assert found.agree
    assert found.count(Verdict.disagree) == 0
    assert found.count(Verdict.unproven) == sum(len(c.system.atoms) == 2 for c in found.comparisons)
    assert found.count(Verdict.unproven) + found.count(Verdict.agree) == len(found.comparisons)
    one = next(c for c in found.comparisons if c.verdict is Verdict.unproven)
    assert one.reason == "fake: ScfNotConverged: told to"
    assert one.iterations == ((None, 1) if first else (1, None))
    assert found.record()["verdicts"]["unproven"] == found.count(Verdict.unproven)


def test_scratch_folders_are_kept_of_what_is_in_doubt_only(tmp_path):
    """An engine that leaves folders as DFTB+ does: one per call, and in it one per structure."""

    class Leaving(FakeEngine):
        calls = 0

        def compute(self, tables, structures, settings):
            self.calls += 1
            folder = tmp_path / f"dftbparam-{self.calls}" / "done-0000"
            folder.mkdir(parents=True)
            (folder.parent / "skf").mkdir()
            found = super().compute(tables, structures, settings)[0]
            if len(structures[0]) == 1:
                data = {"iterations": 9, "residual": 0.1, "scratch": str(folder)}
                return [ScfNotConverged(f"told to (scratch folder: {folder})", **data)]
            wrong = 1e-3 if structures[0].pbc.any() else 0.0
            return [replace(found, energy=found.energy + wrong, details={"scratch": str(folder)})]

    found = validate(MODEL, ["Si"], engines=(FakeEngine(), Leaving()))
    kept = {c.scratch[0]: c.verdict for c in found.comparisons if c.scratch}
    assert {str(p) for p in tmp_path.glob("dftbparam-*/done-0000")} == set(kept)
    assert set(kept.values()) == {Verdict.disagree, Verdict.unproven}
    assert len(list(tmp_path.iterdir())) == len(kept) == found.count(Verdict.disagree) + found.count(Verdict.unproven)
    assert all("scratch folder" not in c.reason for c in found.comparisons)
    assert [s["scratch"] for s in found.record()["systems"] if s["scratch"]] == [[name] for name in kept]


def test_nothing_compared_is_no_agreement():
    def fail(atoms):
        return ScfNotConverged("told to", iterations=9, residual=0.1)

    assert not validate(MODEL, ["Si"], engines=(FakeEngine(fail), FakeEngine(fail))).agree


def test_an_engine_that_is_missing_is_raised():
    def fault(result):
        raise EngineMissing("gone")

    with pytest.raises(EngineMissing):
        validate(MODEL, engines=(FakeEngine(), Wrong(fault)))


def test_the_record_is_json_and_holds_where_it_comes_from():
    found = validate(MODEL, engines=(EmbeddedEngine(), FakeEngine()), full=True)
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["agree"] is False
    assert record["folders"] == [str(MODEL)]
    assert record["default_settings"]["temperature"] == 1000.0
    assert record["worst_systems"]["energy"] in {s["name"] for s in record["systems"]}
    assert record["engines"]["embedded"]["numpy"] == np.__version__
    assert record["engines"]["fake"]
    assert len(record["checksum"]) == 64
    assert set(record["files"]) == {"O-O", "O-Si", "Si-O", "Si-Si"}
    assert record["tolerances"]["energy"] == 1e-6
    system = next(s for s in record["systems"] if s["name"] == "OSi distorted")
    assert system["settings"]["kpts"] == [2, 3, 2]
    assert len(system["structure"]["positions"]) == 2
    assert system["verdict"] == "disagree"
    # The fake engine's bands are of another number: no number says how far apart they are.
    assert system["differences"]["eigenvalues"] is None
    assert "eigenvalues" in system["reason"]


def test_a_base_completes_a_set(tmp_path):
    for name in ("O-O", "Si-O", "O-Si"):
        (tmp_path / f"{name}.skf").symlink_to(MODEL / f"{name}.skf")
    engines = (FakeEngine(), FakeEngine())
    alone = validate(tmp_path, engines=engines)
    assert alone.elements == ("O",)
    for base in (MODEL, str(MODEL), [MODEL], [tmp_path, MODEL]):
        found = validate(tmp_path, base=base, engines=engines)
        assert found.elements == ("O", "Si")
        assert found.folders[0] == str(tmp_path)


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_folders(tmp_path):
    engines = (FakeEngine(), FakeEngine())
    with pytest.raises(InputError, match="nowhere"):
        validate(tmp_path / "nowhere", engines=engines)
    with pytest.raises(InputError, match="no Slater-Koster file"):
        validate(tmp_path, engines=engines)
    (tmp_path / "Si-O.skf").symlink_to(MODEL / "Si-O.skf")
    with pytest.raises(InputError, match=r"no homonuclear.*base"):
        validate(tmp_path, engines=engines)
    (tmp_path / "Si-Si.skf").symlink_to(MODEL / "Si-Si.skf")
    (tmp_path / "O-O.skf").symlink_to(MODEL / "O-O.skf")
    with pytest.raises(InputError, match=r"O-Si\.skf is missing"):
        validate(tmp_path, engines=engines)
    (tmp_path / "O-Si.skf").write_text("0.1 20\nthis is no table\n")
    with pytest.raises(FileFormatError, match=r"O-Si\.skf"):
        validate(tmp_path, engines=engines)
    assert validate(tmp_path, ["Si"], engines=engines).agree


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), 2.0])
def test_bad_tolerance(tolerance):
    with pytest.raises(ParameterError, match="tolerance"):
        validate(MODEL, tolerance=tolerance, engines=(FakeEngine(), FakeEngine()))


@pytest.mark.dftbplus
def test_embedded_engine_and_dftbplus_agree_on_the_made_up_set():
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        DftbPlusEngine()
    except EngineMissing as error:
        pytest.skip(str(error))
    found = validate(MODEL)
    assert [c for c in found.comparisons if c.verdict is Verdict.disagree] == []
    assert found.compared > 15
