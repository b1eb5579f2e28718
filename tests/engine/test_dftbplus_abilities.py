"""What a DFTB+ build says that it can do."""

import sys
import textwrap

import pytest

from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.dftbplus_abilities import QUESTIONS, abilities
from dftbparam.engine.dftbplus_input import Release
from dftbparam.errors import EngineMissing

R251 = Release("25.1", (25, 1))


def program(folder, body):
    path = folder / "dftb+"
    path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(body))
    path.chmod(0o755)
    return (str(path),)


@pytest.mark.parametrize(
    ("says", "understood"),
    [
        ("ERROR!\\n-> Program had been compiled without socket support\\n", False),
        ("ERROR!\\n-> Keyword 'StopAfterParsing' is set to Yes. Stopping.\\n", True),
        ("all well\\n", True),
        ("ERROR!\\n-> something else\\n", None),
    ],
)
def test_answers_are_understood(tmp_path, says, understood):
    command = program(tmp_path, f'print("{says}")')
    assert abilities(command, R251) == dict.fromkeys(QUESTIONS, understood)


def test_no_answer_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("dftbparam.engine.dftbplus_abilities.PROBE_TIMEOUT", 0.2)
    command = program(tmp_path, "import time; time.sleep(30)")
    assert abilities(command, R251) == dict.fromkeys(QUESTIONS, None)
    assert abilities((str(tmp_path / "gone"),), R251) == dict.fromkeys(QUESTIONS, None)


@pytest.mark.dftbplus
def test_the_real_program_answers():
    try:
        engine = DftbPlusEngine()
    except EngineMissing as error:
        pytest.skip(str(error))
    found = abilities(engine.command, engine.release())
    assert set(found) == set(QUESTIONS)
    assert None not in found.values(), found
