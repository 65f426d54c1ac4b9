"""The users of a chaos run: they submit tasks over HTTP or the broker, and pause, resume and cancel some of them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from uuid import UUID

import httpx

from contracts.http import ContinuousTaskRequest, StandardTaskRequest
from contracts.message import derived_id
from contracts.submissions import (
    CancelTask,
    CreateTask,
    PauseTask,
    ResumeTask,
    SubmissionAccepted,
    SubmissionRefused,
    TaskRequest,
)
from contracts.tasks import PauseMode
from contracts.topology import TASKS
from contracts.wire import decode, encode
from infra.bus.port import OutgoingMessage, PublishFailed, RequestTimedOut
from infra.bus.rabbitmq import RabbitMQBus
from tests.chaos.script import CANCELLED, SEED_LIMIT, End, Script

USER = 1
CONTINUOUS, WITHOUT_RETRY = 0.1, 0.05
"""Shares of the tasks that are CONTINUOUS, and whose submission is not retried."""
CANCELS, PAUSES = 0.03, 0.06
"""Shares of the acknowledged tasks that are cancelled, and that are paused and resumed."""
TIMEOUT, RETRY_AFTER = 5.0, 0.3
"""Seconds."""
CONCURRENT_SUBMISSIONS = 24
CONFLICT, CREATED = 409, 201
VERBS = {PauseTask: "pause", ResumeTask: "resume", CancelTask: "cancel"}


@dataclass(slots=True)
class Submission:
    """One task of a user, with the choices of the user and the outcome so far."""

    number: int
    seed: int
    iterations: int | None
    by_http: bool
    max_sends: int | None
    """None means that it is sent until it is acknowledged."""
    key: UUID
    acknowledged: bool = False
    ends: set[End] = field(default_factory=set)
    """The ends that are allowed."""

    @property
    def task_id(self) -> UUID:
        """The task id that control derives from the submission id."""
        return derived_id(self.submission_id, "task")

    @property
    def submission_id(self) -> UUID:
        """The submission id, which over HTTP is derived from the Idempotency-Key."""
        return derived_id("http", USER, self.key) if self.by_http else self.key


class Load:
    """Submits the tasks of one run; `surprises` has the answers that no fault explains."""

    def __init__(self, urls: list[str], bus: RabbitMQBus, dataset: str, seed: int) -> None:
        self._urls = urls
        self._bus = bus
        self._dataset = dataset
        self._seed = seed
        self._http = httpx.AsyncClient(timeout=TIMEOUT)
        self._semaphore = asyncio.Semaphore(CONCURRENT_SUBMISSIONS)
        self.submissions: list[Submission] = []
        self.surprises: list[str] = []

    async def close(self) -> None:
        """Close the HTTP connections."""
        await self._http.aclose()

    async def user(self, number: int) -> None:
        """Submit task `number`, then cancel it, pause and resume it, or neither, as drawn from the seed."""
        rng = random.Random(f"{self._seed}/{number}")
        submission = self._draw_submission(number, rng)
        self.submissions.append(submission)
        async with self._semaphore:
            submission.acknowledged = await self._submit(submission)
        drawn = rng.random()
        if submission.acknowledged and drawn < CANCELS + PAUSES:
            await asyncio.sleep(rng.uniform(0, 2))
            await (self._cancel if drawn < CANCELS else self._pause)(submission, rng)

    async def resume(self, task_id: UUID) -> None:
        """Resume a task that was paused after its resume, because the two requests were reordered."""
        request = ResumeTask(task_id=task_id, submission_id=_new_id(random.Random()))
        await self._send_request(request, by_http=True)

    def _draw_submission(self, number: int, rng: random.Random) -> Submission:
        seed = rng.randrange(SEED_LIMIT)
        iterations = rng.choice((2, 3)) if rng.random() < CONTINUOUS else None
        submission = Submission(
            number,
            seed,
            iterations,
            by_http=rng.random() < 0.5,
            max_sends=1 if rng.random() < WITHOUT_RETRY else None,
            key=_new_id(rng),
        )
        submission.ends = {Script.of(seed).end(iterations)}
        return submission

    async def _submit(self, submission: Submission) -> bool:
        """Whether it was acknowledged."""
        sends = 0
        while submission.max_sends is None or sends < submission.max_sends:
            sends += 1
            send = self._by_http if submission.by_http else self._by_broker
            if await send(submission):
                return True
            await asyncio.sleep(RETRY_AFTER)
        return False

    async def _by_http(self, submission: Submission) -> bool:
        body = self._body(submission)
        status = await self._post(
            f"/api/tasks/{body.mode.lower()}",
            body.model_dump(mode="json", exclude={"mode"}),
            {"Idempotency-Key": str(submission.key)},
        )
        return status == CREATED

    async def _by_broker(self, submission: Submission) -> bool:
        request = CreateTask(submission_id=submission.submission_id, task=self._body(submission))
        return await self._publish(request) is not None

    def _body(self, submission: Submission) -> StandardTaskRequest | ContinuousTaskRequest:
        common = {
            "task_name": f"chaos {submission.number}",
            "model_name": "/models/none",
            "dataset_id": self._dataset,
            "user_id": USER,
            "seed": submission.seed,
            "max_failures": 100,
            "auto_start": True,
        }
        if submission.iterations is None:
            return StandardTaskRequest(**common)
        return ContinuousTaskRequest(**common, max_iterations=submission.iterations)

    async def _cancel(self, submission: Submission, rng: random.Random) -> None:
        """Cancel the task; a conflict means that it has ended: by itself, or by an earlier send of the same cancel."""
        by_http = rng.random() < 0.5
        request = CancelTask(task_id=submission.task_id, submission_id=_new_id(rng))
        if await self._send_request(request, by_http=by_http):
            submission.ends = {CANCELLED}
        elif by_http:
            submission.ends.add(CANCELLED)

    async def _pause(self, submission: Submission, rng: random.Random) -> None:
        mode, by_http = rng.choice(list(PauseMode)), rng.random() < 0.5
        pause = PauseTask(task_id=submission.task_id, submission_id=_new_id(rng), mode=mode)
        await self._send_request(pause, by_http=by_http)
        await asyncio.sleep(rng.uniform(0, 2))
        resume = ResumeTask(task_id=submission.task_id, submission_id=_new_id(rng))
        await self._send_request(resume, by_http=not by_http)

    async def _send_request(self, request: TaskRequest, *, by_http: bool) -> bool:
        """Send until there is an answer; False if the status of the task does not allow the request."""
        while True:
            accepted = await (self._post_request(request) if by_http else self._publish(request))
            if accepted is not None:
                return accepted
            await asyncio.sleep(RETRY_AFTER)

    async def _post_request(self, request: TaskRequest) -> bool | None:
        body = {"mode": request.mode.value} if isinstance(request, PauseTask) else {}
        status = await self._post(f"/api/tasks/{request.task_id}/{VERBS[type(request)]}", body, {})
        return None if status is None else status != CONFLICT

    async def _post(self, path: str, body: dict[str, object], headers: dict[str, str]) -> int | None:
        """The status from one of the controls; None if the request failed and has to be sent again."""
        url = random.choice(self._urls)
        try:
            answer = await self._http.post(f"{url}{path}", json=body, headers=headers)
        except httpx.TransportError:
            return None
        if answer.is_success or (answer.status_code == CONFLICT and not headers):
            return answer.status_code
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            self.surprises.append(f"{path} was answered {answer.status_code}: {answer.text[:300]}")
        return None

    async def _publish(self, request: CreateTask | TaskRequest) -> bool | None:
        """Whether it was accepted; False if the status of the task does not allow it, None without an answer."""
        message = OutgoingMessage(TASKS.name, request.kind, encode(request), str(request.message_id))
        try:
            reply = decode(await self._bus.request(message, timeout=TIMEOUT), SubmissionAccepted, SubmissionRefused)
        except (PublishFailed, RequestTimedOut):
            return None
        if isinstance(reply, SubmissionAccepted):
            return True
        if reply.problem.status == CONFLICT and not isinstance(request, CreateTask):
            return False
        self.surprises.append(f"{request.kind} was refused: {reply.problem.detail[:300]}")
        return None


def _new_id(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
