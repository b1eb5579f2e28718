"""How the DFTB+ program is found, run and judged: its process, what it printed, and its exit code.

Whatever the program does, the call ends within its time limit, no process of its group is left behind, and no more
than a bounded part of what it printed is held in memory or kept on disk.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dftbparam.engine.dftbplus_output import error_text, scc_progress
from dftbparam.errors import (
    EngineError,
    EngineMissing,
    EngineTimeout,
    InputError,
    OverlapError,
    ParameterError,
    ScfNotConverged,
    StructureError,
    UnreadableOutput,
)

COMMAND_VARIABLE = "DFTBPLUS_COMMAND"
"""Environment variable with the command, if it is not ``dftb+`` on the PATH."""

INSTALL_HINT = "install it with `conda install -c conda-forge dftbplus`, or name the command in " + COMMAND_VARIABLE

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the size of the scratch folder; a look takes some 50 microseconds."""

KILL_PATIENCE = 10.0
"""Seconds to wait for a killed process: only one that the kernel holds in a dead file system needs more than a few
milliseconds, and no limit would be kept if that were waited for."""

PRINT_LIMIT = 64 * 2**20
"""Bytes on standard output and standard error together at which a run is stopped; 10^5 SCC iterations print 10^7."""

FOLDER_LIMIT = 8 * 2**30
"""Bytes in a scratch folder at which a run is stopped; eigenvectors of 1000 orbitals at 500 k-points take as much."""

HEAD_AND_TAIL = 2**20
"""Bytes that are read of each end of a long standard output, and kept of it when a run was stopped for its length."""

FILE_LIMIT = 512 * 2**20
"""Bytes of a results.tag, or charges.bin, that are believed; eigenvalues of 1000 bands at 10^4 k-points take 240 MB."""

NO_ROOM = 2**14
"""Bytes of free space below which a disk counts as full: DFTB+ writes in pieces of 8 KiB."""

WORDS_LIMIT = 500
"""Characters of the program's own words that an error repeats."""

_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR)


# -------------------------------------------------------------------------------------------------------- the program


