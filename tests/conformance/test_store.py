"""What both stores do with new tasks and with changes."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from contracts.commands import TrainModel
from contracts.events import NextIteration
from contracts.submissions import CancelTask, PauseTask, ResumeTask
from contracts.tasks import DatasetRef, ModelSource, PauseMode, Phase, TaskMode, TaskStatus
from contracts.wire import decode
from control.machine.commands import Order, command_for
from control.machine.machine import RunState
from control.store.port import Dataset, NewTask, SubmissionConflict
from tests.build import CLAIM, completed, failed, key_of, lost, new_task, start
from tests.conformance.stores import Bench, applied_with, change_of


async def test_a_new_task_comes_back_as_it_was(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4(), hyperparameters={"epochs": 2.5})
    created = await bench.store.create([NewTask(task, "digest", "user")])
    assert (created.answers, created.new, created.outbox) == ((task,), {task.task_id}, ())
    assert (await bench.store.task(task.task_id)).task == task


async def test_the_same_body_again_answers_the_task_as_it_stands(bench: Bench) -> None:
    task = await bench.started()
    again = NewTask(new_task(TaskMode.CONTINUOUS, task.task_id), "digest", "user")
    created = await bench.store.create([again])
    assert (created.answers, created.new) == ((task,), frozenset())
    assert [row.kind for row in await bench.store.history(task.task_id)] == ["create_task", "start_task"]


async def test_another_body_under_the_same_id_is_a_conflict(bench: Bench) -> None:
    task = await bench.created()
    (answer,) = (await bench.store.create([NewTask(task, "another digest", "user")])).answers
    assert isinstance(answer, SubmissionConflict)
    assert answer.task_id == task.task_id


async def test_a_batch_may_hold_one_creation_twice(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    other = new_task(TaskMode.CONTINUOUS, uuid4())
    created = await bench.store.create(
        [
            NewTask(task, "a", "user"),
            NewTask(other, "a", "user"),
            NewTask(task, "a", "user"),
            NewTask(task, "b", "user"),
        ]
    )
    assert created.answers[:3] == (task, other, task)
    assert isinstance(created.answers[3], SubmissionConflict)


async def test_a_task_may_be_created_and_started_at_once(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task))
    created = await bench.store.create([NewTask(task, "digest", "user", change)])
    assert (created.answers, [row.message_id for row in created.outbox]) == (
        (change.after,),
        [command_for(change.after).message_id],
    )
    history = await bench.store.history(task.task_id)
    assert [(row.version, row.kind, row.status) for row in history] == [
        (1, "create_task", TaskStatus.PENDING),
        (2, "start_task", TaskStatus.OPTIMIZING),
    ]


async def test_a_start_that_came_with_its_task_has_been_seen(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task))
    await bench.store.create([NewTask(task, "digest", "user", change)])
    (loaded,) = await bench.store.load([(task.task_id, change.event.message_id)])
    assert loaded is not None
    assert (loaded.task, loaded.seen) == (change.after, True)


async def test_a_task_that_is_there_is_not_started_by_its_creation_again(bench: Bench) -> None:
    task = await bench.created()
    again = NewTask(task, "digest", "user", change_of(task, start(task)))
    created = await bench.store.create([again])
    assert (created.answers, created.outbox) == ((task,), ())
    assert await bench.store.runs(task.task_id) == []


async def test_a_start_that_is_delayed_is_not_due_at_its_creation(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task).model_copy(update={"after_seconds": 60}))
    created = await bench.store.create([NewTask(task, "digest", "user", change)])
    assert created.outbox == ()


async def test_the_first_row_of_a_history_holds_what_was_asked(bench: Bench) -> None:
    task = await bench.created()
    (row,) = await bench.store.history(task.task_id)
    assert (row.version, row.kind, row.outcome, row.status) == (1, "create_task", "applied", TaskStatus.PENDING)
    assert (row.actor, row.event) == ("user", task.spec.model_dump(mode="json"))


async def test_load_answers_in_the_order_asked(bench: Bench) -> None:
    first, second = await bench.created(), await bench.started()
    loaded = await bench.store.load([(second.task_id, uuid4()), (uuid4(), uuid4()), (first.task_id, uuid4())])
    assert [found and found.task for found in loaded] == [second, None, first]


async def test_load_sees_what_another_process_has_changed(bench: Bench) -> None:
    task = await bench.started()
    second = await bench.another()
    await second.apply([change_of(task, completed(task))])
    (loaded,) = await bench.store.load([(task.task_id, uuid4())])
    assert loaded is not None
    assert loaded.task == change_of(task, completed(task)).after


async def test_load_knows_the_claim_of_the_live_attempt(bench: Bench) -> None:
    task = await bench.started()
    claim_id = uuid4()
    (before,) = await bench.store.load([(task.task_id, uuid4())])
    await bench.claim(key_of(task), claim_id)
    (after,) = await bench.store.load([(task.task_id, uuid4())])
    assert before is not None
    assert after is not None
    assert (before.claim_id, after.claim_id) == (None, claim_id)


async def test_an_applied_event_is_seen_from_then_on(bench: Bench) -> None:
    task = await bench.created()
    event = start(task)
    await bench.after(task, event)
    known, new = await bench.store.load([(task.task_id, event.message_id), (task.task_id, uuid4())])
    assert known is not None
    assert new is not None
    assert (known.seen, new.seen) == (True, False)


async def test_a_change_makes_the_task_its_history_its_run_and_its_outbox_row(bench: Bench) -> None:
    task = await bench.created()
    change = change_of(task, start(task), reason="it is time")
    applied = await bench.store.apply([change])
    assert (await bench.store.task(task.task_id)).task == change.after
    row = (await bench.store.history(task.task_id))[-1]
    assert (row.version, row.outcome, row.actor, row.reason) == (2, "applied", "tester", "it is time")
    assert row.event == change.event.model_dump(mode="json")
    (run,) = await bench.store.runs(task.task_id)
    assert (run.key, run.state, run.input_dataset_id) == (key_of(change.after), RunState.DISPATCHED, "raw")
    (message,) = applied.outbox
    assert (message.exchange, message.routing_key) == ("treadle.commands", "optimize")
    assert (message.message_id, message.headers) == (command_for(change.after).message_id, change.headers)
    assert message.body == command_for(change.after).model_dump_json().encode()


async def test_a_phase_that_completes_ends_one_run_and_dispatches_the_next(bench: Bench) -> None:
    task = await bench.started()
    event = completed(task)
    after = await bench.after(task, event)
    optimize, train = await bench.store.runs(task.task_id)
    assert (optimize.state, optimize.event) == (RunState.COMPLETED, event.model_dump(mode="json"))
    assert optimize.ended_at is not None
    assert (train.key, train.state, train.input_dataset_id) == (key_of(after), RunState.DISPATCHED, "rows-1")


async def test_closing_an_attempt_tells_its_times(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    event = completed(task)
    times = (await applied_with(bench.store, task, event)).ended[event.message_id]
    (run, *_) = await bench.store.runs(task.task_id)
    assert (times.claimed_at, times.ended_at) == (run.claimed_at, run.ended_at)
    assert times.claimed_at is not None
    assert times.ordered_at <= times.claimed_at


async def test_the_times_of_a_delayed_attempt_begin_when_it_is_due(bench: Bench) -> None:
    task = await bench.started()
    change = change_of(task, failed(task))
    await bench.store.apply([change])
    (order,) = change.orders
    event = completed(change.after)
    times = (await applied_with(bench.store, change.after, event)).ended[event.message_id]
    (_, run, *_) = await bench.store.runs(task.task_id)
    assert times.ordered_at - run.created_at == timedelta(seconds=order.delay)


async def test_a_failed_attempt_keeps_its_sentence_and_its_successor_waits_for_the_backoff(bench: Bench) -> None:
    task = await bench.started()
    applied = await applied_with(bench.store, task, failed(task))
    old, new = await bench.store.runs(task.task_id)
    assert (old.state, old.message) == (RunState.FAILED, "it broke")
    assert (new.key.attempt, new.state) == (2, RunState.DISPATCHED)
    assert applied.outbox == ()


async def test_a_cancelled_run_is_closed_with_the_reason(bench: Bench) -> None:
    task = await bench.started()
    change = change_of(task, CancelTask(task_id=task.task_id, reason="enough"), reason="enough")
    await bench.store.apply([change])
    (run,) = await bench.store.runs(task.task_id)
    assert (run.state, run.message) == (RunState.CANCELLED, "enough")


async def test_of_two_changes_to_one_version_the_second_leaves_nothing(bench: Bench) -> None:
    task = await bench.started()
    await applied_with(bench.store, task, completed(task))
    late = await applied_with(bench.store, task, failed(task))
    assert (late.made, late.outbox) == (frozenset(), ())
    assert [row.version for row in await bench.store.history(task.task_id)] == [1, 2, 3]
    assert [run.state for run in await bench.store.runs(task.task_id)] == [RunState.COMPLETED, RunState.DISPATCHED]
    (loaded,) = await bench.store.load([(task.task_id, failed(task).message_id)])
    assert loaded is not None
    assert not loaded.seen


async def test_in_one_batch_the_others_go_through_beside_a_loser(bench: Bench) -> None:
    loser, winner = await bench.started(), await bench.started()
    await bench.after(loser, completed(loser))
    changes = [change_of(loser, failed(loser)), change_of(winner, completed(winner))]
    applied = await bench.store.apply(changes)
    assert applied.made == {completed(winner).message_id}
    assert [row.message_id for row in applied.outbox] == [command_for(changes[1].after).message_id]


async def test_a_change_to_a_task_that_is_not_there_is_not_made(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    assert (await applied_with(bench.store, task, start(task))).made == frozenset()


async def test_a_stale_event_is_recorded_and_changes_nothing(bench: Bench) -> None:
    task = await bench.started()
    after = await bench.after(task, completed(task))
    applied = await applied_with(bench.store, after, failed(task))
    assert applied.made == {failed(task).message_id}
    assert (await bench.store.task(task.task_id)).task == after
    row = (await bench.store.history(task.task_id))[-1]
    assert (row.version, row.outcome, row.status) == (None, "stale", TaskStatus.TRAINING)
    (loaded,) = await bench.store.load([(task.task_id, failed(task).message_id)])
    assert loaded is not None
    assert loaded.seen


async def test_a_stale_event_that_two_batches_bring_is_recorded_once(bench: Bench) -> None:
    task = await bench.created()
    event = NextIteration(task_id=task.task_id, iteration=1, issued=9)
    for _ in range(2):
        assert (await applied_with(bench.store, task, event)).made == {event.message_id}
    assert [row.outcome for row in await bench.store.history(task.task_id)] == ["applied", "stale"]


async def test_a_stale_event_judged_by_an_old_version_is_judged_again(bench: Bench) -> None:
    task = await bench.created()
    await bench.after(task, start(task))
    event = NextIteration(task_id=task.task_id, iteration=1, issued=9)
    assert (await applied_with(bench.store, task, event)).made == frozenset()


async def test_an_optimised_dataset_is_registered(bench: Bench) -> None:
    task = await bench.started(user_id=7)
    await bench.after(task, completed(task))
    dataset = await bench.store.dataset("rows-1")
    assert dataset is not None
    assert (dataset.storage_path, dataset.sample_count, dataset.user_id) == ("optimized/1", 100, 7)
    assert (dataset.is_optimized, dataset.source_dataset_id) == (True, "raw")


async def test_a_model_is_found_by_its_iteration(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.after(task, completed(task))
    model = ModelSource(base="path:/model", adapters=("models/1",))
    assert await bench.store.model(task.task_id, 1) == model
    assert await bench.store.model(task.task_id, None) == model
    assert await bench.store.model(task.task_id, 2) is None
    assert await bench.store.model(uuid4(), None) is None


async def test_without_an_iteration_the_best_model_is_meant(bench: Bench) -> None:
    task = await bench.started()
    for value in (0.9, 0.4):
        for _ in Phase:
            task = await bench.after(task, completed(task, value))
        task = await bench.after(
            task, NextIteration(task_id=task.task_id, iteration=task.iteration, issued=task.version)
        )
    model = await bench.store.model(task.task_id, None)
    assert model is not None
    assert model.adapters == ("models/1",)


async def test_a_whole_turn_leaves_the_state_that_the_machine_decided(bench: Bench) -> None:
    task = await bench.started()
    for _ in Phase:
        task = await bench.after(task, completed(task))
    assert task.status is TaskStatus.LOOPING
    assert (await bench.store.task(task.task_id)).task == task


async def test_the_next_iteration_is_an_event_for_control(bench: Bench) -> None:
    task = await bench.started()
    for _ in (Phase.OPTIMIZE, Phase.TRAIN):
        task = await bench.after(task, completed(task))
    (message,) = (await applied_with(bench.store, task, completed(task))).outbox
    assert (message.exchange, message.routing_key) == ("treadle.events", "next_iteration")
    assert decode(message.body, NextIteration).task_id == task.task_id


async def test_a_resumed_drain_orders_the_same_attempt_again(bench: Bench) -> None:
    task = await bench.started()
    suspended = await bench.after(task, PauseTask(task_id=task.task_id))
    change = change_of(suspended, ResumeTask(task_id=task.task_id))
    applied = await bench.store.apply([change])
    assert [row.message_id for row in applied.outbox] == [command_for(task).message_id]
    assert [run.key.attempt for run in await bench.store.runs(task.task_id)] == [1]


async def test_a_resumed_order_that_was_delayed_is_due_at_once(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, failed(task), PauseTask(task_id=task.task_id))
    applied = await applied_with(bench.store, task, ResumeTask(task_id=task.task_id))
    assert [row.message_id for row in applied.outbox] == [key_of(task).derive("command")]


async def test_a_pause_now_fences_the_attempt_and_a_resume_issues_the_next(bench: Bench) -> None:
    task = await bench.started()
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.NOW), ResumeTask(task_id=task.task_id))
    states = [(run.key.attempt, run.state) for run in await bench.store.runs(task.task_id)]
    assert states == [(1, RunState.FENCED), (2, RunState.DISPATCHED)]


async def test_a_lost_attempt_is_followed_at_once(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    applied = await applied_with(bench.store, task, lost(task))
    assert len(applied.outbox) == 1
    states = [run.state for run in await bench.store.runs(task.task_id)]
    assert states == [RunState.LOST, RunState.DISPATCHED]


async def test_a_command_carries_the_rows_that_were_optimised(bench: Bench) -> None:
    task = await bench.started()
    (message,) = (await applied_with(bench.store, task, completed(task))).outbox
    assert decode(message.body, TrainModel).dataset == DatasetRef(dataset_id="rows-1", prefix="optimized/1")


async def test_a_registered_dataset_keeps_the_stores_time(bench: Bench) -> None:
    before = await bench.store.now()
    given = Dataset(
        "d", "name", "datasets/1/d", 10, None, "training", "math", 1, False, None, before.replace(year=1999)
    )
    await bench.store.add_dataset(given)
    await bench.store.add_dataset(given)
    (found,) = await bench.store.datasets(1)
    assert found.created_at >= before
    assert (found.name, found.sample_count, found.domain) == ("name", None, "math")


async def test_an_order_enqueued_again_is_one_row(bench: Bench) -> None:
    task = await bench.started()
    order = Order(command_for(task))
    first = await bench.store.enqueue([(task.task_id, order)])
    assert [row.message_id for row in first] == [order.message.message_id]
    assert (await bench.store.outbox_depth())[0] == 1
