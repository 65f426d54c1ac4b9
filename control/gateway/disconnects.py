"""Ends the work for a request when its client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from infra.asyncio_tasks import cancel_and_wait

T = TypeVar("T")
CLEANUP_TIMEOUT = 10.0
"""Seconds that the cancelled work has for its cleanup, until it is cancelled again."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Cancels it and raises ClientDisconnect if the client disconnects first.

    The body of the request must have been read.
    """
    working, leaving = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await cancel_and_wait(working, leaving, again=CLEANUP_TIMEOUT)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
