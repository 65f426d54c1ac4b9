from __future__ import annotations

import asyncio

from infra.ending import end


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


async def test_nothing_to_end_is_done_at_once() -> None:
    await end()
