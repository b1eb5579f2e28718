import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from dftbparam.campaign.compute import compute
from dftbparam.campaign.executor import SerialExecutor
from dftbparam.errors import EngineMissing, InputError, ParameterError, ReferenceDataError, StoreError, StructureError
from dftbparam.reference import CrystalReference, birch_murnaghan, load_dataset, load_frames
from dftbparam.reference.dft import Archive, Plan, Request, System, Task, next_steps, recipe_for, run_task
from dftbparam.reference.dft.code import available
from dftbparam.reference.dft.collect import collect
from dftbparam.reference.dft.curves import FARTHEST, HALF_WINDOW, RATIO
from dftbparam.reference.dft.frames import displaced, displaced_copies, repeated
from dftbparam.reference.dft.guess import guess_volume
from dftbparam.reference.dft.partners import binaries_for, reason, represented
from dftbparam.reference.dft.paths import band_path
from dftbparam.reference.dft.plan import kpoints, parse_system
from dftbparam.reference.prototypes import PROTOTYPES, build, prototype

EMT = "ase.calculators.emt:EMT"
STAND_IN = "tests.reference.support.stand_in_codes"


def follow(energy, limit=200):
    """Run the search for a minimum on a function of the grid point; returns its end and what it computed."""
    energies: dict[int, float | None] = {}
    for _ in range(limit):
        state = next_steps(energies)
        if not state.steps:
            return state, energies
        assert not set(state.steps) & set(energies)
        energies |= {k: energy(k) for k in state.steps}
    raise AssertionError("the search does not end")


class TestCurves:
    @given(st.floats(-45.0, 45.0), st.floats(3.0, 6.0), st.floats(-1e4, 1e4))
    def test_finds_the_minimum_of_any_equation_of_state(self, shift, b_prime, zero):
        v0 = RATIO**shift
        state, energies = follow(lambda k: float(birch_murnaghan(RATIO**k, zero, v0, 0.5, b_prime)))
        assert state.status == "done"
        assert len(state.window) == 2 * HALF_WINDOW + 1
        assert abs(np.mean(state.window) - shift) <= 1.0
        assert set(state.window) <= set(energies)

    def test_good_guess_costs_seven_points(self):
        _, energies = follow(lambda k: (k - 0.3) ** 2)
        assert sorted(energies) == list(range(-3, 4))

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_no_minimum(self, sign):
        state, energies = follow(lambda k: sign * k)
        assert state.status == "no-minimum"
        assert max(abs(k) for k in energies) <= FARTHEST

    def test_flat_curve_ends(self):
        state, _ = follow(lambda k: 0.0)
        assert state.status in ("done", "no-minimum", "failed")

    def test_all_fail(self):
        state, energies = follow(lambda k: None)
        assert state.status == "failed"
        assert len(energies) == 3

    def test_one_failure_in_the_window_is_borne(self):
        state, _ = follow(lambda k: None if k == 2 else k**2)
        assert state.status == "done"
        assert 2 not in state.window
        assert len(state.window) == 6

    def test_two_failures_in_the_window_are_not(self):
        state, _ = follow(lambda k: None if k in (1, 2) else k**2)
        assert state.status == "failed"

    def test_wall_of_failures(self):
        state, _ = follow(lambda k: None if k < -4 else (k + 9) ** 2)
        assert state.status == "failed"

    @given(st.dictionaries(st.integers(-60, 60), st.one_of(st.none(), st.floats(-10, 10)), max_size=12), st.randoms())
    def test_always_ends_whatever_the_energies(self, known, random):
        follow(lambda k: known.get(k, random.uniform(-10, 10)))


class TestRecipes:
    def test_cutoff_of_a_compound_is_the_highest(self):
        assert recipe_for(["Al"]).cutoff == 350.0
        assert recipe_for(["B"]).cutoff == 450.0
        assert recipe_for(["Zn", "S"]).cutoff == 500.0
        assert recipe_for(["Zn", "O"]).cutoff == 600.0
        assert recipe_for(["Zn", "O"]).kpoint_density < recipe_for(["Zn"]).kpoint_density
        assert recipe_for(["Zn"], cutoff=300.0).cutoff == 300.0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"cutoff": -1.0}, "cutoff.*greater than 0.*-1"),
            ({"cutof": 400.0}, "cutof"),
            ({"smearing": float("nan")}, "smearing"),
            ({"code": "vasp"}, "neither 'gpaw' nor an ASE calculator"),
        ],
    )
    def test_bad_change(self, changes, message):
        with pytest.raises(ParameterError, match=message):
            recipe_for(["Al"], **changes)


