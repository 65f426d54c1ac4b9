"""Claims and heartbeats: the requests by which a worker gets and renews the lease on an attempt."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from contracts.bounds import MAX_CLAIMS, MAX_SECONDS, Count, MessageText, Name, Prefix, Seconds
from contracts.message import Frozen, Message, derived_id
from contracts.tasks import AttemptKey, Phase


class Claim(Frozen):
    """A worker's request to run an attempt. The worker makes a new `claim_id` for each delivery of the command."""

    key: AttemptKey
    claim_id: UUID


class Heartbeat(Frozen):
    """A worker's request to renew the lease on an attempt that it runs."""

    key: AttemptKey
    claim_id: UUID
    fraction: float | None = Field(default=None, ge=0, le=1)
    checkpoint: Prefix | None = None
    """Prefix of the newest complete checkpoint in the object store."""
    gpu_seconds: Seconds = 0.0
    """Seconds so far times accelerators used; counted for the task if the lease is lost."""


class LeaseVerdict(StrEnum):
    """Control's answer to a claim or a heartbeat."""

    GRANTED = "granted"
    """Claim: run the attempt. Heartbeat: continue."""
    HELD = "held"
    """Another claim holds the lease: drop the delivery."""
    FENCED = "fenced"
    """A newer attempt exists, or the task has moved on: stop, and publish nothing."""
    CANCELLED = "cancelled"
    """The task was cancelled: stop."""
    PAUSE = "pause"
    """The task is paused. Claim: do not start. Heartbeat: write a checkpoint and publish PhasePaused."""
    UNKNOWN = "unknown"
    """There is no such attempt."""


class GpuState(Frozen):
    """The state of one GPU: memory in bytes, utilization from 0 to 1, temperature in degrees Celsius."""

    name: Name
    utilization: float | None = Field(default=None, ge=0, le=1)
    memory_used: Count
    memory_total: Count
    temperature: float | None = Field(default=None, ge=-273.15, le=1000)


class WorkerState(Frozen):
    """The state of a worker, stored in the table `workers`."""

    worker_id: Name
    phase: Phase
    host: Name
    slots: int = Field(ge=1, lt=2**31)
    busy: int = Field(ge=0, lt=2**31)
    free_disk: Count | None = None
    """Free bytes on the disk of the worker's folder; None: not measured."""
    gpus: Annotated[tuple[GpuState, ...], Field(max_length=64)] = ()
    unfit: MessageText | None = None
    """Why the worker takes no commands, for example that its disk is full; None: it takes them."""


class LeaseRequest(Message):
    """Claims and heartbeats that one worker sends together."""

    kind: Literal["lease_request"] = "lease_request"
    version: Literal[1] = 1
    request_id: UUID
    worker: WorkerState
    claims: Annotated[tuple[Claim, ...], Field(max_length=MAX_CLAIMS)] = ()
    heartbeats: Annotated[tuple[Heartbeat, ...], Field(max_length=MAX_CLAIMS)] = ()

    @property
    def message_id(self) -> UUID:
        """Derived from `request_id` and the kind."""
        return derived_id(self.request_id, self.kind)


class LeaseAnswer(Frozen):
    """The verdict on one claim or heartbeat. The `ttl` seconds count from the time when the request was sent."""

    claim_id: UUID
    verdict: LeaseVerdict
    ttl: float = Field(gt=0, le=MAX_SECONDS)


class LeaseReply(Message):
    """Answers in the order of the request: first the claims, then the heartbeats."""

    kind: Literal["lease_reply"] = "lease_reply"
    version: Literal[1] = 1
    request_id: UUID
    answers: Annotated[tuple[LeaseAnswer, ...], Field(max_length=2 * MAX_CLAIMS)]

    @property
    def message_id(self) -> UUID:
        """Derived from `request_id` and the kind."""
        return derived_id(self.request_id, self.kind)


class LeaseRefused(Message):
    """Reply to a lease request that cannot be decoded, so that its sender does not wait."""

    kind: Literal["lease_refused"] = "lease_refused"
    version: Literal[1] = 1
    request_id: UUID | None = None
    """None if the request contains no readable one."""
    reason: MessageText

    @property
    def message_id(self) -> UUID:
        """Derived from `request_id`, the reason and the kind."""
        return derived_id(self.request_id, self.reason, self.kind)


class ClaimsProbe(Message):
    """A request that control sends to itself, to check that claims are answered; the reply has no answers."""

    kind: Literal["claims_probe"] = "claims_probe"
    version: Literal[1] = 1
    request_id: UUID

    @property
    def message_id(self) -> UUID:
        """Derived from `request_id` and the kind."""
        return derived_id(self.request_id, self.kind)


class AttemptSignal(Message):
    """Broadcast to every worker, so that a running attempt stops without waiting for its next heartbeat."""

    kind: Literal["attempt_signal"] = "attempt_signal"
    version: Literal[1] = 1
    key: AttemptKey
    verdict: LeaseVerdict

    @property
    def message_id(self) -> UUID:
        """Derived from the attempt, the verdict and the kind."""
        return self.key.derive(self.verdict, self.kind)
