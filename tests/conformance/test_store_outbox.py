"""Outbox rows, and commands and events that were lost after their publication, on both stores."""

from __future__ import annotations

from uuid import uuid4

from contracts.events import NextIteration
from contracts.submissions import PauseTask
from contracts.tasks import Phase
from control.machine.commands import OutboxMessage, command_for, next_iteration
from tests.build import completed, failed, key_of, start
from tests.conformance.stores import Bench, applied_with, change_of


async def test_a_row_that_is_due_is_locked_for_its_writer_and_free_after_five_seconds(bench: Bench) -> None:
    task = await bench.started()
    assert await bench.store.lock_outbox(10, lock_seconds=5) == []
    await bench.pass_time(5)
    assert [row.message_id for row in await bench.store.lock_outbox(10, lock_seconds=5)] == [
        command_for(task).message_id
    ]


async def test_a_locked_row_is_the_row_that_apply_returned(bench: Bench) -> None:
    task = await bench.started()
    applied = await applied_with(bench.store, task, completed(task))
    await bench.pass_time(6)
    assert (await bench.store.lock_outbox(10, lock_seconds=5))[1:] == list(applied.outbox)


async def test_a_locked_row_is_free_again_when_its_lock_expires(bench: Bench) -> None:
    await bench.started()
    await bench.pass_time(6)
    assert len(await bench.store.lock_outbox(10, lock_seconds=30)) == 1
    assert await bench.store.lock_outbox(10, lock_seconds=30) == []
    await bench.pass_time(30)
    assert len(await bench.store.lock_outbox(10, lock_seconds=30)) == 1


async def test_no_more_rows_are_locked_than_requested(bench: Bench) -> None:
    for _ in range(3):
        await bench.started()
    await bench.pass_time(6)
    assert len(await bench.store.lock_outbox(2, lock_seconds=30)) == 2
    assert len(await bench.store.lock_outbox(2, lock_seconds=30)) == 1


async def test_a_delayed_row_can_be_locked_when_it_is_due(bench: Bench) -> None:
    task = await bench.started()
    await bench.store.delete_outbox([1])
    await bench.after(task, failed(task))
    await bench.pass_time(4.5)
    assert await bench.store.lock_outbox(10, lock_seconds=5) == []
    await bench.pass_time(0.5)
    (row,) = await bench.store.lock_outbox(10, lock_seconds=5)
    assert row.headers == {"traceparent": "00-1-1-01"}


async def test_a_deleted_row_is_gone(bench: Bench) -> None:
    task = await bench.created()
    applied = await applied_with(bench.store, task, start(task))
    await bench.store.delete_outbox([row.id for row in applied.outbox])
    assert await bench.store.outbox_depth() == (0, 0.0)


async def test_confirmed_rows_are_deleted_with_the_next_changes(bench: Bench) -> None:
    task = await bench.started()
    await bench.pass_time(6)
    (row,) = await bench.store.lock_outbox(10, lock_seconds=5)
    applied = await bench.store.apply([change_of(task, completed(task))], [row.id])
    await bench.pass_time(6)
    assert await bench.store.lock_outbox(10, lock_seconds=5) == list(applied.outbox)


async def test_confirmed_rows_are_deleted_without_any_change(bench: Bench) -> None:
    await bench.started()
    await bench.pass_time(6)
    (row,) = await bench.store.lock_outbox(10, lock_seconds=5)
    await bench.store.apply([], [row.id])
    assert (await bench.store.outbox_depth())[0] == 0


async def test_the_depth_includes_the_age_of_the_oldest_due_row(bench: Bench) -> None:
    task = await bench.started()
    await bench.pass_time(100)
    await bench.after(task, failed(task))
    waiting, age = await bench.store.outbox_depth()
    assert waiting == 2
    assert 100 <= age < 130


async def test_a_command_that_was_lost_is_unclaimed(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    assert [attempt.key for attempt in await bench.store.unclaimed(Phase.OPTIMIZE, 0.0, 10)] == [key_of(task)]


async def test_a_command_is_given_time_to_be_claimed(bench: Bench) -> None:
    await bench.started()
    await _publish_all(bench)
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 60.0, 10) == []


async def test_a_command_in_the_outbox_is_not_unclaimed(bench: Bench) -> None:
    await bench.started()
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 0.0, 10) == []


async def test_a_claimed_attempt_is_not_unclaimed(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    await bench.claim(key_of(task), uuid4())
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 0.0, 10) == []


async def test_an_attempt_of_a_suspended_task_is_not_unclaimed(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    await bench.after(task, PauseTask(task_id=task.task_id))
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 0.0, 10) == []


async def test_a_command_sent_again_is_given_time_again(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    await bench.pass_time(60)
    await bench.store.enqueue([(task.task_id, OutboxMessage(command_for(task)))])
    await _publish_all(bench)
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 30.0, 10) == []


async def test_a_task_whose_next_iteration_was_lost_is_found(bench: Bench) -> None:
    task = await bench.started()
    for _ in Phase:
        task = await bench.after(task, completed(task))
    assert await bench.store.looping(0.0, 10) == []
    await _publish_all(bench)
    assert await bench.store.looping(0.0, 10) == [task.task_id]
    assert await bench.store.looping(60.0, 10) == []


async def test_a_next_iteration_sent_again_is_the_same_message(bench: Bench) -> None:
    task = await bench.started()
    for _ in Phase:
        task = await bench.after(task, completed(task))
    (row,) = await bench.store.enqueue([(task.task_id, OutboxMessage(next_iteration(task)))])
    event = NextIteration(task_id=task.task_id, iteration=1, issued=task.version)
    assert row.message_id == event.message_id
    assert await bench.store.looping(0.0, 10) == []


async def _publish_all(bench: Bench) -> None:
    await bench.pass_time(6)
    await bench.store.delete_outbox([row.id for row in await bench.store.lock_outbox(100, lock_seconds=5)])
