"""A consumer of submissions for the in-process bus, with the product's handler and settler."""

from __future__ import annotations

from contracts.submissions import SubmissionAccepted
from contracts.topology import SUBMISSIONS_QUEUE
from control.apply.submissions import Submissions
from control.consumers.submissions.handlers import SubmissionHandler, decode_submission
from control.consumers.submissions.settling import SubmissionSettler
from infra.bus.port import Bus, IncomingMessage
from infra.telemetry import Tracing


class SubmissionsInProcess:
    """Consumes `treadle.submissions` as FastStream does on RabbitMQ."""

    def __init__(self, bus: Bus, submissions: Submissions) -> None:
        self._bus = bus
        self._handler = SubmissionHandler(submissions)
        self._settler = SubmissionSettler(bus, Tracing("test", "test", None))

    async def start(self) -> None:
        """Start to consume."""
        await self._bus.consume(SUBMISSIONS_QUEUE.name, self._handle, prefetch=256)

    async def _handle(self, message: IncomingMessage) -> None:
        await self._settler.settle(message, lambda: self._submit(message))

    async def _submit(self, message: IncomingMessage) -> SubmissionAccepted:
        return await self._handler.submit(decode_submission(message.body))
