"""Faults at random moments: afterwards the trials are those of an undisturbed run, nothing that was stored is repeated.

DFTBPARAM_FAULTS in the environment says how many of each kind; the moments are spread at random over the run, from a
seed, and the machine adds its own jitter. ``tests/integration/test_kill_resume.py`` kills drivers with local workers.
An evaluation counts as finished once its trial is in the store; what was under way at the fault may be done again, in
number at most the workers and what had just ended.
"""

import contextlib
import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from fault_driver import run
from fault_site import Site, key, listed

FAULTS = int(os.environ.get("DFTBPARAM_FAULTS", "1"))
EVALUATIONS = 24

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    site = Site(tmp_path_factory.mktemp("undisturbed"), EVALUATIONS)
    run({"store": str(site.store), "notes": str(site.notes), "longest": 0.0, "evaluations": EVALUATIONS, "workers": 0})
    found = listed(site.trials())
    assert [row[0] for row in found] == list(range(EVALUATIONS))
    assert any(row[3] == "failed" for row in found)
    return found


def check(site: Site, undisturbed: list[tuple[object, ...]], faults: int, lost: int) -> None:
    """The trials are right, and no more than ``lost`` evaluations a fault were done again."""
    assert listed(site.trials()) == undisturbed, site.logs()
    calls = site.noted("begin")
    assert set(calls) == {key(trial) for trial in site.trials()}
    assert len(calls) <= EVALUATIONS + lost * faults


