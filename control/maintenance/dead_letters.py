"""Reads dead letters and decides whether they may be replayed. Pure: it uses neither the bus nor the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from contracts.commands import COMMAND_OF, Command, PhaseCommand
from contracts.errors import UndecodableMessage
from contracts.events import NextIteration, WorkerEvent
from contracts.submissions import CreateTask, TaskRequest
from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE
from contracts.wire import decode
from control.apply.applier import of_another_claim, task_of
from control.machine.facts import NotOrdered, require_ordered
from control.machine.machine import MachineEvent, advance
from control.machine.task import IllegalTransition
from control.store.values import Loaded
from infra.bus.dead_letter import BROKER_QUEUE, BROKER_REASON, QUEUE, REASON, REPLAYS, bounded_headers
from infra.bus.port import IncomingMessage

Replayable = Command | MachineEvent | CreateTask
"""A message of a queue whose dead letters can be replayed."""
MESSAGES_OF_QUEUE: dict[str, tuple[type[Any], ...]] = {
    **{queue.name: (COMMAND_OF[phase],) for phase, queue in PHASE_QUEUES.items()},
    CONTROL_QUEUE.name: (*get_args(WorkerEvent), NextIteration),
    SUBMISSIONS_QUEUE.name: (CreateTask, *get_args(TaskRequest)),
}
"""The messages that the consumer of each queue decodes."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue; a field that its body does not contain is None."""

    id: str
    """The message id, or a digest of the body if there is none."""
    queue: str | None
    """The queue from which it was dead-lettered."""
    reason: str
    failures: int
    """How often it was dead-lettered: the number of replays plus one."""
    kind: str | None
    task_id: str | None
    attempt: str | None
    """Iteration, phase and attempt number, such as `2/train/a1`."""
    published_at: datetime | None
    headers: Mapping[str, str]
    body: bytes
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a dead letter is not replayed; `final` means that a later replay cannot succeed either."""

    reason: str
    final: bool = False


def read(message: IncomingMessage) -> DeadLetter:
    """Parse a message of the dead-letter queue as far as possible."""
    headers, raw = message.headers, _object(message.body)
    key = raw["key"] if isinstance(raw.get("key"), dict) else {}
    return DeadLetter(
        id=message.message_id or f"body-{hashlib.sha256(message.body).hexdigest()[:12]}",
        queue=headers.get(QUEUE) or headers.get(BROKER_QUEUE),
        reason=headers.get(REASON) or f"dead-lettered by the broker: {headers.get(BROKER_REASON, 'no reason given')}",
        failures=_replays(headers) + 1,
        kind=_text(raw.get("kind")),
        task_id=_text(key.get("task_id") or raw.get("task_id")),
        attempt=f"{key.get('iteration')}/{key.get('phase')}/a{key.get('attempt')}" if key else None,
        published_at=message.published_at,
        headers=headers,
        body=message.body,
        routing_key=message.routing_key,
    )


def headers_of_replay(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers for a replay: those about the dead-lettering are removed, and the replay is counted."""
    about_dead_letter = {REASON, QUEUE, REPLAYS}
    kept = {name: value for name, value in headers.items() if name not in about_dead_letter and "-death-" not in name}
    return {**bounded_headers(kept), REPLAYS: str(_replays(headers) + 1)}


def content(letter: DeadLetter) -> Replayable | Refusal:
    """The message in a dead letter, decoded as by the consumer of its queue, or why it cannot be replayed."""
    if letter.queue == CLAIMS_QUEUE.name:
        return Refusal("a lease request is never replayed: its worker has timed out and sent a new request", final=True)
    classes = MESSAGES_OF_QUEUE.get(letter.queue or "")
    if classes is None:
        return Refusal(f"its queue is unknown: expected a queue of Treadle in the header {QUEUE} or {BROKER_QUEUE}")
    try:
        message: Replayable = decode(letter.body, *classes)
    except UndecodableMessage as error:
        return Refusal(str(error))
    if isinstance(message, CreateTask | TaskRequest) and "submission_id" not in message.model_fields_set:
        return Refusal("submission_id: expected a UUID; without one, every replay would repeat the request")
    return message


def subject(message: Replayable) -> tuple[UUID, UUID]:
    """The task id and the message id for `Store.load`."""
    if isinstance(message, PhaseCommand):
        return message.key.task_id, message.message_id
    return message.task_id if isinstance(message, CreateTask) else task_of(message), message.message_id


def refusal(message: Replayable, loaded: Loaded | None) -> Refusal | None:
    """Why the task's present state does not allow a replay; None if it does."""
    if isinstance(message, CreateTask):
        return _refused_creation(message, loaded)
    if loaded is None:
        return Refusal(f"there is no task {subject(message)[0]}")
    if isinstance(message, PhaseCommand):
        return _refused_command(message, loaded)
    if loaded.duplicate:
        return Refusal("it is a duplicate: the task has already handled this message", final=True)
    return _refused_event(message, loaded)


def _refused_creation(submission: CreateTask, loaded: Loaded | None) -> Refusal | None:
    """A task with autoStart that was created but not started is replayed, because its submission is incomplete."""
    if loaded is None or (submission.task.auto_start and loaded.task.version == 1):
        return None
    return Refusal(f"its task {submission.task_id} already exists", final=True)


def _refused_command(command: Command, loaded: Loaded) -> Refusal | None:
    task = loaded.task
    if task.attempt_active and task.key == command.key:
        return None
    current = (
        f"is at {task.key.phase} attempt {task.key.attempt}"
        if task.key and task.attempt_active
        else "has no active attempt"
    )
    return Refusal(f"its attempt is not the current one: the task is {task.status} and {current}", final=True)


def _refused_event(event: MachineEvent, loaded: Loaded) -> Refusal | None:
    stale = Refusal(f"it is stale: the task is {loaded.task.status} and has moved on", final=True)
    try:
        if of_another_claim(event, loaded):
            return stale
        require_ordered(loaded.task, event)
        return stale if advance(loaded.task, event).stale else None
    except (IllegalTransition, NotOrdered) as error:
        return Refusal(str(error))


def _replays(headers: Mapping[str, str]) -> int:
    count = headers.get(REPLAYS, "0")
    return int(count) if count.isdecimal() else 0


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
