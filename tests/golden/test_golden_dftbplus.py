"""The embedded engine against numbers recorded from DFTB+ (record_dftbplus.py); DFTB+ too, where it is installed."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dftbparam.engine.base import Result
from dftbparam.errors import EngineMissing
from dftbparam.skf import find_files


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
    limits = {k: golden.EXPLAINED.get((name, k), golden.TOLERANCES[k]) for k in found}
    too_far = {k: f"{v:.1e}" for k, v in found.items() if not v <= limits[k]}
    assert not too_far, f"{name}: {too_far}, tolerances {limits}"


@pytest.mark.dftbplus
@pytest.mark.parametrize("name", NAMES)
def test_dftbplus_still_gives_the_recorded_numbers(dftbplus, name):
    # Not to all recorded digits: other releases and libraries round differently, and SCC stops elsewhere.
    case, _ = case_and_tables(name)
    with case.for_dftbplus() as tables:
        found = golden.deviations(case, computed(dftbplus, case, tables))
    too_far = {k: f"{v:.1e}" for k, v in found.items() if not v <= 1e-7}
    assert not too_far, f"{name}: {too_far}"


def test_energy_parts_add_up_in_the_record():
    parts = ("band", "scc", "third_order", "spin", "dispersion", "repulsive")
    for name in NAMES:
        r = golden.load(name).recorded
        assert abs(sum(r.get(f"{part}_energy", 0.0) for part in parts) - r["energy"]) < 1e-9, name


def test_recorded_charges_sum_to_the_charge_and_forces_to_zero():
    for name in NAMES:
        case = golden.load(name)
        assert abs(sum(case.recorded["charges"]) - case.settings.charge) < 1e-6, name
        assert np.abs(np.sum(case.recorded["forces"], axis=0)).max() < 1e-6, name


def test_enough_systems_in_small_files():
    cases = [golden.load(name) for name in NAMES]
    assert len(cases) >= 65
    assert {case.kind for case in cases} == set(golden.KINDS)
    assert max(len(case.atoms) for case in cases) >= 190
    # Systems that need nothing installed besides: their tables lie beside them.
    assert sum(case.folders[0].startswith("model") for case in cases) >= 3
    assert sum(path.stat().st_size for path in golden.HERE.rglob("*") if path.is_file()) < 3_000_000


def test_every_element_of_every_published_set_is_in_a_record():
    covered = {}
    for name in NAMES:
        case = golden.load(name)
        for folder in case.folders:
            covered.setdefault(folder, set()).update(case.atoms.symbols)
    try:
        root = golden.locate("mio/mio-1-1").parents[1]
    except golden.SetMissing as error:
        pytest.skip(str(error))
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        elements = {symbol for pair in find_files(folder) for symbol in pair}
        missing = elements - covered.get(f"{folder.parent.name}/{folder.name}", set())
        assert not missing, f"{folder.name}: {sorted(missing)}"
