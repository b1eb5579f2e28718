"""``dftbparam fit``: what it refuses, what it leaves behind, and how it is interrupted and resumed."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dftbparam.campaign import fit as campaign_fit
from dftbparam.campaign.fit_bands import AlignedBands
from dftbparam.cli import fit as cli_fit
from dftbparam.cli import progress as cli_progress
from dftbparam.errors import CalculationError, EngineError
from dftbparam.propose import proposer_names
from dftbparam.publish import public_command, read_manifest, verify_folder
from dftbparam.reference import load_dataset
from dftbparam.reference.dataset import dataset_folder
from dftbparam.report.html.records import StoredBandFile
from dftbparam.repulsion.forms import FORMS
from dftbparam.score import ReportCard
from dftbparam.score.uncertainty import Uncertainty
from dftbparam.skf import check_set
from dftbparam.space import load_parameter_set
from dftbparam.space.definition import space_names

PLOTS = {f"energy-volume-{name}.png" for name in ("sc", "bcc", "fcc", "diamond")}
PLOTS |= {"energy-volume.png", "convergence.png", "atom.png", "uncertainty.png"}


@pytest.fixture
def no_search(monkeypatch):
    """Make sure that nothing is computed: what is refused must be refused before."""

    def computed(*_args, **_kwargs):
        raise AssertionError("a search was started")

    monkeypatch.setattr(campaign_fit, "run_campaign", computed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Sj",), "unknown element 'Sj'; did you mean"),
        (("Og",), "unknown element 'Og'; elements H to Cm are known"),
        (("si",), "did you mean Si"),
        (("Si", "--dftbplus", "some/dftb+"), "the engine is 'embedded'; choose the engine 'dftb+'"),
        (("Si", "--workers", "2", "--scheduler", "tcp://a:1"), "--workers 2 and --scheduler tcp://a:1 contradict"),
        (("Si", "--workers", "2", "--cluster", "slurm"), "--workers 2 and --cluster slurm contradict each other"),
        (("Si", "--scheduler", "tcp://a:1", "--cluster", "slurm"), "--scheduler tcp://a:1 and --cluster slurm"),
        (("Si", "--cluster", "nonsense"), "no cluster profile 'nonsense'; there are: "),
        (("Si", "--min-improvement", "0"), "--min-improvement: Input should be greater than 0"),
        (("Si", "--min-improvement", "nan"), "--min-improvement: Input should be"),
        (("Si", "--space", "radius"), "'radius' is neither a file nor a shipped search space; shipped: default, ptbp"),
        (("Si", "--space", "folder"), "'folder' is a folder"),
        (("Si", "--space", "file"), "file: has no format; this version reads format = 1"),
        (("Si", "--space", "bad.toml"), "bad.toml:4: shell_radius.range: [3, 2] is upside down or empty"),
        (("C", "--space", "d-only.toml"), "d-only.toml: nothing is searched for C"),
        (("Si", "--space", "radii", "--fixed-power"), "a fixed power belongs to the default space"),
        (("Si", "--start-from", "publishd"), "no file and no folder; did you mean 'published'?"),
        (("Si", "--start-from", "none", "--start-from", "group"), "'none' stands alone"),
        (("Si", "--start-from", "folder"), "no parameters.json of a finished run, and no trials.sqlite"),
        (("Si", "--start-from", "bad.toml"), "bad.toml:1: not JSON"),
        (("Si", "--references", "nothing"), "neither a reference set nor a folder"),
        (("Si", "--sampler", "guess"), f"no sampler 'guess'; there are: {', '.join(proposer_names())}"),
        (("Si", "--repulsion", "guess"), "no repulsion 'guess'; there are: screened-nuclear"),
        (("Si", "--targets", "eos,phonons"), "unknown target 'phonons'; there are: eos, bands, gaps"),
        (("Si", "--targets", "eos,bands"), "'acwf-unaries-pbe' has no bands of the crystals to fit"),
        (("Si", "--targets", "bands"), "the target eos cannot be left out"),
        (("Si", "--crystals", "hcp"), "no crystal 'hcp'; there are: sc, bcc, fcc, diamond"),
        (("Si", "--crystals", "sc,,fcc"), "--crystals 'sc,,fcc': give names with a comma"),
        (("O", "--partners", "nothing"), "neither a parameter file nor a shipped set"),
        (("O", "--partners", "ptbp"), "'acwf-unaries-pbe' has no binaries of O; its binaries: none"),
        (("O", "--exclude-partner", "Mg"), "--exclude-partner needs a fit on binaries"),
        (("O", "--partners", "ptbp", "--exclude-partner", "Mq"), "unknown element 'Mq'"),
        (("O", "--leave-one-out"), "--leave-one-out needs a fit on binaries"),
        (("O", "--leave-one-out-evaluations", "5"), "--leave-one-out-evaluations needs --leave-one-out"),
        (("Si", "--out", "file/Si"), "output folder 'file/Si' cannot be written"),
        (("Si", "--json", "nowhere/si.json"), "output file 'nowhere/si.json' cannot be written (No such file"),
        (("Si", "--json", "folder"), "output file 'folder' is a folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(refused, no_search, tmp_path, words, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.toml").write_text('format = 1\nname = "bad"\n[shell_radius]\nrange = [3.0, 2.0]\n')
    (tmp_path / "d-only.toml").write_text('format = 1\nname = "d"\n[shell_radius.d]\nrange = [3.0, 9.0]\n')
    assert message in refused("fit", *words).splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("--evaluations", "0"),
        ("--evaluations", "many"),
        ("--seed", "-1"),
        ("--workers", "-1"),
        ("--engine", "vasp"),
        ("--patience", "0"),
        ("--min-improvement", "little"),
    ],
)
def test_numbers_out_of_range_are_bad_usage(run, no_search, words):
    result = run("fit", "Si", *words)
    assert result.exit_code == 2
    assert words[0] in result.stderr


def test_options_reach_the_request(run, monkeypatch):
    seen = []

    def interrupted(request, _on_progress):
        seen.append(request)
        return campaign_fit.FitOutcome([], [])

    monkeypatch.setattr(campaign_fit, "run_fit", interrupted)
    run("fit", "Si")
    run("fit", "Si", "--repulsion", "screened-power", "--fixed-power", "--no-shift")
    run("fit", "Si", "--crystals", "sc, fcc", "--targets", "eos:2")
    run("fit", "Si", "--space", "shells", "--start-from", "group", "--start-from", "published", "--patience", "9")
    run("fit", "Si", "--cluster", "local", "--min-improvement", "0.01")
    plain, chosen, some, wide, clustered = seen
    assert (wide.space, wide.start_from, wide.patience) == ("shells", ("group", "published"), 9)
    assert (clustered.cluster, clustered.min_improvement) == ("local", 0.01)
    assert (plain.space, plain.start_from, plain.patience, plain.min_improvement) == (
        "default",
        ("published",),
        None,
        None,
    )
    assert (some.crystals, some.targets, some.partners) == (("sc", "fcc"), "eos:2", None)
    assert (plain.crystals, plain.targets, plain.exclude_partners) == ((), "eos", ())
    assert (plain.repulsion, plain.power, plain.shift) == ("screened-power", True, True)
    assert (chosen.repulsion, chosen.power, chosen.shift) == ("screened-power", False, False)


def test_help_names_every_repulsion(run):
    text = run("fit", "--help").stdout
    assert all(name in text for name in FORMS)


def test_help_names_every_sampler_and_space(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = run("fit", "--help").stdout
    assert all(name in text for name in (*proposer_names(), *space_names()))


def test_starts_that_were_moved_are_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(campaign_fit, "run_fit", lambda *_args: campaign_fit.FitOutcome([], []))
    result = run("fit", "He", "--space", "ptbp")
    assert "fit He: moved into the ranges, start of published: radius = 1.12 Bohr to 2.1" in result.stderr


def test_what_is_published_names_no_folder_of_spaces_and_starts():
    request = campaign_fit.FitRequest(
        symbol="Si", out="run", space="/somewhere/mine.toml", start_from=("group:/somewhere/set.json", "/elsewhere/run")
    )
    asked = cli_fit._asked(request)
    assert (asked["space"], asked["start_from"]) == ("mine.toml", ["group:set.json", "run"])
    assert "cluster" not in asked
    words = ["dftbparam", "fit", "Si", "--start-from", "group:/somewhere/set.json", "--start-from=/elsewhere/run"]
    assert public_command(words) == "dftbparam fit Si --start-from group:set.json --start-from=run"


def test_help_shows_the_defaults_of_the_request():
    from typer.main import get_command

    from dftbparam.cli.app import app

    options = {option.name: option for option in get_command(app).commands["fit"].params}
    fields = campaign_fit.FitRequest.model_fields
    for name in ("sampler", "evaluations", "workers", "repulsion", "targets", "seed", "space"):
        assert options[name].show_default == str(fields[name].default)
    assert (options["start_from"].show_default,) == fields["start_from"].default
    assert options["out"].show_default == "skf_out/SYMBOL"


def test_a_missing_engine_is_exit_3(run, monkeypatch):
    monkeypatch.setenv("DFTBPLUS_COMMAND", "no-such-program-dftb+")
    result = run("fit", "Si", "--engine", "dftb+", "--out", "run")
    assert result.exit_code == 3
    assert "conda install" in result.stderr


def test_a_scheduler_that_does_not_answer_is_exit_3(run, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise EngineError("no Dask scheduler answers at 'tcp://a:1'")

    monkeypatch.setattr(campaign_fit, "run_campaign", unreachable)
    result = run("fit", "Si", "--scheduler", "tcp://a:1", "--out", "run")
    assert result.exit_code == 3
    assert "no Dask scheduler answers" in result.stderr


def test_no_success_is_exit_1(run, monkeypatch):
    def nothing(*_args, **_kwargs):
        raise CalculationError("Si: none of 3 trials succeeded (3 AtomError)")

    monkeypatch.setattr(campaign_fit, "run_fit", nothing)
    result = run("fit", "Si", "--out", "run")
    assert result.exit_code == 1
    assert "none of 3 trials succeeded" in result.stderr


def test_a_set_with_errors_is_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(campaign_fit, "run_fit", lambda *_: campaign_fit.FitOutcome([], []))
    folder = tmp_path / "mine"
    shutil.copytree(dataset_folder("gpaw-pbe"), folder)
    assert "warning" not in run("fit", "Si", "--references", str(folder)).stderr
    table = folder / "data.csv"
    table.write_text(table.read_text() + "\n")
    shown = run("fit", "Si", "--references", str(folder), "--out", "other").stderr
    assert f"warning: {folder} has errors: " in shown
    assert f"dftbparam references check {folder}" in shown


@pytest.mark.parametrize("how", ["while searching", "while scoring"])
def test_ctrl_c_says_how_to_go_on(run, monkeypatch, tmp_path, how):
    def interrupted(_request, _on_progress):
        if how == "while scoring":
            raise KeyboardInterrupt
        return campaign_fit.FitOutcome([], [])

    monkeypatch.setattr(campaign_fit, "run_fit", interrupted)
    monkeypatch.setattr(sys, "argv", ["dftbparam", "fit", "Si", "--seed", "3"])
    result = run("fit", "Si", "--seed", "3")
    assert result.exit_code == 130
    assert "go on with: dftbparam fit Si --seed 3 --out skf_out/Si --resume" in result.stderr
    assert not (tmp_path / "skf_out/Si/manifest.json").exists()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of three trials, begun with two and resumed: (folder, first result, second result)."""
    from typer.testing import CliRunner

    from dftbparam.cli.app import app

    folder = tmp_path_factory.mktemp("fit") / "Si"
    words = ["fit", "Si", "--out", str(folder), "--workers", "0", "--seed", "5", "--sampler", "sobol"]
    first = CliRunner().invoke(app, [*words, "--evaluations", "2"])
    before = (folder / "trials.csv").read_text()
    second = CliRunner().invoke(app, [*words, "--evaluations", "3", "--resume", "--json", "-"])
    return folder, first, before, second


