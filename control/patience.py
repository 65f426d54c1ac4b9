"""Transient faults are waited out in place, so that a message in hand is neither lost nor bounced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_random_exponential

from control.store.port import StoreUnavailable
from infra.bus.port import PublishFailed

T = TypeVar("T")
AWAY = (StoreUnavailable, PublishFailed)
log = structlog.get_logger(__name__)


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("waiting_for_a_part", attempt=state.attempt_number, error=str(error))


@retry(
    retry=retry_if_exception_type(AWAY),
    wait=wait_random_exponential(multiplier=0.05, max=2.0),
    before_sleep=_say,
)
async def _again(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """The answer of `work`, tried again for as long as the store or the bus is away."""
    try:
        return await work()  # first by itself: the bookkeeping of retries is a twentieth of what a message costs
    except AWAY:
        return await _again(work)
