"""A connection to RabbitMQ that is made again whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

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
from infra.ending import end

HEARTBEAT = 15
"""Seconds; a connection whose other end has been silent for as long is given up."""
CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0
RECONNECT_AFTER = 0.5

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

    def on_back(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do `step` after each reconnection."""
        self._back = step

    async def start(self) -> None:
        """Connect; from now on the connection is kept. Raises AMQPError, OSError, TimeoutError."""
        await self._connect()
        self._keeping = asyncio.create_task(self._keep(), name=f"{self._purpose} connection")

    async def close(self) -> None:
        """Disconnect, for good."""
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
            custom_ioloop=loop,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await opened
        except BaseException:
            with suppress(*AWAY):
                raw.close()
            raise
        self._raw, self._lost = raw, lost
        self._up.set()

    def _down(self, lost: asyncio.Future[Exception], reason: Exception) -> None:
        self._up.clear()
        if not lost.done():
            lost.set_result(reason)

    async def _keep(self) -> None:
        while True:
            assert self._lost is not None, "it was connected"
            reason = await asyncio.shield(self._lost)
            log.warning("broker_lost", purpose=self._purpose, reason=str(reason))
            while not self._up.is_set():
                try:
                    await self._connect()
                except (*AWAY, TimeoutError) as error:
                    log.info("broker_still_away", purpose=self._purpose, error=str(error) or type(error).__name__)
                    await asyncio.sleep(RECONNECT_AFTER)
            log.info("broker_back", purpose=self._purpose)
            if self._back is not None:
                await self._back()


def _parameters(url: str, purpose: str) -> URLParameters:
    parameters = URLParameters(url)
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
