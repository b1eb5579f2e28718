"""What a fit emits, in both engines: the files are read back from disk, as a user would."""

import json
from pathlib import Path

import numpy as np
import pytest

from dftbparam.campaign.scoring import energy_curves, score_tables
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.reference import load_dataset
from dftbparam.skf import check_set, write_skf
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

SET = Path(__file__).parents[2] / "skf_out" / "dftbparam-0.1"
FITTED = sorted(path.parent.name for path in SET.glob("*/parameters.json"))


@pytest.fixture(scope="module", params=FITTED)
def emitted(request, tmp_path_factory):
    symbol = request.param
    parameters = load_parameter_set(SET / symbol / "parameters.json")
    folder = tmp_path_factory.mktemp(symbol)
    for (a, b), file in build_tables(parameters, [symbol]).files.items():
        write_skf(folder / f"{a}-{b}.skf", file)
    return symbol, folder


def curves(symbol, folder, engine):
    crystals = load_dataset().crystals_of(symbol)
    volumes = {c.prototype: c.volume * np.array([0.7, 0.95, 1.0, 1.3]) for c in crystals}
    energies, errors = energy_curves(folder, crystals, engine, volumes)
    assert not errors
    return np.array([energies[c.prototype][1] for c in crystals])


def test_the_set_is_the_sum_of_its_elements():
    whole = load_parameter_set(SET / "parameters.json")
    assert sorted(whole.elements) == FITTED
    assert len(FITTED) >= 10
    for symbol in FITTED:
        assert load_parameter_set(SET / symbol / "parameters.json").element(symbol) == whole.element(symbol)


def test_readme_shows_what_the_set_scores():
    readme = (SET.parents[1] / "README.md").read_text(encoding="utf-8")
    for symbol in FITTED:
        cards = json.loads((SET / symbol / "score.json").read_text(encoding="utf-8"))["cards"]
        ours, published = cards["this fit"], cards["published PTBP"]
        row = next(line for line in readme.splitlines() if line.startswith(f"| {symbol} |"))
        shown = [cell.strip() for cell in row.strip("|").split("|")]
        for at, (key, digits) in enumerate((("mean_abs_dV", 1), ("mean_abs_dB", 0), ("mean_abs_phase_error", 3))):
            assert shown[1 + 2 * at] == f"{ours[key]:.{digits}f}"
            assert shown[2 + 2 * at] == f"{published[key]:.{digits}f}"
            assert ours[key] < published[key]
        assert ours["sound"]


def test_cards_are_reproduced_from_the_parameters(emitted):
    symbol, folder = emitted
    card = score_tables(folder, symbol, load_dataset(), EmbeddedEngine())
    stored = json.loads((SET / symbol / "score.json").read_text(encoding="utf-8"))["cards"]["this fit"]
    for name in ("mean_abs_dV", "mean_abs_dB", "mean_abs_phase_error"):
        assert getattr(card, name) == pytest.approx(stored[name], rel=1e-3, abs=1e-3)


def test_emitted_files_pass_the_lint(emitted):
    _, folder = emitted
    assert [defect for defect in check_set(folder) if defect.severity == "error"] == []


@pytest.mark.dftbplus
def test_emitted_files_run_in_dftbplus_as_in_the_embedded_engine(emitted):
    try:
        peer = DftbPlusEngine(keep="never")
    except EngineMissing as error:
        pytest.skip(error.message)
    symbol, folder = emitted
    ours = curves(symbol, folder, EmbeddedEngine())
    theirs = curves(symbol, folder, peer)
    np.testing.assert_allclose(ours, theirs, atol=3e-5)  # eV/atom: 1e-6 Hartree
