"""The sweep: what was ordered and got lost on its way is ordered again, under the same message id."""

from __future__ import annotations

from uuid import UUID

import structlog

from contracts.tasks import AttemptKey, Phase, TaskStatus
from contracts.topology import CONTROL_QUEUE, PHASE_QUEUES
from control.apply.relay import Relay
from control.loops import Periodic
from control.machine.commands import Order, command_for, next_iteration
from control.store.port import Run, Store
from infra.bus.port import Bus
from infra.settings import IN_PROCESS, Settings

BATCH = 200

log = structlog.get_logger(__name__)


class Sweep(Periodic):
    """Looks for live attempts that nobody claimed, and loops that do not turn, though their queue is empty.

    A duplicate is harmless: the claim tells two deliveries of one command apart.
    """

    def __init__(self, store: Store, bus: Bus, relay: Relay, settings: Settings) -> None:
        super().__init__("sweep", settings.sweep_after / 2)
        self._store = store
        self._bus = bus
        self._relay = relay
        self._older_than = 0.0 if bus.name == IN_PROCESS else settings.sweep_after
        self._later = settings.sweep_after

    async def tick(self) -> None:
        """Look once. A new in-process bus is empty, so the first look there takes all that was ordered before."""
        if not await self._store.lead(self.name):
            return
        older_than, self._older_than = self._older_than, self._later
        orders = [*await self._commands(older_than), *await self._turns(older_than)]
        if orders:
            log.warning("ordered_again", orders=len(orders))
            self._relay.offer(await self._store.enqueue(orders))

    async def _commands(self, older_than: float) -> list[tuple[UUID, Order]]:
        keys = [run.key for phase in Phase for run in await self._unclaimed(phase, older_than)]
        return [order for key in keys if (order := await self._command(key)) is not None]

    async def _unclaimed(self, phase: Phase, older_than: float) -> list[Run]:
        """Attempts that nobody claimed, though no command for this phase waits to be taken."""
        found = await self._store.unclaimed(phase, older_than, BATCH)
        return found if found and await self._bus.depth(PHASE_QUEUES[phase].name) == 0 else []

    async def _command(self, key: AttemptKey) -> tuple[UUID, Order] | None:
        task = (await self._store.task(key.task_id)).task
        return (task.task_id, Order(command_for(task))) if task.live and task.key == key else None

    async def _turns(self, older_than: float) -> list[tuple[UUID, Order]]:
        waiting = await self._store.looping(older_than, BATCH)
        if not waiting or await self._bus.depth(CONTROL_QUEUE.name) > 0:
            return []
        tasks = [(await self._store.task(task_id)).task for task_id in waiting]
        return [(t.task_id, Order(next_iteration(t))) for t in tasks if t.status is TaskStatus.LOOPING]
