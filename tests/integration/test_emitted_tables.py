"""What a fit emits, in both engines: the files are read back from disk, as a user would."""

from pathlib import Path

import numpy as np
import pytest

from dftbparam.campaign.scoring import energy_curves
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.embedded import EmbeddedEngine
from dftbparam.errors import EngineMissing
from dftbparam.reference import load_dataset
from dftbparam.skf import check_set, write_skf
from dftbparam.slako.build import build_tables
from dftbparam.space import load_parameter_set

ROOT = Path(__file__).parents[2]
FITTED = sorted(path.parent.name for path in ROOT.glob("skf_out/*/parameters.json"))


@pytest.fixture(scope="module", params=FITTED)
def emitted(request, tmp_path_factory):
    symbol = request.param
    parameters = load_parameter_set(ROOT / "skf_out" / symbol / "parameters.json")
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


def test_there_are_emitted_sets():
    assert len(FITTED) >= 10


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
