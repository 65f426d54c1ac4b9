"""Phase events from the bus into the machine."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import structlog

from contracts.errors import UndecodableMessage
from contracts.events import NextIteration, WorkerEvent
from contracts.topology import CONTROL_QUEUE
from contracts.wire import decode
from control.apply.applier import Applier
from control.consumers.retry import patiently
from control.store.port import TaskNotFound
from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, Incoming, Subscription

PREFETCH = 512
EVENTS: tuple[type[Any], ...] = (*get_args(WorkerEvent), NextIteration)

log = structlog.get_logger(__name__)


class EventIntake:
    """Consumes `treadle.control`; an event is acked once it is applied, stale or known, and poison is kept."""

    def __init__(self, bus: Bus, applier: Applier) -> None:
        self._bus = bus
        self._applier = applier

    async def start(self) -> Subscription:
        """Begin to consume."""
        return await self._bus.consume(CONTROL_QUEUE.name, self._handle, prefetch=PREFETCH)

    async def _handle(self, message: Incoming) -> None:
        try:
            event = decode(message.body, *EVENTS)
            actor = "control" if isinstance(event, NextIteration) else event.worker_id
            await patiently(partial(self._applier.submit, event, actor=actor))
        except (UndecodableMessage, TaskNotFound) as error:
            await patiently(partial(dead_letter, self._bus, message, CONTROL_QUEUE.name, str(error)))
            return
        except Exception as error:  # poison of a kind nobody foresaw is kept with its reason, not bounced for ever
            log.exception("event_not_applied", message_id=message.message_id)
            reason = f"{type(error).__name__}: {error}"
            await patiently(partial(dead_letter, self._bus, message, CONTROL_QUEUE.name, reason))
            return
        await message.ack()
