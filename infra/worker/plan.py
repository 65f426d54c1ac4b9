"""The interface between a worker package and the host: from command to job, and from result to event."""

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
    """One job: the module of the program, its spec, and the artifacts to download into `input/<name>/`."""

    module: str
    spec: BaseModel
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name to artifact prefix; each artifact is downloaded completely and checked against its manifest.
    A prefix `p#sub` downloads only the files of `p` below `sub/` (or the file `sub`)."""
    optional: AbstractSet[str] = frozenset()
    """Names of inputs that are left out if they are damaged; any other damaged input fails the attempt as bad input."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that a library reads when it is imported; with them, the process is started by exec."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The data of a successful program, from which `conclude` creates the completion event; times are in seconds."""

    key: AttemptKey
    claim_id: UUID
    worker_id: str
    seconds: float
    gpu_seconds: float
    result: Path
    """Path of the program's `result.json`."""
    work_seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        """The fields that all completion events have in common."""
        return {
            "key": self.key,
            "claim_id": self.claim_id,
            "worker_id": self.worker_id,
            "seconds": self.seconds,
            "gpu_seconds": self.gpu_seconds,
            "work_seconds": self.work_seconds,
        }


@dataclass(frozen=True, slots=True)
class PhaseWorker(Generic[C]):
    """The functions of one worker: `plan` turns a command into a job, `conclude` its result into an event."""

    phase: Phase
    command: type[C]
    plan: Callable[[C], Plan]
    conclude: Callable[[C, Finished], WorkerEvent]
    module: str | None = None
    """The program that the fork server of the worker imports; None: none."""
