"""Counts and logs poison: messages that a consumer of this process could not handle."""

from __future__ import annotations

from collections import Counter

import structlog

from contracts.bounds import cut
from infra.log_limit import LogLimit

MAX_REASON_LENGTH = 2000
"""Characters of a reason that are logged and kept."""

log = structlog.get_logger(__name__)


class Poison:
    """Counts of poison by queue and by cause; a cause is the name of a class of errors."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._limit = LogLimit()
        self._traceback_limit = LogLimit(lines=1)

    def failed(self, queue: str, message_id: str | None, error: Exception) -> None:
        """Log an unforeseen error of a handler, which is retried; one traceback a minute for each class of errors."""
        skipped = self._traceback_limit.skipped((queue, type(error)))
        if skipped is not None:
            log.error("handler_failed", queue=queue, message_id=message_id, not_logged=skipped, exc_info=error)

    def waiting(self, queue: str, error: Exception) -> None:
        """Log that a message waits for a part that is unavailable."""
        skipped = self._limit.skipped(("waiting", queue, type(error)))
        if skipped is not None:
            log.warning("waiting_for_a_part", queue=queue, error=str(error), not_logged=skipped)

    def record(self, queue: str, cause: str, reason: str, message_id: str | None, *, kept: bool) -> None:
        """Count a message that was given up; `kept` says whether it is a dead letter now."""
        self.counts[queue, cause] += 1
        skipped = self._limit.skipped((kept, queue, cause))
        if skipped is not None:
            event = "dead_lettered" if kept else "message_dropped"
            reason = cut(reason, MAX_REASON_LENGTH)
            log.warning(event, queue=queue, cause=cause, message_id=message_id, reason=reason, not_logged=skipped)
