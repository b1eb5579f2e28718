"""``dftbparam report``."""

from __future__ import annotations

import pytest

from tests.report.support.run_folders import write_run


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
