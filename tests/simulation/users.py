"""Users: they create tasks, send requests about them, and repeat each request until it is answered."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any
from uuid import UUID, uuid4

from contracts.http import ContinuousTaskRequest, StandardTaskRequest
from contracts.submissions import (
    CancelTask,
    CreateTask,
    FailTask,
    KickTask,
    PauseTask,
    ResumeTask,
    RetryTask,
    StartTask,
    SubmissionAccepted,
    SubmissionRefused,
    TaskRequest,
)
from contracts.tasks import PauseMode, Phase, TaskStatus
from contracts.topology import DEAD_QUEUE, SUBMISSIONS_QUEUE, TASKS
from contracts.wire import decode, encode
from control.apply.submissions import Submissions
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable
from infra.bus.dead_letter import QUEUE, REASON
from infra.bus.port import IncomingMessage, OutgoingMessage, PublishFailed, RequestTimedOut
from tests.simulation.bus import SimulatedBus
from tests.simulation.checks import STABLE_STATUSES, Checks
from tests.simulation.process import Process
from tests.simulation.services import ControlService
from tests.simulation.world import World

CONCURRENT_USERS = 24
"""The number of users, each with one task at a time."""
ANSWER_TIMEOUT = 5.0
"""Seconds."""
REQUEST_INTERVAL = 12.0
"""Mean virtual seconds between two requests about a task."""
DATASET = "raw"


class Users:
    """Each task has one user; a repeated request has the same submission id."""

    def __init__(self, world: World, checks: Checks, controls: list[ControlService]) -> None:
        self._world = world
        self._checks = checks
        self._controls = controls
        self._process = Process("users", may_crash=False)
        self._bus = SimulatedBus(world, self._process)

    def start(self) -> None:
        """Send requests and read the dead letters until the faults end."""
        self._process.spawn(self._begin())

    def end(self) -> None:
        """End the process of the users."""
        self._process.kill()

    async def _begin(self) -> None:
        await self._bus.start()
        await self._bus.consume(DEAD_QUEUE.name, self._read_dead_letter, prefetch=1)
        for _ in range(CONCURRENT_USERS):
            self._process.spawn(self._run_user())

    async def _read_dead_letter(self, message: IncomingMessage) -> None:
        """Check that it is a submission: one that expired, or whose refusal could not be sent."""
        headers = message.headers
        queue = headers.get(QUEUE) or headers.get("x-first-death-queue")
        reason = headers.get(REASON) or headers.get("x-first-death-reason")
        self._world.check(queue == SUBMISSIONS_QUEUE.name, f"a message of {queue} was dead-lettered: {reason}")
        await message.ack()

    async def _run_user(self) -> None:
        while not self._world.faults_off:
            task_id = await self._create()
            while not self._world.faults_off and not await self._send_requests(task_id):
                pass

    async def _create(self) -> UUID:
        rng = self._world.rng
        common: dict[str, Any] = {
            "task_name": "simulated",
            "model_name": "/model",
            "dataset_id": DATASET,
            "user_id": 1,
            "auto_start": rng.random() < 0.5,
            "max_failures": rng.choice((0, 3, 10)),
        }
        body = (
            StandardTaskRequest(**common)
            if rng.random() < 0.5
            else ContinuousTaskRequest(**common, max_iterations=rng.choice((2, 3)))
        )
        request = CreateTask(submission_id=uuid4(), task=body)
        await self._send(request)
        return request.task_id

    async def _send_requests(self, task_id: UUID) -> bool:
        """Pause, then send one or two requests; whether the user has finished with the task."""
        rng = self._world.rng
        await asyncio.sleep(rng.expovariate(1 / REQUEST_INTERVAL))
        status = self._world.tables.tasks[task_id].task.status
        if status in {TaskStatus.COMPLETED, TaskStatus.CANCELLED}:
            return True
        requests = [_draw_request(rng, status, task_id) for _ in range(rng.choice((1, 1, 2)))]
        await asyncio.gather(*(self._send(request) for request in requests if request is not None))
        return status in STABLE_STATUSES and rng.random() < 0.1

    async def _send(self, request: CreateTask | TaskRequest) -> None:
        """Send until there is an answer, each time over HTTP or over the broker."""
        self._world.step("request", f"{request.kind} {request.submission_id}")
        while True:
            by_http = self._world.rng.random() < 0.5
            answer = await (self._by_http(request) if by_http else self._by_broker(request))
            if isinstance(answer, bool):
                break
            await asyncio.sleep(0.5)
        if answer:
            self._accepted(request)

    def _accepted(self, request: CreateTask | TaskRequest) -> None:
        if isinstance(request, CreateTask):
            self._checks.created[request.submission_id] = request.task_id
        else:
            self._checks.acknowledged[request.message_id] = request.task_id

    async def _by_broker(self, request: CreateTask | TaskRequest) -> bool | None:
        """Whether it was accepted; None without an answer."""
        message = OutgoingMessage(TASKS.name, request.kind, encode(request), str(request.message_id))
        try:
            body = await self._bus.request(message, timeout=ANSWER_TIMEOUT)
        except (PublishFailed, RequestTimedOut):
            return None
        answer = decode(body, SubmissionAccepted, SubmissionRefused)
        if isinstance(answer, SubmissionRefused):
            self._world.check(answer.problem.status == 409, f"{request.kind} was refused: {answer.problem}")
        return isinstance(answer, SubmissionAccepted)

    async def _by_http(self, request: CreateTask | TaskRequest) -> bool | None:
        """Whether it was accepted; None without an answer, because the control process may be killed before."""
        controls = [service for service in self._controls if service.running]
        if not controls:
            return None
        service = self._world.rng.choice(controls)
        task = service.process.spawn(_answer(service.control.submissions, request))
        await asyncio.wait({task}, timeout=ANSWER_TIMEOUT)
        answered = task.done() and not task.cancelled()
        return task.result() if answered else None


async def _answer(submissions: Submissions, request: CreateTask | TaskRequest) -> bool | None:
    try:
        await (submissions.create(request) if isinstance(request, CreateTask) else submissions.request(request))
    except IllegalTransition:
        return False
    except StoreUnavailable:
        return None
    return True


def _draw_request(rng: Random, status: TaskStatus, task_id: UUID) -> TaskRequest | None:
    """A request about a task in this status, sometimes one that the status does not allow; None for no request."""
    about = {"task_id": task_id, "submission_id": uuid4()}
    pause = PauseTask(**about, mode=rng.choice(list(PauseMode)))
    retry = RetryTask(**about, phase=rng.choice((None, *Phase)))
    usual: TaskRequest
    match status:
        case TaskStatus.PENDING:
            usual = StartTask(**about, after_seconds=rng.choice((0, 0, 20)))
        case TaskStatus.SUSPENDED:
            usual = ResumeTask(**about)
        case TaskStatus.FAILED:
            usual = retry
        case _:
            usual = pause
    drawn = rng.random()
    if drawn < 0.05:
        return CancelTask(**about)
    if drawn < 0.1:
        return rng.choice((KickTask, FailTask))(**about, reason="it takes too long")
    if drawn < 0.2:
        return rng.choice((StartTask(**about), pause, ResumeTask(**about), retry))
    return usual if drawn < 0.6 else None
