"""What is measured and traced after a change is committed: never in its way, and never a reason for it to fail."""

from __future__ import annotations

import asyncio

import structlog

from control.applier import Answer
from control.metrics import Metrics
from control.spans import emit_iteration, emit_phase, ends_iteration
from control.store.port import Change, Run, Store, StoreUnavailable
from infra.telemetry import Tracing

BACKLOG = 4096
"""Ended attempts that wait to be timed; beyond it they are counted, and not timed."""
PACE = 0.01
"""Seconds between two reads of times, so that in a burst the database serves the tasks first."""

log = structlog.get_logger(__name__)


class Observer:
    """Reads the times of ended attempts from the database and makes histograms and spans of them."""

    def __init__(self, store: Store, metrics: Metrics, tracing: Tracing) -> None:
        self._store = store
        self._metrics = metrics
        self._tracing = tracing
        self._ended: asyncio.Queue[Change] = asyncio.Queue(BACKLOG)
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to observe."""
        self._loop = asyncio.create_task(self._run(), name="observer")

    async def stop(self) -> None:
        """Stop; what waits is not observed any more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def heard(self, change: Change, answer: Answer) -> None:
        """A listener for the applier."""
        self._metrics.heard(change, answer)
        if change.closed is None and not ends_iteration(change):
            return
        try:
            self._ended.put_nowait(change)
        except asyncio.QueueFull:
            log.debug("attempt_not_timed", task_id=str(change.after.task_id))

    async def _run(self) -> None:
        while True:
            change = await self._ended.get()
            try:
                await self._observe(change)
            except StoreUnavailable as error:
                log.debug("attempt_not_timed", task_id=str(change.after.task_id), error=str(error))
            await asyncio.sleep(PACE)

    async def _observe(self, change: Change) -> None:
        key = change.before.key
        runs = [run for run in await self._store.runs(change.after.task_id) if _of_iteration(run, change)]
        for run in runs:
            if change.closed is not None and run.key == key:
                self._metrics.ended(run)
                emit_phase(self._tracing, run)
        if ends_iteration(change):
            emit_iteration(self._tracing, change.after, runs)


def _of_iteration(run: Run, change: Change) -> bool:
    return run.key.iteration == change.before.iteration
