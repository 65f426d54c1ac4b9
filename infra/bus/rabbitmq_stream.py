"""pika's connections on the event loop's own transports.

pika's adapter watches the socket itself: under uvloop it once did so by a handle that the loop had closed (chaos found
it), and it reads and writes in Python. A transport does neither. What one turn of the loop writes is sent in one piece:
pika writes a message as three frames, and uvloop would send each at once, 9 times a task.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, cast

from pika.adapters.utils.nbio_interface import AbstractIOServices, AbstractStreamProtocol

Done = Callable[[Any], None]
"""Called with the answer, or with the error."""


class Stream(asyncio.Protocol):
    """One connection: to the loop a protocol, to pika's own protocol its transport."""

    def __init__(self, protocol: AbstractStreamProtocol, made: Done) -> None:
        self._protocol = protocol
        self._made = made
        self._transport: asyncio.Transport
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From the loop. pika hears of it before anything else can happen: it must not miss that the stream is lost."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is one by its methods only
        self._protocol.connection_made(self)
        self._made((self, self._protocol))

    def data_received(self, data: bytes) -> None:
        """From the loop."""
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """From the loop, which closes the connection unless it is told to leave it open."""
        return bool(self._protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """From the loop: reset, or closed from here."""
        self._protocol.connection_lost(exc)

    def abort(self) -> None:
        """From pika: close at once; `connection_lost` comes later. What it has just written is a farewell."""
        self._send()
        self._transport.abort()

    def get_protocol(self) -> AbstractStreamProtocol:
        """For pika."""
        return self._protocol

    def write(self, data: bytes) -> None:
        """From pika."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append(data)

    def get_write_buffer_size(self) -> int:
        """For pika: bytes that the system has not taken yet."""
        return sum(map(len, self._unsent)) + self._transport.get_write_buffer_size()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():  # uvloop raises for one that was lost meanwhile
            self._transport.write(b"".join(unsent))


class Step:
    """Something under way that pika may cancel."""

    def __init__(self, work: Coroutine[Any, Any, Any], on_done: Done) -> None:
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(lambda task: None if task.cancelled() else on_done(_answer(task)))

    def cancel(self) -> bool:
        """Break it off; False where it has ended."""
        return self._task.cancel()


class Services(AbstractIOServices):  # type: ignore[misc]  # pika publishes no types
    """What pika asks of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def get_native_ioloop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    def run(self) -> None:
        """Run the loop; like the two that follow it is part of the interface, and nothing of ours calls it."""
        self._loop.run_forever()

    def stop(self) -> None:
        """Stop the loop."""
        self._loop.stop()

    def close(self) -> None:
        """Close the loop."""
        self._loop.close()

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call soon."""
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:  # noqa: ANN401 - a handle with `cancel`
        """Call in `delay` seconds."""
        return self._loop.call_later(delay, callback)

    def getaddrinfo(
        self, host: str, port: int, on_done: Done, family: int = 0, socktype: int = 0, proto: int = 0, flags: int = 0
    ) -> Step:
        """Look a name up."""
        found = self._loop.getaddrinfo(host, port, family=family, type=socktype, proto=proto, flags=flags)
        return Step(found, on_done)

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Done) -> Step:  # noqa: ANN401 - as resolved
        """Connect to an address."""
        return Step(self._loop.sock_connect(sock, resolved_addr), on_done)

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], AbstractStreamProtocol],
        sock: socket.socket,
        on_done: Done,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Step:
        """A stream on a connected socket, by TLS where there is a context."""
        connecting = self._loop.create_connection(
            lambda: Stream(protocol_factory(), on_done),
            sock=sock,
            ssl=ssl_context,
            server_hostname=server_hostname if ssl_context else None,
        )
        return Step(connecting, lambda answer: on_done(answer) if isinstance(answer, BaseException) else None)


def _answer(task: asyncio.Future[Any]) -> Any:  # noqa: ANN401 - whatever was asked for
    return task.exception() or task.result()
