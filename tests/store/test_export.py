"""Exports: nothing is lost, late columns find their place, files appear whole or not at all."""

import csv
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from dftbparam.errors import InputError
from dftbparam.store import Run, Trial
from dftbparam.store.export import export_csv, export_json, export_json_file


def trial(index: int, **changes: object) -> Trial:
    record: dict[str, object] = {
        "run_id": "Si",
        "index": index,
        "x": (0.1, 1 / 3),
        "parameters": {"r_s": 0.1 + 0.2},
        "status": "finished",
        "objective": 1 / 3,
        "metrics": {"dV": -1e-300, "sound": True},
        "details": {"curve": [1.0]},
        "seconds": 0.5,
    }
    return Trial(**(record | changes))  # type: ignore[arg-type]


def failed(index: int, message: str = "no") -> Trial:
    error = {"type": "AtomError", "message": message}
    return trial(index, status="failed", objective=None, metrics={}, error=error)


def read(path: Path) -> list[dict[str, str]]:
    limit = csv.field_size_limit(10**6)
    try:
        return read_fields(path)
    finally:
        csv.field_size_limit(limit)


def read_fields(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert export_csv(path, [trial(0), failed(1)]) == 2
    first, second = read(path)
    assert (float(first["objective"]), float(first["parameter.r_s"])) == (1 / 3, 0.1 + 0.2)
    assert (float(first["metric.dV"]), first["metric.sound"], first["error"]) == (-1e-300, "True", "")
    assert (second["objective"], second["metric.dV"], second["error"]) == ("", "", "AtomError: no")
    assert os.listdir(tmp_path) == ["t.csv"]


def test_columns_that_come_late(tmp_path: Path) -> None:
    """Rows before them get empty fields, also those with line ends, quotes, and very long texts in them."""
    messages = ['two\nlines, "quoted"', "x" * 200_000, "half a character \udc80", "Ångström"]
    trials = [failed(k, message) for k, message in enumerate(messages)]
    trials += [trial(4), trial(5, metrics={"new": 2.0}), failed(6), trial(7, parameters={"r_s": 1.0, "r_p": 2.0})]
    path = tmp_path / "t.csv"
    assert export_csv(path, iter(trials)) == 8
    rows = read(path)
    assert [row["index"] for row in rows] == [str(k) for k in range(8)]
    assert all(None not in row and None not in row.values() for row in rows)
    assert [row["error"].removeprefix("AtomError: ") for row in rows[:4]] == [
        *messages[:2],
        "half a character \\udc80",
        messages[3],
    ]
    assert [row["metric.dV"] for row in rows] == ["", "", "", "", "-1e-300", "", "", "-1e-300"]
    assert [row["metric.new"] for row in rows] == [""] * 5 + ["2.0", "", ""]
    assert [row["parameter.r_p"] for row in rows] == [""] * 7 + ["2.0"]
    assert csv.field_size_limit() == 131072


def test_no_trials(tmp_path: Path) -> None:
    assert export_csv(tmp_path / "t.csv", []) == 0
    assert read(tmp_path / "t.csv") == []
    assert export_json_file(tmp_path / "t.json", Run("Si", {}), []) == 0
    assert json.loads((tmp_path / "t.json").read_text())["trials"] == []


def test_json_has_everything(tmp_path: Path) -> None:
    run = Run("Si", {"seed": 1}, {"evaluations": 3}, {"numpy": "2"}, "2024-01-01T00:00:00+00:00")
    trials = [trial(0, worker="Å\udc80"), failed(1)]
    path = tmp_path / "t.json"
    assert export_json_file(path, run, trials) == 2
    value = json.loads(path.read_text())
    assert value["schema_version"] == 1
    assert Run(**value["run"]) == run
    back = [Trial(run_id="Si", **(record | {"x": tuple(record["x"])})) for record in value["trials"]]
    assert back == trials
    stream = io.StringIO()
    assert export_json(stream, run, trials) == 2
    assert stream.getvalue() == path.read_text()


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_text("older")

    def breaking() -> Iterator[Trial]:
        yield trial(0)
        raise KeyboardInterrupt

    write = export_csv if kind == "csv" else lambda path, trials: export_json_file(path, Run("Si", {}), trials)
    with pytest.raises(KeyboardInterrupt):
        write(path, breaking())
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "older"
    with pytest.raises(InputError, match="cannot be written"):
        export_csv(tmp_path / "no" / "t.csv", [trial(0)])


def test_memory_does_not_grow_with_the_trials(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        tracemalloc.start()
        try:
            export_csv(tmp_path / "t.csv", (failed(k) if k == 0 else trial(k) for k in range(number)))
            export_json_file(tmp_path / "t.json", Run("Si", {}), (trial(k) for k in range(number)))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(10_000) < 1.5 * peak(1_000) + 100_000
