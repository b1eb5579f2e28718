"""Slater-Koster files of all pairs of a set: in parallel, within bounded memory, and to be taken up after a kill.

Every pair is a task of its own for a worker, which reads the two atoms' tables from the folder of the build (a worker
keeps the last `KEPT_ATOMS` of them), checks the files it made and writes them whole. The parent notes each in
``pairs.jsonl`` in the folder of the build. A later build takes a file for done where the journal has it with the key it
would get now and the file has the noted checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import CalculationError, FileFormatError, InputError
from dftbparam.publish.keys import key, record_value
from dftbparam.publish.pair_gate import pair_defects
from dftbparam.publish.workers import run_tasks
from dftbparam.skf import format_skf
from dftbparam.slako.build import GRID_STEP, build_pair
from dftbparam.slako.tabulated import TabulatedAtom
from dftbparam.space import ParameterSet

KEPT_ATOMS: Final = 32
"""Atoms that a worker keeps in memory: half a megabyte each. Pairs come in blocks, so that few are read twice."""

BLOCK: Final = KEPT_ATOMS // 2
"""Elements per side of a block of pairs."""

JOURNAL: Final = "pairs.jsonl"


@dataclass(frozen=True)
class Grid:
    """Grid of the tables, see `dftbparam.slako.build.pair_files`."""

    grid_step: float = GRID_STEP
    cutoff: float | None = None


@dataclass(frozen=True)
class PairTask:
    """What a worker is told: the two elements as a set, and where things are."""

    first: str
    second: str
    parameters: ParameterSet
    grid: Grid
    atoms: Path
    atom_keys: tuple[str, str]
    out: Path
    key: str


@dataclass(frozen=True)
class PairOutcome:
    """What became of a pair: checksum and size by file name, and what the gate found (``"A-B: ..."``)."""

    first: str
    second: str
    key: str
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


def atom_key(parameters: ParameterSet, symbol: str) -> str:
    """Key of the tables of an atom."""
    value = {
        "record": record_value(parameters.element(symbol)),
        "functional": parameters.functional,
        "superposition": parameters.superposition,
    }
    return key("atom", value)


def pair_key(parameters: ParameterSet, first: str, second: str, grid: Grid) -> str:
    """Key of the files of a pair."""
    a, b = sorted((first, second))
    value = {"atoms": [atom_key(parameters, a), atom_key(parameters, b)], "grid": asdict(grid)}
    return key("pair", value)


def in_blocks(symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every unordered pair once, block by block, so that neighbours in the order share their atoms."""
    groups = [symbols[start : start + BLOCK] for start in range(0, len(symbols), BLOCK)]
    for i, rows in enumerate(groups):
        for columns in groups[i:]:
            for x, a in enumerate(rows):
                for b in columns[x:] if columns is rows else columns:
                    yield a, b


def build_pairs(
    parameters: ParameterSet,
    symbols: Sequence[str],
    out: Path,
    build: Path,
    *,
    grid: Grid | None = None,
    workers: int = 1,
    on_pair: Callable[[str, bool], None] | None = None,
) -> list[PairOutcome]:
    """Build what is not there yet of all ordered pairs of ``symbols``.

    Parameters
    ----------
    out
        Folder for ``X-Y.skf``.
    build
        Folder with the atoms (``X.npz``, `dftbparam.publish.element_data`) and the journal.
    on_pair
        Called with ``"A-B"`` and whether it was there already.

    Returns
    -------
    One outcome per unordered pair in order of ``symbols``; files of pairs with failures are not written.

    Raises
    ------
    InputError
        A file cannot be written.
    EngineError
        A worker process was killed.
    """
    grid = grid or Grid()
    journal = build / JOURNAL
    known = read_journal(journal)
    outcomes: dict[tuple[str, str], PairOutcome] = {}
    keys = {symbol: atom_key(parameters, symbol) for symbol in symbols}
    tasks = []
    for a, b in in_blocks(symbols):
        wanted = pair_key(parameters, a, b, grid)
        there = known.get(wanted)
        if there is not None and (there.first, there.second) == (a, b) and _intact(out, there):
            outcomes[a, b] = there
            if on_pair is not None:
                on_pair(f"{a}-{b}", True)
            continue
        both = parameters.model_copy(
            update={"elements": {s: parameters.element(s) for s in (a, b)}, "provenance": {}, "source": ""}
        )
        tasks.append(PairTask(a, b, both, grid, build, (keys[a], keys[b]), out, wanted))
    with _appended(journal) as note, contextlib.closing(run_tasks(build_task, tasks, workers)) as answers:
        for task, outcome in answers:
            if not outcome.failures:
                note(outcome)
            outcomes[task.first, task.second] = outcome
            if on_pair is not None:
                on_pair(f"{task.first}-{task.second}", False)
    return [outcomes[pair] for pair in in_blocks(symbols)]