def test_a_fit_leaves_a_complete_folder(fitted):
    folder, first, _, second = fitted
    assert first.exit_code == 0, first.output
    assert second.exit_code == 0, second.output
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names - {"trials.sqlite.lock"} == {
        "Si-Si.skf",
        "manifest.json",
        "parameters.json",
        "score.json",
        "trials.csv",
        "trials.sqlite",
        *(f"plots/{name}" for name in PLOTS),
    }
    assert verify_folder(folder) == []


def test_the_manifest_says_where_the_numbers_come_from(fitted):
    manifest = read_manifest(fitted[0])
    assert manifest.seed == 5
    assert manifest.reference.checksum == load_dataset().checksum
    assert manifest.settings["request"]["evaluations"] == 3
    assert manifest.settings["request"]["sampler"] == "sobol"
    assert manifest.settings["request"]["repulsion"] == "screened-power"
    run = manifest.settings["run"]
    assert (run["campaign"]["seed"], run["campaign"]["in_flight"]) == (5, 1)
    assert run["evaluation"]["dataset_checksum"] == load_dataset().checksum
    assert "radius_3s" in run["space"]
    assert manifest.trials == {"done": 3, "failed": 0}
    assert manifest.versions["numpy"]
    assert manifest.parameters["Si"]["shells"]


