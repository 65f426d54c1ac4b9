"""`treadle watch`: live bars on a terminal, one line a step in a log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from cli.options import DEFAULT_URL, TaskId, Url

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from cli.client import Gateway
    from cli.tasks.board import Board

REFRESH = 5
"""Redraws a second."""


def watch(task: TaskId, url: Url = DEFAULT_URL) -> None:
    """Follow a task until it ends: a bar a phase with its ETA, and the score of each iteration.

    The history is replayed first, so it may be started late; a lost connection is taken up where it was lost.
    Leaving with Ctrl-C leaves the task alone. The exit status is 0 if the task completed, else 1.

    **Example**

        treadle watch 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
    """
    import asyncio

    from rich.console import Console

    from cli.client import Gateway
    from cli.errors import fail
    from contracts.tasks import TaskStatus

    async def until_end() -> None:
        async with Gateway(url) as gateway:
            board = await follow(gateway, task, Console())
            if board.status is not TaskStatus.COMPLETED:
                found = await gateway.task(task)
                why = f": {found.message or found.reason}" if found.status is TaskStatus.FAILED else ""
                fail(f"{found.task_name} is {found.status}{why}")

    asyncio.run(until_end())


async def follow(gateway: Gateway, task_id: str, console: Console, *, transient: bool = False) -> Board:
    """Show a task's stream on `console` until the task ends; the board as it was then. `transient`: wipe it off."""
    from cli.tasks.board import Board

    board = Board.of(await gateway.task(task_id))
    with _live(board, console, transient) as live:
        async for line in _lines(gateway, task_id, board):
            if live is None:
                console.print(line, highlight=False, markup=False)
    return board


async def _lines(gateway: Gateway, task_id: str, board: Board) -> AsyncIterator[str]:
    """Fold the stream into the board; the lines that a plain log of it has."""
    async for update in gateway.follow(task_id):
        for line in board.apply(update.kind, update.data):
            yield line
        if board.ended:
            return


def _live(board: Board, console: Console, transient: bool) -> AbstractContextManager[Live | None]:
    """A display that redraws itself, where there is a terminal to redraw."""
    if not console.is_terminal:
        return nullcontext()
    from rich.live import Live

    from cli.tasks.board_view import render

    return Live(get_renderable=lambda: render(board), console=console, refresh_per_second=REFRESH, transient=transient)
