"""Calls to the broker with a time limit, in which a lost connection is always an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from infra.asyncio_tasks import was_cancelled

CALL_TIMEOUT = 15.0
"""Seconds that one block of calls may take."""
BROKER_ERRORS = (*CONNECTION_EXCEPTIONS, TimeoutError)
"""The exceptions of a call if the broker is unreachable or refuses it."""


@asynccontextmanager
async def call_timeout(seconds: float = CALL_TIMEOUT) -> AsyncIterator[None]:
    """Limit a block of calls to `seconds` in total. Raises one of BROKER_ERRORS.

    When aiormq gives up a connection, it cancels the calls on it, which looks like a cancellation of the caller; the
    block raises ConnectionError instead.
    """
    async with asyncio.timeout(seconds):
        try:
            yield
        except asyncio.CancelledError as error:
            if was_cancelled():
                raise
            raise ConnectionError("the connection was lost") from error