def find_command(command: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the command in words, the program with its absolute path.

    A string is split as a shell would. None: the environment variable `COMMAND_VARIABLE`, else ``dftb+`` on the PATH.

    Raises
    ------
    ParameterError
        The string is no command: a quotation without end, say.
    EngineMissing
        No such program, or it may not be executed.
    """
    if command is None:
        command = os.environ.get(COMMAND_VARIABLE) or "dftb+"
    try:
        words = tuple(shlex.split(command) if isinstance(command, str) else command)
    except ValueError as error:
        raise ParameterError(f"the DFTB+ command {command!r} cannot be read: {error}", command=command) from None
    program = shutil.which(words[0]) if words and words[0] else None
    if program is None:
        raise EngineMissing(f"the DFTB+ program {_why_not(words)}; {INSTALL_HINT}", command=words)
    # Absolute, because the process runs in its scratch folder.
    return (os.path.abspath(program), *words[1:])


def _why_not(words: Sequence[str]) -> str:
    name = words[0] if words else ""
    if os.path.dirname(name) and os.path.isdir(name):
        return f"{name!r} is a directory"
    if os.path.dirname(name) and os.path.exists(name):
        return f"{name!r} is not executable"
    return f"{name!r} was not found"


def make_scratch(parent: Path | None) -> Path:
    """Make a new folder under ``parent`` (made if need be; None: the system's temporary folder).

    Raises
    ------
    InputError
        It cannot be made there.
    """
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="dftbparam-", dir=parent))
    except OSError as error:
        where = tempfile.gettempdir() if parent is None else parent
        raise InputError(
            f"no scratch folder can be made in {where}: {error.strerror}; name one that can be written, with space"
        ) from None


def is_full(folder: Path) -> bool:
    """Whether the disk that holds a folder has no room left; false where that cannot be told."""
    try:
        return shutil.disk_usage(folder).free < NO_ROOM
    except OSError:
        return False


# -------------------------------------------------------------------------------------------------------- the process


def run_process(command: Sequence[str], folder: Path, timeout: float, spent: float = 0.0) -> int:
    """Run a command in a folder, output into the files ``stdout`` and ``stderr`` there; returns its exit code.

    However it ends, by an interrupt from the keyboard too, its whole process group is killed: what it started and left
    behind with it. (A process that made itself a session of its own is beyond reach.) ``spent`` seconds of ``timeout``
    are gone already. If this process is killed itself, by a signal that cannot be caught, a guard kills the group.

    Raises
    ------
    EngineMissing
        The program cannot be executed.
    EngineTimeout
        It took longer than ``timeout`` seconds.
    EngineError
        It filled more than `PRINT_LIMIT` or `FOLDER_LIMIT`, or cannot be started for want of processes or memory.
    """
    deadline = time.monotonic() + timeout - spent
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
            why = f"{command[0]} cannot be started ({error.strerror})"
            if error.errno not in _NO_PROGRAM or not folder.is_dir():
                raise EngineError(why, command=tuple(command)) from None
            raise EngineMissing(f"{why}; {INSTALL_HINT}", command=tuple(command)) from None
        guard = None
        try:
            guard = _guard(process)
            _watch(process, folder, deadline, timeout)
        finally:
            # Before the process is waited for: until then no other can have its number.
            _kill_group(process)
            if guard is not None:
                _dismiss(guard)
            _wait(process)
    return -signal.SIGKILL if process.returncode is None else process.returncode


def _guard(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes] | None:
    """A shell that kills the group of ``process`` when this process ends without having dismissed it.

    It waits for the end of a pipe that only this process holds open, whatever closes it: kill -9, the kernel for want
    of memory. It costs 1.3 ms a run. (Linux's parent-death signal would reach the program alone, not what a script
    around it started, and setting it in the child, which then has to be forked the slow way, costs 3 to 7 ms.) None
    where none can be started.
    """
    try:
        return subprocess.Popen(
            ("/bin/sh", "-c", f"read -r _; kill -s KILL -- -{process.pid}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,  # out of reach of what kills this process and its group
        )
    except OSError:
        return None  # the run can do without


def _dismiss(guard: subprocess.Popen[bytes]) -> None:
    guard.kill()  # before its pipe is closed, which would wake it
    _wait(guard)
    assert guard.stdin is not None
    guard.stdin.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a killed process, but not for ever."""
    try:
        process.wait(KILL_PATIENCE)
    except subprocess.TimeoutExpired:
        pass


def _watch(process: subprocess.Popen[bytes], folder: Path, deadline: float, timeout: float) -> None:
    """Return when the process has ended; it is not yet waited for where the system can tell without."""
    handle = _handle(process)
    try:
        while True:
            left = deadline - time.monotonic()
            if _ended(process, handle, max(0.0, min(WATCH_INTERVAL, left))):
                return
            if left <= 0.0:
                raise EngineTimeout(
                    f"DFTB+ was killed after {timeout:g} s; a longer timeout or fewer k-points would be right",
                    timeout=timeout,
                )
            _check_sizes(process, folder)
    finally:
        if handle is not None:
            os.close(handle)


def _handle(process: subprocess.Popen[bytes]) -> int | None:
    """A file descriptor that becomes readable when the process ends; None where there are none (not Linux)."""
    opener = getattr(os, "pidfd_open", None)
    try:
        return None if opener is None else int(opener(process.pid))
    except OSError:
        return None


def _ended(process: subprocess.Popen[bytes], handle: int | None, seconds: float) -> bool:
    if handle is not None:
        # Wakes at once: `Popen.wait` with a timeout sleeps up to 50 ms past the end, as long as a small run takes.
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(seconds * 1e3))
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all of it has ended; macOS says "not permitted" where only a zombie is left


def _check_sizes(process: subprocess.Popen[bytes], folder: Path) -> None:
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    except OSError:
        return  # files come and go while it runs; a folder that has vanished shows at the end
    printed = sizes.get("stdout", 0) + sizes.get("stderr", 0)
    if printed <= PRINT_LIMIT and sum(sizes.values()) <= FOLDER_LIMIT:
        return
    _kill_group(process)
    for name, size in sizes.items():
        if size > PRINT_LIMIT // 4:
            _shorten(folder / name)
    if printed > PRINT_LIMIT:
        raise EngineError(
            f"DFTB+ was stopped: it had printed {printed / 2**20:.0f} MiB, more than any run should; its ends are kept",
            printed=printed,
        )
    name = max(sizes, key=lambda name: sizes[name])
    raise EngineError(
        f"DFTB+ was stopped: it had written {sum(sizes.values()) / 2**30:.1f} GiB into its scratch folder, most of it "
        f"into {name}; fewer k-points or a smaller cell would be right",
        written=sum(sizes.values()),
    )


def _shorten(path: Path) -> None:
    """Cut a file down to its two ends.

    First in place, for want of room; then as a copy, because what was killed may not yet have written its last.
    """
    try:
        with path.open("r+b") as stream:
            head = stream.read(HEAD_AND_TAIL)
            stream.seek(-HEAD_AND_TAIL, os.SEEK_END)
            tail = stream.read(HEAD_AND_TAIL)
            stream.truncate(HEAD_AND_TAIL)
        copy = path.with_name(f"{path.name}.cut")
        copy.write_bytes(head + CUT.encode() + tail)
        copy.replace(path)
    except OSError:
        pass  # only tidiness: the error that follows counts


# --------------------------------------------------------------------------------------------------------- the output

CUT = "\n[... cut ...]\n"
"""Stands where the middle of a long output was left out."""


def read_output(path: Path) -> str:
    """Return what was printed into a file, of a long one both ends; nothing if there is none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_AND_TAIL)
            size = stream.seek(0, os.SEEK_END)
            if size <= 2 * HEAD_AND_TAIL:
                stream.seek(len(head))
                return (head + stream.read(HEAD_AND_TAIL)).decode("utf-8", "replace")
            stream.seek(-HEAD_AND_TAIL, os.SEEK_END)
            tail = stream.read(HEAD_AND_TAIL)
    except FileNotFoundError:
        return ""
    return head.decode("utf-8", "replace") + CUT + tail.decode("utf-8", "replace")


def read_fresh(path: Path, since: Path) -> str:
    """Return the whole text of a file that a run which ended well must have written.

    ``since`` as in `check_fresh`.

    Raises
    ------
    UnreadableOutput
        It is not fresh, or its last line has no end.
    """
    check_fresh(path, since)
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.endswith("\n"):
        raise UnreadableOutput(f"{path.name} is cut off after {text[-40:]!r}")
    return text


def check_fresh(path: Path, since: Path) -> None:
    """Look at a file that a run which ended well must have written, without reading it.

    ``since`` is a file that was written just before the run began. Its date, not the clock's, is what the file must
    not be older than: on a file server the two differ.

    Raises
    ------
    UnreadableOutput
        There is none, it is empty, older than the run, or larger than `FILE_LIMIT`.
    """
    try:
        found = path.stat()
        before = since.stat()
    except OSError:
        raise UnreadableOutput(f"DFTB+ ended with exit code 0 but left no {path.name}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableOutput(f"{path.name} is no file")
    if found.st_size == 0:
        raise UnreadableOutput(f"DFTB+ ended with exit code 0 but left an empty {path.name}")
    if found.st_mtime_ns < before.st_mtime_ns:
        raise UnreadableOutput(f"{path.name} is older than the run: it is not of this one")
    if found.st_size > FILE_LIMIT:
        raise UnreadableOutput(f"{path.name} has {found.st_size} bytes; at most {FILE_LIMIT} are read")


def check_exit(code: int, output: str, errors: str, *, convergent: bool = True) -> None:
    """Turn a failed run into the error that fits, with DFTB+'s own words.

    ``convergent`` says that the charges had to converge. Releases before 24.1 only warn where they did not, end with
    exit code 0 and leave an empty results.tag.
    """
    said = error_text(output)
    if code == 0 and said is None and convergent and "-> SCC is NOT converged" in output:
        said = "SCC is NOT converged"
    if code == 0 and said is None:
        return
    if said is None:
        raise EngineError(f"DFTB+ {_how(code)}: {_last_words(errors, output)}", exit_status=code)
    said = _shown(said)
    if "SCC is NOT converged" in said:
        iterations, residual = scc_progress(output)
        raise ScfNotConverged(
            f"SCC did not converge within {iterations} iterations; the charges still change by {residual:.1e} electrons"
            if iterations
            else "SCC did not converge",
            iterations=iterations,
            residual=residual,
        )
    if re.search(r"Less than 0 electrons|More electrons than basis", said):
        raise StructureError(f"the charge does not fit the electrons and orbitals; DFTB+ says: {said}")
    if re.search(r"positive\s+definite|potrf|Cholesky", said, re.IGNORECASE):
        raise OverlapError(f"the overlap matrix is not positive definite; DFTB+ says: {said}")
    raise EngineError(f"DFTB+ says: {said}", exit_status=code)


def _how(code: int) -> str:
    # A shell in between reports a signal as 128 + its number.
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name if number > 0 else ""
    except ValueError:
        name = f"number {number}" if code < 0 else ""
    if code < 0:
        return f"was ended by signal {name}" + (" (for want of memory?)" if name == "SIGKILL" else "")
    return f"failed with exit code {code}" + (f" (signal {name})" if name else "")


def _last_words(errors: str, output: str) -> str:
    """The line that says most: the Fortran library's error, else the last one that is no backtrace."""
    lines = (errors.strip() or output.strip() or "no output").splitlines()
    runtime = [line for line in lines if "runtime error" in line.lower() or "Operating system error" in line]
    plain = [line for line in lines if line.strip() and not re.match(r"\s*#\d+\s", line)]
    return _shown((runtime or plain or lines)[-1])


def _shown(text: str) -> str:
    """Text that can be printed, of bounded length."""
    text = "".join(c if c.isprintable() else "?" for c in text[: WORDS_LIMIT + 1])
    return text if len(text) <= WORDS_LIMIT else text[:WORDS_LIMIT] + " ..."
