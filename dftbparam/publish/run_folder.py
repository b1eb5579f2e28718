"""The folder of a finished run.

===================  ===============================================================================================
``X-Y.skf``          Slater-Koster files of all ordered pairs
``parameters.json``  a `dftbparam.space.ParameterSet`; the tables can be rebuilt from it
``score.json``       report cards by name of the set, and what they were computed with
``bands.json``       bands of DFT and of the sets along the reference's path, where the score has errors of bands
``trials.csv``       every trial that was evaluated, without the name of the machine it ran on
``plots/``           figures
``manifest.json``    written last: its presence means that the rest is complete
===================  ===============================================================================================
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dftbparam.errors import InputError
from dftbparam.publish.files import prepare_folder, write_bytes, write_csv, write_json
from dftbparam.publish.manifest import (
    MANIFEST_NAME,
    Manifest,
    ReferenceRecord,
    machine,
    now,
    record_files,
    versions,
    write_manifest,
)
from dftbparam.reference import Dataset
from dftbparam.skf import SKSet, write_skf
from dftbparam.space import ParameterSet

PARAMETERS_NAME: Final = "parameters.json"
SCORE_NAME: Final = "score.json"
BANDS_NAME: Final = "bands.json"
TRIALS_NAME: Final = "trials.csv"
PLOTS_NAME: Final = "plots"


def write_run_folder(
    folder: Path,
    *,
    tables: SKSet,
    parameters: ParameterSet,
    score: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    plots: Mapping[str, bytes],
    bands: Mapping[str, Any] | None = None,
    command: str,
    settings: Mapping[str, Any],
    reference: Dataset | None = None,
    seed: int | None = None,
    engine_versions: Mapping[str, str] | None = None,
) -> Manifest:
    """Write everything a run leaves behind; each file appears whole, the manifest last.

    Parameters
    ----------
    folder
        Created where it is missing. Files of these names are replaced, others are left alone.
    score
        JSON values, by convention the cards under ``cards``.
    trials
        Rows of `dftbparam.store.TrialStore.rows`.
    plots
        File name to content.
    bands
        JSON values of bands.json; None where there are no bands, and a file of an earlier run is removed.
    command
        What was typed, or called.
    settings
        Everything that decided the result, as JSON values.

    Returns
    -------
    The manifest as written.

    Raises
    ------
    ParameterError
        The folder cannot be written.
    InputError
        A file cannot be written, or a table is not fit for the file format.
    """
    folder = prepare_folder(folder)
    prepare_folder(folder / PLOTS_NAME)
    # From here on the folder is not what an older manifest says.
    with contextlib.suppress(FileNotFoundError):
        (folder / MANIFEST_NAME).unlink()
    names = []
    for (a, b), file in tables.files.items():
        names.append(f"{a}-{b}.skf")
        write_skf(folder / names[-1], file)
    parameters.save(folder / PARAMETERS_NAME)
    write_json(folder / SCORE_NAME, dict(score))
    # Where a trial ran is the store's to know, not the public's.
    write_csv(folder / TRIALS_NAME, [{key: row[key] for key in row if key != "worker"} for row in trials])
    names += [PARAMETERS_NAME, SCORE_NAME, TRIALS_NAME]
    if bands is None:
        (folder / BANDS_NAME).unlink(missing_ok=True)
    else:
        # On one line: levels by the ten thousand, one a line, would be mostly spaces.
        text = json.dumps(bands, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        write_bytes(folder / BANDS_NAME, f"{text}\n".encode())
        names.append(BANDS_NAME)
    for name, content in plots.items():
        if Path(name).name != name:
            raise InputError(f"plot {name!r} must be a plain file name", name=name)
        names.append(f"{PLOTS_NAME}/{name}")
        write_bytes(folder / names[-1], content)
    manifest = Manifest(
        name=folder.resolve().name,
        created=now(),
        command=command,
        elements=tuple(sorted(parameters.elements)),
        versions={**versions(), **(engine_versions or {})},
        platform=machine(),
        settings=dict(settings),
        reference=None if reference is None else reference_record(reference),
        seed=seed,
        parameters={symbol: record.model_dump(mode="json") for symbol, record in parameters.elements.items()},
        trials={
            "done": len(trials),
            "failed": sum(row.get("status") == "failed" for row in trials),
        },
        files=record_files(folder, names),
    )
    write_manifest(folder, manifest)
    return manifest


def reference_record(dataset: Dataset) -> ReferenceRecord:
    """Name a reference set so that the very numbers can be found again."""
    return ReferenceRecord(
        name=dataset.name,
        version=dataset.version,
        checksum=dataset.checksum,
        source=dataset.source,
        doi=dataset.doi,
        licence=dataset.licence,
    )
