"""A parameter set from results: complete, checked, rebuilt to the same bytes."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from dftbparam.errors import FileFormatError, ParameterError
from dftbparam.publish import gate, pairs
from dftbparam.publish.collect import collect
from dftbparam.publish.pairs import BLOCK, Grid, in_blocks
from dftbparam.publish.parameter_set import GateRefused, SetRequest, publish_set
from dftbparam.publish.set_manifest import read_set_manifest, verify_set
from dftbparam.publish.workers import run_tasks
from dftbparam.skf import format_skf, read_set
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

GRID = Grid(0.05, None)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two light elements that pass the gate."""
    path = tmp_path_factory.mktemp("results") / "parameters.json"
    ptbp = load_parameter_set("ptbp")
    ptbp.model_copy(update={"elements": {s: ptbp.element(s) for s in ("B", "C")}}).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def _without_dftbplus(monkeypatch):
    monkeypatch.setattr("dftbparam.publish.parameter_set.dftbplus_available", lambda: False)


def request(source, out, **changes):
    return SetRequest(**{"results": (source,), "name": "trial-1", "out": out, "grid": GRID} | changes)


@pytest.fixture(scope="module")
def published(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "trial-1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dftbparam.publish.parameter_set.dftbplus_available", lambda: False)
        return out, publish_set(request(results, out))


def test_a_set_is_complete_and_says_so(published):
    out, found = published
    assert (found.elements, found.with_tables, found.built, found.reused) == (("B", "C"), ("B", "C"), 3, 0)
    assert verify_set(out) == []
    manifest = read_set_manifest(out)
    assert manifest == found.manifest
    assert manifest.gate == {"dftb+": "not installed: not asked"}
    names = {record.path for record in manifest.files}
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and ".build" not in p.parts}
    assert there == names | {"manifest.json"}
    assert set(read_set(out / "skf").files) == {("B", "B"), ("B", "C"), ("C", "B"), ("C", "C")}
    for line in (out / "SHA256SUMS").read_text().splitlines():
        checksum, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == checksum
    assert "creativecommons.org/licenses/by/4.0" in (out / "LICENSE").read_text()
    assert not list(out.rglob("*.tmp"))


def test_its_tables_are_rebuilt_bit_for_bit(published):
    out, _ = published
    parameters = load_parameter_set(out / "parameters.json")
    for (a, b), file in build_tables(parameters, ["C", "B"], grid_step=GRID.grid_step).files.items():
        assert format_skf(file).encode() == (out / "skf" / f"{a}-{b}.skf").read_bytes()


def test_resuming_builds_only_what_is_missing_or_changed(results, published):
    out, _ = published
    content = {p.name: p.read_bytes() for p in (out / "skf").iterdir()}
    (out / "skf" / "B-C.skf").write_bytes(content["B-C.skf"][:1000])
    (out / "skf" / ".C-C.skf.1.tmp").write_bytes(b"half")
    with (out / ".build" / "pairs.jsonl").open("a") as handle:
        handle.write('{"key": "cut o')
    assert len(verify_set(out)) == 1
    again = publish_set(request(results, out, resume=True))
    assert (again.built, again.reused) == (1, 2)
    assert {p.name: p.read_bytes() for p in (out / "skf").iterdir()} == content
    assert verify_set(out) == []


def test_a_folder_is_not_written_over_unasked(results, published, tmp_path):
    out, _ = published
    with pytest.raises(ParameterError, match="not empty"):
        publish_set(request(results, out))
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ParameterError, match="no set to go on with"):
        publish_set(request(results, tmp_path, resume=True))


