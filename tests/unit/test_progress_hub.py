from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey, Phase
from contracts.topology import PROGRESS
from contracts.wire import encode
from control.consumers.progress_hub import MAX_SENDERS, ProgressHub
from infra.bus.inprocess import InProcessBus
from infra.bus.port import OutgoingMessage
from tests.build import TASK


def progress(sequence: int = 1, task_id: UUID = TASK, **key: Any) -> PhaseProgress:
    fields = {"task_id": task_id, "iteration": 1, "phase": Phase.TRAIN, "attempt": 1, **key}
    return PhaseProgress(
        key=AttemptKey(**fields), worker_id="w", sequence=sequence, stage="training", done=sequence, total=10
    )


def latest(hub: ProgressHub, task_id: UUID = TASK, worker: str = "w", **key: Any) -> PhaseProgress | None:
    return hub.latest(progress(task_id=task_id, **key).key, worker)


def sequence(hub: ProgressHub, **key: Any) -> int | None:
    found = latest(hub, **key)
    return found and found.sequence


def test_a_late_step_does_not_take_the_place_of_a_newer_one() -> None:
    hub = ProgressHub()
    hub.report(progress(5))
    hub.report(progress(4))
    assert sequence(hub) == 5


def test_a_fenced_attempt_does_not_take_the_place_of_its_successor() -> None:
    hub = ProgressHub()
    hub.report(progress(1, attempt=2))
    hub.report(progress(9, attempt=1))
    assert sequence(hub, attempt=2) == 1


def test_another_phase_takes_the_place_of_the_one_before() -> None:
    hub = ProgressHub()
    hub.report(progress(9))
    hub.report(progress(1, phase=Phase.EVALUATE))
    assert sequence(hub, phase=Phase.EVALUATE) == 1


def test_no_more_tasks_are_remembered_than_there_is_room_for() -> None:
    hub, ids = ProgressHub(capacity=2), [uuid4() for _ in range(3)]
    for task_id in ids:
        hub.report(progress(task_id=task_id))
    assert [latest(hub, task_id) is not None for task_id in ids] == [False, True, True]


async def test_a_change_between_two_waits_is_not_missed() -> None:
    hub = ProgressHub()
    with hub.watch(TASK) as watcher:
        hub.notify(TASK)
        assert await watcher.changed(5)


async def test_a_watcher_is_not_notified_of_other_tasks() -> None:
    hub = ProgressHub()
    with hub.watch(TASK) as watcher:
        hub.notify(uuid4())
        assert not await watcher.changed(0.01)


async def test_closing_ends_the_watchers() -> None:
    hub = ProgressHub()
    with hub.watch(TASK) as watcher:
        hub.close()
        assert await watcher.changed(5)
        assert watcher.closed


async def test_progress_comes_from_the_bus_and_what_cannot_be_read_is_dropped() -> None:
    bus, hub = InProcessBus(), ProgressHub()
    await bus.start()
    await hub.start(bus)
    with hub.watch(TASK) as watcher:
        for body in (b"not progress", encode(progress())):
            await bus.publish(
                OutgoingMessage(PROGRESS.name, "train", body, str(uuid4()), persistent=False, mandatory=False)
            )
        async with asyncio.timeout(5):
            await watcher.changed(5)
    assert latest(hub) == progress()
    await bus.close()


def test_forged_progress_of_a_later_attempt_does_not_hide_the_true_one() -> None:
    hub = ProgressHub()
    hub.report(progress(1, attempt=2**31 - 1))
    hub.report(progress(5))
    assert sequence(hub) == 5


def test_a_forged_sequence_number_does_not_hide_the_true_steps() -> None:
    hub = ProgressHub()
    hub.report(progress(2**63 - 1))
    hub.report(progress(5))
    assert sequence(hub) == 5


def test_no_more_senders_of_a_task_are_remembered_than_there_is_room_for() -> None:
    hub = ProgressHub()
    for attempt in range(1, MAX_SENDERS + 2):
        hub.report(progress(attempt=attempt))
    assert latest(hub, attempt=1) is None
    assert latest(hub, attempt=2) is not None


def test_progress_of_another_worker_is_not_that_of_the_one_that_is_asked_for() -> None:
    hub = ProgressHub()
    hub.report(progress(5))
    assert latest(hub, worker="another") is None
