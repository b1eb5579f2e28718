"""The package as a whole: what importing it does, what it exposes, how its errors travel."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dftbparam
from dftbparam import errors

ROOT = Path(dftbparam.__file__).resolve().parent
HEAVY = ("numpy", "scipy", "numba", "pyscf", "dask", "distributed", "skopt", "sklearn", "matplotlib", "torch", "ase")
PACKAGES = ("campaign", "elements", "engine", "propose", "publish", "reference", "report", "repulsion", "score", "skf")
PACKAGES += ("slako", "space", "store", "cli", "delta", "atomic_write", "units", "errors")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT.parent, timeout=120
    )


def test_import_is_fast():
    # The best of three, because other work on the machine is not the package's doing.
    best = float("inf")
    for _ in range(3):
        done = run_python("import time; t = time.perf_counter(); import dftbparam; print(time.perf_counter() - t)")
        assert done.returncode == 0, done.stderr
        best = min(best, float(done.stdout))
    assert best < 0.5


def test_import_loads_nothing_heavy_and_configures_nothing():
    code = f"""
import json, logging, os, sys
before = dict(os.environ), list(logging.root.handlers), logging.root.level
import dftbparam, dftbparam.cli
after = dict(os.environ), list(logging.root.handlers), logging.root.level
print(json.dumps([before == after, [m for m in {HEAVY!r} if m in sys.modules]]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, []]


def test_import_reads_no_file_of_its_own_but_code():
    code = """
import sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc", ".so", ".pth")):
        opened.append(args[0])
import dftbparam
sys.addaudithook(hook)
import dftbparam.errors, dftbparam.units, dftbparam.cli, dftbparam.elements, dftbparam.space, dftbparam.reference
import os
root = os.path.dirname(os.path.abspath(dftbparam.__file__))
print([name for name in opened if os.path.abspath(name).startswith((root, os.path.dirname(root) + "/references"))])
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_command_line_starts_quickly():
    started = time.perf_counter()
    done = run_python("import sys; sys.argv = ['dftbparam', '--version']; from dftbparam.cli import main; main()")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"dftbparam {dftbparam.__version__}"
    assert time.perf_counter() - started < 5.0


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_exist_and_are_documented(name):
    module = importlib.import_module(f"dftbparam.{name}")
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"dftbparam.{name}.{public} has no docstring"


def test_the_list_of_packages_is_complete():
    found = {module.name for module in pkgutil.iter_modules([str(ROOT)])}
    assert found == set(PACKAGES)


def test_there_is_no_utils_module():
    assert not [path for path in ROOT.rglob("*.py") if path.stem in ("utils", "util", "helpers", "misc")]


def test_modules_stay_readable():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 620}
    assert not long


def error_classes():
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DftbparamError) and kind.__module__ == errors.__name__
    ]


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_errors_survive_pickling_with_their_data(kind):
    data = {"symbol": "Si", "residual": 0.5}
    if kind is errors.FileFormatError:
        data |= {"path": "Si-Si.skf", "line": 3}
    error = kind("something is 7, right would be 8", **data)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert copy.message == error.message
        assert str(copy) == str(error)
        assert copy.data == error.data
        assert copy.symbol == "Si"


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_errors_have_an_exit_code_and_stand_in_the_drawing(kind):
    assert kind.exit_code in (1, 2, 3)
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__


def test_errors_are_typed_by_cause():
    assert errors.ParameterError.exit_code == errors.FileFormatError.exit_code == 2
    assert errors.ScfNotConverged.exit_code == 1
    assert errors.EngineMissing.exit_code == errors.StoreError.exit_code == 3


def test_an_error_lacks_what_it_was_not_given():
    with pytest.raises(AttributeError, match="carries no 'symbol'"):
        _ = errors.AtomError("no").symbol


def test_file_errors_name_file_and_line_once():
    error = errors.FileFormatError("bad number", path="a.skf", line=3)
    assert error.message == "a.skf:3: bad number"
    assert pickle.loads(pickle.dumps(error)).message == "a.skf:3: bad number"


def test_the_package_is_typed():
    assert (ROOT / "py.typed").is_file()
