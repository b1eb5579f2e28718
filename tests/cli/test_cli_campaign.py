"""dftbparam campaign: tables, exit codes, what is refused before anything runs; one small campaign for real."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from dftbparam.cli.campaign import is_published
from dftbparam.errors import EngineError, ParameterError
from dftbparam.store import TrialStore

SUPPORT = Path(__file__).parents[1] / "campaign" / "support"

FILE = """
name = "two"
[defaults]
evaluations = 6
[elements.Si]
[elements.Ge]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def faked(monkeypatch, tmp_path):
    """Elements without physics; returns a dict of arguments by symbol to give to the fake jobs."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    from fake_jobs import FakeJob

    more = {}

    class Job(FakeJob):
        def __init__(self, campaign, plan, publish, is_published):
            given = dict(more.get(plan.symbol, {}))
            self.interrupt_at = given.pop("interrupt_at", None)
            super().__init__(plan.symbol, campaign.out, evaluations=plan.request.evaluations, **given)
            self.name = campaign.run_id(plan.symbol)

        @property
        def run_id(self):
            return self.name

        def search(self, store, executor, workers, done, on_progress, stop):
            def watch(progress):
                on_progress(progress)
                if progress.done == self.interrupt_at:
                    os.kill(os.getpid(), signal.SIGINT)
                    stop.wait(60)

            return super().search(store, executor, workers, done, watch, stop)

    monkeypatch.setattr("dftbparam.campaign.element_job.ElementJob", Job)
    return more


def test_whose_result_a_folder_is(monkeypatch, tmp_path):
    manifest = SimpleNamespace(settings={"run": {"seed": 1}}, trials={"done": 6})
    monkeypatch.setattr("dftbparam.publish.read_manifest", lambda _: manifest)
    monkeypatch.setattr("dftbparam.publish.verify_folder", lambda _: [])
    assert is_published(tmp_path, 6, {"seed": 1})
    assert is_published(tmp_path, None, {"seed": 1})
    assert not is_published(tmp_path, 7, {"seed": 1})
    # Another campaign's result is neither taken for this one's nor overwritten.
    with pytest.raises(ParameterError, match=r"a run with other settings.*differs: seed"):
        is_published(tmp_path, 6, {"seed": 2})


def test_run_status_resume(run, file, faked):
    result = run("campaign", "run", file, "--workers", 0, "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert "6 of 6" in result.stdout
    assert "2 finished; 12 trials" in result.stdout
    assert "Si: finished" in result.stderr
    value = json.loads(Path("out.json").read_text())
    assert value["totals"]["elements"] == {"finished": 2}
    assert {one["name"]: (one["state"], one["done"]) for one in value["elements"]} == {
        "Si": ("finished", 6),
        "Ge": ("finished", 6),
    }
    assert value["proposals"]["Si"]["number"] == 2
    assert value["proposals"]["Si"]["mean_seconds"] > 0.0

    for source in (file, file.with_suffix(".sqlite")):
        shown = run("campaign", "status", source, "--json", "-")
        assert shown.exit_code == 0
        assert json.loads(shown.stdout)["totals"] == value["totals"]
    assert "two/Si" in run("campaign", "status", file.with_suffix(".sqlite")).stdout

    again = run("campaign", "run", file, "--workers", 0)
    assert again.exit_code == 2
    assert "go on with it (dftbparam campaign resume" in again.stderr

    file.write_text(FILE.replace("6", "8") + "[elements.Sn]\n")
    more = run("campaign", "resume", file, "--workers", 0)
    assert more.exit_code == 0, more.output
    assert "two: Si: evaluations: was 6, now 8" in more.stderr
    assert "two: Sn is new" in more.stderr
    assert "3 finished; 24 trials" in more.stdout


def test_one_element_fails(run, file, faked):
    faked["Si"] = {"context": {"hopeless": True}}
    result = run("campaign", "run", file, "--workers", 0)
    assert result.exit_code == 1
    assert "failed: Si; 'campaign resume' tries them again" in result.stderr
    assert "none of 6 trials succeeded" in result.stdout
    shown = json.loads(run("campaign", "status", file, "--json", "-").stdout)
    assert {one["name"]: one["state"] for one in shown["elements"]} == {"Ge": "finished", "Si": "failed"}


def test_interrupted(run, file, faked):
    faked["Si"] = {"interrupt_at": 3}
    result = run("campaign", "run", file, "--workers", 0, "--at-once", 1)
    assert result.exit_code == 130
    assert f"interrupted; all trials are kept, go on with: dftbparam campaign resume {file}" in result.stderr
    shown = json.loads(run("campaign", "status", file, "--json", "-").stdout)
    assert {one["name"]: one["state"] for one in shown["elements"]} == {"Ge": "interrupted", "Si": "interrupted"}
    faked.clear()
    assert run("campaign", "resume", file, "--workers", 0).exit_code == 0


def test_the_cluster_is_lost(run, file, faked, monkeypatch):
    def lose(*_, **__):
        raise EngineError("lost the connection to tcp://somewhere")

    monkeypatch.setattr("dftbparam.campaign.driver.drive", lose)
    result = run("campaign", "run", file, "--workers", 0)
    assert result.exit_code == 3
    assert "lost the connection" in result.stderr


def test_a_campaign_that_has_not_been_run(run, file):
    result = run("campaign", "status", file)
    assert result.exit_code == 0
    assert result.stdout.count("not begun") == 2


def test_some_elements_only(run, file, faked):
    assert run("campaign", "run", file, "--workers", 0, "--only", "Ge").exit_code == 0
    shown = json.loads(run("campaign", "status", file, "--json", "-").stdout)
    assert [one["name"] for one in shown["elements"]] == ["Ge"]
    assert shown["not_begun"] == ["Si"]
    assert "not begun" in run("campaign", "status", file).stdout


def test_what_is_refused(refused, file, tmp_path):
    assert "no such element; it has: Si, Ge" in refused("campaign", "run", file, "--only", "Al")
    assert "contradict each other" in refused("campaign", "run", file, "--workers", 1, "--scheduler", "tcp://a:1")
    assert "cannot be read" in refused("campaign", "run", tmp_path / "none.toml")
    assert "is neither an address like tcp://host:8786" in refused("campaign", "run", file, "--scheduler", "nonsense")
    assert "is neither" in refused("campaign", "run", file, "--scheduler", "tcp://a:99999")
    assert "did you mean" in refused("campaign", "run", file, "--cluster", "slurmm")
    assert not file.with_suffix(".sqlite").exists()
    assert not file.with_suffix("").exists()
    assert "'' is no campaign file" in refused("campaign", "status", "")
    assert "is no campaign file and no trial store" in refused("campaign", "status", tmp_path)
    (tmp_path / "taken").write_text("")
    file.write_text('out = "taken"\n' + FILE)
    assert "two.toml: out: output folder" in refused("campaign", "run", file)
    file.write_text('store = "."\n' + FILE)
    assert "two.toml: store: " in refused("campaign", "run", file)
    assert not file.with_suffix("").exists()
    file.write_text(FILE + 'crystals = ["magic"]\n')
    line = refused("campaign", "run", file)
    assert "1 of 2 elements cannot be fitted: Ge: no crystal 'magic'" in line
    assert not file.with_suffix(".sqlite").exists()


@pytest.mark.slow
def test_a_campaign_for_real(run, tmp_path):
    """The trials of an element are those of a fit of its own; what is missing of its result is written anew."""
    path = tmp_path / "alkali.toml"
    path.write_text('[defaults]\nsampler = "sobol"\nseed = 3\nevaluations = 4\n[elements.Na]\n')
    assert run("campaign", "run", path, "--workers", 0).exit_code == 0
    fit = run(
        "fit", "Na", "--sampler", "sobol", "--seed", 3, "--evaluations", 4, "--workers", 0, "--out", tmp_path / "fit"
    )
    assert fit.exit_code == 0, fit.output

    def trials(store, run_id):
        with TrialStore.open(store) as opened:
            return [(t.index, t.x, t.objective, t.metrics, t.details, t.settings_hash) for t in opened.trials(run_id)]

    assert trials(tmp_path / "alkali.sqlite", "alkali/Na") == trials(tmp_path / "fit" / "trials.sqlite", "fit")
    folder = tmp_path / "alkali" / "Na"
    for name in ("Na-Na.skf", "score.json"):
        assert (folder / name).read_bytes() == (tmp_path / "fit" / name).read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"].startswith("dftbparam")
    assert str(tmp_path) not in (folder / "manifest.json").read_text()

    (folder / "score.json").unlink()
    assert run("campaign", "resume", path, "--workers", 0).exit_code == 0
    assert (folder / "score.json").exists()
    assert len(trials(tmp_path / "alkali.sqlite", "alkali/Na")) == 4


def test_a_dashboard_that_nobody_would_show_is_refused(refused, run, tmp_path, monkeypatch):
    (tmp_path / "demo.toml").write_text('elements = ["Si"]\n')
    for words in (("--workers", "0"), ("--scheduler", "tcp://127.0.0.1:1")):
        assert "for workers that are started here" in refused(
            "campaign", "run", "demo.toml", "--dashboard", "127.0.0.1:8787", *words
        )
    for address in ("8787", "127.0.0.1:", "127.0.0.1:99999", "http://127.0.0.1"):
        assert "give a host and a port" in refused("campaign", "run", "demo.toml", "--dashboard", address)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = run("campaign", "run", "demo.toml", "--dashboard", "127.0.0.1:8787")
    assert missing.exit_code == 3
    assert "pip install 'dftbparam[dashboard]'" in missing.stderr
    assert not (tmp_path / "demo.sqlite").exists()
