"""Waiting for a condition in the database, seldom enough to disturb nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE = 120.0
PACE = 0.05


async def until(ask: Callable[[], Awaitable[bool]], what: str, *, pace: float = PACE) -> None:
    """Ask every `pace` seconds until the answer is True. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + PATIENCE
    while not await ask():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE:.0f} s for {what}")
        await asyncio.sleep(pace)
