"""The users of a chaos run: they submit over HTTP and over the broker, and pause, resume and cancel on the way."""

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
from infra.bus.port import Outgoing, PublishFailed, RequestTimedOut
from infra.bus.rabbitmq import RabbitMQBus
from tests.chaos.script import CANCELLED, MOST_SEEDS, End, Script

USER = 1
CONTINUOUS, ONE_TRY = 0.1, 0.05
"""Shares of the tasks: those that loop, and those whose submission is not tried again."""
CANCELS, PAUSES = 0.03, 0.06
TIMEOUT, AGAIN_AFTER = 5.0, 0.3
AT_ONCE = 24
CONFLICT, CREATED = 409, 201
VERBS = {PauseTask: "pause", ResumeTask: "resume", CancelTask: "cancel"}


@dataclass(slots=True)
class Submission:
    """One task as its user knows it."""

    number: int
    seed: int
    iterations: int | None
    by_http: bool
    tries: int | None
    """None: until it is acknowledged."""
    key: UUID
    acknowledged: bool = False
    ends: set[End] = field(default_factory=set)

    @property
    def task_id(self) -> UUID:
        """As control derives it."""
        return derived_id(self.submission_id, "task")

    @property
    def submission_id(self) -> UUID:
        """Over HTTP it derives from the Idempotency-Key."""
        return derived_id("http", USER, self.key) if self.by_http else self.key


class Load:
    """Submits the tasks of one run. What no fault explains is kept in `surprises`."""

    def __init__(self, urls: list[str], bus: RabbitMQBus, dataset: str, seed: int) -> None:
        self._urls = urls
        self._bus = bus
        self._dataset = dataset
        self._seed = seed
        self._http = httpx.AsyncClient(timeout=TIMEOUT)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.submissions: list[Submission] = []
        self.surprises: list[str] = []

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def user(self, number: int) -> None:
        """Submit task `number`, and see to what its user wants of it afterwards."""
        drawn = random.Random(f"{self._seed}/{number}")
        submission = self._drawn(number, drawn)
        self.submissions.append(submission)
        async with self._gate:
            submission.acknowledged = await self._submit(submission)
        wish = drawn.random()
        if submission.acknowledged and wish < CANCELS + PAUSES:
            await asyncio.sleep(drawn.uniform(0, 2))
            await (self._cancel if wish < CANCELS else self._pause)(submission, drawn)

    async def resume(self, task_id: UUID) -> None:
        """Resume a task whose pause came later than its resume did."""
        await self._ask(ResumeTask(task_id=task_id, submission_id=_new_id(random.Random())), by_http=True)

    def _drawn(self, number: int, drawn: random.Random) -> Submission:
        seed = drawn.randrange(MOST_SEEDS)
        iterations = drawn.choice((2, 3)) if drawn.random() < CONTINUOUS else None
        submission = Submission(
            number,
            seed,
            iterations,
            by_http=drawn.random() < 0.5,
            tries=1 if drawn.random() < ONE_TRY else None,
            key=_new_id(drawn),
        )
        submission.ends = {Script.of(seed).end(iterations)}
        return submission

    async def _submit(self, submission: Submission) -> bool:
        """Whether it was acknowledged."""
        tries = 0
        while submission.tries is None or tries < submission.tries:
            tries += 1
            send = self._by_http if submission.by_http else self._by_broker
            if await send(submission):
                return True
            await asyncio.sleep(AGAIN_AFTER)
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
        asked = CreateTask(submission_id=submission.submission_id, task=self._body(submission))
        return await self._publish(asked) is not None

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

    async def _cancel(self, submission: Submission, drawn: random.Random) -> None:
        """Cancelled; or too late, unless an earlier try of the same cancel was what ended it."""
        by_http = drawn.random() < 0.5
        asked = CancelTask(task_id=submission.task_id, submission_id=_new_id(drawn))
        if await self._ask(asked, by_http=by_http):
            submission.ends = {CANCELLED}
        elif by_http:
            submission.ends.add(CANCELLED)

    async def _pause(self, submission: Submission, drawn: random.Random) -> None:
        mode, by_http = drawn.choice(list(PauseMode)), drawn.random() < 0.5
        asked = PauseTask(task_id=submission.task_id, submission_id=_new_id(drawn), mode=mode)
        await self._ask(asked, by_http=by_http)
        await asyncio.sleep(drawn.uniform(0, 2))
        await self._ask(ResumeTask(task_id=submission.task_id, submission_id=_new_id(drawn)), by_http=not by_http)

    async def _ask(self, asked: TaskRequest, *, by_http: bool) -> bool:
        """Whether it was done; False where the task's status does not allow it. Asked until it is answered."""
        while True:
            done = await (self._ask_by_http(asked) if by_http else self._publish(asked))
            if done is not None:
                return done
            await asyncio.sleep(AGAIN_AFTER)

    async def _ask_by_http(self, asked: TaskRequest) -> bool | None:
        body = {"mode": asked.mode.value} if isinstance(asked, PauseTask) else {}
        status = await self._post(f"/api/tasks/{asked.task_id}/{VERBS[type(asked)]}", body, {})
        return None if status is None else status != CONFLICT

    async def _post(self, path: str, body: dict[str, object], headers: dict[str, str]) -> int | None:
        """The status, of whichever control answers; None: nobody did, or it asks us to come again."""
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

    async def _publish(self, asked: CreateTask | TaskRequest) -> bool | None:
        """Whether it was accepted; False where the task's status does not allow it, None: no answer."""
        message = Outgoing(TASKS.name, asked.kind, encode(asked), str(asked.message_id))
        try:
            reply = decode(await self._bus.request(message, timeout=TIMEOUT), SubmissionAccepted, SubmissionRefused)
        except (PublishFailed, RequestTimedOut):
            return None
        if isinstance(reply, SubmissionAccepted):
            return True
        if reply.problem.status == CONFLICT and not isinstance(asked, CreateTask):
            return False
        self.surprises.append(f"{asked.kind} was refused: {reply.problem.detail[:300]}")
        return None


def _new_id(drawn: random.Random) -> UUID:
    return UUID(int=drawn.getrandbits(128), version=4)
