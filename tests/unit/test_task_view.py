"""How the terminal shows why a task waits and what happened to its rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cli.tasks.notices import LINE_LENGTH, notice_line
from cli.tasks.view import show_task, waiting_text
from contracts.http import ExecutionView
from contracts.notices import notice
from contracts.tasks import TaskStatus
from contracts.waiting import TaskDetail, WaitingReason, WaitingView
from control.gateway.views import task_detail
from control.machine.commands import next_iteration
from control.machine.machine import advance
from control.store.values import StoredTask, TaskClock
from tests.build import complete, completed, started

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_start_of_the_wait_is_shown_with_its_length() -> None:
    view = WaitingView(reason=WaitingReason.NO_WORKER, sentence="no trainer is there", since=NOW - timedelta(minutes=5))
    local = (NOW - timedelta(minutes=5)).astimezone()
    assert waiting_text(view, NOW).plain == f"no trainer is there\nsince {local:%H:%M:%S} (5m0s)"


def test_the_end_of_the_wait_is_shown_with_the_time_left() -> None:
    view = WaitingView(
        reason=WaitingReason.SCHEDULED, sentence="its start is scheduled", until=NOW + timedelta(hours=2)
    )
    local = (NOW + timedelta(hours=2)).astimezone()
    assert waiting_text(view, NOW).plain == f"its start is scheduled\nuntil {local:%H:%M:%S} (in 2h0m)"


def noted(iterations: int) -> TaskDetail:
    """A task whose optimizer set two lines aside in each iteration, which its number names."""
    task = started()
    for number in range(1, iterations + 1):
        places = [f"train/a.jsonl:{number}", f"train/a.jsonl:{number + 1}"]
        lines = notice("not_json", 9, f"9 lines of iteration {number} are not JSON: remove the commas", places)
        task = complete(advance(task, completed(task, notices=(lines,))).task, 2)
        task = advance(task, next_iteration(task)).task
    return task_detail(StoredTask(task, NOW, NOW), None, TaskClock())


def test_show_says_what_happened_to_the_rows_with_the_reason_and_the_first_places(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_task(noted(1), [])
    words = capsys.readouterr().out.partition("What happened to the rows")[2].split()
    assert " ".join(words) == (
        "iteration phase rows what happened "
        "1 optimize 9 not json: 9 lines of iteration 1 are not JSON: remove the commas "
        "train/a.jsonl:1, train/a.jsonl:2, …"
    )


def test_show_leaves_out_the_notices_between_the_first_and_the_newest_iteration_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_task(noted(3), [])
    shown = capsys.readouterr().out
    assert [number for number in (1, 2, 3) if f"of iteration {number} are" in shown] == [1, 3]
    assert "--json shows those of other iterations too" in shown


def measured(*, done: bool, **clock: float | None) -> TaskDetail:
    detail = task_detail(StoredTask(started(), NOW, NOW), None, TaskClock())
    return detail.model_copy(update={**clock, "status": TaskStatus.COMPLETED if done else detail.status})


@pytest.mark.parametrize(
    ("done", "unreported", "sentence"),
    [
        (True, 0.0, "104.2 s of 121.0 s; overhead 14 %: imports, transfers and waiting"),
        (False, 0.0, "104.2 s of 121.0 s so far; overhead 14 %: imports, transfers and waiting"),
        (
            True,
            12.5,
            "104.2 s of 121.0 s; overhead 14 %: imports, transfers and waiting, "
            "and 12.5 s of attempts that ended without a report",
        ),
    ],
)
def test_show_says_how_much_of_the_time_was_work(
    capsys: pytest.CaptureFixture[str], done: bool, unreported: float, sentence: str
) -> None:
    clock = {"work_seconds": 104.2, "wall_seconds": 121.0, "overhead": 0.1388, "unreported_seconds": unreported}
    show_task(measured(done=done, **clock), [])
    assert f"work {sentence}" in " ".join(capsys.readouterr().out.split())


def test_show_leaves_out_the_work_before_an_attempt_has_reported_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_task(measured(done=False), [])
    assert "overhead" not in capsys.readouterr().out


def test_the_attempts_are_shown_with_their_work_and_fit_100_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    attempt = ExecutionView(
        task_id=UUID(int=1),
        iteration=1,
        phase="optimization",
        attempt=1,
        status="completed",
        worker_id="optimizer-a-host-4711",
        input_dataset_id=None,
        output_dataset_id=None,
        model_path=None,
        evaluation_path=None,
        score=None,
        message=None,
        created_at=NOW,
        started_at=NOW,
        completed_at=NOW + timedelta(seconds=1234.5),
        work_seconds=1200.25,
    )
    show_task(measured(done=True), [attempt])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["1", "optimization", "1", "completed", "1234.5", "1200.2", "optimizer-a-host-4711"]


def test_a_notice_fits_one_line() -> None:
    line = notice_line(notice("not_json", 1, "a line\nthat " + "goes on " * 50, ["train/a.jsonl:1"]))
    assert line.startswith("not json, 1 row: a line that goes on")
    assert line.endswith("… (train/a.jsonl:1)")
    assert len(line) < LINE_LENGTH + 60
