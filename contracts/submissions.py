"""Submissions: requests from users, over HTTP or over the broker, and the replies to them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field

from contracts.bounds import MessageText, Name, Prefix
from contracts.errors import Errors
from contracts.http import ContinuousTaskRequest, Delay, Reason, StandardTaskRequest
from contracts.message import Frozen, Message, derived_id
from contracts.tasks import AttemptName, PauseMode, Phase, TaskStatus


class Submission(Message):
    """Fields that all submissions share. A second submission with the same `submission_id` has no further effect."""

    submission_id: UUID = Field(default_factory=uuid4)
    actor: Name = "user"
    """Who sent the submission; stored in the task's history."""

    @property
    def message_id(self) -> UUID:
        """Derived from `submission_id` and the kind."""
        return derived_id(self.submission_id, self.kind)


class CreateTask(Submission):
    """Create a task. Its id is derived from `submission_id`; `task.mode` selects the mode."""

    kind: Literal["create_task"] = "create_task"
    version: Literal[1] = 1
    task: StandardTaskRequest | ContinuousTaskRequest = Field(discriminator="mode")

    @property
    def task_id(self) -> UUID:
        """Derived from `submission_id`, so that a redelivered submission creates no second task."""
        return derived_id(self.submission_id, "task")


class TaskRequestMessage(Submission):
    """Fields of submissions about an existing task."""

    task_id: UUID
    reason: Reason | None = None


class StartTask(TaskRequestMessage):
    """Start iteration 1 after `after_seconds`.

    A pause or a cancel before that time prevents the start; a resume then starts at once.
    """

    kind: Literal["start_task"] = "start_task"
    version: Literal[1] = 1
    after_seconds: Delay = 0.0


class AttemptRequest(TaskRequestMessage):
    """Fields of submissions that can end the current attempt."""

    checkpoint: Prefix | None = None
    """The newest checkpoint that heartbeats reported. Control sets it and ignores a value from the user."""


class PauseTask(AttemptRequest):
    """Pause the task: start no more attempts. `mode` says what happens to the running attempt."""

    kind: Literal["pause_task"] = "pause_task"
    version: Literal[1] = 1
    mode: PauseMode = PauseMode.DRAIN


class ResumeTask(TaskRequestMessage):
    """Continue a paused task."""

    kind: Literal["resume_task"] = "resume_task"
    version: Literal[1] = 1


class CancelTask(TaskRequestMessage):
    """End the task and stop its running program."""

    kind: Literal["cancel_task"] = "cancel_task"
    version: Literal[1] = 1


class RetryTask(TaskRequestMessage):
    """Retry a FAILED task.

    Without `phase`, the failed phase continues from its checkpoint. With `phase`, this phase starts from the beginning.
    """

    kind: Literal["retry_task"] = "retry_task"
    version: Literal[1] = 1
    phase: Phase | None = None


class Intervention(AttemptRequest):
    """Fields of submissions that overrule a worker."""

    reason: Reason
    attempt: AttemptName | None = None
    """The attempt that must be the current one, or the submission is refused; None: any attempt."""


class KickTask(Intervention):
    """Fence the current attempt and issue the next one at once from the newest checkpoint; not counted as a failure."""

    kind: Literal["kick_task"] = "kick_task"
    version: Literal[1] = 1


class FailTask(Intervention):
    """Fence the current attempt and end the task as FAILED; the task can be retried."""

    kind: Literal["fail_task"] = "fail_task"
    version: Literal[1] = 1


TaskRequest = StartTask | PauseTask | ResumeTask | CancelTask | RetryTask | KickTask | FailTask
AnySubmission = Annotated[CreateTask | TaskRequest, Field(discriminator="kind")]


class SubmissionAccepted(Message):
    """The reply on `reply_to` if the submission took effect, now or at an earlier delivery."""

    kind: Literal["submission_accepted"] = "submission_accepted"
    version: Literal[1] = 1
    submission_id: UUID
    task_id: UUID
    status: TaskStatus

    @property
    def message_id(self) -> UUID:
        """Derived from `submission_id` and the kind."""
        return derived_id(self.submission_id, self.kind)


class Problem(Frozen):
    """Problem details (RFC 9457); `errors` lists the invalid fields."""

    type: MessageText = "about:blank"
    title: MessageText
    status: int = Field(ge=100, le=599)
    detail: MessageText
    instance: MessageText | None = None
    errors: Errors = ()


class SubmissionRefused(Message):
    """The reply on `reply_to` if the submission was refused, with the same problem as over HTTP."""

    kind: Literal["submission_refused"] = "submission_refused"
    version: Literal[1] = 1
    submission_id: UUID | None
    problem: Problem

    @property
    def message_id(self) -> UUID:
        """Derived from `submission_id` and the kind."""
        return derived_id(self.submission_id, self.kind)
