"""Transient faults are waited out in place, so that a message in hand is neither lost nor given back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from control.store.port import StoreUnavailable
from infra.bus.port import PublishFailed
from infra.retry import retry

T = TypeVar("T")


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, tried again for as long as the store or the bus is away."""
    return await retry(work, (StoreUnavailable, PublishFailed), longest=2.0)
