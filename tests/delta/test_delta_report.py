"""What training writes down of held-out structures, and that the report reads it from the file."""

import numpy as np
import pytest

from dftbparam.delta.evidence import learning_curve
from dftbparam.delta.model_file import save_model
from dftbparam.delta.statistics import collect
from dftbparam.delta.training import TrainingOptions, assign_folds, train
from dftbparam.report.html import collect_results, report_tables, table_plots
from dftbparam.report.html.delta import KNOWN_VERSION, calibration, read_delta


def test_held_out_energies_are_those_of_the_errors(model):
    scores, held = model.metrics["levels"]["reference"], model.metrics["held_out"]["reference"]
    errors = np.array(held["predicted"]) - np.array(held["reference"])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(scores["rmse"], rel=1e-3)
    within = np.mean(np.abs(errors) <= np.array(held["std"]))
    assert within == pytest.approx(scores["within_one_std"], abs=1e-9)
    assert held["groups"] == ["Si bcc", "Si beta-sn", "Si diamond", "Si fcc", "Si sc"]
    assert len(held["group"]) == scores["structures"] == 25


def test_learning_curves_end_at_the_held_out_error(model):
    scores, curves = model.metrics["levels"]["reference"], model.metrics["learning"]["reference"]
    assert [n for n, _ in curves["model"]] == [5.0, 10.0, 20.0]  # one, two and four crystals of five
    assert curves["model"][-1][1] == pytest.approx(scores["rmse"], rel=1e-6)
    assert curves["without_base"][-1][1] == pytest.approx(scores["rmse_without_base"], rel=1e-6)


def test_curves_can_be_left_out_and_levels_have_their_own(model, samples):
    from dataclasses import replace

    from dftbparam.delta.model import Level

    plain = [replace(s, forces=None, stress=None, base_energy=0.0) for s in samples]
    options = TrainingOptions(kernels=(model.basis.kernel,), inducing=100, curves=False, compare=False)
    assert "learning" not in train(plain, options=options).metrics
    # The second level has diamond and fcc alone: a fold of one is predicted from one of the other.
    both = [*plain, *(replace(s, level=1) for s in plain if s.group.split()[-1] in ("diamond", "fcc"))]
    options = TrainingOptions(kernels=(model.basis.kernel,), inducing=100, compare=False)
    curves = train(both, (Level("PBE"), Level("r2SCAN")), options).metrics["learning"]
    assert curves["PBE"]["without_base"] is None
    assert [n for n, _ in curves["PBE"]["model"]] == [5.0, 10.0, 20.0]
    assert curves["r2SCAN"]["model"][-1][0] == 5.0


def test_one_fold_has_no_curve(model, samples):
    some = list(samples[:3])
    statistics = collect(model.basis, some, [0, 0, 0], 1)
    assert learning_curve(statistics, model.hyper) == [[]]
    assert set(assign_folds(["a"], 5)) == {0}


def test_the_report_reads_what_training_wrote(model, tmp_path):
    save_model(model, tmp_path / "silicon.delta")
    one = read_delta(tmp_path / "silicon.delta", "silicon.delta")
    assert one.stored.metrics.levels["reference"].rmse == pytest.approx(model.metrics["levels"]["reference"]["rmse"])
    shares = dict(calibration(one.stored.metrics.held_out["reference"]))
    assert 0.5 < shares[0.7] < 1.0
    found = collect_results([tmp_path])
    assert not found.problems
    assert len(report_tables(found)["delta-held-out.csv"]) == 25
    stem = f"delta-{tmp_path.name}-silicon-reference"
    assert [name for name, _ in table_plots(found)] == [f"{stem}-{k}" for k in ("parity", "calibration", "learning")]


def test_the_report_knows_the_version_that_is_written():
    from dftbparam.delta.model_file import VERSION

    assert KNOWN_VERSION == VERSION
