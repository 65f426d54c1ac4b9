"""Retention deletes no artifact that an active task or a registered model refers to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts.artifacts import MANIFEST, attempt_prefix, log_part, log_prefix, optimized_dataset_id
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained
from contracts.options import StopRules
from contracts.submissions import CancelTask, PauseTask, ResumeTask, RetryTask
from contracts.tasks import TERMINAL, AttemptKey, DatasetRef, DatasetRefs, ModelSource, PauseMode, Phase, TaskStatus
from control.machine.commands import next_iteration
from control.machine.machine import AttemptState, MachineEvent
from control.machine.task import IllegalTransition, Task
from control.maintenance.retention import Retention, clean, preview
from control.maintenance.unreferenced import artifact_of, deletable_log, layers, unreferenced
from control.store.values import NewTask
from infra.settings import Settings
from tests.build import CLAIM, TASK, failed, key_of, lost, new_task, paused, score, start
from tests.conformance.stores import Clock, change_of
from tests.memory_store import MemoryStore

WEEK = 604_800.0
ENDLESS = StopRules(max_iterations=99)
WORKER_FIELDS = {"claim_id": CLAIM, "worker_id": "worker-1"}


class FakeObjectStore:
    """An object store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, int] = {}
        self.deleted: list[str] = []

    async def sizes(self, prefix: str) -> dict[str, int]:
        return {key: size for key, size in sorted(self.objects.items()) if key.startswith(prefix)}

    async def delete(self, keys: list[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)
            self.deleted.append(key)

    def add(self, prefix: str, *names: str) -> None:
        for name in (*names, MANIFEST):
            self.objects[f"{prefix}/{name}"] = 10


@dataclass
class World:
    """Tasks, and the artifacts that their attempts write to an object store."""

    clock: Clock = field(default_factory=Clock)
    object_store: FakeObjectStore = field(default_factory=FakeObjectStore)

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda _: 15.0, self.clock)

    async def start_task(self, number: int = 0, **spec: object) -> Task:
        task = new_task(task_id=uuid5(TASK, str(number)), **spec)
        await self.store.create([NewTask(task, "digest", "user")])
        return await self.apply(task, start(task))

    async def apply(self, task: Task, event: MachineEvent) -> Task:
        """Apply an event if the task allows it, and return the task."""
        try:
            change = change_of(task, event)
        except IllegalTransition:
            return task
        self._write_artifacts(task)
        await self.store.apply([change])
        return change.after

    async def complete_phases(self, task: Task, count: int) -> Task:
        for _ in range(count):
            task = await self.apply(task, result(task))
        return task

    async def inputs_from(self, tasks: list[Task], choice: int) -> dict[str, object]:
        """Fields of a new task: a dataset and a model of earlier tasks, if there are any."""
        made = [dataset for dataset in self.store.tables.datasets.values() if dataset.is_optimized]
        if not made:
            return {"stop": ENDLESS}
        dataset = made[choice % len(made)]
        rows = DatasetRefs(train=DatasetRef(dataset_id=dataset.dataset_id, prefix=dataset.storage_path))
        model = await self.store.model(tasks[choice % len(tasks)].task_id, None)
        return {"stop": ENDLESS, "datasets": rows, **({"model": model} if model else {})}

    def _write_artifacts(self, task: Task) -> None:
        """Write what the active attempt leaves: its output, and two checkpoints if it trains."""
        if task.attempt_active and task.key is not None:
            prefix = attempt_prefix(task.key)
            self.object_store.add(prefix, "rows")
            for step in (5, 40) if task.phase is Phase.TRAIN else ():
                self.object_store.add(f"{prefix}/checkpoint-{step}", "state")

    async def clean_after_a_week(self) -> dict[str, str]:
        """Clean when everything is a week old, and return the reason for every deleted artifact."""
        await self.clock.pass_time(WEEK + 1)
        cleaned = await clean(self.store, self.object_store, WEEK)  # type: ignore[arg-type]  # a partial fake
        return {artifact.prefix: artifact.reason for artifact in cleaned.unreferenced}


