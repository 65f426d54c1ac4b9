"""Submissions over the broker: they do what the HTTP calls do, and are answered on `reply_to` where one is given."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, get_args
from uuid import UUID

import structlog

from contracts.errors import FieldError, InvalidInput, UndecodableMessage
from contracts.message import Message
from contracts.submissions import (
    CreateTask,
    Problem,
    SubmissionAccepted,
    SubmissionRefused,
    TaskRequest,
)
from contracts.topology import QUEUES, SUBMISSIONS_QUEUE
from contracts.wire import decode, encode
from control.patience import patiently
from control.problems import problem_of
from control.store.port import SubmissionConflict, TaskNotFound
from control.submissions import Submissions
from control.task import IllegalTransition, Task
from infra.bus.dead import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed, Subscription

PREFETCH = 256
REQUESTS: tuple[type[Any], ...] = (CreateTask, *get_args(TaskRequest))
OWN_QUEUES = frozenset(queue.name for queue in QUEUES)

log = structlog.get_logger(__name__)


class SubmissionIntake:
    """Consumes `treadle.submissions`. A refused one is answered and acked, or kept among the dead letters."""

    def __init__(self, bus: Bus, submissions: Submissions) -> None:
        self._bus = bus
        self._submissions = submissions

    async def start(self) -> Subscription:
        """Begin to consume."""
        return await self._bus.consume(SUBMISSIONS_QUEUE.name, self._handle, prefetch=PREFETCH)

    async def _handle(self, message: Incoming) -> None:
        try:
            asked = _decoded(message.body)
        except UndecodableMessage as error:
            await self._refuse(message, _submission_id(message.body), problem_of(error))
            return
        try:
            task = await patiently(partial(self._do, asked))
        except (InvalidInput, TaskNotFound, SubmissionConflict, IllegalTransition) as error:
            await self._refuse(message, asked.submission_id, problem_of(error))
            return
        except Exception:  # whoever asked is answered, whatever went wrong
            log.exception("submission_broke", submission_id=str(asked.submission_id))
            problem = Problem(title="Broken", status=500, detail="something went wrong; control's log says what")
            await self._refuse(message, asked.submission_id, problem)
            return
        await self._reply(message, _accepted(asked, task))
        await message.ack()

    async def _do(self, asked: CreateTask | TaskRequest) -> Task:
        if isinstance(asked, CreateTask):
            return await self._submissions.create(asked)
        return await self._submissions.request(asked)

    async def _refuse(self, message: Incoming, submission_id: UUID | None, problem: Problem) -> None:
        if await self._reply(message, SubmissionRefused(submission_id=submission_id, problem=problem)):
            await message.ack()
            return
        work = partial(dead_letter, self._bus, message, SUBMISSIONS_QUEUE.name, problem.detail)
        await patiently(work)

    async def _reply(self, message: Incoming, answer: Message) -> bool:
        """Answer, where an answer was asked for; whether the broker took it."""
        if not _answerable(message) or message.reply_to is None:
            return False
        reply = Outgoing(
            exchange="",
            routing_key=message.reply_to,
            body=encode(answer),
            message_id=str(answer.message_id),
            correlation_id=message.correlation_id,
            mandatory=False,
        )
        try:
            await self._bus.publish(reply)
        except PublishFailed as error:
            log.warning("reply_not_sent", reply_to=message.reply_to, error=str(error))
            return False
        return True


def _answerable(message: Incoming) -> bool:
    """A `reply_to` that names one of Treadle's own queues would feed answers to services as if they were orders."""
    return message.reply_to is not None and message.reply_to not in OWN_QUEUES


def _decoded(body: bytes) -> CreateTask | TaskRequest:
    """The request in `body`. One without an id of its own would be done again at every redelivery."""
    asked: CreateTask | TaskRequest = decode(body, *REQUESTS)
    if "submission_id" not in asked.model_fields_set:
        missing = FieldError(field="submission_id", message="expected a UUID made by you, the same at every try")
        raise UndecodableMessage(f"{missing.field}: {missing.message}", (missing,))
    return asked


def _accepted(asked: CreateTask | TaskRequest, task: Task) -> SubmissionAccepted:
    return SubmissionAccepted(submission_id=asked.submission_id, task_id=task.task_id, status=task.status)


def _submission_id(body: bytes) -> UUID | None:
    """The submission's id, where the body has one that can be read."""
    try:
        raw = json.loads(body)
        return UUID(raw["submission_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
