"""``dftbparam report``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dftbparam.campaign.record import DASHBOARD
from dftbparam.cli.report import _standing
from dftbparam.store import Run, TrialStore
from tests.report.support.live_store import begin, trial
from tests.report.support.run_folders import write_run, write_set

ROOT = Path(__file__).parents[2]


@pytest.fixture
def campaign(tmp_path):
    write_run(tmp_path / "set" / "Si", "Si")
    return tmp_path / "set"


def test_writes_the_page_and_the_tables(run, campaign, tmp_path):
    result = run("report", campaign, "--out", "page.html", "--csv", "tables", "--title", "Our set")
    assert result.exit_code == 0, result.output
    assert "1 of 96 elements" in result.stderr
    assert "<title>Our set</title>" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "tables" / "elements.csv").read_text().count("\n") == 97


def test_elements_left_out_are_told_and_some_elements_can_be_asked_for(run, refused, tmp_path):
    write_set(tmp_path / "dftbparam-x", {"Pu": ["no dimer"]}, "Ti", "O")
    assert "2 of 96 elements, 1 left out of the set (Pu)" in run("report", "dftbparam-x").stderr
    result = run("report", "dftbparam-x", "--only", "Ti, Pu", "--csv", "tables")
    assert result.exit_code == 0, result.output
    assert "1 of 2 elements, 1 left out of the set (Pu)" in result.stderr
    assert (tmp_path / "tables" / "elements.csv").read_text().count("\n") == 3
    assert "--only 'Ti,Xx': 'Xx' given; right would be" in refused("report", "dftbparam-x", "--only", "Ti,Xx")
    assert "no result of Fe" in refused("report", "dftbparam-x", "--only", "Fe")


def test_images_of_the_elements_asked_for(run, campaign, tmp_path, monkeypatch):
    write_run(campaign / "Al", "Al", new=False)
    monkeypatch.setattr("dftbparam.report.html.table_plots", lambda collection: iter(()))  # ten seconds
    result = run("report", campaign, "--png", "images", "--only", "Al")
    assert result.exit_code == 0, result.output
    assert sorted({path.name.partition("-")[0] for path in (tmp_path / "images").iterdir()}) == ["Al"]


def test_damage_is_named_the_rest_shown_and_the_exit_code_is_1(run, campaign, tmp_path):
    (campaign / "Ge").mkdir()
    (campaign / "Ge" / "score.json").write_text("{")
    result = run("report", campaign, "--out", "page.html")
    assert result.exit_code == 1
    assert "error: set/Ge/score.json: " in result.stderr
    assert (tmp_path / "page.html").exists()


def test_refuses_what_is_no_folder_of_results(refused, campaign, tmp_path):
    assert "does not exist" in refused("report", "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no results in" in refused("report", "empty")
    assert not (tmp_path / "report.html").exists()


def test_refuses_places_that_cannot_be_written_before_it_reads(refused, campaign, tmp_path):
    assert "cannot be written" in refused("report", campaign, "--out", "missing/page.html")
    assert "is a folder" in refused("report", campaign, "--out", campaign)
    (tmp_path / "file").write_text("")
    assert "--csv" in refused("report", campaign, "--csv", "file")


@pytest.fixture
def store(tmp_path):
    with TrialStore.open(tmp_path / "out" / "trials.sqlite") as opened:
        begin(opened, "Si")
        opened.append(trial("demo/Si", 0, 4.0))
    (tmp_path / "demo.toml").write_text(
        'name = "demo"\nstore = "out/trials.sqlite"\nout = "out"\nelements = ["Si", "Al"]\n'
    )
    return tmp_path / "out" / "trials.sqlite"


@pytest.mark.parametrize(
    ("source", "number"), [("demo.toml", signal.SIGINT), ("sqlite:///out/trials.sqlite", signal.SIGTERM)]
)
def test_serves_a_campaign_and_a_store_and_ends_with_a_signal(store, tmp_path, source, number):
    """In a process of its own; the first of the two is what Ctrl-C sends."""
    before = store.read_bytes()
    command = [
        sys.executable,
        "-c",
        "from dftbparam.cli import main; main()",
        "report",
        "--serve",
        source,
        "--port",
        "0",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stderr.readline()
            found = re.search(r"at (http://127\.0\.0\.1:\d+/) until Ctrl-C", line)
            assert found, line + process.stderr.read()
            with urllib.request.urlopen(found[1] + "live.json", timeout=10) as answer:
                head = json.load(answer)
            assert [run["name"] for run in head["live"]["runs"]] == ["Si"]
            reasons = {one["symbol"]: one.get("reason") for one in head["elements"]}
            assert reasons["Al"] == ("not begun" if source == "demo.toml" else "no run of it in the store")
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
            assert process.stderr.read() == "ended\n"
        finally:
            process.kill()
    assert store.read_bytes() == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["trials.sqlite"]


def test_a_port_in_use_is_said(refused, store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in refused("report", "--serve", store, "--port", port)


def test_another_host_is_warned_of(run, store, monkeypatch):
    monkeypatch.setattr("dftbparam.report.live.server.LiveServer.serve_until_interrupted", lambda self: None)
    open_ = run("report", "--serve", store.parent, "--host", "0.0.0.0", "--port", "0")
    assert open_.exit_code == 0
    assert "warning: everybody who can reach http://0.0.0.0:" in open_.stderr
    assert "warning" not in run("report", "--serve", store, "--port", "0").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("out/trials.sqlite", "--port", "8050"), "--port needs --serve"),
        (("--serve", "out/trials.sqlite", "--out", "page.html"), "--out and --serve contradict"),
        (("--serve", "out", "--only", "Si"), "--only and --serve contradict"),
        (("--serve", "out", "out"), "one campaign or store, 2 were given"),
        (("--serve", "nowhere.sqlite"), "there is no trial store nowhere.sqlite"),
        (("--serve", "nowhere.toml"), "cannot be read"),
        (("--serve", "demo.toml.sqlite"), "there is no trial store"),
        (("--serve", "out", "--dashboard", "javascript:alert(1)"), "give an address such as"),
        (("--serve", "out", "--port", "0", "--host", "192.0.2.1"), "no address of this machine"),
    ],
)
def test_what_cannot_be_served(refused, store, words, message):
    assert message in refused("report", *words)
    assert not (store.parent / "nowhere.sqlite").exists()


def test_the_view_links_the_dashboard_that_the_record_names_while_something_runs(store, tmp_path):
    with TrialStore.open(store) as opened:
        opened.create_run(Run("demo", {"campaign": "demo", "format": 1}))
        opened.set_state("demo", "running", f"{DASHBOARD}http://node7:8787/status", "node7:1")
        assert _standing(opened, "demo", (), None).dashboard == ""  # nobody holds the run
        with opened.exclusive("demo/Si"):
            found = _standing(opened, "demo", (), None)
            assert found.dashboard == "http://node7:8787/status"
            assert [(one.run_id, one.state) for one in found.runs] == [("demo/Si", "running")]
            assert _standing(opened, None, (), None).dashboard == "http://node7:8787/status"
            assert _standing(opened, "demo", (), "https://mine/").dashboard == "https://mine/"
            opened.set_state("demo", "running", f"{DASHBOARD}javascript:alert(1)")
            assert _standing(opened, "demo", (), None).dashboard == ""