class TestTasks:
    def test_key_follows_what_decides_the_numbers(self):
        atoms, recipe = build("fcc", "Cu", 12.0), recipe_for(["Cu"])
        task = Task.of("Cu/a", "energy", recipe, atoms, (2, 2, 2), details={"volume": 12.0})
        assert task.key == Task.of("Cu/b", "energy", recipe, atoms, (2, 2, 2)).key
        others = [
            Task.of("Cu/a", "forces", recipe, atoms, (2, 2, 2)),
            Task.of("Cu/a", "energy", recipe_for(["Cu"], cutoff=400.0), atoms, (2, 2, 2)),
            Task.of("Cu/a", "energy", recipe, build("fcc", "Cu", 12.001), (2, 2, 2)),
            Task.of("Cu/a", "energy", recipe, build("fcc", "Ag", 12.0), (2, 2, 2)),
            Task.of("Cu/a", "energy", recipe, atoms, (2, 2, 3)),
        ]
        assert len({task.key, *(other.key for other in others)}) == len(others) + 1
        again = Task.model_validate(json.loads(json.dumps(task.model_dump(mode="json"))))
        assert again == task
        assert again.key == task.key

    def test_key_ignores_the_last_bit(self):
        atoms, recipe = build("hcp", "Cu", 12.0), recipe_for(["Cu"])
        shifted = atoms.copy()
        shifted.positions += 1e-13
        keys = {Task.of("Cu/a", "energy", recipe, a, (1, 1, 1)).key for a in (atoms, shifted)}
        assert len(keys) == 1


class TestArchive:
    def make(self, tmp_path):
        task = Task.of("Cu/fcc/eos/+00", "energy", recipe_for(["Cu"]), build("fcc", "Cu", 12.0), (2, 2, 2))
        return Archive(tmp_path / "calculations"), task

    def test_round_trip(self, tmp_path):
        archive, task = self.make(tmp_path)
        assert archive.get(task) is None
        archive.put(task, {"result": {"energy": 1.0}, "error": None})
        assert archive.get(task)["result"] == {"energy": 1.0}
        assert [(t, r["key"]) for t, r in archive.records()] == [(task, task.key)]

    def test_failure_does_not_replace_a_result(self, tmp_path):
        archive, task = self.make(tmp_path)
        archive.put(task, {"result": {"energy": 1.0}, "error": None})
        archive.put(task, {"result": None, "error": {"message": "killed"}})
        assert archive.get(task)["error"] is None

    def test_second_run_is_refused(self, tmp_path):
        archive, _ = self.make(tmp_path)
        with archive.locked(), pytest.raises(StoreError, match="another run"), Archive(archive.folder).locked():
            pass
        with archive.locked():
            pass

    def test_half_written_files_are_no_records(self, tmp_path):
        archive, task = self.make(tmp_path)
        archive.path(task).parent.mkdir(parents=True)
        (archive.path(task).parent / ".writing-abc.json").write_text('{"for')
        assert list(archive.records()) == []

    @pytest.mark.parametrize(
        ("text", "error"),
        [('{"format": 1', StoreError), ("[1]", ReferenceDataError), ('{"format": 9}', ReferenceDataError)],
    )
    def test_unreadable(self, tmp_path, text, error):
        archive, task = self.make(tmp_path)
        archive.path(task).parent.mkdir(parents=True)
        archive.path(task).write_text(text)
        with pytest.raises(error, match=r"\+00"):
            archive.get(task)

    def test_full_disk(self, tmp_path, monkeypatch):
        archive, task = self.make(tmp_path)

        def full(*_args, **_more):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(StoreError, match="No space left"):
            archive.put(task, {"result": None, "error": None})
        assert [p for p in archive.folder.rglob("*") if p.is_file()] == []


