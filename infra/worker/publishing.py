"""What a worker must get published, it publishes for as long as it takes."""

from __future__ import annotations

import structlog
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_random_exponential

from infra.bus.dead import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed

log = structlog.get_logger(__name__)


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("waiting_for_the_broker", attempt=state.attempt_number, error=str(error))


_until_confirmed = retry(
    retry=retry_if_exception_type(PublishFailed),
    wait=wait_random_exponential(multiplier=0.1, max=5.0),
    before_sleep=_say,
)


@_until_confirmed
async def publish(bus: Bus, message: Outgoing) -> None:
    """Publish until the broker confirms."""
    await bus.publish(message)


@_until_confirmed
async def bury(bus: Bus, message: Incoming, queue: str, reason: str) -> None:
    """Dead-letter a message that nobody here understands; it is settled once the broker has the copy."""
    await dead_letter(bus, message, queue, reason)
