from __future__ import annotations

import asyncio
import threading
import time

import pytest

from infra.tasks import end, seen_through


async def test_a_task_that_forgets_its_first_cancellation_is_cancelled_again() -> None:
    forgotten = asyncio.Event()

    async def forgetful() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as asyncio.wait_for may do
            forgotten.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    await end(task, again=0.01)
    assert forgotten.is_set()
    assert task.cancelled()


async def test_a_task_that_fails_as_it_ends_fails_nobody_else() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end(task)
    assert isinstance(task.exception(), ZeroDivisionError)


def test_nothing_to_end_is_done_without_a_turn_of_the_loop() -> None:
    ending = end()
    with pytest.raises(StopIteration):
        ending.send(None)


async def test_a_cancelled_call_in_a_thread_has_ended_when_its_caller_goes_on() -> None:
    begun, given_up, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        if given_up.wait(10):
            time.sleep(0.05)  # long enough for a caller that does not wait to be seen
            ended.set()

    task = asyncio.create_task(seen_through(asyncio.to_thread(work), given_up.set))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_call_in_a_thread_answers_and_raises_as_usual() -> None:
    assert await seen_through(asyncio.to_thread(int, "7")) == 7
    with pytest.raises(ValueError, match="seven"):
        await seen_through(asyncio.to_thread(int, "seven"))