def test_what_fails_is_not_published(results, tmp_path, monkeypatch):
    real = gate.data_defects
    monkeypatch.setattr(gate, "data_defects", lambda d: ["too soft [spin]"] if d.symbol == "B" else real(d))
    out = tmp_path / "set"
    with pytest.raises(GateRefused, match=r"did not pass the gate.*B") as caught:
        publish_set(request(results, out))
    assert caught.value.data["defects"] == {"B": ("too soft [spin]",)}
    assert not (out / "manifest.json").exists()
    assert not list((out / "skf").iterdir())
    found = publish_set(request(results, out, resume=True, keep_going=True, pairs="tracked"))
    assert (found.elements, found.with_tables) == (("C",), ("C",))
    assert found.manifest.left_out == {"B": ("too soft [spin]",)}
    assert "B: too soft" in (out / "README.md").read_text()
    assert json.loads((out / "scores.json").read_text())["left_out"] == {"B": ["too soft [spin]"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a b"}, "name 'a b'"),
        ({"elements": ("Si",)}, "no results for Si"),
        ({"only": ("Si",)}, "no results for Si"),
        ({"only": ()}, "no results for no element"),
        ({"only": ("B",), "elements": ("C",)}, "no results for C"),
        ({"workers": 0}, "0 workers"),
        ({"results": ()}, "no results given"),
        ({"results": ("ptbp", "ptbp")}, "H is in 'PTBP' and again"),
    ],
)
def test_bad_requests_are_refused(results, tmp_path, changes, message):
    with pytest.raises(ParameterError, match="(?i)" + message):
        publish_set(request(results, tmp_path / "set", **changes))
    assert not (tmp_path / "set").exists()


def test_run_folders_are_collected_with_their_scores():
    found = collect(["skf_out/dftbparam-0.1"])
    assert list(found.elements) == ["C", "Na", "Al", "Si", "Ti", "Fe", "Cu", "Ga", "As", "W"]
    silicon = found.elements["Si"]
    assert silicon.manifest is not None
    assert silicon.manifest.seed == 0
    assert set(silicon.cards) == {"this fit", "published PTBP"}


def test_a_manifest_of_something_else_is_told_apart():
    with pytest.raises(FileFormatError, match="no manifest of a set"):
        read_set_manifest("skf_out/dftbparam-0.1/Si")


def test_blocks_hold_every_pair_once():
    symbols = [str(i) for i in range(2 * BLOCK + 3)]
    found = list(in_blocks(symbols))
    assert len(found) == len(symbols) * (len(symbols) + 1) // 2
    assert len({frozenset(pair) for pair in found}) == len(found)


def test_workers_answer_every_task():
    assert sorted(answer for _, answer in run_tasks(abs, range(-20, 0), 2)) == list(range(1, 21))


def test_a_folder_of_tables_goes_through_the_gate(published):
    out, _ = published
    assert gate.gate_folder(out / "skf") == []


def test_gate_sees_the_minimum_between_its_points():
    """A parabola around 1.025 V0, and a well at 0.6 V0 that lies above its bottom, but below its nearest points."""
    x = np.array(gate.RELATIVE_VOLUMES)
    curve = 8.0 * (x - 1.025) ** 2
    curve[x == 0.6] = 0.003
    assert gate._curve_defects("sc", curve, []) == []
    curve[x == 0.6] = -0.003
    (defect,) = gate._curve_defects("sc", curve, [])
    assert defect.startswith("sc implodes: at 0.6 V0 it lies 0.00 eV/atom below 1")


def test_gate_finds_an_implosion():
    energies = np.linspace(0.0, 1.0, len(gate.RELATIVE_VOLUMES))
    (defect,) = gate._curve_defects("fcc", energies, [])
    assert "fcc implodes: at 0.5 V0" in defect
    wall = np.array([(x - 1.0) ** 2 for x in gate.RELATIVE_VOLUMES])
    assert gate._curve_defects("fcc", wall, []) == []


def test_a_published_set_is_a_result_like_its_runs(tmp_path):
    out = tmp_path / "again"
    publish_set(request("skf_out/dftbparam-0.1", tmp_path / "first", only=("Al", "C"), pairs="none"))
    first = collect([tmp_path / "first"])
    assert list(first.elements) == ["C", "Al"]
    runs = collect(["skf_out/dftbparam-0.1"])
    for symbol, found in first.elements.items():
        run = runs.elements[symbol]
        assert (found.parameters, found.cards, found.uncertainty) == (run.parameters, run.cards, run.uncertainty)
        assert found.manifest is not None
        assert run.manifest is not None
        assert found.manifest.settings == run.manifest.settings
        assert found.provenance == {**run.provenance, "set": "trial-1"}
    found = publish_set(request(str(tmp_path / "first"), out, only=("C",), pairs="none", name="trial-2"))
    assert found.elements == ("C",)
    assert found.manifest.elements["C"] == read_set_manifest(tmp_path / "first").elements["C"]
    scores = [json.loads((folder / "scores.json").read_text())["elements"] for folder in (tmp_path / "first", out)]
    assert scores[1] == {"C": scores[0]["C"]}


