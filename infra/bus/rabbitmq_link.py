"""A connection to RabbitMQ that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import structlog
from pika import URLParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import AMQPConnectionError, AMQPError

from infra.bus.rabbitmq_channel import AWAY, Channel
from infra.bus.rabbitmq_stream import Services
from infra.ending import end, say_if_broken

HEARTBEAT = 15
"""Seconds; a connection whose other end has been silent for as long is given up."""
CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
RECONNECT_AFTER = 0.5
SETTLED = 1.0
"""Seconds after which a connection has proved itself; one that ends sooner is not made again at once."""

log = structlog.get_logger(__name__)


class Link:
    """One connection, for one `purpose`, which the broker lists."""

    def __init__(self, url: str, purpose: str) -> None:
        self._parameters = _parameters(url, purpose)
        self._purpose = purpose
        self._raw: AsyncioConnection | None = None
        self._up = asyncio.Event()
        self._lost: asyncio.Future[Exception] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._back: Callable[[], Awaitable[None]] | None = None
        self._since = 0.0
        self._closed = False
        self.blocked = False
        """The broker is short of memory or disk, and reads nothing that is published here."""

    def on_back(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do `step` after each reconnection."""
        self._back = step

    async def start(self) -> None:
        """Connect; from now on the connection is kept. Raises AMQPError, OSError, TimeoutError."""
        await self._connect()
        if self._closed:
            await self.close()
            raise AMQPConnectionError("closed while it was being opened")
        self._keeping = asyncio.create_task(self._keep(), name=f"{self._purpose} connection")
        say_if_broken(self._keeping)

    async def close(self) -> None:
        """Disconnect, for good."""
        self._closed = True
        if self._keeping is not None:
            await end(self._keeping)
        raw, lost, self._raw = self._raw, self._lost, None
        self._up.clear()
        if raw is None or lost is None or lost.done():
            return
        with suppress(*AWAY, TimeoutError):
            raw.close()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await lost

    async def channel(self) -> Channel:
        """A new channel, as soon as there is a connection. Raises AMQPError, TimeoutError."""
        await self._up.wait()
        assert self._raw is not None, "it is up"
        return await Channel.opened(self._raw)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        lost: asyncio.Future[Exception] = loop.create_future()
        raw = AsyncioConnection(
            self._parameters,
            on_open_callback=lambda _: None if opened.done() else opened.set_result(None),
            on_open_error_callback=lambda _, error: None if opened.done() else opened.set_exception(_cause(error)),
            on_close_callback=lambda _, reason: self._down(lost, reason),
            custom_ioloop=Services(loop),
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await opened
        except BaseException:
            with suppress(*AWAY):
                raw.close()
            raise
        raw.add_on_connection_blocked_callback(lambda *_: self._block(raw, blocked=True))
        raw.add_on_connection_unblocked_callback(lambda *_: self._block(raw, blocked=False))
        self._raw, self._lost, self._since, self.blocked = raw, lost, loop.time(), False
        if not lost.done():
            self._up.set()

    def _block(self, raw: AsyncioConnection, *, blocked: bool) -> None:
        if raw is self._raw:
            self.blocked = blocked
            log.warning("broker_blocks_publishers" if blocked else "broker_takes_messages_again")

    def _down(self, lost: asyncio.Future[Exception], reason: Exception) -> None:
        if lost is self._lost:
            self._up.clear()
        if not lost.done():
            lost.set_result(reason)

    async def _keep(self) -> None:
        while True:
            assert self._lost is not None, "it was connected"
            reason = await asyncio.shield(self._lost)
            log.warning("broker_lost", purpose=self._purpose, reason=str(reason))
            if asyncio.get_running_loop().time() - self._since < SETTLED:
                await asyncio.sleep(RECONNECT_AFTER)
            await self._reconnect()
            log.info("broker_back", purpose=self._purpose)
            if self._back is not None:
                await self._back()

    async def _reconnect(self) -> None:
        while True:
            try:
                await self._connect()
            except (*AWAY, TimeoutError) as error:
                log.info("broker_still_away", purpose=self._purpose, error=str(error) or type(error).__name__)
                await asyncio.sleep(RECONNECT_AFTER)
            else:
                return


def _parameters(url: str, purpose: str) -> URLParameters:
    """Raises AMQPConnectionError where an option in the address makes no sense."""
    parts = urlsplit(url)
    if parts.username is not None and parts.password is None:  # pika takes a user for one with a password
        url = url.replace("@", ":@", 1)
    try:
        parameters = URLParameters(url)
    except ValueError as error:
        raise AMQPConnectionError(str(error)) from error
    parameters.heartbeat = HEARTBEAT
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = CONNECT_TIMEOUT
    parameters.client_properties = {"connection_name": f"treadle {purpose}"}
    return parameters


def _cause(error: BaseException) -> Exception:
    """What really happened, out of pika's wrappings."""
    if isinstance(error, AMQPConnectionWorkflowFailed):
        return _cause(error.exceptions[-1])
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        return _cause(error.exception)
    if isinstance(error, AMQPConnectorStackTimeout):
        return TimeoutError("no connection in time")
    if type(error) is AMQPConnectionError and error.args and isinstance(error.args[0], AMQPConnectionWorkflowFailed):
        return _cause(error.args[0])
    return error if isinstance(error, AMQPError | OSError) else AMQPConnectionError(repr(error))
