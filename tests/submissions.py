"""The public side on a bus in this process, which has none: the same handler, and the same settlement."""

from __future__ import annotations

from contracts.submissions import SubmissionAccepted
from contracts.topology import SUBMISSIONS_QUEUE
from control.apply.submissions import Submissions
from control.consumers.submissions.handlers import SubmissionHandler, decode_submission
from control.consumers.submissions.settling import Settlement
from infra.bus.port import Bus, Incoming
from infra.telemetry import Tracing


class SubmissionsInProcess:
    """Consumes `treadle.submissions` as FastStream does on RabbitMQ."""

    def __init__(self, bus: Bus, submissions: Submissions) -> None:
        self._bus = bus
        self._handler = SubmissionHandler(submissions)
        self._settlement = Settlement(bus, Tracing("test", "test", None))

    async def start(self) -> None:
        """Begin to consume."""
        await self._bus.consume(SUBMISSIONS_QUEUE.name, self._handle, prefetch=256)

    async def _handle(self, message: Incoming) -> None:
        await self._settlement.settle(message, lambda: self._submit(message))

    async def _submit(self, message: Incoming) -> SubmissionAccepted:
        return await self._handler.submit(decode_submission(message.body))
