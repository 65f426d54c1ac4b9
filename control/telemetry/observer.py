"""What is measured and traced after a change is committed: never in its way, and never a reason for it to fail."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

import structlog

from control.apply.applier import Answer
from control.loops import Supervised
from control.store.port import Change, Run, Store, StoreUnavailable
from control.telemetry.metrics import Metrics
from control.telemetry.spans import emit_iteration, emit_phase, ends_iteration
from infra.telemetry import Tracing

BACKLOG = 4096
"""Ended attempts that wait for their spans; beyond it they are counted, and not traced."""
PACE = 0.25
"""Seconds between two reads: what has ended meanwhile is read by one statement."""

log = structlog.get_logger(__name__)


class Observer:
    """Counts what happened; where it is traced, reads ended attempts from the database and makes spans of them."""

    def __init__(self, store: Store, metrics: Metrics, tracing: Tracing) -> None:
        self._store = store
        self._metrics = metrics
        self._tracing = tracing
        self._ended: asyncio.Queue[Change] = asyncio.Queue(BACKLOG)
        self._loop = Supervised("observer", self._run)
        self.tasks = (self._loop,)

    def start(self) -> None:
        """Begin to observe."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop; what waits is not observed any more."""
        await self._loop.stop()

    def heard(self, change: Change, answer: Answer) -> None:
        """A listener for the applier."""
        self._metrics.heard(change, answer)
        if not self._tracing.on or (change.closed is None and not ends_iteration(change)):
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
                await self._observe_all(changes)
            except StoreUnavailable as error:
                log.debug("attempts_not_traced", attempts=len(changes), error=str(error))
            await asyncio.sleep(PACE)

    async def _observe_all(self, changes: Sequence[Change]) -> None:
        runs = defaultdict(list)
        for run in await self._store.runs(*{change.after.task_id for change in changes}):
            runs[run.key.task_id, run.key.iteration].append(run)
        for change in changes:
            self._observe(change, runs[change.before.task_id, change.before.iteration])

    def _observe(self, change: Change, runs: Sequence[Run]) -> None:
        """Trace one change. `runs` are all attempts of its iteration, as they stand by now."""
        for run in runs:
            if change.closed is not None and run.key == change.before.key:
                emit_phase(self._tracing, run)
        if ends_iteration(change):
            emit_iteration(self._tracing, change.after, runs)
