"""Each background loop of control is broken on purpose: it goes on, and control says so if it breaks too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast
from uuid import uuid4

import pytest

from contracts.http import StandardTaskRequest
from contracts.submissions import CreateTask
from contracts.tasks import Phase
from contracts.topology import PHASE_QUEUES
from control import loops as supervision
from control.loops import TOO_MANY, Supervised
from control.service import Control, Parts
from control.store.port import Dataset
from infra.bus.inprocess import InProcessBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.telemetry import Tracing
from tests.eventually import eventually
from tests.memory_store import MemoryStore

LOOPS = {
    "relay",
    "relay publisher",
    "observer",
    "applier",
    "submissions",
    "reaper",
    "sweep",
    "retention",
}


class Objects:
    """An object store that is there."""

    async def ping(self) -> None: ...


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.001)


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    """A control process that is not started yet."""
    settings, bus = Settings(), InProcessBus()
    await bus.start()
    store = MemoryStore(settings.ttl)
    await store.add_dataset(
        Dataset("raw", "rows", "datasets/1/raw", 1, None, "training", None, 1, False, None, await store.now())
    )
    yield Control(Parts(settings, bus, store, cast("ObjectStore", Objects()), Tracing("test", "test", None)))
    await bus.close()


def tasks_of(control: Control) -> dict[str, Supervised]:
    return {task.name: task for loop in control._loops for task in loop.tasks}


def break_at_first(task: Supervised, times: int) -> asyncio.Event:
    """Make the loop break so many times; the event is set once it works again."""
    work, works = task._work, asyncio.Event()
    breaks = iter(range(times))

    async def broken() -> None:
        if next(breaks, None) is not None:
            raise ZeroDivisionError("broken on purpose")
        works.set()
        await work()

    task._work = broken
    return works


async def runs(control: Control, check: Callable[[], Awaitable[None]]) -> None:
    await control.start()
    try:
        async with asyncio.timeout(10):
            await check()
    finally:
        await control.stop()


async def ordered(control: Control) -> None:
    """A task is created, decided and stored, and its first command is published."""
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id="raw", user_id=1, auto_start=True)
    await control.submissions.create(CreateTask(submission_id=uuid4(), task=body))

    async def published() -> bool:
        return await control.parts.bus.depth(PHASE_QUEUES[Phase.OPTIMIZE].name) == 1

    await eventually(published, "the first command")


async def test_every_loop_is_supervised(control: Control) -> None:
    assert set(tasks_of(control)) == LOOPS


@pytest.mark.parametrize("name", sorted(LOOPS))
async def test_a_loop_that_breaks_goes_on_and_control_works(control: Control, name: str) -> None:
    works = break_at_first(tasks_of(control)[name], 1)

    async def check() -> None:
        await ordered(control)
        await works.wait()
        assert await control.readiness() == {}

    await runs(control, check)


@pytest.mark.parametrize("name", sorted(LOOPS))
async def test_a_loop_that_broke_three_times_makes_control_unready(control: Control, name: str) -> None:
    works = break_at_first(tasks_of(control)[name], TOO_MANY)

    async def check() -> None:
        await works.wait()
        assert list(await control.readiness()) == [f"loop:{name}"]

    await runs(control, check)


@pytest.mark.parametrize(
    ("name", "place", "method"),
    [
        ("relay publisher", "parts.bus", "publish_all"),
        ("sweep", "parts.store", "unclaimed"),
        ("reaper", "parts.store", "expired"),
        ("relay", "parts.store", "take_outbox"),
    ],
)
async def test_a_loop_whose_part_raised_takes_up_its_work_again(
    control: Control, monkeypatch: pytest.MonkeyPatch, name: str, place: str, method: str
) -> None:
    target: Any = control
    for step in place.split("."):
        target = getattr(target, step)
    real, calls, again = getattr(target, method), 0, asyncio.Event()

    def once_broken(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError("unforeseen")
        again.set()
        return real(*given, **named)

    monkeypatch.setattr(target, method, once_broken, raising=True)

    async def check() -> None:
        await ordered(control)
        await again.wait()
        assert not tasks_of(control)[name].failing
        assert tasks_of(control)[name]._breaks

    await runs(control, check)


async def test_an_unforeseen_error_in_a_batch_of_submissions_is_raised_to_its_user_and_the_next_is_taken(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("unforeseen")

    async def check() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(control.submissions, "_new_task", broken)
            with pytest.raises(ZeroDivisionError):
                await ordered(control)
        await ordered(control)

    await runs(control, check)
