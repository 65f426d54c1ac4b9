"""What a worker's room gives the host: a command becomes a program's job, its result an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from contracts.commands import PhaseCommand
from contracts.events import WorkerEvent
from contracts.tasks import AttemptKey, Phase

C = TypeVar("C", bound=PhaseCommand)


@dataclass(frozen=True, slots=True)
class Plan:
    """One job: artifacts to lay under `input/<name>/`, the program's module and its spec."""

    module: str
    spec: BaseModel
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name to artifact prefix. Each is downloaded whole and checked against its manifest.
    A prefix `p#sub` downloads only the files of `p` below `sub/` (or the file `sub`)."""
    optional: AbstractSet[str] = frozenset()
    """Names of inputs that the program can do without: one that is damaged is not laid, where others are bad input."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What the host knows when a program has succeeded: enough to say what the event must say."""

    key: AttemptKey
    claim_id: UUID
    worker_id: str
    seconds: float
    gpu_seconds: float
    result: Path
    """The program's `result.json`."""

    def facts(self) -> dict[str, Any]:
        """The fields that every completion event has."""
        return {
            "key": self.key,
            "claim_id": self.claim_id,
            "worker_id": self.worker_id,
            "seconds": self.seconds,
            "gpu_seconds": self.gpu_seconds,
        }


@dataclass(frozen=True, slots=True)
class PhaseWorker(Generic[C]):
    """A worker is a function from a command to an event: `plan` is its first half, `conclude` its second."""

    phase: Phase
    command: type[C]
    plan: Callable[[C], Plan]
    conclude: Callable[[C, Finished], WorkerEvent]
    module: str | None = None
    """The program to keep a warm child for from the start; None: that of the first job, once it has ended."""
