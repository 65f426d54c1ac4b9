from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey, Phase
from contracts.topology import PROGRESS
from contracts.wire import encode
from control.consumers.progress import Live
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Outgoing
from tests.build import TASK


def progress(sequence: int = 1, task_id: UUID = TASK, **key: Any) -> PhaseProgress:
    given = {"task_id": task_id, "iteration": 1, "phase": Phase.TRAIN, "attempt": 1, **key}
    return PhaseProgress(
        key=AttemptKey(**given), worker_id="w", sequence=sequence, stage="training", done=sequence, total=10
    )


def known(live: Live) -> PhaseProgress:
    latest = live.latest(TASK)
    assert latest is not None
    return latest


def test_a_late_step_does_not_take_the_place_of_a_newer_one() -> None:
    live = Live()
    live.report(progress(5))
    live.report(progress(4))
    assert known(live).sequence == 5


def test_a_fenced_attempt_does_not_take_the_place_of_its_successor() -> None:
    live = Live()
    live.report(progress(1, attempt=2))
    live.report(progress(9, attempt=1))
    assert known(live).key.attempt == 2


def test_another_phase_takes_the_place_of_the_one_before() -> None:
    live = Live()
    live.report(progress(9))
    live.report(progress(1, phase=Phase.EVALUATE))
    assert known(live).key.phase is Phase.EVALUATE


def test_no_more_tasks_are_remembered_than_there_is_room_for() -> None:
    live, ids = Live(capacity=2), [uuid4() for _ in range(3)]
    for task_id in ids:
        live.report(progress(task_id=task_id))
    assert [live.latest(task_id) is not None for task_id in ids] == [False, True, True]


async def test_a_change_between_two_waits_is_not_missed() -> None:
    live = Live()
    with live.watch(TASK) as watch:
        live.touch(TASK)
        assert await watch.changed(5)


async def test_a_watcher_hears_nothing_of_other_tasks() -> None:
    live = Live()
    with live.watch(TASK) as watch:
        live.touch(uuid4())
        assert not await watch.changed(0.01)


async def test_closing_ends_the_watchers() -> None:
    live = Live()
    with live.watch(TASK) as watch:
        live.close()
        assert await watch.changed(5)
        assert watch.closed


async def test_progress_comes_from_the_bus_and_what_cannot_be_read_is_dropped() -> None:
    bus, live = InProcessBus(), Live()
    await bus.start()
    await live.start(bus)
    with live.watch(TASK) as watch:
        for body in (b"not progress", encode(progress())):
            await bus.publish(Outgoing(PROGRESS.name, "train", body, str(uuid4()), persistent=False, mandatory=False))
        async with asyncio.timeout(5):
            await watch.changed(5)
    assert known(live) == progress()
    await bus.close()
