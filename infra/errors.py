"""Errors of a phase. The class decides whether the attempt is retried."""

from __future__ import annotations

from contracts.errors import TreadleError
from contracts.tasks import FailureKind


class PhaseError(TreadleError):
    """The phase cannot be completed. `field` names what to correct, e.g. "max_length" or "data.jsonl:17"."""

    kind = FailureKind.PROGRAM_CRASHED

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class BadInput(PhaseError):
    """The data is invalid; not retried."""

    kind = FailureKind.BAD_INPUT


class BadConfiguration(PhaseError):
    """An option or the name of a model is invalid; not retried."""

    kind = FailureKind.BAD_CONFIGURATION


class OutOfMemory(PhaseError):
    """The batch does not fit in memory; retried with a smaller batch."""

    kind = FailureKind.OUT_OF_MEMORY


class HubUnavailable(PhaseError):
    """The model hub cannot be reached or cannot answer now; retried, and not counted as a failure for hours."""

    kind = FailureKind.HUB_UNAVAILABLE
