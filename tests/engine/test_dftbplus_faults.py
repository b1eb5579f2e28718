"""Faults of the DFTB+ process: each ends in its typed error, in time, without orphans, its scratch folder kept.

Stand-in programs make the faults; those that the real program shows differently are made with it too.
"""

import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms

from dftbparam import errors
from dftbparam.engine import dftbplus_process
from dftbparam.engine.base import Result, Settings
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.skf import read_set

MODEL = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf" / "model-spd"

PATIENCE = 5.0
"""Seconds beyond its time limit within which a call must end: starting and killing take milliseconds, a busy machine
hundreds of them."""

MARK = "DFTBPARAM_FAULT_TEST"
"""Environment variable by which everything that a test started is known, whoever its parent is by now."""

TAG = (
    "mermin_energy :real:0:\n -0.6E+000\nextrapolated0_energy:real:0:\n -0.55E+000\n"
    "fermi_level :real:1:1\n 0.1E+000\neigenvalues :real:3:2,1,1\n 0.2E+000 0.3E+000\n"
    "gross_atomic_charges:real:1:2\n 0.1E+000 -0.1E+000\n"
    "orbital_charges:real:3:9,2,1\n" + " 0.4E+000 0.4E+000 0.4E+000\n" * 6
)
DETAILED = (
    "Band energy:  -0.7 H  0.0 eV\nEnergy H0:  -0.7 H  0.0 eV\nRepulsive energy:  0.2 H  0.0 eV\n"
    "Total energy:  -0.5 H  0.0 eV\nTotal Mermin free energy:  -0.6 H  0.0 eV\n"
)

NUMBER = "n=$(pwd | tail -c 5 | sed 's/^0*\\(.\\)/\\1/')"
"""Shell: the number of the structure in its call, from the name of the folder."""


def crystal(repeat=1):
    atoms = Atoms(
        "SiO",
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )
    return atoms.repeat(repeat)


