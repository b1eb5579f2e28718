"""The live view over HTTP: the page, its numbers, the details of an element; GET and HEAD, and nothing else.

No file is served and no part of an address names one: an address is compared with those there are. Whoever can reach
the port can read, nobody can change anything. By default only this machine can reach it, and then requests have to be
addressed to it by one of its own names: a page of another site cannot read the view through a name that it points here
(DNS rebinding).
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import ipaddress
import logging
import signal
import socket
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from dftbparam.elements import all_symbols
from dftbparam.errors import DftbparamError, ParameterError
from dftbparam.report.html.page import live_policy
from dftbparam.report.live.source import LiveSource

CONNECTIONS: Final = 64
"""Open at the same time; more are turned away, so that visitors cannot use up this machine's threads."""

SILENT_SECONDS: Final = 20.0
"""After so long a connection that says nothing is closed."""

LEAST_COMPRESSED: Final = 1024
"""Bytes; less is sent as it is."""

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")

HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json; charset=utf-8"

_LOG = logging.getLogger(__name__)


class LiveServer(ThreadingHTTPServer):
    """Serves a `LiveSource`; made by `open_server`.

    Attributes
    ----------
    url
        Of the page.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...], host: str, source: LiveSource) -> None:
        self.address_family = family
        self.source = source
        self._host = host
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._open: set[socket.socket] = set()
        super().__init__(address[:2], _Handler)
        name = f"[{self.server_address[0]!s}]" if family == socket.AF_INET6 else str(self.server_address[0])
        self.url = f"http://{name}:{self.server_address[1]}/"
        self.names = {*LOCAL_NAMES, host.lower()} if is_loopback(str(self.server_address[0])) else None

    def serve_until_interrupted(self) -> None:
        """Serve until Ctrl-C or SIGTERM; to be called in the main thread.

        A handler of its own rather than KeyboardInterrupt: an exception that strikes where the interpreter cannot
        pass it on, in the callback of a weak reference say, would be lost, and the server would go on.
        """
        ended = threading.Event()
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            ended.wait()
        finally:
            self.shutdown()
            thread.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def server_bind(self) -> None:
        """Bind without looking up the machine's own name, which can take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, while there are few enough."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._free.release()

    def server_close(self) -> None:
        """Close the port, and the connections that are still open."""
        super().server_close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Visitors come and go: a connection that breaks is no news."""
        _LOG.debug("connection of %s", client_address, exc_info=True)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def open_server(source: LiveSource, host: str, port: int) -> LiveServer:
    """Open the port; requests wait there until ``serve_until_interrupted``, or ``serve_forever`` in a thread.

    Parameters
    ----------
    host
        Name or address of this machine. `is_loopback` tells who can reach ``LiveServer.server_address``.
    port
        0 for any that is free.

    Raises
    ------
    ParameterError
        The port is in use or needs rights, or the host is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return LiveServer(socket.AddressFamily(family), address, host, source)
    except (OSError, UnicodeError, OverflowError) as error:
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            why = f"port {port} of {host} is in use (another live view?); choose another one with --port, or 0 for any"
        elif code == errno.EACCES:
            why = f"port {port} needs rights that you do not have; choose one above 1023 with --port"
        elif isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
            why = f"{host!r} is no address of this machine; choose another --host, e.g. 127.0.0.1"
        else:
            why = f"cannot listen at {host!r}, port {port} ({error})"
        raise ParameterError(why, host=host, port=port) from None


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "dftbparam"
    sys_version = ""
    timeout = SILENT_SECONDS
    server: LiveServer

    def do_GET(self) -> None:
        """Answer with the content."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without it."""
        self._answer()

    def _refuse(self) -> None:
        # What was sent with it is not read, so the connection cannot go on.
        self.close_connection = True
        self._send(405, "text/plain; charset=utf-8", b"only GET and HEAD\n", {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer requests that are none."""
        self.close_connection = True
        if code == 501:
            self._refuse()
        else:
            self._send(code, "text/plain; charset=utf-8", f"{message or 'not a request'}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Tell the log, not the terminal."""
        _LOG.debug(format, *args)

    def _answer(self) -> None:
        # A body that nobody asked for would be taken for the next request.
        if self.headers.get("Content-Length", "0") != "0" or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
        names = self.server.names
        if names is not None and _name_of(self.headers.get("Host")) not in names:
            self._send(421, "text/plain; charset=utf-8", b"this server is localhost\n")
            return
        kind, body = self._content(self.path.partition("?")[0])
        if body is None:
            self._send(404, "text/plain; charset=utf-8", b"no such page\n")
            return
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        given = [one.strip().removeprefix("W/") for one in (self.headers.get("If-None-Match") or "").split(",")]
        if tag in given:
            self._send(304, kind, b"", {"ETag": tag})
            return
        more = {"ETag": tag}
        if len(body) >= LEAST_COMPRESSED and "gzip" in (self.headers.get("Accept-Encoding") or ""):
            body = _compressed(body)
            more["Content-Encoding"] = "gzip"
        self._send(200, kind, body, more)

    def _content(self, path: str) -> tuple[str, bytes | None]:
        if path not in KNOWN:
            return JSON, None
        try:
            snapshot = self.server.source.snapshot()
        except DftbparamError as error:
            _LOG.warning("%s", error.message)
            return JSON, None
        if path == "/":
            return HTML, snapshot.page
        if path == "/live.json":
            return JSON, snapshot.head
        return JSON, snapshot.details.get(KNOWN[path])

    def _send(self, code: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-cache",
            "Vary": "Accept-Encoding",
            "Content-Security-Policy": f"{live_policy()}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            **(more or {}),
        }
        if code == 304:
            del headers["Content-Length"]
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)


KNOWN: Final = {"/": "", "/live.json": ""} | {f"/element/{symbol}.json": symbol for symbol in all_symbols()}
"""Every address there is, and the element that it is about."""


def _name_of(host: str | None) -> str | None:
    """The name in a Host header, without its port, in lower case; None where it is not one."""
    try:
        return urlsplit(f"//{host}").hostname if host else None
    except ValueError:
        return None


@lru_cache(maxsize=32)
def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=5, mtime=0)
