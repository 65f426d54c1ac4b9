"""People and their scripts: they create tasks, change their minds, and ask again until they are answered."""

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
from infra.bus.port import Incoming, Outgoing, PublishFailed, RequestTimedOut
from tests.simulation.bus import SimulatedBus
from tests.simulation.checks import AT_REST, Checks
from tests.simulation.process import Process
from tests.simulation.services import ControlService
from tests.simulation.world import World

AT_ONCE = 24
"""Tasks that are looked after at a time."""
PATIENCE = 5.0
"""Seconds for which an answer is awaited."""
THINKING = 12.0
"""Mean seconds between two requests about a task."""
DATASET = "raw"


class Users:
    """Each task has one user, who is honest: the same request again has the same submission id."""

    def __init__(self, world: World, checks: Checks, controls: list[ControlService]) -> None:
        self._world = world
        self._checks = checks
        self._controls = controls
        self._process = Process("users", mortal=False)
        self._bus = SimulatedBus(world, self._process)

    def start(self) -> None:
        """Look after tasks, and after the dead letters, until all is calm."""
        self._process.spawn(self._begin())

    def end(self) -> None:
        """Go home."""
        self._process.kill()

    async def _begin(self) -> None:
        await self._bus.start()
        await self._bus.consume(DEAD_QUEUE.name, self._read_dead_letter, prefetch=1)
        for _ in range(AT_ONCE):
            self._process.spawn(self._look_after_tasks())

    async def _read_dead_letter(self, message: Incoming) -> None:
        """Only requests end there: those that nobody waits for any more, and refusals that could not be sent."""
        headers = message.headers
        queue = headers.get(QUEUE) or headers.get("x-first-death-queue")
        why = headers.get(REASON) or headers.get("x-first-death-reason")
        self._world.demand(queue == SUBMISSIONS_QUEUE.name, f"a message of {queue} was dead-lettered: {why}")
        await message.ack()

    async def _look_after_tasks(self) -> None:
        while not self._world.calm:
            task_id = await self._create()
            while not self._world.calm and not await self._acted(task_id):
                pass

    async def _create(self) -> UUID:
        chance = self._world.chance
        common: dict[str, Any] = {
            "task_name": "simulated",
            "model_name": "/model",
            "dataset_id": DATASET,
            "user_id": 1,
            "auto_start": chance.random() < 0.5,
            "max_failures": chance.choice((0, 3, 10)),
        }
        body = (
            StandardTaskRequest(**common)
            if chance.random() < 0.5
            else ContinuousTaskRequest(**common, max_iterations=chance.choice((2, 3)))
        )
        asked = CreateTask(submission_id=uuid4(), task=body)
        await self._ask(asked)
        return asked.task_id

    async def _acted(self, task_id: UUID) -> bool:
        """Think, then ask for something, or for two things at once; whether the task is left alone from now on."""
        chance = self._world.chance
        await asyncio.sleep(chance.expovariate(1 / THINKING))
        status = self._world.tables.tasks[task_id].task.status
        if status in {TaskStatus.COMPLETED, TaskStatus.CANCELLED}:
            return True
        whims = [_whim(chance, status, task_id) for _ in range(chance.choice((1, 1, 2)))]
        await asyncio.gather(*(self._ask(whim) for whim in whims if whim is not None))
        return status in AT_REST and chance.random() < 0.1

    async def _ask(self, asked: CreateTask | TaskRequest) -> None:
        """Until there is an answer, by whichever road."""
        self._world.step("request", f"{asked.kind} {asked.submission_id}")
        while True:
            by_http = self._world.chance.random() < 0.5
            answer = await (self._by_http(asked) if by_http else self._by_broker(asked))
            if isinstance(answer, bool):
                break
            await asyncio.sleep(0.5)
        if answer:
            self._accepted(asked)

    def _accepted(self, asked: CreateTask | TaskRequest) -> None:
        if isinstance(asked, CreateTask):
            self._checks.created[asked.submission_id] = asked.task_id
        else:
            self._checks.acknowledged[asked.message_id] = asked.task_id

    async def _by_broker(self, asked: CreateTask | TaskRequest) -> bool | None:
        """Whether it was accepted; None: no answer."""
        message = Outgoing(TASKS.name, asked.kind, encode(asked), str(asked.message_id))
        try:
            body = await self._bus.request(message, timeout=PATIENCE)
        except (PublishFailed, RequestTimedOut):
            return None
        answer = decode(body, SubmissionAccepted, SubmissionRefused)
        if isinstance(answer, SubmissionRefused):
            self._world.demand(answer.problem.status == 409, f"{asked.kind} was refused: {answer.problem}")
        return isinstance(answer, SubmissionAccepted)

    async def _by_http(self, asked: CreateTask | TaskRequest) -> bool | None:
        """The same, from a control process that may die before it answers."""
        controls = [service for service in self._controls if service.running]
        if not controls:
            return None
        service = self._world.chance.choice(controls)
        answering = service.process.spawn(_answer(service.control.submissions, asked))
        await asyncio.wait({answering}, timeout=PATIENCE)
        answered = answering.done() and not answering.cancelled()
        return answering.result() if answered else None


async def _answer(submissions: Submissions, asked: CreateTask | TaskRequest) -> bool | None:
    try:
        await (submissions.create(asked) if isinstance(asked, CreateTask) else submissions.request(asked))
    except IllegalTransition:
        return False
    except StoreUnavailable:
        return None
    return True


def _whim(chance: Random, status: TaskStatus, task_id: UUID) -> TaskRequest | None:
    """What a user asks of a task that stands there; now and then something that makes no sense."""
    about = {"task_id": task_id, "submission_id": uuid4()}
    pause = PauseTask(**about, mode=chance.choice(list(PauseMode)))
    retry = RetryTask(**about, phase=chance.choice((None, *Phase)))
    sensible: TaskRequest
    match status:
        case TaskStatus.PENDING:
            sensible = StartTask(**about, after_seconds=chance.choice((0, 0, 20)))
        case TaskStatus.SUSPENDED:
            sensible = ResumeTask(**about)
        case TaskStatus.FAILED:
            sensible = retry
        case _:
            sensible = pause
    drawn = chance.random()
    if drawn < 0.05:
        return CancelTask(**about)
    if drawn < 0.1:
        return chance.choice((KickTask, FailTask))(**about, reason="it takes too long")
    if drawn < 0.2:
        return chance.choice((StartTask(**about), pause, ResumeTask(**about), retry))
    return sensible if drawn < 0.6 else None
