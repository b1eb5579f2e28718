"""The report of a published set: elements left out, own crystals and compounds apart, some elements alone."""

from __future__ import annotations

import json
import re

import pytest

from dftbparam.errors import InputError
from dftbparam.publish.collect import OURS, PTBP, ElementResult
from dftbparam.publish.scores import summary
from dftbparam.report.html import collect_results, render_page, report_tables, restrict, table_plots
from dftbparam.report.html.figures import available, summarise
from dftbparam.score import KINDS
from dftbparam.space import load_parameter_set
from tests.report.support.run_folders import write_run, write_set

WHY = "two atoms fall into each other [dimer]"


@pytest.fixture
def published(tmp_path):
    return write_set(tmp_path / "dftbparam-x", {"Pu": [WHY]}, "Ti", "O")


def data_of(collection):
    page = render_page(collection)
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_an_element_left_out_is_no_result_and_keeps_its_card(published):
    found = collect_results([published])
    assert list(found.results) == ["O", "Ti"]
    assert list(found.left_out) == ["Pu"]
    assert found.reasons["Pu"] == f"left out of the set: {WHY}"
    (plutonium,) = (one for one in data_of(found)["elements"] if one["symbol"] == "Pu")
    assert "ours" not in plutonium
    assert plutonium["reason"].endswith(WHY)
    assert plutonium["left_out"]["detail"]["crystals"]
    rows = {row["symbol"]: row for row in report_tables(found)["elements.csv"]}
    assert [rows[s]["result"] for s in ("Ti", "Pu", "Fe")] == ["yes", "left out", "no"]
    assert rows["Pu"]["elemental_dV_ours"] is None
    assert all(row["n"] == 2 for row in summarise([*found.results.values()], available(found.results.values())))


def test_a_result_from_elsewhere_takes_the_place_of_one_left_out(published, tmp_path):
    write_run(tmp_path / "runs" / "Pu", "Pu")
    for order in ((published, tmp_path / "runs"), (tmp_path / "runs", published)):
        found = collect_results(order)
        assert found.results["Pu"].source == "runs/Pu"
        assert not found.left_out
        assert "Pu" not in found.reasons
        assert "Pu was left out of a set given; runs/Pu is shown" in found.notes


def test_left_out_without_a_card_is_left_out_all_the_same(published):
    scores = json.loads((published / "scores.json").read_text())
    del scores["elements"]["Pu"]
    (published / "scores.json").write_text(json.dumps(scores))
    found = collect_results([published])
    assert found.left_out == {"Pu": None}
    assert next(one for one in data_of(found)["elements"] if one["symbol"] == "Pu")["left_out"] == {}


def test_figures_are_those_of_the_sets_own_summary(published):
    """The same numbers as publish writes into scores.json and the README."""
    stored = json.loads((published / "scores.json").read_text())["elements"]
    record = load_parameter_set("ptbp").element("Ti")
    names = {"ours": OURS, "ptbp": PTBP}
    theirs = summary(
        {
            symbol: ElementResult(
                symbol, record, {names[k]: card for k, card in one["cards"].items()}, None, None, "x", {}
            )
            for symbol, one in stored.items()
            if symbol != "Pu"
        }
    )
    results = [*collect_results([published]).results.values()]
    rows = {row["key"]: row for row in summarise(results, available(results))}
    assert set(rows) >= {*KINDS, "mean_abs_formation_error"}
    assert "mean_abs_dV" not in rows
    for key in (*KINDS, "mean_abs_formation_error"):
        row = {new: rows[key][old] for new, old in (("elements", "n"), ("ours", "ours"), ("better", "better"))}
        assert row | {"ptbp": rows[key]["published"]} == theirs[key]
    assert rows["elemental_dV"]["ours"] == pytest.approx(2.5)
    assert rows["compound_dV"]["ours"] == pytest.approx(1.25)


def test_the_table_as_an_image_hatches_those_left_out(published):
    name, drawing = next(table_plots(collect_results([published])))
    assert name == "table-elemental_dV-ours"
    (axes, _) = drawing.axes
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == 1
    assert "hatched: left out of the set" in [text.get_text() for text in axes.texts]


def test_some_elements_alone(published):
    found = restrict(collect_results([published]), ["Ti", "Pu"])
    assert list(found.results) == ["Ti"]
    assert list(found.left_out) == ["Pu"]
    assert found.reasons["O"] == found.reasons["Fe"] == "not asked for"
    assert [row["symbol"] for row in report_tables(found)["elements.csv"]] == ["Ti", "Pu"]
    assert data_of(found)["only"] == ["Ti", "Pu"]


@pytest.mark.parametrize(
    ("symbols", "words"),
    [(["Xx"], "'Xx' given; right would be"), ([], "no element given"), (["Fe"], "no result of Fe; .* are: O Ti")],
)
def test_elements_that_cannot_be_shown_alone(published, symbols, words):
    with pytest.raises(InputError, match=words):
        restrict(collect_results([published]), symbols)


def test_damage_of_an_element_not_asked_for_is_no_problem(tmp_path):
    write_run(tmp_path / "set" / "Si", "Si")
    (tmp_path / "set" / "Ge").mkdir()
    (tmp_path / "set" / "Ge" / "score.json").write_text("{")
    found = collect_results([tmp_path / "set"])
    assert not restrict(found, ["Si"]).problems
    assert restrict(found, ["Ge"]).problems == found.problems
