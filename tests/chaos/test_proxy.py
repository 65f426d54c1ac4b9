"""The proxy does to connections what a chaos run says that it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.stack.ports import LOOPBACK
from tests.chaos.proxy import Proxy

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that gives every line back."""
    server = await asyncio.start_server(echo, LOOPBACK, 0)
    proxy = Proxy(lambda: server.sockets[0].getsockname()[1])
    await proxy.start()
    yield proxy
    await proxy.stop()
    server.close()
    await server.wait_closed()


@pytest.fixture
async def connection(proxy: Proxy) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    yield reader, writer
    writer.close()


async def said_and_heard(connection: Connection, line: bytes) -> bytes:
    connection[1].write(line)
    return await connection[0].readline()


async def test_what_is_said_comes_through(connection: Connection) -> None:
    assert await said_and_heard(connection, b"hello\n") == b"hello\n"


async def test_a_stall_holds_back_what_is_said_until_it_flows_again(proxy: Proxy, connection: Connection) -> None:
    proxy.stall()
    heard = asyncio.create_task(said_and_heard(connection, b"hello\n"))
    done, _ = await asyncio.wait({heard}, timeout=0.2)
    assert not done
    proxy.flow()
    assert await heard == b"hello\n"


async def test_a_reset_reaches_the_client_as_one(proxy: Proxy, connection: Connection) -> None:
    await said_and_heard(connection, b"hello\n")
    assert proxy.reset() == 2
    with pytest.raises(ConnectionResetError):
        await said_and_heard(connection, b"again\n")


async def test_a_server_that_is_away_is_a_connection_that_ends(proxy: Proxy) -> None:
    nobody = Proxy(lambda: 1)
    await nobody.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, nobody.port)
    assert await reader.read() == b""
    writer.close()
    await nobody.stop()
