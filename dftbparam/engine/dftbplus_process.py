"""How the DFTB+ program is found, run and judged: its process, what it printed, and its exit code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dftbparam.engine.dftbplus_files import error_text, scc_progress
from dftbparam.errors import (
    EngineError,
    EngineMissing,
    EngineTimeout,
    OverlapError,
    ScfNotConverged,
    StructureError,
)

COMMAND_VARIABLE = "DFTBPLUS_COMMAND"
"""Environment variable with the command, if it is not ``dftb+`` on the PATH."""

INSTALL_HINT = "install it with `conda install -c conda-forge dftbplus`, or name the command in " + COMMAND_VARIABLE

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def find_command(command: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the command in words, its program with the absolute path; raises `EngineMissing`."""
    if command is None:
        command = os.environ.get(COMMAND_VARIABLE) or "dftb+"
    words = tuple(shlex.split(command) if isinstance(command, str) else command)
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise EngineMissing(
            f"the DFTB+ program {words[0] if words else ''!r} was not found; {INSTALL_HINT}", command=words
        )
    # Absolute, because the process runs in its scratch folder.
    return (os.path.abspath(program), *words[1:])


def read_output(path: Path) -> str:
    """Return the text of a file; nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def run_process(command: Sequence[str], folder: Path, timeout: float) -> int:
    """Run a command in a folder, output into the files ``stdout`` and ``stderr`` there; returns its exit code."""
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,  # a process group of its own, so that all of it can be killed
            )
        except OSError as error:
            raise EngineMissing(
                f"{command[0]} cannot be started ({error.strerror}); {INSTALL_HINT}", command=tuple(command)
            ) from None
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise EngineTimeout(
                f"DFTB+ was killed after {timeout:g} s; a longer timeout or fewer k-points would be right",
                timeout=timeout,
            ) from None
        finally:
            if process.returncode is None:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()


def check_exit(code: int, output: str, errors: str) -> None:
    """Turn a failed run into the error that fits, with DFTB+'s own words."""
    said = error_text(output)
    if code == 0 and said is None:
        return
    if said is None:
        tail = (errors.strip() or output.strip() or "no output").splitlines()[-1]
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        raise EngineError(f"DFTB+ {how}: {tail}", exit_status=code)
    if "SCC is NOT converged" in said:
        iterations, residual = scc_progress(output)
        raise ScfNotConverged(
            f"SCC did not converge within {iterations} iterations; the charges still change by {residual:.1e}",
            iterations=iterations,
            residual=residual,
        )
    if re.search(r"Less than 0 electrons|More electrons than basis", said):
        raise StructureError(f"the charge does not fit the electrons and orbitals; DFTB+ says: {said}")
    if re.search(r"positive\s+definite|potrf", said, re.IGNORECASE):
        raise OverlapError(f"the overlap matrix is not positive definite; DFTB+ says: {said}")
    raise EngineError(f"DFTB+ says: {said}", exit_status=code)
