"""Queries that change nothing, on both stores."""

from __future__ import annotations

from uuid import uuid4

import pytest

from contracts.submissions import CancelTask, StartTask
from contracts.tasks import TaskMode, TaskStatus
from control.store.port import TaskNotFound
from control.store.values import Dataset, TaskFilter
from tests.build import completed, start
from tests.conformance.stores import Bench


async def test_an_unknown_task_is_named(bench: Bench) -> None:
    missing = uuid4()
    with pytest.raises(TaskNotFound) as caught:
        await bench.store.task(missing)
    assert caught.value.task_id == missing


async def test_a_change_sets_updated_at_and_keeps_created_at(bench: Bench) -> None:
    task = await bench.created()
    before = await bench.store.task(task.task_id)
    await bench.after(task, start(task))
    after = await bench.store.task(task.task_id)
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at


async def test_tasks_come_in_pages_newest_first_with_the_number_of_all(bench: Bench) -> None:
    oldest, middle, newest = [await bench.created() for _ in range(3)]
    first, total = await bench.store.tasks(TaskFilter(), 1, 2)
    second, _ = await bench.store.tasks(TaskFilter(), 2, 2)
    assert [stored.task for stored in (*first, *second)] == [newest, middle, oldest]
    assert total == 3


async def test_a_page_after_the_last_is_empty_and_has_the_total(bench: Bench) -> None:
    await bench.created()
    assert await bench.store.tasks(TaskFilter(), 9, 10) == ([], 1)


async def test_tasks_are_filtered_by_status_user_and_mode(bench: Bench) -> None:
    pending = await bench.created(user_id=1)
    running = await bench.started(user_id=2, mode=TaskMode.STANDARD)
    for task_filter, expected in (
        (TaskFilter(status=TaskStatus.PENDING), pending),
        (TaskFilter(status=TaskStatus.OPTIMIZING), running),
        (TaskFilter(user_id=1), pending),
        (TaskFilter(mode="STANDARD"), running),
        (TaskFilter(TaskStatus.OPTIMIZING, 2, "STANDARD"), running),
    ):
        found, total = await bench.store.tasks(task_filter, 1, 10)
        assert ([stored.task for stored in found], total) == ([expected], 1)


async def test_a_filter_that_no_task_passes_returns_no_task(bench: Bench) -> None:
    await bench.created(user_id=1)
    assert await bench.store.tasks(TaskFilter(TaskStatus.FAILED, 1), 1, 10) == ([], 0)


async def test_counts_name_every_status(bench: Bench) -> None:
    await bench.created()
    await bench.started()
    counts = await bench.store.counts()
    assert counts == dict.fromkeys(TaskStatus, 0) | {TaskStatus.PENDING: 1, TaskStatus.OPTIMIZING: 1}


async def test_history_continues_after_an_id(bench: Bench) -> None:
    task = await bench.started()
    other = await bench.started()
    await bench.after(task, completed(task))
    rows = await bench.store.history(task.task_id)
    assert [row.kind for row in rows] == ["create_task", "start_task", "data_optimized"]
    assert await bench.store.history(task.task_id, after=rows[0].id) == rows[1:]
    assert await bench.store.history(task.task_id, after=rows[0].id, limit=1) == rows[1:2]
    assert {row.task_id for row in await bench.store.history(other.task_id)} == {other.task_id}


async def test_a_task_that_was_not_started_has_no_attempts(bench: Bench) -> None:
    task = await bench.created()
    assert await bench.store.attempts(task.task_id) == []


async def test_a_task_cancelled_before_its_start_is_kept(bench: Bench) -> None:
    task = await bench.created()
    cancelled = await bench.after(task, CancelTask(task_id=task.task_id, reason="never mind"))
    assert (await bench.store.task(task.task_id)).task == cancelled


async def test_a_users_datasets_come_newest_first(bench: Bench) -> None:
    now = await bench.store.now()
    for dataset_id, user_id in (("first", 1), ("second", 1), ("foreign", 2)):
        await bench.store.add_dataset(
            Dataset(dataset_id, "n", "p", 1, None, "training", None, user_id, False, None, now)
        )
    assert [dataset.dataset_id for dataset in await bench.store.datasets(1)] == ["second", "first"]


async def test_the_prefixes_of_all_users_datasets_come_in_pages(bench: Bench) -> None:
    now = await bench.store.now()
    for name, user_id in (("c", 1), ("a", 2), ("b", 1)):
        await bench.store.add_dataset(
            Dataset(name, "n", f"datasets/{name}", 1, None, "training", None, user_id, False, None, now)
        )
    first = await bench.store.dataset_paths("", 2)
    assert (first, await bench.store.dataset_paths(first[-1], 2)) == (["datasets/a", "datasets/b"], ["datasets/c"])


async def test_a_users_datasets_come_in_pages(bench: Bench) -> None:
    now = await bench.store.now()
    for dataset_id in ("first", "second", "third"):
        await bench.store.add_dataset(Dataset(dataset_id, "n", "p", 1, None, "training", None, 1, False, None, now))
    pages = [await bench.store.datasets(1, page, 2) for page in (1, 2, 3)]
    assert [[dataset.dataset_id for dataset in page] for page in pages] == [["third", "second"], ["first"], []]


async def test_the_attempts_of_a_task_come_in_pages(bench: Bench) -> None:
    task = await bench.started()
    await bench.after(task, completed(task))
    everything = await bench.store.attempts(task.task_id)
    pages = [await bench.store.attempts(task.task_id, page=page, size=1) for page in (1, 2, 3)]
    assert [len(page) for page in pages] == [1, 1, 0]
    assert [*pages[0], *pages[1]] == everything


async def test_an_unknown_dataset_is_none(bench: Bench) -> None:
    assert await bench.store.dataset("missing") is None


async def test_datasets_are_found_together(bench: Bench) -> None:
    now = await bench.store.now()
    await bench.store.add_dataset(Dataset("existing", "n", "p", 1, None, "training", None, 1, False, None, now))
    assert list(await bench.store.find_datasets(["missing", "existing"])) == ["existing"]


async def test_the_attempts_of_several_tasks_are_read_together(bench: Bench) -> None:
    tasks = [await bench.created(), await bench.created()]
    for task in tasks:
        await bench.after(task, StartTask(task_id=task.task_id))
    attempts = await bench.store.attempts(*(task.task_id for task in tasks))
    assert [attempt.key.task_id for attempt in attempts] == [task.task_id for task in tasks]


async def test_an_empty_outbox_has_no_age(bench: Bench) -> None:
    assert await bench.store.outbox_depth() == (0, 0.0)


async def test_one_attempt_is_found_by_its_key(bench: Bench) -> None:
    task = await bench.started()
    (attempt,) = await bench.store.attempts(task.task_id)
    assert await bench.store.attempt(attempt.key) == attempt
    assert await bench.store.attempt(attempt.key.model_copy(update={"attempt": 2})) is None
