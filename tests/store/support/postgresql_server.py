"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, without TCP."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

ROLE = "dftbparam"


def binary(name: str) -> str | None:
    """The path of one of PostgreSQL's programs; Debian keeps them off the PATH."""
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(places[-1]) if places else None)


def why_missing() -> str:
    """What a skip says; empty where all is there."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'dftbparam[postgresql]')"
    missing = [name for name in ("initdb", "postgres") if binary(name) is None]
    if missing:
        return f"PostgreSQL is not installed, {', '.join(missing)} missing (Debian: apt-get install postgresql)"
    return ""


class Server:
    """One server; `start`, `stop`, `kill`, and a new empty database for each test."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dftbparam-pg-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        # The server refuses to run as root.
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run([binary("initdb"), "-D", self.folder / "data", "-U", ROLE, "--auth=trust", "--encoding=UTF8", "-N"])

    def _run(self, command: list[object]) -> None:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, cwd="/", **self._user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "60"}
        options["fsync"] = "off"  # what the tests kill is the server, not the machine
        command = [binary("postgres"), "-D", str(self.folder / "data")]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._user)
        end = time.monotonic() + 60
        while True:
            try:
                with self.connect():
                    return
            except Exception:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def connect(self, address: str = ""):
        """A plain connection, for what the tests do behind the store's back; by an address of `new_schema` or none."""
        import psycopg

        schema = address.partition("search_path%3D")[2] or "public"
        options = f"-c search_path={schema}"
        return psycopg.connect(host=str(self.folder), user=ROLE, dbname="postgres", autocommit=True, options=options)

    def new_database(self) -> str:
        """Create an empty database; return its address for `TrialStore.open`."""
        name = f"test{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{ROLE}@/{name}?host={self.folder}"

    def new_schema(self) -> str:
        """Create an empty schema, which takes a hundredth of the time; return an address that leads into it."""
        name = f"test{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://{ROLE}@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def stop(self) -> None:
        """Shut down in an orderly way; connections are broken."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)

    def kill(self) -> None:
        """``kill -9``, as the kernel does when memory is short; returns when the whole family is gone."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children()
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once: nobody wants these data, so none need go to the disk
            self.process.wait(timeout=60)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A running server, shared by the tests; who stops it starts it again."""
    if reason := why_missing():
        pytest.skip(reason)
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()
