"""What a worker must get published, it publishes for as long as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_random_exponential

from infra.bus.dead import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed

log = structlog.get_logger(__name__)


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("waiting_for_the_broker", attempt=state.attempt_number, error=str(error))


@retry(
    retry=retry_if_exception_type(PublishFailed),
    wait=wait_random_exponential(multiplier=0.1, max=5.0),
    before_sleep=_say,
)
async def _again(send: Callable[[], Awaitable[None]]) -> None:
    await send()


async def publish(bus: Bus, message: Outgoing, failed: Callable[[], None] = lambda: None) -> None:
    """Publish until the broker confirms; `failed` is called once if it does not at first."""
    await _until_confirmed(lambda: bus.publish(message), failed)


async def bury(bus: Bus, message: Incoming, queue: str, reason: str) -> None:
    """Dead-letter a message that nobody here understands; it is settled once the broker has the copy."""
    await _until_confirmed(lambda: dead_letter(bus, message, queue, reason), lambda: None)


async def _until_confirmed(send: Callable[[], Awaitable[None]], failed: Callable[[], None]) -> None:
    try:
        await send()  # first by itself: nothing but the call is made where all is well
    except PublishFailed:
        failed()
        await _again(send)
