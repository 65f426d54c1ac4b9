"""A small model hub on the loopback interface that fails on request; it answers what a download asks for."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What the hub does instead of its answer to the next `times` requests whose path contains `path`."""

    path: str = ""
    times: int = 10**9
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    cut: int = 0
    """Bytes of the right answer after which the connection is reset."""
    hang: bool = False
    ignore_range: bool = False


class FakeHub:
    """The models by their ids; `requests` has the method and path of each request."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.models: dict[str, Path] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"

    def fail(self, path: str = "", **fault: object) -> None:
        """Fail the next requests to `path`; see Fault."""
        self.faults.append(Fault(path, **fault))  # type: ignore[arg-type]

    def next_fault(self, request: str) -> Fault | None:
        """Record the request; return the fault that it meets."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.path in request and fault.times:
                    fault.times -= 1
                    return fault
        return None

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the right answer."""
        for name, folder in self.models.items():
            if path.startswith(f"/api/models/{name}/revision/"):
                return _revision(name, path.rpartition("/")[2])
            if path.startswith(f"/api/models/{name}/tree/"):
                return 200, {}, json.dumps([_entry(file) for file in sorted(folder.iterdir())]).encode()
            if path.startswith(f"/{name}/resolve/"):
                return _file(folder / path.rpartition("/")[2])
        return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error":"Repository not found"}'


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fault = self.hub.next_fault(f"{self.command} {self.path}")
        if fault is not None and fault.hang:
            self.hub.closing.wait()
            return
        if fault is not None and fault.status:
            self._send(fault.status, dict(fault.headers), fault.body)
            return
        status, headers, body = self.hub.find(self.path.partition("?")[0])
        start = 0
        if (given := self.headers.get("Range")) and not (fault and fault.ignore_range):
            start = int(given.removeprefix("bytes=").partition("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._send(status, headers, body[start:], fault.cut if fault else 0)

    do_HEAD = do_GET  # noqa: N815  # the name is of http.server

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:cut] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _revision(name: str, revision: str) -> tuple[int, dict[str, str], bytes]:
    if revision not in {"main", COMMIT}:
        return 404, {"X-Error-Code": "RevisionNotFound"}, b'{"error":"Invalid rev id"}'
    return 200, {}, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": []}).encode()


def _entry(file: Path) -> dict[str, object]:
    body = file.read_bytes()
    return {"type": "file", "path": file.name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}


def _file(file: Path) -> tuple[int, dict[str, str], bytes]:
    if not file.is_file():
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
    body = file.read_bytes()
    return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}, body


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a hub until exit."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub = handler.hub = FakeHub(server)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            server.shutdown()
            thread.join()