class TestSystems:
    def test_reads_elements_and_binaries(self):
        assert parse_system("Si", ["fcc", "A4"]) == System("Si", None, ("fcc", "diamond"))
        assert parse_system("Mg-O", ["B1"]).prototypes == ("rocksalt",)
        assert "ground-state" in parse_system("Ti").prototypes
        assert "ground-state" not in parse_system("Cu").prototypes

    @pytest.mark.parametrize("text", ["", "Six", "Mg-", "Mg-O-H", "Mg-Mg", "Es"])
    def test_bad_system(self, text):
        with pytest.raises(InputError):
            parse_system(text)

    def test_prototype_of_the_wrong_kind(self):
        with pytest.raises(InputError, match="binary"):
            parse_system("Si", ["rocksalt"])

    @pytest.mark.parametrize(
        "symbol", ["H", "N", "O", "F", "P", "S", "Cl", "Br", "I", "He", "Ne", "Ar", "Kr", "Xe", "Hg"]
    )
    def test_elements_without_a_solid_have_four_partners(self, symbol):
        systems = binaries_for(symbol)
        assert len({system.name for system in systems}) >= 4
        assert all(symbol in system.symbols for system in systems)
        assert len(reason(symbol)) > 20
        assert symbol in represented()

    def test_others_have_none(self):
        with pytest.raises(ReferenceDataError, match="no binaries are listed for Fe"):
            binaries_for("Fe")

    def test_unknown_property(self):
        with pytest.raises(ParameterError, match="unknown property 'eoss'"):
            Request([parse_system("Cu", ["fcc"])], ["eoss"])


@pytest.mark.parametrize("name", PROTOTYPES)
@pytest.mark.parametrize(("symbol", "partner"), [("Si", "O"), ("Cs", "Cl"), ("W", "H"), ("Cm", "Fr")])
def test_guesses_are_sane(name, symbol, partner):
    crystal = prototype(name)
    volume = guess_volume(name, symbol, partner if crystal.binary else None)
    assert 0.8 < crystal.neighbour_distance(volume) < 6.5


def test_guesses_of_known_crystals_are_the_known_ones():
    assert guess_volume("diamond", "Si") == pytest.approx(load_dataset().stable("Si").volume)
    assert guess_volume("ground-state", "Ti") == pytest.approx(17.39, abs=0.05)


def test_mesh_keeps_the_symmetry():
    atoms = build("beta-sn", "Sn", 27.0)
    n = kpoints(prototype("beta-sn"), atoms.cell.array, 5.0)
    assert n[0] == n[1] == n[2]
    hcp = kpoints(prototype("hcp"), build("hcp", "Mg", 23.0).cell.array, 5.0)
    assert hcp[0] == hcp[1] > hcp[2]


def test_band_path_of_the_cell_as_it_is():
    pytest.importorskip("seekpath")
    atoms = build("diamond", "Si", 20.4)
    path = band_path(atoms)
    assert path.labels[0] == "Γ"
    assert {"X", "L", "W"} <= set(path.labels.values())
    # X of the face-centred cube, in whatever basis: half a reciprocal vector of the cube.
    x = path.points[next(i for i, name in path.labels.items() if name == "X")]
    a = prototype("diamond").lattice_constant(20.4)
    assert np.linalg.norm(x @ np.linalg.inv(atoms.cell.array).T) == pytest.approx(1.0 / a)
    steps = np.linalg.norm(np.diff(path.points @ np.linalg.inv(atoms.cell.array).T, axis=0), axis=1)
    inside = np.delete(steps, [i - 1 for i in path.breaks])
    assert inside.max() < 3.0 * np.median(inside)


def test_displaced_copies():
    crystal = build("fcc", "Cu", 12.0)
    first, again, other = (displaced(crystal, "Cu fcc", i, 2.56) for i in (0, 0, 1))
    assert len(first) == 2
    np.testing.assert_array_equal(first.positions, again.positions)
    assert not np.allclose(first.positions, other.positions)
    assert 0.85 < first.get_volume() / 24.0 < 1.2


def test_displaced_copies_of_a_reference_set():
    values = {"bulk_modulus": 0.5, "bulk_modulus_derivative": 4.0, "energy": 0.0}
    crystal = CrystalReference(symbol="Si", prototype="diamond", volume=20.0, **values)
    frames = displaced_copies([crystal], 2, atoms=8)
    assert [a.info for a in frames] == [
        {"name": "Si diamond", "index": k, "seed": 0, "origin": "displaced"} for k in (0, 1)
    ]
    assert [len(a) for a in frames] == [8, 8]
    lengths = repeated(crystal.atoms(20.0), 8).cell.lengths()
    assert lengths.max() / lengths.min() < 2.01
    chain = CrystalReference(symbol="Si", prototype="chain", volume=11.0, **values)
    with pytest.raises(StructureError, match="Si chain is periodic in 1 directions"):
        displaced_copies([chain], 1)


