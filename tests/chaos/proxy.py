"""A TCP proxy between Treadle and one server: it passes bytes on, until a fault stalls it or resets its connections.

It also gives a server that starts anew on another port a fixed address.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from infra.stack.ports import LOOPBACK

BLOCK = 65536
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: a close sends a reset instead of a polite end."""


class Proxy:
    """Listens on a port of its own; `target` says where the server is now."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection and listen no more."""
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.reset()
        await self._server.wait_closed()

    def stall(self) -> None:
        """Hold back whatever arrives, on both sides, new connections included."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on what was held back, and what comes."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset every connection; how many there were."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            connection = writer.get_extra_info("socket")
            with suppress(OSError):  # gone already
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            writer.transport.abort()
        return len(writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection(LOOPBACK, self._target())
        except OSError:  # the server is away: so are we
            self._drop(writer)
            return
        self._writers.add(back)
        ways = {asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._drop(writer)
            self._drop(back)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK):
                await self._flowing.wait()
                writer.write(block)
                await writer.drain()

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
