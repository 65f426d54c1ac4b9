"""What can go wrong with a program's work, as a type that decides whether another attempt may help."""

from __future__ import annotations

from contracts.errors import TreadleError
from contracts.tasks import FailureKind


class PhaseError(TreadleError):
    """The phase cannot be completed. `field` names what to mend, e.g. "max_length" or "data.jsonl:17"."""

    kind = FailureKind.PROGRAM_CRASHED

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class BadInput(PhaseError):
    """The data is at fault; final."""

    kind = FailureKind.BAD_INPUT


class BadConfiguration(PhaseError):
    """An option or a model's name is at fault; final."""

    kind = FailureKind.BAD_CONFIGURATION


class OutOfMemory(PhaseError):
    """Too little memory for the batch; tried again with a smaller one."""

    kind = FailureKind.OUT_OF_MEMORY
