"""A TCP proxy between Treadle and one server, which can stall or reset its connections.

It also gives a server a fixed address, although a restart may change the port.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from infra.stack.ports import LOOPBACK

BLOCK = 65536
"""Bytes."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""The SO_LINGER value with which a close sends RST instead of FIN."""


class Proxy:
    """Listens on its own port; `target` returns the present port of the server."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset every connection."""
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.reset()
        await self._server.wait_closed()

    def stall(self) -> None:
        """Hold back all bytes in both directions, and new connections, until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """End a stall: pass on the bytes that were held back."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset every connection; returns the number of sockets, two for each connection."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            connection = writer.get_extra_info("socket")
            with suppress(OSError):  # it is closed already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
        return len(writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._target())
        except OSError:  # the server is away, so the proxy closes the connection too
            self._drop(writer)
            return
        self._writers.add(server_writer)
        directions = {
            asyncio.create_task(self._pass(reader, server_writer)),
            asyncio.create_task(self._pass(server_reader, writer)),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            self._drop(writer)
            self._drop(server_writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK):
                await self._flowing.wait()
                writer.write(block)
                await writer.drain()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