def test_a_published_set_that_was_changed_is_refused(published, tmp_path):
    """Its report cards are of the parameters that its manifest knows."""
    source = tmp_path / "set"
    shutil.copytree(published[0], source)
    path = source / "parameters.json"
    value = json.loads(path.read_text())
    value["elements"]["B"]["density"]["radius"] *= 1.1
    path.write_text(json.dumps(value))
    assert list(collect([source], only=("C",)).elements) == ["C"]
    with pytest.raises(FileFormatError, match="B: the parameters are not those of the set's manifest"):
        collect([source])
    for broken in ({"elements": []}, {"elements": {"C": []}}, {"elements": {"C": {"cards": {"ours": 3}}}}):
        (source / "scores.json").write_text(json.dumps(broken))
        with pytest.raises(FileFormatError, match=r"scores\.json"):
            collect([source], only=("C",))


def test_only_asks_nothing_of_the_others(results, tmp_path):
    """Another form of repulsion, and an element twice, of those that are not asked for."""
    other = tmp_path / "other.json"
    set_ = load_parameter_set("skf_out/dftbparam-0.1/parameters.json")
    set_.model_copy(update={"elements": {s: set_.element(s) for s in ("C", "Si")}}).save(other)
    assert list(collect([results, other], only=("B",)).elements) == ["B"]
    with pytest.raises(ParameterError, match="no results for Xe; there are some for B C Si"):
        collect([results, other], only=("Xe",))


def test_a_set_of_some_elements_solves_no_others(results, tmp_path):
    steps = []
    found = publish_set(request(results, tmp_path / "set", only=("C",)), lambda *step: steps.append(step))
    assert found.elements == found.with_tables == ("C",)
    assert {(stage, name) for stage, name, *_ in steps} == {("elements", "C"), ("gate", "C"), ("pairs", "C-C")}
    assert list(load_parameter_set(tmp_path / "set" / "parameters.json").elements) == ["C"]


def test_a_finished_set_does_not_become_another_one(results, published):
    out, _ = published
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ParameterError, match=r"finished set 'trial-1'.*--name trial-1"):
        publish_set(request(results, out, resume=True, name="trial-2"))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_pairs_that_were_refused_are_named(tmp_path, monkeypatch):
    real = pairs.pair_defects
    monkeypatch.setattr(
        pairs, "pair_defects", lambda files: ["B-C: too long [cutoff]"] if ("B", "C") in files else real(files)
    )
    ptbp = load_parameter_set("ptbp")
    ptbp.model_copy(update={"elements": {s: ptbp.element(s) for s in ("B", "C")}}).save(tmp_path / "p.json")
    found = publish_set(request(str(tmp_path / "p.json"), tmp_path / "set", keep_going=True))
    assert found.left_out == {"B-C": ("B-C: too long [cutoff]",)}
    assert "  - B-C: too long [cutoff]\n" in (tmp_path / "set" / "README.md").read_text()


def test_the_readme_says_what_the_folder_holds(results, published, tmp_path):
    out, _ = published
    text = (out / "README.md").read_text()
    assert "tables of all ordered pairs of 2 elements (B C)" in text
    assert "were not built" not in text
    assert "checksums of all files but itself and `manifest.json`" in text
    publish_set(request(results, tmp_path / "set", pairs="none"))
    text = (tmp_path / "set" / "README.md").read_text()
    assert "| `skf/X-Y.skf` | no tables are in this folder; those of any" in text
    assert "- Pairs were not built for this folder" in text
    assert "Pairs that have no tables" not in text
