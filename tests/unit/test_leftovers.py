"""Nothing that a running task or a registered model refers to is ever among the leftovers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts.artifacts import MANIFEST, attempt_prefix, optimized_dataset_id
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained
from contracts.options import StopRules
from contracts.submissions import CancelTask, PauseTask, ResumeTask, RetryTask
from contracts.tasks import TERMINAL, AttemptKey, DatasetRef, DatasetRefs, ModelSource, PauseMode, Phase, TaskStatus
from control.machine.commands import next_iteration
from control.machine.machine import MachineEvent, RunState
from control.machine.task import IllegalTransition, Task
from control.maintenance.retention import Retention, clean, survey
from control.maintenance.unreferenced import artifact_of, layers, leftovers
from control.store.port import NewTask
from infra.settings import Settings
from tests.build import CLAIM, TASK, failed, key_of, lost, new_task, paused, score, start
from tests.conformance.stores import Clock, change_of
from tests.memory_store import MemoryStore

WEEK = 604_800.0
ENDLESS = StopRules(max_iterations=99)
WHO = {"claim_id": CLAIM, "worker_id": "worker-1"}


class Shelf:
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

    def lay(self, prefix: str, *names: str) -> None:
        for name in (*names, MANIFEST):
            self.objects[f"{prefix}/{name}"] = 10


@dataclass
class World:
    """Tasks that move, and what their attempts leave in the object store."""

    clock: Clock = field(default_factory=Clock)
    shelf: Shelf = field(default_factory=Shelf)

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda _: 15.0, self.clock)

    async def begun(self, number: int = 0, **spec: object) -> Task:
        task = new_task(task_id=uuid5(TASK, str(number)), **spec)
        await self.store.create([NewTask(task, "digest", "user")])
        return await self.after(task, start(task))

    async def after(self, task: Task, event: MachineEvent) -> Task:
        """The task after an event; one that it does not allow changes nothing."""
        try:
            change = change_of(task, event)
        except IllegalTransition:
            return task
        self._leave(task)
        await self.store.apply([change])
        return change.after

    async def phases(self, task: Task, count: int) -> Task:
        for _ in range(count):
            task = await self.after(task, result(task))
        return task

    async def taken_from(self, tasks: list[Task], choice: int) -> dict[str, object]:
        """What a new task is given: a dataset of one before it, and that one's model, where there are any."""
        made = [dataset for dataset in self.store.tables.datasets.values() if dataset.is_optimized]
        if not made:
            return {"stop": ENDLESS}
        dataset = made[choice % len(made)]
        given_rows = DatasetRefs(train=DatasetRef(dataset_id=dataset.dataset_id, prefix=dataset.storage_path))
        model = await self.store.model(tasks[choice % len(tasks)].task_id, None)
        return {"stop": ENDLESS, "datasets": given_rows, **({"model": model} if model else {})}

    def _leave(self, task: Task) -> None:
        """What the attempt of the moment wrote: its output, and two checkpoints where it trains."""
        if task.live and task.key is not None:
            prefix = attempt_prefix(task.key)
            self.shelf.lay(prefix, "rows")
            for step in (5, 40) if task.phase is Phase.TRAIN else ():
                self.shelf.lay(f"{prefix}/checkpoint-{step}", "state")

    async def cleaned(self) -> dict[str, str]:
        """What goes once all is a week old: artifact to reason."""
        await self.clock.pass_time(WEEK + 1)
        found = await clean(self.store, self.shelf, WEEK)  # type: ignore[arg-type]  # as far as it is used
        return {leftover.prefix: leftover.reason for leftover in found.leftovers}