def started(mark):
    """Processes that carry the mark and are not this one; a zombie carries nothing."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found


@pytest.fixture(autouse=True)
def mark(monkeypatch):
    """Fails the test if anything that it started is left at its end, a zombie too."""
    name = uuid.uuid4().hex
    monkeypatch.setenv(MARK, name)
    yield name
    deadline = time.monotonic() + 2.0  # a killed grandchild may take a moment
    while (left := started(name)) and time.monotonic() < deadline:
        time.sleep(0.02)
    shown = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    assert shown == []
    assert [c for c in psutil.Process().children() if c.status() == psutil.STATUS_ZOMBIE] == []


def program(folder, body):
    """A shell program that prints the banner and, unless it was asked for no more, does as told."""
    path = folder / "dftb+"
    path.write_text(f"#!/bin/sh\necho '|  DFTB+ release 25.1'\nif [ \"$1\" = --version ]; then exit 1; fi\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def good(tmp_path):
    """Folder with output that is accepted."""
    folder = tmp_path / "good"
    folder.mkdir()
    (folder / "results.tag").write_text(TAG)
    (folder / "detailed.out").write_text(DETAILED)
    return folder


def engine_for(tmp_path, body, **options):
    options = {"scratch": tmp_path / "scratch", "timeout": 10.0, **options}
    return DftbPlusEngine(program(tmp_path, body), **options)


def fails(engine, kind, *, atoms=None, settings=None, tables=MODEL, match=""):
    """Compute one structure; check the error, that it came in time and that the folder it names is there."""
    begin = time.monotonic()
    error = engine.compute(tables, [atoms or crystal()], settings or Settings())[0]
    assert time.monotonic() - begin < engine.timeout + PATIENCE
    assert type(error) is kind, repr(error)
    assert match in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), repr(again.data)) == (type(error), str(error), repr(error.data))  # NaN in it
    roots = list(engine.scratch.iterdir()) if engine.scratch.is_dir() else []
    if engine.keep == "never":
        assert roots == []
    elif "scratch" in error.data:
        assert error.scratch in str(error)
        assert Path(error.scratch).name == "failed-0000"
        assert Path(error.scratch).parent in roots
        assert (Path(error.scratch) / "dftb_in.hsd").is_file()
    return error


def kept(error):
    return Path(error.scratch)


# --------------------------------------------------------------------------------------------------- no such program


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda path: None, "was not found"),
        (lambda path: path.write_text("#!/bin/sh\n"), "is not executable"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.symlink_to(path.parent / "gone"), "was not found"),
    ],
    ids=["missing", "not executable", "directory", "dangling link"],
)
def test_no_such_program(tmp_path, make, match):
    make(tmp_path / "dftb+")
    with pytest.raises(errors.EngineMissing, match=match) as caught:
        DftbPlusEngine(str(tmp_path / "dftb+"))
    assert "conda install" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).command == (str(tmp_path / "dftb+"),)


@pytest.mark.parametrize("content", [b"\x7fELF rubbish", b"#!/no/such/interpreter\n", b""])
def test_program_that_the_system_cannot_start(tmp_path, content):
    path = tmp_path / "dftb+"
    path.write_bytes(content)
    path.chmod(0o755)
    engine = DftbPlusEngine(str(path), scratch=tmp_path / "scratch")
    with pytest.raises(errors.EngineMissing, match="conda install"):
        engine.compute(MODEL, [crystal()], Settings())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_program_that_vanishes_after_it_was_asked_for_its_release(tmp_path):
    engine = engine_for(tmp_path, "exit 0")
    engine.release()
    (tmp_path / "dftb+").unlink()
    with pytest.raises(errors.EngineMissing, match="cannot be started"):
        engine.compute(MODEL, [crystal()], Settings())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_program_that_hangs_when_asked_for_its_release(tmp_path):
    path = tmp_path / "dftb+"
    path.write_text("#!/bin/sh\nsleep 60\n")
    path.chmod(0o755)
    begin = time.monotonic()
    with pytest.raises(errors.EngineTimeout):
        DftbPlusEngine(str(path), scratch=tmp_path / "scratch", timeout=0.3).versions()
    assert time.monotonic() - begin < PATIENCE
    assert list((tmp_path / "scratch").iterdir()) == []


# ------------------------------------------------------------------------------------------------- killed and hanging


def kill_when(mark, ready):
    """Kill from outside, by SIGKILL, whatever carries the mark as soon as ``ready`` says so; in a thread."""

    def work():
        deadline = time.monotonic() + 10.0
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in started(mark):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("keep", ["failed", "always", "never"])
def test_killed_from_outside(tmp_path, mark, keep):
    engine = engine_for(tmp_path, f"touch {tmp_path}/running; sleep 60", keep=keep)
    thread = kill_when(mark, (tmp_path / "running").exists)
    error = fails(engine, errors.EngineError, match="SIGKILL")
    thread.join()
    assert error.exit_status == -signal.SIGKILL


@pytest.mark.parametrize("keep", ["failed", "never"])
@pytest.mark.parametrize(
    "deaf", ["", "trap '' TERM INT HUP; ", "kill -STOP $$; "], ids=["hanging", "ignoring signals", "stopped"]
)
def test_hanging(tmp_path, deaf, keep):
    body = f"{deaf}while :; do sleep 0.05; done"
    error = fails(engine_for(tmp_path, body, timeout=0.4, keep=keep), errors.EngineTimeout, match="0.4 s")
    assert error.timeout == 0.4


def test_time_limit_holds_for_both_runs_of_bands_together(tmp_path, good):
    body = f"case $PWD in */bands) sleep 60;; *) sleep 0.9; cp {good}/* .; echo > charges.bin;; esac"
    begin = time.monotonic()
    settings = Settings(band_points=((0, 0, 0), (0.5, 0, 0)))
    error = fails(engine_for(tmp_path, body, timeout=1.2), errors.EngineTimeout, settings=settings, match="1.2 s")
    assert time.monotonic() - begin < 1.9
    assert (kept(error) / "bands" / "dftb_in.hsd").is_file()


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "sleep 60"], ids=["ends well", "fails", "hangs"])
def test_grandchildren_are_killed(tmp_path, mark, end):
    body = f"(trap '' TERM HUP; sleep 60 & echo $! > {tmp_path}/pid; wait) &\nuntil [ -s {tmp_path}/pid ]; do :; done"
    kind = {"exit 0": errors.UnreadableOutput, "exit 3": errors.EngineError}.get(end, errors.EngineTimeout)
    fails(engine_for(tmp_path, f"{body}\n{end}", timeout=0.5 if "sleep" in end else 10.0), kind)
    deadline = time.monotonic() + 2.0
    with suppress(psutil.NoSuchProcess):
        # Nobody but the init process can wait for it; until then it is a zombie.
        grandchild = psutil.Process(int((tmp_path / "pid").read_text()))
        while grandchild.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_grandchildren_of_a_run_that_ends_well_do_not_hold_it_up(tmp_path, good):
    begin = time.monotonic()
    result = engine_for(tmp_path, f"sleep 60 &\ncp {good}/* .").compute(MODEL, [crystal()], Settings())[0]
    assert isinstance(result, Result)
    assert time.monotonic() - begin < PATIENCE
    assert list((tmp_path / "scratch").iterdir()) == []


INTERRUPTED = """
import signal, sys
from pathlib import Path
from ase import Atoms
from dftbparam.engine.base import Settings
from dftbparam.engine.dftbplus import DftbPlusEngine

signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell of a background job has it ignored
command, scratch, tables = sys.argv[1:]
apart = [Atoms("Si2", positions=[[0, 0, 0], [0, 0, z]]) for z in (2.0, 2.5)]
DftbPlusEngine(command, scratch=scratch).compute(Path(tables), apart, Settings())
"""


def test_interrupt_from_the_keyboard(tmp_path, mark):
    # The first structure fails, the second is interrupted: the folder of the one is kept, of the other not.
    body = f"[ -e {tmp_path}/first ] || {{ touch {tmp_path}/first; exit 4; }}\ntouch {tmp_path}/running; sleep 60"
    arguments = [program(tmp_path, body), str(tmp_path / "scratch"), str(MODEL)]
    python = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 15.0
    while not (tmp_path / "running").exists() and time.monotonic() < deadline and python.poll() is None:
        time.sleep(0.01)
    assert len(started(mark)) >= 2
    python.send_signal(signal.SIGINT)
    _, said = python.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in said
    assert python.returncode == -signal.SIGINT
    (root,) = (tmp_path / "scratch").iterdir()
    assert sorted(path.name for path in root.iterdir()) == ["failed-0000", "skf"]


@pytest.mark.parametrize("blocked", ["", "trap '' TERM INT HUP; "], ids=["plain", "ignoring signals"])
def test_kill_of_the_caller_leaves_no_program_behind(tmp_path, mark, blocked):
    """kill -9, or the kernel for want of memory, of this process: the program and what it started end too."""
    body = f"{blocked}sleep 60 & sleep 61 & touch {tmp_path}/running; wait"
    arguments = [program(tmp_path, body), str(tmp_path / "scratch"), str(MODEL)]
    python = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], start_new_session=True)
    deadline = time.monotonic() + 15.0
    while not (tmp_path / "running").exists() and time.monotonic() < deadline and python.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)  # for the guard to start, on a busy machine
    assert len(started(mark)) == 4
    os.killpg(python.pid, signal.SIGKILL)  # the whole group, as schedulers do; the program has one of its own
    python.wait(PATIENCE)
    deadline = time.monotonic() + 2.0
    while started(mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(mark) == []


def test_no_guard_is_left(tmp_path, good):
    """Neither of a run that ends well, nor of one that fails; and a run goes on where none can be started."""
    children = psutil.Process().children(recursive=True)
    engine = engine_for(tmp_path, f"{NUMBER}; [ $n = 1 ] && exit 1; [ $n = 2 ] && sleep 60; cp {good}/* .", timeout=0.8)
    found = engine.compute(MODEL, [crystal()] * 3, Settings())
    assert [type(one) for one in found] == [Result, errors.EngineError, errors.EngineTimeout]
    assert psutil.Process().children(recursive=True) == children


def test_a_run_can_do_without_a_guard(tmp_path, monkeypatch, good):
    start = subprocess.Popen

    def refuse(command, **options):
        if command[0] == "/bin/sh":
            raise BlockingIOError("Resource temporarily unavailable")
        return start(command, **options)

    monkeypatch.setattr(dftbplus_process.subprocess, "Popen", refuse)
    found = engine_for(tmp_path, f"cp {good}/* .").compute(MODEL, [crystal()], Settings())[0]
    assert isinstance(found, Result)


# ------------------------------------------------------------------------------------------------------ what it prints


@pytest.mark.parametrize(
    ("garbage", "code", "kind"),
    [
        (bytes(range(256)) * 40, 0, errors.UnreadableOutput),
        (bytes(range(256)) * 40, 1, errors.EngineError),
        (b"\xff" * 5000, 7, errors.EngineError),
        (b"ERROR!", 0, errors.UnreadableOutput),
        (b"ERROR!\n-> \x00\x1b[2J" + b"x" * 100_000 + b"\n", 1, errors.EngineError),
        (b"ERROR!\n-> SCC is NOT converged\n", 1, errors.ScfNotConverged),
    ],
    ids=["bytes", "bytes and failure", "no text", "cut error", "control characters", "no iterations"],
)
def test_printed_garbage(tmp_path, garbage, code, kind):
    (tmp_path / "garbage").write_bytes(garbage)
    for stream in ("1", "2") if kind is errors.EngineError else ("1",):
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        error = fails(engine_for(tmp_path, f"cat {tmp_path}/garbage >&{stream}; exit {code}"), kind)
        assert str(error).isprintable()
        assert len(str(error)) < 1000


@pytest.mark.parametrize("stream", ["1", "2"])
def test_endless_printing_is_stopped(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(dftbplus_process, "PRINT_LIMIT", 8 * 2**20)
    error = fails(engine_for(tmp_path, f"yes 'one more line' >&{stream}"), errors.EngineError, match="had printed")
    assert error.printed > 8 * 2**20
    printed = (kept(error) / ("stdout" if stream == "1" else "stderr")).read_bytes()
    assert len(printed) < 2 * dftbplus_process.HEAD_AND_TAIL + 100
    assert printed.startswith(b"|  DFTB+ release" if stream == "1" else b"one more line")
    assert dftbplus_process.CUT.encode() in printed
    assert printed[-100:].count(b"one more") >= 5
    assert b"\0" not in printed
    assert len(list(kept(error).iterdir())) == 4  # nothing but the input, the tables and the two streams


def test_long_printing_is_read_in_part(tmp_path, good):
    # Below the limit: no failure, and only the ends are in memory.
    body = f"head -c 5000000 /dev/zero | tr '\\0' 'x'; echo; echo ERROR!; echo '-> at the end'; cp {good}/* .; exit 1"
    error = fails(engine_for(tmp_path, body), errors.EngineError, match="at the end")
    assert len(dftbplus_process.read_output(kept(error) / "stdout")) < 2 * dftbplus_process.HEAD_AND_TAIL + 100


@pytest.mark.parametrize("keep", ["failed", "never"])
def test_endless_file_is_stopped(tmp_path, monkeypatch, keep):
    monkeypatch.setattr(dftbplus_process, "FOLDER_LIMIT", 32 * 2**20)
    engine = engine_for(tmp_path, "cat /dev/zero > eigenvec.bin", keep=keep)
    error = fails(engine, errors.EngineError, match="eigenvec.bin")
    assert error.written > 32 * 2**20
    if keep == "failed":
        assert (kept(error) / "eigenvec.bin").stat().st_size < 2 * dftbplus_process.HEAD_AND_TAIL + 100


# ------------------------------------------------------------------------------------------------------ what it writes


def cuts():
    """Places in TAG: nothing, within the first head; after, in the midst of and just before the end of every line."""
    ends = [i + 1 for i, c in enumerate(TAG) if c == "\n"][:-1]
    return sorted({0, 5, *ends, *(e - 1 for e in ends), *(e + 6 for e in ends), len(TAG) - 1, len(TAG) - 3})


def test_truncated_results(tmp_path):
    # One run per place: the n-th takes the n-th piece.
    places = cuts()
    for n, place in enumerate(places):
        (tmp_path / f"piece{n}").write_text(TAG[:place])
    (tmp_path / "detailed.out").write_text(DETAILED)
    body = f"{NUMBER}\ncp {tmp_path}/detailed.out .; cp {tmp_path}/piece$n results.tag"
    engine = engine_for(tmp_path, body)
    out = engine.compute(MODEL, [crystal()] * len(places), Settings())
    wrong = [
        (TAG[:place][-30:], e) for place, e in zip(places, out, strict=True) if type(e) is not errors.UnreadableOutput
    ]
    assert wrong == []
    assert [kept(error).name for error in out] == [f"failed-{n:04d}" for n in range(len(places))]
    assert {(kept(error) / "results.tag").stat().st_size for error in out} == set(places)


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("", "left no results.tag"),
        ("cp {good}/results.tag .", "detailed.out"),
        ("cp {good}/* .; : > results.tag", "empty results.tag"),
        ("cp {good}/* .; : > detailed.out", "empty detailed.out"),
        ("cp {good}/* .; touch -d 2001-01-01 results.tag", "older than the run"),
        ("cp {good}/* .; touch -d 2001-01-01 detailed.out", "older than the run"),
        ("cp {good}/detailed.out .; mkdir results.tag", "is no file"),
        ("cp {good}/detailed.out .; mkfifo results.tag", "is no file"),
        ("cp {good}/detailed.out .; ln -s nowhere results.tag", "left no results.tag"),
        ("cp {good}/* .; sed -i 's/-0.6E+000/NaN/' results.tag", "NaN"),
        ("cp {good}/* .; sed -i 's/0.3E+000/NaN/' results.tag", "eigenvalues is not finite"),
        ("cp {good}/* .; sed -i 's/ -0.1E+000/ Infinity/' results.tag", "gross_atomic_charges is not finite"),
        ("cp {good}/* .; sed -i 's/0.3E+000/********/' results.tag", "'eigenvalues' cannot be read"),
        ("cp {good}/* .; sed -i 's/-0.5 H/NaN H/' detailed.out", "nan"),
        ("cp {good}/* .; sed -i 's/1:2$/1:3/; s/ -0.1E/ 0.0 -0.1E/' results.tag", "gross_atomic_charges has the shape"),
        ("cp {good}/* .; sed -i '/^Total energy/d' detailed.out", "Total energy"),
    ],
    ids=[
        "nothing", "no details", "empty", "empty details", "stale", "stale details", "directory", "pipe", "link",
        "NaN energy", "NaN eigenvalue", "infinite charge", "overflown field", "NaN details", "another number of atoms",
        "line missing",
    ],
)  # fmt: skip
def test_results_that_cannot_be_believed(tmp_path, good, body, match):
    fails(engine_for(tmp_path, body.replace("{good}", str(good))), errors.UnreadableOutput, match=match)


def test_results_of_an_earlier_run_that_are_left_in_place(tmp_path, good):
    old = time.time() - 3600.0
    for path in good.iterdir():
        os.utime(path, (old, old))
    fails(engine_for(tmp_path, f"cp -p {good}/* ."), errors.UnreadableOutput, match="older than the run")


@pytest.mark.parametrize("what", ["x" * 3_000_000, "1.0 " * 500_000, "a:" * 300_000, "\n" * 300_000], ids=len)
def test_error_on_long_garbage_is_short(tmp_path, good, what):
    for name, text in {"number": f"mermin_energy :real:0:\n {what}\n", "head": f"{what}:real:1:1\n y\n"}.items():
        (tmp_path / name).write_text(text)
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        engine = engine_for(tmp_path, f"cp {good}/detailed.out .; cp {tmp_path}/{name} results.tag")
        assert len(str(fails(engine, errors.UnreadableOutput))) < 3000


@pytest.mark.parametrize("settings", [Settings(reuse_charges=True), Settings(band_points=((0, 0, 0),))])
def test_missing_charges(tmp_path, good, settings):
    match = "left no charges.bin"
    fails(engine_for(tmp_path, f"cp {good}/* ."), errors.UnreadableOutput, settings=settings, match=match)


@pytest.mark.parametrize(
    ("left", "match"),
    [
        (":", "older than the run"),
        ("echo 2 > charges.bin; touch -t 202001010000 charges.bin", "older than the run"),
        (": > charges.bin", "empty charges.bin"),
        ("rm charges.bin", "left no charges.bin"),
        ("rm charges.bin; mkdir charges.bin", "is no file"),
    ],
)
@pytest.mark.parametrize("bands", [False, True])
def test_charges_that_are_not_of_this_run(tmp_path, good, left, match, bands):
    # The first structure writes its charges; the second, which begins from them, leaves them as they are.
    body = f"""cp {good}/* .
    case $PWD in */bands) exit 0;; esac
    if [ -e charges.bin ]; then {left}; else echo 1 > charges.bin; fi"""
    settings = Settings(reuse_charges=True, band_points=((0, 0, 0),) if bands else None)
    first, second = engine_for(tmp_path, body).compute(MODEL, [crystal(), crystal()], settings)
    assert isinstance(first, Result), first
    assert type(second) is errors.UnreadableOutput, second
    assert match in str(second)


def test_too_large_results_are_not_read(tmp_path, monkeypatch, good):
    monkeypatch.setattr(dftbplus_process, "FILE_LIMIT", 100)
    fails(engine_for(tmp_path, f"cp {good}/* ."), errors.UnreadableOutput, match="at most 100")


# --------------------------------------------------------------------------------------------------- the scratch folder


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a given size, root only; returns its folder."""
    mounted = []

    def mount(size, options=""):
        folder = tmp_path / "disk"
        folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("only root can mount a file system")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        if subprocess.run(["umount", str(folder)], capture_output=True).returncode:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with suppress(OSError), (folder / "filling").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_full_disk_at_the_first_look(tmp_path, small_disk):
    disk = small_disk("256k")
    fill(disk)
    engine = engine_for(tmp_path, "exit 0", scratch=disk)
    with pytest.raises(errors.EngineError, match="No space left") as caught:
        engine.compute(MODEL, [crystal()], Settings())
    assert type(caught.value) is errors.EngineError  # not `EngineMissing`: the program is there
    assert [path.name for path in disk.iterdir()] == ["filling"]


