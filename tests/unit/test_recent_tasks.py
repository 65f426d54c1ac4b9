"""What a process remembers of the tasks that it works on."""

from __future__ import annotations

from uuid import uuid4

from control.store.recent import RecentTasks
from tests.build import cancel, new_task, started, through


def test_a_task_is_found_as_it_was_kept_last() -> None:
    recent = RecentTasks()
    task = started()
    recent.keep(new_task())
    recent.keep(task)
    assert recent.find(task.task_id) is task


def test_a_task_that_has_ended_is_forgotten() -> None:
    recent = RecentTasks()
    task = started()
    recent.keep(task)
    recent.keep(through(task, cancel()))
    assert recent.find(task.task_id) is None


def test_the_task_that_was_kept_longest_ago_makes_room() -> None:
    recent = RecentTasks(size=2)
    first, second, third = (new_task(task_id=uuid4()) for _ in range(3))
    for task in (first, second, first, third):
        recent.keep(task)
    assert [recent.find(task.task_id) for task in (first, second, third)] == [first, None, third]
