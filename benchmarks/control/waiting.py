"""Waits for a condition in the database, with an interval that does not disturb a measurement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

TIMEOUT = 120.0
INTERVAL = 0.05
"""Seconds."""


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, interval: float = INTERVAL) -> None:
    """Check the condition every `interval` seconds until it is true. Raises TimeoutError with `what` after TIMEOUT."""
    end = time.monotonic() + TIMEOUT
    while not await condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {TIMEOUT:.0f} s for {what}")
        await asyncio.sleep(interval)