def test_nothing_published_names_a_place_on_this_machine(fitted):
    folder = fitted[0]
    assert read_manifest(folder).settings["request"]["out"] == "Si"
    for name in ("manifest.json", "parameters.json", "score.json", "trials.csv"):
        text = (folder / name).read_text()
        assert str(folder.parent) not in text


def test_parameters_at_the_end_of_their_range_are_named(fitted, capsys):
    score = json.loads((fitted[0] / "score.json").read_text())
    card = ReportCard.model_validate(score["cards"]["this fit"])
    result = SimpleNamespace(
        card=card,
        published=None,
        uncertainty=Uncertainty.model_validate(score["uncertainty"]),
        at_border=["power = 10", "radius_3d = 10.5 Bohr"],
        tables=SimpleNamespace(max_angular={"Si": 2}),
    )
    cli_fit._show("Si", fitted[0], result, None)
    shown = capsys.readouterr()
    assert "this fit" in shown.out
    assert shown.err.splitlines() == [
        "at the end of their range: power = 10, radius_3d = 10.5 Bohr; a wider space might do better",
        'for DFTB+: MaxAngularMomentum { Si = "d" }',
    ]


def test_the_summary_stands_beside_the_published_set(fitted):
    _, first, _, second = fitted
    assert "published PTBP" in first.stdout
    assert "mean |ΔB|, %" in first.stdout
    value = json.loads(second.stdout)
    assert isinstance(value["at_border"], list)
    cards = value["cards"]
    assert set(cards) == {"this fit", "published PTBP"}
    assert cards["published PTBP"]["mean_abs_dV"] == pytest.approx(15.0, abs=1.0)


