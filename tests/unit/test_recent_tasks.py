"""What a process remembers of the tasks that it works on."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from control.recent import Known, RecentTasks
from tests.build import cancel, new_task, started, through

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_task_is_found_as_it_was_kept_last() -> None:
    recent = RecentTasks()
    task = started()
    recent.keep(new_task(), NOW)
    recent.keep(task, NOW)
    assert recent.find(task.task_id) == Known(task, NOW)


def test_a_task_that_has_ended_is_forgotten() -> None:
    recent = RecentTasks()
    task = started()
    recent.keep(task, NOW)
    recent.keep(through(task, cancel()), NOW)
    assert recent.find(task.task_id) is None


def test_the_task_that_was_kept_longest_ago_makes_room() -> None:
    recent = RecentTasks(size=2)
    first, second, third = (new_task(task_id=uuid4()) for _ in range(3))
    for task in (first, second, first, third):
        recent.keep(task, NOW)
    assert [recent.find(task.task_id) is not None for task in (first, second, third)] == [True, False, True]


def test_a_task_that_was_known_wrongly_is_forgotten() -> None:
    recent = RecentTasks()
    task = new_task()
    recent.keep(task, NOW)
    recent.forget(task.task_id)
    assert recent.find(task.task_id) is None