def result(task: Task, value: float = 0.5) -> DataOptimized | ModelTrained | ModelEvaluated:
    """The event that completes the phase, with the references that real workers set."""
    key = key_of(task)
    output = attempt_prefix(key)
    match key.phase:
        case Phase.OPTIMIZE:
            rows = DatasetRef(dataset_id=optimized_dataset_id(key.task_id, key.iteration, key.attempt), prefix=output)
            return DataOptimized(key=key, **WORKER_FIELDS, dataset=rows, splits=task.splits or output, rows=1)
        case Phase.TRAIN:
            return ModelTrained(
                key=key, **WORKER_FIELDS, model=ModelSource(base="path:/m", adapters=(output,)), steps=1
            )
        case Phase.EVALUATE:
            return ModelEvaluated(key=key, **WORKER_FIELDS, report=output, dev=score(value))


def prefix(task: Task, iteration: int, phase: Phase, attempt: int = 1) -> str:
    return attempt_prefix(AttemptKey(task_id=task.task_id, iteration=iteration, phase=phase, attempt=attempt))


async def test_a_failed_attempt_goes_and_the_running_one_stays() -> None:
    world = World()
    task = await world.start_task()
    task = await world.apply(task, failed(task))
    assert await world.clean_after_a_week() == {prefix(task, 1, Phase.OPTIMIZE): "attempt failed"}


async def test_what_is_young_stays() -> None:
    world = World()
    task = await world.start_task()
    await world.apply(task, failed(task))
    assert (await clean(world.store, world.object_store, WEEK)).unreferenced == []  # type: ignore[arg-type]


async def test_the_log_of_a_failed_attempt_stays_until_its_task_has_ended() -> None:
    world = World()
    task = await world.start_task()
    key = key_of(task)
    logs = [log_part(key, start) for start in (0, 1_000_000)]
    world.object_store.objects |= dict.fromkeys(logs, 5)
    task = await world.apply(task, failed(task))
    assert await world.clean_after_a_week() == {prefix(task, 1, Phase.OPTIMIZE): "attempt failed"}
    assert [name for name in world.object_store.objects if name in logs] == logs
    await world.apply(task, CancelTask(task_id=task.task_id))
    assert (await world.clean_after_a_week())[log_prefix(key)] == "log of an ended task"
    assert [name for name in world.object_store.objects if name in logs] == []


async def test_the_log_of_a_task_that_has_not_ended_is_no_artifact_to_delete() -> None:
    world = World()
    task = await world.start_task()
    (attempt,) = await world.store.attempts(task.task_id)
    ended = await world.apply(task, CancelTask(task_id=task.task_id))
    sizes = {log_part(attempt.key, 0): 5}
    assert deletable_log(attempt, task, sizes) == []
    assert [artifact.size for artifact in deletable_log(attempt, ended, sizes)] == [5]
    assert deletable_log(attempt, ended, {}) == []


async def test_only_the_logs_of_attempts_that_are_old_are_deleted() -> None:
    world = World()
    task = await world.start_task()
    other = log_part(key_of(task).model_copy(update={"task_id": uuid5(TASK, "other")}), 0)
    young = log_part(key_of(task), 0)
    world.object_store.objects |= {other: 5, young: 5}
    await world.apply(task, CancelTask(task_id=task.task_id))
    await clean(world.store, world.object_store, WEEK)  # type: ignore[arg-type]  # a partial fake
    assert {other, young} <= world.object_store.objects.keys()
    await world.clean_after_a_week()
    assert other in world.object_store.objects


async def test_the_manifest_goes_first() -> None:
    world = World()
    task = await world.start_task()
    task = await world.apply(task, failed(task))
    await world.clean_after_a_week()
    assert world.object_store.deleted == [f"{prefix(task, 1, Phase.OPTIMIZE)}/{name}" for name in (MANIFEST, "rows")]


