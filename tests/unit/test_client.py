"""The gateway's client: a lost stream continues after the last event that was received."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from cli import client
from cli.client import GatewayClient, GatewayUnreachable, RequestRefused, Update
from cli.services.composition import OBJECT_CALL_TIMEOUT
from control.gateway.limits import Limits
from control.gateway.readiness import READINESS_TIMEOUT
from control.service import CHECK_TIMEOUT
from infra.database import RELEASE_TIMEOUT
from infra.stream_upload import ABORT_TIMEOUT, PART_CALLS

ATTEMPT = {
    "taskId": str(UUID(int=1)), "iteration": 1, "phase": "training", "attempt": 2, "status": "running", "workerId": "w",
    "createdAt": "2026-01-01T00:00:00Z",
    **dict.fromkeys(("inputDatasetId", "outputDatasetId", "modelPath", "evaluationPath", "score", "message")),
    **dict.fromkeys(("startedAt", "completedAt")),
}  # fmt: skip
PAGES = {"1": [ATTEMPT, ATTEMPT], "2": [ATTEMPT]}


class Stream(ThreadingHTTPServer):
    """A server that sends one event per connection, as if the connection then broke; it has three events."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.last_event_ids: list[str | None] = []
        self.shut = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Stream

    def do_GET(self) -> None:
        if self.path.endswith("/progress"):
            self._stream()
        elif self.path.endswith("/silent"):
            self.server.shut.wait(10)
        elif self.path.endswith("/broken"):
            self.close_connection = True
        elif self.path.endswith("/gone"):
            self._answer(502, "text/html", b"<h1>Bad gateway</h1>")
        elif "/executions" in self.path:
            page = parse_qs(urlsplit(self.path).query)["page"]
            self._answer(200, "application/json", json.dumps(PAGES.get(page[0], [])).encode())
        else:
            self._answer(200, "application/json", b"{}")

    def _stream(self) -> None:
        seen = self.server.last_event_ids
        seen.append(self.headers.get("last-event-id"))
        if len(seen) > 3:
            self._answer(204, "text/plain", b"")
        else:
            body = f"event: history\nid: {len(seen)}\ndata: {json.dumps({'row': len(seen)})}\n\n"
            self._answer(200, "text/event-stream", body.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    server = Stream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shut.set()
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_lost_stream_continues_after_its_last_event(stream: Stream) -> None:
    async with GatewayClient(stream.url) as gateway:
        updates = [update async for update in gateway.follow("1")]

    assert updates == [Update("history", {"row": row}) for row in (1, 2, 3)]
    assert stream.last_event_ids == [None, "1", "2", "3"]


async def test_the_attempts_of_a_task_are_fetched_page_by_page(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    async with GatewayClient(stream.url) as gateway:
        assert [attempt.attempt for attempt in await gateway.attempts("1")] == [2, 2, 2]


async def test_an_answer_that_is_no_problem_json_is_still_a_sentence(stream: Stream) -> None:
    async with GatewayClient(stream.url) as gateway:
        with pytest.raises(RequestRefused, match="/gone answered 502 Bad Gateway"):
            await gateway.get("/gone")


async def test_a_gateway_that_accepts_a_request_and_does_not_answer_is_not_called_absent(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    async with GatewayClient(stream.url) as gateway:
        with pytest.raises(GatewayUnreachable, match="accepted the request and did not answer in time"):
            await gateway.get("/silent")


async def test_a_connection_that_breaks_is_described(stream: Stream) -> None:
    async with GatewayClient(stream.url) as gateway:
        with pytest.raises(GatewayUnreachable, match=r"any more \(.+\); the request may still take effect"):
            await gateway.get("/broken")


async def test_no_server_at_the_address_is_no_gateway() -> None:
    async with GatewayClient("http://127.0.0.1:9") as gateway:
        with pytest.raises(GatewayUnreachable, match=r"no gateway answers at .*: start one with `treadle up`"):
            await gateway.get("/")


def test_the_client_waits_longer_than_the_gateway_does() -> None:
    longest = Limits().answer + RELEASE_TIMEOUT + READINESS_TIMEOUT
    assert longest < client.TIMEOUT
    assert Limits().answer > OBJECT_CALL_TIMEOUT
    assert CHECK_TIMEOUT < READINESS_TIMEOUT
    assert client._UPLOAD_TIMEOUT.write > OBJECT_CALL_TIMEOUT * PART_CALLS + ABORT_TIMEOUT
    assert OBJECT_CALL_TIMEOUT * (PART_CALLS + 1) + longest < client._UPLOAD_TIMEOUT.read
