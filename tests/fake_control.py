"""A replacement for control in the tests of workers: it answers claims and heartbeats, and records events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

from contracts.artifacts import attempt_prefix
from contracts.commands import TrainModel
from contracts.events import ModelTrained, WorkerEvent
from contracts.leases import AttemptSignal, Claim, Heartbeat, LeaseAnswer, LeaseReply, LeaseRequest, LeaseVerdict
from contracts.options import Hyperparameters
from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey, DatasetRef, ModelSource, Phase
from contracts.topology import CLAIMS_QUEUE, COMMANDS, CONTROL_QUEUE, DEAD_QUEUE, PHASE_QUEUES, PROGRESS, SIGNALS
from contracts.wire import decode, encode
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from infra.worker.plan import Finished, PhaseWorker, Plan
from tests.programs.scripted import Action, Result, Spec

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
TIMEOUT = 20.0
"""Seconds that a test waits for a message."""


class FakeControl:
    """Answers every request with the verdict that the test has set, and records the messages that it receives."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.claim_verdict = LeaseVerdict.GRANTED
        self.heartbeat_verdict = LeaseVerdict.GRANTED
        self.verdicts: dict[AttemptKey, LeaseVerdict] = {}
        """Verdicts on single attempts, which differ from the two above."""
        self.ttl = 0.9
        self.unanswered = 0
        """The number of next requests that get no answer."""
        self.claims: list[Claim] = []
        self.beats: list[Heartbeat] = []
        self.requests: list[LeaseRequest] = []
        self.events: list[WorkerEvent] = []
        self.headers: list[dict[str, str]] = []
        self.progress: list[PhaseProgress] = []
        self.dead: list[IncomingMessage] = []
        self._received = asyncio.Condition()

    async def start(self) -> None:
        """Start to consume."""
        await self.bus.consume(CLAIMS_QUEUE.name, self._lease, prefetch=10)
        await self.bus.consume(CONTROL_QUEUE.name, self._event, prefetch=10)
        await self.bus.consume(DEAD_QUEUE.name, self._dead, prefetch=10)
        await self.bus.listen(PROGRESS.name, "#", self._progress)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until `condition` holds; it is checked after every message. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT), self._received:
            await self._received.wait_for(condition)

    async def order(self, command: TrainModel) -> None:
        """Publish a command as the relay does."""
        await self.publish(encode(command), str(command.message_id))

    async def publish(self, body: bytes, message_id: str = "m") -> None:
        """Publish any body as a command."""
        await self.bus.publish(OutgoingMessage(COMMANDS.name, Phase.TRAIN, body, message_id, headers=TRACE))

    async def signal(self, command: TrainModel, verdict: LeaseVerdict) -> None:
        """Publish a signal to all workers, and give the same verdict on the attempt from now on."""
        self.verdicts[command.key] = verdict
        await self.forge_signal(command, verdict)

    async def forge_signal(self, command: TrainModel, verdict: LeaseVerdict) -> None:
        """Publish a signal to all workers that control does not confirm."""
        signal = AttemptSignal(key=command.key, verdict=verdict)
        await self.bus.publish(
            OutgoingMessage(SIGNALS.name, "", encode(signal), str(signal.message_id), persistent=False, mandatory=False)
        )

    async def waiting(self) -> int:
        """The number of commands that wait in the queue."""
        return await self.bus.depth(PHASE_QUEUES[Phase.TRAIN].name)

    async def _lease(self, message: IncomingMessage) -> None:
        request = decode(message.body, LeaseRequest)
        self.requests.append(request)
        self.claims += request.claims
        self.beats += request.heartbeats
        if self.unanswered > 0:
            self.unanswered -= 1
        elif message.reply_to is not None:
            reply = LeaseReply(request_id=request.request_id, answers=self._answers(request))
            outgoing = OutgoingMessage(
                "", message.reply_to, encode(reply), "r", correlation_id=message.correlation_id, mandatory=False
            )
            await self.bus.publish(outgoing)
        await self._acknowledge(message)

    def _answers(self, request: LeaseRequest) -> tuple[LeaseAnswer, ...]:
        asked = [(item, self.claim_verdict) for item in request.claims]
        asked += [(item, self.heartbeat_verdict) for item in request.heartbeats]
        return tuple(
            LeaseAnswer(claim_id=item.claim_id, verdict=self.verdicts.get(item.key, verdict), ttl=self.ttl)
            for item, verdict in asked
        )

    async def _event(self, message: IncomingMessage) -> None:
        self.events.append(decode(message.body, *get_args(WorkerEvent)))
        self.headers.append(dict(message.headers))
        await self._acknowledge(message)

    async def _dead(self, message: IncomingMessage) -> None:
        self.dead.append(message)
        await self._acknowledge(message)

    async def _progress(self, message: IncomingMessage) -> None:
        self.progress.append(decode(message.body, PhaseProgress))
        await self._acknowledge(message)

    async def _acknowledge(self, message: IncomingMessage) -> None:
        await message.ack()
        async with self._received:
            self._received.notify_all()


class Script:
    """A worker whose programs do the actions that the test chose for each command."""

    def __init__(self) -> None:
        self._actions: dict[UUID, tuple[Action, ...]] = {}
        self.inputs: dict[str, str] = {}
        self.optional: set[str] = set()
        self.planned: list[TrainModel] = []
        """The commands for which a job was planned."""
        self.worker = PhaseWorker(Phase.TRAIN, TrainModel, self._plan, self._conclude)

    def command(self, *actions: Action) -> TrainModel:
        """A command for the first attempt of a new task."""
        key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
        self._actions[key.task_id] = actions
        return TrainModel(
            key=key,
            output=attempt_prefix(key),
            seed=1,
            model=ModelSource(base="path:/model"),
            dataset=DatasetRef(dataset_id="rows", prefix=f"optimized/{key.task_id}/1/a1"),
            hyperparameters=Hyperparameters(),
        )

    def _plan(self, command: TrainModel) -> Plan:
        self.planned.append(command)
        actions = list(self._actions[command.key.task_id])
        return Plan("tests.programs.scripted", Spec(actions=actions), self.inputs, self.optional)

    def _conclude(self, command: TrainModel, finished: Finished) -> ModelTrained:
        result = Result.model_validate_json(finished.result.read_bytes())
        return ModelTrained(
            key=finished.key,
            claim_id=finished.claim_id,
            worker_id=finished.worker_id,
            seconds=finished.seconds,
            gpu_seconds=finished.gpu_seconds,
            model=ModelSource(base=f"artifact:{command.output}"),
            steps=result.answer,
        )


def job_of(settings: Settings, command: TrainModel) -> Path:
    """The folder in which the worker "w" runs a command."""
    return WorkerFolder.of(settings, Phase.TRAIN, "w").job_path(command.key)
