"""Publishes the progress of one attempt; messages are merged per stage, never delay the attempt, and may be lost.

They carry no trace context, so that no span is created for them: a long training publishes thousands.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

import structlog

from contracts.bounds import MAX_COUNT, MAX_ENTRIES, MAX_NAME, MAX_SECONDS, cut
from contracts.progress import PhaseProgress
from contracts.topology import PROGRESS
from contracts.wire import encode
from infra.bus.port import Bus, OutgoingMessage, PublishFailed
from infra.child.outcome import MAX_ACCELERATORS
from infra.child.progress import ProgressLine
from infra.worker.attempt import Attempt

PUBLISH_INTERVAL = 0.25
"""Seconds."""
MAX_STAGES = 100
"""Stages whose steps wait for the next publication; further ones are dropped."""

log = structlog.get_logger(__name__)


class ProgressReporter:
    """Publishes the newest step of each stage, at most once per PUBLISH_INTERVAL; the last step is always published."""

    def __init__(self, bus: Bus, attempt: Attempt, worker_id: str) -> None:
        self._bus = bus
        self._attempt = attempt
        self._worker_id = worker_id
        self._pending: dict[str, ProgressLine] = {}
        self._step_added = asyncio.Event()
        self._closing = asyncio.Event()
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    def step(self, step: ProgressLine) -> None:
        """Record a step; it is not published if a newer step of the same stage follows before the next publication."""
        self._pending.pop(step.stage, None)
        if len(self._pending) < MAX_STAGES:
            self._pending[step.stage] = step
        done, total = _count(step.done), _count(step.total)
        self._attempt.fraction = min(1.0, done / total) if total > 0 else None
        self._attempt.accelerators = min(max(0, step.accelerators), MAX_ACCELERATORS)
        self._step_added.set()
        if self._task is None:
            self._task = asyncio.create_task(self._publish_all(), name="progress")

    async def close(self) -> None:
        """Publish the pending steps and stop."""
        self._closing.set()
        self._step_added.set()
        if self._task is not None:
            await self._task

    async def _publish_all(self) -> None:
        while not self._closing.is_set():
            await self._step_added.wait()
            await self._flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(PUBLISH_INTERVAL):
                    await self._closing.wait()
        await self._flush()

    async def _flush(self) -> None:
        self._step_added.clear()
        steps, self._pending = list(self._pending.values()), {}
        outcomes = await self._bus.publish_all([self._outgoing(step) for step in steps])
        for outcome in outcomes:
            if isinstance(outcome, PublishFailed):
                log.debug("progress_lost", error=str(outcome))

    def _outgoing(self, step: ProgressLine) -> OutgoingMessage:
        progress = self._progress(step)
        return OutgoingMessage(
            PROGRESS.name,
            f"{self._attempt.key.phase}.{self._attempt.key.task_id}",
            encode(progress),
            str(progress.message_id),
            persistent=False,
            mandatory=False,
        )

    def _progress(self, step: ProgressLine) -> PhaseProgress:
        self._sequence += 1
        eta = step.eta_seconds
        return PhaseProgress(
            key=self._attempt.key,
            worker_id=self._worker_id,
            sequence=self._sequence,
            stage=cut(step.stage, MAX_NAME) or "?",
            done=_count(step.done),
            total=_count(step.total),
            eta_seconds=eta if eta is not None and 0 <= eta <= MAX_SECONDS else None,
            metrics=_metrics(step.metrics),
        )


def _count(number: int) -> int:
    return min(max(0, number), MAX_COUNT)


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The first metrics that are numbers, with their names cut, so that no program exceeds the limits of a message."""
    finite = {cut(name, MAX_NAME): value for name, value in metrics.items() if math.isfinite(value)}
    return dict(islice(finite.items(), MAX_ENTRIES))
