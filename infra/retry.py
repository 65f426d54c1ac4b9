"""Retries while a service is unavailable, by one policy: random pauses that grow up to a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_never, wait_random_exponential
from tenacity.stop import stop_base

T = TypeVar("T")
ErrorTypes = type[Exception] | tuple[type[Exception], ...]

log = structlog.get_logger(__name__)


def retry_policy(errors: ErrorTypes, *, max_pause: float, stop: stop_base = stop_never) -> AsyncRetrying:
    """Retries while one of `errors` is raised, with pauses of at most `max_pause` seconds. Raises the last error."""
    return AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait_random_exponential(multiplier=0.1, max=max_pause),
        stop=stop,
        before_sleep=_log_error,
        reraise=True,
    )


async def retry(work: Callable[[], Awaitable[T]], errors: ErrorTypes, *, max_pause: float) -> T:
    """The result of `work`, called again while it raises one of `errors`; pauses are at most `max_pause` seconds."""
    try:
        return await work()  # most calls succeed at once and need no retry object
    except errors:
        return await retry_policy(errors, max_pause=max_pause)(work)


def _log_error(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("retrying", error_type=type(error).__name__, error=str(error), attempt=state.attempt_number)
