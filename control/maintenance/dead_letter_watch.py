"""Reports in the log that the queue of dead letters is nearly full."""

from __future__ import annotations

import structlog

from contracts.topology import DEAD_QUEUE
from infra.bus.port import Bus
from infra.log_limit import LogLimit

REPORT_INTERVAL = 3600.0
"""Seconds between two reports while the queue stays nearly full."""

log = structlog.get_logger(__name__)


class DeadLetterWatch:
    """Checks how full the queue is; when it is full, the broker deletes the oldest dead letters."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._limit = LogLimit(lines=1, period=REPORT_INTERVAL)

    async def check(self) -> None:
        """Check once. Raises BusUnavailable."""
        letters = await self._bus.depth(DEAD_QUEUE.name)
        if DEAD_QUEUE.nearly_full(letters) and self._limit.skipped(DEAD_QUEUE.name) is not None:
            log.warning(
                "dead_letters_nearly_full",
                dead_letters=letters,
                limit=DEAD_QUEUE.max_length,
                fix="replay or delete them with `treadle dlq`; above the limit the oldest are deleted",
            )
