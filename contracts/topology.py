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
    expires: float | None = None
    """Seconds after which a message in the queue is deleted; None: never."""
    max_length: int | None = None
    """Messages above which the queue deletes its oldest ones; None: no limit."""
    max_bytes: int | None = None
    """Bytes of all bodies above which the queue deletes its oldest messages; None: no limit."""

    def nearly_full(self, messages: int) -> bool:
        """Whether so many messages are at least NEARLY_FULL of the maximum length."""
        return self.max_length is not None and messages >= NEARLY_FULL * self.max_length


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
CLAIMS_QUEUE = Queue(
    "treadle.claims",
    CLAIMS.name,
    "claim",
    QueueKind.CLASSIC,
    dead_letters=False,
    expires=10.0,
    max_length=10_000,
    max_bytes=64 * 2**20,
)
"""A worker repeats a request that gets no answer within 5 s, so an old request is useless."""
DEAD_QUEUE = Queue(
    "treadle.dead", DEAD.name, "#", QueueKind.QUORUM, dead_letters=False, max_length=10_000, max_bytes=2**30
)
"""A full queue deletes its oldest dead letters: if it refused new ones, their consumers could not go on."""

QUEUES: tuple[Queue, ...] = (*PHASE_QUEUES.values(), CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE, DEAD_QUEUE)

QUEUES_BY_NAME = {queue.name: queue for queue in QUEUES}
"""The shared queues. No `reply_to` may name one, because a service would consume the reply."""

NEARLY_FULL = 0.8
"""The part of its maximum length from which a queue is reported."""
DELIVERY_LIMIT = 20
"""Redeliveries of one message after which the broker itself dead-letters it."""
PRIVATE_QUEUE_LENGTH = 10_000
"""Messages in a private queue after which it drops the oldest."""
