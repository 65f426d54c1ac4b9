"""What a dead letter is about, and whether it may go back to where it died. Pure: no bus and no store is asked."""

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
from control.machine.machine import MachineEvent, advance
from control.machine.task import IllegalTransition
from control.store.port import Loaded
from infra.bus.dead_letter import BROKER_QUEUE, BROKER_REASON, QUEUE, REASON, REPLAYS
from infra.bus.port import Incoming

Replayable = Command | MachineEvent | CreateTask
"""What may stand in a queue that keeps dead letters."""
READ_AS: dict[str, tuple[type[Any], ...]] = {
    **{queue.name: (COMMAND_OF[phase],) for phase, queue in PHASE_QUEUES.items()},
    CONTROL_QUEUE.name: (*get_args(WorkerEvent), NextIteration),
    SUBMISSIONS_QUEUE.name: (CreateTask, *get_args(TaskRequest)),
}
"""What the reader of each queue understands."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message among the dead letters. What its body does not tell is None."""

    id: str
    """Its message id; of a message without one, a digest of its body."""
    queue: str | None
    """Where it died."""
    reason: str
    died: int
    """How often: once more than it was replayed."""
    kind: str | None
    task_id: str | None
    attempt: str | None
    """Iteration, phase and number, as in `2/train/a1`."""
    published_at: datetime | None
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a dead letter is not replayed. `spent`: nothing will ever come of it again."""

    reason: str
    spent: bool = False


def read(message: Incoming) -> DeadLetter:
    """The dead letter in a message, as far as it can be read."""
    headers, raw = message.headers, _object(message.body)
    key = raw["key"] if isinstance(raw.get("key"), dict) else {}
    return DeadLetter(
        id=message.message_id or f"body-{hashlib.sha256(message.body).hexdigest()[:12]}",
        queue=headers.get(QUEUE) or headers.get(BROKER_QUEUE),
        reason=headers.get(REASON) or f"the broker gave it up: {headers.get(BROKER_REASON, 'it does not say why')}",
        died=_replays(headers) + 1,
        kind=_text(raw.get("kind")),
        task_id=_text(key.get("task_id") or raw.get("task_id")),
        attempt=f"{key.get('iteration')}/{key.get('phase')}/a{key.get('attempt')}" if key else None,
        published_at=message.published_at,
        headers=headers,
        body=message.body,
    )


def headers_of_replay(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a dead letter as it is sent back: those about its death go, and it is counted."""
    about_death = {REASON, QUEUE, REPLAYS}
    kept = {name: value for name, value in headers.items() if name not in about_death and "-death-" not in name}
    return {**kept, REPLAYS: str(_replays(headers) + 1)}


def content(letter: DeadLetter) -> Replayable | Refusal:
    """The message in a dead letter, as the reader of its queue would understand it."""
    if letter.queue == CLAIMS_QUEUE.name:
        return Refusal("who sent this claim has given up and asked again", spent=True)
    classes = READ_AS.get(letter.queue or "")
    if classes is None:
        return Refusal("it does not say which queue it came from")
    try:
        message: Replayable = decode(letter.body, *classes)
    except UndecodableMessage as error:
        return Refusal(str(error))
    if isinstance(message, CreateTask | TaskRequest) and "submission_id" not in message.model_fields_set:
        return Refusal("submission_id: expected a UUID, without which every replay would be done again")
    return message


def subject(message: Replayable) -> tuple[UUID, UUID]:
    """The task and the message id that the store knows it by."""
    if isinstance(message, PhaseCommand):
        return message.key.task_id, message.message_id
    return message.task_id if isinstance(message, CreateTask) else task_of(message), message.message_id


def refusal(message: Replayable, found: Loaded | None) -> Refusal | None:
    """What stands against a replay, by what the store knows now; None where nothing does."""
    if isinstance(message, CreateTask):
        return _refused_creation(message, found)
    if found is None:
        return Refusal(f"there is no task {subject(message)[0]}")
    if isinstance(message, PhaseCommand):
        return _refused_command(message, found)
    if found.seen:
        return Refusal("it is a duplicate: the task has heard it", spent=True)
    return _refused_event(message, found)


def _refused_creation(asked: CreateTask, found: Loaded | None) -> Refusal | None:
    """One that was created and never started is: its submission has half been done."""
    if found is None or (asked.task.auto_start and found.task.version == 1):
        return None
    return Refusal(f"its task {asked.task_id} has been created", spent=True)


def _refused_command(command: Command, found: Loaded) -> Refusal | None:
    task = found.task
    if task.live and task.key == command.key:
        return None
    now = f"is at {task.key.phase} attempt {task.key.attempt}" if task.key and task.live else "runs no attempt"
    return Refusal(f"its attempt is not the live one: the task is {task.status} and {now}", spent=True)


def _refused_event(event: MachineEvent, found: Loaded) -> Refusal | None:
    stale = Refusal(f"it is stale: the task is {found.task.status} and has gone on without it", spent=True)
    if of_another_claim(event, found):
        return stale
    try:
        return stale if advance(found.task, event).stale else None
    except IllegalTransition as error:
        return Refusal(str(error))


def _replays(headers: Mapping[str, str]) -> int:
    given = headers.get(REPLAYS, "0")
    return int(given) if given.isdecimal() else 0


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
