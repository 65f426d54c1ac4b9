"""Retries while the store or the bus is unavailable, so that a delivery is neither lost nor requeued."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from control.store.port import StoreUnavailable
from infra.bus.port import PublishFailed
from infra.retry import retry

T = TypeVar("T")


async def retry_until_available(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, retried for as long as the store or the bus is unavailable."""
    return await retry(work, (StoreUnavailable, PublishFailed), max_pause=2.0)
