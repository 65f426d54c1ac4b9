"""Control and a worker of each phase in this process, on the services that the settings name, with small programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from contracts.artifacts import optimized_dataset_id
from contracts.commands import EvaluateModel, OptimizeData, PhaseCommand, TrainModel
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained
from contracts.options import Metric
from contracts.report import Score
from contracts.submissions import CancelTask, CreateTask
from contracts.tasks import DatasetRef, Phase
from contracts.topology import TASKS
from infra.bus.connect import connect
from infra.bus.port import Bus, OutgoingMessage
from infra.settings import Settings
from infra.worker.host import WorkerHost
from infra.worker.plan import Finished, PhaseWorker, Plan
from tests.eventually import eventually
from tests.integration.control_parts import BODY, Running, add_dataset, control_running
from tests.programs.scripted import Action, Spec

ENDLESS_SEED = 666
"""The seed of a task whose first program runs until it is stopped."""
WITHIN = 15.0
"""Seconds in which a good message must have its effect."""


@dataclass(frozen=True)
class Stack:
    """The running services."""

    running: Running
    hosts: dict[Phase, WorkerHost]
    worker_buses: tuple[Bus, ...]

    async def submit(self, **more: Any) -> UUID:
        """Submit a task over the broker, as a user does, and return its id once the submission is accepted."""
        task = {"mode": "STANDARD", **BODY, **more}
        for extra in ("maxIterations", "performanceThreshold"):
            task.pop(extra)
        submission = {"kind": "create_task", "version": 1, "submission_id": str(uuid4()), "task": task}
        body = json.dumps(submission).encode()
        message = OutgoingMessage(TASKS.name, "create_task", body, str(uuid4()))
        answer = json.loads(await self.running.bus.request(message, timeout=WITHIN))
        assert answer["kind"] == "submission_accepted", answer
        return CreateTask.model_validate(submission).task_id

    async def check_a_good_task(self) -> None:
        """A submission is accepted; commands, claims and events lead the task to its end; its progress is shown."""
        task_id = await self.submit()
        await self.running.until(task_id, "COMPLETED", within=2 * WITHIN)
        control = self.running.control
        attempts = await control.parts.store.attempts(task_id)
        shown = [control.progress_hub.latest(each.key, each.worker_id or "") for each in attempts]
        assert any(shown), "no progress was shown"

    async def check_a_good_signal(self) -> None:
        """A cancellation stops a program at once, long before its next heartbeat."""
        task_id = await self.submit(seed=ENDLESS_SEED)

        async def running() -> bool:
            attempts = await self.running.store.attempts(task_id)
            return bool(attempts) and attempts[-1].state.value == "running"

        await eventually(running, "the program to run", WITHIN)
        await self.running.control.submissions.request(CancelTask(task_id=task_id))

        async def stopped() -> bool:
            return self.hosts[Phase.OPTIMIZE]._commands.busy == 0

        await eventually(stopped, "the signal to stop the program", self.hosts[Phase.OPTIMIZE]._leases._ttl / 3)

    async def not_ready(self) -> dict[str, str]:
        """What is not ready, by name."""
        missing = dict(await self.running.control.readiness())
        return missing | {phase.worker: "not consuming" for phase, host in self.hosts.items() if not host.ready}


@asynccontextmanager
async def stack_running(settings: Settings) -> AsyncIterator[Stack]:
    """Run control, an optimizer, a trainer and an evaluator."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(control_running(settings))
        await add_dataset(running.store)
        hosts, buses = {}, []
        for worker in WORKERS:
            bus = connect(settings)
            stack.push_async_callback(bus.close)
            await bus.start()
            host = WorkerHost(worker, bus, running.objects, settings)
            await host.start()
            stack.push_async_callback(host.stop)
            hosts[worker.phase] = host
            buses.append(bus)
        yield Stack(running, hosts, tuple(buses))


def _plan(command: PhaseCommand) -> Plan:
    actions: list[Action] = ["progress", "write"] if command.seed != ENDLESS_SEED else ["wait_for_stop"]
    return Plan("tests.programs.scripted", Spec(actions=actions))


def _optimized(command: OptimizeData, finished: Finished) -> DataOptimized:
    key = command.key
    dataset_id = optimized_dataset_id(key.task_id, key.iteration, key.attempt)
    dataset = DatasetRef(dataset_id=dataset_id, prefix=command.output)
    return DataOptimized(**finished.facts(), dataset=dataset, splits=command.output, rows=1)


def _trained(command: TrainModel, finished: Finished) -> ModelTrained:
    model = command.model.model_copy(update={"adapters": (command.output,)})
    return ModelTrained(**finished.facts(), model=model, steps=1)


def _evaluated(command: EvaluateModel, finished: Finished) -> ModelEvaluated:
    score = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=1)
    return ModelEvaluated(**finished.facts(), report=command.output, dev=score)


WORKERS: tuple[PhaseWorker[Any], ...] = (
    PhaseWorker(Phase.OPTIMIZE, OptimizeData, _plan, _optimized),
    PhaseWorker(Phase.TRAIN, TrainModel, _plan, _trained),
    PhaseWorker(Phase.EVALUATE, EvaluateModel, _plan, _evaluated),
)
