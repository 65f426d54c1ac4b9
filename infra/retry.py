"""Trying again while a part is away, by one policy: pauses that grow at random up to a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_never, wait_random_exponential
from tenacity.stop import stop_base

T = TypeVar("T")
Away = type[Exception] | tuple[type[Exception], ...]

log = structlog.get_logger(__name__)


def retry_policy(away: Away, *, longest: float, stop: stop_base = stop_never) -> AsyncRetrying:
    """Tries again while one of `away` is raised, with pauses of at most `longest` seconds. Raises the last error."""
    return AsyncRetrying(
        retry=retry_if_exception_type(away),
        wait=wait_random_exponential(multiplier=0.1, max=longest),
        stop=stop,
        before_sleep=_log,
        reraise=True,
    )


async def retry(work: Callable[[], Awaitable[T]], away: Away, *, longest: float) -> T:
    """The result of `work`, tried again for as long as one of `away` is raised."""
    try:
        return await work()  # most work is done at once, without the cost of a retry object
    except away:
        return await retry_policy(away, longest=longest)(work)


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("trying_again", error_type=type(error).__name__, error=str(error), attempt=state.attempt_number)