def result(task: Task, value: float = 0.5) -> DataOptimized | ModelTrained | ModelEvaluated:
    """What completes the phase, with the references that real workers give."""
    key = key_of(task)
    output = attempt_prefix(key)
    match key.phase:
        case Phase.OPTIMIZE:
            rows = DatasetRef(dataset_id=optimized_dataset_id(key.task_id, key.iteration, key.attempt), prefix=output)
            return DataOptimized(key=key, **WHO, dataset=rows, splits=task.splits or output, rows=1)
        case Phase.TRAIN:
            return ModelTrained(key=key, **WHO, model=ModelSource(base="path:/m", adapters=(output,)), steps=1)
        case Phase.EVALUATE:
            return ModelEvaluated(key=key, **WHO, report=output, dev=score(value))


def turn(task: Task) -> MachineEvent:
    return next_iteration(task)


def prefix(task: Task, iteration: int, phase: Phase, attempt: int = 1) -> str:
    return attempt_prefix(AttemptKey(task_id=task.task_id, iteration=iteration, phase=phase, attempt=attempt))


async def test_a_failed_attempt_goes_and_the_running_one_stays() -> None:
    world = World()
    task = await world.begun()
    task = await world.after(task, failed(task))
    assert await world.cleaned() == {prefix(task, 1, Phase.OPTIMIZE): "attempt failed"}


async def test_what_is_young_stays() -> None:
    world = World()
    task = await world.begun()
    await world.after(task, failed(task))
    assert (await clean(world.store, world.shelf, WEEK)).leftovers == []  # type: ignore[arg-type]


async def test_the_manifest_goes_first() -> None:
    world = World()
    task = await world.begun()
    task = await world.after(task, failed(task))
    await world.cleaned()
    assert world.shelf.deleted == [f"{prefix(task, 1, Phase.OPTIMIZE)}/{name}" for name in (MANIFEST, "rows")]


async def test_the_datasets_between_the_splits_the_best_and_the_latest_go_when_the_task_has_ended() -> None:
    world = World()
    task = await world.begun(stop=ENDLESS)
    for iteration, value in enumerate((0.1, 0.2, 0.9, 0.3, 0.4)):
        task = await world.after(task, turn(task)) if iteration else task
        task = await world.phases(task, 2)
        task = await world.after(task, result(task, value))
    assert [reason for reason in (await world.cleaned()).values() if reason == "intermediate dataset"] == []
    task = await world.after(task, CancelTask(task_id=task.task_id))
    assert await world.cleaned() == {
        prefix(task, iteration, Phase.OPTIMIZE): "intermediate dataset" for iteration in (2, 4)
    }
    assert await world.store.dataset(optimized_dataset_id(task.task_id, 2, 1)) is None


async def test_a_dataset_that_another_task_was_given_stays() -> None:
    world = World()
    task = await world.begun()
    for _ in range(3):
        task = await world.phases(task, 3)
        task = await world.after(task, turn(task))
    task = await world.after(task, CancelTask(task_id=task.task_id))
    second = DatasetRef(dataset_id=optimized_dataset_id(task.task_id, 2, 1), prefix=prefix(task, 2, Phase.OPTIMIZE))
    await world.begun(2, datasets=DatasetRefs(train=second))
    assert second.prefix not in await world.cleaned()
    assert await world.store.dataset(second.dataset_id) is not None


async def test_the_checkpoint_that_is_gone_on_from_stays_and_the_older_one_goes() -> None:
    world = World()
    task = await world.phases(await world.begun(), 1)
    task = await world.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.CHECKPOINT))
    first = prefix(task, 1, Phase.TRAIN)
    task = await world.after(task, paused(task, f"{first}/checkpoint-40"))
    assert await world.cleaned() == {f"{first}/checkpoint-5": "superseded checkpoint"}
    task = await world.after(task, ResumeTask(task_id=task.task_id))
    assert await world.cleaned() == {}
    await world.phases(task, 1)
    gone = await world.cleaned()
    assert f"{first}/checkpoint-40" in gone
    assert first not in gone


