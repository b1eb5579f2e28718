"""Figures of a published set: means over own crystals and over compounds, from report cards written by hand."""

import pytest

from dftbparam.publish.collect import OURS, PTBP, ElementResult
from dftbparam.publish.scores import by_kind, score_rows, summary
from dftbparam.space import load_parameter_set


def crystal(name, dV, dB, phase=0.0, error=0.0):
    return {
        "prototype": name, "dV": dV, "dB": dB, "reference_phase_energy": phase, "phase_energy_error": error,
    }  # fmt: skip


CARD = {
    "crystals": [
        crystal("fcc", 2.0, -10.0),
        crystal("bcc", -4.0, 30.0, 0.1, -0.05),
        crystal("sc", None, None, 0.4, None),
        crystal("Mg-O rocksalt", 1.0, 50.0),
    ],
    "mean_abs_formation_error": 0.2,
    "sound": False,
}


def test_kinds_of_crystals_are_counted_apart():
    found = by_kind(CARD)
    assert found == {
        "elemental_dV": 3.0, "elemental_dB": 20.0, "elemental_phase": 0.05, "compound_dV": 1.0, "compound_dB": 50.0,
    }  # fmt: skip
    assert by_kind({})["compound_dV"] is None


def test_summary_compares_where_both_have_a_figure():
    worse = {**CARD, "crystals": [crystal("fcc", 9.0, 10.0)], "mean_abs_formation_error": None, "sound": True}
    record = load_parameter_set("ptbp").element("Mg")
    results = {"Mg": ElementResult("Mg", record, {OURS: CARD, PTBP: worse}, None, None, "Mg", {})}
    (row,) = score_rows(results)
    assert row["ours_compound_dV"] == 1.0
    assert row["ptbp_compound_dV"] is None
    found = summary(results)
    assert found["elemental_dV"] == {"elements": 1, "ours": 3.0, "ptbp": 9.0, "better": 1}
    assert "compound_dV" not in found
    assert "mean_abs_formation_error" not in found
    assert found["sound"] == {"ours": 0, "ptbp": 1}
    assert found["elemental_dB"]["better"] == pytest.approx(0)
