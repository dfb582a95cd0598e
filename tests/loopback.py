"""A real HTTP server on this machine, which serves files and fails as it is told to."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class Served:
    """A file, and how it is served. What is a list serves one request after the other, while it lasts.

    Attributes:
        content: Its bytes.
        headers: Sent with all of it or a part of it, some of them instead of the right ones. `ETag` and
            `x-goog-generation` are conditions, too.
        statuses: Of HEAD and GET requests, instead of the file.
        get_statuses: Of GET requests, instead of the file.
        cuts: After how many bytes of its body the connection of a GET request is lost.
        resets: Whether it is lost with an error rather than with an end.
        ranges: Whether parts of it are served.
        conditions: Whether conditions are heeded.
        length: Whether its length is told.
        chunked: Whether it is sent in chunks, without its length.
        restless: Whether it has another `ETag` for each request.
        next: What is served in its stead after the first GET request.
        hold: After how many bytes to wait until the server is released.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    get_statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    resets: bool = False
    ranges: bool = True
    conditions: bool = True
    length: bool = True
    chunked: bool = False
    restless: bool = False
    next: Served | None = None
    hold: int | None = None


@dataclass(frozen=True)
class Received:
    """A request."""

    method: str
    path: str
    headers: Message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path)
        getting = self.command == "GET"
        self.server.received.append(Received(self.command, self.path, self.headers))
        served = self.server.files.get(path)
        if served is None:
            self._fail(404)
            return
        if served.restless:
            served.headers["ETag"] = f'"{len(self.server.received)}"'
        if getting and served.next is not None:
            self.server.files[path] = served.next
        for statuses in [served.statuses, *([served.get_statuses] if getting else [])]:
            if statuses:
                self._fail(statuses.pop(0), served.headers)
                return
        if served.conditions and not (
            self._agrees("If-Match", served.headers.get("ETag"))
            and self._agrees("x-goog-if-generation-match", served.headers.get("x-goog-generation"))
        ):
            self._fail(412)
            return
        self._send(served, getting)

    def _agrees(self, condition: str, value: str | None) -> bool:
        return self.headers.get(condition, value) == value

    def _fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, served: Served, getting: bool) -> None:
        start = 0
        wanted = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", ""))
        if wanted and served.ranges:
            start = int(wanted[1])
            if start >= len(served.content):
                self._fail(416)
                return
            self.send_response(206)
            if "Content-Range" not in served.headers:
                total = len(served.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for name, value in served.headers.items():
            self.send_header(name, value)
        body = served.content[start:]
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif served.length and "Content-Length" not in served.headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.close_connection = True
        if not getting:
            return
        cut = served.cuts.pop(0) if served.cuts else None
        if served.hold is not None:
            self._write(served, body[: served.hold])
            self.server.released.wait()
            body = body[served.hold :]
        self._write(served, body[:cut])
        if cut is not None:
            if served.resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
        elif served.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, served: Served, body: bytes) -> None:
        if served.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Loopback(ThreadingHTTPServer):
    """The server.

    Attributes:
        files: What it serves, each under its path, which is not quoted.
        received: The requests so far.
        released: Set once nothing is held any more.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.received: list[Received] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def received_by(self, method: str) -> list[Received]:
        return [request for request in self.received if request.method == method]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients break off, and connections are cut, on purpose."""


@contextmanager
def serving() -> Iterator[Loopback]:
    """Run a server."""
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