class TestRunning:
    def task(self, recipe, kind="energy", volume=12.0, name="fcc", symbol="Cu"):
        atoms = build(name, symbol, volume)
        return Task.of(f"{symbol}/{name}/eos/+00", kind, recipe, atoms, (2, 2, 2))

    def test_energy_forces_stress_by_an_ase_calculator(self):
        from ase.calculators import emt

        task = self.task(recipe_for(["Cu"], code=EMT), "forces", name="hcp")
        record = run_task(task)
        atoms = task.atoms()
        atoms.calc = emt.EMT()
        assert record["result"]["energy"] == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(record["result"]["forces"], atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(record["result"]["stress"], atoms.get_stress(), atol=1e-12)
        assert set(record["versions"]) == {"dftbparam", "ase", EMT}

    @pytest.mark.parametrize(
        ("how", "kind"), [("scf", "ScfNotConverged"), ("nan", "CalculationError"), ("defect", "EngineError")]
    )
    def test_failure_is_a_record(self, how, kind):
        recipe = recipe_for(["Cu"], code=f"{STAND_IN}:Failing", options={"how": how})
        record = run_task(self.task(recipe))
        assert record["result"] is None
        assert record["error"]["type"] == kind
        assert "Cu/fcc/eos/+00" in record["error"]["message"]

    def test_options_are_filled_in(self, tmp_path):
        options = {"kpts": "{kpts}", "directory": "{directory}", "note": str(tmp_path / "note")}
        run_task(self.task(recipe_for(["Cu"], code=f"{STAND_IN}:Recorder", options=options)))
        assert (tmp_path / "note").read_text() == "(2, 2, 2) True"

    def test_bands_need_gpaw(self):
        record = run_task(self.task(recipe_for(["Cu"], code=EMT), "bands"))
        assert "with GPAW" in record["error"]["message"]

    @pytest.mark.parametrize(
        ("code", "error", "message"),
        [
            ("no.such.module:Calculator", EngineMissing, "cannot be imported"),
            ("ase.calculators.emt:Nothing", ParameterError, "has no 'Nothing'"),
        ],
    )
    def test_code_that_is_not_there(self, code, error, message):
        with pytest.raises(error, match=message):
            available(code)

    def test_gpaw_missing_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "gpaw", None)
        with pytest.raises(EngineMissing, match=r"apt install libxc-dev .*pip install gpaw"):
            available()

    @pytest.mark.parametrize(
        ("atoms", "message"),
        [
            (Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0.1)], cell=[5, 5, 5]), "two nuclei are 0.1"),
            (Atoms("Cu", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]]), "has no volume"),
        ],
    )
    def test_impossible_structures(self, atoms, message):
        record = run_task(Task.of("Cu/x", "energy", recipe_for(["Cu"], code=EMT), atoms, (1, 1, 1)))
        assert message in record["error"]["message"]


def run(tmp_path, *names, properties=("eos",), symbol="Cu", code=EMT, **more):
    request = Request([parse_system(symbol, names)], properties, {"code": code, **more}, frames=3)
    archive = Archive(tmp_path / "calculations")
    return compute(request, archive, SerialExecutor()), archive, request


