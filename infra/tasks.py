"""Ending tasks that run until they are cancelled, and calls that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)
AGAIN = 1.0
"""Seconds after which a task that goes on is cancelled again."""


async def end(*tasks: asyncio.Task[Any], again: float = AGAIN) -> None:
    """Cancel these tasks, and return once all have ended, however they end.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which libraries await for us, forgets a cancellation
    that comes just as what it awaits completes (python/cpython#86296), and the task goes on as if nothing had been
    said. `again` must be longer than these tasks take to clean up.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=again)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not complain that nobody did


def was_cancelled() -> bool:
    """Whether this task itself was cancelled; a library may have cancelled what the task awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def seen_through(call: Coroutine[Any, Any, T], give_up: Callable[[], None] = lambda: None) -> T:
    """The answer of a call in a thread, which nobody can cancel: cancelled, `give_up`, and return once it has ended.

    Cancelled a second time it waits no longer.
    """
    running = asyncio.create_task(call)
    try:
        return await asyncio.shield(running)
    finally:
        give_up()
        await asyncio.gather(running, return_exceptions=True)


def say_if_broken(task: asyncio.Task[Any]) -> None:
    """Log it if this task, which nobody awaits, ends by an error that nobody foresaw."""
    task.add_done_callback(_say)


def _say(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_broke", task=task.get_name(), exc_info=error)
