"""Tasks as this process last knew them, so that a state that nobody changed since is not read and parsed again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from control.task import TERMINAL, Task

REMEMBERED = 4096
"""Tasks under way, at some 10 kB each."""
DOUBTS = 100
"""Questions that are not answered after a mistake: where several processes work on the same tasks, loading is cheaper
than being wrong every other time."""


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
        self._doubts = 0

    def find(self, task_id: UUID) -> Known | None:
        """The task as it was known last; another process may have changed it since."""
        if self._doubts:
            self._doubts -= 1
            return None
        return self._tasks.get(task_id)

    def keep(self, task: Task, at: datetime) -> None:
        """Remember what is stored now; a task that has ended is hardly asked for again."""
        self._tasks.pop(task.task_id, None)
        if task.status in TERMINAL:
            return
        self._tasks[task.task_id] = Known(task, at)
        if len(self._tasks) > self._size:
            self._tasks.popitem(last=False)

    def mistaken(self, task_id: UUID) -> None:
        """The task is not as it was known: somebody else works on it, and on others too."""
        if self._tasks.pop(task_id, None) is not None:
            self._doubts = DOUBTS