class TestWhole:
    def test_from_a_request_to_a_data_set(self, tmp_path):
        done, archive, _ = run(tmp_path, "fcc", "bcc", "dimer", properties=("eos", "forces", "atoms", "convergence"))
        assert done.failed == 0
        summary = collect(archive, tmp_path, "mine")
        assert not summary.no_minimum
        data = load_dataset(tmp_path)
        assert {c.prototype for c in data.crystals} == {"fcc", "bcc", "dimer"}
        # EMT was made for fcc copper: a = 3.59 Angstrom, and bcc above it.
        assert data.stable("Cu").prototype == "fcc"
        fcc = next(c for c in data.crystals if c.prototype == "fcc")
        assert fcc.volume == pytest.approx(3.59**3 / 4, rel=0.01)
        assert fcc.structure.dimensions == 3
        assert [a.symbol for a in data.atoms] == ["Cu"]
        assert data.offset("Cu") == pytest.approx(data.atoms[0].energy)
        frames = load_frames(tmp_path)
        assert len(frames) == 3
        for atoms in frames:
            assert np.abs(atoms.get_forces()).max() > 0.0
            assert len(atoms.get_stress()) == 6
        text = (tmp_path / "convergence.csv").read_text()
        assert "Cu,bcc,cutoff" in text
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
        collect(archive, tmp_path, "mine")
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before

    def test_two_recipes_in_one_folder_are_not_mixed(self, tmp_path):
        run(tmp_path, "fcc", "bcc", "sc")
        _, archive, _ = run(tmp_path, "fcc", "bcc", cutoff=123.0)
        summary = collect(archive, tmp_path, "mine")
        assert summary.left_out == {"Cu": sum(t.recipe.cutoff == 123.0 for t, _ in archive.records())}
        data = load_dataset(tmp_path)
        assert len(data.crystals) == 3
        assert "cutoffs" not in data.settings

    def test_two_versions_of_a_code_are_not_mixed(self, tmp_path):
        _, archive, _ = run(tmp_path, "fcc", "bcc")
        (path, *_) = (p for p in archive.paths() if "/fcc/" in str(p) and "+03" in p.name)
        record = json.loads(path.read_text())
        record["versions"][EMT] = "an older one"
        path.write_text(json.dumps(record))
        summary = collect(archive, tmp_path, "mine")
        assert summary.left_out == {"Cu": 1}
        assert {c.prototype for c in load_dataset(tmp_path).crystals} == {"bcc"}

    def test_files_that_became_empty_are_deleted(self, tmp_path):
        _, archive, _ = run(tmp_path, "fcc", properties=("eos", "forces"))
        collect(archive, tmp_path, "mine")
        for path in archive.paths():
            if "/frames/" in str(path):
                path.unlink()
        collect(archive, tmp_path, "mine")
        assert not (tmp_path / "frames.extxyz").exists()

    def test_frames_tell_both_energies_and_their_origin(self, tmp_path):
        _, archive, _ = run(tmp_path, "fcc", properties=("eos", "forces"))
        collect(archive, tmp_path, "mine")
        for atoms in load_frames(tmp_path):
            assert {"energy", "free_energy", "forces", "stress"} <= set(atoms.calc.results)
            assert atoms.info["crystal"] == "Cu fcc"
            assert atoms.info["code"] == EMT

    def test_started_again_runs_nothing(self, tmp_path):
        first, _, _ = run(tmp_path, "fcc", "bcc")
        again, _, _ = run(tmp_path, "fcc", "bcc")
        assert again.finished == 0
        assert again.found == first.finished

    def test_more_prototypes_run_only_what_is_new(self, tmp_path):
        run(tmp_path, "fcc")
        more, archive, _ = run(tmp_path, "fcc", "sc")
        assert all("/sc/" in t.label or "/fcc/" in t.label for t, _ in archive.records())
        assert more.finished == sum("/sc/" in t.label for t, _ in archive.records())

    def test_failures_do_not_stop_the_rest(self, tmp_path):
        code = f"{STAND_IN}:Failing"
        done, archive, _ = run(tmp_path, "fcc", "diamond", code=code, options={"below": 15.0, "how": "scf"})
        assert done.failed > 0
        summary = collect(archive, tmp_path, "mine")
        assert "Cu/fcc" in summary.no_minimum
        assert {c.prototype for c in load_dataset(tmp_path).crystals} == {"diamond"}
        again, archive, _ = run(tmp_path, "fcc", "diamond", code=code, options={"below": 15.0, "how": "scf"})
        assert again.finished == 0
        assert len(again.errors) == done.failed
        more = {"code": code, "options": {"below": 15.0, "how": "scf"}}
        request = Request([parse_system("Cu", ["fcc", "diamond"])], ["eos"], more)
        retried = compute(request, archive, SerialExecutor(), retry_failed=True)
        assert retried.failed == done.failed

    def test_code_missing_stops_before_anything_is_run(self, tmp_path):
        with pytest.raises(EngineMissing):
            run(tmp_path, "fcc", code="no.such:Thing")
        assert list(Archive(tmp_path / "calculations").records()) == []

    def test_plan_is_pure(self, tmp_path):
        records: dict[str, Mapping] = {}
        plan = Plan(Request([parse_system("Cu", ["fcc"])], ["eos"], {"code": EMT}), lambda t: records.get(t.label))
        first = [t.label for t in plan.progress(plan.request.systems[0]).tasks]
        assert first == [t.label for t in plan.progress(plan.request.systems[0]).tasks]
        assert first == ["Cu/fcc/eos/-03", "Cu/fcc/eos/+00", "Cu/fcc/eos/+03"]

    def test_energies_of_one_curve_share_one_mesh(self, tmp_path):
        _, archive, _ = run(tmp_path, "fcc", "hcp")
        meshes: dict[str, set] = {}
        for task, _ in archive.records():
            meshes.setdefault(task.label.split("/")[1], set()).add(task.kpts)
        assert all(len(found) == 1 for found in meshes.values())


def test_volume_steps_cover_the_range_of_the_delta_project():
    assert RATIO**HALF_WINDOW == pytest.approx(1.06, abs=0.003)
    assert RATIO**-HALF_WINDOW == pytest.approx(0.94, abs=0.003)
    assert math.isclose(RATIO**FARTHEST, 3.0, rel_tol=0.1)