def test_full_disk_when_tables_are_written(tmp_path, small_disk):
    disk = small_disk("20k")
    engine = engine_for(tmp_path, "exit 0", scratch=disk)
    error = fails(engine, errors.EngineError, tables=read_set(MODEL), match="No space left")
    assert "scratch" not in error.data  # there was nothing to keep
    assert list(disk.iterdir()) == []


def test_full_disk_when_the_input_is_written(tmp_path, small_disk):
    disk = small_disk("256k")
    engine = engine_for(tmp_path, "exit 0", scratch=disk)
    engine.release()
    fill(disk)
    error = fails(engine, errors.EngineError, match="No space left")
    assert "full" in str(error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("cp {good}/* .; cat /dev/zero > charges.bin || exit 1", errors.EngineError),
        ("cp {good}/* .; cat /dev/zero", errors.EngineError),
        ("cat /dev/zero > charges.bin; cp {good}/* .; exit 0", errors.UnreadableOutput),
        ("cp {good}/detailed.out .; yes ' 0.5' > results.tag; exit 0", errors.UnreadableOutput),
    ],
    ids=["stops", "printing", "goes on", "cut"],
)
def test_full_disk_when_the_program_writes(tmp_path, small_disk, good, body, kind):
    disk = small_disk("512k")
    error = fails(engine_for(tmp_path, body.replace("{good}", str(good)), scratch=disk), kind, match="disk is full")
    assert kept(error).is_dir()


