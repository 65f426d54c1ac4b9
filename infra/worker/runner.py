"""What runs a granted attempt: a child with its artifacts, or a coroutine in this process."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import structlog

from contracts.events import PhaseFailed, WorkerEvent
from contracts.tasks import FailureKind
from infra.errors import PhaseError
from infra.worker.attempt import Attempt
from infra.worker.plan import CoroutineWorker
from infra.worker.reporting import Reporter

log = structlog.get_logger(__name__)


class Runner(Protocol):
    """From a granted attempt to its event."""

    async def start(self) -> None:
        """Make ready for the first attempt."""
        ...

    async def event(self, attempt: Attempt, reporter: Reporter) -> WorkerEvent:
        """Do the attempt's work. Whatever goes wrong becomes an event too; only a cancellation leaves here."""
        ...

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Clean up after an attempt, while the `active` ones go on."""
        ...

    async def stop(self) -> None:
        """Let go of what was kept for the next attempt."""
        ...


class CoroutineRunner:
    """Runs the coroutine of a CoroutineWorker. There is nothing to adopt, to upload or to tidy."""

    def __init__(self, worker: CoroutineWorker[Any], worker_id: str) -> None:
        self._worker = worker
        self._worker_id = worker_id

    async def start(self) -> None:
        """Nothing to prepare."""

    async def event(self, attempt: Attempt, reporter: Reporter) -> WorkerEvent:
        """What the coroutine says; a fault in it fails the attempt, not the host."""
        try:
            return await self._worker.work(attempt, self._worker_id)
        except PhaseError as error:
            return self._failed(attempt, error.kind, str(error), error.field)
        except Exception as error:  # the boundary, as for children
            log.exception("attempt_broke")
            return self._failed(attempt, FailureKind.PROGRAM_CRASHED, f"{type(error).__name__}: {error}")

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Nothing lies about."""

    async def stop(self) -> None:
        """Nothing is kept."""

    def _failed(self, attempt: Attempt, kind: FailureKind, message: str, field: str | None = None) -> PhaseFailed:
        return PhaseFailed(
            key=attempt.key,
            claim_id=attempt.claim_id,
            worker_id=self._worker_id,
            failure=kind,
            message=message,
            field=field,
        )
