"""Exchanges and queues, as one table. Adapters declare from it and the docs are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.tasks import Phase


class ExchangeKind(StrEnum):
    """How an exchange routes."""

    TOPIC = "topic"
    FANOUT = "fanout"
    DIRECT = "direct"


class QueueKind(StrEnum):
    """What stands behind a queue."""

    QUORUM = "quorum"
    """Replicated and durable, with a delivery limit and at-least-once dead-lettering."""
    CLASSIC = "classic"
    """Durable, its messages not persistent and expiring."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: ExchangeKind
    carries: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A shared queue and its binding. `dead_letters` says whether poison in it is kept."""

    name: str
    exchange: str
    binding: str
    kind: QueueKind
    dead_letters: bool = True


COMMANDS = Exchange("treadle.commands", ExchangeKind.TOPIC, "phase commands")
EVENTS = Exchange("treadle.events", ExchangeKind.TOPIC, "phase events")
TASKS = Exchange("treadle.tasks", ExchangeKind.TOPIC, "submissions by users")
CLAIMS = Exchange("treadle.claims", ExchangeKind.DIRECT, "claims and heartbeats, request/reply")
SIGNALS = Exchange("treadle.signals", ExchangeKind.FANOUT, "cancel, pause, drain; one private queue a worker")
PROGRESS = Exchange("treadle.progress", ExchangeKind.TOPIC, "progress; one private bounded queue a listener")
DEAD = Exchange("treadle.dead", ExchangeKind.TOPIC, "what could not be handled")

EXCHANGES = (COMMANDS, EVENTS, TASKS, CLAIMS, SIGNALS, PROGRESS, DEAD)

PHASE_QUEUES = {phase: Queue(f"treadle.{phase}", COMMANDS.name, phase.value, QueueKind.QUORUM) for phase in Phase}
CONTROL_QUEUE = Queue("treadle.control", EVENTS.name, "#", QueueKind.QUORUM)
SUBMISSIONS_QUEUE = Queue("treadle.submissions", TASKS.name, "#", QueueKind.QUORUM)
CLAIMS_QUEUE = Queue("treadle.claims", CLAIMS.name, "claim", QueueKind.CLASSIC, dead_letters=False)
DEAD_QUEUE = Queue("treadle.dead", DEAD.name, "#", QueueKind.QUORUM, dead_letters=False)

QUEUES = (*PHASE_QUEUES.values(), CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE, DEAD_QUEUE)

DELIVERY_LIMIT = 20
"""Deliveries of one message before the broker itself dead-letters it: the backstop."""
PRIVATE_QUEUE_LENGTH = 10_000
"""Messages that a private queue holds before it drops its oldest."""
