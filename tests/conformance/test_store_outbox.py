"""What both stores do with messages that wait to be published, and with what got lost on its way."""

from __future__ import annotations

from uuid import uuid4

from contracts.events import NextIteration
from contracts.submissions import PauseTask
from contracts.tasks import Phase
from control.machine.commands import Order, command_for, next_iteration
from tests.build import completed, failed, key_of, start
from tests.conformance.stores import Bench, applied_with, change_of


async def test_a_row_due_now_is_held_for_who_wrote_it_for_five_seconds(bench: Bench) -> None:
    task = await bench.started()
    assert await bench.store.take_outbox(10, hold=5) == []
    await bench.pass_time(5)
    assert [row.message_id for row in await bench.store.take_outbox(10, hold=5)] == [command_for(task).message_id]


async def test_a_taken_row_is_the_row_that_apply_gave(bench: Bench) -> None:
    task = await bench.started()
    applied = await applied_with(bench.store, task, completed(task))
    await bench.pass_time(6)
    assert (await bench.store.take_outbox(10, hold=5))[1:] == list(applied.outbox)


async def test_a_taken_row_is_free_again_when_its_hold_ends(bench: Bench) -> None:
    await bench.started()
    await bench.pass_time(6)
    assert len(await bench.store.take_outbox(10, hold=30)) == 1
    assert await bench.store.take_outbox(10, hold=30) == []
    await bench.pass_time(30)
    assert len(await bench.store.take_outbox(10, hold=30)) == 1


async def test_no_more_rows_are_taken_than_asked_for(bench: Bench) -> None:
    for _ in range(3):
        await bench.started()
    await bench.pass_time(6)
    assert len(await bench.store.take_outbox(2, hold=30)) == 2
    assert len(await bench.store.take_outbox(2, hold=30)) == 1


async def test_a_delayed_row_is_taken_when_it_is_due(bench: Bench) -> None:
    task = await bench.started()
    await bench.store.forget_outbox([1])
    await bench.after(task, failed(task))
    await bench.pass_time(4.5)
    assert await bench.store.take_outbox(10, hold=5) == []
    await bench.pass_time(0.5)
    (row,) = await bench.store.take_outbox(10, hold=5)
    assert row.headers == {"traceparent": "00-1-1-01"}


async def test_a_forgotten_row_is_gone(bench: Bench) -> None:
    task = await bench.created()
    applied = await applied_with(bench.store, task, start(task))
    await bench.store.forget_outbox([row.id for row in applied.outbox])
    assert await bench.store.outbox_depth() == (0, 0.0)


async def test_confirmed_rows_are_forgotten_with_the_next_changes(bench: Bench) -> None:
    task = await bench.started()
    await bench.pass_time(6)
    (row,) = await bench.store.take_outbox(10, hold=5)
    applied = await bench.store.apply([change_of(task, completed(task))], [row.id])
    await bench.pass_time(6)
    assert await bench.store.take_outbox(10, hold=5) == list(applied.outbox)


async def test_confirmed_rows_are_forgotten_without_any_change(bench: Bench) -> None:
    await bench.started()
    await bench.pass_time(6)
    (row,) = await bench.store.take_outbox(10, hold=5)
    await bench.store.apply([], [row.id])
    assert (await bench.store.outbox_depth())[0] == 0


async def test_the_depth_tells_the_age_of_the_oldest_due_row(bench: Bench) -> None:
    task = await bench.started()
    await bench.pass_time(100)
    await bench.after(task, failed(task))
    waiting, age = await bench.store.outbox_depth()
    assert waiting == 2
    assert 100 <= age < 130


async def test_a_command_that_vanished_is_unclaimed(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    assert [run.key for run in await bench.store.unclaimed(Phase.OPTIMIZE, 0.0, 10)] == [key_of(task)]


async def test_a_command_is_given_time_to_be_claimed(bench: Bench) -> None:
    await bench.started()
    await _publish_all(bench)
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 60.0, 10) == []


async def test_a_command_that_the_outbox_still_holds_is_not_unclaimed(bench: Bench) -> None:
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


async def test_a_command_ordered_again_is_given_time_anew(bench: Bench) -> None:
    task = await bench.started()
    await _publish_all(bench)
    await bench.pass_time(60)
    await bench.store.enqueue([(task.task_id, Order(command_for(task)))])
    await _publish_all(bench)
    assert await bench.store.unclaimed(Phase.OPTIMIZE, 30.0, 10) == []


async def test_a_loop_that_does_not_turn_is_found(bench: Bench) -> None:
    task = await bench.started()
    for _ in Phase:
        task = await bench.after(task, completed(task))
    assert await bench.store.looping(0.0, 10) == []
    await _publish_all(bench)
    assert await bench.store.looping(0.0, 10) == [task.task_id]
    assert await bench.store.looping(60.0, 10) == []


async def test_a_turn_ordered_again_is_the_same_message(bench: Bench) -> None:
    task = await bench.started()
    for _ in Phase:
        task = await bench.after(task, completed(task))
    (row,) = await bench.store.enqueue([(task.task_id, Order(next_iteration(task)))])
    turn = NextIteration(task_id=task.task_id, iteration=1, issued=task.version)
    assert row.message_id == turn.message_id
    assert await bench.store.looping(0.0, 10) == []


async def _publish_all(bench: Bench) -> None:
    await bench.pass_time(6)
    await bench.store.forget_outbox([row.id for row in await bench.store.take_outbox(100, hold=5)])
