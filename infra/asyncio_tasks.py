"""Ends asyncio tasks reliably, shields calls that cannot be cancelled, and logs failed tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)
CANCEL_INTERVAL = 1.0
"""Seconds after which a task that still runs is cancelled again."""


async def cancel_and_wait(*tasks: asyncio.Task[Any], again: float = CANCEL_INTERVAL) -> None:
    """Cancel these tasks every `again` seconds, and return when all have ended, with or without an error.

    One cancellation is not enough: before Python 3.12, `asyncio.wait_for` loses a cancellation that arrives just as the
    awaited call completes (python/cpython#86296). `again` must be longer than the cleanup of these tasks takes.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=again)
        for task in done:
            if not task.cancelled():
                task.exception()  # otherwise asyncio logs that the exception was never retrieved


def was_cancelled() -> bool:
    """Whether this task itself was cancelled, and not only a call that it awaits (by a library)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def shield_until_done(call: Coroutine[Any, Any, T], abort: Callable[[], None] = lambda: None) -> T:
    """Await a call that runs in a thread and cannot be cancelled.

    If this task is cancelled, `abort` is called, and the cancellation is raised after the call has ended; a second
    cancellation is raised at once. `abort` is also called after the call.
    """
    running = asyncio.create_task(call)
    try:
        return await asyncio.shield(running)
    finally:
        abort()
        await asyncio.gather(running, return_exceptions=True)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log the error if this task fails; for tasks that no code awaits."""
    task.add_done_callback(_log_exception)


def _log_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), exc_info=error)
