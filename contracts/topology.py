"""The table of exchanges and queues. The bus adapters declare it, and `treadle topology show` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.tasks import Phase


class ExchangeKind(StrEnum):
    """How an exchange routes messages."""

    TOPIC = "topic"
    FANOUT = "fanout"
    DIRECT = "direct"


class QueueKind(StrEnum):
    """How a queue stores messages."""

    QUORUM = "quorum"
    """Replicated and durable, with a delivery limit and at-least-once dead lettering."""
    CLASSIC = "classic"
    """A durable queue whose messages are not persistent and expire."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: ExchangeKind
    carries: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A shared queue and its binding. `dead_letters` says whether messages that fail become dead letters."""

    name: str
    exchange: str
    binding: str
    kind: QueueKind
    dead_letters: bool = True


COMMANDS = Exchange("treadle.commands", ExchangeKind.TOPIC, "phase commands")
EVENTS = Exchange("treadle.events", ExchangeKind.TOPIC, "phase events")
TASKS = Exchange("treadle.tasks", ExchangeKind.TOPIC, "submissions from users")
CLAIMS = Exchange("treadle.claims", ExchangeKind.DIRECT, "claims and heartbeats, request/reply")
SIGNALS = Exchange("treadle.signals", ExchangeKind.FANOUT, "stop and pause signals; one private queue per worker")
PROGRESS = Exchange("treadle.progress", ExchangeKind.TOPIC, "progress reports; one private, bounded queue per consumer")
DEAD = Exchange("treadle.dead", ExchangeKind.TOPIC, "messages that could not be handled")

EXCHANGES = (COMMANDS, EVENTS, TASKS, CLAIMS, SIGNALS, PROGRESS, DEAD)

PHASE_QUEUES = {phase: Queue(f"treadle.{phase}", COMMANDS.name, phase.value, QueueKind.QUORUM) for phase in Phase}
CONTROL_QUEUE = Queue("treadle.control", EVENTS.name, "#", QueueKind.QUORUM)
SUBMISSIONS_QUEUE = Queue("treadle.submissions", TASKS.name, "#", QueueKind.QUORUM)
CLAIMS_QUEUE = Queue("treadle.claims", CLAIMS.name, "claim", QueueKind.CLASSIC, dead_letters=False)
DEAD_QUEUE = Queue("treadle.dead", DEAD.name, "#", QueueKind.QUORUM, dead_letters=False)

QUEUES = (*PHASE_QUEUES.values(), CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE, DEAD_QUEUE)

DELIVERY_LIMIT = 20
"""Redeliveries of one message after which the broker itself dead-letters it."""
PRIVATE_QUEUE_LENGTH = 10_000
"""Messages in a private queue after which it drops the oldest."""
