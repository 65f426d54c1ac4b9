"""The retries of the object store's client after a server error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.objects import ObjectRefused, ObjectStore
from infra.settings import IN_PROCESS, Settings


class FailingOnce(HTTPServer):
    """A server that answers the first request with status 500 and the second with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [500, 200]
        self.bodies: list[bytes] = []


class _Handler(BaseHTTPRequestHandler):
    server: FailingOnce

    def do_PUT(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.answers.pop(0))
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def failing_once() -> Iterator[FailingOnce]:
    with FailingOnce() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


async def test_the_whole_object_is_sent_again_after_a_server_error(failing_once: FailingOnce) -> None:
    endpoint = f"http://127.0.0.1:{failing_once.server_port}"
    secret = SecretStr("secret")
    settings = Settings(bus_url=SecretStr(IN_PROCESS), s3_endpoint=endpoint, s3_access_key=secret, s3_secret_key=secret)
    store = ObjectStore(settings)
    await store.put("art/1/rows", b"rows")
    await store.close()
    assert failing_once.bodies == [b"rows", b"rows"]


@pytest.mark.parametrize("key", ["models/../../etc/x", "./x", "a//b", "", "a/..", "a\\b"])
async def test_a_name_that_leaves_its_folder_is_refused_with_its_own_error(key: str, tmp_path: Path) -> None:
    objects = ObjectStore(Settings(s3_endpoint="http://127.0.0.1:9"))
    for call in (objects.get(key), objects.put(key, b""), objects.get_file(key, tmp_path / "x")):
        with pytest.raises(ObjectRefused, match="is not allowed"):
            await call
    await objects.close()
