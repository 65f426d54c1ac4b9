"""A replacement for control that grants every claim, and notes when."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import get_args
from uuid import uuid4

from benchmarks.start.spec import Result, Spec
from contracts.artifacts import attempt_prefix
from contracts.commands import TrainModel
from contracts.events import ModelTrained, PhaseFailed, WorkerEvent
from contracts.leases import LeaseAnswer, LeaseReply, LeaseRequest, LeaseVerdict
from contracts.options import Hyperparameters
from contracts.tasks import AttemptKey, DatasetRef, ModelSource, Phase
from contracts.topology import CLAIMS_QUEUE, COMMANDS, CONTROL_QUEUE
from contracts.wire import decode, encode
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage
from infra.worker.plan import Finished, PhaseWorker, Plan

PROGRAM = "benchmarks.start.program"
ROWS = "rows"
TTL = 60.0


class Granting:
    """Orders one job of a task after the other. Times are in seconds of the monotonic clock."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ended: asyncio.Queue[WorkerEvent] = asyncio.Queue()
        self._attempts = count(1)
        self._task = uuid4()
        self.granted = self.began = 0.0
        self.input = attempt_prefix(AttemptKey(task_id=self._task, iteration=1, phase=Phase.OPTIMIZE, attempt=1))
        """The prefix of the artifact that every job downloads."""

    async def start(self) -> None:
        """Begin to answer claims."""
        await self._bus.consume(CLAIMS_QUEUE.name, self._on_request, prefetch=10)
        await self._bus.consume(CONTROL_QUEUE.name, self._on_event, prefetch=10)

    def worker(self) -> PhaseWorker[TrainModel]:
        """A trainer whose program returns at once."""
        return PhaseWorker(Phase.TRAIN, TrainModel, _plan, self._conclude, PROGRAM)

    async def measure(self) -> float:
        """Order a job; return the seconds from the grant of its claim to the first line of its `main`."""
        key = AttemptKey(task_id=self._task, iteration=1, phase=Phase.TRAIN, attempt=next(self._attempts))
        command = TrainModel(
            key=key,
            output=attempt_prefix(key),
            seed=1,
            dataset=DatasetRef(dataset_id="ds-bench", prefix=self.input),
            model=ModelSource(base="path:/none"),
            hyperparameters=Hyperparameters(),
        )
        await self._bus.publish(OutgoingMessage(COMMANDS.name, Phase.TRAIN, encode(command), str(command.message_id)))
        event = await self._ended.get()
        if isinstance(event, PhaseFailed):
            raise RuntimeError(f"a job of the benchmark failed: {event.message}")  # noqa: TRY004  # no wrong argument
        return self.began - self.granted

    async def _on_request(self, message: IncomingMessage) -> None:
        request = decode(message.body, LeaseRequest)
        items = (*request.claims, *request.heartbeats)
        answers = [LeaseAnswer(claim_id=item.claim_id, verdict=LeaseVerdict.GRANTED, ttl=TTL) for item in items]
        reply = LeaseReply(request_id=request.request_id, answers=tuple(answers))
        if request.claims:
            self.granted = time.monotonic()
        if message.reply_to is not None:
            await self._bus.publish(
                OutgoingMessage(
                    "", message.reply_to, encode(reply), "r", correlation_id=message.correlation_id, mandatory=False
                )
            )
        await message.ack()

    async def _on_event(self, message: IncomingMessage) -> None:
        self._ended.put_nowait(decode(message.body, *get_args(WorkerEvent)))
        await message.ack()

    def _conclude(self, command: TrainModel, finished: Finished) -> ModelTrained:
        self.began = Result.model_validate_json(finished.result.read_bytes()).began
        model = ModelSource(base=f"artifact:{command.output}")
        return ModelTrained(**finished.facts(), model=model, steps=1)


def _plan(command: TrainModel) -> Plan:
    return Plan(PROGRAM, Spec(), {ROWS: command.dataset.prefix})
