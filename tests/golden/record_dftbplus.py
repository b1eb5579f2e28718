"""Record golden numbers from DFTB+, and tell how far the embedded engine is from them.

python tests/golden/record_dftbplus.py record [NAME ...]   run DFTB+ (all cases by default), write dftbplus/*.json
python tests/golden/record_dftbplus.py missing             run DFTB+ for the cases that have no record yet
python tests/golden/record_dftbplus.py model-sets          write the made-up sets dftbplus/skf/*
python tests/golden/record_dftbplus.py table [--write]     embedded engine against the records; --write: into
                                                           docs/engines.md
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dftbplus_cases import HERE, KINDS, TOLERANCES, Case, SetMissing, deviations, load, names, save
from dftbplus_special_systems import special
from dftbplus_systems import plain
from dftbplus_tables import write_model_sets

from dftbparam.engine.base import Result
from dftbparam.errors import DftbparamError


def say(text: str | None) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cases() -> Iterator[Case]:
    """All systems, by kind."""
    yield from plain()
    yield from special()


def record(chosen: list[str]) -> int:
    """Run DFTB+ and write the records."""
    from dftbparam.engine.dftbplus import DftbPlusEngine

    engine = DftbPlusEngine(timeout=600.0)
    version = engine.versions()["dftb+"]
    failures = 0
    for case in cases():
        if chosen and case.name not in chosen:
            continue
        start = time.perf_counter()
        try:
            with case.for_dftbplus() as tables:
                result = engine.compute(tables, [case.atoms], case.settings)[0]
        except (SetMissing, DftbparamError) as error:
            result = DftbparamError(str(error))
        seconds = time.perf_counter() - start
        if isinstance(result, Result):
            save(case, result, version)
            say(f"{case.name:25s} {result.energy:.10f} Hartree, {result.scc_iterations} iterations, {seconds:.1f} s")
        else:
            failures += 1
            say(f"{case.name:25s} FAILED: {result}")
    return int(failures > 0)


SHOWN = {
    "energy": "energy/atom",
    "forces": "forces",
    "stress": "stress",
    "eigenvalues": "eigenvalues",
    "charges": "charges",
    "fermi_level": "Fermi level",
    "bands": "bands",
    "moments": "moments",
    "shell_populations": "shells",
    "projections": "projections",
}
"""Columns of the table."""


def table() -> str:
    """Markdown table of the embedded engine's disagreement with the records, by kind."""
    from dftbparam.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine()
    rows = ["| system | atoms | " + " | ".join(SHOWN.values()) + " |", "|---" * (len(SHOWN) + 2) + "|"]
    worst = dict.fromkeys(SHOWN, 0.0)
    all_cases = [load(name) for name in names()]
    for kind in KINDS:
        of_kind = [case for case in all_cases if case.kind == kind]
        rows.append(f"| **{kind}** ({len(of_kind)}) |" + " |" * (len(SHOWN) + 1))
        for case in of_kind:
            result = engine.compute(case.tables(), [case.atoms], case.settings)[0]
            if not isinstance(result, Result):
                rows.append(f"| {case.name} | {len(case.atoms)} | {type(result).__name__}: {result} |")
                continue
            found = deviations(case, result)
            for key, value in found.items():
                worst[key] = max(worst[key], value)
            cells = " | ".join(f"{found[key]:.0e}" if key in found else "" for key in SHOWN)
            rows.append(f"| {case.name} | {len(case.atoms)} | {cells} |")
    rows.append(f"| **worst** of {len(all_cases)} | | " + " | ".join(f"**{worst[key]:.0e}**" for key in SHOWN) + " |")
    rows.append("| asked | | " + " | ".join(f"{TOLERANCES[key]:.0e}" for key in SHOWN) + " |")
    return "\n".join(rows)


def write_table() -> None:
    """Put the table between its marks in docs/engines.md."""
    path = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
    text = path.read_text(encoding="utf-8")
    start, stop = "<!-- table: record_dftbplus.py table --write -->\n", "<!-- end of table -->"
    head, _, rest = text.partition(start)
    _, _, tail = rest.partition(stop)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f"{head}{start}{table()}\n{stop}{tail}", encoding="utf-8")
    temporary.replace(path)


def main(arguments: list[str]) -> int:
    """Run one command."""
    command, *rest = arguments or ["help"]
    if command == "record":
        return record(rest)
    if command == "missing":
        missing = [case.name for case in cases() if case.name not in names()]
        return record(missing) if missing else 0
    if command == "model-sets":
        write_model_sets(HERE / "skf")
    elif command == "table" and rest == ["--write"]:
        write_table()
    elif command == "table":
        say(table())
    else:
        say(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
