"""The report as data: what is found, what is shown, what becomes of damaged files. The page itself: see the browser's
tests."""

from __future__ import annotations

import itertools
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from dftbparam.elements import all_symbols
from dftbparam.errors import InputError
from dftbparam.publish.scores import scores_value
from dftbparam.reference import birch_murnaghan
from dftbparam.report.html import FIGURES, collect_results, element_plots, render_page, report_tables, table_plots
from dftbparam.report.html.curves import REACH, energy_volume
from dftbparam.report.html.figures import HEADLINES, available, summarise
from dftbparam.report.html.page import embedded_json
from dftbparam.report.html.places import places
from dftbparam.report.scales import CIVIDIS, Scale, colour_at, ink_on
from dftbparam.score import KINDS
from dftbparam.store import STORE_NAME, TrialStore
from tests.report.support.run_folders import write, write_run


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def element_of(page, symbol):
    return next(one for one in data_of(page)["elements"] if one["symbol"] == symbol)


@pytest.fixture
def campaign(tmp_path):
    """A campaign's folder: a new run, an old one."""
    write_run(tmp_path / "set" / "Si", "Si")
    write_run(tmp_path / "set" / "Al", "Al", new=False)
    return tmp_path / "set"


def test_a_folder_of_runs_and_a_run_folder_are_both_read(campaign):
    assert list(collect_results([campaign]).results) == ["Al", "Si"]
    one = collect_results([campaign / "Si"])
    assert list(one.results) == ["Si"]
    assert one.results["Si"].source == "Si"
    assert not one.problems


def test_every_element_is_there_with_its_figures_or_a_reason(campaign):
    data = data_of(render_page(collect_results([campaign])))
    assert [one["symbol"] for one in data["elements"]] == list(all_symbols())
    for one in data["elements"]:
        assert ("reason" in one) != ("ours" in one)
    silicon = data["elements"][13]
    by_key = {figure["key"]: i for i, figure in enumerate(data["figures"])}
    assert silicon["ours"][by_key["mean_abs_dV"]] == 2.0
    assert silicon["published"][by_key["mean_abs_dV"]] == 8.0
    assert silicon["ours"][by_key["sound"]] == 1.0
    assert silicon["published"][by_key["sound"]] == 0.0
    assert silicon["ours"][by_key["forces.rms"]] == 0.1
    assert "mean_abs_gap_error" not in by_key  # no card has it


def test_same_input_same_bytes(campaign):
    assert render_page(collect_results([campaign])) == render_page(collect_results([campaign]))


def test_page_is_one_file_that_asks_for_nothing(campaign):
    page = render_page(collect_results([campaign]))
    assert "default-src 'none'" in page
    markup = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert re.findall(r'(?:src|href)="([^"]*)"', markup) == ["data:,"]
    assert re.findall(r"https?://[^\s\"']+", markup) == ["http://www.w3.org/2000/svg"]
    assert "$" + "{" in markup  # the script's own templates came through unharmed


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", "<!--<script>", "a\u2028b", "\ud800"])
def test_no_text_can_leave_the_data(campaign, tmp_path, hostile):
    assert not set("<>&\u2028\u2029") & set(embedded_json({"a": hostile}))
    write_run(tmp_path / "Ge", "Ge", manifest={"command": hostile}, error="<img src=x onerror=alert(1)>: bad")
    page = render_page(collect_results([tmp_path / "Ge"]), title="<b>&")
    assert page.count("<script") == 2
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert ["command", hostile.replace("\ud800", "?")] in element_of(page, "Ge")["detail"]["provenance"]


