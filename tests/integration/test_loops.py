"""Each background loop of control breaks on purpose: it is restarted, and control is not ready if it breaks often."""

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
from control.loops import MAX_FAILURES, Supervised
from control.service import Control, ControlParts
from control.store.values import Dataset
from infra.bus.inprocess import InProcessBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.telemetry import Tracing
from tests.eventually import eventually
from tests.memory_store import MemoryStore

LOOPS = {
    "relay",
    "relay publisher",
    "change tracer",
    "applier",
    "submissions",
    "reaper",
    "sweep",
    "retention",
}


class Objects:
    """An object store that is available."""

    async def ping(self) -> None: ...


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_RESTART_DELAY", 0.001)


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    """A control process that is not started yet."""
    settings, bus = Settings(), InProcessBus()
    await bus.start()
    store = MemoryStore(settings.ttl)
    await store.add_dataset(
        Dataset("raw", "rows", "datasets/1/raw", 1, None, "training", None, 1, False, None, await store.now())
    )
    yield Control(ControlParts(settings, bus, store, cast("ObjectStore", Objects()), Tracing("test", "test", None)))
    await bus.close()


def tasks_of(control: Control) -> dict[str, Supervised]:
    return {task.name: task for loop in control._loops for task in loop.tasks}


def break_at_first(task: Supervised, times: int) -> asyncio.Event:
    """Make the loop break this number of times; the returned event is set when it works again."""
    work, works = task._work, asyncio.Event()
    breaks = iter(range(times))

    async def broken() -> None:
        if next(breaks, None) is not None:
            raise ZeroDivisionError("broken on purpose")
        works.set()
        await work()

    task._work = broken
    return works


async def check_while_running(control: Control, check: Callable[[], Awaitable[None]]) -> None:
    await control.start()
    try:
        async with asyncio.timeout(10):
            await check()
    finally:
        await control.stop()


async def create_task(control: Control) -> None:
    """Create and start a task, and wait until its first command is published."""
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id="raw", user_id=1, auto_start=True)
    await control.submissions.create(CreateTask(submission_id=uuid4(), task=body))

    async def published() -> bool:
        return await control.parts.bus.depth(PHASE_QUEUES[Phase.OPTIMIZE].name) == 1

    await eventually(published, "the first command")


async def test_every_loop_is_supervised(control: Control) -> None:
    assert set(tasks_of(control)) == LOOPS


@pytest.mark.parametrize("name", sorted(LOOPS))
async def test_a_loop_that_breaks_is_restarted_and_control_works(control: Control, name: str) -> None:
    works = break_at_first(tasks_of(control)[name], 1)

    async def check() -> None:
        await create_task(control)
        await works.wait()
        assert await control.readiness() == {}

    await check_while_running(control, check)


@pytest.mark.parametrize("name", sorted(LOOPS))
async def test_a_loop_that_broke_three_times_makes_control_unready(control: Control, name: str) -> None:
    works = break_at_first(tasks_of(control)[name], MAX_FAILURES)

    async def check() -> None:
        await works.wait()
        assert list(await control.readiness()) == [f"loop:{name}"]

    await check_while_running(control, check)


@pytest.mark.parametrize(
    ("name", "part", "method"),
    [
        ("relay publisher", "parts.bus", "publish_all"),
        ("sweep", "parts.store", "unclaimed"),
        ("reaper", "parts.store", "expired"),
        ("relay", "parts.store", "lock_outbox"),
    ],
)
async def test_a_loop_works_again_after_a_call_of_it_raised(
    control: Control, monkeypatch: pytest.MonkeyPatch, name: str, part: str, method: str
) -> None:
    target: Any = control
    for step in part.split("."):
        target = getattr(target, step)
    original, calls, again = getattr(target, method), 0, asyncio.Event()

    def once_broken(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError("unforeseen")
        again.set()
        return original(*arguments, **options)

    monkeypatch.setattr(target, method, once_broken, raising=True)

    async def check() -> None:
        await create_task(control)
        await again.wait()
        assert not tasks_of(control)[name].failing
        assert tasks_of(control)[name]._failures

    await check_while_running(control, check)


async def test_an_unforeseen_error_in_a_batch_of_submissions_is_raised_to_its_caller_and_the_next_batch_is_handled(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("unforeseen")

    async def check() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(control.submissions, "_new_task", broken)
            with pytest.raises(ZeroDivisionError):
                await create_task(control)
        await create_task(control)

    await check_while_running(control, check)
