from __future__ import annotations

import asyncio
import threading
import time

import pytest

from infra.asyncio_tasks import cancel_and_wait, shield_until_done


async def test_a_task_that_suppresses_its_first_cancellation_is_cancelled_again() -> None:
    suppressed = asyncio.Event()

    async def suppress_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as asyncio.wait_for may do
            suppressed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(suppress_once())
    await asyncio.sleep(0)
    await cancel_and_wait(task, again=0.01)
    assert suppressed.is_set()
    assert task.cancelled()


async def test_an_error_of_a_task_that_is_being_cancelled_is_not_raised() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert isinstance(task.exception(), ZeroDivisionError)


def test_cancelling_no_task_does_not_yield_to_the_event_loop() -> None:
    ending = cancel_and_wait()
    with pytest.raises(StopIteration):
        ending.send(None)


async def test_a_cancelled_call_in_a_thread_has_ended_when_its_caller_goes_on() -> None:
    started, cancelled_early, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        if cancelled_early.wait(10):
            time.sleep(0.05)  # long enough to detect a caller that does not wait
            ended.set()

    task = asyncio.create_task(shield_until_done(asyncio.to_thread(work), cancelled_early.set))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_call_in_a_thread_returns_and_raises_as_usual() -> None:
    assert await shield_until_done(asyncio.to_thread(int, "7")) == 7
    with pytest.raises(ValueError, match="seven"):
        await shield_until_done(asyncio.to_thread(int, "seven"))