async def test_a_survey_deletes_nothing() -> None:
    world = World()
    task = await world.begun()
    await world.after(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    found = await survey(world.store, world.shelf, WEEK)  # type: ignore[arg-type]
    assert (len(found.leftovers), found.size, world.shelf.deleted) == (1, 20, [])


@pytest.mark.parametrize(("days", "gone"), [(0.0, 0), (7.0, 1), (8.0, 0)])
async def test_control_cleans_what_is_older_than_the_setting(days: float, gone: int) -> None:
    world = World()
    task = await world.begun()
    await world.after(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    await Retention(world.store, world.shelf, Settings(retention_after=days)).tick()  # type: ignore[arg-type]
    assert len(world.shelf.deleted) == 2 * gone


async def test_one_control_process_cleans_at_a_time() -> None:
    world = World()
    task = await world.begun()
    await world.after(task, failed(task))
    await world.clock.pass_time(WEEK + 1)
    leader = MemoryStore(lambda _: 15.0, world.clock, world.store.tables)
    assert await leader.lead("retention")
    await Retention(world.store, world.shelf, Settings(retention_after=1)).tick()  # type: ignore[arg-type]
    assert world.shelf.deleted == []


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
    ("result", "result", "result", "failed", "lost", "paused", "pause", "now", "resume", "cancel", "retry", "turn")
)


def event(task: Task, move: str, number: int) -> MachineEvent | None:
    """The event that a move stands for, where there is something to be said about."""
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
        case "turn":
            return turn(task) if task.status is TaskStatus.LOOPING else None
    if not task.live:
        return None
    if move == "paused":
        at = f"{attempt_prefix(key_of(task))}/checkpoint-40" if task.phase is Phase.TRAIN else None
        return paused(task, at)
    return {"result": result, "failed": failed, "lost": lost}[move](task)


def strings(value: object) -> set[str]:
    if isinstance(value, dict):
        return {found for part in value.values() for found in strings(part)}
    if isinstance(value, list):
        return {found for part in value for found in strings(part)}
    return {value.removeprefix("artifact:")} if isinstance(value, str) else set()


def is_in(key: str, reference: str) -> bool:
    """Whether an object belongs to what is referred to; the checkpoints below a model are no part of it."""
    below = key.removeprefix(f"{reference}/")
    return below != key and not below.startswith("checkpoint-")


@examples(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.lists(MOVES, max_size=8), st.integers()), min_size=1, max_size=4))
async def test_nothing_that_is_referred_to_is_a_leftover(lives: list[tuple[int, list[str], int]]) -> None:
    world, tasks = World(), []
    for number, (smooth, moves, choice) in enumerate(lives):
        task = await world.begun(number, **await world.taken_from(tasks, choice))
        for _ in range(smooth):
            task = await world.after(task, turn(task) if task.status is TaskStatus.LOOPING else result(task))
        for step, move in enumerate(moves):
            moved = event(task, move, step)
            task = await world.after(task, moved) if moved else task
        tasks.append(task)
    await world.cleaned()
    live = [task for task in tasks if task.status not in TERMINAL]
    known = strings(json.loads(TypeAdapter(list[Task]).dump_json(live)))
    known |= strings([layer for model in world.store.tables.models.values() for layer in layers(model)])
    assert [key for key in world.shelf.deleted if any(is_in(key, reference) for reference in known)] == []


async def test_of_a_phase_that_runs_the_newest_complete_checkpoint_of_a_lost_attempt_stays() -> None:
    world = World()
    task = await world.phases(await world.begun(), 1)
    first = prefix(task, 1, Phase.TRAIN)
    task = await world.after(task, lost(task))
    (run,) = [run for run in await world.store.runs(task.task_id) if run.state is RunState.LOST]
    sizes = await world.shelf.sizes(f"{first}/")
    half = {key: size for key, size in sizes.items() if key != f"{first}/checkpoint-40/{MANIFEST}"}
    assert [found.prefix for found in leftovers(run, task, frozenset(), sizes)] == [first, f"{first}/checkpoint-5"]
    assert [found.prefix for found in leftovers(run, task, frozenset(), half)] == [first]
    ended = replace(task, status=TaskStatus.CANCELLED)
    assert len(leftovers(run, ended, frozenset(), sizes)) == 3
