"""Tasks as this process last knew them, so that a state that nobody changed since is not read and parsed again."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from control.task import TERMINAL, Task

REMEMBERED = 4096
"""Tasks under way, at some 10 kB each."""
UNKNOWN = 0
"""A version that no task has."""


class RecentTasks:
    """The newest ones used. A version names one state, so what is remembered is true where the version still is."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._tasks: OrderedDict[UUID, Task] = OrderedDict()

    def find(self, task_id: UUID) -> Task | None:
        """The task as it was known last; another process may have changed it since."""
        return self._tasks.get(task_id)

    def keep(self, task: Task) -> None:
        """Remember what is stored now; a task that has ended is hardly asked for again."""
        self._tasks.pop(task.task_id, None)
        if task.status in TERMINAL:
            return
        self._tasks[task.task_id] = task
        if len(self._tasks) > self._size:
            self._tasks.popitem(last=False)
