"""The embedded engine against numbers recorded from DFTB+ (record_dftbplus.py); DFTB+ too, where it is installed."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dftbparam.engine.base import Result
from dftbparam.errors import EngineMissing


def _load(name):
    # By path: other packages in an environment bring a package called "tests" along.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


golden = _load("dftbplus_cases")
NAMES = golden.names()


def case_and_tables(name):
    case = golden.load(name)
    try:
        return case, case.tables()
    except golden.SetMissing as error:
        pytest.skip(str(error))


def computed(engine, case, tables):
    result = engine.compute(tables, [case.atoms], case.settings)[0]
    assert isinstance(result, Result), result
    return result


@pytest.fixture(scope="module")
def embedded():
    from dftbparam.engine.embedded import EmbeddedEngine

    return EmbeddedEngine()


@pytest.fixture(scope="module")
def dftbplus():
    from dftbparam.engine.dftbplus import DftbPlusEngine

    try:
        return DftbPlusEngine(timeout=120.0)
    except EngineMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_embedded_engine_agrees_with_dftbplus(embedded, name):
    case, tables = case_and_tables(name)
    found = golden.deviations(case, computed(embedded, case, tables))
    too_far = {k: f"{v:.1e}" for k, v in found.items() if not v <= golden.TOLERANCES[k]}
    assert not too_far, f"{name}: {too_far}, tolerances {golden.TOLERANCES}"


@pytest.mark.dftbplus
@pytest.mark.parametrize("name", NAMES)
def test_dftbplus_still_gives_the_recorded_numbers(dftbplus, name):
    # Not to all recorded digits: other releases and libraries round differently, and SCC stops elsewhere.
    case, tables = case_and_tables(name)
    found = golden.deviations(case, computed(dftbplus, case, tables))
    too_far = {k: f"{v:.1e}" for k, v in found.items() if not v <= 1e-7}
    assert not too_far, f"{name}: {too_far}"


def test_energy_parts_add_up_in_the_record():
    for name in NAMES:
        r = golden.load(name).recorded
        assert abs(r["band_energy"] + r["scc_energy"] + r["repulsive_energy"] - r["energy"]) < 5e-10, name


def test_recorded_charges_sum_to_the_charge_and_forces_to_zero():
    for name in NAMES:
        case = golden.load(name)
        assert abs(sum(case.recorded["charges"]) - case.settings.charge) < 1e-6, name
        assert np.abs(np.sum(case.recorded["forces"], axis=0)).max() < 1e-6, name


def test_enough_systems_in_small_files():
    assert len(NAMES) >= 14
    # Systems that need nothing installed besides: their tables lie beside them.
    assert sum(golden.load(name).folders[0].startswith("model") for name in NAMES) >= 3
    assert sum(path.stat().st_size for path in golden.HERE.rglob("*") if path.is_file()) < 500_000
