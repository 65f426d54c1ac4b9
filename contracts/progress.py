"""How far a running attempt is. Progress is the latest, never the history: losing one is harmless."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from contracts.message import Message
from contracts.tasks import AttemptKey


class PhaseProgress(Message):
    """One step of one attempt. `eta_seconds` is of this attempt, `metrics` holds loss, tokens_per_second, …"""

    kind: Literal["phase_progress"] = "phase_progress"
    version: Literal[1] = 1
    key: AttemptKey
    worker_id: str
    sequence: int = Field(ge=0)
    stage: str
    """What is being done, for a person: "downloading", "training", "uploading", …"""
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    """0 where the end is not known."""
    eta_seconds: float | None = Field(default=None, ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def message_id(self) -> UUID:
        """One for each step reported."""
        return self.key.derive(self.worker_id, self.sequence, self.kind)
