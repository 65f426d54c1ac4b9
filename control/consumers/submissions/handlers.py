"""Handles a submission: decodes it, does what it requests, and builds the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args
from uuid import UUID

from contracts.errors import AccountRequired, FieldError, InvalidInput, UndecodableMessage
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
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable, TaskNotFound
from control.store.values import StoredTask, SubmissionConflict

SUBMISSIONS: tuple[type[Any], ...] = (CreateTask, *get_args(TaskRequest))
REFUSAL_ERRORS = (
    AccountRequired,
    UndecodableMessage,
    InvalidInput,
    TaskNotFound,
    SubmissionConflict,
    IllegalTransition,
)

TIMEOUT = 120.0
"""Seconds for one submission, in which two batches may each wait for a database that does not answer."""


class SubmissionHandler:
    """Does what a submission requests, in the same way as the HTTP routes."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    async def submit(self, submission: AnySubmission) -> SubmissionAccepted:
        """Create, start, pause, resume, cancel, retry, kick or fail a task.

        Raises one of REFUSAL_ERRORS, or StoreUnavailable.
        """
        task = (await self._do(submission)).task
        return SubmissionAccepted(submission_id=submission.submission_id, task_id=task.task_id, status=task.status)

    async def _do(self, submission: CreateTask | TaskRequest) -> StoredTask:
        try:
            async with asyncio.timeout(TIMEOUT):
                if isinstance(submission, CreateTask):
                    return await self._submissions.create(submission)
                return await self._submissions.request(submission)
        except TimeoutError as error:  # many batches before it waited for the database: no fault of the submission
            raise StoreUnavailable(f"the submission was not handled within {TIMEOUT:g} s") from error


def decode_submission(body: bytes) -> CreateTask | TaskRequest:
    """The submission in `body`.

    Raises UndecodableMessage, also if `submission_id` is missing: each redelivery would repeat the request.
    """
    submission: CreateTask | TaskRequest = decode(body, *SUBMISSIONS)
    if "submission_id" not in submission.model_fields_set:
        missing = FieldError(
            field="submission_id", message="expected a UUID that you create; send the same UUID when you retry"
        )
        raise UndecodableMessage(f"{missing.field}: {missing.message}", (missing,))
    return submission


def refusal_of(error: Exception, body: bytes) -> SubmissionRefused:
    """The answer to the submission in `body` that could not be done because of `error`."""
    if isinstance(error, REFUSAL_ERRORS):
        problem = problem_of(error)
    else:
        detail = "an unexpected error occurred; see the log of control"
        problem = Problem(title="Internal error", status=500, detail=detail)
    return SubmissionRefused(submission_id=_submission_id(body), problem=problem)


def _submission_id(body: bytes) -> UUID | None:
    """The `submission_id` in `body`, or None if it cannot be read."""
    try:
        return UUID(json.loads(body)["submission_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
