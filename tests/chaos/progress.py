"""The progress of a run as bars with the remaining time, on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """One bar for the tasks that have ended, one for the faults."""

    def __init__(self, tasks: int, faults: int) -> None:
        columns = (TextColumn("{task.description:>7}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=Console(stderr=True))
        self._tasks = self._bars.add_task("tasks", total=tasks)
        self._faults = self._bars.add_task("faults", total=faults)

    def show(self, ended: int, faults: int) -> None:
        """Show the numbers of ended tasks and of faults."""
        self._bars.update(self._tasks, completed=ended)
        self._bars.update(self._faults, completed=faults)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()
