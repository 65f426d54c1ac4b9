"""A background loop that breaks is logged and restarted; one that breaks too often is reported as failing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from control import loops as supervision
from control.loops import MAX_FAILURES, Supervised


class Work:
    """Work that raises, or with `ends` returns, `breaks` times, and then runs until it is stopped."""

    def __init__(self, breaks: int, *, ends: bool = False) -> None:
        self.calls = 0
        self.working = asyncio.Event()
        self.stopped = False
        self._failures = breaks
        self._ends = ends

    async def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            if self._ends:
                return
            raise ZeroDivisionError
        self.working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_RESTART_DELAY", 0.001)


async def running(work: Work) -> AsyncIterator[Supervised]:
    supervised = Supervised("a loop", work)
    supervised.start()
    async with asyncio.timeout(5):
        await work.working.wait()
    yield supervised
    await supervised.stop()


async def test_a_task_that_breaks_is_logged_with_its_name_and_started_again() -> None:
    work = Work(breaks=1)
    with capture_logs() as logs:
        async for supervised in running(work):
            assert (work.calls, supervised.failing) == (2, False)
    assert [(line["event"], line["loop"], line["log_level"]) for line in logs] == [("loop_failed", "a loop", "error")]


async def test_a_task_that_returns_is_started_again_too() -> None:
    with capture_logs() as logs:
        async for _ in running(Work(breaks=1, ends=True)):
            pass
    assert [line["event"] for line in logs] == ["loop_ended"]


async def test_a_task_whose_library_cancelled_what_it_awaits_is_started_again() -> None:
    class Cancelled(Work):
        async def __call__(self) -> None:
            if self.calls == 0:
                self.calls += 1
                cancelled = asyncio.get_running_loop().create_future()
                cancelled.cancel()
                await cancelled
            await super().__call__()

    with capture_logs() as logs:
        async for _ in running(Cancelled(breaks=0)):
            pass
    assert [line["event"] for line in logs] == ["loop_failed"]


async def test_a_task_that_broke_three_times_within_a_minute_is_failing() -> None:
    async for supervised in running(Work(breaks=MAX_FAILURES)):
        assert supervised.failing


async def test_it_is_not_failing_any_more_once_a_minute_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    async for supervised in running(Work(breaks=MAX_FAILURES)):
        monkeypatch.setattr(supervision, "FAILURE_WINDOW", 0.0)
        assert not supervised.failing


async def test_pauses_grow_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(supervision, "FIRST_RESTART_DELAY", 1.0)
    monkeypatch.setattr(supervision, "MAX_RESTART_DELAY", 5.0)
    monkeypatch.setattr(supervision.asyncio, "sleep", recorded)
    async for _ in running(Work(breaks=5)):
        pass
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_stopping_ends_the_work() -> None:
    work = Work(breaks=0)
    async for _ in running(work):
        pass
    assert work.stopped
