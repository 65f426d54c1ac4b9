"""New tasks and changes of tasks, on both stores."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from contracts.commands import TrainModel
from contracts.events import NextIteration
from contracts.notices import notice
from contracts.submissions import CancelTask, PauseTask, ResumeTask
from contracts.tasks import DatasetRef, PauseMode, Phase, TaskMode, TaskStatus
from contracts.wire import decode
from control.machine.commands import OutboxMessage, command_for
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.values import MAX_STALE, Change, Dataset, NewTask, SubmissionConflict
from tests.build import (
    CLAIM,
    completed,
    dataset_of,
    failed,
    key_of,
    lost,
    new_task,
    own_prefix,
    start,
    trained_model,
)
from tests.conformance.stores import Bench, answered, applied_with, change_of


async def test_a_new_task_is_returned_as_it_was_created(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4(), hyperparameters={"epochs": 2.5})
    created = await bench.store.create([NewTask(task, "digest", "user")])
    assert (answered(created), created.new, created.outbox) == ((task,), {task.task_id}, ())
    assert (await bench.store.task(task.task_id)).task == task


async def test_a_repeated_body_returns_the_task_in_its_present_state(bench: Bench) -> None:
    task = await bench.started()
    again = NewTask(new_task(TaskMode.CONTINUOUS, task.task_id), "digest", "user")
    created = await bench.store.create([again])
    assert (answered(created), created.new) == ((task,), frozenset())
    assert [row.kind for row in await bench.store.history(task.task_id)] == ["create_task", "start_task"]


async def test_another_body_with_the_same_id_is_a_conflict(bench: Bench) -> None:
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
    assert answered(created)[:3] == (task, other, task)
    assert isinstance(created.answers[3], SubmissionConflict)


async def test_a_task_may_be_created_and_started_at_once(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task))
    created = await bench.store.create([NewTask(task, "digest", "user", change)])
    assert (answered(created), [row.message_id for row in created.outbox]) == (
        (change.after,),
        [command_for(change.after).message_id],
    )
    history = await bench.store.history(task.task_id)
    assert [(row.version, row.kind, row.status) for row in history] == [
        (1, "create_task", TaskStatus.PENDING),
        (2, "start_task", TaskStatus.OPTIMIZING),
    ]


async def test_a_start_that_came_with_its_task_is_recorded_as_handled(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task))
    await bench.store.create([NewTask(task, "digest", "user", change)])
    (loaded,) = await bench.store.load([(task.task_id, change.event.message_id)])
    assert loaded is not None
    assert (loaded.task, loaded.duplicate) == (change.after, True)


async def test_a_repeated_creation_does_not_start_an_existing_task(bench: Bench) -> None:
    task = await bench.created()
    again = NewTask(task, "digest", "user", change_of(task, start(task)))
    created = await bench.store.create([again])
    assert (answered(created), created.outbox) == ((task,), ())
    assert await bench.store.attempts(task.task_id) == []


async def test_a_start_that_is_delayed_is_not_due_at_its_creation(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    change = change_of(task, start(task).model_copy(update={"after_seconds": 60}))
    created = await bench.store.create([NewTask(task, "digest", "user", change)])
    assert created.outbox == ()


async def test_the_first_row_of_a_history_holds_the_request(bench: Bench) -> None:
    task = await bench.created()
    (row,) = await bench.store.history(task.task_id)
    assert (row.version, row.kind, row.outcome, row.status) == (1, "create_task", "applied", TaskStatus.PENDING)
    assert (row.actor, row.event) == ("user", task.spec.model_dump(mode="json"))


async def test_load_returns_tasks_in_the_order_of_the_request(bench: Bench) -> None:
    first, second = await bench.created(), await bench.started()
    loaded = await bench.store.load([(second.task_id, uuid4()), (uuid4(), uuid4()), (first.task_id, uuid4())])
    assert [item and item.task for item in loaded] == [second, None, first]


async def test_the_notices_of_a_phase_are_read_back(bench: Bench) -> None:
    task = await bench.started()
    noted = notice("unreadable", 2, "2 lines: \u2028 \U0001f600 'x' \"y\" \\", ["train/a.jsonl:3"])
    task = await bench.after(task, completed(task, notices=(noted,)))
    assert (await bench.store.task(task.task_id)).task.current.notices == {Phase.OPTIMIZE: (noted,)}


async def test_load_returns_the_changes_of_another_process(bench: Bench) -> None:
    task = await bench.started()
    second = await bench.another()
    await second.apply([change_of(task, completed(task))])
    (loaded,) = await bench.store.load([(task.task_id, uuid4())])
    assert loaded is not None
    assert loaded.task == change_of(task, completed(task)).after


async def test_load_returns_the_claim_of_the_current_attempt(bench: Bench) -> None:
    task = await bench.started()
    claim_id = uuid4()
    (before,) = await bench.store.load([(task.task_id, uuid4())])
    await bench.claim(key_of(task), claim_id)
    (after,) = await bench.store.load([(task.task_id, uuid4())])
    assert before is not None
    assert after is not None
    assert (before.claim_id, after.claim_id) == (None, claim_id)


async def test_an_applied_event_is_a_duplicate_from_then_on(bench: Bench) -> None:
    task = await bench.created()
    event = start(task)
    await bench.after(task, event)
    repeated, new = await bench.store.load([(task.task_id, event.message_id), (task.task_id, uuid4())])
    assert repeated is not None
    assert new is not None
    assert (repeated.duplicate, new.duplicate) == (True, False)


async def test_a_change_writes_the_task_its_history_its_attempt_and_its_outbox_row(bench: Bench) -> None:
    task = await bench.created()
    change = change_of(task, start(task), reason="it is time")
    applied = await bench.store.apply([change])
    assert (await bench.store.task(task.task_id)).task == change.after
    row = (await bench.store.history(task.task_id))[-1]
    assert (row.version, row.outcome, row.actor, row.reason) == (2, "applied", "tester", "it is time")
    assert row.event == change.event.model_dump(mode="json")
    (attempt,) = await bench.store.attempts(task.task_id)
    assert (attempt.key, attempt.state, attempt.input_dataset_id) == (
        key_of(change.after),
        AttemptState.DISPATCHED,
        "raw",
    )
    (message,) = applied.outbox
    assert (message.exchange, message.routing_key) == ("treadle.commands", "optimize")
    assert (message.message_id, message.headers) == (command_for(change.after).message_id, change.headers)
    assert message.body == command_for(change.after).model_dump_json().encode()


async def test_a_phase_that_completes_ends_one_attempt_and_dispatches_the_next(bench: Bench) -> None:
    task = await bench.started()
    event = completed(task)
    after = await bench.after(task, event)
    optimize, train = await bench.store.attempts(task.task_id)
    assert (optimize.state, optimize.event) == (AttemptState.COMPLETED, event.model_dump(mode="json"))
    assert optimize.ended_at is not None
    assert (train.key, train.state) == (key_of(after), AttemptState.DISPATCHED)
    assert train.input_dataset_id == dataset_of(task)


async def test_the_end_of_an_attempt_returns_its_times(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    event = completed(task)
    times = (await applied_with(bench.store, task, event)).ended[event.message_id]
    (attempt, *_) = await bench.store.attempts(task.task_id)
    assert (times.claimed_at, times.ended_at) == (attempt.claimed_at, attempt.ended_at)
    assert times.claimed_at is not None
    assert times.due_at <= times.claimed_at


async def test_the_times_of_a_delayed_attempt_begin_when_it_is_due(bench: Bench) -> None:
    task = await bench.started()
    change = change_of(task, failed(task))
    await bench.store.apply([change])
    (message,) = change.messages
    event = completed(change.after)
    times = (await applied_with(bench.store, change.after, event)).ended[event.message_id]
    (_, attempt, *_) = await bench.store.attempts(task.task_id)
    assert times.due_at - attempt.created_at == timedelta(seconds=message.delay)


async def test_a_failed_attempt_keeps_its_message_and_the_next_one_waits_for_the_backoff(bench: Bench) -> None:
    task = await bench.started()
    applied = await applied_with(bench.store, task, failed(task))
    old, new = await bench.store.attempts(task.task_id)
    assert (old.state, old.message) == (AttemptState.FAILED, "it broke")
    assert (new.key.attempt, new.state) == (2, AttemptState.DISPATCHED)
    assert applied.outbox == ()


async def test_a_cancelled_attempt_ends_with_the_reason(bench: Bench) -> None:
    task = await bench.started()
    change = change_of(task, CancelTask(task_id=task.task_id, reason="enough"), reason="enough")
    await bench.store.apply([change])
    (attempt,) = await bench.store.attempts(task.task_id)
    assert (attempt.state, attempt.message) == (AttemptState.CANCELLED, "enough")


async def test_the_second_of_two_changes_to_one_version_changes_nothing(bench: Bench) -> None:
    task = await bench.started()
    await applied_with(bench.store, task, completed(task))
    late = await applied_with(bench.store, task, failed(task))
    assert (late.tasks, late.outbox) == ({}, ())
    assert [row.version for row in await bench.store.history(task.task_id)] == [1, 2, 3]
    assert [attempt.state for attempt in await bench.store.attempts(task.task_id)] == [
        AttemptState.COMPLETED,
        AttemptState.DISPATCHED,
    ]
    (loaded,) = await bench.store.load([(task.task_id, failed(task).message_id)])
    assert loaded is not None
    assert not loaded.duplicate


async def test_a_change_that_lost_a_race_does_not_stop_the_others_of_its_batch(bench: Bench) -> None:
    late, other = await bench.started(), await bench.started()
    await bench.after(late, completed(late))
    changes = [change_of(late, failed(late)), change_of(other, completed(other))]
    applied = await bench.store.apply(changes)
    assert set(applied.tasks) == {completed(other).message_id}
    assert [row.message_id for row in applied.outbox] == [command_for(changes[1].after).message_id]


async def test_a_change_to_an_unknown_task_is_not_applied(bench: Bench) -> None:
    task = new_task(TaskMode.CONTINUOUS, uuid4())
    assert (await applied_with(bench.store, task, start(task))).tasks == {}


async def test_a_stale_event_is_recorded_and_changes_nothing(bench: Bench) -> None:
    task = await bench.started()
    after = await bench.after(task, completed(task))
    applied = await applied_with(bench.store, after, failed(task))
    assert set(applied.tasks) == {failed(task).message_id}
    assert (await bench.store.task(task.task_id)).task == after
    row = (await bench.store.history(task.task_id))[-1]
    assert (row.version, row.outcome, row.status) == (None, "stale", TaskStatus.TRAINING)
    (loaded,) = await bench.store.load([(task.task_id, failed(task).message_id)])
    assert loaded is not None
    assert loaded.duplicate


async def test_a_stale_event_in_two_batches_is_recorded_once(bench: Bench) -> None:
    task = await bench.created()
    event = NextIteration(task_id=task.task_id, iteration=1, issued=9)
    for _ in range(2):
        assert set((await applied_with(bench.store, task, event)).tasks) == {event.message_id}
    assert [row.outcome for row in await bench.store.history(task.task_id)] == ["applied", "stale"]


async def test_a_stale_event_decided_on_an_old_version_is_decided_again(bench: Bench) -> None:
    task = await bench.created()
    await bench.after(task, start(task))
    event = NextIteration(task_id=task.task_id, iteration=1, issued=9)
    assert (await applied_with(bench.store, task, event)).tasks == {}


async def test_an_optimized_dataset_is_registered(bench: Bench) -> None:
    task = await bench.started(user_id=7)
    await bench.after(task, completed(task))
    dataset = await bench.store.dataset(dataset_of(task))
    assert dataset is not None
    assert (dataset.storage_path, dataset.sample_count, dataset.user_id) == (own_prefix(task), 100, 7)
    assert (dataset.is_optimized, dataset.source_dataset_id) == (True, "raw")


async def test_a_model_is_found_by_its_iteration(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, completed(task))
    await bench.after(task, completed(task))
    model = trained_model(task)
    assert await bench.store.model(task.task_id, 1) == model
    assert await bench.store.model(task.task_id, None) == model
    assert await bench.store.model(task.task_id, 2) is None
    assert await bench.store.model(uuid4(), None) is None


async def test_the_best_model_is_returned_if_no_iteration_is_given(bench: Bench) -> None:
    task = await bench.started()
    for value in (0.9, 0.4):
        for _ in Phase:
            task = await bench.after(task, completed(task, value))
        task = await bench.after(
            task, NextIteration(task_id=task.task_id, iteration=task.iteration, issued=task.version)
        )
    model = await bench.store.model(task.task_id, None)
    assert model is not None
    assert model.adapters == (f"models/{task.task_id}/1/a1",)


async def test_a_complete_iteration_leaves_the_state_that_the_machine_decided(bench: Bench) -> None:
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


async def test_a_resume_after_a_drain_sends_the_same_command_again(bench: Bench) -> None:
    task = await bench.started()
    suspended = await bench.after(task, PauseTask(task_id=task.task_id))
    change = change_of(suspended, ResumeTask(task_id=task.task_id))
    applied = await bench.store.apply([change])
    assert [row.message_id for row in applied.outbox] == [command_for(task).message_id]
    assert [attempt.key.attempt for attempt in await bench.store.attempts(task.task_id)] == [1]


async def test_a_delayed_command_is_due_at_once_after_a_resume(bench: Bench) -> None:
    task = await bench.started()
    task = await bench.after(task, failed(task), PauseTask(task_id=task.task_id))
    applied = await applied_with(bench.store, task, ResumeTask(task_id=task.task_id))
    assert [row.message_id for row in applied.outbox] == [key_of(task).derive("command")]


async def test_a_pause_now_fences_the_attempt_and_a_resume_issues_the_next(bench: Bench) -> None:
    task = await bench.started()
    await bench.after(task, PauseTask(task_id=task.task_id, mode=PauseMode.NOW), ResumeTask(task_id=task.task_id))
    states = [(attempt.key.attempt, attempt.state) for attempt in await bench.store.attempts(task.task_id)]
    assert states == [(1, AttemptState.FENCED), (2, AttemptState.DISPATCHED)]


async def test_a_lost_attempt_is_followed_at_once(bench: Bench) -> None:
    task = await bench.started()
    await bench.claim(key_of(task), CLAIM)
    applied = await applied_with(bench.store, task, lost(task))
    assert len(applied.outbox) == 1
    states = [attempt.state for attempt in await bench.store.attempts(task.task_id)]
    assert states == [AttemptState.LOST, AttemptState.DISPATCHED]


async def test_a_command_carries_the_rows_that_were_optimized(bench: Bench) -> None:
    task = await bench.started()
    (message,) = (await applied_with(bench.store, task, completed(task))).outbox
    rows = DatasetRef(dataset_id=dataset_of(task), prefix=own_prefix(task))
    assert decode(message.body, TrainModel).dataset == rows


async def test_a_registered_dataset_keeps_the_stores_time(bench: Bench) -> None:
    before = await bench.store.now()
    submitted = Dataset(
        "d", "name", "datasets/1/d", 10, None, "training", "math", 1, False, None, before.replace(year=1999)
    )
    await bench.store.add_dataset(submitted)
    await bench.store.add_dataset(submitted)
    (dataset,) = await bench.store.datasets(1)
    assert dataset.created_at >= before
    assert (dataset.name, dataset.sample_count, dataset.domain) == ("name", None, "math")


async def test_a_command_enqueued_again_is_one_row(bench: Bench) -> None:
    task = await bench.started()
    command = OutboxMessage(command_for(task))
    first = await bench.store.enqueue([(task.task_id, command)])
    assert [row.message_id for row in first] == [command.message.message_id]
    assert (await bench.store.outbox_depth())[0] == 1


def stale(task: Task) -> Change:
    """The change of an event of another claim, which changes nothing."""
    event = completed(task).model_copy(update={"claim_id": uuid4()})
    return change_of(task, event, stale=True, after=task, messages=(), ended_as=None)


async def test_no_more_stale_events_of_a_task_are_recorded_than_the_limit(bench: Bench) -> None:
    task, other = await bench.started(), await bench.started()
    changes = [stale(task) for _ in range(MAX_STALE + 2)]
    applied = [await bench.store.apply([change]) for change in changes]
    assert [len(each.dropped) for each in applied] == [0] * MAX_STALE + [1, 1]
    history = await bench.store.history(task.task_id)
    assert [row.outcome for row in history].count("stale") == MAX_STALE
    assert (await bench.store.apply([stale(other)])).dropped == frozenset()


async def test_a_stale_event_beyond_the_limit_writes_nothing(bench: Bench) -> None:
    task = await bench.started()
    for _ in range(MAX_STALE):
        await bench.store.apply([stale(task)])
    beyond = stale(task)
    await bench.store.apply([beyond])
    (loaded,) = await bench.store.load([(task.task_id, beyond.event.message_id)])
    assert loaded is not None
    assert not loaded.duplicate


async def test_an_event_is_applied_after_too_many_stale_ones(bench: Bench) -> None:
    task = await bench.started()
    for _ in range(MAX_STALE + 1):
        await bench.store.apply([stale(task)])
    assert (await bench.after(task, completed(task))).status is TaskStatus.TRAINING
