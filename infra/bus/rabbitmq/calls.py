"""Calls to the broker: bounded in time, and a lost connection is always an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from infra.tasks import was_cancelled

CALL_TIMEOUT = 15.0
"""Seconds for which one call may take."""
AWAY = (*CONNECTION_EXCEPTIONS, TimeoutError)
"""What a call raises if the broker is away, or refuses it."""


@asynccontextmanager
async def calling(seconds: float = CALL_TIMEOUT) -> AsyncIterator[None]:
    """A block of calls that together take at most `seconds`. Raises one of AWAY.

    aiormq cancels the calls of a connection that it gives up, as if their caller had been cancelled.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            raise ConnectionError("the connection was lost") from error
