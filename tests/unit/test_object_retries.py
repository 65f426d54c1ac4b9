"""What the object store's client does by itself when the store trips."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import SecretStr

from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings


class Tripping(HTTPServer):
    """Answers the first request as AWS does when it trips, and the next ones well."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [500, 200]
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: Tripping

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.answers.pop(0))
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def tripping() -> Iterator[Tripping]:
    with Tripping() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


async def test_a_store_that_trips_once_is_sent_the_whole_object_again(tripping: Tripping) -> None:
    endpoint = f"http://127.0.0.1:{tripping.server_port}"
    secret = SecretStr("secret")
    settings = Settings(bus_url=SecretStr(IN_PROCESS), s3_endpoint=endpoint, s3_access_key=secret, s3_secret_key=secret)
    store = ObjectStore(settings)
    await store.put("art/1/rows", b"rows")
    await store.close()
    assert tripping.bodies == [b"rows", b"rows"]
