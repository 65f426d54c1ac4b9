"""Waiting for a condition instead of a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(read: Callable[[], Awaitable[Any]], what: str, within: float = 15.0) -> Any:
    """Call `read` until it returns a true value, and return that value; `within` is in seconds.

    Raises AssertionError, with `what` in its text, if the time is over.
    """
    deadline = asyncio.get_running_loop().time() + within
    while not (value := await read()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {within:.0f} s for {what}"
        await asyncio.sleep(0.02)
    return value
