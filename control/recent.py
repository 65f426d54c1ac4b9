"""Tasks as this process last knew them, so that a state that nobody changed since is not read and parsed again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from control.task import TERMINAL, Task

REMEMBERED = 4096
"""Tasks under way, at some 10 kB each."""


@dataclass(frozen=True, slots=True)
class Known:
    """A task, and when the store wrote it."""

    task: Task
    at: datetime


class RecentTasks:
    """The newest ones used. What is remembered is true where version and time of writing are still the same."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._tasks: OrderedDict[UUID, Known] = OrderedDict()

    def find(self, task_id: UUID) -> Known | None:
        """The task as it was known last; another process may have changed it since."""
        return self._tasks.get(task_id)

    def keep(self, task: Task, at: datetime) -> None:
        """Remember what is stored now; a task that has ended is hardly asked for again."""
        self._tasks.pop(task.task_id, None)
        if task.status in TERMINAL:
            return
        self._tasks[task.task_id] = Known(task, at)
        if len(self._tasks) > self._size:
            self._tasks.popitem(last=False)

    def forget(self, task_id: UUID) -> None:
        """The task is not as it was known."""
        self._tasks.pop(task_id, None)