def build_task(task: PairTask) -> PairOutcome:
    """Build, check and write the files of one pair; runs in a worker."""
    # One object for both where they are one element: that is how the integrator knows.
    atoms = {
        symbol: _atom(task.atoms / f"{symbol}.npz", atom)
        for symbol, atom in zip((task.first, task.second), task.atom_keys, strict=True)
    }
    try:
        files = build_pair(
            task.parameters, atoms, task.first, task.second, grid_step=task.grid.grid_step, cutoff=task.grid.cutoff
        )
    except CalculationError as error:
        name, reason = f"{task.first}-{task.second}", error.message
        failure = reason if reason.startswith(f"{name}: ") else f"{name}: {reason}"
        return PairOutcome(task.first, task.second, task.key, {}, (failure,))
    failures = pair_defects(files)
    if failures:
        return PairOutcome(task.first, task.second, task.key, {}, tuple(failures))
    written = {}
    for (a, b), file in files.items():
        name, content = f"{a}-{b}.skf", format_skf(file).encode()
        _write(task.out / name, content)
        written[name] = (hashlib.sha256(content).hexdigest(), len(content))
    return PairOutcome(task.first, task.second, task.key, written)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; tables are too many to wait for the disk at each, as `write_bytes` does.

    One that a crash of the machine damaged has another checksum, and is built again by --resume.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{str(path)!r} cannot be written ({error.strerror})", path=str(path)) from None


@lru_cache(maxsize=KEPT_ATOMS)
def _atom(path: Path, wanted: str) -> TabulatedAtom:
    atom = TabulatedAtom.load(path, wanted)
    if atom is None:
        raise InputError(f"{path}: the tables of the atom are missing, or of other parameters", path=str(path))
    return atom


def _intact(out: Path, outcome: PairOutcome) -> bool:
    """Whether the files are there and are what the journal says."""
    for name, (checksum, size) in outcome.files.items():
        path = out / name
        try:
            if path.stat().st_size != size or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
                return False
        except OSError:
            return False
    return bool(outcome.files)


def read_journal(path: Path) -> dict[str, PairOutcome]:
    """Read the journal: outcomes by key, the last of each. A line that a kill cut off is passed over."""
    found = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", path=str(path)) from None
    for line in lines:
        try:
            value: Mapping[str, Any] = json.loads(line)
            files = {name: (str(checksum), int(size)) for name, (checksum, size) in value["files"].items()}
            found[str(value["key"])] = PairOutcome(value["first"], value["second"], value["key"], files)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[Callable[[PairOutcome], None]]:
    """Open the journal for notes: a line a pair, flushed, so that a kill loses the last one at most."""
    with path.open("a", encoding="utf-8") as handle:

        def note(outcome: PairOutcome) -> None:
            value = {"key": outcome.key, "first": outcome.first, "second": outcome.second, "files": outcome.files}
            handle.write(json.dumps(value) + "\n")
            handle.flush()

        # A line that was cut off must not swallow the next one.
        handle.write("\n")
        yield note
