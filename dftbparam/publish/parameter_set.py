"""Publishing a set: from results to a folder that is complete, checked, and can be rebuilt from its parameters.

Order: results are read; every element is solved once (radial tables, spin constants, Hubbard derivatives, orbitals) and
goes through the gate; the tables of all chosen pairs are built and checked; parameters, scores and texts are written;
the manifest is written last. What is computed lands in ``.build`` inside the folder, so that a run that was killed goes
on where it was. Elements and pairs are tasks of worker processes; see `dftbparam.publish.pairs` for what bounds memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from dftbparam.errors import CalculationError, ParameterError
from dftbparam.publish import texts
from dftbparam.publish.collect import Collection, ElementResult, collect, parameters_checksum
from dftbparam.publish.element_data import BUILD_NAME, ElementData, ElementTask, prepare_element
from dftbparam.publish.files import prepare_folder, write_bytes, write_csv, write_json
from dftbparam.publish.gate import GateTask, dftbplus_available, gate_element, reference_volumes
from dftbparam.publish.hsd import hamiltonian_hsd, waveplot_hsd
from dftbparam.publish.keys import code_checksum
from dftbparam.publish.manifest import MANIFEST_NAME, FileRecord, machine, now, record_files, versions
from dftbparam.publish.pairs import Grid, PairOutcome, build_pairs
from dftbparam.publish.run_folder import PARAMETERS_NAME
from dftbparam.publish.scores import score_rows, scores_value, summary
from dftbparam.publish.set_manifest import RUN_FIELDS, ElementRecord, SetManifest, read_set_manifest, write_set_manifest
from dftbparam.publish.workers import run_tasks
from dftbparam.space import ParameterSet

SKF_NAME: Final = "skf"
CHECKSUMS_NAME: Final = "SHA256SUMS"

TRACKED: Final = ("H", "C", "N", "O", "Na", "Mg", "Al", "Si", "Ti", "Fe", "Cu", "W")
"""A dozen common elements, whose tables are kept in git: of organic matter, oxides, semiconductors and metals."""

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

OnStep = Callable[[str, str, int, int], None]
"""``on_step(stage, name, done, total)``; stages are ``elements``, ``gate``, ``pairs``."""


class GateRefused(CalculationError):
    """Something failed the gate, and nothing was published. Carries ``defects`` (sentences by element or pair)."""


@dataclass(frozen=True)
class SetRequest:
    """What to publish.

    Attributes
    ----------
    results
        See `dftbparam.publish.collect.collect`.
    name
        Of the set: letters, digits, dots, hyphens.
    only
        Elements of the set; None for all of the results. Others are not solved, and take no part in anything.
    elements
        Whose tables are built; None for all of the set. The set itself always holds all that pass.
    pairs
        ``all`` of these elements, those among the `TRACKED` dozen, or ``none``.
    keep_going
        Publish what passes the gate, and name the rest, rather than nothing.
    resume
        Go on in a folder that holds (part of) a set.
    """

    results: tuple[str, ...]
    name: str
    out: Path
    only: tuple[str, ...] | None = None
    elements: tuple[str, ...] | None = None
    pairs: Literal["all", "tracked", "none"] = "all"
    grid: Grid = field(default_factory=Grid)
    workers: int = 1
    resume: bool = False
    keep_going: bool = False
    command: str = ""


@dataclass(frozen=True)
class Published:
    """What was published: elements, those with tables, numbers of pairs built and found there, what was left out."""

    manifest: SetManifest
    elements: tuple[str, ...]
    with_tables: tuple[str, ...]
    built: int
    reused: int
    left_out: dict[str, tuple[str, ...]]
    dftbplus: bool


def publish_set(request: SetRequest, on_step: OnStep | None = None) -> Published:
    """Make the folder of a set.

    Raises
    ------
    ParameterError
        Results, names or elements do not make a set, or the folder holds one and ``resume`` was not asked for.
    GateRefused
        Something failed the gate and ``keep_going`` was not asked for; the folder has no manifest then.
    EngineError
        A worker process was killed.
    """
    tell = on_step or (lambda stage, name, done, total: None)
    if not NAME_PATTERN.fullmatch(request.name):
        raise ParameterError(f"name {request.name!r} must be of letters, digits, dots and hyphens, as dftbparam-2026.1")
    if request.workers < 1:
        raise ParameterError(f"{request.workers} workers; at least one is needed")
    collection = collect(request.results, request.only)
    wanted = chosen(collection, request)
    build = _prepare(request)

    data, left_out = _elements(collection, build, request, tell)
    asked = dftbplus_available()
    left_out |= _gate(collection, data, build, request, asked, tell)
    _refuse(left_out, request)
    symbols = tuple(symbol for symbol in collection.elements if symbol not in left_out)
    if not symbols:
        raise GateRefused("no element passed the gate: nothing to publish", defects=left_out)
    parameters = collection.parameter_set(request.name, symbols)
    tables = tuple(symbol for symbol in wanted if symbol in symbols)
    outcomes, built, reused = _pairs(parameters, tables, build, request, tell)
    failed = {f"{o.first}-{o.second}": o.failures for o in outcomes if o.failures}
    _refuse(failed, request)
    left_out |= failed

    files = _write(request, collection, parameters, [data[symbol] for symbol in symbols], tables, left_out)
    skf = {f"{SKF_NAME}/{name}": known for outcome in outcomes for name, known in outcome.files.items()}
    records = [*record_files(request.out, files), *(FileRecord(path=p, sha256=c, bytes=n) for p, (c, n) in skf.items())]
    records.sort(key=lambda one: one.path)
    sums = "".join(f"{one.sha256}  {one.path}\n" for one in records)
    write_bytes(request.out / CHECKSUMS_NAME, sums.encode())
    _prune(request.out / SKF_NAME, {Path(path).name for path in skf})
    manifest = SetManifest(
        name=request.name,
        created=now(),
        command=request.command,
        versions=versions(),
        platform=machine(),
        functional=collection.functional,
        superposition=collection.superposition,
        tables={**asdict(request.grid), "elements": list(tables), "code_sha256": code_checksum()},
        gate={"dftb+": "read the tables of every element" if asked else "not installed: not asked"},
        elements={symbol: _element_record(collection.elements[symbol]) for symbol in symbols},
        left_out=left_out,
        files=(*records, *record_files(request.out, [CHECKSUMS_NAME])),
    )
    write_set_manifest(request.out, manifest)
    return Published(manifest, symbols, tables, built, reused, left_out, asked)


def chosen(collection: Collection, request: SetRequest) -> tuple[str, ...]:
    """Return the elements whose tables are asked for, in order of atomic number; `ParameterError` for unknown ones."""
    wanted = tuple(collection.elements) if request.elements is None else request.elements
    absent = [symbol for symbol in wanted if symbol not in collection.elements]
    if absent:
        raise ParameterError(
            f"no results for {', '.join(absent)}; there are some for {' '.join(collection.elements)}", symbol=absent[0]
        )
    if request.pairs == "none":
        return ()
    return tuple(
        symbol for symbol in collection.elements if symbol in wanted and (request.pairs == "all" or symbol in TRACKED)
    )


def _prepare(request: SetRequest) -> Path:
    """Make the folders, or refuse one that holds a set; whatever a killed run left half-written goes."""
    out, build = request.out, request.out / BUILD_NAME
    there = out.is_dir() and any(out.iterdir())
    if there and not request.resume:
        raise ParameterError(f"{out} is not empty; go on there with --resume, or choose another --out", path=str(out))
    if there and not build.is_dir() and not (out / MANIFEST_NAME).is_file():
        raise ParameterError(f"{out} holds no set to go on with; choose another --out", path=str(out))
    if (out / MANIFEST_NAME).is_file() and (known := read_set_manifest(out).name) != request.name:
        raise ParameterError(
            f"{out} holds the finished set {known!r}, which is not to become {request.name!r}; choose another --out, "
            f"or go on with --name {known}",
            path=str(out),
        )
    prepare_folder(out)
    prepare_folder(build)
    prepare_folder(out / SKF_NAME)
    # From here on the folder is not what an older manifest says.
    with contextlib.suppress(FileNotFoundError):
        (out / MANIFEST_NAME).unlink()
    for folder in (out, build, out / SKF_NAME):
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
    return build


def _elements(
    collection: Collection, build: Path, request: SetRequest, tell: OnStep
) -> tuple[dict[str, ElementData], dict[str, tuple[str, ...]]]:
    tasks = [ElementTask(s, collection.parameter_set(request.name, [s]), build) for s in collection.elements]
    data: dict[str, ElementData] = {}
    failed: dict[str, tuple[str, ...]] = {}
    with contextlib.closing(run_tasks(prepare_element, tasks, request.workers)) as answers:
        for number, (task, outcome) in enumerate(answers, 1):
            if outcome.data is None:
                failed[task.symbol] = (outcome.failure,)
            else:
                data[task.symbol] = outcome.data
            tell("elements", task.symbol, number, len(tasks))
    return data, failed


def _gate(
    collection: Collection,
    data: Mapping[str, ElementData],
    build: Path,
    request: SetRequest,
    dftbplus: bool,
    tell: OnStep,
) -> dict[str, tuple[str, ...]]:
    volumes = reference_volumes(list(data))
    tasks = [
        GateTask(s, collection.parameter_set(request.name, [s]), one, build, volumes[s], request.grid, dftbplus)
        for s, one in data.items()
    ]
    failed = {}
    with contextlib.closing(run_tasks(gate_element, tasks, request.workers)) as answers:
        for number, (task, outcome) in enumerate(answers, 1):
            if outcome.defects:
                failed[task.symbol] = outcome.defects
            tell("gate", task.symbol, number, len(tasks))
    return {symbol: failed[symbol] for symbol in data if symbol in failed}


def _refuse(failed: Mapping[str, tuple[str, ...]], request: SetRequest) -> None:
    if failed and not request.keep_going:
        raise GateRefused(
            f"{len(failed)} of the set did not pass the gate, so nothing is published: "
            f"{', '.join(list(failed)[:12])}{' ...' if len(failed) > 12 else ''}; publish the rest with --keep-going",
            defects=dict(failed),
        )


def _pairs(
    parameters: ParameterSet, symbols: Sequence[str], build: Path, request: SetRequest, tell: OnStep
) -> tuple[list[PairOutcome], int, int]:
    total = len(symbols) * (len(symbols) + 1) // 2
    count = {False: 0, True: 0}

    def on_pair(name: str, there: bool) -> None:
        count[there] += 1
        tell("pairs", name, sum(count.values()), total)

    outcomes = build_pairs(
        parameters, symbols, request.out / SKF_NAME, build, grid=request.grid, workers=request.workers, on_pair=on_pair
    )
    return outcomes, count[False], count[True]


def _write(
    request: SetRequest,
    collection: Collection,
    parameters: ParameterSet,
    data: Sequence[ElementData],
    tables: Sequence[str],
    left_out: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Write all but tables, checksums and manifest; returns the names."""
    out, name = request.out, request.name
    results = {symbol: collection.elements[symbol] for symbol in parameters.elements}
    rows, means = score_rows(collection.elements, left_out), summary(results)
    parameters.save(out / PARAMETERS_NAME)
    write_json(out / "scores.json", {**scores_value(collection.elements, left_out), "summary": means})
    write_csv(out / "scores.csv", rows)
    write_json(out / "elements.json", {one.symbol: one.model_dump(mode="json") for one in data})
    readme = texts.readme(
        name,
        data=data,
        tables={"elements": list(tables)},
        rows=[row for row in rows if row["symbol"] in results],
        summary=means,
        left_out=left_out,
        sources=_sources(results),
        functional=collection.functional,
    )
    version = name.rpartition("-")[2] or name
    written = {
        "README.md": readme,
        "LICENSE": texts.licence(name),
        "CITATION.cff": texts.citation(name, version, now()[:10]),
        f"{name}.hsd": hamiltonian_hsd(name, data),
        f"wfc.{name}.hsd": waveplot_hsd(name, data),
    }
    for file, text in written.items():
        write_bytes(out / file, text.encode())
    return [PARAMETERS_NAME, "scores.json", "scores.csv", "elements.json", *written]


def _sources(results: Mapping[str, ElementResult]) -> list[str]:
    found = {}
    for result in results.values():
        reference = result.manifest.reference if result.manifest else None
        if reference is not None:
            parts = [f"`{reference.name}`", reference.source, reference.doi and f"doi:{reference.doi}"]
            found[reference.name] = ", ".join(part for part in parts if part)
    return list(found.values())


def _prune(folder: Path, names: set[str]) -> None:
    """Remove tables of an earlier selection: the folder holds what the manifest names."""
    for path in folder.glob("*.skf"):
        if path.name not in names:
            path.unlink()


def _element_record(result: ElementResult) -> ElementRecord:
    checksum = parameters_checksum(result.parameters)
    manifest = result.manifest
    run = {} if manifest is None else {name: getattr(manifest, name) for name in RUN_FIELDS}
    return ElementRecord(origin=result.origin, parameters_sha256=checksum, **run)
