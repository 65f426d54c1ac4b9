"""What a process remembers of the tasks that it works on."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from control.recent import DOUBTS, Known, RecentTasks
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


def test_after_a_mistake_nothing_is_found_for_a_while() -> None:
    recent = RecentTasks()
    wrong, other = new_task(task_id=uuid4()), new_task(task_id=uuid4())
    recent.keep(wrong, NOW)
    recent.keep(other, NOW)
    recent.mistaken(wrong.task_id)
    found = [recent.find(other.task_id) is not None for _ in range(DOUBTS + 1)]
    assert found == [*[False] * DOUBTS, True]


def test_a_task_that_was_not_remembered_is_no_mistake() -> None:
    recent = RecentTasks()
    task = new_task()
    recent.mistaken(uuid4())
    recent.keep(task, NOW)
    assert recent.find(task.task_id) == Known(task, NOW)
