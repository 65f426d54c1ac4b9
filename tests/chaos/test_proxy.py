"""The proxy passes bytes on, stalls and resets connections."""

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
    """A proxy in front of a server that echoes every line."""
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


async def echoed(connection: Connection, line: bytes) -> bytes:
    connection[1].write(line)
    return await connection[0].readline()


async def test_bytes_pass_through_the_proxy(connection: Connection) -> None:
    assert await echoed(connection, b"hello\n") == b"hello\n"


async def test_a_stall_holds_bytes_back_until_flow(proxy: Proxy, connection: Connection) -> None:
    proxy.stall()
    echo_task = asyncio.create_task(echoed(connection, b"hello\n"))
    done, _ = await asyncio.wait({echo_task}, timeout=0.2)
    assert not done
    proxy.flow()
    assert await echo_task == b"hello\n"


async def test_a_reset_reaches_the_client_as_a_reset(proxy: Proxy, connection: Connection) -> None:
    await echoed(connection, b"hello\n")
    assert proxy.reset() == 2
    with pytest.raises(ConnectionResetError):
        await echoed(connection, b"again\n")


async def test_a_connection_ends_if_the_server_is_away(proxy: Proxy) -> None:
    unreachable = Proxy(lambda: 1)
    await unreachable.start()
    reader, writer = await asyncio.open_connection(LOOPBACK, unreachable.port)
    assert await reader.read() == b""
    writer.close()
    await unreachable.stop()
