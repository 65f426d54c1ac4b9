"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(ask: Callable[[], Awaitable[Any]], what: str, within: float = 15.0) -> Any:
    """The first answer that is true; asked again and again. What was waited for stands in the error."""
    end = asyncio.get_running_loop().time() + within
    while not (answer := await ask()):
        assert asyncio.get_running_loop().time() < end, f"waited {within:.0f} s for {what}"
        await asyncio.sleep(0.02)
    return answer
