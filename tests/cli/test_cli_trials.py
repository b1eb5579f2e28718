"""``dftbparam trials``: which store, which run, and what is written."""

from __future__ import annotations

import csv
import json

import pytest

from dftbparam.store import STORE_NAME, Run, Trial, TrialStore


def fill(path, *names):
    with TrialStore.open(path) as store:
        for name in names:
            store.create_run(Run(name, {"name": name}, {"evaluations": 9}))
            for index, objective in enumerate([2.0, None, 1 / 3]):
                store.append(
                    Trial(
                        name,
                        index,
                        (0.5,),
                        {"r_s": 2.0 + index},
                        "failed" if objective is None else "finished",
                        objective,
                        metrics={} if objective is None else {"dV": 1.5},
                        error=None if objective else {"type": "AtomError", "message": "did not converge"},
                        seconds=1.5,
                    )
                )


@pytest.fixture
def one(tmp_path):
    fill(tmp_path / "Si" / STORE_NAME, "fit")
    return tmp_path / "Si"


@pytest.fixture
def many(tmp_path):
    path = tmp_path / "many.sqlite"
    fill(path, "oxides/Mg", "oxides/Ca")
    with TrialStore.open(path) as store:
        store.create_run(Run("oxides", {}))
        store.set_state("oxides/Sr", "waiting", "for Ca")
    return path


def test_the_name_of_the_store_is_the_fits():
    from dftbparam.campaign import fit

    assert fit.STORE_NAME == STORE_NAME


@pytest.mark.parametrize("how", ["folder", "file", "address"])
def test_the_only_run_is_listed(run, one, how):
    words = {"folder": one, "file": one / STORE_NAME, "address": f"sqlite:///{one / STORE_NAME}"}
    result = run("trials", words[how])
    assert result.exit_code == 0, result.output
    for text in ("trial", "r_s", "0.333333", "failed", "AtomError: did not converge"):
        assert text in result.stdout
    assert result.stderr == ""


def test_by_campaign_file(run, tmp_path, many):
    (tmp_path / "oxides.toml").write_text('store = "many.sqlite"\n[elements.Mg]\n')
    result = run("trials", "oxides.toml", "--run", "oxides/Mg")
    assert result.exit_code == 0, result.output
    assert "0.333333" in result.stdout


def test_any_single_store_in_a_folder(run, refused, tmp_path, many):
    assert run("trials", tmp_path, "--runs").exit_code == 0
    fill(tmp_path / "other.sqlite", "fit")
    assert "many.sqlite, other.sqlite; name one" in refused("trials", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "has a search been run there?" in refused("trials", tmp_path / "empty")


def test_a_status(run, one):
    result = run("trials", one, "--status", "failed", "--json", "-")
    assert [trial["index"] for trial in json.loads(result.stdout)["trials"]] == [1]
    result = run("trials", one, "--status", "finished", "--out", "t.csv")
    assert result.exit_code == 0
    assert "wrote 2 trials" in result.stderr


def test_files(run, one, tmp_path):
    result = run("trials", one, "--out", "t.csv", "--json", "both.json")
    assert (result.exit_code, result.stdout) == (0, "")
    with open("t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert [row["parameter.r_s"] for row in rows] == ["2.0", "3.0", "4.0"]
    assert float(rows[2]["objective"]) == 1 / 3
    assert run("trials", one, "--out", "t.json").exit_code == 0
    value = json.loads((tmp_path / "t.json").read_text())
    assert value == json.loads((tmp_path / "both.json").read_text())
    assert value["run"]["settings"] == {"name": "fit"}
    assert [trial["x"] for trial in value["trials"]] == [[0.5]] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Si", "both.json", "t.csv", "t.json"]


def test_several_runs_are_listed(run, refused, many):
    result = run("trials", many)
    assert result.exit_code == 0
    assert "oxides/Mg" in result.stdout
    assert "--run RUN" in result.stderr
    for option in (("--out", "t.csv"), ("--json", "-")):
        line = refused("trials", many, *option)
        assert "holds 2 runs; name one with --run: oxides/Ca, oxides/Mg" in line
    result = run("trials", many, "--run", "oxides/Ca", "--json", "-")
    assert json.loads(result.stdout)["run"]["run_id"] == "oxides/Ca"
    assert "oxides/Mg" in refused("trials", many, "--run", "oxides/Ba")


def test_runs_and_their_totals(run, many, tmp_path):
    result = run("trials", many, "--runs", "--json", "-")
    runs = {one["run_id"]: one for one in json.loads(result.stdout)["runs"]}
    assert list(runs) == ["oxides", "oxides/Ca", "oxides/Mg", "oxides/Sr"]
    calcium = runs["oxides/Ca"]
    assert (calcium["finished"], calcium["failed"], calcium["evaluations"], calcium["seconds"]) == (2, 1, 9, 4.5)
    assert (calcium["best_objective"], calcium["best_index"]) == (1 / 3, 2)
    assert (runs["oxides/Sr"]["state"], runs["oxides/Sr"]["message"]) == ("waiting", "for Ca")
    result = run("trials", many, "--runs")
    assert "waiting" in result.stdout
    for name in ("r.csv", "r.json"):
        assert "wrote 4 runs" in run("trials", many, "--runs", "--out", name).stderr
    with open("r.csv", newline="") as file:
        assert [row["run_id"] for row in csv.DictReader(file)] == list(runs)
    assert json.loads((tmp_path / "r.json").read_text())["runs"] == list(runs.values())


def test_a_long_run_is_cut_on_the_screen_only(run, one, monkeypatch):
    monkeypatch.setattr("dftbparam.cli.trials.LISTED", 2)
    result = run("trials", one)
    assert "the first 2 of 3 trials" in result.stderr
    assert "0.333333" not in result.stdout


def test_a_store_at_work_is_not_disturbed(run, one):
    before = sorted(p.name for p in one.iterdir())
    with TrialStore.open(one / STORE_NAME) as store, store.exclusive("fit"):
        assert run("trials", one, "--out", "t.csv").exit_code == 0
        assert json.loads(run("trials", one, "--runs", "--json", "-").stdout)["runs"][0]["held"] is True
    assert [name for name in sorted(p.name for p in one.iterdir()) if not name.endswith(".lock")] == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("no.sqlite",), "there is no trial store"),
        (("Si", "--out", "t.xlsx"), "must end in .csv or .json"),
        (("Si", "--out", "no/t.csv"), "cannot be written"),
        (("Si", "--runs", "--run", "fit"), "leave --run and --status out"),
        (("Si", "--run", "nonsense"), "no run 'nonsense'; it holds: fit"),
        (("mysql://me:hushhush@host/x",), "is not a database address"),
    ],
)
def test_bad_input(refused, one, words, says):
    line = refused("trials", *words)
    assert says in line
    assert "hush" not in line


def test_a_missing_server(run):
    pytest.importorskip("psycopg")
    result = run("trials", "postgresql://me:hushhush@/x?host=/nowhere")
    assert result.exit_code == 3
    assert "no connection to its server" in result.stderr
    assert "hush" not in result.output


def test_a_missing_driver(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    result = run("trials", "postgresql://me:hushhush@host/x")
    assert result.exit_code == 3
    assert "pip install 'dftbparam[postgresql]'" in result.stderr
    assert "hush" not in result.output
