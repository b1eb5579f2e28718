"""Finished calculations as files: ``calculations/<label>.<key>.json``, written under a temporary name and renamed.

A file that is there is complete, whoever wrote it and whenever the run was killed; there is no index that could
disagree with the files. Workers that see the folder write their own results, so that a calculation is kept even if the
driver is gone when it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import ReferenceDataError, StoreError
from dftbparam.reference.dft.tasks import Task
from dftbparam.reference.layout import replace_file

FORMAT_VERSION: Final = 1
"""Raised when a record can no longer be read by the previous code."""

LOCK_FILE: Final = ".lock"


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
            replace_file(path, json.dumps(content).encode())
        except OSError as error:
            raise StoreError(f"the calculation {task.label} cannot be kept in {self.folder}: {error}") from None
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other runs; the lock goes with the process, however that ends.

        Raises
        ------
        StoreError
            Another process holds it, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / LOCK_FILE).open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreError(
                        f"another run is at work in {self.folder}; wait for it, or choose another --out"
                    ) from None
                yield
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be used for calculations: {error}") from None

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
