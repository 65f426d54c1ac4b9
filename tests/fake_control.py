"""Control as a worker sees it: it answers claims and heartbeats, and takes events and progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

from contracts.artifacts import attempt_prefix
from contracts.commands import TrainModel
from contracts.events import ModelTrained, WorkerEvent
from contracts.leases import AttemptSignal, Claim, Heartbeat, LeaseAnswer, LeaseReply, LeaseRequest, Verdict
from contracts.options import Hyperparameters
from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey, DatasetRef, ModelSource, Phase
from contracts.topology import CLAIMS_QUEUE, COMMANDS, CONTROL_QUEUE, DEAD_QUEUE, PHASE_QUEUES, PROGRESS, SIGNALS
from contracts.wire import decode, encode
from infra.bus.port import Bus, Incoming, Outgoing
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from infra.worker.plan import Finished, PhaseWorker, Plan
from tests.programs.scripted import Action, Result, Spec

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
PATIENCE = 20.0


class FakeControl:
    """Grants what it is asked unless told otherwise; a test reads what it heard."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.claim_verdict = Verdict.GRANTED
        self.beat_verdict = Verdict.GRANTED
        self.ttl = 0.9
        self.deaf = 0
        """Requests to leave unanswered."""
        self.claims: list[Claim] = []
        self.beats: list[Heartbeat] = []
        self.requests: list[LeaseRequest] = []
        self.events: list[WorkerEvent] = []
        self.headers: list[dict[str, str]] = []
        self.progress: list[PhaseProgress] = []
        self.dead: list[Incoming] = []
        self._news = asyncio.Condition()

    async def start(self) -> None:
        """Begin to serve."""
        await self.bus.consume(CLAIMS_QUEUE.name, self._lease, prefetch=10)
        await self.bus.consume(CONTROL_QUEUE.name, self._event, prefetch=10)
        await self.bus.consume(DEAD_QUEUE.name, self._dead, prefetch=10)
        await self.bus.listen(PROGRESS.name, "#", self._progress)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until `condition` holds, looking whenever something was heard."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(condition)

    async def order(self, command: TrainModel) -> None:
        """Publish a command as the relay does."""
        await self.publish(encode(command), str(command.message_id))

    async def publish(self, body: bytes, message_id: str = "m") -> None:
        """Publish anything at all as a command."""
        await self.bus.publish(Outgoing(COMMANDS.name, Phase.TRAIN, body, message_id, headers=TRACE))

    async def signal(self, command: TrainModel, verdict: Verdict) -> None:
        """Fan a signal out."""
        signal = AttemptSignal(key=command.key, verdict=verdict)
        await self.bus.publish(
            Outgoing(SIGNALS.name, "", encode(signal), str(signal.message_id), persistent=False, mandatory=False)
        )

    async def waiting(self) -> int:
        """Commands that no worker has taken."""
        return await self.bus.depth(PHASE_QUEUES[Phase.TRAIN].name)

    async def _lease(self, message: Incoming) -> None:
        request = decode(message.body, LeaseRequest)
        self.requests.append(request)
        self.claims += request.claims
        self.beats += request.heartbeats
        if self.deaf > 0:
            self.deaf -= 1
        elif message.reply_to is not None:
            reply = LeaseReply(request_id=request.request_id, answers=self._answers(request))
            outgoing = Outgoing(
                "", message.reply_to, encode(reply), "r", correlation_id=message.correlation_id, mandatory=False
            )
            await self.bus.publish(outgoing)
        await self._heard(message)

    def _answers(self, request: LeaseRequest) -> tuple[LeaseAnswer, ...]:
        return (
            *(LeaseAnswer(claim_id=c.claim_id, verdict=self.claim_verdict, ttl=self.ttl) for c in request.claims),
            *(LeaseAnswer(claim_id=b.claim_id, verdict=self.beat_verdict, ttl=self.ttl) for b in request.heartbeats),
        )

    async def _event(self, message: Incoming) -> None:
        self.events.append(decode(message.body, *get_args(WorkerEvent)))
        self.headers.append(dict(message.headers))
        await self._heard(message)

    async def _dead(self, message: Incoming) -> None:
        self.dead.append(message)
        await self._heard(message)

    async def _progress(self, message: Incoming) -> None:
        self.progress.append(decode(message.body, PhaseProgress))
        await self._heard(message)

    async def _heard(self, message: Incoming) -> None:
        await message.ack()
        async with self._news:
            self._news.notify_all()


class Script:
    """A worker whose programs do what the test wrote down for each command."""

    def __init__(self) -> None:
        self._actions: dict[UUID, tuple[Action, ...]] = {}
        self.inputs: dict[str, str] = {}
        self.optional: set[str] = set()
        self.worker = PhaseWorker(Phase.TRAIN, TrainModel, self._plan, self._conclude)

    def command(self, *actions: Action) -> TrainModel:
        """A command for a new task's first attempt."""
        key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
        self._actions[key.task_id] = actions
        return TrainModel(
            key=key,
            output=attempt_prefix(key),
            seed=1,
            model=ModelSource(base="path:/model"),
            dataset=DatasetRef(dataset_id="rows", prefix="optimized/rows"),
            hyperparameters=Hyperparameters(),
        )

    def _plan(self, command: TrainModel) -> Plan:
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
    """Where the worker named "w" runs a command."""
    return WorkerFolder.of(settings, Phase.TRAIN, "w").job_path(command.key)
