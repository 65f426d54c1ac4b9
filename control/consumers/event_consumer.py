"""Consumes phase events and applies them to their tasks."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

from contracts.errors import UndecodableMessage
from contracts.events import NextIteration, WorkerEvent
from contracts.permissions import routing_key_of
from contracts.topology import CONTROL_QUEUE
from contracts.wire import decode
from control.apply.applier import Applier
from control.store.port import StoreUnavailable
from infra.bus.port import Bus, IncomingMessage, Subscription

PREFETCH = 512
TIMEOUT = 120.0
"""Seconds for one event, in which two batches may each wait for a database that does not answer."""
EVENTS: tuple[type[Any], ...] = (*get_args(WorkerEvent), NextIteration)


class EventConsumer:
    """Consumes `treadle.control`; an event is acknowledged once it is applied, stale or a duplicate."""

    def __init__(self, bus: Bus, applier: Applier) -> None:
        self._bus = bus
        self._applier = applier

    async def start(self) -> Subscription:
        """Start consuming."""
        return await self._bus.consume(CONTROL_QUEUE.name, self._handle, prefetch=PREFETCH)

    async def _handle(self, message: IncomingMessage) -> None:
        """Apply an event. Raises UndecodableMessage, NotOrdered, TaskNotFound, StoreUnavailable."""
        event = decode(message.body, *EVENTS)
        _require_its_routing_key(event, message.routing_key)
        actor = "control" if isinstance(event, NextIteration) else event.worker_id
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._applier.submit(event, actor=actor)
        except TimeoutError as error:  # many batches before it waited for the database: no fault of the event
            raise StoreUnavailable(f"the event was not applied within {TIMEOUT:g} s") from error
        await message.ack()


def _require_its_routing_key(event: WorkerEvent | NextIteration, routing_key: str) -> None:
    """Raise UndecodableMessage if the event has another one: an account is limited to the routing keys of its role.

    A replayed dead letter has the name of the queue. An event without the phase is from a worker of an older version,
    which only an account without limits can publish.
    """
    expected = routing_key_of(event)
    if routing_key not in (expected, event.kind, CONTROL_QUEUE.name):
        raise UndecodableMessage(f"routing key: expected {expected} for this event, found {routing_key[:200]!r}")