async def test_the_datasets_between_the_splits_the_best_and_the_latest_go_when_the_task_has_ended() -> None:
    world = World()
    task = await world.start_task(stop=ENDLESS)
    for iteration, value in enumerate((0.1, 0.2, 0.9, 0.3, 0.4)):
        task = await world.apply(task, next_iteration(task)) if iteration else task
        task = await world.complete_phases(task, 2)
        task = await world.apply(task, result(task, value))
    assert [reason for reason in (await world.clean_after_a_week()).values() if reason == "intermediate dataset"] == []
    task = await world.apply(task, CancelTask(task_id=task.task_id))
    assert await world.clean_after_a_week() == {
        prefix(task, iteration, Phase.OPTIMIZE): "intermediate dataset" for iteration in (2, 4)
    }
    assert await world.store.dataset(optimized_dataset_id(task.task_id, 2, 1)) is None


async def test_a_dataset_that_another_task_was_given_stays() -> None:
    world = World()
    task = await world.start_task()
    for _ in range(3):
        task = await world.complete_phases(task, 3)
        task = await world.apply(task, next_iteration(task))
    task = await world.apply(task, CancelTask(task_id=task.task_id))
    second = DatasetRef(dataset_id=optimized_dataset_id(task.task_id, 2, 1), prefix=prefix(task, 2, Phase.OPTIMIZE))
    await world.start_task(2, datasets=DatasetRefs(train=second))
    assert second.prefix not in await world.clean_after_a_week()
    assert await world.store.dataset(second.dataset_id) is not None


async def test_the_checkpoint_to_continue_from_stays_and_the_older_one_goes() -> None:
    world = World()
    task = await world.complete_phases(await world.start_task(), 1)
    task = await world.apply(task, PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT))
    first = prefix(task, 1, Phase.TRAIN)
    task = await world.apply(task, paused(task, checkpoint=f"{first}/checkpoint-40"))
    assert await world.clean_after_a_week() == {f"{first}/checkpoint-5": "superseded checkpoint"}
    task = await world.apply(task, ResumeTask(task_id=task.task_id))
    assert await world.clean_after_a_week() == {}
    await world.complete_phases(task, 1)
    deleted = await world.clean_after_a_week()
    assert f"{first}/checkpoint-40" in deleted
    assert first not in deleted


