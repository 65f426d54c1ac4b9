"""Progress of a running attempt. Only the newest report counts, so a lost report does no harm."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from contracts.bounds import Count, Metrics, Name, Seconds
from contracts.message import Message
from contracts.tasks import AttemptKey


class PhaseProgress(Message):
    """One progress report. `eta_seconds` is for this attempt; `metrics` holds loss, tokens_per_second, …"""

    kind: Literal["phase_progress"] = "phase_progress"
    version: Literal[1] = 1
    key: AttemptKey
    worker_id: Name
    sequence: Count
    stage: Name
    """The current step, for display: "downloading", "training", "uploading", …"""
    done: Count
    total: Count
    """0 if the total is not known."""
    eta_seconds: Seconds | None = None
    metrics: Metrics = Field(default_factory=dict)

    @property
    def message_id(self) -> UUID:
        """Derived from the attempt, the worker, the sequence number and the kind."""
        return self.key.derive(self.worker_id, self.sequence, self.kind)