def test_scratch_that_cannot_be_written(tmp_path, small_disk):
    scratch = tmp_path / "locked"
    if os.geteuid() == 0:
        scratch = small_disk("64k", ",ro")  # root is kept out by nothing less
    else:
        scratch.mkdir(mode=0o500)
    engine = engine_for(tmp_path, "exit 0", scratch=scratch)
    with pytest.raises(errors.InputError, match="no scratch folder can be made") as caught:
        engine.compute(MODEL, [crystal()], Settings())
    assert str(scratch) in str(pickle.loads(pickle.dumps(caught.value)))


def test_scratch_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(errors.InputError, match="no scratch folder can be made"):
        engine_for(tmp_path, "exit 0", scratch=tmp_path / "file" / "below").versions()


@pytest.mark.skipif(os.geteuid() == 0, reason="root is kept out of no folder")
def test_scratch_that_is_locked_during_the_run(tmp_path):
    engine = engine_for(tmp_path, 'chmod 000 "$(dirname "$PWD")"; exit 0')
    error = engine.compute(MODEL, [crystal()], Settings())[0]
    (root,) = (tmp_path / "scratch").iterdir()
    root.chmod(0o700)
    assert isinstance(error, errors.EngineError)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("what", ['"$PWD"', '"$(dirname "$PWD")"', '"$(dirname "$(dirname "$PWD")")"'])
