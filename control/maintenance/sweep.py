"""The sweep: publishes lost commands and `next_iteration` events again, under the same message ids."""

from __future__ import annotations

from uuid import UUID

import structlog

from contracts.tasks import AttemptKey, Phase, TaskStatus
from contracts.topology import CONTROL_QUEUE, PHASE_QUEUES
from control.apply.relay import Relay
from control.loops import Periodic
from control.machine.commands import OutboxMessage, command_for, next_iteration
from control.maintenance.dead_letter_watch import DeadLetterWatch
from control.store.port import Store
from control.store.values import AttemptRecord
from infra.bus.port import Bus
from infra.settings import IN_PROCESS, Settings

BATCH = 200

log = structlog.get_logger(__name__)


class Sweep(Periodic):
    """Finds unclaimed attempts whose phase's queue is empty, and LOOPING tasks while control's queue is empty.

    A duplicate is harmless, because the claim distinguishes two deliveries of one command. It also checks how full the
    queue of dead letters is.
    """

    def __init__(self, store: Store, bus: Bus, relay: Relay, settings: Settings) -> None:
        super().__init__("sweep", settings.sweep_after / 2)
        self._store = store
        self._bus = bus
        self._relay = relay
        self._older_than = 0.0 if bus.name == IN_PROCESS else settings.sweep_after
        self._sweep_after = settings.sweep_after
        self._dead_letters = DeadLetterWatch(bus)

    async def tick(self) -> None:
        """Check once. A new in-process bus is empty, so the first check republishes messages of any age."""
        if not await self._store.try_lead(self.name):
            return
        older_than, self._older_than = self._older_than, self._sweep_after
        messages = [*await self._commands(older_than), *await self._next_iterations(older_than)]
        if messages:
            log.warning("messages_sent_again", messages=len(messages))
            self._relay.publish_soon(await self._store.enqueue(messages))
        await self._dead_letters.check()

    async def _commands(self, older_than: float) -> list[tuple[UUID, OutboxMessage]]:
        keys = [attempt.key for phase in Phase for attempt in await self._unclaimed(phase, older_than)]
        return [outbox_message for key in keys if (outbox_message := await self._command(key)) is not None]

    async def _unclaimed(self, phase: Phase, older_than: float) -> list[AttemptRecord]:
        """Attempts that no worker claimed, or none if the phase's queue still holds commands."""
        attempts = await self._store.unclaimed(phase, older_than, BATCH)
        return attempts if attempts and await self._bus.depth(PHASE_QUEUES[phase].name) == 0 else []

    async def _command(self, key: AttemptKey) -> tuple[UUID, OutboxMessage] | None:
        task = (await self._store.task(key.task_id)).task
        return (task.task_id, OutboxMessage(command_for(task))) if task.attempt_active and task.key == key else None

    async def _next_iterations(self, older_than: float) -> list[tuple[UUID, OutboxMessage]]:
        task_ids = await self._store.looping(older_than, BATCH)
        if not task_ids or await self._bus.depth(CONTROL_QUEUE.name) > 0:
            return []
        tasks = [(await self._store.task(task_id)).task for task_id in task_ids]
        return [(t.task_id, OutboxMessage(next_iteration(t))) for t in tasks if t.status is TaskStatus.LOOPING]
