"""What users ask for, over HTTP or over the broker, and how they are answered."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field

from contracts.errors import FieldError
from contracts.http import ContinuousTaskRequest, Delay, Reason, StandardTaskRequest
from contracts.message import Frozen, Message, Text, derived_id
from contracts.tasks import AttemptName, PauseMode, Phase, TaskStatus


class Submission(Message):
    """What all requests share. The same `submission_id` again is the same request, done once."""

    submission_id: UUID = Field(default_factory=uuid4)
    actor: Text = "user"
    """Who asks; it stands in the history."""

    @property
    def message_id(self) -> UUID:
        """One effect for each submission."""
        return derived_id(self.submission_id, self.kind)


class CreateTask(Submission):
    """Create a task; its id derives from `submission_id`. `task.mode` decides the mode."""

    kind: Literal["create_task"] = "create_task"
    version: Literal[1] = 1
    task: StandardTaskRequest | ContinuousTaskRequest = Field(discriminator="mode")

    @property
    def task_id(self) -> UUID:
        """Derived, so a redelivered submission creates nothing twice."""
        return derived_id(self.submission_id, "task")


class TaskRequestMessage(Submission):
    """A request about a task that exists."""

    task_id: UUID
    reason: Reason | None = None


class StartTask(TaskRequestMessage):
    """Begin iteration 1, `after_seconds` from now. Until then a pause or a cancel holds; a resume begins at once."""

    kind: Literal["start_task"] = "start_task"
    version: Literal[1] = 1
    after_seconds: Delay = 0.0


class AttemptRequest(TaskRequestMessage):
    """A request that may end the attempt under way."""

    checkpoint: str | None = None
    """The newest one that the attempt's heartbeats named; control fills it in, whatever was asked."""


class PauseTask(AttemptRequest):
    """Dispatch nothing more; `mode` says what becomes of the running attempt."""

    kind: Literal["pause_task"] = "pause_task"
    version: Literal[1] = 1
    mode: PauseMode = PauseMode.DRAIN


class ResumeTask(TaskRequestMessage):
    """Go on where the pause left off."""

    kind: Literal["resume_task"] = "resume_task"
    version: Literal[1] = 1


class CancelTask(TaskRequestMessage):
    """End it; a running program is stopped."""

    kind: Literal["cancel_task"] = "cancel_task"
    version: Literal[1] = 1


class RetryTask(TaskRequestMessage):
    """Try a FAILED task again: the phase that failed goes on from its checkpoint; one that is named begins afresh."""

    kind: Literal["retry_task"] = "retry_task"
    version: Literal[1] = 1
    phase: Phase | None = None


class Intervention(AttemptRequest):
    """A request that overrules a worker."""

    reason: Reason
    attempt: AttemptName | None = None
    """The only attempt that is meant; None: whichever is under way."""


class KickTask(Intervention):
    """Fence the attempt under way, and issue the next at once from the newest checkpoint; no failure is spent."""

    kind: Literal["kick_task"] = "kick_task"
    version: Literal[1] = 1


class FailTask(Intervention):
    """Fence the attempt under way, and end the task FAILED; it may be retried."""

    kind: Literal["fail_task"] = "fail_task"
    version: Literal[1] = 1


TaskRequest = StartTask | PauseTask | ResumeTask | CancelTask | RetryTask | KickTask | FailTask
AnySubmission = Annotated[CreateTask | TaskRequest, Field(discriminator="kind")]


class SubmissionAccepted(Message):
    """The answer on `reply_to` when the request took effect (or had done so before)."""

    kind: Literal["submission_accepted"] = "submission_accepted"
    version: Literal[1] = 1
    submission_id: UUID
    task_id: UUID
    status: TaskStatus

    @property
    def message_id(self) -> UUID:
        """One answer for each submission."""
        return derived_id(self.submission_id, self.kind)


class Problem(Frozen):
    """RFC 9457 problem details; `errors` names the fields."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()


class SubmissionRefused(Message):
    """The answer on `reply_to` when the request was wrong; the same problem as over HTTP."""

    kind: Literal["submission_refused"] = "submission_refused"
    version: Literal[1] = 1
    submission_id: UUID | None
    problem: Problem

    @property
    def message_id(self) -> UUID:
        """One answer for each submission."""
        return derived_id(self.submission_id, self.kind)