def test_progress_is_plain_lines_without_a_terminal(fitted):
    _, first, _, second = fitted
    lines = first.stderr.splitlines()
    assert lines[0] == "fit Si: starting"
    assert lines[1].startswith("fit Si: 1/2 trial 0 ")
    assert "\x1b" not in first.output
    assert "2 of 3 trials are in the store" in second.stderr


def test_resuming_repeats_no_trial(fitted):
    folder, _, before, _ = fitted
    assert (folder / "trials.csv").read_text().startswith(before)
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert "worker" not in rows[0]


def test_the_files_are_sound_and_can_be_built_again(fitted, run):
    folder = fitted[0]
    assert not [defect for defect in check_set(folder) if defect.severity == "error"]
    assert load_parameter_set(folder / "parameters.json").element("Si")
    assert run("skf", "build", "Si", "--parameters", folder / "parameters.json", "--out", "again").exit_code == 0
    assert Path("again/Si-Si.skf").read_text() == (folder / "Si-Si.skf").read_text()


def test_a_run_is_not_overwritten_unasked(fitted, run):
    folder, _, _, _ = fitted
    before = (folder / "manifest.json").read_text()
    result = run("fit", "Si", "--out", folder, "--workers", "0")
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert (folder / "manifest.json").read_text() == before


def test_resuming_with_other_settings_names_them(fitted, run):
    result = run("fit", "Si", "--out", fitted[0], "--workers", "0", "--resume", "--seed", "6", "--sampler", "sobol")
    assert result.exit_code == 2
    assert "seed: was 5, now 6" in result.stderr


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.0, "0:00"), (61.4, "1:01"), (3600.0, "1:00:00"), (-2.0, "0:00")]
)
def test_clock(seconds, text):
    assert cli_progress.clock(seconds) == text


def test_a_missing_dftbplus_is_exit_3_and_leaves_no_folder(run, no_search, tmp_path):
    out = tmp_path / "run"
    result = run("fit", "Si", "--engine", "dftb+", "--dftbplus", "no-such-dftb+", "--out", out)
    assert result.exit_code == 3
    assert "conda install -c conda-forge dftbplus" in result.stderr
    assert not out.exists()


def test_bands_are_written_as_the_report_reads_them():
    """The content of bands.json, of a reference that is shipped; levels are checked where they are computed."""
    data = load_dataset("gpaw-pbe")
    reference = next(one for one in data.bands if one.symbol == "Al" and one.partner is None)
    skipped = 1
    levels = reference.array[:, skipped:] + 0.25
    result = SimpleNamespace(
        parameters=SimpleNamespace(name="dftbparam-Al", provenance={"versions": {"numpy": "2"}}),
        best=SimpleNamespace(index=7),
    )
    request = campaign_fit.FitRequest(symbol="Al", references="gpaw-pbe", out=Path("unused"))
    assert cli_fit._bands(request, result, data, []) is None
    written = cli_fit._bands(request, result, data, [AlignedBands(reference, skipped, {"this fit": levels})])
    assert written["provenance"]["reference"]["checksum"] == data.checksum
    assert (written["provenance"]["trial"], written["provenance"]["engine"]) == (7, "embedded")
    (read,) = StoredBandFile.model_validate_json(json.dumps(written)).structures
    assert (read.crystal, read.skipped) == (reference.name, skipped)
    np.testing.assert_allclose(np.transpose(read.sets["this fit"]) - np.transpose(read.dft[skipped:]), 0.25, atol=2e-4)
    assert read.labels[0] == (0.0, "Γ")
