"""What an account on the broker may do, by its role; the only place from which permissions are made.

An expression matches names of exchanges and queues alike. RabbitMQ checks `configure` to declare and delete, `write`
to publish and for the destination of a binding, `read` to consume and purge and for the source of a binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from contracts.events import NextIteration, WorkerEvent
from contracts.roles import Role
from contracts.submissions import CreateTask, TaskRequest
from contracts.tasks import Phase
from contracts.topology import (
    CLAIMS,
    DEAD,
    EVENTS,
    EXCHANGES,
    PHASE_QUEUES,
    PROGRESS,
    QUEUES,
    SIGNALS,
    TASKS,
    Exchange,
    ExchangeKind,
)
from contracts.wire import kind_of

TOPIC_EXCHANGES = tuple(exchange for exchange in EXCHANGES if exchange.kind is ExchangeKind.TOPIC)
DEFAULT_EXCHANGE = "amq.default"
"""The name that RabbitMQ uses for the default exchange in permissions; publishing to it reaches every queue."""
NOTHING, ANYTHING = "^$", ".*"
PRIVATE = "amq.gen-"
"""The beginning of every private queue's name. The broker makes these names and accepts none from a client, so this
prefix allows queues, but no exchange. The queues are exclusive: no other connection can use them."""


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """The routing keys, as regular expressions, with which an account may publish to a topic exchange and bind to it.

    Without one, RabbitMQ allows every routing key, so each role has one for each topic exchange.
    """

    exchange: str
    write: str = NOTHING
    read: str = NOTHING


@dataclass(frozen=True, slots=True)
class Permissions:
    """Regular expressions of RabbitMQ for the names of exchanges and queues, and for routing keys."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicPermission, ...]


def routing_key_of(event: WorkerEvent | NextIteration) -> str:
    """The kind, followed by the phase if several phases share the kind: `model_trained`, `phase_failed.train`."""
    if isinstance(event, NextIteration) or event.phase is not None:
        return event.kind
    return f"{event.kind}.{event.key.phase}"


def queue_of_dead_letter(routing_key: str) -> str | None:
    """The queue whose worker may dead-letter with this routing key; None if no worker may."""
    return next((queue.name for phase, queue in PHASE_QUEUES.items() if routing_key in _dead_keys(phase)), None)


def _dead_keys(phase: Phase) -> tuple[str, str]:
    """The routing keys of commands: as control publishes them, and as an operator replays them."""
    return phase.value, PHASE_QUEUES[phase].name


def _event_keys(phase: Phase) -> Iterator[str]:
    event: type[Any]
    for event in get_args(WorkerEvent):
        if event.phase in (None, phase):
            yield kind_of(event) if event.phase else f"{kind_of(event)}.{phase}"


def _escaped(name: str) -> str:
    return name.replace(".", r"\.")


def _any_of(names: Iterable[str], prefix: str = "") -> str:
    """An expression that matches exactly these names, and all that begin with `prefix` if it is given."""
    choices = [*map(_escaped, names), *([f"{_escaped(prefix)}.*"] if prefix else [])]
    return f"^({'|'.join(choices)})$"


def _names(*exchanges: Exchange) -> list[str]:
    return [exchange.name for exchange in exchanges]


def _control() -> Permissions:
    names = list(dict.fromkeys((*_names(*EXCHANGES), *(queue.name for queue in QUEUES))))
    everything = _any_of(names, PRIVATE)
    topics = tuple(TopicPermission(exchange.name, ANYTHING, ANYTHING) for exchange in TOPIC_EXCHANGES)
    return Permissions(everything, _any_of([*names, DEFAULT_EXCHANGE], PRIVATE), everything, topics)


def _worker(phase: Phase) -> Permissions:
    return Permissions(
        configure=_any_of((), PRIVATE),
        write=_any_of(_names(EVENTS, CLAIMS, PROGRESS, DEAD), PRIVATE),
        read=_any_of([PHASE_QUEUES[phase].name, SIGNALS.name], PRIVATE),
        topics=_topics(
            {EVENTS: _any_of(_event_keys(phase)), PROGRESS: rf"^{phase}\.", DEAD: _any_of(_dead_keys(phase))}
        ),
    )


def _client() -> Permissions:
    kinds = map(kind_of, (CreateTask, *get_args(TaskRequest)))
    return Permissions(NOTHING, _any_of(_names(TASKS)), NOTHING, _topics({TASKS: _any_of(kinds)}))


def _topics(write: Mapping[Exchange, str]) -> tuple[TopicPermission, ...]:
    return tuple(TopicPermission(exchange.name, write.get(exchange, NOTHING)) for exchange in TOPIC_EXCHANGES)


PERMISSIONS: Mapping[Role, Permissions] = {
    Role.CONTROL: _control(),
    **{Role(phase.worker): _worker(phase) for phase in Phase},
    Role.CLIENT: _client(),
}
