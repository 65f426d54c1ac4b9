"""`treadle watch`: live progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from cli.options import DEFAULT_URL, TaskId, Url

if TYPE_CHECKING:
    from rich.live import Live

    from cli.client import GatewayClient
    from cli.tasks.board import Board
    from cli.terminal import Terminal

REFRESH = 5
"""Redraws per second."""


def watch(task: TaskId, url: Url = DEFAULT_URL) -> None:
    """Follow a task until it ends: the progress and ETA of each phase, and the scores of each iteration.

    The history of the task is printed first, so the command can be started at any time; a lost connection is
    restored. Ctrl-C ends only this command, not the task. The exit status is 0 if the task completed, else 1.

    **Example**

        treadle watch 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed
    """
    import asyncio

    from cli.client import GatewayClient
    from cli.errors import fail
    from cli.terminal import Terminal
    from contracts.tasks import TaskStatus

    async def until_end() -> None:
        async with GatewayClient(url) as gateway:
            board = await follow(gateway, task, Terminal())
            if board.status is not TaskStatus.COMPLETED:
                ended = await gateway.task(task)
                why = f": {ended.message or ended.reason}" if ended.status is TaskStatus.FAILED else ""
                fail(f"{ended.task_name} is {ended.status}{why}")

    asyncio.run(until_end())


async def follow(gateway: GatewayClient, task_id: str, terminal: Terminal, *, transient: bool = False) -> Board:
    """Show a task on `terminal` until it ends; returns the final board. `transient` clears the display at the end."""
    from cli.tasks.board import Board

    board = Board.of(await gateway.task(task_id))
    with _live(board, terminal, transient) as live:
        async for line in _lines(gateway, task_id, board):
            if live is None:
                terminal.print(line, soft_wrap=True)
    return board


async def _lines(gateway: GatewayClient, task_id: str, board: Board) -> AsyncIterator[str]:
    """Apply the stream to the board; yields the lines for a plain log."""
    async for update in gateway.follow(task_id):
        for line in board.apply(update.kind, update.data):
            yield line
        if board.ended:
            return


def _live(board: Board, terminal: Terminal, transient: bool) -> AbstractContextManager[Live | None]:
    """A live display, or None if `terminal` is a pipe or a file."""
    if not terminal.is_terminal:
        return nullcontext()
    from rich.live import Live

    from cli.tasks.board_view import render

    show = partial(render, board)
    return Live(get_renderable=show, console=terminal, refresh_per_second=REFRESH, transient=transient)