def test_scratch_that_vanishes(tmp_path, what, code):
    engine = engine_for(tmp_path, f"rm -rf {what}; exit {code}")
    error = fails(engine, errors.EngineError, match="vanished")
    assert "scratch" not in error.data
    assert not engine.scratch.exists() or list(engine.scratch.iterdir()) == []


def test_scratch_that_vanishes_before_a_second_structure(tmp_path):
    engine = engine_for(tmp_path, 'rm -rf "$(dirname "$PWD")"; exit 0')
    out = engine.compute(MODEL, [crystal(), crystal()], Settings())
    assert [type(error) for error in out] == [errors.EngineError, errors.EngineError]
    assert pickle.loads(pickle.dumps(out[1])).message == out[1].message


def test_keep_never_leaves_nothing_of_a_whole_call(tmp_path, good):
    body = f"""
    case $(pwd | tail -c 2) in
        0) exit 1;; 1) kill -9 $$;; 2) sleep 60 & exit 0;; 3) mkdir -p a/b; touch ../other-one; kill -SEGV $$;;
        *) cp {good}/* .;;
    esac"""
    engine = engine_for(tmp_path, body, keep="never")
    out = engine.compute(MODEL, [crystal()] * 5, Settings())
    assert [type(one) for one in out] == [
        errors.EngineError, errors.EngineError, errors.UnreadableOutput, errors.EngineError, Result
    ]  # fmt: skip
    assert list(engine.scratch.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- real DFTB+


@pytest.fixture
def real(tmp_path):
    try:
        return DftbPlusEngine(scratch=tmp_path / "scratch", timeout=30.0)
    except errors.EngineMissing as error:
        pytest.skip(str(error))


LONG = 4
"""Cells each way: 128 atoms at one k-point take some 8 s."""


@pytest.mark.dftbplus
def test_real_program_killed_from_outside(real, mark):
    real.release()
    # Its output comes late, from a buffer; but computing shows.
    at_work = kill_when(mark, lambda: sum(p.cpu_times().user for p in started(mark)) > 0.3)
    error = fails(real, errors.EngineError, atoms=crystal(LONG), match="SIGKILL")
    at_work.join()
    assert error.exit_status == -signal.SIGKILL


@pytest.mark.dftbplus
def test_real_program_out_of_time(real):
    real.release()
    real.timeout = 0.7
    fails(real, errors.EngineTimeout, atoms=crystal(LONG), match="0.7 s")


@pytest.mark.dftbplus
@pytest.mark.parametrize("size", ["8k", "16k", "32k", "64k"])
def test_real_program_on_a_full_disk(real, small_disk, size):
    # Full at another of its files with each size; results.tag alone would take more than any.
    real.scratch = small_disk(size)
    settings = Settings(kpts=(11, 11, 11), eigenvalues=True)
    (error,) = real.compute(MODEL, [crystal()], settings)
    assert type(error) in (errors.EngineError, errors.UnreadableOutput)
    assert "disk is full" in str(error)
    assert pickle.loads(pickle.dumps(error)).message == error.message
    assert kept(error).is_dir()


@pytest.mark.dftbplus
def test_real_results_cut_anywhere_between_two_lines(real, tmp_path):
    """Whole fields that are missing at the end are noticed, or are not needed and change nothing."""
    settings = Settings(forces=True, stress=True)
    (whole,) = real.compute(MODEL, [crystal()], settings)
    assert isinstance(whole, Result), whole
    body = f"{NUMBER}\n{shlex.join(real.command)} > real.out\nhead -n $((n * 7)) results.tag > cut\nmv cut results.tag"
    engine = engine_for(tmp_path, body, keep="never")
    out = engine.compute(MODEL, [crystal()] * 12, settings)
    assert type(out[0]) is errors.UnreadableOutput
    for result in out:
        if isinstance(result, Result):
            assert result.free_energy == pytest.approx(whole.free_energy, abs=1e-10)
            np.testing.assert_allclose(result.forces, whole.forces, atol=1e-9)
        else:
            assert type(result) is errors.UnreadableOutput
