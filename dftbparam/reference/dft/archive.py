"""Finished calculations as files: ``calculations/<label>.<key>.json``, written under a temporary name and renamed.

A file that is there is complete, whoever wrote it and whenever the run was killed; there is no index that could
disagree with the files. Workers that see the folder write their own results, so that a calculation is kept even if the
driver is gone when it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import ReferenceDataError, StoreError
from dftbparam.reference.dft.tasks import Task

FORMAT_VERSION: Final = 1
"""Raised when a record can no longer be read by the previous code."""


class Archive:
    """The calculations under a folder.

    Parameters
    ----------
    folder
        Made when the first record is written.

    Raises
    ------
    StoreError
        A record cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, task: Task) -> Path:
        """File of a task."""
        return self.folder / f"{task.label}.{task.key}.json"

    def get(self, task: Task) -> dict[str, Any] | None:
        """Record of a task, None where it has not been run."""
        path = self.path(task)
        return self.read(path) if path.is_file() else None

    def put(self, task: Task, record: dict[str, Any]) -> Path:
        """Write a record; one that is there already is kept where the new one failed."""
        path = self.path(task)
        if path.is_file() and record.get("error") is not None:
            return path
        content = {"format": FORMAT_VERSION, "key": task.key, "task": task.model_dump(mode="json"), **record}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".json", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(content, file)
                os.replace(name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            raise StoreError(f"the calculation {task.label} cannot be kept in {self.folder}: {error}") from None
        return path

    def forget_failed(self) -> int:
        """Delete the records of failed calculations, so that they are tried again; returns how many."""
        failed = [path for path in self.paths() if self.read(path).get("error") is not None]
        for path in failed:
            path.unlink()
        return len(failed)

    def paths(self) -> list[Path]:
        """Files of all records, sorted."""
        return sorted(p for p in self.folder.rglob("*.json") if not p.name.startswith("."))

    def records(self) -> Iterator[tuple[Task, dict[str, Any]]]:
        """All tasks with their records, sorted by file name."""
        for path in self.paths():
            record = self.read(path)
            yield Task.model_validate(record["task"]), record

    def read(self, path: Path) -> dict[str, Any]:
        """Read one record."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path} is not a readable calculation ({error}); delete it to have it run again"
            ) from None
        if not isinstance(record, dict) or record.get("format") != FORMAT_VERSION:
            raise ReferenceDataError(f"{path} is no calculation of this version of dftbparam", path=str(path))
        return record
