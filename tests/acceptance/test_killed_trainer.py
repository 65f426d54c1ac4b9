"""A trainer is killed: another one continues from its checkpoint, and the result is the same to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.artifacts import attempt_prefix, optimized_dataset_id
from contracts.events import DataOptimized
from contracts.http import StandardTaskRequest
from contracts.progress import PhaseProgress
from contracts.submissions import CreateTask
from contracts.tasks import DatasetRef, Phase
from contracts.topology import PROGRESS
from contracts.wire import decode
from control.machine.machine import AttemptState
from control.store.values import AttemptRecord
from infra.artifacts import read_manifest, upload
from infra.bus.port import IncomingMessage
from infra.settings import Settings
from infra.worker.folders import WorkerFolder
from tests.acceptance.processes import Service, environment
from tests.eventually import eventually
from tests.integration.control_parts import PuppetWorker, Running, add_dataset, control_running
from tests.models import colour_rows, save_tiny_model, write_rows

QUICK = {"train_ttl": 1.5, "reaper_tick": 0.2}
SHORT = {"maxSteps": 300, "checkpointEvery": 25, "tokensPerBatch": 96, "maxLength": 48, "learningRate": 0.005}
TIMEOUT = 60.0


class TrainingClient:
    """Starts trainings and records their progress."""

    def __init__(self, running: Running, model: Path, rows: Path, hyperparameters: dict[str, Any]) -> None:
        self._running = running
        self._rows = rows
        self._optimizer = PuppetWorker(running.bus, Phase.OPTIMIZE)
        self._body = {"task_name": "t", "model_name": str(model), "user_id": 1, "auto_start": True}
        self._body["hyperparameters"] = hyperparameters
        self._created = 0
        self.steps: list[PhaseProgress] = []

    async def open(self) -> None:
        await self._optimizer.start()
        await self._running.bus.listen(PROGRESS.name, "#", self._record_progress)
        self._body["dataset_id"] = await add_dataset(self._running.store)

    async def _record_progress(self, message: IncomingMessage) -> None:
        self.steps.append(decode(message.body, PhaseProgress))

    async def start_training(self) -> UUID:
        """Create a task and complete its optimization, so that a trainer gets its command; returns its id."""
        body = StandardTaskRequest.model_validate(self._body)
        task = (await self._running.control.submissions.create(CreateTask(task=body))).task
        self._created += 1
        command, claim_id = await self._optimizer.command(self._created), uuid4()
        await self._optimizer.claim(command, claim_id)
        await upload(self._running.objects, command.output, self._rows)
        rows = DatasetRef(dataset_id=optimized_dataset_id(task.task_id, 1, 1), prefix=command.output)
        common = {"key": command.key, "claim_id": claim_id, "worker_id": "w"}
        await self._optimizer.report(DataOptimized(**common, dataset=rows, splits=command.output, rows=24))
        return task.task_id

    async def training_attempts(self, task: UUID) -> list[AttemptRecord]:
        return [attempt for attempt in await self._running.store.attempts(task) if attempt.key.phase is Phase.TRAIN]

    async def outcome(self, task: UUID) -> tuple[list[Any], dict[str, str]]:
        """The losses of the completed training, and the digests of the files that hold the parameters."""
        await self._running.until(task, "EVALUATING", TIMEOUT)
        (completed,) = [
            attempt for attempt in await self.training_attempts(task) if attempt.state is AttemptState.COMPLETED
        ]
        prefix, objects = attempt_prefix(completed.key), self._running.objects
        manifest = await read_manifest(objects, prefix)
        assert manifest is not None
        record = json.loads(await objects.get(f"{prefix}/training.json"))
        return record["losses"], {f.name: f.sha256 for f in manifest.files if f.name.endswith(".safetensors")}


def trainer(name: str, settings: Settings, folder: Path) -> Service:
    return Service(name, ["worker", "trainer"], environment(settings, worker_id=name), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [{"method": "full"}, {"method": "lora", "loraRank": 4, "loraDropout": 0.1}],
    ids=["full", "lora with dropout"],
)
async def test_a_killed_training_goes_on_from_its_checkpoint_and_ends_as_if_it_had_never_been_killed(
    settings: Settings, tmp_path: Path, method: dict[str, Any]
) -> None:
    quick = settings.model_copy(update=QUICK)
    first, second = (trainer(name, quick, tmp_path) for name in ("first", "second"))
    async with control_running(quick) as running:
        write_rows(tmp_path / "rows" / "train.jsonl", colour_rows(4))
        model = save_tiny_model(tmp_path / "model")
        client = TrainingClient(running, model, tmp_path / "rows", SHORT | method)
        await client.open()
        try:
            first.start()
            killed = await client.start_training()
            await eventually(lambda: has_written_a_checkpoint(quick, "first"), "a checkpoint", TIMEOUT)
            first.suspend_children()  # the training must not end before its worker is killed
            await eventually(lambda: has_saved(client, killed), "a checkpoint in the store", TIMEOUT)
            first.kill()
            second.start()
            uninterrupted = await client.start_training()
            assert await client.outcome(killed) == await client.outcome(uninterrupted)
        finally:
            first.stop()
            second.stop()
        lost, resumed = await client.training_attempts(killed)
    assert (lost.state, lost.worker_id, resumed.worker_id) == (AttemptState.LOST, "first", "second")
    assert lost.checkpoint is not None
    first_step = min(step.done for step in client.steps if step.key == resumed.key and step.stage == "training")
    assert first_step >= int(lost.checkpoint.rpartition("-")[2])


async def has_written_a_checkpoint(settings: Settings, worker: str) -> bool:
    jobs = WorkerFolder.of(settings, Phase.TRAIN, worker).jobs
    return any(jobs.glob("*/checkpoints/step-*"))


async def has_saved(client: TrainingClient, task: UUID) -> bool:
    return any(attempt.checkpoint for attempt in await client.training_attempts(task))