async def test_a_preview_deletes_nothing() -> None:
    world = World()
    task = await world.start_task()
    await world.apply(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    previewed = await preview(world.store, world.object_store, WEEK)  # type: ignore[arg-type]
    assert (len(previewed.unreferenced), previewed.size, world.object_store.deleted) == (1, 20, [])


@pytest.mark.parametrize(("days", "artifacts"), [(0.0, 0), (7.0, 1), (8.0, 0)])
async def test_control_cleans_what_is_older_than_the_setting(days: float, artifacts: int) -> None:
    world = World()
    task = await world.start_task()
    await world.apply(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    await Retention(world.store, world.object_store, Settings(retention_after=days)).tick()  # type: ignore[arg-type]
    assert len(world.object_store.deleted) == 2 * artifacts


async def test_one_control_process_cleans_at_a_time() -> None:
    world = World()
    task = await world.start_task()
    await world.apply(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    leader = MemoryStore(lambda _: 15.0, world.clock, world.store.tables)
    assert await leader.try_lead("retention")
    await Retention(world.store, world.object_store, Settings(retention_after=1)).tick()  # type: ignore[arg-type]
    assert world.object_store.deleted == []


@pytest.mark.parametrize(
    ("reference", "artifact"),
    [
        ("artifact:models/t/1/a2", "models/t/1/a2"),
        ("optimized/t/1/a2#splits/", "optimized/t/1/a2"),
        ("models/t/1/a2/checkpoint-40/state", "models/t/1/a2/checkpoint-40"),
        ("models/t/1/a2/checkpoints.json", "models/t/1/a2"),
        ("models/t/1/a21/x", "models/t/1/a21"),
        ("datasets/1/d", "datasets/1/d"),
        ("hub:models/t", "hub:models/t"),
    ],
)
def test_a_reference_lies_in_one_artifact(reference: str, artifact: str) -> None:
    assert artifact_of(reference) == artifact


MOVES = st.sampled_from(
    ("result", "result", "result", "failed", "lost", "paused", "pause", "now", "resume", "cancel", "retry", "next")
)


def event(task: Task, move: str, number: int) -> MachineEvent | None:
    """The event of a move, or None if the task cannot have it now."""
    request = {"task_id": task.task_id, "submission_id": uuid5(task.task_id, str(number))}
    match move:
        case "pause":
            return PauseTask(**request, mode=PauseMode.CHECKPOINT)
        case "now":
            return PauseTask(**request, mode=PauseMode.NOW)
        case "resume":
            return ResumeTask(**request)
        case "cancel":
            return CancelTask(**request)
        case "retry":
            return RetryTask(**request)
        case "next":
            return next_iteration(task) if task.status is TaskStatus.LOOPING else None
    if not task.attempt_active:
        return None
    if move == "paused":
        at = f"{attempt_prefix(key_of(task))}/checkpoint-40" if task.phase is Phase.TRAIN else None
        return paused(task, checkpoint=at)
    return {"result": result, "failed": failed, "lost": lost}[move](task)


def strings(value: object) -> set[str]:
    if isinstance(value, dict):
        return {found for part in value.values() for found in strings(part)}
    if isinstance(value, list):
        return {found for part in value for found in strings(part)}
    return {value.removeprefix("artifact:")} if isinstance(value, str) else set()


def is_in(key: str, reference: str) -> bool:
    """Whether an object belongs to the artifact `reference`; the checkpoints below a model do not belong to it."""
    below = key.removeprefix(f"{reference}/")
    return below != key and not below.startswith("checkpoint-")


@examples(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.lists(MOVES, max_size=8), st.integers()), min_size=1, max_size=4))
async def test_no_artifact_that_is_referred_to_is_deleted(histories: list[tuple[int, list[str], int]]) -> None:
    world, tasks = World(), []
    for number, (completions, moves, choice) in enumerate(histories):
        task = await world.start_task(number, **await world.inputs_from(tasks, choice))
        for _ in range(completions):
            task = await world.apply(task, next_iteration(task) if task.status is TaskStatus.LOOPING else result(task))
        for step, move in enumerate(moves):
            moved = event(task, move, step)
            task = await world.apply(task, moved) if moved else task
        tasks.append(task)
    await world.clean_after_a_week()
    active = [task for task in tasks if task.status not in TERMINAL]
    references = strings(json.loads(TypeAdapter(list[Task]).dump_json(active)))
    references |= strings([layer for model in world.store.tables.models.values() for layer in layers(model)])
    assert [key for key in world.object_store.deleted if any(is_in(key, reference) for reference in references)] == []


async def test_the_newest_complete_checkpoint_of_a_lost_attempt_stays_while_its_phase_runs() -> None:
    world = World()
    task = await world.complete_phases(await world.start_task(), 1)
    first = prefix(task, 1, Phase.TRAIN)
    task = await world.apply(task, lost(task))
    (attempt,) = [attempt for attempt in await world.store.attempts(task.task_id) if attempt.state is AttemptState.LOST]
    sizes = await world.object_store.sizes(f"{first}/")
    incomplete = {key: size for key, size in sizes.items() if key != f"{first}/checkpoint-40/{MANIFEST}"}
    assert [found.prefix for found in unreferenced(attempt, task, frozenset(), sizes)] == [
        first,
        f"{first}/checkpoint-5",
    ]
    assert [found.prefix for found in unreferenced(attempt, task, frozenset(), incomplete)] == [first]
    ended = replace(task, status=TaskStatus.CANCELLED)
    assert len(unreferenced(attempt, ended, frozenset(), sizes)) == 3
