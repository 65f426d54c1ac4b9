"""The board of `treadle watch`, built from the event stream of a task."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from cli.tasks.board import HISTORY, PROGRESS, Board
from cli.tasks.board_view import render
from contracts.progress import PhaseProgress
from contracts.tasks import AttemptKey, Phase, TaskStatus

TASK = UUID("6f1d7a52-94b8-5d0c-9c1e-7b1c2f0a4e11")
SCORE = {"metric": "exact_match", "value": 0.5, "low": 0.4, "high": 0.6, "scored": 300}


def history(kind: str, status: str, iteration: int = 1, **event: Any) -> dict[str, Any]:
    key = {"task_id": str(TASK), "iteration": iteration, "phase": "evaluate", "attempt": 1}
    return {
        "id": 1,
        "taskId": str(TASK),
        "version": 1,
        "kind": kind,
        "outcome": "applied",
        "status": status,
        "actor": "control",
        "reason": None,
        "event": {"key": key, **event},
        "at": "2026-01-01T00:00:00Z",
    }


def progress(phase: Phase, iteration: int, done: int, total: int) -> dict[str, Any]:
    key = AttemptKey(task_id=TASK, iteration=iteration, phase=phase, attempt=1)
    step = PhaseProgress(key=key, worker_id="w", sequence=done, stage="training", done=done, total=total)
    return step.model_dump(mode="json")


@pytest.fixture
def board() -> Board:
    return Board(name="bank answers", max_iterations=5)


def fold(board: Board, *updates: tuple[str, dict[str, Any]]) -> list[str]:
    return [line for kind, data in updates for line in board.apply(kind, data)]


ONE_ITERATION = (
    (HISTORY, history("start_task", "OPTIMIZING")),
    (HISTORY, history("data_optimized", "TRAINING", rows=280, labels=0, actions={"exact_duplicate": 12}, seconds=2.0)),
    (HISTORY, history("model_trained", "EVALUATING", steps=100, seconds=5.0)),
    (HISTORY, history("model_evaluated", "LOOPING", dev=SCORE, test=SCORE, report="evaluations/x", seconds=1.0)),
)
NEXT_ITERATION = (HISTORY, {**history("next_iteration", "OPTIMIZING"), "event": {"iteration": 1}})


def test_the_events_of_an_iteration_become_one_scored_iteration(board: Board) -> None:
    fold(board, *ONE_ITERATION)

    assert [(each.iteration, each.rows, each.dev.value) for each in board.iterations] == [(1, 280, 0.5)]


def test_an_iteration_is_printed_as_plain_lines(board: Board) -> None:
    assert fold(board, *ONE_ITERATION) == [
        "iteration 1 · optimize …",
        "iteration 1 · optimize done in 2.0 s: 280 rows",
        "iteration 1 · train …",
        "iteration 1 · train done in 5.0 s: 100 steps",
        "iteration 1 · evaluate …",
        "iteration 1 · evaluate done in 1.0 s: dev 0.500, test 0.500",
    ]


NOTICES = [
    {"rule": "read_as", "rows": 0, "text": "read as CSV", "places": []},
    {"rule": "unreadable", "rows": 12, "text": "a line is not JSON", "places": ["train/a.jsonl:7", "train/a.jsonl:9"]},
]


def test_a_completed_phase_prints_a_line_for_each_rule_that_it_applied_to_rows(board: Board) -> None:
    event = history("data_optimized", "TRAINING", rows=280, labels=0, seconds=2.0, notices=NOTICES)
    assert fold(board, ONE_ITERATION[0], (HISTORY, event)) == [
        "iteration 1 · optimize …",
        "iteration 1 · optimize done in 2.0 s: 280 rows",
        "iteration 1 · optimize · unreadable, 12 rows: a line is not JSON (train/a.jsonl:7, …)",
        "iteration 1 · train …",
    ]


def rendered(board: Board, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render(board))
    return capture.get()


def test_the_board_shows_the_notices_of_the_iteration_until_the_next_one(board: Board) -> None:
    fold(board, ONE_ITERATION[0])
    fold(board, (HISTORY, history("data_optimized", "TRAINING", rows=280, seconds=2.0, notices=NOTICES)))
    assert "unreadable, 12 rows: a line is not JSON" in rendered(board)
    fold(board, *ONE_ITERATION[2:], NEXT_ITERATION)
    assert "unreadable" not in rendered(board)


def test_the_board_shows_few_notices_and_says_where_the_others_are(board: Board) -> None:
    many = [{**NOTICES[1], "rule": f"rule_{number}"} for number in range(9)]
    fold(board, ONE_ITERATION[0])
    fold(board, (HISTORY, history("data_optimized", "TRAINING", rows=280, seconds=2.0, notices=many)))
    lines = [line for line in rendered(board).splitlines() if "rule" in line or "treadle show" in line]
    assert len(lines) == 5
    assert lines[-1].startswith("5 more: see `treadle show`")


def test_progress_moves_the_bar_of_its_phase(board: Board) -> None:
    fold(board, *ONE_ITERATION[:2], (PROGRESS, progress(Phase.TRAIN, 1, 30, 60)))

    assert board.bars[Phase.TRAIN].fraction == 0.5


def test_progress_of_an_earlier_iteration_is_not_shown(board: Board) -> None:
    fold(board, *ONE_ITERATION, NEXT_ITERATION)
    fold(board, (PROGRESS, progress(Phase.EVALUATE, 1, 30, 60)))

    assert Phase.EVALUATE not in board.bars


def test_a_resumed_phase_is_of_the_same_iteration(board: Board) -> None:
    fold(board, *ONE_ITERATION[:2], (HISTORY, history("pause_task", "SUSPENDED")))
    fold(board, (HISTORY, history("resume_task", "TRAINING")))

    assert board.iteration == 1
    assert board.bars[Phase.OPTIMIZE].fraction == 1.0


def test_the_next_iteration_has_its_own_number_and_bars(board: Board) -> None:
    fold(board, *ONE_ITERATION, NEXT_ITERATION)

    assert board.iteration == 2
    assert list(board.bars) == [Phase.OPTIMIZE]


def test_late_progress_does_not_reopen_a_phase_that_is_done(board: Board) -> None:
    fold(board, *ONE_ITERATION[:3], (PROGRESS, progress(Phase.TRAIN, 1, 30, 60)))

    assert board.bars[Phase.TRAIN].fraction == 1.0


def test_a_stale_event_changes_nothing(board: Board) -> None:
    stale = {**history("model_trained", "OPTIMIZING", steps=1), "outcome": "stale"}

    assert fold(board, ONE_ITERATION[0], (HISTORY, stale)) == ["iteration 1 · optimize …"]


def test_a_failed_attempt_is_noted_with_its_reason(board: Board) -> None:
    event = history("phase_failed", "OPTIMIZING", failure="bad_input", message="train.csv:3: no text")
    fold(board, ONE_ITERATION[0], (HISTORY, event))

    assert board.notes == ["iteration 1 · attempt 1 failed: bad_input: train.csv:3: no text"]


def test_an_ended_task_ends_the_watch(board: Board) -> None:
    fold(board, *ONE_ITERATION, (HISTORY, history("cancel_task", "CANCELLED")))

    assert board.ended
    assert board.status is TaskStatus.CANCELLED


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_board_fits_its_terminal(board: Board, width: int) -> None:
    fold(board, ONE_ITERATION[0])
    fold(board, (HISTORY, history("data_optimized", "TRAINING", rows=280, seconds=2.0, notices=NOTICES)))
    fold(board, *ONE_ITERATION[2:])

    assert max(len(line) for line in rendered(board, width).splitlines()) <= width