def test_workers_killed(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    chance = random.Random(1)
    for number in range(FAULTS):
        with Site(tmp_path / str(number), EVALUATIONS) as site:
            site.start_cluster()
            site.start_driver(scheduler=site.scheduler_address)
            site.wait_for_moment(chance)
            nanny = psutil.Process(site.processes[chance.choice(["worker0", "worker1"])].pid)
            before = site.stored_calls()
            # The process that evaluates; its nanny starts another one.
            for worker in nanny.children():
                if "resource_tracker" not in " ".join(worker.cmdline()):
                    worker.kill()
            site.finish()
            site.check_not_repeated(before)
            # With the worker goes what it evaluates, and what it has ended and not delivered.
            check(site, undisturbed, 1, 2)
            assert all(trial.error is None or trial.error["type"] == "ScfNotConverged" for trial in site.trials())


def test_workers_that_leave_are_no_deaths(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """As before the end of a batch job's wall time: more often than a trial may take workers with it."""
    with Site(tmp_path, EVALUATIONS, longest=1.0) as site:
        site.start_scheduler()
        site.start_worker("worker0")
        for name in ("leaving0", "leaving1"):
            site.start_worker_that_leaves(name)
        site.start_driver(scheduler=site.scheduler_address)
        site.finish()
        assert listed(site.trials()) == undisturbed, site.logs()


@pytest.mark.parametrize("comes_back", [True, False], ids=["and started again", "for good"])
def test_scheduler_killed(tmp_path: Path, undisturbed: list[tuple[object, ...]], comes_back: bool) -> None:
    """Where one comes back at the same address the driver goes on, else it ends with 3 and can be resumed."""
    chance = random.Random(2)
    for number in range(FAULTS):
        with Site(tmp_path / str(number), EVALUATIONS) as site:
            site.start_cluster()
            site.start_driver(scheduler=site.scheduler_address, reconnect=60 if comes_back else 4)
            site.wait_for_moment(chance)
            site.kill("scheduler")
            # What had reached the driver is being stored.
            time.sleep(0.5)
            before = site.stored_calls()
            for name in ("worker0", "worker1"):
                site.kill(name)
            if not comes_back:
                ended = site.finish(expected=(0, 3))
                if ended == 0:
                    assert len(before) == EVALUATIONS, site.logs()
                site.port += 1
            site.start_cluster()
            if not comes_back:
                site.start_driver(scheduler=site.scheduler_address)
            site.finish()
            site.check_not_repeated(before)
            check(site, undisturbed, 1, 4)


def test_driver_killed(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """Its scheduler and workers live on, and serve the next driver."""
    chance = random.Random(3)
    done = 0
    while done < FAULTS:
        with Site(tmp_path / str(done), EVALUATIONS) as site:
            site.start_cluster()
            faults = 0
            while faults < 3 and done < FAULTS:
                site.start_driver(scheduler=site.scheduler_address)
                site.wait_for_moment(chance)
                site.kill("driver")
                faults, done = faults + 1, done + 1
                before = site.stored_calls()
            site.start_driver(scheduler=site.scheduler_address)
            site.finish()
            site.check_not_repeated(before)
            check(site, undisturbed, faults, 4)


# --- network ----------------------------------------------------------------------------------------------------------

CUT_SECONDS = 30.0
SIDE_BY_SIDE = 5


def space_name(number: int, name: str) -> str:
    """Of the network namespace of one process of one run."""
    return f"dftbparam-{os.getpid() % 10000}x{number}-{name}"


def commands(*lines: str) -> None:
    for line in lines:
        subprocess.run(line.split(), check=True, capture_output=True)


@contextlib.contextmanager
def networks(number: int) -> Iterator[dict[str, str]]:
    """Network namespaces on one bridge, for driver, scheduler and two workers; yields the host's end of each cable."""
    tag = f"{os.getpid() % 10000}x{number}"
    bridge, names = f"b{tag}", ("driver", "scheduler", "worker0", "worker1")
    ends = {name: f"v{place}{tag}" for place, name in enumerate(names)}
    try:
        commands(f"ip link add {bridge} type bridge", f"ip link set {bridge} up")
        for place, name in enumerate(names):
            space, end = space_name(number, name), ends[name]
            commands(
                f"ip netns add {space}",
                f"ip link add {end} type veth peer name eth0 netns {space}",
                f"ip link set {end} master {bridge} up",
                f"ip -n {space} addr add 10.213.0.{place + 1}/24 dev eth0",
                f"ip -n {space} link set eth0 up",
                f"ip -n {space} link set lo up",
            )
        yield ends
    finally:
        for name in names:
            # Of a namespace that is deleted the kernel removes cables later, and their names would be taken until then.
            subprocess.run(["ip", "link", "del", ends[name]], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", space_name(number, name)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


def test_network_cut(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """The cable of the driver, the scheduler or a worker is pulled for half a minute. Runs side by side."""
    if shutil.which("ip") is None:
        pytest.skip("apt-get install iproute2")
    try:
        with networks(0):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.decode().strip()}")
    chance = random.Random(4)
    for first in range(0, FAULTS, SIDE_BY_SIDE):
        with contextlib.ExitStack() as stack:
            cut_some(stack, tmp_path, range(first, min(first + SIDE_BY_SIDE, FAULTS)), chance, undisturbed)


def cut_some(
    stack: contextlib.ExitStack,
    folder: Path,
    numbers: Iterable[int],
    chance: random.Random,
    undisturbed: list[tuple[object, ...]],
) -> None:
    sites: list[tuple[Site, str, str]] = []
    for number in numbers:
        ends = stack.enter_context(networks(number))
        site = stack.enter_context(Site(folder / str(number), EVALUATIONS, longest=1.0, address="10.213.0.2"))
        for name in ends:
            site.prefix[name] = ["ip", "netns", "exec", space_name(number, name)]
        site.start_cluster()
        site.start_driver(scheduler=site.scheduler_address)
        victim = chance.choice(list(ends))
        sites.append((site, victim, ends[victim]))
    pending = {id(site): chance.randint(2, EVALUATIONS - 8) for site, *_ in sites}
    restore: list[tuple[float, str]] = []
    befores = {}
    while pending or restore:
        for site, _, end in sites:
            moment = pending.get(id(site))
            if moment is not None and len(site.noted("begin")) >= moment:
                befores[id(site)] = site.stored_calls()
                commands(f"ip link set {end} down")
                restore.append((time.monotonic() + CUT_SECONDS, end))
                del pending[id(site)]
            assert moment is None or site.processes["driver"].poll() is None, site.logs()
        for at, end in list(restore):
            if time.monotonic() >= at:
                commands(f"ip link set {end} up")
                restore.remove((at, end))
        time.sleep(0.05)
    for site, victim, _ in sites:
        site.finish()
        site.check_not_repeated(befores[id(site)])
        assert listed(site.trials()) == undisturbed, f"{victim}\n{site.logs()}"


# --- disk -------------------------------------------------------------------------------------------------------------


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(handle, bytes(4096)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(handle)


def test_disk_full(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """The driver ends with 3, and loses nothing that was stored."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
    chance = random.Random(5)
    filler = place / "filler"
    try:
        for number in range(FAULTS):
            with Site(tmp_path / str(number), EVALUATIONS) as site:
                site.store = place / f"{number}.sqlite"
                site.start_driver(workers=2)
                site.wait_for_moment(chance)
                fill(filler)
                ended = site.finish(expected=(0, 3))
                filler.unlink()
                before = site.stored_calls()
                if ended == 3:
                    assert "full" in site.logs()
                    site.start_driver(workers=2)
                    site.finish()
                else:
                    assert len(before) == EVALUATIONS
                site.check_not_repeated(before)
                check(site, undisturbed, 1, 5)
                site.store.unlink()
    finally:
        subprocess.run(["umount", str(place)], check=False)


# --- clock ------------------------------------------------------------------------------------------------------------


def faketime_library() -> Path | None:
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def test_clock_jumps(tmp_path: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """By an hour to either side, for driver, scheduler and workers at once: as when a machine's clock is set.

    libfaketime, loaded into the driver and inherited by its workers, changes the time of day; the monotonic clock goes
    on, as it does on a machine.
    """
    library = faketime_library()
    if library is None:
        pytest.skip("apt-get install libfaketime")
    chance = random.Random(6)
    for number in range(FAULTS):
        with Site(tmp_path / str(number), EVALUATIONS) as site:
            clock = site.folder / "clock"
            clock.write_text("+0\n")
            site.environment["driver"] = {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_RESET": "1",
            }
            site.start_driver(workers=2)
            site.wait_for_moment(chance)
            before = site.stored_calls()
            jump = chance.choice([-3600, 3600])
            clock.write_text(f"{jump:+d}\n")
            site.finish()
            site.check_not_repeated(before)
            check(site, undisturbed, 1, 2)
