"""Traces committed changes; it neither delays nor fails them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import structlog

from control.apply.applier import EventResult
from control.loops import Supervised
from control.store.port import Store, StoreUnavailable
from control.store.values import AttemptRecord, Change
from control.telemetry.spans import emit_iteration, emit_phase, ends_iteration
from infra.telemetry import Tracing

BACKLOG = 4096
"""Changes that wait to be traced; when it is full, a change is not traced."""
READ_INTERVAL = 0.25
"""Seconds between two reads, so that one statement reads all attempts that ended in between."""

log = structlog.get_logger(__name__)


class ChangeTracer:
    """Reads ended attempts from the database and exports their spans."""

    def __init__(self, store: Store, tracing: Tracing) -> None:
        self._store = store
        self._tracing = tracing
        self._ended: asyncio.Queue[Change] = asyncio.Queue(BACKLOG)
        self._loop = Supervised("change tracer", self._run)
        self.tasks = (self._loop,)

    def start(self) -> None:
        """Start the loop that traces changes."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop the loop; changes that wait are not traced."""
        await self._loop.stop()

    def on_change(self, change: Change, _: EventResult) -> None:
        """Queue a change for tracing; a listener for the applier."""
        if change.ended_as is None and not ends_iteration(change):
            return
        try:
            self._ended.put_nowait(change)
        except asyncio.QueueFull:
            log.debug("attempt_not_traced", task_id=str(change.after.task_id))

    async def _run(self) -> None:
        while True:
            changes = [await self._ended.get()]
            while not self._ended.empty():
                changes.append(self._ended.get_nowait())
            try:
                await self._trace_all(changes)
            except StoreUnavailable as error:
                log.debug("attempts_not_traced", attempts=len(changes), error=str(error))
            await asyncio.sleep(READ_INTERVAL)

    async def _trace_all(self, changes: Sequence[Change]) -> None:
        attempts: defaultdict[tuple[UUID, int], list[AttemptRecord]] = defaultdict(list)
        for attempt in await self._store.attempts(*{change.after.task_id for change in changes}):
            attempts[attempt.key.task_id, attempt.key.iteration].append(attempt)
        for change in changes:
            self._trace(change, attempts[change.before.task_id, change.before.iteration])

    def _trace(self, change: Change, attempts: Sequence[AttemptRecord]) -> None:
        """Export the spans of one change; `attempts` are all attempts of its iteration, in their present state."""
        for attempt in attempts:
            if change.ended_as is not None and attempt.key == change.before.key:
                emit_phase(self._tracing, attempt)
        if ends_iteration(change):
            emit_iteration(self._tracing, change.after, attempts)