def test_of_two_results_the_last_is_shown_and_it_is_said(campaign, tmp_path):
    write_run(tmp_path / "later" / "Si", "Si", dV=0.5)
    found = collect_results([campaign, tmp_path / "later"])
    assert found.results["Si"].ours.mean_abs_dV == 0.5
    assert found.notes == ("Si was found twice: later/Si is shown, set/Si is not",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"schema_version": 2, "symbol": "Ge", "cards": {}}', "schema_version 2; this version of dftbparam reads 1"),
        ('{"symbol": "Ge", "cards": {}}', "schema_version None"),
        ("[]", "schema_version None"),
        ('{"schema_version": 1, "symbol": "Ge", "cards": {}}', "cards"),
        (
            '{"schema_version": 1, "symbol": "Ge", "cards": {"this fit": {"symbol": "Ge", "mean_abs_dV": NaN}}}',
            "finite",
        ),
        ('{"schema_version": 1, "symbol": "Xx", "cards": {"this fit": {"symbol": "Xx"}}}', "'Xx' is no element"),
        ("[" * 100000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_damaged_score_is_named_and_the_rest_is_shown(campaign, content, words):
    folder = campaign / "Ge"
    folder.mkdir()
    (folder / "score.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = collect_results([campaign])
    (problem,) = found.problems
    assert problem.where == "set/Ge/score.json"
    assert words in problem.message
    assert str(campaign) not in problem.message
    assert list(found.results) == ["Al", "Si"]
    assert "score.json" in found.reasons["Ge"]


def test_bands_are_those_in_the_range_drawn_and_a_result_without_says_so(campaign):
    page = render_page(collect_results([campaign]))
    new, old = element_of(page, "Si")["detail"], element_of(page, "Al")["detail"]
    (levels,) = new["levels"]
    assert levels["dft"] == [[-800, -700, -700, -800], [50, 150, 150, 4000]]  # in 10 meV; none in the core
    assert levels["ours"][0] == [-770, -670, -670, -770]
    assert levels["published"][0][0] == -740
    assert levels["range"] == [-9.0, 9.3]  # 1 eV below the lowest level, 9 eV above the upper edge
    assert new["no_levels"] == ""
    assert old["levels"] == []
    assert old["no_levels"].startswith("No bands: the reference data")
    (campaign / "Si" / "bands.json").unlink()
    assert (
        "made before they were recorded"
        in element_of(render_page(collect_results([campaign])), "Si")["detail"]["no_levels"]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbol": "Ge"}, "bands of 'Ge', not of Si"),
        ({"structures": [{"crystal": "sc", "x": [0, 1], "window": [0, 1], "dft": [[1.0]]}]}, "one level for each of 2"),
        ({"structures": [{"crystal": "sc", "x": [0], "window": [0, 1], "dft": [[1.0]], "skipped": 1}]}, "skipped"),
    ],
)
def test_damaged_bands_are_named(campaign, change, words):
    path = campaign / "Si" / "bands.json"
    write(path, json.loads(path.read_text()) | change)
    (problem,) = collect_results([campaign]).problems
    assert problem.where == "set/Si/bands.json"
    assert words in problem.message


@pytest.mark.parametrize("name", ["parameters.json", "trials.csv", "manifest.json"])
def test_another_damaged_file_costs_only_its_part(campaign, name):
    (campaign / "Si" / name).write_text("index,status,objective\nx,finished,1\n" if name == "trials.csv" else "{")
    found = collect_results([campaign])
    assert [problem.where for problem in found.problems] == [f"set/Si/{name}"]
    detail = element_of(render_page(found), "Si")["detail"]
    assert detail["curves"]
    assert (detail["convergence"] is None) == (name == "trials.csv")


def test_a_published_set_is_read_from_its_scores(campaign, tmp_path):
    """As `dftbparam publish` writes them: short names of the cards, one file for all elements."""
    scores = {symbol: json.loads((campaign / symbol / "score.json").read_text()) for symbol in ("Si", "Al")}
    results = {
        symbol: SimpleNamespace(cards=one["cards"], uncertainty=one.get("uncertainty"), symbol=symbol)
        for symbol, one in scores.items()
    }
    results["Ge"] = SimpleNamespace(cards={}, uncertainty=None, symbol="Ge")
    folder = tmp_path / "dftbparam-x"
    folder.mkdir()
    write(folder / "scores.json", scores_value(results, {"Fe": ("implodes", "no dimer")}))
    record = json.loads((campaign / "Si" / "parameters.json").read_text())["elements"]["Si"]
    write(folder / "parameters.json", {"schema_version": 1, "elements": {"Si": record}})
    found = collect_results([folder])
    runs = collect_results([campaign])
    assert list(found.results) == ["Al", "Si"]
    for symbol in ("Al", "Si"):
        assert found.results[symbol].ours == runs.results[symbol].ours
        assert found.results[symbol].published == runs.results[symbol].published
    assert found.results["Si"].score.uncertainty == runs.results["Si"].score.uncertainty
    assert found.reasons["Fe"] == "left out of the set: implodes; no dimer"
    assert "no report card" in found.reasons["Ge"]
    assert ["shells.3s.radius", 4.0] in element_of(render_page(found), "Si")["detail"]["record"]
    (folder / "scores.json").write_text("{")
    (problem,) = collect_results([folder]).problems
    assert problem.where == "dftbparam-x/scores.json"
    assert str(tmp_path) not in problem.message


def test_a_run_without_manifest_is_shown_with_a_note(campaign):
    (campaign / "Si" / "manifest.json").unlink()
    found = collect_results([campaign])
    assert "Si" in found.results
    assert any("set/Si has no manifest.json" in note for note in found.notes)


def test_reasons_come_from_the_store_the_folder_and_the_references(campaign, tmp_path):
    (campaign / "Ge").mkdir()
    with TrialStore.open(campaign / STORE_NAME) as store:
        store.set_state("night/C", "failed", "AtomError: no")
        store.set_state("night/Si", "finished")
    found = collect_results([campaign])
    assert found.reasons["C"] == "failed: AtomError: no"
    assert "has not finished" in found.reasons["Ge"]
    assert found.reasons["Fe"] == "not in the folders given"
    assert "Si" not in found.reasons


def test_a_store_that_is_none_is_a_note(campaign):
    (campaign / STORE_NAME).write_text("no database, but long enough to be read as the head of one " * 10)
    assert any("tells nothing of runs" in note for note in collect_results([campaign]).notes)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="at least one folder"):
        collect_results([])
    with pytest.raises(InputError, match="does not exist"):
        collect_results([tmp_path / "none"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        collect_results([tmp_path / "file"])
    with pytest.raises(InputError, match="no results in"):
        collect_results([tmp_path])


def test_curves_are_the_cards_fits_on_a_common_zero(campaign):
    result = collect_results([campaign]).results["Si"]
    sc = energy_volume(result)[0]
    assert sc.name == "sc"
    np.testing.assert_allclose(sc.dft, birch_murnaghan(sc.volumes, 0.30, 20.0, 0.5, 4.2))
    inside = np.abs(sc.volumes / 20.4 - 1.0) <= REACH
    np.testing.assert_allclose(sc.ours[inside], birch_murnaghan(sc.volumes, 0.32, 20.4, 0.55, 4.0)[inside])
    assert np.isnan(sc.ours[~inside]).all()
    assert sc.published is not None
    assert np.nanmin(sc.published) == pytest.approx(0.5, abs=2e-3)


def test_a_crystal_without_minimum_has_no_curve(tmp_path):
    folder = write_run(tmp_path / "Si", "Si")
    score = json.loads((folder / "score.json").read_text())
    score["cards"]["this fit"]["crystals"][0] |= {"volume": None, "energy": None, "bulk_modulus": None}
    del score["cards"]["published PTBP"]
    write(folder / "score.json", score)
    found = collect_results([folder])
    curve = energy_volume(found.results["Si"])[0]
    assert curve.ours is None
    assert curve.published is None
    assert element_of(render_page(found), "Si")["published"] is None
    assert next(name for name, _ in element_plots(found.results["Si"])) == "Si-energy-volume"


def test_parameters_carry_range_and_uncertainty_where_the_run_has_it(campaign):
    page = render_page(collect_results([campaign]))
    new, old = element_of(page, "Si")["detail"], element_of(page, "Al")["detail"]
    assert new["parameters"] == [
        {"name": "radius_3s", "value": 4.3, "unit": "Bohr", "low": 2.0, "high": 10.0, "log": True, "least": 3.9,
         "greatest": 4.1, "std": 0.1, "interval": [3.5, 4.5], "effect": 0.8}
    ]  # fmt: skip
    assert "std" not in old["parameters"][0]
    assert old["ensemble"] is None
    assert new["ensemble"]["rows"] == [[3, 1.5, 4.0], [2, 1.6, 4.1]]
    assert new["convergence"]["objective"][1] is None
    assert new["convergence"]["errors"] == [["AtomError", 1]]
    assert ["shells.3s.radius", 4.0] in new["record"]
    assert "shells.3s.height" not in dict(new["record"])


def test_summary_counts_better_elements(campaign):
    results = list(collect_results([campaign]).results.values())
    rows = {row["key"]: row for row in summarise(results, available(results))}
    assert rows["mean_abs_dV"] == {
        "key": "mean_abs_dV", "n": 2, "ours": 2.0, "published": 8.0, "ours_median": 2.0, "published_median": 8.0,
        "ratio": 0.25, "better": 2, "equal": 0,
    }  # fmt: skip
    assert (rows["sound"]["ours"], rows["sound"]["published"], rows["sound"]["better"]) == (2.0, 0.0, 2)
    assert rows["right_ground_state"]["equal"] == 2
    assert "forces.rms" not in rows
    # A well on expansion is no implosion; counts are summed.
    assert (rows["implosions"]["ours"], rows["implosions"]["published"], rows["implosions"]["better"]) == (0, 1, 1)
    assert rows["implosions"]["ratio"] is None


def test_tables_hold_full_numbers(campaign):
    tables = report_tables(collect_results([campaign]))
    assert set(tables) == {
        "summary.csv", "elements.csv", "crystals.csv", "bands.csv", "band-levels.csv",
        "forces-stress.csv", "parameters.csv", "record.csv",
        "ensemble.csv", "ensemble-crystals.csv", "provenance.csv", "files.csv", "energy-volume.csv", "convergence.csv",
    }  # fmt: skip
    assert len(tables["elements.csv"]) == 96
    silicon = tables["elements.csv"][13]
    assert (silicon["mean_abs_dV_ours"], silicon["mean_abs_dV_difference"], silicon["sound_difference"]) == (2, -6, -1)
    assert [row["best"] for row in tables["convergence.csv"][:4]] == pytest.approx([1.9, 1.9, 1.7, 1.6])
    assert len(tables["energy-volume.csv"]) == 2 * 4 * 49
    assert not any(isinstance(v, float) and math.isnan(v) for row in tables["energy-volume.csv"] for v in row.values())


def test_plots_of_everything(campaign):
    found = collect_results([campaign])
    names = [name for name, _ in itertools.islice(table_plots(found), 3)]  # all of them take ten seconds
    assert names == [f"table-mean_abs_dV-{side}" for side in ("ours", "published", "difference")]
    assert [name for name, _ in element_plots(found.results["Si"])] == [
        "Si-energy-volume", "Si-bands-diamond", "Si-band-errors", "Si-convergence", "Si-uncertainty",
    ]  # fmt: skip
    assert len([*element_plots(found.results["Al"])]) == 2


def test_ninety_six_elements_stay_under_three_megabytes(tmp_path):
    for symbol in all_symbols():
        write_run(tmp_path / symbol, symbol, trials=200)
    assert len(render_page(collect_results([tmp_path])).encode()) < 3e6


def test_every_element_has_a_place_of_its_own_wide_and_narrow():
    wide, narrow = ({places(symbol)[i : i + 2] for symbol in all_symbols()} for i in (0, 2))
    assert len(wide) == len(narrow) == 96
    assert max(column for _, column in wide) == 18
    assert max(column for _, column in narrow) == 7
    assert places("Si") == (3, 14, 14, 3)
    assert places("La")[:2] == (9, 3)


def test_figures_are_fields_of_a_card():
    from dftbparam.report.html.records import StoredCard

    known = {*StoredCard.model_fields, *KINDS, "implosions"}
    assert {figure.key.partition(".")[0] for figure in FIGURES} <= known
    assert set(HEADLINES) <= {figure.key for figure in FIGURES}


def test_cividis_is_cividis():
    from matplotlib import colormaps

    for share in np.linspace(0.0, 1.0, 33):
        expected = colormaps["cividis"](share)[:3]
        assert colour_at(float(share), CIVIDIS) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("values", [[], [0.0], [1.0, 2.0], [0.0, 0.5, 900.0], [-4.0, 1.0]])
def test_scale_and_its_inverse(values, signed):
    scale = Scale(values, signed=signed)
    for share in (0.1, 0.5, 0.9):
        assert scale.share(scale.value(share)) == pytest.approx(share, abs=1e-9)
    for value in values:
        assert 0.0 <= scale.share(value) <= 1.0
    if signed:
        assert scale.share(0.0) == 0.5


def test_ink_can_be_read_on_every_colour():
    def luminance(colour):
        return sum(
            w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for w, c in zip((0.2126, 0.7152, 0.0722), colour, strict=True)
        )

    for share in np.linspace(0.0, 1.0, 101):
        colour = colour_at(float(share), CIVIDIS)
        light, dark = luminance(colour), 0.0 if ink_on(colour) == "#000000" else 1.0
        assert (max(light, dark) + 0.05) / (min(light, dark) + 0.05) >= 4.5
