"""A database that does not answer makes no event and no submission poison."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from contracts.events import PhasePaused
from contracts.permissions import routing_key_of
from contracts.submissions import CancelTask
from contracts.tasks import AttemptKey, Phase
from contracts.wire import encode
from control.consumers import event_consumer
from control.consumers.event_consumer import EventConsumer
from control.consumers.submissions import handlers
from control.consumers.submissions.handlers import SubmissionHandler
from control.store.port import StoreUnavailable
from infra.bus.inprocess import InProcessBus
from infra.bus.port import IncomingMessage

EVENT = PhasePaused(
    key=AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1), claim_id=uuid4(), worker_id="w"
)


class Silent:
    """Takes the place of the parts behind a consumer, and never answers."""

    async def submit(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()

    request = submit


def message() -> IncomingMessage:
    async def settle() -> None:
        raise AssertionError("an event that is not applied is not settled")

    return IncomingMessage(
        body=encode(EVENT),
        message_id=str(EVENT.message_id),
        routing_key=routing_key_of(EVENT),
        headers={},
        correlation_id=None,
        reply_to=None,
        redelivered=False,
        ack=settle,
        requeue=settle,
    )


async def test_an_event_that_waits_too_long_for_the_database_is_no_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_consumer, "TIMEOUT", 0.01)
    parts: Any = (InProcessBus(), Silent())
    with pytest.raises(StoreUnavailable, match="not applied within"):
        await EventConsumer(*parts)._handle(message())


async def test_a_submission_that_waits_too_long_for_the_database_is_no_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "TIMEOUT", 0.01)
    submissions: Any = Silent()
    with pytest.raises(StoreUnavailable, match="not handled within"):
        await SubmissionHandler(submissions).submit(CancelTask(task_id=uuid4()))
