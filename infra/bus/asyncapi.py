"""The AsyncAPI 3 document of everything on the broker, made by FastStream from the topology and the messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce
from operator import or_
from typing import Any, get_args

from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.specification import AsyncAPI

from contracts.commands import COMMAND_OF
from contracts.events import NextIteration, WorkerEvent
from contracts.leases import AttemptSignal, LeaseReply, LeaseRequest
from contracts.message import Message
from contracts.progress import PhaseProgress
from contracts.submissions import CreateTask, SubmissionAccepted, SubmissionRefused, TaskRequest
from contracts.topology import (
    CLAIMS_QUEUE,
    CONTROL_QUEUE,
    EXCHANGES,
    PHASE_QUEUES,
    PROGRESS,
    SIGNALS,
    SUBMISSIONS_QUEUE,
    Exchange,
    Queue,
    QueueKind,
)

Classes = tuple[type[Message], ...]

_EXCHANGES = {exchange.name: exchange for exchange in EXCHANGES}
_CARRIED: dict[Queue, Classes] = {
    **{PHASE_QUEUES[phase]: (command,) for phase, command in COMMAND_OF.items()},
    CONTROL_QUEUE: (*get_args(WorkerEvent), NextIteration),
    SUBMISSIONS_QUEUE: (CreateTask, *get_args(TaskRequest)),
    CLAIMS_QUEUE: (LeaseRequest,),
}
_REPLIES: dict[str, Classes] = {
    "submission": (SubmissionAccepted, SubmissionRefused),
    "lease": (LeaseReply,),
}


def asyncapi_document(version: str) -> dict[str, Any]:
    """The document as JSON-ready data. No connection is made; `version` is that of the product."""
    broker = RabbitBroker()
    for queue, classes in _CARRIED.items():
        _subscribe(broker, _queue(queue), _EXCHANGES[queue.exchange], classes)
    for exchange, message in ((SIGNALS, AttemptSignal), (PROGRESS, PhaseProgress)):
        private = RabbitQueue(f"{exchange.name}.private", exclusive=True, routing_key="#")
        _subscribe(broker, private, exchange, (message,))
    for name, classes in _REPLIES.items():
        broker.publisher(f"reply_to.{name}", schema=_union(classes), title=f"{name} reply")
    specification = AsyncAPI(broker, title="Treadle", version=version, description=_DESCRIPTION)
    return _in_order(specification.to_specification().to_jsonable())


_DESCRIPTION = (
    "Commands, events, submissions, claims, signals and progress. "
    "Bodies are JSON; `kind` and `version` say what one is."
)


def _subscribe(broker: RabbitBroker, queue: RabbitQueue, exchange: Exchange, classes: Classes) -> None:
    there = RabbitExchange(exchange.name, type=ExchangeType(exchange.kind.value), durable=True)
    subscriber = broker.subscriber(queue, there, title=queue.name, description=exchange.carries)
    subscriber(_handler(classes))


def _queue(queue: Queue) -> RabbitQueue:
    if queue.kind is QueueKind.QUORUM:
        return RabbitQueue(queue.name, queue_type=QueueType.QUORUM, routing_key=queue.binding)
    return RabbitQueue(queue.name, queue_type=QueueType.CLASSIC, durable=True, routing_key=queue.binding)


def _handler(classes: Classes) -> Callable[..., Awaitable[None]]:
    """A handler that exists for its signature alone: FastStream reads the schema off it."""

    async def handle(message: Message) -> None: ...

    handle.__annotations__ = {"message": _union(classes), "return": None}
    return handle


def _union(classes: Classes) -> Any:  # noqa: ANN401 - a union made at run time is no static type
    return reduce(or_, classes)


def _in_order(document: dict[str, Any]) -> dict[str, Any]:
    """FastStream keeps subscribers in a set: sorted, the same contracts give the same document."""
    return {
        key: dict(sorted(value.items())) if key in ("channels", "operations") else value
        for key, value in document.items()
    }
