"""What both stores say may be cleaned, and what is referred to."""

from __future__ import annotations

from contracts.submissions import CancelTask
from contracts.tasks import DatasetRef, DatasetRefs, ModelSource, TaskMode
from control.machine.task import Task
from tests.build import completed, failed, key_of, start
from tests.conformance.stores import Bench

WEEK = 604_800.0
ITS_DATASET = "rows-1"


async def ended(bench: Bench, phases: int = 2) -> Task:
    """A task that was cancelled after so many phases."""
    task = await bench.started()
    for _ in range(phases):
        task = await bench.after(task, completed(task))
    return await bench.after(task, CancelTask(task_id=task.task_id))


async def uncleaned(bench: Bench) -> list[str]:
    return [f"{run.key.phase} {run.state}" for run in await bench.store.uncleaned(WEEK)]


async def test_attempts_of_an_ended_task_may_be_cleaned_once_they_are_old(bench: Bench) -> None:
    await ended(bench)
    assert await uncleaned(bench) == []
    await bench.pass_time(WEEK + 1)
    assert sorted(await uncleaned(bench)) == ["evaluate cancelled", "optimize completed", "train completed"]


async def test_what_a_running_task_optimised_is_not_looked_at(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, failed(task))
    await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    assert await uncleaned(bench) == ["optimize failed"]


async def test_what_a_task_optimised_is_kept_until_its_end_is_old(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    await bench.after(task, CancelTask(task_id=task.task_id))
    assert await uncleaned(bench) == []


async def test_an_evaluation_is_never_looked_at(bench: Bench) -> None:
    task = await bench.started(mode=TaskMode.STANDARD)
    for _ in range(3):
        task = await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    assert sorted(await uncleaned(bench)) == ["optimize completed", "train completed"]


async def test_the_oldest_attempts_come_first_and_no_more_than_asked_for(bench: Bench) -> None:
    task = await bench.started()
    first = key_of(task)
    task = await bench.after(task, failed(task))
    await bench.after(task, failed(task))
    await bench.pass_time(WEEK + 1)
    assert [run.key for run in await bench.store.uncleaned(WEEK, 1)] == [first]


async def test_a_cleaned_attempt_is_not_looked_at_again(bench: Bench) -> None:
    await ended(bench)
    await bench.pass_time(WEEK + 1)
    first, *rest = await bench.store.uncleaned(WEEK)
    await bench.store.mark_cleaned([first.key])
    assert await bench.store.uncleaned(WEEK) == rest


async def test_what_tasks_were_given_and_models_are_made_of_is_named(bench: Bench) -> None:
    given = {
        "model": ModelSource(base="artifact:models/x/1/a1", adapters=("models/y/1/a1",)),
        "datasets": DatasetRefs(
            train=DatasetRef(dataset_id="t", prefix="optimized/x/1/a1"),
            pool=DatasetRef(dataset_id="p", prefix="datasets/1/p"),
        ),
    }
    await bench.created(**given)
    assert await bench.store.named() == {"artifact:models/x/1/a1", "models/y/1/a1", "optimized/x/1/a1"}


async def test_a_registered_model_is_named(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.after(task, completed(task))
    assert await bench.store.named() == {"models/1"}


async def test_a_dataset_that_no_task_was_given_leaves_the_register(bench: Bench) -> None:
    await ended(bench)
    await bench.store.forget_datasets(["optimized/1"])
    assert await bench.store.dataset(ITS_DATASET) is None


async def test_a_dataset_that_a_task_was_given_stays_on_the_register(bench: Bench) -> None:
    await ended(bench)
    given = DatasetRefs(train=DatasetRef(dataset_id=ITS_DATASET, prefix="optimized/1"))
    await bench.created(datasets=given)
    await bench.store.forget_datasets(["optimized/1", "datasets/1/raw"])
    assert await bench.store.dataset(ITS_DATASET) is not None


async def test_old_messages_of_ended_tasks_are_forgotten_in_batches(bench: Bench) -> None:
    await ended(bench)
    await bench.pass_time(WEEK + 1)
    assert await bench.store.old_inbox(WEEK) == 4
    assert [await bench.store.forget_inbox(WEEK, 3) for _ in range(3)] == [3, 1, 0]


async def test_messages_of_a_task_that_has_not_ended_are_remembered(bench: Bench) -> None:
    running = await bench.started()
    await bench.pass_time(WEEK + 1)
    assert await bench.store.forget_inbox(WEEK, 10) == 0
    (loaded,) = await bench.store.load([(running.task_id, start(running).message_id)])
    assert loaded is not None and loaded.seen
