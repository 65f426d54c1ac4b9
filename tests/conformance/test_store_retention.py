"""The attempts that may be cleaned and the artifacts that are referred to, on both stores."""

from __future__ import annotations

from contracts.submissions import CancelTask
from contracts.tasks import DatasetRef, DatasetRefs, ModelSource, TaskMode
from control.machine.task import Task
from tests.build import completed, failed, key_of, own_prefix, start
from tests.conformance.stores import Bench

WEEK = 604_800.0


async def ended(bench: Bench, phases: int = 2) -> Task:
    """A task that was cancelled after this number of phases."""
    task = await bench.started()
    for _ in range(phases):
        task = await bench.after(task, completed(task))
    return await bench.after(task, CancelTask(task_id=task.task_id))


def first_rows(task: Task) -> DatasetRef:
    """The optimized rows of the first iteration."""
    assert task.current.dataset is not None
    return task.current.dataset


async def uncleaned(bench: Bench) -> list[str]:
    return [f"{attempt.key.phase} {attempt.state}" for attempt in await bench.store.uncleaned(WEEK)]


async def test_attempts_of_an_ended_task_may_be_cleaned_once_they_are_old(bench: Bench) -> None:
    await ended(bench)
    assert await uncleaned(bench) == []
    await bench.pass_time(WEEK + 1)
    assert sorted(await uncleaned(bench)) == ["evaluate cancelled", "optimize completed", "train completed"]


async def test_a_dataset_that_a_running_task_optimized_is_not_listed(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, failed(task))
    await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    assert await uncleaned(bench) == ["optimize failed"]


async def test_a_dataset_that_a_task_optimized_is_not_listed_until_the_end_of_the_task_is_old(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    await bench.after(task, CancelTask(task_id=task.task_id))
    assert await uncleaned(bench) == []


async def test_a_completed_evaluation_is_listed_once_its_task_has_ended_for_its_log(bench: Bench) -> None:
    task = await bench.started()
    for _ in range(3):
        task = await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    assert await uncleaned(bench) == ["train completed"]
    await bench.after(task, CancelTask(task_id=task.task_id))
    assert sorted(await uncleaned(bench)) == ["evaluate completed", "train completed"]


async def test_the_attempts_of_a_task_that_runs_once_are_all_listed_after_its_end(bench: Bench) -> None:
    task = await bench.started(mode=TaskMode.STANDARD)
    for _ in range(3):
        task = await bench.after(task, completed(task))
    await bench.pass_time(WEEK + 1)
    assert sorted(await uncleaned(bench)) == ["evaluate completed", "optimize completed", "train completed"]


async def test_an_attempt_that_was_cleaned_before_its_task_ended_is_listed_once_more(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, failed(task))
    await bench.pass_time(WEEK + 1)
    cleaned = await bench.store.uncleaned(WEEK)
    await bench.store.mark_cleaned([attempt.key for attempt in cleaned])
    assert await bench.store.uncleaned(WEEK) == []
    await bench.pass_time(1)
    await bench.after(task, CancelTask(task_id=task.task_id))
    listed = await bench.store.uncleaned(WEEK)
    await bench.store.mark_cleaned([attempt.key for attempt in listed])
    assert [attempt.key for attempt in listed] == [attempt.key for attempt in cleaned]
    assert await bench.store.uncleaned(WEEK) == []


async def test_the_oldest_attempts_come_first_and_no_more_than_requested(bench: Bench) -> None:
    task = await bench.started()
    first = key_of(task)
    task = await bench.after(task, failed(task))
    await bench.after(task, failed(task))
    await bench.pass_time(WEEK + 1)
    assert [attempt.key for attempt in await bench.store.uncleaned(WEEK, 1)] == [first]


async def test_a_cleaned_attempt_is_not_listed_again(bench: Bench) -> None:
    await ended(bench)
    await bench.pass_time(WEEK + 1)
    first, *rest = await bench.store.uncleaned(WEEK)
    await bench.store.mark_cleaned([first.key])
    assert await bench.store.uncleaned(WEEK) == rest


async def test_the_model_and_the_optimized_datasets_of_a_task_are_referenced(bench: Bench) -> None:
    spec = {
        "model": ModelSource(base="artifact:models/x/1/a1", adapters=("models/y/1/a1",)),
        "datasets": DatasetRefs(
            train=DatasetRef(dataset_id="t", prefix="optimized/x/1/a1"),
            pool=DatasetRef(dataset_id="p", prefix="datasets/1/p"),
        ),
    }
    await bench.created(**spec)
    assert await bench.store.referenced_prefixes() == {"artifact:models/x/1/a1", "models/y/1/a1", "optimized/x/1/a1"}


async def test_a_registered_model_is_referenced(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.after(task, completed(task))
    assert await bench.store.referenced_prefixes() == {own_prefix(task)}


async def test_a_dataset_that_no_task_was_given_is_deleted(bench: Bench) -> None:
    rows = first_rows(await ended(bench))
    await bench.store.delete_datasets([rows.prefix])
    assert await bench.store.dataset(rows.dataset_id) is None


async def test_a_dataset_that_a_task_was_given_is_not_deleted(bench: Bench) -> None:
    rows = first_rows(await ended(bench))
    await bench.created(datasets=DatasetRefs(train=rows))
    await bench.store.delete_datasets([rows.prefix, "datasets/1/raw"])
    assert await bench.store.dataset(rows.dataset_id) is not None


async def test_old_inbox_rows_of_ended_tasks_are_deleted_in_batches(bench: Bench) -> None:
    await ended(bench)
    await bench.pass_time(WEEK + 1)
    assert await bench.store.old_inbox(WEEK) == 4
    assert [await bench.store.delete_inbox(WEEK, 3) for _ in range(3)] == [3, 1, 0]


async def test_inbox_rows_of_a_task_that_has_not_ended_are_kept(bench: Bench) -> None:
    running = await bench.started()
    await bench.pass_time(WEEK + 1)
    assert await bench.store.delete_inbox(WEEK, 10) == 0
    (loaded,) = await bench.store.load([(running.task_id, start(running).message_id)])
    assert loaded is not None and loaded.duplicate
