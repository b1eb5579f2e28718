"""Delta models in the report: read from what their files record, nothing computed but shares of errors."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile

import numpy as np
import pytest

from dftbparam.errors import InputError
from dftbparam.report.html import collect_results, render_page, report_tables, table_plots
from dftbparam.report.html.delta import StoredHeldOut, calibration
from tests.report.support.delta_files import HELD_OUT, header, write_delta
from tests.report.support.run_folders import write_run


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.fixture
def model(tmp_path):
    return write_delta(tmp_path / "models" / "silicon.delta")


def test_a_model_file_is_enough(model):
    found = collect_results([model])
    assert [one.source for one in found.deltas] == ["silicon.delta"]
    assert not found.results
    assert not found.problems
    data = data_of(render_page(found))
    assert data["title"] == "Delta models: silicon.delta"
    (shown,) = data["deltas"]
    first, second = shown["levels"]
    assert first["held_out"]["reference"] == [-0.1, 0.0, 0.2, 0.4]  # ascending, for the cursor
    assert first["held_out"]["predicted"] == [-0.12, 0.1, 0.25, 0.41]
    assert first["held_out"]["group"] == [1, 0, 1, 0]
    assert first["learning"]["without_base"] == [[6, 0.9], [12, 0.2]]
    assert first["rows"]["rmse_without_base"] == 0.2
    assert second["held_out"] is None
    assert second["learning"] is None
    assert second["rows"]["negative_transfer"] is True


def test_models_in_folders_are_found_once_beside_runs(tmp_path, model):
    write_run(tmp_path / "set" / "Si", "Si")
    write_delta(tmp_path / "set" / "top.delta")
    write_delta(tmp_path / "set" / "Si" / "own.delta")
    found = collect_results([tmp_path / "set", model.parent, model])
    assert [one.source for one in found.deltas] == ["set/top.delta", "set/Si/own.delta", "models/silicon.delta"]
    assert list(found.results) == ["Si"]
    assert data_of(render_page(found))["title"] == "DFTB parameters: set, models, silicon.delta"
    assert "set/Si/own.delta" in json.dumps(data_of(render_page(found))["deltas"])


def test_calibration_is_the_share_of_errors():
    found = dict(calibration(StoredHeldOut.model_validate(HELD_OUT)))
    assert found[0.35] == 0.0
    assert found[0.4] == 0.5  # half an error bar holds 38 %
    assert found[0.7] == 0.75
    assert found[0.95] == 0.75
    assert len(found) == 19


def test_tables_hold_every_number(model):
    tables = report_tables(collect_results([model]))
    assert [row["level"] for row in tables["delta-models.csv"]] == ["PBE", "r2SCAN/HSE"]
    assert tables["delta-models.csv"][0]["rmse"] == 0.0572
    assert tables["delta-models.csv"][1]["negative_transfer"] is True
    assert tables["delta-held-out.csv"][2] == {
        "model": "silicon.delta", "level": "PBE", "group": "Si bcc", "reference_eV_per_atom": 0.4,
        "predicted_eV_per_atom": 0.41, "std_eV_per_atom": 0.02,
    }  # fmt: skip
    assert {row["method"] for row in tables["delta-learning.csv"]} == {"delta", "without DFTB"}
    assert len(tables["delta-calibration.csv"]) == 19


def test_figures(model):
    found = dict(table_plots(collect_results([model])))
    assert sorted(found) == [f"delta-silicon-PBE-{kind}" for kind in ("calibration", "learning", "parity")]
    parity = found["delta-silicon-PBE-parity"].axes[0]
    assert parity.get_title() == "silicon.delta: PBE, held out"
    lines = found["delta-silicon-PBE-learning"].axes[0].get_lines()
    # Told apart without colour.
    assert len({line.get_linestyle() for line in lines}) == 2
    assert lines[0].get_ydata() == pytest.approx([200.0, 60.0])


def test_times_are_drawn_without_colour_alone():
    from dftbparam.report import plot_times, render

    figure = plot_times(
        {"correction": [[64, 0.1], [8, 0.02]], "DFTB": [[8, 0.04], [64, 0.3]]}, {"training": [[25, 3.0], [100, 4.0]]}
    )
    left, right = figure.axes
    assert [axes.get_xlabel() for axes in (left, right)] == ["atoms", "training structures"]
    assert list(left.get_lines()[0].get_xdata()) == [8.0, 64.0]
    assert len({(line.get_linestyle(), line.get_marker()) for line in left.get_lines()}) == 2
    assert render(figure).startswith(b"\x89PNG")


def test_a_model_without_base_is_called_direct(tmp_path):
    write_delta(tmp_path / "direct.delta", header(base={}))
    (one,) = collect_results([tmp_path]).deltas
    assert one.plain == "direct"
    assert {row["method"] for row in report_tables(collect_results([tmp_path]))["delta-learning.csv"]} == {
        "direct",
        "without DFTB",
    }


def test_names_in_files_are_no_paths_and_no_markup(tmp_path):
    value = header()
    value["levels"][0]["name"] = "../../</script>"
    value["metrics"]["held_out"] = {"../../</script>": HELD_OUT}
    write_delta(tmp_path / "m.delta", value)
    page = render_page(collect_results([tmp_path / "m.delta"]))
    assert page.count("</script>") == 2
    assert all("/" not in name for name, _ in table_plots(collect_results([tmp_path])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "version 3 of the format; this version of dftbparam reads up to 2"),
        ({"version": "2"}, "version '2'"),
        ({"format": "other"}, "the header says something else"),
        ({"elements": None}, "elements"),
        ({"metrics": {"held_out": {"PBE": HELD_OUT | {"std": [0.1]}}}}, "not equally many"),
        ({"metrics": {"held_out": {"PBE": HELD_OUT | {"std": [0.1, 0.1, 0.1, 0.0]}}}}, "not positive"),
        ({"metrics": {"held_out": {"PBE": HELD_OUT | {"group": [0, 1, 2, 0]}}}}, "groups that there are not"),
        ({"metrics": {"held_out": {"PBE": HELD_OUT | {"std": [0.1, 0.1, 0.1, float("nan")]}}}}, "finite"),
    ],
)
def test_a_damaged_model_is_named_and_the_rest_is_shown(tmp_path, model, change, words):
    write_delta(model.parent / "bad.delta", header(**change))
    found = collect_results([model.parent])
    (problem,) = found.problems
    assert problem.where == "models/bad.delta"
    assert words in problem.message
    assert str(tmp_path) not in problem.message
    assert [one.source for one in found.deltas] == ["models/silicon.delta"]


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.delta").write_text("nothing")
    write_delta(tmp_path / "other.delta", name="something.npy")
    (tmp_path / "list.delta").write_bytes(b"")
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "pickle.delta", "w") as archive:
        archive.writestr("header.npy", buffer.getvalue())
    found = collect_results([tmp_path])
    assert len(found.problems) == 4
    assert all("not a delta model" in problem.message for problem in found.problems)
    (tmp_path / "score.txt").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="is a file; right would be a run folder"):
        collect_results([tmp_path / "score.txt"])
    with pytest.raises(InputError, match="does not exist"):
        collect_results([tmp_path / "none.delta"])


def test_pages_without_models_have_none(tmp_path):
    write_run(tmp_path / "Si", "Si")
    found = collect_results([tmp_path])
    assert data_of(render_page(found))["deltas"] == []
    assert not [name for name in report_tables(found) if name.startswith("delta")]
