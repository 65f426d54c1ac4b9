"""What control does for a submission: decode it, do what is asked, say what became of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, get_args
from uuid import UUID

import structlog

from contracts.errors import FieldError, InvalidInput, UndecodableMessage
from contracts.submissions import (
    AnySubmission,
    CreateTask,
    Problem,
    SubmissionAccepted,
    SubmissionRefused,
    TaskRequest,
)
from contracts.wire import decode
from control.apply.problems import problem_of
from control.apply.submissions import Submissions
from control.consumers.retry import patiently
from control.machine.task import IllegalTransition, Task
from control.store.port import SubmissionConflict, TaskNotFound

SUBMISSIONS: tuple[type[Any], ...] = (CreateTask, *get_args(TaskRequest))
REFUSED = (UndecodableMessage, InvalidInput, TaskNotFound, SubmissionConflict, IllegalTransition)

log = structlog.get_logger(__name__)


class SubmissionHandler:
    """Does what a submission asks for, as the HTTP calls do."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    async def submit(self, submission: AnySubmission) -> SubmissionAccepted:
        """Create, start, pause, resume, cancel, retry, kick or fail a task. Raises one of REFUSED."""
        task = await patiently(partial(self._do, submission))
        return SubmissionAccepted(submission_id=submission.submission_id, task_id=task.task_id, status=task.status)

    async def _do(self, submission: CreateTask | TaskRequest) -> Task:
        if isinstance(submission, CreateTask):
            return await self._submissions.create(submission)
        return await self._submissions.request(submission)


def decode_submission(body: bytes) -> CreateTask | TaskRequest:
    """The submission in `body`. Raises UndecodableMessage, also if it has no id: each redelivery would do it again."""
    submission: CreateTask | TaskRequest = decode(body, *SUBMISSIONS)
    if "submission_id" not in submission.model_fields_set:
        missing = FieldError(field="submission_id", message="expected a UUID made by you, the same at every try")
        raise UndecodableMessage(f"{missing.field}: {missing.message}", (missing,))
    return submission


async def answer_of(
    body: bytes, submit: Callable[[], Awaitable[SubmissionAccepted]]
) -> SubmissionAccepted | SubmissionRefused:
    """The answer to the submission in `body`: what `submit` returns, or the problem that it raises."""
    try:
        return await submit()
    except REFUSED as error:
        problem = problem_of(error)
    except Exception:  # the boundary: whoever asked is answered, whatever went wrong
        log.exception("submission_broke", submission_id=str(_submission_id(body)))
        problem = Problem(title="Broken", status=500, detail="something went wrong; control's log says what")
    return SubmissionRefused(submission_id=_submission_id(body), problem=problem)


def _submission_id(body: bytes) -> UUID | None:
    """The submission's id, if the body has one that can be read."""
    try:
        return UUID(json.loads(body)["submission_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
