"""The limits of a connection, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from cli.services import http_protocol
from cli.services.http_protocol import GatewayProtocol
from cli.services.http_server import serve
from control.gateway.security_headers import HEADERS

LIMIT = 0.2
PIECE = b"x" * 2**20


class Impatient(GatewayProtocol):
    """A protocol whose limits are short."""

    header_timeout = send_timeout = unread_body_timeout = LIMIT
    max_connections = 2


class Client:
    """One connection, on which a test writes bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def closed(self) -> bool:
        """Whether the server closes the connection within a few seconds."""
        try:
            async with asyncio.timeout(5):
                while await self.reader.read(2**16):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


app = FastAPI()


@app.get("/hello")
async def hello() -> str:
    return "hello"


@app.post("/refused")
async def refused() -> str:
    return "refused without reading the body"


@app.get("/endless")
async def endless(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield PIECE
        finally:
            app.state.ended.set()

    return StreamingResponse(pieces())


@asynccontextmanager
async def connections(number: int = 1) -> AsyncIterator[list[Client]]:
    app.state.ended = asyncio.Event()
    async with serve(app, "127.0.0.1", 0, lambda: None, protocol=Impatient) as url:
        port = int(url.rpartition(":")[2])
        clients = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(number)]
        yield clients
        for client in clients:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()


async def test_headers_that_do_not_end_are_a_problem_and_the_end_of_the_connection() -> None:
    async with connections() as (client,):
        client.writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["content-type"]) == (408, "application/problem+json")
        assert json.loads(body)["errors"][0]["field"] == "headers"
        assert await client.closed()


async def test_headers_that_drip_are_refused_too() -> None:
    async with connections() as (client,):
        answering = asyncio.create_task(client.answer())
        client.writer.write(b"GET /hello HTTP/1.1\r\nX: ")
        for _ in range(500):
            if answering.done():
                break
            client.writer.write(b"x")
            await asyncio.sleep(0.01)
        assert (await answering)[0] == 408


async def test_a_connection_without_a_request_is_closed_in_silence() -> None:
    async with connections() as (client,):
        assert await asyncio.wait_for(client.reader.read(), 5) == b""


async def test_requests_one_after_another_are_answered_on_one_connection() -> None:
    async with connections() as (client,):
        for _ in range(3):
            client.writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200
            await asyncio.sleep(LIMIT / 2)


async def test_a_body_that_is_not_read_is_skipped_for_a_limited_time() -> None:
    async with connections() as (client,):
        client.writer.write(b"POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nabc")
        assert (await client.answer())[0] == 200
        client.writer.write(b"more")
        assert await client.closed()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with connections() as (client,):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(cast("asyncio.Event", app.state.ended).wait(), 10)


async def test_a_connection_too_many_is_told_so_and_closed() -> None:
    async with connections(3) as (_, _, third):
        third.writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, body = await third.answer()
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(body)["errors"][0]["field"] == "connections"
        assert await third.closed()


async def test_far_too_many_connections_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "RESERVED", 0)
    monkeypatch.setattr(Impatient, "header_timeout", 60.0)
    async with connections(3) as (_, _, third):
        assert await third.closed()


@pytest.mark.parametrize(
    "request_",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000,
    ],
    ids=["no HTTP", "no host", "two hosts", "large headers"],
)
async def test_what_is_no_http_is_a_problem_with_security_headers(request_: bytes) -> None:
    async with connections() as (client,):
        client.writer.write(request_)
        status, headers, body = await client.answer()
        assert status == json.loads(body)["status"] == 400
        assert headers["content-type"] == "application/problem+json"
        assert {name.lower() for name in HEADERS} <= headers.keys()
        assert "server" not in headers
